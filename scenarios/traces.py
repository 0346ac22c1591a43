"""Readers of published traces, as published. A malformed row is named by file and line."""

from __future__ import annotations

import csv
import gzip
import zlib
from datetime import datetime
from pathlib import Path

import numpy as np

from scenarios.schema import ScenarioError

_AZURE_COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]


def read_azure(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read the Azure LLM inference trace of 2023 (Azure/AzurePublicDataset, CC-BY-4.0), plain or gzip.

    Returns:
        arrival (s after the first row), prompt tokens, generated tokens; sorted by arrival.

    Raises:
        ScenarioError: no such file, not this format, or a malformed row, with its line.
    """
    if not path.is_file():
        raise ScenarioError(f"workload.path={str(path)!r}: no such file; give the trace's CSV or CSV.gz")
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


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _tokens(text: str) -> int:
    """Return a count; what a village serves has at least one token each way."""
    count = int(text)
    if count < 0:
        raise ValueError(f"{count} tokens")
    return max(1, count)


def _seconds(stamp: str) -> float:
    """Return seconds since the epoch of a stamp with up to seven decimals (100 ns ticks)."""
    whole, _, ticks = stamp.partition(".")
    seconds = (datetime.fromisoformat(whole) - datetime(1970, 1, 1)).total_seconds()
    return seconds + (float(f"0.{ticks}") if ticks else 0.0)
