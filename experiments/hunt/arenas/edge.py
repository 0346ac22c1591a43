"""Two members that watch, and devices that are lent to them, lease by lease, and hold what is deployed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from experiments.hunt.arena import MessageArena, Play
from policies import port as p
from policies.config import EdgeConfig
from policies.edge import Deploy, EdgeAgent, EdgeWatch, Place, Recall
from policies.jobs import Done, LoadJob
from policies.local import Lend
from policies.port import NS_PER_S, Policy
from policies.readings import Row
from policies.wire import encode
from scenarios import faults as f
from scenarios.checks import Check
from scenarios.checks import edge as promises
from scenarios.defects.g21 import DEFECTS
from scenarios.trial import Trial
from sim.world import Jobs, Node

MEMBERS = 2
SHORTER = 30.0
"""By this much the documented times are divided; their ratios stay, and a message is still quick beside each."""
_DOCUMENTED = EdgeConfig()
EDGE = EdgeConfig(
    heartbeat_s=_DOCUMENTED.heartbeat_s / SHORTER, offline_after_s=_DOCUMENTED.offline_after_s / SHORTER,
    drain_s=_DOCUMENTED.drain_s / SHORTER, retry_s=_DOCUMENTED.retry_s / SHORTER,
)  # fmt: skip
MEMORY_BYTES = 16 << 30  # of a device
LOAD_S = 0.2  # a deployment is brought in this time (assumption: small beside a lease)
LENT = Lend(True, 0.5, 0.5, "harvesting")
FINE = Row(
    has_battery=True, soc=0.9, plugged=True, die_c=30.0, skin_c=28.0, battery_c=28.0, on_wifi=True, metered=False,
    bandwidth_bytes_per_s=1e7, screen_on=False, idle_s=3600.0, local_minute=120.0, user_load=0.0,
    memory_free_bytes=float(MEMORY_BYTES),
)  # fmt: skip
"""A cool device on its charger: what harvest and heat make of devices is the fleet's arena."""


class Lender(Policy):
    """Stands where harvest is, and lends the device when it is told to."""

    requests = (Lend,)

    def on_request(self, client: str, op_id: str, operation: Lend) -> None:
        """Tell the edge agent."""
        self.port.tell("edge", operation)


class Desk:
    """Brings whatever is deployed (`sim.world.Jobs`)."""

    def __init__(self, play: Play) -> None:
        self.world = play.world
        self.open: set[tuple[str, int, int]] = set()

    def submit(self, node: Node, path: str, job_id: int, payload: bytes) -> None:
        """Take a job, which is done after `LOAD_S`."""
        key = (node.name, node.epoch, job_id)
        self.open.add(key)
        self.world.engine.call_at(self.world.engine.now + int(LOAD_S * NS_PER_S), self._done, (node, path, key))

    def cancel(self, node: Node, job_id: int) -> None:
        """Forget a job."""
        self.open.discard((node.name, node.epoch, job_id))

    def node_down(self, node: Node) -> None:
        """Forget a node's jobs."""
        self.open = {key for key in self.open if key[0] != node.name}

    def _done(self, argument: tuple[Node, str, tuple[str, int, int]]) -> None:
        node, path, key = argument
        if key in self.open:
            self.open.discard(key)
            self.world.give(node, (p.JOB, path, key[2], encode(Done("", 0, 0))))


class EdgeArena(MessageArena):
    """Two members and four devices; every second two deployments, now and then a recall."""

    name = "edge"
    what = "devices with leases and deployments, under crashes, partitions and bad links"
    defects: ClassVar[Mapping[str, str]] = {name: (kind.__doc__ or "").split("\n")[0] for name, kind in DEFECTS.items()}
    expects: ClassVar[Mapping[str, str]] = {"g21_alive": "believed_only_while_heard", "g21_room": "held_fits"}
    canary = "g21_room"
    shape = Trial(arena="edge", nodes=6, requests=80, storm_s=40.0, calm_s=20.0)
    fewest = MEMBERS + 1
    # No delay and no reordering by seconds: a heartbeat that is late is a heartbeat, and keeps a device alive.
    kinds = (f.Crash, f.Cascade, f.Partition, f.Cut, f.Loss, f.Duplicate)

    def committee(self, trial: Trial) -> int:
        """Return that nobody leads and no disk must be spared: a watch is soft state."""
        return 0

    def mount(self, trial: Trial, name: str) -> Mapping[str, Policy]:
        """Mount a watch on a member, an agent under a lender on a device."""
        kind: Any = DEFECTS.get(trial.policy)
        members = trial.names[:MEMBERS]
        if name in members:
            return {"edge_watch": (kind if kind and issubclass(kind, EdgeWatch) else EdgeWatch)(EDGE)}
        agent = kind if kind and issubclass(kind, EdgeAgent) else EdgeAgent
        return {"harvest": Lender(), "edge": agent(EDGE, members, float(MEMORY_BYTES), 60 * NS_PER_S)}

    def promises(self, trial: Trial) -> tuple[Check, ...]:
        """Return the promises of the edge."""
        devices = trial.names[MEMBERS:]
        return (
            promises.BelievedOnlyWhileHeard(EDGE), promises.HeldFits(), promises.DevicesComeBack(devices),
            *promises.rare(),
        )  # fmt: skip

    def jobs(self, play: Play) -> Jobs:
        """Return who brings deployments."""
        return Desk(play)

    def started(self, play: Play, node: Node) -> None:
        """Read and lend a device that has just started."""
        if node.number >= MEMBERS:
            play.world.give(node, (p.READINGS, "edge", encode(FINE)))
            play.request(node.name, "harvest", "", f"lend-{node.incarnation}", encode(LENT))

    def ask(self, play: Play, number: int) -> None:
        """Deploy something on a device where it is believed to be; every fourth request recalls an earlier one."""
        devices = play.trial.names[MEMBERS:]
        recalls = number % 4 == 3
        about = number - 3 if recalls else number
        device = devices[about % len(devices)]
        members = play.trial.names[:MEMBERS]
        found = [m for m in members if device in getattr(play.policy(m, "edge_watch"), "devices", ())]
        order = Deploy(f"d{about}", 5, 300 << 20, 200, 1, LoadJob("m", 0, 4))
        operation = Recall(order.deployment) if recalls else Place(device, order)
        play.request((found or members)[0], "edge_watch", "client", str(number), encode(operation))
