"""Faults: each kind happens when and to whom it should, is recorded, heals, and costs no accepted request."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from scenarios.faults import DOWN_SIGMA, Churn, Crash, Loss, Partition
from scenarios.record import Record
from scenarios.schema import Network, build
from sim.faults import Faults
from sim.network import Links, MessageNetwork
from sim.village import simulate
from sim.world import World

COMMITTEE = ["c0", "c1", "c2"]


class Mute:
    """Stands in for a Cell and for compute: does nothing, and remembers cuts."""

    crypto_ops = 0

    def __init__(self) -> None:
        self.cuts: list[set[str]] = []

    def step(self, now: int, wall: int, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return ()


def island(world: World) -> set[str]:
    """Return who does not hear w3."""
    listener = world.by_name["w3"].number
    return {node.name for node in world.nodes if world.network.stopped(listener, node.number)}


def play(
    faults: Iterable[Any], *, workers: int = 4, seed: int = 1, duration_s: float = 1000.0, probe_s: Iterable[float] = ()
) -> tuple[Faults, list[dict[str, Any]]]:
    """Carry faults out on nodes that do nothing; return the faults and what the world looked like at some times."""
    names = [*COMMITTEE, *(f"w{k}" for k in range(workers))]
    world = World(MessageNetwork(1, Links.alike(len(names), 0.001, 1e9), Network()))
    for name in names:
        world.start(world.add(name, Mute))
    cuts: list[set[str]] = []
    carried = Faults(
        world, COMMITTEE, names[3:], seed=seed, duration_s=duration_s, leader=lambda: "c1",
        busy=lambda: {"w2", "c0", "w1"}, restart=world.start, parted=lambda: cuts.append(island(world)),
        groups={"two": ["w0", "w1"], "all": names[3:]},
    )  # fmt: skip
    carried.schedule(tuple(faults))
    seen: list[dict[str, Any]] = []
    for at_s in probe_s:
        world.run(at_s)
        network = world.network
        down = {node.name for node in world.nodes if not node.up}
        loss = sum(one.loss for one in network.disturbances)
        seen.append({"down": down, "island": island(world), "loss": loss})
    world.run(duration_s + 1e6)
    seen.append({"cuts": cuts, "down": {node.name for node in world.nodes if not node.up}})
    return carried, seen


@pytest.mark.parametrize(
    ("who", "name"), [("leader", "c1"), ("worker", "w1"), ("committee:2", "c2"), ("w3", "w3"), ("c0", "c0")]
)
def test_a_crash_takes_down_whom_it_names_and_ends(who: str, name: str) -> None:
    """The node is down from its time for ``down_s``, both ends are recorded, and it is up again."""
    carried, (before, during, after, _) = play([Crash(at_s=5.0, node=who, down_s=10.0)], probe_s=(4.9, 14.9, 15.1))

    assert (before["down"], during["down"], after["down"]) == (set(), {name}, set())
    assert [row[:5] for row in carried.rows] == [
        (5.0, "crash", name, "start", "model"), (15.0, "crash", name, "end", "model"),
    ]  # fmt: skip
    assert json.loads(carried.rows[0][5]) == {"down_s": 10.0, "writes": "lost", "disk": "kept"}
    assert carried.crashes == 1


def test_a_crash_without_a_victim_is_recorded_as_skipped_and_one_for_ever_stays() -> None:
    """A node that is down cannot crash again; a negative ``down_s`` has no end."""
    carried, seen = play([Crash(at_s=1.0, node="w0", down_s=-1, writes="torn"), Crash(at_s=2.0, node="w0")])

    assert [(row[0], row[3]) for row in carried.rows] == [(1.0, "start"), (2.0, "skipped")]
    assert json.loads(carried.rows[0][5])["writes"] == "torn"
    assert seen[-1]["down"] == {"w0"}
    assert carried.crashes == 1


def test_a_random_victim_is_a_worker_and_does_not_depend_on_earlier_crashes() -> None:
    """Over many crashes every worker is struck; the victim at a time is the same whatever came before."""
    struck = [Crash(at_s=float(10 * k), node="random", down_s=1.0) for k in range(60)]
    alone, _ = play(struck[30:])
    all_of_them, _ = play([Crash(at_s=3.0, node="c0"), *struck])
    victims = {row[0]: row[2] for row in all_of_them.rows if row[3] == "start" and row[0] != 3.0}

    assert set(victims.values()) == {"w0", "w1", "w2", "w3"}
    assert {row[0]: row[2] for row in alone.rows if row[3] == "start"}.items() <= victims.items()


@pytest.mark.parametrize("one_way", [False, True])
def test_a_partition_cuts_its_group_and_heals(one_way: bool) -> None:
    """The group is an island for its time, sessions across it are cut, and both ends are recorded."""
    fault = Partition(at_s=5.0, group=(0, 2), for_s=20.0, one_way=one_way)
    carried, (during, after, end) = play([fault], probe_s=(24.9, 25.1))

    assert (during["island"], after["island"]) == ({"c0", "c2"}, set())
    assert end["cuts"] == [{"c0", "c2"}]
    assert [row[:4] for row in carried.rows] == [
        (5.0, "partition", "c0,c2", "start"), (25.0, "partition", "c0,c2", "end"),
    ]  # fmt: skip
    assert json.loads(carried.rows[0][5])["one_way"] is one_way


def test_losses_that_overlap_add_up_and_heal() -> None:
    """Two bad spells at once lose both shares; after the last nothing is left of them."""
    spells = [Loss(at_s=5.0, share=0.1, for_s=20.0), Loss(at_s=15.0, share=0.2, for_s=20.0)]
    carried, seen = play(spells, probe_s=(10, 20, 30, 40))

    assert [probe["loss"] for probe in seen[:-1]] == pytest.approx([0.1, 0.3, 0.2, 0.0], abs=1e-12)
    assert [(row[0], row[3]) for row in carried.rows] == [(5, "start"), (15, "start"), (25, "end"), (35, "end")]


def test_churn_is_exponential_with_log_normal_downtimes() -> None:
    """Crashes of workers come at the mean, downtimes have the median and the spread, and all heal."""
    day = {"workers": 60, "duration_s": 100 * 3600.0}
    carried, seen = play([Churn(mean_hours=5.0, down_median_s=60.0)], **day)
    starts = [row for row in carried.rows if row[3] == "start"]
    down_s = np.array([json.loads(row[5])["down_s"] for row in starts])

    assert len(starts) == pytest.approx(60 * 20, rel=0.1)
    assert stats.kstest(np.log(down_s / 60.0) / DOWN_SIGMA, "norm").pvalue > 0.001
    assert {row[2] for row in starts} == {f"w{k}" for k in range(60)}
    assert len([row for row in carried.rows if row[3] == "end"]) == len(starts)
    assert seen[-1]["down"] == set()
    fewer, _ = play([Churn(mean_hours=5.0, down_median_s=60.0)], **{**day, "workers": 3})
    assert fewer.rows == [row for row in carried.rows if row[2] in ("w0", "w1", "w2")]


# In the village: what a fault costs.

ALWAYS = {
    "min_battery": 0.0, "optimal_battery": 0.0, "require_charging": False, "max_cpu": 1.0, "max_memory": 0.5,
    "wifi_only": False, "min_bandwidth_mbps": 0.0, "require_screen_off": False, "idle_min": 0.0, "hour_start": 0.0,
    "hour_end": 24.0, "max_session_h": 1000.0, "cooldown_min": 0.0, "max_bandwidth_mbps": 1000.0,
}  # fmt: skip


def desks(*faults: dict[str, Any], seed: int = 1) -> Record:
    """Run ten minutes of seven desks, five of them the committee, under steady requests."""
    none = dict.fromkeys(("phones", "tablets", "laptops", "gpu_boxes"), 0)
    return simulate(build({
        "name": "t", "seed": seed, "duration_s": 600.0, "model": "llama-3.2-1b", "network": {"home": "fibre"},
        "fleet": {**none, "desktops": 7, "dedicated": 7, "committee": 5}, "policy": {"harvest": ALWAYS},
        "workload": {"kind": "synthetic", "requests": 200, "prompt_tokens": 100, "new_tokens": 100, "flat": True},
        "faults": list(faults),
    }))  # fmt: skip


def kept(record: Record) -> bool:
    """Whether every check holds, every request ended, and none was lost to its client."""
    held = all(verdict is True for verdict in record.manifest["checks"].values())
    return held and record.summary["requests_total"] == 200 and record.summary["requests_lost"] == 0


def leaders(record: Record) -> list[tuple[float, str]]:
    """Return (time, node) of every election."""
    return [(row[0], row[1]) for row in record.tables["decisions"] if row[3] == "leader"]


@pytest.mark.parametrize("writes", ["lost", "torn", "reordered", "corrupted"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_the_leaders_crash_another_leads_soon_and_nothing_is_lost(seed: int, writes: str) -> None:
    """Within three election time-outs (10 s) another member leads; every request has an outcome, the checks hold."""
    record = desks({"kind": "crash", "at_s": 200, "node": "leader", "down_s": 60, "writes": writes}, seed=seed)

    assert kept(record)
    crashed = record.tables["faults"][0][2]
    assert crashed == leaders(record)[0][1]
    again = [(at_s, node) for at_s, node in leaders(record) if at_s > 200]
    assert again[0][0] < 230
    assert again[0][1] != crashed
    assert [row[3] for row in record.tables["faults"]] == ["start", "end"]


@pytest.mark.parametrize("one_way", [False, True])
def test_a_partition_of_the_leader_is_survived(one_way: bool) -> None:
    """The majority goes on without its leader; after healing one log remains, and every request ends."""
    fault = {"kind": "partition", "at_s": 200, "group": [0, 3], "for_s": 90, "one_way": one_way}
    record = desks(fault)

    assert leaders(record)[0][1] == "desk-0"
    assert kept(record)
    if not one_way:
        assert any(200 < at_s < 230 and node not in ("desk-0", "desk-3") for at_s, node in leaders(record))
    assert record.summary["messages_lost"] > desks().summary["messages_lost"]


def test_a_busy_workers_crash_costs_a_retry_at_most() -> None:
    """A worker that dies in the middle is routed around; its requests are answered, and rightly."""
    crashes = [{"kind": "crash", "at_s": at_s, "node": "desk-5", "down_s": 30} for at_s in (150, 250, 350)]
    record = desks(*crashes, {"kind": "loss", "at_s": 300, "share": 0.2, "for_s": 120})

    assert kept(record)
    assert record.summary["wrong_answers"] == 0
    assert record.summary["requests_answered"] + record.summary["requests_late"] == 200
    assert record.summary["crashes"] == 3
    # It lends again after its last restart, though its agent had forgotten the fleet's decision.
    assert any(row[1] == "desk-5" and row[3] == "harvest" and row[0] > 380 for row in record.tables["decisions"])
