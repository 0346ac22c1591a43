"""Arenas of the transports: each defect has a small trial in which its check fails and the correct policy passes."""

from __future__ import annotations

import msgspec
import networkx as nx
import pytest

from experiments.hunt.arena import MessageArena
from experiments.hunt.arenas import arena
from experiments.hunt.arenas.bus import away_s
from experiments.hunt.arenas.mesh import STREET, TIMES, town, within
from experiments.hunt.swarm import draw
from scenarios import faults as f
from scenarios.trial import Trial

SILENCE = f.Loss(at_s=0.0, for_s=1.0, share=1.0)
SMALL: dict[str, Trial] = {
    # The origin falls while its letters cannot leave.
    "g28_codec": Trial(
        arena="delivery", nodes=2, requests=4, storm_s=1.0, calm_s=6.0,
        faults=(f.Partition(at_s=0.0, for_s=0.9, group=("n0",)), f.Crash(at_s=0.95, node="n0", down_s=0.02)),
    ),
    # Nothing arrives for as long as the first tries take.
    "g28_backoff": Trial(arena="delivery", nodes=2, requests=8, storm_s=1.0, calm_s=6.0, faults=(SILENCE,)),
    "g28_silence": Trial(arena="delivery", nodes=2, requests=8, storm_s=1.0, calm_s=6.0, faults=(SILENCE,)),
    # A street of four; the first letter goes from its one end to the other.
    "g30_next_hop": Trial(arena="mesh", nodes=4, requests=1, storm_s=1.0, calm_s=4.0),
    # The fourth letter is a broadcast, and on the square stand two whom nobody prefers.
    "g30_same_three": Trial(arena="mesh", nodes=13, requests=4, storm_s=1.0, calm_s=8.0),
    # The square is one node beyond the street: from there to its far end are eight hops.
    "g30_no_hop_count": Trial(arena="mesh", nodes=9, requests=8, storm_s=1.0, calm_s=8.0),
    # The internet is away and radios are, too: both transports say no.
    "g33_false": Trial(arena="bus", nodes=2, requests=1, storm_s=3.0, calm_s=10.0,
                       faults=(f.Partition(at_s=0.0, for_s=3.0, group=("n0",)),)),
    # The internet goes within the storm, as the seed says; the radios would do.
    "g33_one_breaker": Trial(arena="bus", nodes=3, requests=10, storm_s=6.0, calm_s=24.0),
}  # fmt: skip


def found(defect: str, trial: Trial) -> str:
    """Return the check that breaks under a defect."""
    return arena(trial.arena).run(msgspec.structs.replace(trial, policy=defect)).check


@pytest.mark.parametrize("defect", SMALL)
def test_a_defect_breaks_its_check_in_a_small_trial_and_the_correct_policy_none(defect: str) -> None:
    """The check that must catch it does, with two faults at most."""
    trial = SMALL[defect]

    assert len(trial.faults) <= 2
    assert found(defect, trial) == arena(trial.arena).expects[defect]
    assert arena(trial.arena).run(trial).why == ""


@pytest.mark.parametrize("name", ["bus", "delivery", "mesh"])
def test_every_defect_is_expected_by_a_check_of_its_arena_and_the_canary_is_soon_found(name: str) -> None:
    """Every defect has its check among the arena's promises; the swarm finds the canary within 20 seeds."""
    place = arena(name)
    assert isinstance(place, MessageArena)
    promised = {check.name for check in place.promises(place.shape) if check.family != "sometimes"}
    sick = msgspec.structs.replace(place.shape, policy=place.canary)
    first = next(outcome for seed in range(1, 21) if (outcome := place.run(draw(place, sick, seed))).broken)

    assert set(place.expects) == set(place.defects)
    assert set(place.expects.values()) <= promised
    assert first.check == place.expects[place.canary]


@pytest.mark.parametrize("nodes", [4, 8, 9, 13, 20])
def test_a_town_is_a_street_and_a_square(nodes: int) -> None:
    """Against networkx: a path and a complete graph that share n0; who is within reach is who has a short path."""
    radios = town(nodes)
    graph = nx.path_graph(min(STREET, nodes))
    square = [0, *range(STREET, nodes)]
    graph.add_edges_from((a, b) for a in square for b in square if a < b)

    assert nx.is_isomorphic(nx.Graph(radios), graph)
    assert {(a, b) for a in radios for b in radios[a]} == {(f"n{a}", f"n{b}") for a, b in graph.to_directed().edges}
    near = nx.single_source_shortest_path_length(graph, 7 % nodes, TIMES.hops_max)
    assert set(within(radios, f"n{7 % nodes}", TIMES.hops_max)) == {f"n{k}" for k in near} - {f"n{7 % nodes}"}


def test_the_internet_goes_in_every_trial_and_comes_back_in_half_of_them() -> None:
    """It goes within the storm, and comes back within it or never; 400 fair coins lie between 150 and 250."""
    shape = arena("bus").shape
    spells = [away_s(msgspec.structs.replace(shape, seed=seed)) for seed in range(400)]

    assert all(0.0 <= start <= shape.storm_s and start <= end for start, end in spells)
    assert all(end <= shape.storm_s or end == float("inf") for _, end in spells)
    assert 150 < sum(end <= shape.storm_s for _, end in spells) < 250
