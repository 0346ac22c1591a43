"""The hunt's village: the smallest trial in which each defect breaks its promise and the correct policies keep all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from experiments.hunt.arenas import arena
from experiments.hunt.swarm import draw
from scenarios import faults as f
from scenarios.defects.village import DEFECTS
from scenarios.trial import Trial

VILLAGE = arena("village")
SMALL = Trial(arena="village", nodes=4, requests=30, storm_s=16.0, calm_s=20.0)
"""Four nodes hold the model once, with n3; seed 1."""
CRASH = (f.Crash(at_s=4.0, node="n3", down_s=5.0),)
SILENCE = (f.Partition(at_s=4.0, for_s=6.0, group=("n3",)),)
LATER = (f.Partition(at_s=11.0, for_s=6.0, group=("n3",)),)
"""Each takes n3 away for longer than its lease of 3 s and a tick of 1.5 s."""
SCRIPTS: dict[str, tuple[f.Fault, ...]] = {
    "g04": (), "g06": CRASH, "g07": CRASH, "g08_busy": SILENCE, "g08_loss": CRASH, "g09": (), "g10": CRASH,
    "g11_network": (), "g11_missing": CRASH, "g11_memory": (), "g12_dead": CRASH, "g12_reserved": CRASH, "g22": LATER,
    "g34": (),
}  # fmt: skip
SEEDS = range(1, 7)


def trial(policy: str, faults: tuple[f.Fault, ...]) -> Trial:
    """Return the small trial of a policy under faults."""
    return msgspec.structs.replace(SMALL, policy=policy, faults=faults)


@pytest.mark.parametrize("faults", sorted(set(SCRIPTS.values()), key=repr), ids=["nothing", "crash", "early", "late"])
def test_the_village_keeps_its_promises_where_its_defects_do_not(faults: tuple[f.Fault, ...]) -> None:
    """Nothing breaks with the correct policies, whatever takes the one large worker away."""
    outcome = VILLAGE.run(trial("correct", faults))

    assert (outcome.check, outcome.why) == ("", "")


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_breaks_the_promise_it_is_expected_to(defect: str) -> None:
    """At most one fault is enough, and the first event that broke the promise is named."""
    outcome = VILLAGE.run(trial(defect, SCRIPTS[defect]))

    assert outcome.check == VILLAGE.expects[defect]
    assert outcome.why.startswith("t=")


def test_swarms_break_nothing_and_show_what_is_interesting() -> None:
    """Over a few seeds every promise holds, and nodes come back, leaders change, pipelines end and are made anew."""
    outcomes = [VILLAGE.run(draw(VILLAGE, VILLAGE.shape, seed)) for seed in SEEDS]
    happened = {name for outcome in outcomes for name, did in outcome.sometimes.items() if did}

    assert [(outcome.check, outcome.why) for outcome in outcomes] == [("", "")] * len(SEEDS)
    assert {"a_node_came_back", "another_leader", "a_pipeline_dissolved", "a_second_attempt", "a_refusal"} <= happened


def test_every_defect_says_what_is_wrong_in_one_line() -> None:
    """Each has a line, a promise that is expected to catch it, and a script."""
    assert set(VILLAGE.defects) == set(VILLAGE.expects) == set(SCRIPTS)
    assert all(line and "\n" not in line for line in VILLAGE.defects.values())


def test_one_trial_has_one_digest_in_every_process() -> None:
    """Whatever the hash seed."""
    code = (
        "from experiments.hunt.arenas import arena; from experiments.hunt.swarm import draw; "
        "a = arena('village'); print(a.run(draw(a, a.shape, 3)).digest)"
    )
    root = str(Path(__file__).parents[2])
    digests = set()
    for hash_seed in ("0", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": root}
        ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        digests.add(ran.stdout)

    assert digests == {VILLAGE.run(draw(VILLAGE, VILLAGE.shape, 3)).digest + "\n"}
