"""A few nodes that send one another letters over long-range links."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from experiments.hunt.arena import CORRECT, MessageArena, Play
from policies.config import DeliveryConfig
from policies.port import Policy
from policies.transport import Delivery
from policies.transport.messages import Post
from policies.wire import encode
from scenarios import faults as f
from scenarios.checks import Check
from scenarios.checks import transport as checks
from scenarios.defects.g28 import DEFECTS
from scenarios.trial import Trial

FASTER = 10
"""The village's delivery, every time a tenth: five tries and their waits take 3.4 s, and every ratio stays."""
LONG = DeliveryConfig()
TIMES = DeliveryConfig(
    backoff_first_s=LONG.backoff_first_s / FASTER, backoff_max_s=LONG.backoff_max_s / FASTER, ttl_s=LONG.ttl_s / FASTER
)


class DeliveryArena(MessageArena):
    """Every node in turn sends a letter to another, eight a second in all."""

    name = "delivery"
    what = "long-range message delivery on lossy links between nodes that crash and come back"
    defects: ClassVar[Mapping[str, str]] = {name: what for name, (_, what) in DEFECTS.items()}
    expects: ClassVar[Mapping[str, str]] = {
        "g28_codec": "nothing_accepted_is_lost", "g28_backoff": "tries_back_off",
        "g28_silence": "acknowledged_is_delivered",
    }  # fmt: skip
    canary = "g28_backoff"
    shape = Trial(arena="delivery", nodes=4, requests=80, storm_s=6.0, calm_s=8.0)
    fewest = 2
    # No rot: a letter's one copy is on its origin's disk.
    kinds = (f.Crash, f.Pause, f.Slow, f.Clock, f.Cascade, *f.NETWORKS, f.SlowDisk, f.FailingDisk, f.FullDisk)

    def mount(self, trial: Trial, name: str) -> Mapping[str, Policy]:
        """Mount a node's end."""
        kind = Delivery if trial.policy == CORRECT else DEFECTS[trial.policy][0]
        return {"delivery": kind(TIMES)}

    def promises(self, trial: Trial) -> tuple[Check, ...]:
        """Return the promises of delivery, and what is rare."""
        kept = checks.delivery("delivery", TIMES.backoff_first_s, TIMES.backoff_max_s, TIMES.tries)
        return checks.nothing_accepted_is_lost("delivery"), *kept, *checks.rare_in_delivery("delivery", TIMES.tries)

    def ask(self, play: Play, number: int) -> None:
        """Post a letter from one node to another: each pair has its turn."""
        names = play.trial.names
        origin = number % len(names)
        to = names[(origin + 1 + number // len(names) % (len(names) - 1)) % len(names)]
        play.request(names[origin], "delivery", "client", str(number), encode(Post(to, b"%04d" % number)))
