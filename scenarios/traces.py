"""Readers of published traces, as published. A malformed row is named by file and line."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from datetime import datetime
from pathlib import Path

import numpy as np

from models.links.replay import RateTrace
from policies.jobs import TOKENS_MAX
from scenarios.schema import ScenarioError

_AZURE_COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
_RATE_COLUMNS = ["trace", "t_s", "mbps"]
_MBIT = 1e6 / 8.0  # bytes per second in one Mbit/s


def read_azure(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the Azure LLM inference trace of 2023 (Azure/AzurePublicDataset, CC-BY-4.0), plain or gzip.

    Returns:
        arrival (s after the first row), prompt tokens, generated tokens; sorted by arrival.

    Raises:
        ScenarioError: no such file, not this format, or a malformed row, with its line.
    """
    if not path.is_file():
        raise ScenarioError(f"{path}: no such file; give the trace's CSV or CSV.gz")
    arrival, prompt, new = [], [], []
    line = 1
    try:
        with (gzip.open if _is_gzip(path) else open)(path, "rt", newline="") as file:
            rows = csv.reader(file)
            header = next(rows, [])
            if header != _AZURE_COLUMNS:
                raise ScenarioError(f"{path}:1: columns {header}; expected {_AZURE_COLUMNS}")
            for line, row in enumerate(rows, start=2):  # noqa: B007  (the error below names it)
                stamp, context, generated = row
                arrival.append(_seconds(stamp))
                prompt.append(_tokens(context))
                new.append(_tokens(generated))
    except (ValueError, OSError, EOFError, csv.Error, zlib.error) as error:
        if isinstance(error, ScenarioError):
            raise
        raise ScenarioError(f"{path}:{line}: not a row of {','.join(_AZURE_COLUMNS)} ({error})") from None
    if not arrival:
        raise ScenarioError(f"{path}:2: the trace holds no requests")
    times = np.array(arrival)
    order = np.argsort(times, kind="stable")
    return times[order] - times[order[0]], np.array(prompt)[order], np.array(new)[order]


def read_rates(path: Path, *, gap_s: float = 30.0) -> dict[str, RateTrace]:
    """Read measured rates with the columns trace, t_s, mbps, plain or gzip; rows of one trace lie together.

    A sample holds until the next one; the last of a trace holds as long as the trace's median step. Times are counted
    from the trace's first sample.

    Args:
        gap_s: a longer step between two samples is a gap, and refused: nobody knows what the link did in it.

    Raises:
        ScenarioError: no such file, not this format, a malformed row, a gap, or times or traces out of order; the row.
    """
    if not path.is_file():
        raise ScenarioError(f"{path}: no such file; give a CSV or CSV.gz with columns {','.join(_RATE_COLUMNS)}")
    rows: dict[str, list[tuple[float, float]]] = {}
    line, last = 1, None
    try:
        with (gzip.open if _is_gzip(path) else open)(path, "rt", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            if header != _RATE_COLUMNS:
                raise ScenarioError(f"{path}:1: columns {header}; expected {_RATE_COLUMNS}")
            for line, row in enumerate(reader, start=2):
                name, when, mbps = row[0], float(row[1]), float(row[2])
                if len(row) != len(_RATE_COLUMNS) or not math.isfinite(when) or not 0.0 <= mbps < math.inf:
                    raise ValueError(f"{','.join(row)}; allowed: finite times, rates from 0 up")
                if name != last and name in rows:
                    raise ScenarioError(f"{path}:{line}: trace {name!r} begins again; allowed: its rows together")
                samples = rows.setdefault(name, [])
                if samples and not 0.0 < when - samples[-1][0] <= gap_s:
                    raise ScenarioError(
                        f"{path}:{line}: trace {name!r} goes from {samples[-1][0]:g} s to {when:g} s; "
                        f"allowed: forward by at most {gap_s:g} s"
                    )
                samples.append((when, mbps))
                last = name
    except (ValueError, IndexError, OSError, EOFError, csv.Error, zlib.error) as error:
        if isinstance(error, ScenarioError):
            raise
        raise ScenarioError(f"{path}:{line}: not a row of {','.join(_RATE_COLUMNS)} ({error})") from None
    if not rows:
        raise ScenarioError(f"{path}:2: the file holds no samples")
    short = next((name for name, samples in rows.items() if len(samples) < 2), None)
    if short is not None:
        raise ScenarioError(f"{path}: trace {short!r} has one sample; allowed: at least 2")
    return {name: _rate_trace(samples) for name, samples in rows.items()}


def read_replay(path: Path) -> list[RateTrace]:
    """Return the traces of the file that ``network.replay`` names; errors as `read_rates`, with that name."""
    try:
        return list(read_rates(path).values())
    except ScenarioError as error:
        raise ScenarioError(f"network.replay: {error}") from None


def _rate_trace(samples: list[tuple[float, float]]) -> RateTrace:
    times, mbps = np.array(samples).T
    times = times - times[0]
    return RateTrace(np.append(times, times[-1] + np.median(np.diff(times))), mbps * _MBIT)


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _tokens(text: str) -> int:
    """Return a count; what a village serves has at least one token each way."""
    count = int(text)
    if not 0 <= count <= TOKENS_MAX:  # a gateway would not read its request, and its client ask on and on
        raise ValueError(f"{count} tokens")
    return max(1, count)


def _seconds(stamp: str) -> float:
    """Return seconds since the epoch of a stamp with up to seven decimals (100 ns ticks)."""
    whole, _, ticks = stamp.partition(".")
    seconds = (datetime.fromisoformat(whole) - datetime(1970, 1, 1)).total_seconds()
    return seconds + (float(f"0.{ticks}") if ticks else 0.0)
