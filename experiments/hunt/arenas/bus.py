"""Nodes whose bus has two transports; one day the internet goes, for a while or for good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from experiments.hunt.arena import CORRECT, MessageArena, Play
from experiments.hunt.arenas.mesh import TIMES as MESH_TIMES
from experiments.hunt.arenas.offline import Offline
from policies.config import BusConfig, DeliveryConfig
from policies.port import Policy
from policies.rng import Rng
from policies.transport import Bus, Mesh
from policies.transport.messages import Post
from policies.wire import encode
from scenarios import faults as f
from scenarios.checks import Check
from scenarios.checks import transport as checks
from scenarios.defects.g33 import DEFECTS
from scenarios.trial import Trial

FASTER = 20
"""The village's bus and its transports, every time a twentieth, as in the mesh's arena; every ratio stays."""
LONG, LONG_RANGE = BusConfig(), DeliveryConfig()
TIMES = BusConfig(open_s=LONG.open_s / FASTER, patience_s=LONG.patience_s / FASTER, ttl_s=LONG.ttl_s / FASTER)
LONG_RANGE_TIMES = DeliveryConfig(
    backoff_first_s=LONG_RANGE.backoff_first_s / FASTER, backoff_max_s=LONG_RANGE.backoff_max_s / FASTER,
    ttl_s=LONG_RANGE.ttl_s / FASTER,
)  # fmt: skip
BURST = 8
"""Letters that a client posts at once: more than a breaker's failures."""


def away_s(trial: Trial) -> tuple[float, float]:
    """Return when the internet goes and when it comes back: in half of the trials within the storm, else never.

    Radios are enough for every letter, so that it stays away is none of the faults that healing ends.
    """
    rng = Rng(trial.seed, trial.arena, "internet", 0)
    start_s = rng.uniform(0.0, trial.storm_s)
    return start_s, rng.uniform(start_s, trial.storm_s) if rng.random() < 0.5 else float("inf")


class BusArena(MessageArena):
    """Bursts of letters from one node to another, all in reach of one another's radios."""

    name = "bus"
    what = "a message bus with a breaker for each transport and destination, while the internet comes and goes"
    defects: ClassVar[Mapping[str, str]] = {name: what for name, (_, what) in DEFECTS.items()}
    expects: ClassVar[Mapping[str, str]] = {
        "g33_false": "acknowledged_is_delivered_in_the_end", "g33_one_breaker": "an_open_breaker_rests",
    }  # fmt: skip
    canary = "g33_false"
    shape = Trial(arena="bus", nodes=4, requests=12, storm_s=6.0, calm_s=24.0)
    fewest = 2
    # No rot: a letter's one copy is on its origin's disk.
    kinds = (f.Crash, f.Pause, f.Slow, f.Clock, f.Cascade, *f.NETWORKS, f.SlowDisk, f.FailingDisk, f.FullDisk)

    def mount(self, trial: Trial, name: str) -> Mapping[str, Policy]:
        """Mount a bus over both transports."""
        kind = Bus if trial.policy == CORRECT else DEFECTS[trial.policy][0]
        radios = {one: [other for other in trial.names if other != one] for one in trial.names}
        return {
            "bus": kind(TIMES), "delivery": Offline(LONG_RANGE_TIMES, "bus", away_s(trial)),
            "mesh": Mesh(radios, MESH_TIMES, "bus"),
        }  # fmt: skip

    def promises(self, trial: Trial) -> tuple[Check, ...]:
        """Return the promises of the bus, and what is rare."""
        return (
            *checks.bus("bus", TIMES.failures, TIMES.open_s), checks.everything_arrives("bus"),
            *checks.rare_in_bus("bus"),
        )  # fmt: skip

    def ask(self, play: Play, number: int) -> None:
        """Post a burst from one node to another: each pair has its turn."""
        names = play.trial.names
        origin = number % len(names)
        to = names[(origin + 1 + number // len(names) % (len(names) - 1)) % len(names)]
        for one in range(BURST):
            body = b"%04d.%d" % (number, one)
            play.request(names[origin], "bus", "client", f"{number}.{one}", encode(Post(to, body)))
