"""Fitting many distributions from data files, and the file they are kept in.

A `Source` says what a class of values is: which file, which column and rows, and what a unit is. `fit_all` chooses a
law for each by units left out (`models.distributions.fit`) and returns plain data with the files' SHA-256.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.compose import UsageError
from experiments.progress import progress
from experiments.whole import check_file, write_whole
from models.distributions.fit import Sample, choose
from models.distributions.law import FORMAT

DIGITS = 6  # significant digits kept of a parameter: far more than the data hold


@dataclass(frozen=True)
class Source:
    """A class of values.

    Attributes:
        name: what, technology or place, and data set, with dots between.
        file: under the data folder.
        column, rows: what is taken of it, in words.
        of: what a unit is.
        unit: of the values.
        read: from the file's path to the sample.
    """

    name: str
    file: str
    column: str
    rows: str
    of: str
    unit: str
    read: Callable[[Path], Sample]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words that `calibrate links` and `calibrate failures` share."""
    parser.add_argument("--data", type=Path, metavar="FOLDER", default=data_folder(), help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the fits, JSON")


def data_folder() -> Path:
    """Return the folder of the data sets: VILLAGETWIN_DATA, or ``shared/data`` beside the checkout."""
    return Path(os.environ.get("VILLAGETWIN_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def check(options: argparse.Namespace, files: Sequence[str]) -> None:
    """Refuse a data folder that lacks a file, or a place that cannot be written, before anything is fitted.

    Raises:
        UsageError: one line that names it.
    """
    for file in files:
        if not (options.data / file).is_file():
            raise UsageError(f"--data {options.data}: no {file} in it; set it or VILLAGETWIN_DATA to the data's folder")
    check_file("--out", options.out)


def fit_all(sources: Sequence[Source], folder: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Return the fits by name, and the digests of the files they came from, as plain data."""
    fits: dict[str, Any] = {}
    with progress("distributions", quiet=quiet) as report:
        for place, source in enumerate(sources):
            report(place / len(sources), source.name)
            fits[source.name] = _fit(source, source.read(folder / source.file))
    return {"format": FORMAT, "files": digests(sorted({s.file for s in sources}), folder), "fits": fits}


def _fit(source: Source, sample: Sample) -> dict[str, Any]:
    found = choose(sample)
    return {
        "chosen": found.name, "family": found.law.family,
        "parameters": [float(f"{value:.{DIGITS}g}") for value in found.law.parameters],
        "zero": round(found.law.zero, DIGITS), "reach": float(f"{found.law.reach:.{DIGITS}g}"),
        "unit": source.unit, "file": source.file, "column": source.column, "rows": source.rows, "of": source.of,
        "units": len({str(name) for row in sample.units for name in row}), "values": int(sample.values.size),
        "censored": int(sample.censored.sum()), "ks": round(found.ks, 4), "ks_units": round(found.ks_units, 4),
        "standard": found.standard, "ks_units_standard": round(found.ks_units_standard, 4),
    }  # fmt: skip


def digests(files: Sequence[str], folder: Path) -> dict[str, str]:
    """Return each file's SHA-256."""
    return {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in files}


def write(path: Path, plain: dict[str, Any]) -> None:
    """Write the fits, one a line, so that a changed number is a changed line."""
    parts = []
    for key, value in plain.items():
        if isinstance(value, dict):
            rows = ",\n".join(f" {json.dumps(name)}: {json.dumps(row, allow_nan=False)}" for name, row in value.items())
            parts.append(f"{json.dumps(key)}: {{\n{rows}\n}}")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}")
    write_whole(path, "{\n" + ",\n".join(parts) + "\n}\n")


def words(plain: dict[str, Any]) -> str:
    """Return the fits' quality as a table for people; KS distances are to units left out, means over folds."""
    lines = [f"{'class':32s} {'units':>6s} {'values':>7s}  {'chosen':13s} {'KS':>6s}  {'best family':13s} {'KS':>6s}"]
    for name, row in plain["fits"].items():
        lines.append(
            f"{name:32s} {row['units']:6d} {row['values']:7d}  {row['chosen']:13s} {row['ks_units']:6.3f}  "
            f"{row['standard']:13s} {row['ks_units_standard']:6.3f}"
        )
    return "\n".join(lines)
