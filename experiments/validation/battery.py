"""`twin validate battery`: a calibrated cell through a bench programme, and how far that is from a measured course.

twin validate battery run.csv --cell cell.json --measured course.csv --json
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.calibration import Outcome
from experiments.calibration.cells_io import read_table
from experiments.calibration.stored_cell import load_cell
from experiments.compose import UsageError
from models.battery.cell import Cell
from models.battery.protocol import MODES, Run, Step
from models.battery.protocol import run as run_protocol

COLUMNS = ("mode", "value", "until_t_s", "until_v_V", "until_i_A", "ambient_C", "soc0")
MEASURED = ("t_s", "v_V", "i_A")
_STEPS_SHOWN = 24  # of a long programme, in the text
_CV_MARGIN_V = 0.1  # our choice: some twice of what a charger may be off by (1 % of 4.2 V)
_C_RATE_MOST = 400.0  # the fastest discharge seen of a lithium-ion electrode (Kang and Ceder, Nature 458, 2009), 1/h
_SAME_TIME_S = 1e-6  # rows closer than this are the two sides of a step of load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("run", type=Path, metavar="RUN.csv",
                        help=f"one row a step: {', '.join(COLUMNS)}; value is A (discharge > 0), W or V; "
                        "an empty until_* is not used; soc0 in row 1")  # fmt: skip
    parser.add_argument("--cell", type=Path, required=True, metavar="FILE", help="what `twin calibrate battery` wrote")
    parser.add_argument("--measured", type=Path, default=None, metavar="M.csv",
                        help="t_s, v_V, i_A and, if there is one, temp_C")  # fmt: skip


def run(options: argparse.Namespace) -> Outcome:
    """Run the programme and compare.

    Raises:
        UsageError: a file that cannot be; one line with row and field.
    """
    cell = load_cell(options.cell)
    steps, soc0 = read_programme(options.run)
    _check_values(options.run, cell, steps)
    measured = None
    if options.measured is not None:
        frame = read_table(options.measured, MEASURED, ("temp_C",))
        measured = {name: frame[name].to_numpy() for name in (*MEASURED, "temp_C") if name in frame.columns}
        falls = np.flatnonzero(np.diff(measured["t_s"]) < 0.0)
        if falls.size:
            raise UsageError(f"{options.measured} row {falls[0] + 2}: t_s falls; allowed: times that do not fall")
    found, course = compare(cell, steps, soc0, measured)
    return Outcome(found, _text(cell, steps, found, course))


def compare(
    cell: Cell, steps: Sequence[Step], soc0: float, measured: dict[str, np.ndarray] | None = None
) -> tuple[dict[str, Any], Run]:
    """Return the figures of the command, and the simulated course.

    Args:
        cell: the cell.
        steps: the programme.
        soc0: charge at the start, 0 to 1.
        measured: ``t_s, v_V, i_A`` and perhaps ``temp_C``; without it all comparisons are None.
    """
    steps = list(steps)
    temp0_c = float(measured["temp_C"][0]) if measured is not None and "temp_C" in measured else None
    course = run_protocol(cell, steps, soc0, temp0_c)
    if (last := _cut_off_at(cell, steps, course)) is not None:
        steps = steps[: last + 1]
        course = run_protocol(cell, steps, soc0, temp0_c)
    rise_k = float(course.temp_c.max() - course.temp_c[0])
    found: dict[str, Any] = {
        "t_end_s": course.t_end_s, "v_rmse_V": None, "i_rmse_A": None, "t_rise_K": rise_k, "t_end_err": None,
        "energy_err": None,
    }  # fmt: skip
    if measured is None:
        return found, course
    t_s = measured["t_s"] - measured["t_s"][0]
    sampled = run_protocol(cell, steps, soc0, temp0_c, sample_s=t_s)
    # Where two rows share a time, the first is the side before the step of load, which is what the samples hold.
    first = np.append(True, np.diff(t_s) > _SAME_TIME_S)
    if t_s.size > 1 and not first[1]:
        first[:2] = False, True  # at the start the samples hold the side after
    counted = first & np.isfinite(sampled.v_v)
    for name, column, ours in (("v_rmse_V", "v_V", sampled.v_v), ("i_rmse_A", "i_A", sampled.i_a)):
        if counted.any():
            found[name] = float(np.sqrt(np.mean((ours - measured[column])[counted] ** 2)))
    if t_s[-1] > 0.0:
        found["t_end_err"] = float(course.t_end_s / t_s[-1] - 1.0)
    energy_wh = float(np.trapezoid(measured["v_V"] * measured["i_A"], t_s)) / 3600.0
    if energy_wh != 0.0:
        found["energy_err"] = float(course.energy_wh / energy_wh - 1.0)
    return found, course


def read_programme(path: Path) -> tuple[list[Step], float]:
    """Return the steps and the charge at the start.

    Raises:
        UsageError: unreadable, a column missing, or a value that cannot be; one line with row and field.
    """
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            absent = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if absent:
                raise UsageError(f"{path}: lacks {', '.join(absent)}; allowed: a CSV with {', '.join(COLUMNS)}")
            rows = list(reader)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    if not rows:
        raise UsageError(f"{path}: holds no steps; allowed: one row or more")
    soc0 = _number(path, 1, "soc0", rows[0]["soc0"], "a number from 0 to 1, in row 1")
    if not 0.0 <= soc0 <= 1.0:
        raise UsageError(f"{path} row 1: soc0 is {soc0:g}; allowed: 0 to 1")
    steps: list[Step] = []
    for count, row in enumerate(rows, start=1):
        mode = (row["mode"] or "").strip()
        if mode not in MODES:
            raise UsageError(f"{path} row {count}: mode is {mode!r}; allowed: {', '.join(MODES)}")
        blank = {"value": 0.0 if mode == "rest" else None, "until_t_s": math.inf, "until_v_V": math.nan,
                 "until_i_A": math.nan, "ambient_C": steps[-1].ambient_c if steps else None}  # fmt: skip
        read = {name: _number(path, count, name, row[name], "finite numbers", empty) for name, empty in blank.items()}
        try:
            step = Step(mode, read["value"], read["until_t_s"], read["until_v_V"], read["until_i_A"], read["ambient_C"])
        except ValueError as error:
            text = str(error)
            for ours, theirs in (("until_v_v", "until_v_V"), ("until_i_a", "until_i_A"), ("ambient_c", "ambient_C")):
                text = text.replace(ours, theirs)
            raise UsageError(f"{path} row {count}: {text}") from None
        steps.append(step)
    return steps, soc0


def _check_values(path: Path, cell: Cell, steps: Sequence[Step]) -> None:
    """Refuse what no bench would do to this cell: the laws would give an answer, but it would stand for nothing."""
    most_a = _C_RATE_MOST * cell.capacity_ah
    least_v, most_v = cell.v_min - _CV_MARGIN_V, cell.v_max + _CV_MARGIN_V
    spans = {"cv": (least_v, most_v, "V"), "cc": (-most_a, most_a, "A"), "rest": (-math.inf, math.inf, ""),
             "cp": (-most_a * cell.v_max, most_a * cell.v_max, "W")}  # fmt: skip
    for count, step in enumerate(steps, start=1):
        least, most, unit = spans[step.mode]
        if not least <= step.value <= most:
            raise UsageError(
                f"{path} row {count}: value is {step.value:g} {unit} in a {step.mode} step; allowed for cell "
                f"{cell.name!r}: {least:g} to {most:g} {unit}"
            )


def _number(path: Path, row: int, field: str, text: str | None, allowed: str, empty: float | None = None) -> float:
    stripped = (text or "").strip()
    if not stripped:
        if empty is None:
            raise UsageError(f"{path} row {row}: {field} is empty; allowed: {allowed}")
        return empty
    try:
        value = float(stripped)
    except ValueError:
        raise UsageError(f"{path} row {row}: {field} is {stripped!r}; allowed: {allowed}") from None
    if not math.isfinite(value):
        raise UsageError(f"{path} row {row}: {field} is {stripped}; allowed: {allowed}")
    return value


def _cut_off_at(cell: Cell, steps: Sequence[Step], course: Run) -> int | None:
    """Return the step in which a load profile met the cut-off, None where none did.

    A timed discharge that is cut short at the cell's own lowest voltage, with the next discharge right behind it, is a
    device that has shut down: its profile does not go on. A programme that empties the cell in stages ends its stages
    by voltage alone, without a time, and does go on.
    """
    for index, (step, end) in enumerate(zip(steps, course.steps, strict=False)):
        discharge = step.mode in ("cc", "cp") and step.value > 0.0
        own_cut = math.isfinite(step.until_t_s) and step.until_v_v <= cell.v_min + 1e-9 and end.reason == "voltage"
        following = steps[index + 1] if index + 1 < len(steps) else None
        if discharge and own_cut and following is not None and following.mode in ("cc", "cp") and following.value > 0.0:
            return index
    return None


def _text(cell: Cell, steps: Sequence[Step], found: dict[str, Any], course: Run) -> str:
    lines = [f"{cell.name}: {len(course.steps)} of {len(steps)} steps"]
    lines.append(f"{'step':>5} {'mode':5}{'value':>10}{'ends s':>12}  {'by':10}{'W.h':>10}{'A.h':>10}")
    count = len(course.steps)
    for index in range(count):
        if count > _STEPS_SHOWN and index == _STEPS_SHOWN // 2:
            lines.append(f"{'...':>5}")
        if count > _STEPS_SHOWN and _STEPS_SHOWN // 2 <= index < count - _STEPS_SHOWN // 2:
            continue
        step, end = steps[index], course.steps[index]
        lines.append(
            f"{index + 1:>5} {step.mode:5}{step.value:>10.4g}{end.end_s:>12.1f}  {end.reason:10}{end.energy_wh:>10.4f}"
            f"{end.charge_ah:>10.4f}"
        )
    units = {"t_end_s": "s", "v_rmse_V": "V", "i_rmse_A": "A", "t_rise_K": "K", "t_end_err": "", "energy_err": ""}
    for name, value in found.items():
        lines.append(f"{name:12} {'not measured' if value is None else f'{value:.6g} {units[name]}'.rstrip()}")
    return "\n".join(lines)
