"""`twin predict FILE.csv`: the cost model on a table of published rows, with its errors where the rows have values."""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from experiments.compose import UsageError
from experiments.progress import Progress, progress
from experiments.whole import check_file, write_whole
from models.inference.rows import Answer, answer

NEEDED = ("system", "model", "devices", "metric", "unit")
PROFILE = ("model", "machine", "phase", "tokens_in_batch", "ms_per_layer")


@dataclass(frozen=True)
class Row:
    """One row answered; measured is None where the table has no value."""

    cells: dict[str, str]
    answer: Answer
    measured: float | None

    def error(self) -> float | None:
        """Return predicted less measured, over measured."""
        return None if not self.measured else self.answer.value / self.measured - 1.0


def read(path: Path, report: Progress = lambda share, text: None) -> list[Row]:
    """Read a table and predict each of its rows; ``report`` is told how far it is.

    Raises:
        UsageError: no such file, a column is missing, or a cell is not known; one line that names row and column.
    """
    if not path.is_file():
        raise UsageError(f"predict {path}: no such file")
    raw = path.read_bytes()
    try:
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except (UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        raise UsageError(f"predict {path}: not a CSV in UTF-8, plain or gzip: {error}") from None
    try:
        reader = csv.DictReader(io.StringIO(text))
        columns, cells = reader.fieldnames or [], list(reader)
    except csv.Error as error:
        raise UsageError(f"predict {path}: not a CSV: {error}") from None
    needed = PROFILE[:-1] if "machine" in columns else NEEDED
    if missing := [name for name in needed if name not in columns]:
        raise UsageError(f"predict {path}: no column {', '.join(missing)}; needed: {', '.join(needed)}")
    found = []
    for number, row in enumerate(cells, start=2):
        report((number - 2) / len(cells), f"line {number} of {len(cells) + 1}")
        if not _empty(row):
            found.append(_row(row, number, path))
    return found


def _empty(cells: dict[str, str]) -> bool:
    """Tell the first row of a layer profile, which says that no tokens take no time."""
    return cells.get("tokens_in_batch") in ("0", "0.0")


def _row(cells: dict[str, str], number: int, path: Path) -> Row:
    if None in cells:  # what csv calls the cells beyond the last column
        raise UsageError(
            f"{path.name} line {number}: more cells than columns; allowed: {len(cells) - 1}, commas in quotes"
        )
    try:
        found = answer(cells)
        said = (cells.get("value") or cells.get("ms_per_layer") or "").strip()
        measured = float(said) if said else None
    except ValueError as error:
        raise UsageError(f"{path.name} line {number}: {error}") from None
    if measured is not None and not 0.0 <= measured < np.inf:
        raise UsageError(f"{path.name} line {number}: value is {said!r}; allowed: a number from 0 up, or nothing")
    return Row(cells, found, measured)


def summary(rows: list[Row]) -> dict[str, dict[str, Any]]:
    """Return errors by regime: rows, mean and 90th percentile of the size, bias, worst, its row, rank correlation."""
    found = {}
    regimes = sorted({row.answer.regime for row in rows if row.error() is not None})
    for regime in [*regimes, "all"] if len(regimes) > 1 else regimes:
        chosen = [row for row in rows if row.error() is not None and regime in ("all", row.answer.regime)]
        errors = np.array([row.error() for row in chosen], dtype=float)
        sizes, worst = np.abs(errors), int(np.abs(errors).argmax())
        pairs = np.array([[row.answer.value, row.measured] for row in chosen], dtype=float)
        varied = len(chosen) > 2 and len(set(pairs[:, 0])) > 1 and len(set(pairs[:, 1])) > 1
        found[regime] = {
            "rows": len(chosen), "mean": float(sizes.mean()), "p90": float(np.quantile(sizes, 0.9)),
            "bias": float(errors.mean()), "worst": float(errors[worst]), "worst_row": title(chosen[worst]),
            "spearman": float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic) if varied else None,
        }  # fmt: skip
    return found


def title(row: Row) -> str:
    """Return what tells a row from the others."""
    names = ("model", "quant", "devices", "n_devices", "machine", "phase", "tokens_in_batch", "metric", "conditions")
    return " ".join(row.cells[name] for name in names if row.cells.get(name))


def plain(rows: list[Row]) -> dict[str, Any]:
    """Return rows and errors as plain data."""
    listed = [
        {
            "row": title(row), "regime": row.answer.regime, "predicted": row.answer.value,
            "unit": row.cells.get("unit") or "ms", "measured": row.measured, "error": row.error(),
            "fits": row.answer.metrics.fits, "joules_per_token": row.answer.metrics.joules_per_token,
        }
        for row in rows
    ]  # fmt: skip
    return {"rows": listed, "errors": summary(rows)}


def words(found: dict[str, Any]) -> str:
    """Return rows and errors as text for people."""
    lines = [f"{'predicted':>12s} {'unit':9s} {'measured':>10s} {'error':>7s}  row"]
    for row in found["rows"]:
        measured = "" if row["measured"] is None else f"{row['measured']:.5g}"
        error = "" if row["error"] is None else f"{row['error']:+.1%}"
        note = "" if row["fits"] else "  (does not fit in memory)"
        lines.append(f"{row['predicted']:12.5g} {row['unit']:9s} {measured:>10s} {error:>7s}  {row['row']}{note}")
    if found["errors"]:
        lines += [
            "",
            f"{'rows':>5s} {'mean':>6s} {'p90':>6s} {'bias':>7s} {'worst':>7s} {'rank':>5s}  regime; worst row",
        ]
    for regime, one in found["errors"].items():
        rank = "" if one["spearman"] is None else f"{one['spearman']:.2f}"
        lines.append(
            f"{one['rows']:5d} {one['mean']:6.1%} {one['p90']:6.1%} {one['bias']:+7.1%} {one['worst']:+7.1%} "
            f"{rank:>5s}  {regime}; {one['worst_row']}"
        )
    return "\n".join(lines)


def write(path: Path, rows: list[Row]) -> None:
    """Write the rows with what was found beside their own cells, whole or not at all.

    Columns ``predicted``, ``error``, ``regime``, and ``fits``: ``no`` where the device's memory does not hold it.
    """
    made = io.StringIO()
    columns = [*(rows[0].cells if rows else ()), "predicted", "error", "regime", "fits"]
    writer = csv.DictWriter(made, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        error = row.error()
        told = {"predicted": f"{row.answer.value:.6g}", "error": "" if error is None else f"{error:.4f}"}
        fits = "yes" if row.answer.metrics.fits else "no"
        writer.writerow({**row.cells, **told, "regime": row.answer.regime, "fits": fits})
    write_whole(path, made.getvalue())


def run(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Predict a table, write the rows if asked, and return what was found as plain data and as text."""
    check_file("--out", options.out)
    with progress("predict", quiet=options.quiet) as report:
        rows = read(options.file, report)
    if options.out is not None:
        write(options.out, rows)
    found = plain(rows)
    return found, words(found)
