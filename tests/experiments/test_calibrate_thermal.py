"""Tests of calibrating and validating the heat law of a phone, on runs made by the law itself."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.calibration import thermal as calibration
from experiments.compose import UsageError
from experiments.validation import thermal as validation
from models.thermal.phone_fit import PHONE_FIT, predict_battery_zone

TRUTH = PHONE_FIT._replace(little_w=11.0, big_w=2.0, gpu_w=9.0, ambient_c=23.0)


def made_runs(seconds: float = 150.0) -> pd.DataFrame:
    """Return ten logged runs of two experiments, as the law makes them, to a tenth of a kelvin."""
    random, tables = np.random.default_rng(3), []
    for number in range(10):
        t_s = np.arange(0.0, seconds, 2.0)
        count = t_s.size
        gpu = number % 2
        # A run of plateaus, as governors make them.
        blocks = np.repeat(random.uniform(0.2, 1.0, (5, count // 5 + 1)), 5, axis=1)[:, :count]
        logs = {
            "little_kHz": 3.5e6 * blocks[0], "big_kHz": 4.4e6 * blocks[1], "gpu_Hz": 1.2e9 * blocks[2],
            "gpu_load": 90.0 * gpu * blocks[3], "cpu_load": 90.0 * blocks[4] * (1 - 0.7 * gpu),
        }  # fmt: skip
        zone_c = predict_battery_zone(t_s, *logs.values(), random.uniform(25, 38), TRUTH)
        name = f"made_{'cold' if number < 5 else 'warm'}_20260101_{number:06d}"
        tables.append(pd.DataFrame({"run": name, "t_s": t_s, **logs, "battery_C": zone_c.round(1)}))
    return pd.concat(tables, ignore_index=True)


def options(**values: object) -> argparse.Namespace:
    """Return parsed options."""
    return argparse.Namespace(**{"figure": None, "profile": None, **values})


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict]:
    """Return the made runs' file, the profile's file, and what the calibration said."""
    folder = tmp_path_factory.mktemp("thermal")
    runs, profile = folder / "runs.csv", folder / "profile.json"
    made_runs().to_csv(runs, index=False)
    found = calibration.run(options(runs=runs, out=profile, figure=folder / "figure.png"))
    assert (folder / "figure.png").stat().st_size > 1000
    return runs, profile, found.plain


@pytest.mark.slow
def test_a_calibration_finds_the_law_that_made_the_runs(calibrated: tuple[Path, Path, dict]) -> None:
    """Powers come back within three of their standard errors or a tenth, and unseen runs to a third of a kelvin."""
    _, profile, plain = calibrated

    found = plain["parameters"]
    for name in ("little_w", "big_w", "gpu_w"):
        truth = getattr(TRUTH, name)
        assert abs(found[name]["value"] - truth) < max(3 * found[name]["standard_error"], 0.1 * truth)
    kept_out = plain["errors"]["kept_out"]["long"]
    assert kept_out["rmse_K"] < 0.33
    assert kept_out["rmse_K"] < 0.1 * kept_out["persistence_rmse_K"]
    assert json.loads(profile.read_text())["provenance"]["runs"] == 10


@pytest.mark.slow
def test_a_profile_is_validated_on_runs(calibrated: tuple[Path, Path, dict]) -> None:
    """The validation scores a profile's law as the calibration did; the shipped law, of another phone, scores worse."""
    runs, profile, plain = calibrated

    own = validation.run(options(run=runs, profile=profile)).plain
    shipped = validation.run(options(run=runs)).plain

    assert own["rmse_K"] == pytest.approx(plain["errors"]["fitted"]["long"]["rmse_K"], rel=1e-6)
    assert own["rmse_K"] < shipped["rmse_K"]
    assert len(own["runs"]) == 10
    assert "skin" in own["not_validated"]


@pytest.mark.nightly
def test_phone_heat_of_experiments_kept_out(data_folder: Path, tmp_path: Path, physics: Callable[..., None]) -> None:
    """Issue bar: 1.5 K over runs of a minute that the fit has not seen, and at most half of "it stays as it was"."""
    runs = data_folder / "phone_thermal" / "galaxy_llm_runs.csv.gz"

    score = calibration.run(options(runs=runs, out=tmp_path / "profile.json")).plain["errors"]["kept_out"]

    pooled, still = score["long"]["rmse_K"], score["long"]["persistence_rmse_K"]
    law, note = "heat: phone battery zone, experiments kept out", f"{score['long']['runs']} runs of a minute or more"
    physics(law, "measured Galaxy runs", pooled, "K", 1.5, worst=score["worst"]["rmse_K"], note=note)
    physics(f"{law}, of 'as it was'", "measured Galaxy runs", 100.0 * pooled / still, "%", 50.0, note=f"{still:.2f} K")
    assert pooled < 1.5
    assert pooled < 0.5 * still


def test_repeats_of_an_experiment_share_a_fold() -> None:
    """Date and time at the end of a run's name do not count."""
    folds = {calibration._fold(f"made_cpu_2048_2026010{day}_1200{day:02d}") for day in range(1, 9)}

    assert len(folds) == 1


def test_a_run_without_a_name_and_without_loads_is_scored_and_said_so(tmp_path: Path) -> None:
    """One run needs no run column; loads that were not logged are assumed, and the output says so."""
    table = made_runs()
    table = table[table["run"] == table["run"][0]].drop(columns="run")
    table["cpu_load"] = np.nan
    path = tmp_path / "mine.csv"
    table.rename(columns={"battery_C": "temp_C"}).to_csv(path, index=False)

    found = validation.run(options(run=path))

    assert found.plain["runs"][0]["run"] == "mine"
    assert found.plain["runs"][0]["loads_assumed"] is True
    assert "assumed" in found.text
    assert "not validated: skin" in found.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="gpu_Hz"), "no column gpu_Hz; needed: t_s, little_kHz"),
        (lambda t: t.drop(columns="battery_C"), "no column battery_C or temp_C; one is needed"),
        (lambda t: t.iloc[:0], "no rows"),
        (
            lambda t: t.assign(cpu_load=t.cpu_load.where(t.index != 3, 130.0)),
            "row 5: cpu_load is 130.0; allowed: 0 to 100",
        ),
        (
            lambda t: t.assign(battery_C=t.battery_C.where(t.index != 0)),
            "row 2: battery_C or temp_C is nan; allowed: -30",
        ),
        (lambda t: t.assign(little_kHz=np.inf), "row 2: little_kHz is inf; allowed: 1 to 1e"),
        (lambda t: t.assign(t_s=t.t_s.where(t.index != 4, 0.0)), "row 6: t_s is 0.0; allowed: rising within a run"),
        (lambda t: t.assign(gpu_Hz="fast"), "row 2: gpu_Hz is fast; allowed: 0 to 1e"),
    ],
)
def test_bad_runs_are_refused_in_one_line(tmp_path: Path, change: object, message: str) -> None:
    """A missing column or an impossible value is named with its row and what is allowed."""
    path = tmp_path / "runs.csv"
    change(made_runs(20.0)).to_csv(path, index=False)  # type: ignore[operator]

    with pytest.raises(UsageError, match=message) as caught:
        validation.run(options(run=path))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_files_are_refused(tmp_path: Path) -> None:
    """No such runs, no profile, and no place for the result."""
    path = tmp_path / "runs.csv"
    made_runs(20.0).to_csv(path, index=False)
    bad = tmp_path / "bad.json"
    bad.write_text('{"parameters": {"idle_w": {"value": 1}}}')

    with pytest.raises(UsageError, match="cannot be read as CSV"):
        validation.run(options(run=tmp_path / "none.csv"))
    with pytest.raises(UsageError, match="not a profile of twin calibrate thermal"):
        validation.run(options(run=path, profile=bad))
    with pytest.raises(UsageError, match=r"--out .*: must be a file in a folder"):
        calibration.run(options(runs=path, out=tmp_path / "no" / "where.json"))
