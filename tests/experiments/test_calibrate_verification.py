"""`twin calibrate verification`: what errors of a known law become, and what the stored table promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from experiments.calibration import verification
from experiments.calibration.verification_runs import CHEATS, Found, Measured, Size, labels, measure
from experiments.cli import main
from models.inference.tolerances import FALSE_ACCUSATIONS, FILE, pair_of, read_tolerances, stored_tolerances

SPREAD = 0.2


def made(centre: float, seed: int) -> Found:
    """Errors of 40 sessions x 16 blocks x 2 layers that are lognormal about a centre."""
    draw = np.random.default_rng(seed)
    return Found(centre * draw.lognormal(0, SPREAD, (40, 16)), centre / 10 * draw.lognormal(0, SPREAD, (40, 16, 2)))


def measured(seed: int) -> Measured:
    """Two executors of one format, honest about 1e-3 apart; one cheat is far off and another one hardly."""
    pairs = [("torch fp16", "torch fp16"), ("torch fp16", "jax fp16"), ("jax fp16", "torch fp16")]
    honest = {pair: {"0-2": [made(1e-3, seed + n)]} for n, pair in enumerate(pairs)}
    cheating = {pair: {name: [made(1.0 if n else 1e-3, seed)] for n, name in enumerate(CHEATS)} for pair in pairs}
    return Measured(honest, cheating)


def test_a_tolerance_lies_beyond_the_quantile_and_not_far_beyond() -> None:
    """Of errors of a known law, fewer than the allowed share exceed it, and it is within a factor of what would do."""
    pairs = verification.tolerances({"tiny": measured(1)}, 1)
    row = pairs["jax fp16 | torch fp16"]
    exact = 1e-3 * stats.lognorm(SPREAD).isf(FALSE_ACCUSATIONS / 2)

    assert row["checks"] == 2 * 40 * 16
    assert exact < row["outputs"] < 2 * exact
    assert exact / 10 < row["cache"] < 2 * exact / 10


def test_other_runs_are_scored_with_the_worst_direction() -> None:
    """Honest checks fail nowhere, a far cheat is found always and one within the tolerance never."""
    pairs = verification.tolerances({"tiny": measured(1)}, 1)
    verification.score(pairs, {"tiny": measured(50)})

    for row in pairs.values():
        assert row["held_out_failed"] == 0
        assert row["found"] == {CHEATS[0]: 0.0, **dict.fromkeys(CHEATS[1:], 1.0)}
    assert "| fp16, fp16 | 1,920 |" in verification.table(pairs)


def test_the_runs_hold_every_executor_against_every_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """All pairs of what is run have errors of both kinds, honest below every cheat where formats are equal."""
    pytest.importorskip("torch")
    executors = ["torch fp32", "torch fp16"]
    monkeypatch.setattr("experiments.calibration.verification_runs.labels", lambda: executors)
    found = measure("tiny", 3, Size(2, 40, False, 1, 1, 1, 2), lambda text: None)

    assert set(found.honest) == {(a, b) for a in executors for b in executors}
    for executor in executors:
        stages = found.honest[executor, executor]
        assert {stage: [way.outputs.shape for way in ways] for stage, ways in stages.items()} == {
            "0-2": [(2, 3), (1, 3), (1, 3)],
            "2-4": [(2, 3), (1, 3), (1, 3)],
        }
        worst = max(way.outputs.max() for ways in stages.values() for way in ways)
        assert set(found.cheating[executor, executor]) == set(CHEATS)
        for cheat, ways in found.cheating[executor, executor].items():
            assert min(way.outputs.min() for way in ways) > 5 * worst, cheat


def test_the_stored_table_keeps_the_promises() -> None:
    """Every pair has a tolerance; no held-out check failed; in one format each cheat is found 99 times of 100."""
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    tolerances = stored_tolerances()

    assert set(tolerances) == {pair_of(a, b) for a in labels() for b in labels()}
    for pair, row in stored["pairs"].items():
        assert tolerances[pair].outputs >= row["worst_outputs"]
        assert tolerances[pair].cache >= row["worst_cache"]
        assert row["held_out_failed"] == 0
        one, other = (name.split()[1] for name in pair.split(" | "))
        if one == other:
            for cheat in CHEATS:
                if cheat != "four bits" or one == "fp16":
                    assert row["found"][cheat] >= 0.99, (pair, cheat)


def test_a_file_that_holds_no_tolerances_is_refused() -> None:
    """One line says what is missing."""
    with pytest.raises(ValueError, match=r"tolerances: no table of pairs \(KeyError\('pairs'\)\)"):
        read_tolerances({})


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is run for a table that cannot be written."""
    out = tmp_path / "nowhere" / "t.json"

    for files in (["--out", str(out)], ["--out", str(tmp_path)], ["--out", str(tmp_path / "t"), "--table", str(out)]):
        assert main(["calibrate", "verification", *files]) == 2
        assert "must be a file in a folder that exists" in capsys.readouterr().err
