"""G33: the small scenarios in which the bus keeps its promises and each mutant breaks its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from policies.port import Policy
from policies.transport import Bus, Mesh
from policies.transport.messages import Carried, Carry, Post
from scenarios.defects import promises
from scenarios.defects.g33 import SharesOneBreaker, TakesFalseForSuccess
from scenarios.schema import Network
from sim.cluster import Cluster

SEEDS = 50
FEW = 5
"""A mutant is found within so many seeds."""
LOSSY = Network(backbone_s=0.01, loss=0.1, duplicate=0.1)
EVERYBODY_NEAR = {"n0": ("n1", "n2"), "n1": ("n0", "n2"), "n2": ("n0", "n1")}


class Stubborn(Policy):
    """A transport that answers False."""

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Carry):
            self.port.tell(sender, Carried(message.key, False, "no radio"))


def run_refused(kind: type[Bus], seed: int) -> promises.Events:
    """Two nodes, a transport that answers False, a letter a second."""
    cluster = Cluster(lambda: {"bus": kind(transports=("radio",)), "radio": Stubborn()}, n=2, seed=seed, network=LOSSY)
    for number in range(20):
        cluster.request("n0", "client", str(number), Post("n1", b"x"), "bus")
        cluster.run(1)
    return cluster.decisions


def refused(kind: type[Bus], seed: int) -> str:
    """A transport that has failed five times rests."""
    return promises.an_open_breaker_rests(run_refused(kind, seed), 5, 60.0)


def taken_for_delivered(kind: type[Bus], seed: int) -> str:
    """What is acknowledged is delivered."""
    return promises.acknowledged_is_delivered_at_the_end(run_refused(kind, seed), "bus")


def no_internet(kind: type[Bus], seed: int) -> str:
    """Three nodes near one another, no internet, ten letters: each arrives in a minute, for the mesh carries them."""

    def make() -> dict[str, Policy]:
        return {"bus": kind(), "delivery": Stubborn(), "mesh": Mesh(EVERYBODY_NEAR, consumer="bus")}

    cluster = Cluster(make, n=3, seed=seed, network=LOSSY)
    for number in range(10):
        cluster.request("n0", "client", str(number), Post("n1", b"x"), "bus")
    cluster.run(70)
    return promises.delivered_in_time(cluster.decisions, 60.0, 70.0, "bus")


SCENARIOS: list[tuple[type[Bus], Callable[[type[Bus], int], str], str]] = [
    (TakesFalseForSuccess, refused, "which has failed"),
    (TakesFalseForSuccess, taken_for_delivered, "for delivered, which it never is"),
    (SharesOneBreaker, no_internet, "has not arrived 60 s after n0 accepted it"),
]


@pytest.mark.parametrize("scenario", [scenario for _, scenario, _ in SCENARIOS])
def test_the_bus_keeps_its_promise(scenario: Callable[[type[Bus], int], str]) -> None:
    """Over 50 seeds it is not broken once."""
    assert [line for seed in range(SEEDS) if (line := scenario(Bus, seed))] == []


@pytest.mark.parametrize(("mutant", "scenario", "words"), SCENARIOS)
def test_a_mutant_breaks_its_promise(mutant: type[Bus], scenario: Callable[[type[Bus], int], str], words: str) -> None:
    """Within a few seeds it is broken, and the first event is named."""
    found = [line for seed in range(FEW) if (line := scenario(mutant, seed))]

    assert found
    assert words in found[0]
