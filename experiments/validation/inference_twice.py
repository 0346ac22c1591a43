"""What measurements of one configuration differ by: a floor under the errors of any law that is the same for both.

Each row states what was measured, and beside it what was printed for the same model, devices, batch and prompt: by the
same page in another column, or by another page of a serving engine of the same class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.compose import UsageError
from experiments.predict import Row, read

ROWS = Path(__file__).with_name("twice_rows.csv")


@dataclass(frozen=True)
class Twice:
    """One class of rows that are printed twice.

    Attributes:
        mean, most: of the larger over the smaller of both, less 1.
        floor: least mean error that one prediction of both can have: that of the smaller one.
        law, law_beside: mean error of the law from the first and from the second.
    """

    name: str
    rows: int
    mean: float
    most: float
    floor: float
    law: float
    law_beside: float


def twice(path: Path = ROWS) -> list[Twice]:
    """Return the classes in the order of the file.

    Raises:
        UsageError: the rows cannot be read, or one has nothing beside it.
    """
    rows = read(path)
    names = list(dict.fromkeys(row.cells["class"] for row in rows))
    return [_class(name, [row for row in rows if row.cells["class"] == name]) for name in names]


def _class(name: str, rows: Sequence[Row]) -> Twice:
    pairs = np.array([[row.answer.value, row.measured or 0.0, _beside(row)] for row in rows])
    ratio = pairs[:, 1:].max(axis=1) / pairs[:, 1:].min(axis=1)
    off = np.abs(pairs[:, :1] / pairs[:, 1:] - 1.0).mean(axis=0)
    floor = float((0.5 * (1.0 - 1.0 / ratio)).mean())
    spread = ratio - 1.0
    return Twice(name, len(rows), float(spread.mean()), float(spread.max()), floor, float(off[0]), float(off[1]))


def _beside(row: Row) -> float:
    try:
        value = float(row.cells["beside"])
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise UsageError(f"beside is {row.cells['beside']!r}; allowed: a number above 0")
    return value


def words(found: Sequence[Twice]) -> str:
    """Return the classes as a table for people."""
    lines = [
        f"{'printed twice':66s} {'rows':>4s} {'differ':>6s} {'most':>6s} {'floor':>6s} {'law':>6s}, {'beside':>6s}"
    ]
    lines += [
        f"{one.name:66s} {one.rows:4d} {one.mean:6.1%} {one.most:6.0%} {one.floor:6.1%} {one.law:6.1%}, "
        f"{one.law_beside:6.1%}"
        for one in found
    ]
    return "\n".join(lines)


def markdown(found: Sequence[Twice]) -> str:
    """Return the classes as a table."""
    lines = [
        "| what is printed twice | rows | they differ by | at most | floor | law off the first | off the second |",
        "|---|" + "--:|" * 6,
    ]
    lines += [
        f"| {one.name} | {one.rows} | {one.mean:.1%} | {one.most:.0%} | {one.floor:.1%} | {one.law:.1%} | "
        f"{one.law_beside:.1%} |"
        for one in found
    ]
    return "\n".join(lines) + "\n"
