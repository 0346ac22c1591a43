"""Epochs of a council on the timeline of agreement: who sits when, and how safe the lot that chose them is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.plots import INK, MUTED, duration_s

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from experiments.results import Run

DECIDED = ("epoch", "command", "members", "learners", "reason", "roll", "faulty", "failure_ppb", "picks", "picked_ppb")
SEATED = ("index", "members", "learners")
LABEL_SHARE = 0.06
"""An epoch narrower than this share of the time gets no words: they would cover its neighbours'."""


class Epoch(NamedTuple):
    """A committee in office from ``start_s`` to ``end_s``.

    Attributes:
        failure: bound of the probability that more than f of it are faulty, None where it is not chosen by lot.
        picked: the bound with what a lying leader may pick from.
    """

    number: int
    start_s: float
    end_s: float
    members: tuple[str, ...]
    failure: float | None
    picked: float | None


def epochs(run: Run) -> list[Epoch]:
    """Return the epochs of a run, the founders' first; none of a village whose committee is fixed.

    An epoch begins where the first honest log has the members that were decided. One that was followed before its
    committee took office is left out, as are those after the run's time, in which it drains.
    """
    told = run.decisions
    told = told[told["kind"].isin(("decision", "seated"))].sort_values("time_s", kind="stable")
    told = told[told["time_s"] < duration_s(run)]
    begun = [(0, 0.0, tuple(run.manifest.get("committee", ())), None, None)]
    waiting: dict[str, Any] | None = None
    for time_s, kind, detail in zip(told["time_s"], told["kind"], told["detail"], strict=True):
        said = fields(detail, DECIDED if kind == "decision" else SEATED)
        last = begun[-1]
        if kind == "decision" and said["epoch"] > max(last[0], waiting["epoch"] if waiting else 0):
            waiting = said
            now = last[2]  # who sits
        elif kind == "seated":
            now = tuple(said["members"])
        if waiting and set(now) == set(waiting["members"]):
            chosen = not waiting["reason"]
            bounds = [waiting[name] / 1e9 if chosen else None for name in ("failure_ppb", "picked_ppb")]
            begun.append((waiting["epoch"], float(time_s), tuple(waiting["members"]), *bounds))  # type: ignore[arg-type]
            waiting = None
    ends = [one[1] for one in begun[1:]] + [duration_s(run)]
    found = [Epoch(one[0], one[1], end, *one[2:]) for one, end in zip(begun, ends, strict=True)]
    return found if len(found) > 1 else []


def fields(detail: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Return a message's fields: the twin writes them by name, real nodes as they travel, tag first."""
    value = json.loads(detail)
    return value if isinstance(value, dict) else dict(zip(names, value[1:], strict=False))


def who_sat(run: Run) -> list[str]:
    """Return the founders, then whoever else sat, in the order in which they came."""
    found = dict.fromkeys(str(member) for member in run.manifest.get("committee", ()))
    return list(found | dict.fromkeys(name for epoch in epochs(run) for name in epoch.members))


def draw(run: Run, ax: Axes, rows: dict[str, int], at: float, scale: float) -> None:
    """Draw epochs in the row ``at``, each with its bound, and a line under every member while it sits."""
    total_s = duration_s(run)
    for epoch in epochs(run):
        left, width = epoch.start_s / scale, (epoch.end_s - epoch.start_s) / scale
        ax.barh(at, width, left=left, height=0.5, color=MUTED, alpha=0.45 if epoch.number % 2 else 0.25)
        if epoch.end_s - epoch.start_s > LABEL_SHARE * total_s:
            bound = "" if epoch.failure is None else f": {epoch.failure:.2g}"
            ax.text(left + width / 2, at, f"{epoch.number}{bound}", ha="center", va="center", color=INK, fontsize=8)
        ax.axvline(left, color=MUTED, linewidth=0.5, alpha=0.5)
        for member in epoch.members:
            ax.barh(rows[member] + 0.3, width, left=left, height=0.07, color=INK, alpha=0.8)
