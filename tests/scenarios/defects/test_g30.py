"""G30: the small scenarios in which the mesh keeps its promises and each mutant breaks its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import pytest

from policies.transport import Mesh
from policies.transport.messages import EVERYONE, Post
from scenarios.defects import promises
from scenarios.defects.g30 import CountsNoHops, GossipsToTheSameThree, RepeatsOneNextHop
from scenarios.schema import Network
from sim.cluster import Cluster

SEEDS = 50
FEW = 5
"""A mutant is found within so many seeds."""
LOSSY = Network(backbone_s=0.01, loss=0.1, duplicate=0.1)


def run(kind: type[Mesh], graph: Any, to: str, seed: int, seconds: float) -> promises.Events:
    """One letter from node 0 of a graph of radios."""
    topology = {f"n{node}": [f"n{other}" for other in graph[node]] for node in graph}
    cluster = Cluster(lambda: kind(topology), n=len(topology), seed=seed, network=LOSSY)
    cluster.request("n0", "client", "1", Post(to, b"hello"))
    cluster.run(seconds)
    return cluster.decisions


def line_of_five(kind: type[Mesh], seed: int) -> str:
    """From one end to the other in a minute."""
    return promises.delivered_in_time(run(kind, nx.path_graph(5), "n4", seed, 61), 60.0, 61.0)


def fifty_nodes(kind: type[Mesh], seed: int) -> str:
    """Everybody hears a broadcast in a minute."""
    events = run(kind, nx.random_regular_graph(8, 50, seed), EVERYONE, seed, 60)
    return promises.everyone_hears_at_the_end(events, [f"n{k}" for k in range(50)])


def line_of_ten(kind: type[Mesh], seed: int) -> str:
    """No further than 7 hops."""
    return promises.no_letter_goes_too_far(run(kind, nx.path_graph(10), "n9", seed, 60), 7)


SCENARIOS: list[tuple[type[Mesh], Callable[[type[Mesh], int], str], str]] = [
    (RepeatsOneNextHop, line_of_five, "has not arrived 60 s after n0 accepted it"),
    (GossipsToTheSameThree, fifty_nodes, "was never heard by"),
    (CountsNoHops, line_of_ten, "on its hop 8"),
]


@pytest.mark.parametrize("scenario", [scenario for _, scenario, _ in SCENARIOS])
def test_the_mesh_keeps_its_promise(scenario: Callable[[type[Mesh], int], str]) -> None:
    """Over 50 seeds it is not broken once."""
    assert [line for seed in range(SEEDS) if (line := scenario(Mesh, seed))] == []


@pytest.mark.parametrize(("mutant", "scenario", "words"), SCENARIOS)
def test_a_mutant_breaks_its_promise(
    mutant: type[Mesh], scenario: Callable[[type[Mesh], int], str], words: str
) -> None:
    """Within a few seeds it is broken, and the first event is named."""
    found = [line for seed in range(FEW) if (line := scenario(mutant, seed))]

    assert found
    assert words in found[0]
