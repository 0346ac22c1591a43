"""`twin validate inference`: the cost model on published rows that no price was fitted to, against the fidelity bars.

The rows stand beside this module with their sources. They judge; nothing is calibrated on them. ``read`` is ``yes``
where the source itself was read and ``second-hand`` where a public transcription of it was.

twin validate inference --out docs/fidelity.md
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from experiments.calibration import Outcome
from experiments.compose import UsageError
from experiments.predict import Row, read, title
from experiments.validation import inference_twice
from experiments.whole import write_whole

ROWS = Path(__file__).with_name("inference_rows.csv")
LATER = Path(__file__).with_name("unseen_rows.csv")
"""Rows that were collected when the law stood; judged beside the others unless other rows are named."""
ZERO_SHOT = "zero-shot"
_PLACE = re.compile(r"(<!-- inference: (?P<name>\w+) -->\n)(?P<inside>.*?)(<!-- /inference -->)", re.DOTALL)


@dataclass(frozen=True)
class Bar:
    """What a class of rows may be off by; None is not asked."""

    mean: float | None = None
    p90: float | None = None
    spearman: float | None = None
    worst: float | None = None


BARS = {
    "decode, batch 1": Bar(0.08, 0.20, worst=0.35), "8K context": Bar(0.15), "prefill, llama.cpp": Bar(0.15),
    "8K prefill": Bar(0.15), "layer-split GPUs": Bar(0.10), "layer-split prefill": Bar(), "batched decode": Bar(0.12),
    "prefill, serving engine": Bar(0.10), "tensor parallel, Ethernet": Bar(0.30), ZERO_SHOT: Bar(0.30, None, 0.85),
}  # fmt: skip
"""By class of rows; `zero-shot` is all rows whose class begins so, whose parts have no bar of their own."""


@dataclass(frozen=True)
class Class:
    """How the model did on one class of rows.

    Attributes:
        mean, p90: of the size of the relative error.
        bias: mean of the error with its sign.
        spearman: rank correlation of predicted and measured.
        worst, worst_row: the largest error, and whose it is.
        verdict: ``met``, ``MISSED``, or empty where no bar is set.
    """

    name: str
    rows: int
    mean: float
    p90: float
    bias: float
    spearman: float
    worst: float
    worst_row: str
    verdict: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    text = "published rows with a column class (default: those that come with the project)"
    parser.add_argument("--rows", type=Path, default=ROWS, metavar="FILE.csv", help=text)
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="fill the tables' places in this page")


def run(options: argparse.Namespace) -> Outcome:
    """Predict the rows and judge each class.

    Raises:
        UsageError: the rows cannot be read or have no class, or the page has no place for the tables.
    """
    page = _page(options.out) if options.out else ""
    rows = read(options.rows)
    if not rows or not all(row.cells.get("class") for row in rows):
        raise UsageError(f"validate inference: {options.rows} has rows without a class; needed: a column class")
    classes = judge(rows)
    later = read(LATER) if options.rows == ROWS else []
    twice = inference_twice.twice() if options.rows == ROWS else []
    if options.out:
        tables = {
            "classes": _markdown(classes), "later": _markdown(judge(later)), "worst": _worst([*rows, *later]),
            "sources": _sources([*rows, *later]), "twice": inference_twice.markdown(twice),
        }  # fmt: skip
        filled = _PLACE.sub(lambda place: f"{place[1]}{tables.get(place['name'], place['inside'])}{place[4]}", page)
        write_whole(options.out, filled)
    plain: dict[str, Any] = {"classes": [vars(one) for one in classes], "rows": len(rows)}
    words = _words(classes)
    if later:
        plain["later"] = [vars(one) for one in judge(later)]
        words += f"\n\nrows collected afterwards\n{_words(judge(later))}"
        plain["twice"] = [vars(one) for one in twice]
        words += f"\n\n{inference_twice.words(twice)}"
    return Outcome(plain, words)


def judge(rows: Sequence[Row]) -> list[Class]:
    """Return each class with its errors and verdict; `zero-shot` together before its parts."""
    names = list(dict.fromkeys(row.cells["class"] for row in rows))
    first = next((place for place, name in enumerate(names) if name.startswith(ZERO_SHOT)), None)
    if first is not None:
        names.insert(first, ZERO_SHOT)
    return [_class(name, [row for row in rows if row.cells["class"].startswith(name)]) for name in names]


def _class(name: str, rows: Sequence[Row]) -> Class:
    errors = np.array([row.error() for row in rows], dtype=float)
    sizes, worst = np.abs(errors), int(np.abs(errors).argmax())
    pairs = np.array([[row.answer.value, row.measured] for row in rows], dtype=float)
    varied = len(rows) > 2 and len(set(pairs[:, 0])) > 1 and len(set(pairs[:, 1])) > 1
    rank = float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic) if varied else 1.0
    mean, p90 = float(sizes.mean()), float(np.quantile(sizes, 0.9))
    bar = BARS.get(name, Bar())
    kept = [
        (bar.mean, mean <= (bar.mean or 0.0)), (bar.p90, p90 <= (bar.p90 or 0.0)),
        (bar.spearman, rank >= (bar.spearman or 0.0)), (bar.worst, float(sizes[worst]) <= (bar.worst or 0.0)),
    ]  # fmt: skip
    asked = [met for limit, met in kept if limit is not None]
    verdict = "" if not asked else "met" if all(asked) else "MISSED"
    return Class(
        name, len(rows), mean, p90, float(errors.mean()), rank, float(errors[worst]), title(rows[worst]), verdict
    )


def _bar(name: str) -> str:
    bar = BARS.get(name, Bar())
    said = [f"mean {bar.mean:.0%}" if bar.mean else "", f"p90 {bar.p90:.0%}" if bar.p90 else ""]
    said += [f"worst {bar.worst:.0%}" if bar.worst else "", f"rank {bar.spearman}" if bar.spearman else ""]
    return ", ".join(filter(None, said))


def _words(classes: Sequence[Class]) -> str:
    lines = [f"{'class':36s} {'rows':>4s} {'mean':>6s} {'p90':>6s} {'bias':>6s} {'rank':>5s} {'worst':>6s}  bar"]
    lines += [
        f"{one.name:36s} {one.rows:4d} {one.mean:6.1%} {one.p90:6.1%} {one.bias:+6.0%} {one.spearman:5.2f} "
        f"{one.worst:+6.0%}  {_bar(one.name)} {one.verdict}".rstrip()
        for one in classes
    ]
    return "\n".join(lines)


def _markdown(classes: Sequence[Class]) -> str:
    lines = [
        "| class | rows | mean | p90 | bias | rank | worst | its row | bar | |",
        "|---|" + "--:|" * 6 + "---|---|---|",
    ]
    lines += [
        f"| {one.name} | {one.rows} | {one.mean:.1%} | {one.p90:.1%} | {one.bias:+.1%} | {one.spearman:.2f} | "
        f"{one.worst:+.0%} | {one.worst_row} | {_bar(one.name)} | {one.verdict} |"
        for one in classes
    ]
    return "\n".join(lines) + "\n"


def _worst(rows: Sequence[Row], count: int = 20) -> str:
    """Return the rows that are furthest off, whatever their class."""
    chosen = sorted(rows, key=lambda row: -abs(row.error() or 0.0))[:count]
    lines = ["| class | engine | row | predicted | measured | error |", "|---|---|---|--:|--:|--:|"]
    lines += [
        f"| {row.cells['class']} | {row.cells['system']} | {title(row)} | {row.answer.value:.4g} | {row.measured:.4g} "
        f"{row.cells['unit']} | {row.error():+.0%} |"
        for row in chosen
    ]
    return "\n".join(lines) + "\n"


def _sources(rows: Sequence[Row]) -> str:
    """Return how many rows came from where."""
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        key = (row.cells.get("source", ""), row.cells.get("read", ""))
        counts[key] = counts.get(key, 0) + 1
    lines = ["| rows | source | read |", "|--:|---|---|"]
    lines += [f"| {count} | {source} | {how} |" for (source, how), count in sorted(counts.items(), key=lambda p: -p[1])]
    return "\n".join(lines) + "\n"


def _page(path: Path) -> str:
    try:
        page = path.read_text(encoding="utf-8") if path.is_file() else ""
    except UnicodeDecodeError as error:
        raise UsageError(f"--out {path}: not a page in UTF-8: {error}") from None
    if not _PLACE.search(page):
        raise UsageError(f"--out {path}: no place for the tables; needed: a page with <!-- inference: classes -->")
    return page
