"""G28: the small scenario in which delivery keeps its promises and each mutant breaks its own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from policies.transport import Delivery
from policies.transport.messages import Post
from scenarios.checks import transport as checks
from scenarios.defects.g28 import DEFECTS
from scenarios.schema import Network
from sim.cluster import Cluster
from tests.policies.transport.announced import broken

SEEDS = 50
FEW = 5
"""A mutant is found within so many seeds."""


def run(kind: Callable[[], Delivery], seed: int) -> dict[str, str]:
    """Two nodes, a lossy link, ten letters; the origin restarts among them; then a minute passes."""
    cluster = Cluster(kind, n=2, seed=seed, network=Network(backbone_s=0.02, loss=0.2, duplicate=0.1))
    for number in range(10):
        cluster.request("n0", "client", str(number), Post("n1", str(number).encode()))
        cluster.run(0.1)
    cluster.crash("n0")
    cluster.restart("n0")
    cluster.run(70)
    return broken(cluster, checks.nothing_accepted_is_lost(""), *checks.delivery("", 1.0, 300.0, 5))


def test_delivery_keeps_every_promise() -> None:
    """Over 50 seeds no promise is broken."""
    assert [why for seed in range(SEEDS) if (why := run(Delivery, seed))] == []


@pytest.mark.parametrize(
    ("mutant", "check", "words"),
    [
        ("g28_codec", "nothing_accepted_is_lost", "neither arrived nor was given up"),
        ("g28_backoff", "tries_back_off", "again after 0.1"),
        ("g28_silence", "acknowledged_is_delivered", "for delivered, which it is not"),
    ],
)
def test_a_mutant_breaks_its_promise(mutant: str, check: str, words: str) -> None:
    """Within a few seeds the promise is broken, and the first event is named."""
    found = [why for seed in range(FEW) if (why := run(DEFECTS[mutant][0], seed).get(check))]

    assert found
    assert words in found[0]
