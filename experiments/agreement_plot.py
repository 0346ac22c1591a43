"""The timeline of agreement: views, who leads them, what was done to whom, and what was committed, on one axis."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.council_plot import draw, epochs, who_sat
from experiments.plots import (
    AMBER,
    BLUE,
    GREEN,
    INK,
    MUTED,
    RED,
    VIOLET,
    dress,
    duration_s,
    fault_spans,
    new_axes,
    time_unit,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from experiments.results import Run

BINS = 120
"""Columns of the histogram of commits: finer ones are narrower than a line in a report."""
EPOCH_TERMS = 1 << 32
"""Views of each set of members begin at a multiple of this, where members change."""
LABEL_SHARE = 0.035
"""A view narrower than this share of the time gets no number: it would cover its neighbours'."""


def agreement(run: Run, ax: Axes | None = None) -> Axes:
    """Draw a row a member of the committee, a row of views above, and commits a second below.

    A bar is a view (a term in Raft, of several views under HotStuff) from the moment an honest member entered it. Red
    areas are what faults did; a red cross is proof of a member's guilt, on its row. Where the committee is re-elected
    everybody who sat has a row, underlined while it sits, and a row of epochs has each one's bound: the probability
    that more than f of it are faulty (`experiments.council_plot`). Views then count within an epoch.
    """
    ax = ax or new_axes()
    scale, name = time_unit(run)
    members = who_sat(run)
    elected = bool(epochs(run))
    rows = {member: row for row, member in enumerate(members, 1)}
    _faults(ax, run, rows, scale)
    _views(ax, run, rows, scale)
    if elected:
        draw(run, ax, rows, -1, scale)
    for time_s, member in ((at, who) for at, who in accused(run) if who in rows):
        ax.plot([time_s / scale], [rows[member]], "x", color=RED, markersize=7, markeredgewidth=1.8)
    top = _commits(ax, run, len(members) + 1, scale)
    liars = set(run.manifest.get("adversaries", {}))
    labels = [f"{member} (liar)" if member in liars else member for member in members]
    above = ["epoch: bound"] if elected else []
    ax.set_yticks(range(-len(above), len(members) + 2), [*above, "view", *labels, f"commits\n(to {top:.3g}/s)"])
    ax.set_ylim(len(members) + 1.5, -0.6 - len(above))
    ax.set_xlim(0, duration_s(run) / scale)
    return dress(ax, f"time ({name})", "", grid="x")


def views(run: Run) -> list[tuple[float, float, str, int]]:
    """Return (start_s, end_s, leader, view) of every view, as the first honest member that entered it said.

    Those after the run's time, in which it drains, are left out.
    A view that is older than one already begun is a member's that comes late, and none of its own.
    """
    told = run.decisions
    told = told[(told["kind"] == "follows") & (told["path"] == "consensus")].sort_values("time_s", kind="stable")
    told = told[told["time_s"] < duration_s(run)]
    begun: list[tuple[float, str, int]] = []
    for time_s, detail in zip(told["time_s"], told["detail"], strict=True):
        view, leader = _fields(detail, "term", "leader")
        if not begun or view > begun[-1][2]:
            begun.append((float(time_s), leader, view))
    ends = [start for start, _, _ in begun[1:]] + [duration_s(run)] * bool(begun)
    return [(start, end, leader, view) for (start, leader, view), end in zip(begun, ends, strict=True)]


def accused(run: Run) -> list[tuple[float, str]]:
    """Return (time_s, member) of everything that proves a member's guilt, as honest members announced it."""
    told = run.decisions
    told = told[(told["kind"] == "evidence") & (told["path"] == "consensus")]
    return [(float(t), _fields(d, "culprit")[0]) for t, d in zip(told["time_s"], told["detail"], strict=True)]


def _fields(detail: str, *names: str) -> tuple[Any, ...]:
    """Return the first fields of a message: the twin writes them by name, real nodes as they travel, tag first."""
    value = json.loads(detail)
    return tuple(value[n] for n in names) if isinstance(value, dict) else tuple(value[1 : 1 + len(names)])


def _views(ax: Axes, run: Run, rows: dict[str, int], scale: float) -> None:
    shades = (BLUE, GREEN, VIOLET, AMBER, MUTED)
    for start, end, leader, view in views(run):
        if leader not in rows:
            continue
        colour = shades[rows[leader] % len(shades)]
        for row, height in ((0, 0.5), (rows[leader], 0.34)):
            ax.barh(row, (end - start) / scale, left=start / scale, height=height, color=colour, alpha=0.85)
        if end - start > LABEL_SHARE * duration_s(run):
            middle = (start + end) / 2 / scale
            ax.text(middle, 0, str(view % EPOCH_TERMS), ha="center", va="center", color="white", fontsize=8)


def _faults(ax: Axes, run: Run, rows: dict[str, int], scale: float) -> None:
    words: dict[tuple[float, int], list[str]] = {}  # faults that begin together share a line of words
    for kind, start, end, node in fault_spans(run):
        struck = [row for name, row in rows.items() if node == "*" or re.search(rf"\b{re.escape(name)}\b", node)]
        for row in struck:
            ax.barh(row, (end - start) / scale, left=start / scale, height=0.8, color=RED, alpha=0.16)
        if struck:  # what befell a node outside the committee has its place in the other timeline
            words.setdefault((start / scale, min(struck)), []).append(kind)
    for (left, row), kinds in words.items():
        ax.text(left, row - 0.42, ", ".join(kinds), color=RED, fontsize=7, va="top", ha="left")


def _commits(ax: Axes, run: Run, row: int, scale: float) -> float:
    """Draw commits a second as a histogram in one row; return the highest rate."""
    edges = np.linspace(0.0, duration_s(run), BINS + 1)
    count, _ = np.histogram(run.commits["first_s"].to_numpy(float), bins=edges)
    rate = count / np.diff(edges)
    top = float(rate.max(initial=0.0))
    if top > 0.0:
        left, width, height = edges[:-1] / scale, np.diff(edges) / scale, -0.85 * rate / top
        ax.bar(left, height, width, bottom=row + 0.4, align="edge", color=INK, alpha=0.7)
    return top
