"""What a battery calibration reads: measured courses of one cell, and the numbers that its maker gives.

A course is one run of a cell: rows in time with voltage, current (discharge > 0) and, where there is one, temperature.
Columns are those of the data sets: ``ambient_C, t_s, v_V, i_A`` always; ``cell`` where a file holds several; ``q_Ah``
(discharged so far; without it the current is summed up); ``temp_C`` (without it the cell stays at ambient); ``run``
where one ambient has several runs; ``soc0``, the charge a run starts at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.compose import UsageError

COLUMNS = ("ambient_C", "t_s", "v_V", "i_A")
OPTIONAL = ("q_Ah", "temp_C", "soc0")
_LIKE_A_PULSE_S = 120.0  # a load longer than this is a discharge, not a pulse
_JUMP_SOC = 1e-3  # of charge between two rows at rest: more than a row's rounding, less than a step between pulses
_ROWS_A_SEGMENT = 24  # kept of each stretch of one current: the laws are exact over a gap, more rows only cost


@dataclass(frozen=True)
class Course:
    """One run of one cell, thinned; arrays of one length.

    Attributes:
        name: kind and ambient, for messages and figures.
        ambient_c: C.
        t_s, v_v, i_a: time, voltage, current (discharge > 0); a step of current has a row on either side.
        temp_c: of the cell, C; `warm` says whether it was measured.
        soc: state of charge, 0 to 1.
        pulse: number of the pulse (load and the rest after it) a row belongs to, -1 outside.
        warm: whether the temperature was measured.
    """

    name: str
    ambient_c: float
    t_s: np.ndarray
    v_v: np.ndarray
    i_a: np.ndarray
    temp_c: np.ndarray
    soc: np.ndarray
    pulse: np.ndarray
    warm: bool


@dataclass(frozen=True)
class Given:
    """What is known of a cell beforehand; None is not known.

    Attributes:
        label: the maker's name.
        v_min, v_max: limits, V.
        capacity_ah: charge between state of charge 0 and 1, A.h.
        heat_j_per_k, cooling_w_per_k: lumped heat, J/K and W/K.
    """

    label: str
    v_min: float
    v_max: float
    capacity_ah: float | None
    nominal_ah: float | None
    heat_j_per_k: float | None
    cooling_w_per_k: float | None


def read_table(path: Path, needed: tuple[str, ...] = COLUMNS, optional: tuple[str, ...] = OPTIONAL) -> pd.DataFrame:
    """Read a CSV (.gz or plain) and check it.

    Raises:
        UsageError: it cannot be read, lacks a column, is empty or holds a number that is not finite; one line.
    """
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{path}: cannot be read as a CSV: {error}") from None
    absent = [name for name in needed if name not in frame.columns]
    if absent:
        raise UsageError(f"{path}: lacks {', '.join(absent)}; allowed: a CSV with {', '.join(needed)}")
    if frame.empty:
        raise UsageError(f"{path}: holds no rows")
    for name in (*needed, *(column for column in optional if column in frame.columns)):
        numbers = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float)
        bad = np.flatnonzero(~np.isfinite(numbers))
        if bad.size:
            value = frame[name].iloc[bad[0]]
            raise UsageError(f"{path} row {bad[0] + 1}: {name} is {value}; allowed: finite numbers")
        frame[name] = numbers
    return frame


def one_cell(frames: dict[Path, pd.DataFrame], name: str) -> tuple[str, dict[Path, pd.DataFrame]]:
    """Return the cell's name and only its rows; without a column ``cell`` all rows are its.

    Raises:
        UsageError: several cells and no name, or a name that a file does not hold; one line lists them.
    """
    kept = {}
    for path, frame in frames.items():
        if "cell" not in frame.columns:
            kept[path] = frame
            continue
        cells = sorted(str(cell) for cell in frame["cell"].unique())
        if not name and len(cells) > 1:
            raise UsageError(f"{path}: holds {len(cells)} cells, {', '.join(cells)}; allowed: one of them as --name")
        name = name or cells[0]
        if name not in cells:
            raise UsageError(f"--name {name}: not in {path}; allowed: {', '.join(cells)}")
        kept[path] = frame[frame["cell"].astype(str) == name]
    return name or "cell", kept


def read_given(path: Path, name: str) -> Given:
    """Read the parameters of a cell: a JSON object, flat or keyed by cell.

    Raises:
        UsageError: not JSON, no such cell, ``vmin`` or ``vmax`` missing, or a number that cannot be.
    """
    try:
        found: Any = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as JSON: {error}") from None
    if isinstance(found, dict) and found and all(isinstance(value, dict) for value in found.values()):
        if name not in found:
            raise UsageError(f"{path}: has no cell {name}; allowed: {', '.join(sorted(found))}")
        found = found[name]
    if not isinstance(found, dict):
        raise UsageError(f"{path}: is no JSON object of numbers")

    def number(*keys: str) -> float | None:
        product = 1.0
        for key in keys:
            value = found.get(key)
            if value is None:
                return None
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < float("inf"):
                raise UsageError(f"{path}: {key} is {value}; allowed: numbers above 0")
            product *= float(value)
        return product

    v_min, v_max = number("vmin"), number("vmax")
    if v_min is None or v_max is None or v_min >= v_max:
        raise UsageError(f"{path}: vmin is {v_min} and vmax is {v_max}; allowed: two voltages that rise")
    label = str(found.get("label") or name)
    return Given(
        label, v_min, v_max, number("Q_esoh_Ah") or number("capacity_Ah"), number("nominal_Ah"),
        number("rho_c_J_m3K", "V_m3"), number("h_W_m2K", "A_m2"),
    )  # fmt: skip


def courses(path: Path, frame: pd.DataFrame, kind: str, soc0: float, capacity_ah: float) -> list[Course]:
    """Return the courses of one cell, a run and an ambient each.

    Args:
        path: for messages.
        frame: rows of one cell.
        kind: ``pulses`` or ``open circuit``, for names.
        soc0: where a run starts, unless the file says.
        capacity_ah: charge between state of charge 0 and 1.

    Raises:
        UsageError: time that falls, or a charge outside 0..1.
    """
    keys = ["ambient_C"] + (["run"] if "run" in frame.columns else [])
    made = []
    for key, rows in frame.groupby(keys, sort=True):
        ambient = float(rows["ambient_C"].iloc[0])
        label = f"{kind} {ambient:g} C" + (f" {key[1]}" if "run" in frame.columns else "")
        t_s, i_a = rows["t_s"].to_numpy(), rows["i_A"].to_numpy()
        falls = np.flatnonzero(np.diff(t_s) < 0.0)
        if falls.size:
            row = int(rows.index[falls[0] + 1]) + 1
            raise UsageError(f"{path} row {row}: t_s is {t_s[falls[0] + 1]:g}, before the row above; {label} must rise")
        gone_ah = _discharged_ah(rows, t_s, i_a)
        start = float(rows["soc0"].iloc[0]) if "soc0" in rows.columns else soc0
        soc = start - gone_ah / capacity_ah
        outside = np.flatnonzero((soc < -0.02) | (soc > 1.02))
        if outside.size:
            row = int(rows.index[outside[0]]) + 1
            raise UsageError(
                f"{path} row {row}: state of charge is {soc[outside[0]]:.3f}, from {start:g} at the start of {label} "
                f"and {capacity_ah:g} A.h; allowed: 0 to 1"
            )
        warm = "temp_C" in rows.columns
        temp_c = rows["temp_C"].to_numpy() if warm else np.full(t_s.size, ambient)
        pulse = _pulses(t_s, i_a)
        keep = _thinned(t_s, i_a, soc)
        columns = (t_s, rows["v_V"].to_numpy(), i_a, temp_c, np.clip(soc, 0.0, 1.0), pulse)
        made.append(Course(label, ambient, *(column[keep] for column in columns), warm=warm))
    return made


def discharged_ah(frame: pd.DataFrame) -> float:
    """Return the most charge that any run of a frame takes out, A.h."""
    keys = ["ambient_C"] + (["run"] if "run" in frame.columns else [])
    return max(
        float(_discharged_ah(rows, rows["t_s"].to_numpy(), rows["i_A"].to_numpy()).max())
        for _, rows in frame.groupby(keys)
    )


def _discharged_ah(rows: pd.DataFrame, t_s: np.ndarray, i_a: np.ndarray) -> np.ndarray:
    if "q_Ah" in rows.columns:
        return rows["q_Ah"].to_numpy() - float(rows["q_Ah"].iloc[0])
    mean_a = 0.5 * (i_a[1:] + i_a[:-1])
    return np.concatenate([[0.0], np.cumsum(np.diff(t_s) * mean_a)]) / 3600.0


def _segments(i_a: np.ndarray, apart: Sequence[int] | np.ndarray = ()) -> list[tuple[int, int]]:
    """Return (first, last) row of each stretch of one current; it ends after the rows `apart`, too."""
    noise = 1e-3 * float(np.abs(i_a).max())  # a tester's current wanders within its resolution
    edges = np.union1d(np.flatnonzero(np.abs(np.diff(i_a)) > noise), apart).astype(int)
    return list(zip(np.append(0, edges + 1).tolist(), np.append(edges, i_a.size - 1).tolist(), strict=True))


def _pulses(t_s: np.ndarray, i_a: np.ndarray) -> np.ndarray:
    """Number the pulses: a short load, with the rest that follows it."""
    number, last, inside = np.full(t_s.size, -1), -1, False
    still = 1e-3 * float(np.abs(i_a).max())
    for first, end in _segments(i_a):
        resting = abs(i_a[first]) <= still
        if not resting:
            inside = t_s[end] - t_s[first] <= _LIKE_A_PULSE_S
            last += inside
        if inside:
            number[first : end + 1] = last
    return number


def _thinned(t_s: np.ndarray, i_a: np.ndarray, soc: np.ndarray) -> np.ndarray:
    """Return rows to keep: the ends of each stretch of one current, dense after its start, even where charge moves.

    Charge that jumps at rest begins another stretch: between these rows the tester did something that it did not log.
    """
    kept = []
    jumps = np.flatnonzero((np.abs(np.diff(soc)) > _JUMP_SOC) & (i_a[1:] == 0.0) & (i_a[:-1] == 0.0))
    for first, last in _segments(i_a, jumps):
        if last - first < _ROWS_A_SEGMENT // 2:
            kept.append(np.arange(first, last + 1))
            continue
        age = t_s[first : last + 1] - t_s[first]
        length = float(age[-1])
        even = int(min(length // 40.0, 400)) if soc[first] != soc[last] else 0
        wanted = np.concatenate([[0.0], np.geomspace(max(1.0, length / 500.0), length, _ROWS_A_SEGMENT),
                                 np.linspace(0.0, length, even + 2)])  # fmt: skip
        kept.append(first + np.unique(np.clip(np.searchsorted(age, wanted - 1e-6), 0, last - first)))
    return np.concatenate(kept)
