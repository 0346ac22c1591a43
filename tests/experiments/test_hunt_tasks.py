"""The arena of tasks: the correct policy keeps every promise, each of the predecessor's defects breaks its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from experiments.hunt.arena import CORRECT
from experiments.hunt.arenas import arena
from experiments.hunt.swarm import draw
from scenarios import faults as f
from scenarios.faults import Fault
from scenarios.schema import ScenarioError
from scenarios.trial import Trial

ARENA = arena("tasks")
ROOT = Path(__file__).parents[2]
SEEDS = 20
"""A defect is found within so many seeds of the swarm; most are in one."""

SMALL: dict[str, tuple[int, int, tuple[Fault, ...]]] = {
    "g01": (1, 1, ()),
    "g02": (1, 1, ()),
    "g03_forward": (1, 1, ()),
    "g03_circle": (6, 3, ()),
    "g03_twice": (3, 1, (f.Duplicate(at_s=0.0, for_s=4.0, share=0.3),)),
    "g03_counts": (1, 1, ()),
    "g04_working": (1, 8, ()),
    "g04_fifo": (7, 4, ()),
    "g21_refresh": (1, 1, (f.Pause(at_s=1.0, node="n1", for_s=3.0),)),
    "g21_reserve": (5, 2, ()),
    "g22": (1, 2, (f.Crash(at_s=2.0, node="n1", down_s=0.2),)),
}
"""Defect to the seed, the requests and the faults of a small case: one agent, four seconds of storm, six of calm."""


def small(defect: str, policy: str) -> Trial:
    """Return a defect's small case, for a policy."""
    seed, requests, faults = SMALL[defect]
    return Trial(
        arena="tasks", policy=policy, seed=seed, nodes=2, requests=requests, storm_s=4.0, calm_s=6.0, faults=faults
    )


def drawn(policy: str, seed: int) -> Trial:
    """Return a seed's trial in the swarm."""
    return draw(ARENA, msgspec.structs.replace(ARENA.shape, policy=policy), seed)


@pytest.mark.parametrize("defect", ARENA.defects)
def test_a_defect_breaks_its_promise_in_a_small_case(defect: str):
    """Two nodes and at most one fault are enough, and the correct policy keeps every promise there."""
    ARENA.check(small(defect, defect))
    assert ARENA.run(small(defect, defect)).check == ARENA.expects[defect]
    assert ARENA.run(small(defect, CORRECT)).check == ""


@pytest.mark.parametrize("defect", ARENA.defects)
def test_the_swarm_finds_a_defect_without_being_told(defect: str):
    """Some seed of the general swarm breaks the promise that the defect is known to break."""
    found = (ARENA.run(drawn(defect, seed)).check for seed in range(1, SEEDS + 1))
    assert ARENA.expects[defect] in found


def test_the_correct_policy_keeps_its_promises_and_meets_what_is_rare():
    """No alarm over the first seeds; and agents fell silent, queues were full, the coordinator restarted amid work."""
    outcomes = [ARENA.run(drawn(CORRECT, seed)) for seed in range(1, 21)]
    assert [one.why for one in outcomes if one.broken] == []
    assert {name for one in outcomes for name, happened in one.sometimes.items() if happened} == set(
        outcomes[0].sometimes
    )


def test_a_calm_too_short_for_any_policy_is_refused():
    """What no policy could keep is not asked."""
    with pytest.raises(ScenarioError, match=r"calm_s=2.0: arena tasks needs at least 5.0"):
        ARENA.check(msgspec.structs.replace(ARENA.shape, calm_s=2.0))


def test_slowness_has_a_bound():
    """Three spells that multiply to a quarter of a million leave the coordinator able to work in the calm."""
    spells = tuple(f.Slow(at_s=1.0, node="n0", for_s=9.0, factor=factor) for factor in (71.0, 53.0, 65.0))
    assert ARENA.run(msgspec.structs.replace(small("g02", CORRECT), faults=spells)).why == ""


def test_another_process_sees_the_same():
    """A trial has one digest, whatever the hash seed."""
    program = "from tests.experiments.test_hunt_tasks import *; print(ARENA.run(drawn(CORRECT, 2)).digest)"
    found = set()
    for hash_seed in ("0", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        run = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        found.add(run.stdout)
    assert len(found) == 1
