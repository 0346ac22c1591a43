"""Readings replayed from rows or from a file, for repeatable runs and for machines that lack the sensors.

A file is CSV or Parquet with a column ``time_s`` (seconds since the start, not falling) and one for every field of
`policies.readings.Row`, in the unit that its name says; some may come in the units of `UNITS`. An empty cell
is unknown, and so is a column of `OPTIONAL` that is not there. Everything else is refused with its row and column.
"""

from __future__ import annotations

import difflib
import math
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from policies.readings import Row
from real_backends.sensors.composite import Composite
from real_backends.sensors.fields import SENSOR_OF, UNKNOWN, Partial
from scenarios.sensors import BOOLS, allowed, check_assumed, plausible

MAINS_DESK = Row(
    has_battery=False, soc=1.0, plugged=True, die_c=35.0, skin_c=30.0, battery_c=30.0, on_wifi=True, metered=False,
    bandwidth_bytes_per_s=12.5e6, screen_on=False, idle_s=86_400.0, local_minute=0.0, user_load=0.0,
    memory_free_bytes=2.0**50,  # more than any desk has: all of it
)  # fmt: skip
"""A cool desktop on the mains that nobody uses: an assumption, for runs whose subject is not the harvest."""

UNITS: dict[str, tuple[str, float]] = {
    "soc_percent": ("soc", 0.01),
    "bandwidth_mbps": ("bandwidth_bytes_per_s", 125_000.0),
    "idle_min": ("idle_s", 60.0),
    "user_load_percent": ("user_load", 0.01),
    "memory_free_mb": ("memory_free_bytes", 2.0**20),
}
"""Column to the field it stands for and the factor between their units."""

OPTIONAL = frozenset(("memory_free_bytes",))
"""Fields that a recording need not have: harvest decides without them."""

WORDS = {"true": True, "1": True, "1.0": True, "yes": True, "false": False, "0": False, "0.0": False, "no": False}
TIME = "time_s"


class TraceSensors:
    """Gives the newest row whose time has come.

    Args:
        rows: (seconds since the node's start, row), in order of time; the first counts from the beginning.

    Raises:
        ValueError: no rows, or times that fall.
    """

    missing: tuple[str, ...] = ()

    def __init__(self, rows: Sequence[tuple[float, Row]]) -> None:
        self._clock = _Replay([time_s for time_s, _ in rows])
        self._rows = [row for _, row in rows]
        self.gone: dict[str, int] = {}

    def read(self, now_ns: int) -> Row:
        """Return the row in force at ``now_ns``; the first call is time 0."""
        return self._rows[self._clock.at(now_ns)]


class TraceSource:
    """Gives the known fields of the newest row whose time has come, for `Composite`.

    Args:
        rows: as `read_partial` returns them.

    Raises:
        ValueError: no rows, or times that fall.
    """

    def __init__(self, rows: Sequence[tuple[float, Partial]]) -> None:
        self._clock = _Replay([time_s for time_s, _ in rows])
        self._rows = [row for _, row in rows]
        self.fields = frozenset(field for row in self._rows for field in row)

    def read(self, now_ns: int) -> Partial:
        """Return the row in force at ``now_ns``; the first call is time 0."""
        return self._rows[self._clock.at(now_ns)]


class _Replay:
    """Which row is in force."""

    def __init__(self, times_s: list[float]) -> None:
        if not times_s:
            raise ValueError("rows=[]: a trace needs at least one row")
        if times_s != sorted(times_s):
            raise ValueError("rows: times must not decrease")
        self._times_s = times_s
        self._begun_ns: int | None = None

    def at(self, now_ns: int) -> int:
        if self._begun_ns is None:
            self._begun_ns = now_ns
        return max(0, bisect_right(self._times_s, (now_ns - self._begun_ns) / 1e9) - 1)


def open_trace(path: Path | str, assume: Partial | None = None) -> Composite:
    """Return sensors that replay a file.

    Args:
        path: CSV or Parquet.
        assume: a value for each field that the file need not have.

    Raises:
        ValueError: the file, row and column, the value and what is allowed, in one line.
        OSError: the file cannot be read.
    """
    return Composite([TraceSource(read_partial(path, assume))], assume)


def read_trace(path: Path | str, assume: Partial | None = None) -> list[tuple[float, Row]]:
    """Return a file's rows; arguments and errors as `open_trace`."""
    rows: list[tuple[float, Row]] = []
    for time_s, known in read_partial(path, assume):
        whole: Any = {field: getattr(UNKNOWN, field) for field in SENSOR_OF} | dict(assume or {}) | dict(known)
        rows.append((time_s, Row(**whole)))
    return rows


def read_partial(path: Path | str, assume: Partial | None = None) -> list[tuple[float, Partial]]:
    """Return a file's rows with their known fields only; arguments and errors as `open_trace`."""
    import pandas as pd

    path, name = Path(path), Path(path).name
    check_assumed(assume or {})
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"{name}: {path.suffix or 'no suffix'}; allowed: .csv, .parquet")
    try:
        table = pd.read_csv(path, dtype=str) if path.suffix == ".csv" else pd.read_parquet(path)
    except (ValueError, UnicodeDecodeError) as error:  # pandas' and pyarrow's errors are ValueErrors
        raise ValueError(f"{name}: {str(error).splitlines()[0]}") from None
    columns = _columns(name, [str(column) for column in table.columns], assume or {})
    if table.empty:
        raise ValueError(f"{name}: no rows; a trace needs at least one")
    rows: list[tuple[float, Partial]] = []
    before_s = -math.inf
    for number, cells in enumerate(table.to_dict("records"), start=1):
        where = f"{name}: row {number}"
        time_s = _number(f"{where}: {TIME}", cells[TIME])
        if time_s is None or not math.isfinite(time_s) or time_s < max(0.0, before_s):
            raise ValueError(f"{where}: {TIME} is {cells[TIME]}; allowed: from {max(0.0, before_s):g}, finite")
        before_s = time_s
        known: dict[str, float | bool] = {}
        for column, (field, factor) in columns.items():
            value = _cell(f"{where}: {column}", field, cells[column], factor)
            if value is not None:
                known[field] = value
        rows.append((time_s, known))
    return rows


def _columns(name: str, columns: list[str], assume: Partial) -> dict[str, tuple[str, float]]:
    """Return column to its field and factor; all that are needed are there, and no others."""
    meant = {field: (field, 1.0) for field in SENSOR_OF} | UNITS
    if TIME not in columns:
        raise ValueError(f"{name}: no column {TIME}; it has {', '.join(columns)}")
    found: dict[str, tuple[str, float]] = {}
    for column in columns:
        if column == TIME:
            continue
        if column not in meant:
            near = difflib.get_close_matches(column, meant, 1)
            raise ValueError(f"{name}: unknown column {column!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        if meant[column][0] in {field for field, _ in found.values()}:
            raise ValueError(f"{name}: column {column!r} gives {meant[column][0]} a second time")
        found[column] = meant[column]
    have = {field for field, _ in found.values()} | set(assume)
    if lacking := [field for field in SENSOR_OF if field not in have | OPTIONAL]:
        raise ValueError(f"{name}: no column {', '.join(lacking)}; a column may be empty, or assumed")
    return found


def _cell(where: str, field: str, cell: Any, factor: float) -> float | bool | None:
    if field in BOOLS:
        word = "" if _is_empty(cell) else str(cell).strip().lower()
        if word and word not in WORDS:
            raise ValueError(f"{where} is {cell}; allowed: true, false or empty")
        return WORDS.get(word)
    value = _number(where, cell)
    if value is None:
        return None
    value *= factor
    if not plausible(field, value):
        unit = f" ({field})" if factor != 1 else ""
        raise ValueError(f"{where} is {cell}; allowed: {allowed(field)}{unit}")
    return value


def _number(where: str, cell: Any) -> float | None:
    if _is_empty(cell):
        return None
    try:
        return float(cell)
    except (TypeError, ValueError):
        raise ValueError(f"{where} is {cell!r}; allowed: a number or empty") from None


def _is_empty(cell: Any) -> bool:
    # None, NaN and pandas' NA, and blank text; the word "nan" is a blank too.
    return cell is None or cell != cell or str(cell).strip().lower() in ("", "nan", "<na>", "nat")
