"""G33: the small scenarios in which the bus keeps its promises and each mutant breaks its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from policies.port import Policy
from policies.transport import Bus, Mesh
from policies.transport.messages import Carried, Carry, Post
from scenarios.checks import transport as checks
from scenarios.defects.g33 import DEFECTS
from scenarios.schema import Network
from sim.cluster import Cluster
from tests.policies.transport.announced import broken

SEEDS = 50
FEW = 5
"""A mutant is found within so many seeds."""
LOSSY = Network(backbone_s=0.01, loss=0.1, duplicate=0.1)
EVERYBODY_NEAR = {"n0": ("n1", "n2"), "n1": ("n0", "n2"), "n2": ("n0", "n1")}
Scenario = Callable[[type[Bus], int], dict[str, str]]


class Stubborn(Policy):
    """A transport that answers False."""

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Carry):
            self.port.tell(sender, Carried(message.key, False, "no radio"))


def refused(kind: type[Bus], seed: int) -> dict[str, str]:
    """Two nodes, a transport that answers False, a letter a second: it rests, and nothing is taken for delivered."""
    cluster = Cluster(lambda: {"bus": kind(transports=("radio",)), "radio": Stubborn()}, n=2, seed=seed, network=LOSSY)
    for number in range(20):
        cluster.request("n0", "client", str(number), Post("n1", b"x"), "bus")
        cluster.run(1)
    return broken(cluster, *checks.bus("bus", 5, 60.0))


def no_internet(kind: type[Bus], seed: int) -> dict[str, str]:
    """Three nodes near one another, no internet, ten letters: each arrives in a minute, for the mesh carries them."""

    def make() -> dict[str, Policy]:
        return {"bus": kind(), "delivery": Stubborn(), "mesh": Mesh(EVERYBODY_NEAR, consumer="bus")}

    cluster = Cluster(make, n=3, seed=seed, network=LOSSY)
    for number in range(10):
        cluster.request("n0", "client", str(number), Post("n1", b"x"), "bus")
    cluster.run(59)
    return broken(cluster, *checks.bus("bus", 5, 60.0), checks.everything_arrives("bus"))


SCENARIOS: list[tuple[str, Scenario, str, str]] = [
    ("g33_false", refused, "an_open_breaker_rests", "which has failed"),
    ("g33_false", refused, "acknowledged_is_delivered_in_the_end", "for delivered, which it never is"),
    ("g33_one_breaker", no_internet, "everything_arrives", "on n0 and has not arrived"),
]


@pytest.mark.parametrize("scenario", [refused, no_internet])
def test_the_bus_keeps_its_promises(scenario: Scenario) -> None:
    """Over 50 seeds none is broken once."""
    assert [why for seed in range(SEEDS) if (why := scenario(Bus, seed))] == []


@pytest.mark.parametrize(("mutant", "scenario", "check", "words"), SCENARIOS)
def test_a_mutant_breaks_its_promise(mutant: str, scenario: Scenario, check: str, words: str) -> None:
    """Within a few seeds it is broken, and the first event is named."""
    found = [why for seed in range(FEW) if (why := scenario(DEFECTS[mutant][0], seed).get(check))]

    assert found
    assert words in found[0]
