"""G30: the small scenarios in which the mesh keeps its promises and each mutant breaks its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest

from policies.transport import Mesh
from policies.transport.messages import EVERYONE, Post
from scenarios.checks import transport as checks
from scenarios.defects.g30 import DEFECTS
from scenarios.schema import Network
from sim.cluster import Cluster
from tests.policies.transport.announced import broken

SEEDS = 50
FEW = 5
"""A mutant is found within so many seeds."""
LOSSY = Network(backbone_s=0.01, loss=0.1, duplicate=0.1)
Scenario = Callable[[type[Mesh], int], dict[str, str]]


def run(kind: type[Mesh], graph: Any, to: str, seed: int) -> Cluster:
    """One letter from node 0 of a graph of radios, and a minute."""
    topology = {f"n{node}": [f"n{other}" for other in graph[node]] for node in graph}
    cluster = Cluster(lambda: kind(topology), n=len(topology), seed=seed, network=LOSSY)
    cluster.request("n0", "client", "1", Post(to, b"hello"))
    cluster.run(60)
    return cluster


def line_of_five(kind: type[Mesh], seed: int) -> dict[str, str]:
    """From one end to the other in a minute."""
    return broken(run(kind, nx.path_graph(5), "n4", seed), checks.everything_arrives(""))


def fifty_nodes(kind: type[Mesh], seed: int) -> dict[str, str]:
    """Everybody hears a broadcast in a minute."""
    cluster = run(kind, nx.random_regular_graph(8, 50, seed), EVERYONE, seed)
    return broken(cluster, checks.EveryoneHears("", lambda origin: cluster.names))


def line_of_ten(kind: type[Mesh], seed: int) -> dict[str, str]:
    """No further than 7 hops."""
    return broken(run(kind, nx.path_graph(10), "n9", seed), checks.GoesNotTooFar("", 7))


SCENARIOS: list[tuple[str, Scenario, str, str]] = [
    ("g30_next_hop", line_of_five, "everything_arrives", "on n0 and has not arrived"),
    ("g30_same_three", fifty_nodes, "everyone_hears", "was never heard by"),
    ("g30_no_hop_count", line_of_ten, "no_letter_goes_too_far", "on its hop 8"),
]


@pytest.mark.parametrize("scenario", [scenario for _, scenario, _, _ in SCENARIOS])
def test_the_mesh_keeps_its_promise(scenario: Scenario) -> None:
    """Over 50 seeds it is not broken once."""
    assert [why for seed in range(SEEDS) if (why := scenario(Mesh, seed))] == []


@pytest.mark.parametrize(("mutant", "scenario", "check", "words"), SCENARIOS)
def test_a_mutant_breaks_its_promise(mutant: str, scenario: Scenario, check: str, words: str) -> None:
    """Within a few seeds it is broken, and the first event is named."""
    found = [why for seed in range(FEW) if (why := scenario(DEFECTS[mutant][0], seed).get(check))]

    assert found
    assert words in found[0]
