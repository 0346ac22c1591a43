"""The battery validation: figures of a programme with and without a measured course, and bad programmes."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.calibration import Outcome
from experiments.calibration.stored_cell import save_cell
from experiments.compose import UsageError
from experiments.validation import battery
from models.battery.cell import Cell, Pair

HEADER = "mode,value,until_t_s,until_v_V,until_i_A,ambient_C,soc0\n"
# Straight and almost without pairs, so that the figures follow by hand: OCV = 3 + s, 0.1 ohm, 2 A.h.
STRAIGHT = Cell(
    name="straight", chemistry="test", source="test", capacity_ah=2.0, v_min=2.9, v_max=4.0, ocv_soc=(0.0, 1.0),
    ocv_v=(3.0, 4.0), r_soc=(0.5,), r0_ohm=(0.1,), r0_activation_j_mol=0.0,
    pairs=(Pair(1.0, (1e-9,), 0.0), Pair(10.0, (1e-9,), 0.0)), heat_share=1.0, heat_j_per_k=50.0, cooling_w_per_k=0.0,
)  # fmt: skip


def validate(folder: Path, rows: str, measured: pd.DataFrame | None = None, cell: Cell = STRAIGHT) -> Outcome:
    """Run the command on a programme."""
    save_cell(folder / "cell.json", cell, {}, {})
    (folder / "run.csv").write_text(HEADER + rows)
    words = [str(folder / "run.csv"), "--cell", str(folder / "cell.json")]
    if measured is not None:
        measured.to_csv(folder / "m.csv", index=False)
        words += ["--measured", str(folder / "m.csv")]
    parser = argparse.ArgumentParser()
    battery.add_arguments(parser)
    return battery.run(parser.parse_args(words))


def test_a_discharge_without_measurement(tmp_path: Path) -> None:
    """1 A from full to 3.4 V: s = 0.5 after 3600 s, 0.1 W heat for 3600 s in 50 J/K is 7.2 K; comparisons are null."""
    found = validate(tmp_path, "cc,1,,3.4,,25,1\n").plain

    assert found["t_end_s"] == pytest.approx(3600.0, rel=1e-6)
    assert found["t_rise_K"] == pytest.approx(7.2, rel=1e-6)
    assert [found[name] for name in ("v_rmse_V", "i_rmse_A", "t_end_err", "energy_err")] == [None] * 4


def test_a_measured_course_gives_its_known_differences(tmp_path: Path) -> None:
    """A course 10 mV above, 20 mA more and 1 % longer than the cell's is found so."""
    t_s = np.linspace(0.0, 3600.0, 361)
    measured = pd.DataFrame({"t_s": t_s, "v_V": 3.9 - 0.5 * t_s / 3600.0 + 0.01, "i_A": 1.02})

    found = validate(tmp_path, "cc,1,3600,,,25,1\n", measured).plain

    assert found["v_rmse_V"] == pytest.approx(0.01, rel=1e-3)
    assert found["i_rmse_A"] == pytest.approx(0.02, rel=1e-6)
    assert found["t_end_err"] == pytest.approx(0.0, abs=1e-9)
    assert found["energy_err"] == pytest.approx(3.65 / (3.66 * 1.02) - 1.0, rel=1e-4)
    longer = measured.assign(t_s=t_s * 1.01)
    assert validate(tmp_path, "cc,1,3600,,,25,1\n", longer).plain["t_end_err"] == pytest.approx(1 / 1.01 - 1.0)


def test_both_sides_of_a_step_of_load_are_no_error(tmp_path: Path) -> None:
    """A course written with a row on either side of each step of load compares as equal."""
    measured = pd.DataFrame({
        "t_s": [0.0, 0.0, 1800.0, 1800.0, 3600.0, 3600.0, 5400.0], "i_A": [0.0, 1.0, 1.0, 0.0, 0.0, -1.0, -1.0],
        "v_V": [4.0, 3.9, 3.65, 3.75, 3.75, 3.85, 4.1],
    })  # fmt: skip

    found = validate(tmp_path, "cc,1,1800,,,25,1\nrest,,1800,,,25,\ncc,-1,1000,,,25,\n", measured.iloc[:6]).plain

    assert found["v_rmse_V"] == pytest.approx(0.0, abs=1e-6)
    assert found["i_rmse_A"] == pytest.approx(0.0, abs=1e-9)


def test_charging_ends_in_a_tail(tmp_path: Path) -> None:
    """CC to 4 V, then CV: s = 0.8 after the first at 2 A, then the current falls as exp(-t / (R Q)) to its end."""
    outcome = validate(tmp_path, "cc,-2,,4.0,,25,0.3\ncv,4.0,,,0.1,25,\n")

    tail_s = 0.1 * 2.0 * 3600.0 * np.log(2.0 / 0.1)
    assert outcome.plain["t_end_s"] == pytest.approx(1800.0 + tail_s, rel=1e-6)
    assert "current" in outcome.text


def test_a_profile_ends_at_the_cut_off_but_stages_go_on(tmp_path: Path) -> None:
    """Timed loads stop where one meets the lowest voltage; stages that end by voltage alone follow one another."""
    profile = "cp,3,3000,2.9,,25,0.5\n" + "cp,9,3000,2.9,,25,\ncp,0.5,3000,2.9,,25,\n" * 2

    shut = validate(tmp_path, profile)
    staged = validate(tmp_path, "cc,4,,2.9,,25,0.5\ncc,1,,2.9,,25,\n")

    assert shut.text.splitlines()[0] == "straight: 2 of 5 steps"
    assert shut.plain["t_end_s"] < 6000.0
    assert staged.text.splitlines()[0] == "straight: 2 of 2 steps"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("cc,1,,3.4,,25,1.2\n", "row 1: soc0 is 1.2; allowed: 0 to 1"),
        ("cc,1,,3.4,,25,\n", "row 1: soc0 is empty"),
        ("cc,1,,3.4,,25,1\nzap,1,,3.4,,25,\n", r"row 2: mode is 'zap'; allowed: cc, cp, cv, rest"),
        ("cc,one,,3.4,,25,1\n", "row 1: value is 'one'"),
        ("cc,nan,,3.4,,25,1\n", "row 1: value is nan; allowed: finite numbers"),
        ("cc,,,3.4,,25,1\n", "row 1: value is empty"),
        ("cc,1,-5,,,25,1\n", "row 1: until_t_s is -5.0; allowed: numbers from 0 up"),
        ("cc,1,,-3,,25,1\n", "row 1: until_v_V is -3.0"),
        ("cv,4.0,,,-1,25,1\n", "row 1: until_i_A is -1.0"),
        ("cc,1,,3.4,,inf,1\n", "row 1: ambient_C is inf"),
        ("cc,1,,3.4,,,1\n", "row 1: ambient_C is empty"),
        ("cc,1,,3.4,,999,1\n", "row 1: ambient_C is 999"),
        ("rest,,,,,25,1\n", "row 1: a rest step without current has no until_t_s"),
        ("cc,1,60,,,25,1\ncv,99,60,,,25,\n", "row 2: value is 99 V in a cv step; .*'straight': 2.8 to 4.1 V"),
        ("cv,2.7,60,,,25,1\n", "row 1: value is 2.7 V in a cv step"),
        ("cc,1e6,60,,,25,1\n", r"row 1: value is 1e\+06 A in a cc step; .*: -800 to 800 A"),
        ("cp,-4000,60,,,25,1\n", "row 1: value is -4000 W in a cp step; .*: -3200 to 3200 W"),
        ("", "holds no steps"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: str, said: str) -> None:
    """One line names row, field, value and what is allowed."""
    with pytest.raises(UsageError, match=said) as refused:
        validate(tmp_path, rows)
    assert "\n" not in str(refused.value)


def test_bad_measurements_are_named(tmp_path: Path) -> None:
    """A missing column, a value that is not finite, and time that falls are one line each."""
    good = pd.DataFrame({"t_s": [0.0, 1.0], "v_V": [3.9, 3.9], "i_A": [1.0, 1.0]})
    for measured, said in (
        (good.drop(columns="v_V"), "lacks v_V"),
        (good.assign(i_A=[1.0, np.inf]), "row 2: i_A is inf"),
        (good.assign(t_s=[1.0, 0.0]), "row 2: t_s falls"),
    ):
        with pytest.raises(UsageError, match=said):
            validate(tmp_path, "cc,1,10,,,25,1\n", measured)


def test_a_programme_without_its_columns_is_refused(tmp_path: Path) -> None:
    """The missing columns are named, and so is a file that is not there."""
    (tmp_path / "run.csv").write_text("mode,value\ncc,1\n")
    with pytest.raises(UsageError, match="lacks until_t_s, until_v_V, until_i_A, ambient_C, soc0"):
        battery.read_programme(tmp_path / "run.csv")
    with pytest.raises(UsageError, match="cannot be read"):
        battery.read_programme(tmp_path / "none.csv")
