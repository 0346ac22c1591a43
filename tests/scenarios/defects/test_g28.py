"""G28: the small scenario in which delivery keeps its promises and each mutant breaks its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from policies.transport import Delivery
from policies.transport.messages import Post
from scenarios.defects import promises
from scenarios.defects.g28 import ForgetsItsQueue, IgnoresBackoff, TakesSilenceForSuccess
from scenarios.schema import Network
from sim.cluster import Cluster

SEEDS = 50
FEW = 5
"""A mutant is found within so many seeds."""


def run(kind: Callable[[], Delivery], seed: int) -> promises.Events:
    """Two nodes, a lossy link, ten letters; the origin restarts among them; then a minute passes."""
    cluster = Cluster(kind, n=2, seed=seed, network=Network(backbone_s=0.02, loss=0.2, duplicate=0.1))
    for number in range(10):
        cluster.request("n0", "client", str(number), Post("n1", str(number).encode()))
        cluster.run(0.1)
    cluster.crash("n0")
    cluster.restart("n0")
    cluster.run(70)
    return cluster.decisions


PROMISES: dict[str, Callable[[promises.Events], str]] = {
    "lost": promises.nothing_accepted_is_lost_at_the_end,
    "twice": promises.nothing_is_delivered_twice,
    "acknowledged": promises.acknowledged_is_delivered,
    "backoff": lambda events: promises.tries_back_off(events, 1.0, 300.0, 5),
}


def test_delivery_keeps_every_promise() -> None:
    """Over 50 seeds no promise is broken."""
    for seed in range(SEEDS):
        events = run(Delivery, seed)
        assert {name: line for name, ask in PROMISES.items() if (line := ask(events))} == {}, seed


@pytest.mark.parametrize(
    ("mutant", "promise", "words"),
    [
        (ForgetsItsQueue, "lost", "which neither arrived nor was given up"),
        (IgnoresBackoff, "backoff", "again after 0.1"),
        (TakesSilenceForSuccess, "acknowledged", "for delivered, which it is not"),
    ],
)
def test_a_mutant_breaks_its_promise(mutant: type[Delivery], promise: str, words: str) -> None:
    """Within a few seeds the promise is broken, and the first event is named."""
    found = [line for seed in range(FEW) if (line := PROMISES[promise](run(mutant, seed)))]

    assert found
    assert words in found[0]
