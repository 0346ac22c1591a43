"""Tests of ``twin calibrate power``: known laws are found again, what is kept out is met, bad tables are refused."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("jax")

from experiments.calibration import Outcome, power
from experiments.compose import UsageError
from models.power.cores import BIG_BEND, CLASS_SLOPE, CLASS_SLOPE_BEND, SMALL_BEND, core_current_ma
from models.radio import RADIOS, active_w


def calibrate(*words: object) -> Outcome:
    """Run the command as the command line does."""
    parser = argparse.ArgumentParser()
    power.add_arguments(parser)
    return power.run(parser.parse_args([str(word) for word in words]))


def walk(rows: int = 1500, noise: float = 0.0) -> pd.DataFrame:
    """A made-up walk with the shipped law of mmWave, in blocks of 50 rows."""
    rng = np.random.default_rng(5)
    down, up = rng.exponential(500.0, rows), rng.uniform(0.0, 150.0, rows)
    rsrp, sinr = rng.uniform(-105.0, -80.0, rows), rng.uniform(0.0, 20.0, rows)
    watts = active_w(RADIOS["5g_mmwave"], down, up, rsrp, sinr) * (1.0 + noise * rng.standard_normal(rows))
    columns = {"downlink_Mbps": down, "uplink_Mbps": up, "nr_ssRsrp": rsrp, "nr_ssSinr": sinr}
    return pd.DataFrame({**columns, "hardware_power": 1e3 * watts, "row": np.arange(rows) // 50})


def cores() -> pd.DataFrame:
    """Two made-up phones whose clusters follow the three-anchor law exactly."""
    clusters = {
        ("one", 0): ([3e5, 9e5, 1.8e6], [3.0, 9.0, 26.0]), ("one", 1): ([5e5, 1.4e6, 2.4e6], [10.0, 40.0, 200.0]),
        ("two", 0): ([3e5, 1.0e6, 2.0e6], [10.0, 15.0, 40.0]), ("three", 0): ([3e5, 1.1e6, 2.2e6], [5.0, 25.0, 130.0]),
    }  # fmt: skip
    parts = []
    for (device, cluster), (khz, ma) in clusters.items():
        freq = np.linspace(khz[0], khz[-1], 12)
        current = core_current_ma(freq, khz, ma)
        parts.append(pd.DataFrame({"device": device, "cluster": cluster, "freq_kHz": freq, "core_mA": current}))
    return pd.concat(parts)


@pytest.mark.slow
def test_a_known_radio_is_found_again(tmp_path: Path) -> None:
    """From a walk with 5 % of noise the parameters come back within four standard errors, and their source."""
    table = tmp_path / "walk.csv"
    walk(noise=0.05).to_csv(table, index=False)

    outcome = calibrate("--radio", table, "--out", tmp_path / "radio.json", "--figure", tmp_path / "radio.png")

    profile = json.loads((tmp_path / "radio.json").read_text())
    assert profile == json.loads(json.dumps(outcome.plain))
    assert profile["subject"] == "power.radio"
    assert profile["provenance"]["sha256"] == hashlib.sha256(table.read_bytes()).hexdigest()
    assert profile["provenance"]["versions"]["jax"]
    for name, found in profile["parameters"].items():
        assert abs(found["value"] - getattr(RADIOS["5g_mmwave"], name)) < 4.0 * found["standard_error"], name
    assert profile["kept_out_percent"]["mean"] < 5.0
    assert (tmp_path / "radio.png").stat().st_size > 10_000


@pytest.mark.slow
def test_known_clusters_are_found_again(tmp_path: Path) -> None:
    """Tables that follow the law exactly give their anchors back, and the three-anchor law then misses nothing."""
    table = tmp_path / "cores.csv"
    cores().to_csv(table, index=False)

    outcome = calibrate("--cpu", table, "--out", tmp_path / "cpu.json")

    assert outcome.plain["kept_out_percent"]["rows, three anchors"]["worst_row"] < 1e-3
    assert outcome.plain["kept_out_percent"]["devices"]["lowest, 40 %, top"]["worst_row"] < 1e-3
    assert len(outcome.plain["clusters"]) == 4
    assert "4 clusters of 3 devices" in outcome.text


def test_phones_that_share_a_table_leave_together() -> None:
    """A phone's twin, and whatever shares any table with either, never stays in the fit that is scored on it."""

    def curve(devices: tuple[str, ...], cluster: str) -> power.Curve:
        return power.Curve(devices, cluster, np.arange(1.0, 5.0), np.arange(1.0, 5.0))

    curves = [curve(("a", "b"), "0"), curve(("b", "c"), "1"), curve(("d",), "0")]

    assert power._related(curves, curves[0]) == {"a", "b", "c"}
    assert power._related(curves, curves[2]) == {"d"}


@pytest.mark.slow
def test_core_currents_of_phones_kept_out(data_folder: Path, physics: Callable[..., None]) -> None:
    """Issue bar: 10 % on phones kept out of the fit, met with two anchors or three, and on rows."""
    curves = power.read_cores(data_folder / "power_profiles" / "pixel_cpu_core_mA.csv")

    found = power.calibrate_cores(curves)

    print(found.text)
    phones, rows = found.plain["kept_out_percent"]["devices"], found.plain["kept_out_percent"]["rows, three anchors"]
    for anchors in ("lowest, 40 %, top", "20 %, top", "lowest, top", "top"):
        law, score = f"power: core current, known at {anchors}", phones[anchors]
        physics(law, "AOSP tables, phones kept out", score["mean"], "%", 10.0, worst=score["worst_group"])
    assert phones["lowest, 40 %, top"]["mean"] < 5.5
    assert phones["lowest, 40 %, top"]["worst_group"] < 13.0
    assert phones["20 %, top"]["mean"] < 7.5
    assert phones["lowest, top"]["mean"] < 10.0
    assert phones["top"]["mean"] < 50.0
    assert rows["mean"] < 5.5
    two, one = found.plain["parameters"]["two_anchors"], found.plain["parameters"]["top_only"]
    assert pytest.approx(two["small_bend"]["value"], abs=0.01) == SMALL_BEND
    assert pytest.approx(two["big_bend"]["value"], abs=0.01) == BIG_BEND
    assert pytest.approx(one["slope"]["value"], abs=0.01) == CLASS_SLOPE
    assert pytest.approx(one["slope_bend"]["value"], abs=0.01) == CLASS_SLOPE_BEND


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "radio", "mean", "worst"), [("mn", "5g_mmwave", 11.5, 36.0), ("mi", "5g_mmwave_mi", 13.5, 39.0)]
)
def test_radio_power_of_blocks_kept_out(
    data_folder: Path, name: str, radio: str, mean: float, worst: float, physics: Callable[..., None]
) -> None:
    """Issue bar: 15 % on blocks of 50 s kept out, in every fold; the shipped parameters are those of the fit."""
    frame = power.read_radio(data_folder / "radio_power" / f"{name}_power_throughput_rsrp.csv.gz")

    found = power.calibrate_radio(frame)

    print(found.text)
    score = found.plain["kept_out_percent"]
    law, note = f"radio: 5G power ({name} walk), MAPE", f"worst tenth of seconds {score['worst_decile']:.0f} %"
    physics(law, "walk, blocks kept out", score["mean"], "%", 15.0, worst=score["worst_group"], note=note)
    assert score["mean"] < mean
    assert score["worst_group"] < 15.0
    assert score["worst_decile"] < worst
    for field, fitted in found.plain["parameters"].items():
        assert getattr(RADIOS[radio], field) == pytest.approx(fitted["value"], rel=0.02, abs=5e-5), field


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("hardware_power", -5.0, "walk.csv row 9: hardware_power is -5.0; allowed: numbers above 0"),
        ("nr_ssRsrp", np.nan, "walk.csv row 9: nr_ssRsrp is nan; allowed: finite numbers"),
        ("downlink_Mbps", -1.0, "walk.csv row 9: throughput is below 0; allowed: numbers from 0"),
    ],
)
def test_a_bad_radio_row_is_named(tmp_path: Path, column: str, value: float, words: str) -> None:
    """A number that cannot be is one line with file, row, column and what is allowed."""
    frame = walk()
    frame.loc[7, column] = value
    frame.to_csv(tmp_path / "walk.csv", index=False)

    with pytest.raises(UsageError) as caught:
        calibrate("--radio", tmp_path / "walk.csv", "--out", tmp_path / "radio.json")

    assert str(caught.value) == words
    assert not (tmp_path / "radio.json").exists()


def test_bad_tables_and_places_are_refused(tmp_path: Path) -> None:
    """Missing columns, files and folders, too few blocks and too short tables are one line each."""
    walk(400).to_csv(tmp_path / "short.csv", index=False)
    cores().drop(columns="core_mA").to_csv(tmp_path / "blind.csv", index=False)
    cores().iloc[:3].to_csv(tmp_path / "three.csv", index=False)
    out = ("--out", tmp_path / "x.json")

    for words, message in (
        (("--cpu", tmp_path / "none.csv", *out), "none.csv: cannot be read as CSV"),
        (("--cpu", tmp_path / "blind.csv", *out), "blind.csv: no column core_mA; needed: device, cluster, freq_kHz"),
        (("--cpu", tmp_path / "three.csv", *out), "three.csv: one cluster 0 has 3 frequencies; allowed: at least 4"),
        (("--radio", tmp_path / "short.csv", *out), "--radio: 8 blocks of rows; allowed: at least 10"),
        (("--radio", tmp_path / "short.csv", "--out", tmp_path / "no" / "x.json"), "--out .*: must be a file in a"),
    ):
        with pytest.raises(UsageError, match=message):
            calibrate(*words)
