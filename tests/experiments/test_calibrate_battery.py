"""The battery calibration finds the cell that made its data, and says what is wrong with other data.

The data are a made-up cell on a made-up bench, computed by the law itself.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.calibration import Outcome, battery, lgm50
from experiments.calibration.cells_io import Course, Given, courses, read_given, read_table
from experiments.calibration.circuit_fit import (
    ACTIVATION_J_MOL,
    KNEE_V,
    Shape,
    choose_pairs,
    make_rows,
    several_currents,
    terminal_v,
)
from experiments.calibration.heat_fit import fit_heat, pair_voltages
from experiments.calibration.low_charge import below_last_load
from experiments.calibration.stored_cell import load_cell, load_stored
from experiments.compose import UsageError
from models.battery.cell import Cell, Pair
from models.battery.circuit import State, circuit, open_v, resistances_ohm, with_knee
from models.battery.circuit import terminal_v as terminal_voltage
from models.battery.heat import heat_now_w
from models.battery.protocol import Run, Step, run

jax = pytest.importorskip("jax")

# Knots of charge are among those of the fit, so that the truth can be found. Numbers of no cell in particular.
TRUTH = Cell(
    name="made up",
    chemistry="nmc",
    source="test",
    capacity_ah=5.0,
    v_min=2.8,
    v_max=4.2,
    ocv_soc=(0.0, 0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 1.0),
    ocv_v=(2.8, 3.2, 3.43, 3.58, 3.745, 3.938, 4.06, 4.2),
    r_soc=(0.0, 0.1, 0.2, 0.5, 0.8, 1.0),
    r0_ohm=(0.04, 0.03, 0.027, 0.025, 0.024, 0.026),
    r0_activation_j_mol=20e3,
    pairs=(
        Pair(15.0, (0.02, 0.012, 0.011, 0.010, 0.011, 0.012), 35e3, 0.8),
        Pair(400.0, (0.03, 0.018, 0.015, 0.014, 0.015, 0.016), 28e3, 0.3),
    ),
    heat_j_per_k=43.0,
    cooling_w_per_k=0.05,
    r0_knee_v=KNEE_V,
    entropic_soc=(0.0, 0.2, 0.5, 0.8, 1.0),
    entropic_v_per_k=(-4e-4, -3e-4, 1e-4, 2e-4, 0.0),
)
BLOCKS = 5
SEEN_SOC = np.linspace(0.1, 0.9, 17)  # where the pulses measure an entropic table


def pulse_steps(ambient_c: float, amps: float = 5.0) -> list[Step]:
    """Return blocks of a discharge pulse, a charge pulse and a fifth of the charge, with rests."""
    block = [("cc", amps, 30.0), ("rest", 0.0, 600.0), ("cc", -amps / 2, 30.0), ("rest", 0.0, 600.0),
             ("cc", amps / 3, 0.19 * 3 * 3600.0), ("rest", 0.0, 3600.0)]  # fmt: skip
    return [Step(mode, value, until_t_s=length, ambient_c=ambient_c) for mode, value, length in block * BLOCKS]


def rows(course: Run, ambient_c: float, noise_v: float, rng: np.random.Generator) -> pd.DataFrame:
    """Return a course as rows with noise."""
    frame = pd.DataFrame({
        "ambient_C": ambient_c, "t_s": course.t_s, "v_V": course.v_v, "i_A": course.i_a, "temp_C": course.temp_c,
        "q_Ah": (course.soc[0] - course.soc) * TRUTH.capacity_ah,
    })  # fmt: skip
    frame["v_V"] += noise_v * rng.standard_normal(len(frame))
    return frame


def write_bench(
    folder: Path, ambients: Sequence[float], noise_v: float = 0.0, names: Sequence[str] = (), cell: Cell = TRUTH
) -> list[str]:
    """Write the three files; return the options that name them."""
    rng = np.random.default_rng(11)
    hppc = pd.concat([rows(run(cell, pulse_steps(t), 0.98), t, noise_v, rng) for t in ambients])
    slow = pd.concat([
        rows(run(cell, [Step("cc", 0.1, ambient_c=t)], 1.0, sample_s=np.linspace(0.0, 178_000.0, 300)), t, noise_v, rng)
        for t in ambients
    ])  # fmt: skip
    for frame, name in ((hppc, "hppc.csv.gz"), (slow.dropna(), "ocv.csv")):
        parts = [frame.assign(cell=each) for each in names] or [frame]
        pd.concat(parts).to_csv(folder / name, index=False)
    given = {"vmin": 2.8, "vmax": 4.2, "Q_esoh_Ah": 5.0, "nominal_Ah": 5.0, "h_W_m2K": 10.0, "A_m2": 0.005,
             "rho_c_J_m3K": 1.72e6, "V_m3": 2.5e-5}  # fmt: skip
    (folder / "params.json").write_text(json.dumps({each: given for each in names} if names else given))
    return options_of(folder)


def options_of(folder: Path) -> list[str]:
    """Return the options that name a bench's files."""
    return ["--hppc", str(folder / "hppc.csv.gz"), "--ocv", str(folder / "ocv.csv"),
            "--params", str(folder / "params.json"), "--out", str(folder / "cell.json")]  # fmt: skip


def calibrate(words: list[str]) -> Outcome:
    """Run the command with these words."""
    parser = argparse.ArgumentParser()
    battery.add_arguments(parser)
    return battery.run(parser.parse_args(words))


def truth_parameters() -> tuple[Shape, np.ndarray]:
    """Return the made-up cell as the fit's parameters."""
    shape = Shape(np.array(TRUTH.ocv_soc), np.array(TRUTH.r_soc), len(TRUTH.pairs), None, TRUTH.r0_knee_v)
    tables = [TRUTH.r0_ohm, *(pair.r_ohm for pair in TRUTH.pairs)]
    energies = [TRUTH.r0_activation_j_mol, *(pair.activation_j_mol for pair in TRUTH.pairs)]
    parts = [TRUTH.ocv_v, *(np.log(table) for table in tables), np.log([pair.tau_s for pair in TRUTH.pairs])]
    return shape, np.concatenate([*parts, np.array(energies) / 1e4])


def truth_at(soc: Sequence[float], table: Sequence[float]) -> np.ndarray:
    """Return a table of the made-up cell at other knots."""
    return np.interp(soc, TRUTH.r_soc, table)


def test_the_fitted_law_is_the_law_of_the_models(tmp_path: Path) -> None:
    """Driven by the bench's current, charge and temperature, the fit's law gives the bench's voltage to 1.5 mV.

    (The bench freezes the temperature for up to 0.1 K; the fit takes each row's own.) NumPy and JAX agree to rounding.
    """
    jax.config.update("jax_enable_x64", True)  # as every fit does
    write_bench(tmp_path, [5.0])
    found = courses(tmp_path, read_table(tmp_path / "hppc.csv.gz"), "pulses", 0.98, TRUTH.capacity_ah)
    shape, x = truth_parameters()
    rows = make_rows(found, shape, TRUTH.v_min, [np.zeros(c.t_s.size, dtype=bool) for c in found], 1.0)

    volts = terminal_v(x, rows, shape)

    counted = rows.weight > 0.0
    assert np.abs(volts - rows.v_v)[counted].max() < 1.5e-3
    assert np.sqrt(np.mean((volts - rows.v_v)[counted] ** 2)) < 3e-4
    assert np.abs(np.asarray(terminal_v(jax.numpy.asarray(x), rows, shape, jax.numpy)) - volts).max() < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("noise_v", [0.0, 1e-3])
def test_a_known_cell_is_found_again(tmp_path: Path, noise_v: float) -> None:
    """From three temperatures each number is found within three of its standard errors and a little for the knots."""
    outcome = calibrate([*write_bench(tmp_path, [5.0, 25.0, 40.0], noise_v), "--pairs", "2"])

    stored = load_stored(tmp_path / "cell.json")
    cell, errors = stored.cell, stored.fit["standard_errors"]
    for pair, true, tau_error in zip(cell.pairs, TRUTH.pairs, errors["tau_s"], strict=True):
        assert abs(pair.tau_s - true.tau_s) < 3.0 * tau_error + 0.005 * true.tau_s
    energies = [cell.r0_activation_j_mol, *(pair.activation_j_mol for pair in cell.pairs)]
    true_energies = [TRUTH.r0_activation_j_mol, *(pair.activation_j_mol for pair in TRUTH.pairs)]
    for energy, true_energy, error in zip(energies, true_energies, errors["activation_j_mol"], strict=True):
        assert abs(energy - true_energy) < 3.0 * error + 300.0
    assert cell.r0_knee_v == TRUTH.r0_knee_v
    soc = np.array(errors["r_soc"])
    middle = (soc >= 0.2) & (soc <= 0.9)
    tables = [cell.r0_ohm, *(pair.r_ohm for pair in cell.pairs)]
    true_tables = [TRUTH.r0_ohm, *(pair.r_ohm for pair in TRUTH.pairs)]
    for table, true_table, error in zip(tables, true_tables, errors["r_ohm"], strict=True):
        off = np.abs(np.array(table)[-soc.size :] - truth_at(soc, true_table))[middle]
        assert (off < 3.0 * np.array(error)[middle] + 0.03 * truth_at(soc, true_table)[middle]).all()
    # Below, two knots of the truth lie between knots of the fit.
    assert np.abs(np.interp(TRUTH.ocv_soc[3:], cell.ocv_soc, cell.ocv_v) - TRUTH.ocv_v[3:]).max() < 2e-3
    assert cell.heat_share == 1.0
    assert [pair.heat_share for pair in cell.pairs] == pytest.approx([0.8, 0.3], abs=0.12 + 50.0 * noise_v)
    entropic = np.interp(SEEN_SOC, cell.entropic_soc, cell.entropic_v_per_k)
    assert np.abs(entropic - np.interp(SEEN_SOC, TRUTH.entropic_soc, TRUTH.entropic_v_per_k)).max() < 2e-5
    assert stored.fit["converged"]
    assert "2 pairs" in outcome.text


def heat_course(cell: Cell, ambient_c: float) -> Course:
    """Return a cell's pulses on the bench, with its temperatures."""
    course = run(cell, pulse_steps(ambient_c), 0.98)
    columns = (course.t_s, course.v_v, course.i_a, course.temp_c, course.soc)
    return Course("pulses", ambient_c, *columns, pulse=np.full(course.t_s.size, -1), warm=True)


@pytest.mark.parametrize("known", [True, False])
def test_known_shares_of_heat_and_entropy_are_found_again(known: bool) -> None:
    """From temperatures of the law and the true circuit: each share to 0.06 (0.03 where the lump is given),
    entropy to 0.015 mV/K, the lump to 3 %.
    """
    lump = (TRUTH.heat_j_per_k, TRUTH.cooling_w_per_k) if known else (None, None)
    cold = replace(TRUTH, pairs=tuple(replace(pair, heat_share=1.0) for pair in TRUTH.pairs), entropic_soc=(),
                   entropic_v_per_k=())  # fmt: skip

    found = fit_heat([heat_course(TRUTH, t) for t in (5.0, 25.0)], cold, Given("", 2.8, 4.2, 5.0, 5.0, *lump))

    assert found.pair_shares == pytest.approx((0.8, 0.3), abs=0.03 if known else 0.06)
    entropic = np.interp(SEEN_SOC, found.entropic_soc, found.entropic_v_per_k)
    assert np.abs(entropic - np.interp(SEEN_SOC, TRUTH.entropic_soc, TRUTH.entropic_v_per_k)).max() < 1.5e-5
    assert (found.heat_j_per_k, found.cooling_w_per_k) == pytest.approx((43.0, 0.05), rel=0.03)
    assert found.rms_k < 0.02


def test_the_fitted_pairs_are_those_of_the_models() -> None:
    """Voltages over the pairs under a measured course are those of the bench, as its terminals show, to 1.5 mV."""
    course = heat_course(replace(TRUTH, entropic_soc=(), entropic_v_per_k=()), 25.0)
    rows = circuit(TRUTH, course.temp_c)
    state = State(course.soc, pair_voltages(course, TRUTH))
    rows = with_knee(rows, resistances_ohm(rows, state.soc)[0] * course.i_a)
    settled_v = terminal_voltage(rows, state, course.i_a)
    assert np.abs(settled_v - course.v_v).max() < 1.5e-3


def test_without_temperatures_all_that_is_lost_is_heat() -> None:
    """No measured temperature: shares of 1, no entropic table, the stated lump."""
    course = replace(heat_course(TRUTH, 25.0), warm=False)
    found = fit_heat([course], TRUTH, Given("", 2.8, 4.2, 5.0, 5.0, None, None))
    assert (found.pair_shares, found.entropic_soc, found.heat_j_per_k) == ((1.0, 1.0), (), 45.0)


@pytest.mark.slow
def test_one_temperature_is_enough(tmp_path: Path) -> None:
    """At 25 C alone activation energies are the stated ones, said to be so; resistances are found, a figure drawn."""
    outcome = calibrate([*write_bench(tmp_path, [25.0]), "--pairs", "2", "--figure", str(tmp_path / "fit.png")])

    cell = load_cell(tmp_path / "cell.json")
    assert [pair.activation_j_mol for pair in cell.pairs] == [ACTIVATION_J_MOL] * 2
    assert "activation energies 25000 J/mol: assumed" in outcome.text
    assert np.interp(0.5, cell.r_soc, cell.r0_ohm) == pytest.approx(0.025, rel=0.03)
    assert (tmp_path / "fit.png").stat().st_size > 10_000
    inputs = load_stored(tmp_path / "cell.json").provenance["inputs"]
    assert len(inputs["hppc"]["sha256"]) == 64
    json.dumps(outcome.plain, allow_nan=False)


@pytest.mark.parametrize(
    ("amps", "several"), [((5.0, -2.5), True), ((5.0, 3.0), True), ((5.0, -5.0), False), ((5.0, 4.0), False)]
)
def test_only_short_loads_of_several_currents_tell_a_bend(amps: Sequence[float], several: bool) -> None:
    """Pulses a factor of 1.5 apart show where R0 bends; pulses of one current beside a slow discharge do not."""
    loads = [("cc", amps[0], 30.0), ("rest", 0.0, 600.0), ("cc", amps[1], 30.0), ("rest", 0.0, 600.0),
             ("cc", 1.0, 3600.0)]  # fmt: skip
    course = run(TRUTH, [Step(mode, value, until_t_s=length) for mode, value, length in loads], 0.9)
    found = courses(Path("made up"), rows(course, 25.0, 0.0, np.random.default_rng(0)), "pulses", 0.9, 5.0)

    assert [several_currents(one) for one in found] == [several]


@pytest.mark.nightly
def test_the_number_of_pairs_is_chosen_on_pulses_left_out(tmp_path: Path) -> None:
    """A cell with three well separate pairs is predicted better by three."""
    third = Pair(1500.0, (0.03, 0.02, 0.02, 0.02, 0.02, 0.02), 28e3)
    write_bench(
        tmp_path, [25.0], cell=replace(TRUTH, pairs=(TRUTH.pairs[0], replace(TRUTH.pairs[1], tau_s=120.0), third))
    )
    given = read_given(tmp_path / "params.json", "")
    slow = courses(tmp_path, read_table(tmp_path / "ocv.csv"), "open circuit", 1.0, TRUTH.capacity_ah)
    pulses = courses(tmp_path, read_table(tmp_path / "hppc.csv.gz"), "pulses", 0.98, TRUTH.capacity_ah)

    chosen, scores = choose_pairs(slow, pulses, given)

    assert chosen == 3
    assert scores[3] < 0.7 * scores[2]


def test_resistance_below_the_last_load_follows_the_stated_rule() -> None:
    """Slow pairs grow from their median with the root of the slope of the open-circuit curve; R0 and fast ones stay."""
    ocv_soc, ocv_v = np.array([0.0, 0.1, 1.0]), np.array([3.0, 3.4, 3.5])  # slopes 4 and 1/9 V

    soc, ohm = below_last_load(
        np.array([0.3, 0.4, 1.0]), np.array([[0.03, 0.02, 0.01]] * 3), np.array([10.0, 300.0]), ocv_soc, ocv_v
    )

    assert soc.tolist() == [0.0, 0.02, 0.04, 0.07, 0.1, 0.15, 0.3, 0.4, 1.0]
    assert ohm[:2, :6].tolist() == [[0.03] * 6] * 2
    assert ohm[2, 0] == pytest.approx(0.02 * 36.0**0.5)
    assert ohm[2, 5] == pytest.approx(0.02)
    assert (ohm[2, 6:] == [0.03, 0.02, 0.01]).all()


@pytest.fixture(scope="module")
def stored_file(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A stored cell as plain data."""
    from experiments.calibration.stored_cell import save_cell

    path = tmp_path_factory.mktemp("stored") / "cell.json"
    save_cell(path, TRUTH, {}, {})
    assert load_cell(path) == TRUTH
    return dict(json.loads(path.read_text()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f["cell"].update(ocv_v=[3.0, 2.9, *f["cell"]["ocv_v"][2:]]), r"ocv_v\[1\] is 2.9 after 3.0"),
        (lambda f: f["cell"].update(ocv_soc=[0.0, 0.3, 0.2, *f["cell"]["ocv_soc"][3:]]), r"ocv_soc\[2\] is 0.2"),
        (lambda f: f["cell"].update(ocv_soc=[*f["cell"]["ocv_soc"][:-1], 1.1]), "from 0 to 1"),
        (lambda f: f["cell"].update(r_soc=[-0.1, *f["cell"]["r_soc"][1:]]), "between 0 and 1"),
        (lambda f: f["cell"]["r0_ohm"].__setitem__(2, -0.01), r"r0_ohm\[2\] is -0.01"),
        (lambda f: f["cell"].update(capacity_ah=float("nan")), "capacity_ah is nan"),
        (lambda f: f["cell"]["pairs"][0].update(tau_s=float("inf")), r"pairs\[0\].tau_s is inf"),
        (lambda f: f["cell"]["pairs"][1].update(heat_share=-0.1), r"pairs\[1\].heat_share is -0.1"),
        (lambda f: f["cell"].update(pairs=[]), "pairs has 0; allowed: 2 or 3, fastest first"),
        (lambda f: f["cell"]["pairs"].pop(), "pairs has 1; allowed: 2 or 3"),
        (lambda f: f["cell"].update(pairs=f["cell"]["pairs"][-1:] * 6), "pairs has 6; allowed: 3 at most"),
        (lambda f: f["cell"]["pairs"].reverse(), r"pairs\[1\].tau_s is 15.0 after 400.0; allowed: fastest first"),
        (lambda f: f["cell"]["entropic_v_per_k"].__setitem__(0, 0.4), r"entropic_v_per_k\[0\] is 0.4"),
        (lambda f: f["cell"].pop("v_min"), "missing required field `v_min`"),
        (lambda f: f["cell"].update(capacity_ah="five"), "capacity_ah"),
        (lambda f: f.update(format=99), "format is 99; allowed: 1"),
        (lambda f: f.update(kind="phone"), "is not a calibrated cell"),
    ],
)
def test_a_file_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, stored_file: dict[str, Any], change: Any, said: str
) -> None:
    """Each mistake names its field; nothing is loaded."""
    plain = json.loads(json.dumps(stored_file))
    change(plain)
    path = tmp_path / "cell.json"
    path.write_text(json.dumps(plain))

    with pytest.raises(UsageError, match=said) as refused:
        load_cell(path)
    assert "\n" not in str(refused.value)


def test_a_file_without_shares_and_entropy_still_loads(tmp_path: Path, stored_file: dict[str, Any]) -> None:
    """An older file has one share of heat for everything: its pairs have all of it, and there is no entropy."""
    plain = json.loads(json.dumps(stored_file))
    plain["cell"]["heat_share"] = 0.71
    for name in ("entropic_soc", "entropic_v_per_k", "r0_knee_v"):
        plain["cell"].pop(name)
    for pair in plain["cell"]["pairs"]:
        pair.pop("heat_share")
    path = tmp_path / "cell.json"
    path.write_text(json.dumps(plain))

    cell = load_cell(path)
    rows, state = circuit(cell, 25.0), State(np.array([0.5]), np.array([[0.03], [0.05]]))

    lost_v = open_v(cell, state.soc) - terminal_voltage(rows, state, 4.0)
    assert heat_now_w(rows, state, np.array([4.0])) == pytest.approx(0.71 * lost_v * 4.0)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of one temperature, of two cells; not to be changed."""
    folder = tmp_path_factory.mktemp("bench")
    write_bench(folder, [25.0], names=["ash", "elm"])
    return folder


def copied(written: Path, folder: Path) -> list[str]:
    """Copy the files; return the options that name them."""
    for name in ("hppc.csv.gz", "ocv.csv", "params.json"):
        shutil.copy(written / name, folder / name)
    return options_of(folder)


def spoil(folder: Path, column: str, row: int, value: Any) -> None:
    """Write a value into the pulses."""
    frame = pd.read_csv(folder / "hppc.csv.gz")
    frame[column] = frame[column].astype(object)
    frame.loc[row, column] = value
    frame.to_csv(folder / "hppc.csv.gz", index=False)


@pytest.mark.parametrize(
    ("column", "row", "value", "said"),
    [
        ("v_V", 6, "nan", r"row 7: v_V is nan; allowed: finite numbers"),
        ("i_A", 3, "inf", r"row 4: i_A is inf"),
        ("t_s", 9, -5.0, r"row 10: t_s is -5, before the row above"),
        ("q_Ah", 12, 9.0, r"row 13: state of charge is -0.820.*allowed: 0 to 1"),
    ],
)
def test_bad_rows_are_named(written: Path, tmp_path: Path, column: str, row: int, value: Any, said: str) -> None:
    """One line names file, row, field and what is allowed."""
    words = copied(written, tmp_path)
    spoil(tmp_path, column, row, value)

    with pytest.raises(UsageError, match=said):
        calibrate([*words, "--name", "ash"])


def test_several_cells_need_a_name(written: Path, tmp_path: Path) -> None:
    """Without --name the line lists the cells; with an unknown one too; a column that is missing is named."""
    words = copied(written, tmp_path)

    with pytest.raises(UsageError, match="holds 2 cells, ash, elm; allowed: one of them as --name"):
        calibrate(words)
    with pytest.raises(UsageError, match=r"--name oak: not in .*; allowed: ash, elm"):
        calibrate([*words, "--name", "oak"])
    frame = pd.read_csv(tmp_path / "ocv.csv").drop(columns="i_A")
    frame.to_csv(tmp_path / "ocv.csv", index=False)
    with pytest.raises(UsageError, match="lacks i_A"):
        calibrate(words)


def test_parameters_that_cannot_be_are_refused(tmp_path: Path) -> None:
    """A negative or missing limit, or text that is not JSON, is one line."""
    path = tmp_path / "params.json"
    for text, said in (
        ('{"vmin": 3, "vmax": 2}', "two voltages that rise"),
        ('{"vmin": -3, "vmax": 4}', "vmin is -3; allowed: numbers above 0"),
        ('{"a": {"vmin": 3, "vmax": 4}}', "has no cell elm; allowed: a"),
        ("vmin: 3", "cannot be read as JSON"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=said):
            read_given(path, "elm")


def test_the_lg_m50_bench_reads_into_the_same_columns(data_folder: Path) -> None:
    """Charge stays within 0 and 1; of each of nine pulses at every temperature the load has the current, the rest none:
    within 10 s the voltage is back by more than 50 mV."""
    folder = data_folder / "cell_tests"
    slow = courses(folder, lgm50.open_circuit(folder), "open circuit", 1.0, lgm50.CAPACITY_AH)
    pulses = courses(folder, lgm50.pulses(folder), "pulses", 1.0, lgm50.CAPACITY_AH)
    rates = lgm50.rate_tests(folder)

    assert (np.diff(slow[0].v_v) < 0.0).all()
    assert {course.ambient_c for course in pulses} == {0.0, 10.0, 25.0, 45.0}
    assert all(course.pulse.max() == 8 for course in pulses)
    for course in pulses:
        for number in range(8):  # the ninth at 10 C met the cut-off
            rows = np.flatnonzero(course.pulse == number)
            loaded, resting = rows[course.i_a[rows] > 0.0], rows[course.i_a[rows] == 0.0][:8]
            assert course.t_s[resting[-1]] - course.t_s[loaded[-1]] < 10.0
            assert course.v_v[resting].min() > course.v_v[loaded[-1]] + 0.05
    assert len(rates) == 12
    assert all(frame["i_A"].min() > -0.05 for frame in rates.values())


@pytest.mark.parametrize("option", ["--out", "--figure"])
def test_a_folder_is_no_place_for_a_cell(option: str, tmp_path: Path) -> None:
    """It is refused before a file is read."""
    files = ["--hppc", "nowhere.csv", "--ocv", "nowhere.csv", "--params", "nowhere.json"]
    with pytest.raises(UsageError, match=f"{option} {tmp_path}: must be a file in a folder that exists"):
        calibrate([*files, option, str(tmp_path)])
