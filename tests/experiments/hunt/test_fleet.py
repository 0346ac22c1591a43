"""The fleet's arena: the documented harvest rule keeps its promises, and each defect breaks its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from experiments.hunt.arena import CORRECT
from experiments.hunt.arenas import arena
from experiments.hunt.swarm import draw
from scenarios import faults as f
from scenarios.schema import ScenarioError
from scenarios.trial import Trial, plain

FLEET = arena("fleet")


def a_trial(seed: int, nodes: int, storm_s: float, *faults: f.Fault, calm_s: float = 0.0) -> Trial:
    """Return a trial of a few devices: n0 is a phone, n1 a desktop, n2 a laptop, n3 one set aside."""
    return Trial(arena="fleet", seed=seed, nodes=nodes, requests=0, storm_s=storm_s, calm_s=calm_s, faults=faults)


def away(node: str, at_s: float, for_s: float) -> f.Fault:
    """Return a spell on a mobile network."""
    return f.NetworkSwitch(at_s=at_s, for_s=for_s, node=node)


CASES: dict[str, Trial] = {
    "g16_heat": a_trial(1, 3, 600.0),
    "g16_unplugged": a_trial(1, 1, 720.0, f.PowerCut(at_s=600.0, for_s=300.0, nodes=("n0",))),
    "g16_length": a_trial(1, 1, 7200.0, calm_s=120.0),
    "g16_cooldown": a_trial(1, 1, 600.0, away("n0", 300.0, 150.0)),
    "g17_bands": a_trial(1, 3, 900.0),
    "g17_dwell": a_trial(1, 4, 600.0, away("n3", 290.0, 60.0)),
    "g17_ladder": a_trial(1, 3, 900.0),
    "g18_wired": a_trial(1, 2, 900.0),
    "g18_mains": a_trial(1, 2, 900.0),
    "g18_drain": a_trial(1, 2, 7200.0, calm_s=1200.0),
    "g18_keeps": a_trial(1, 1, 600.0, away("n0", 290.0, 200.0)),
    "g20_harvest": a_trial(71, 1, 120.0),
    "g20_ladder": a_trial(22, 1, 120.0),
}
"""The smallest trial that we know for each defect; the last two seeds are of a phone that begins at 0 %."""


@pytest.mark.parametrize("defect", FLEET.defects)
def test_a_defect_breaks_its_promise_where_the_documented_rule_keeps_it(defect: str) -> None:
    """In a small trial the defect is caught by the check that must catch it, and the documented rule by none."""
    trial = CASES[defect]
    found = FLEET.run(msgspec.structs.replace(trial, policy=defect))

    assert found.check == FLEET.expects[defect], found.why
    assert any(f"{name}: " in found.why for name in trial.names)
    assert FLEET.run(trial).check == ""


@pytest.mark.parametrize("seed", range(1, 6))
def test_the_documented_rule_keeps_its_promises_in_storms(seed: int) -> None:
    """Whatever the swarm draws, the documented rule raises no alarm, and something happens."""
    outcome = FLEET.run(draw(FLEET, FLEET.shape, seed))

    assert outcome.check == "", outcome.why
    assert outcome.steps == 141
    assert outcome.sometimes["a_session_was_throttled"]


def test_a_trial_has_one_digest() -> None:
    """The same trial gives the same digest in a fresh process with another PYTHONHASHSEED; another seed another."""
    trial = draw(FLEET, msgspec.structs.replace(FLEET.shape, storm_s=1200.0, calm_s=300.0), 7)
    code = (
        "import json, sys; from experiments.hunt.arenas import arena; from scenarios.trial import build_trial; "
        "print(arena('fleet').run(build_trial(json.load(sys.stdin))).digest)"
    )
    again = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(plain(trial)), capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "4711"}, cwd=Path(__file__).parents[3],
    )  # fmt: skip

    assert again.stdout.strip() == FLEET.run(trial).digest
    assert FLEET.run(msgspec.structs.replace(trial, seed=8)).digest != again.stdout.strip()


def test_who_watches_is_told_and_changes_nothing() -> None:
    """Faults and what devices lend reach the watcher; the digest is the same."""
    trial, told = CASES["g16_unplugged"], []
    watched = FLEET.run(trial, lambda event: told.append((event.node, event.given[1])))

    assert watched.digest == FLEET.run(trial).digest
    assert ("n0", "power_cut starts") in told
    assert any(who == "n0" and "lends 0.5" in str(what) for who, what in told)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"policy": "g99"}, "policy='g99': not in arena fleet; allowed: correct, g16_heat"),
        ({"faults": (f.Crash(at_s=1.0, node="n0"),)}, "faults[0].kind='crash': not in this world; allowed: heat_wave"),
        ({"faults": (f.TakeAway(at_s=1.0, node="n9"),)}, "faults[0].node='n9': no such node"),
    ],
)
def test_a_trial_that_cannot_be_run_is_refused(change: dict[str, Any], why: str) -> None:
    """One line names the field, the value and what is allowed."""
    trial = msgspec.structs.replace(a_trial(1, 2, 60.0), **change)
    with pytest.raises(ScenarioError) as refused:
        FLEET.check(trial)
    assert str(refused.value).startswith(why)
    FLEET.check(msgspec.structs.replace(trial, policy=CORRECT, faults=()))
