"""The table of `twin validate physics`: as text of 100 columns, as Markdown, and into the places of a page.

A place is ``<!-- physics: SUBJECT -->`` up to ``<!-- /physics -->``: rows whose law begins with the subject (``battery:
...``). Without a subject it takes every row, as ``summary`` the sentence about all of them.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.validation.physics import Row

SUBJECTS = ("battery", "ageing", "heat", "governor", "power", "radio", "availability", "fleet")
"""In the order of the page; others follow."""

WIDTHS = (33, 25, 8, 8, 11, 10)  # with the spaces between, 100 columns
HEADS = ("law", "reference", "typical", "worst", "bar", "")
_PLACE = re.compile(r"(<!-- physics(?:: (?P<subject>[^>]*?))? -->\n)(?P<inside>.*?)(<!-- /physics -->)", re.DOTALL)


def subject(row: Row) -> str:
    """Return the subject of a row; of a comparison that was not made it is not known."""
    return row.law.split(":")[0] if row.typical is not None else "not compared"


def ordered(rows: Sequence[Row]) -> list[Row]:
    """Return the rows by subject; within it as the tests came."""

    def place(row: Row) -> int:
        return SUBJECTS.index(subject(row)) if subject(row) in SUBJECTS else len(SUBJECTS) + (row.typical is None)

    return sorted(rows, key=place)


def summary(rows: Sequence[Row], seconds: float, *, quick: bool) -> str:
    """Return how many rows met their bar, how many did not, and with what they were measured."""
    from scenarios.digests import versions

    counts: dict[str, int] = {}
    for row in rows:
        counts[row.verdict] = counts.get(row.verdict, 0) + 1
    verdicts = ("met", "met (mean)", "MISSED", "FAILED", "no data", "skipped")
    parts = ", ".join(f"{counts[name]} {name}" for name in verdicts if name in counts)
    known = versions()
    used = ", ".join(f"{name} {known[name]}" for name in ("python", "numpy", "scipy", "jax") if name in known)
    left_out = "; without the slow ones" if quick else ""
    return f"{len(rows)} comparisons{left_out}: {parts}. Measured in {seconds:.0f} s with {used}."


def text(rows: Sequence[Row]) -> str:
    """Return the table for people, at most 100 columns."""
    lines, last = [_line(HEADS)], ""
    for row in ordered(rows):
        if subject(row) != last:
            last = subject(row)
            lines.append(last)
        law = row.law.partition(": ")[2] if row.typical is not None else row.law
        lines += _wrapped(law, row.reference, *_figures(row))
        lines += textwrap.wrap("; ".join(row.notes), 100, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


def markdown(rows: Sequence[Row]) -> str:
    """Return a Markdown table."""
    lines = ["| law | reference | typical | worst | bar | verdict | cases | |", "|---|---|---|---|---|---|---|---|"]
    for row in ordered(rows):
        typical, worst, bar, verdict = _figures(row)
        loud = f"**{verdict}**" if verdict in ("MISSED", "FAILED") else verdict
        cells = (row.law, row.reference, typical, worst, bar, loud, f"{row.cases:,}" if row.cases else "")
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in (*cells, "; ".join(row.notes))) + " |")
    return "\n".join(lines) + "\n"


def places(page: str) -> list[str]:
    """Return the subjects of a page's places, "" for all rows."""
    return [found["subject"] or "" for found in _PLACE.finditer(page)]


def rewritten(before: str | None, rows: Sequence[Row], head: str) -> tuple[str, list[str]]:
    """Return a page with the rows in its places, and the laws for which it has none.

    Args:
        before: the page; None for a new one.
        rows: of the table.
        head: the sentence about all of them.
    """
    if before is None:
        return f"{markdown(rows)}\n{head}\n", []
    homeless = [] if "" in places(before) else [row.law for row in rows if subject(row) not in places(before)]

    def filled(place: re.Match[str]) -> str:
        wanted = place["subject"] or ""
        mine = [row for row in rows if wanted in ("", subject(row))]
        inside = f"{head}\n" if wanted == "summary" else markdown(mine) if mine else "Nothing.\n"
        return f"{place[1]}{inside}{place[4]}"

    return _PLACE.sub(filled, before), homeless


def _figures(row: Row) -> tuple[str, str, str, str]:
    if row.typical is None or row.worst is None or row.bar is None:
        return "", "", "", row.verdict
    return f"{row.typical:.3g}", f"{row.worst:.3g}", f"{row.bar:.2g} {row.unit}".strip(), row.verdict


def _wrapped(law: str, reference: str, *figures: str) -> list[str]:
    left, right = textwrap.wrap(law, WIDTHS[0] - 2), textwrap.wrap(reference, WIDTHS[1])
    lines = []
    for k in range(max(len(left), len(right))):
        cells = ("  " + left[k] if k < len(left) else "", right[k] if k < len(right) else "")
        lines.append(_line((*cells, *(figures if k == 0 else ()))))
    return lines


def _line(cells: Sequence[str]) -> str:
    padded = [f"{c:<{w}}" if k < 2 else f"{c:>{w}}" for k, (c, w) in enumerate(zip(cells, WIDTHS, strict=False))]
    return " ".join(padded).rstrip()
