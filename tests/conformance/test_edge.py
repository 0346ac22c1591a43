"""The edge agent and the watch over both drivers: lent, leased, deployed, taken, cut off, maintained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from experiments.replay import replay
from policies.cell import Cell
from policies.config import EdgeConfig
from policies.edge import Deploy, EdgeAgent, EdgeWatch, Maintain, Place
from policies.jobs import LoadJob
from policies.local import Lend
from policies.port import NS_PER_S, Keys, Policy
from scenarios.journal import Header

Start = Callable[..., Any]
LENT, TAKEN = Lend(True, 0.5, 0.5, "harvesting"), Lend(False, 0.0, 0.0, "user_active")
QUICK = EdgeConfig(heartbeat_s=0.2, offline_after_s=1.5, drain_s=0.3)


class Lender(Policy):
    """Stands where harvest is."""

    requests = (Lend,)

    def on_request(self, client: str, op_id: str, operation: Lend) -> None:
        """Lend the device, or take it back."""
        self.port.tell("edge", operation)


def mounted(name: str) -> Mapping[str, Policy]:
    """n0 is the committee, the others are devices."""
    if name == "n0":
        return {"edge_watch": EdgeWatch(QUICK)}
    return {"harvest": Lender(), "edge": EdgeAgent(QUICK, ("n0",), 16 << 30, NS_PER_S)}


def phases(village: Any, name: str) -> list[str]:
    """Return the states that a device announced, in order."""
    return [value[1] for kind, value in village.decisions(name) if kind == "edge" and value[0] == "phase"]


def presence(village: Any) -> list[tuple[str, bool, str]]:
    """Return what the watch announced."""
    return [tuple(value[1:]) for kind, value in village.decisions("n0") if kind == "edge"]


def test_a_device_lives_the_same_life_in_both_worlds(start: Start) -> None:
    """Connect, online, a deployment that has no executor fails, taken, maintained; the journals replay."""
    village = start(mounted, 2)
    village.request("n1", "lend", LENT, "harvest")
    village.until(lambda: phases(village, "n1")[-1:] == ["online"])
    order = Deploy("a", 5, 0, 50, 1, LoadJob("m", 0, 4))  # the device is never read, so it lends no memory
    village.request("n0", "place", Place("n1", order), "edge_watch")
    village.until(lambda: any(op == "place" and last for op, _, last in village.replies()))
    village.until(lambda: phases(village, "n1")[-1:] == ["online"])
    village.request("n1", "take", TAKEN, "harvest")
    village.until(lambda: phases(village, "n1")[-1:] == ["offline"])
    village.request("n1", "maintain", Maintain(True), "edge")
    village.until(lambda: any(op == "maintain" for op, _, _ in village.replies()))
    village.until(lambda: len(presence(village)) == 2)

    assert phases(village, "n1") == ["connecting", "online", "deploying", "online", "offline", "maintenance"]
    ended, maintained = (value for _, value, last in village.replies() if last)  # "accepted" may come late, or never
    assert ended[:4] == ["ended", "a", "failed", "this node runs no jobs"]
    assert maintained == ["phase", "maintenance", "maintain"]
    assert presence(village) == [("n1", True, ""), ("n1", False, "parted")]

    def factory(header: Header) -> Callable[[Keys], Cell]:
        return lambda keys: Cell(mounted(header.node), header.node, header.peers, seed=header.seed, keys=keys)

    found = replay(village.journals(), factory)
    assert (found.divergences, set(found.steps)) == ((), {"n0", "n1"})


def test_a_device_that_is_cut_off_is_offline_on_both_sides_and_comes_back(start: Start) -> None:
    """The device falls back to connecting, the watch calls it silent; healed, both find each other again."""
    village = start(mounted, 3)
    for name in ("n1", "n2"):
        village.request(name, f"lend {name}", LENT, "harvest")
    village.until(lambda: all(phases(village, name)[-1:] == ["online"] for name in ("n1", "n2")))
    village.partition(["n1"])
    village.until(lambda: ("n1", False, "silent") in presence(village))
    assert phases(village, "n1") == ["connecting", "online", "connecting"]
    village.heal()
    village.until(lambda: presence(village)[-1] == ("n1", True, ""))
    village.until(lambda: phases(village, "n1")[-1:] == ["online"])

    assert phases(village, "n2") == ["connecting", "online"]


def test_maintenance_outlives_a_crash(start: Start) -> None:
    """It was durable before it was confirmed."""
    village = start(mounted, 2)
    village.request("n1", "maintain", Maintain(True), "edge")
    village.until(lambda: len(village.replies()) == 1)
    village.crash("n1")
    village.restart("n1")

    assert village.cell("n1").policy("edge").life.state == "maintenance"
