"""The report of a fleet's run: what was lent, what it cost its owners, and how both are spread."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from experiments.report import figure_html, provenance_html, reproduce_html, section, tiles_html, verdict_html
from experiments.results import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from experiments.results import Run


def fleet_body(run: Run) -> str:
    """Return the sections of a fleet's report."""
    figures: list[tuple[str, Callable[[Axes], Any]]] = [
        ("Who lends, by kind", run.plot.lent),
        ("Power", run.plot.power),
        ("Skin temperature", run.plot.heat),
        ("State of charge", run.plot.charge),
        ("How harm is spread over owners", run.plot.harm),
        ("One sampled device", run.plot.history),
    ]
    return "".join([
        verdict_html(run),
        section("Numbers", tiles_html(run)),
        "<div class=grid>" + "".join(section(name, figure_html(draw)) for name, draw in figures) + "</div>",
        section("By kind", _kinds(run)),
        section("How to reproduce", reproduce_html(run)),
        section("Provenance", provenance_html(run)),
    ])  # fmt: skip


def _kinds(run: Run) -> str:
    head = "<tr><th>kind" + "".join(
        f"<th class=n>{name}"
        for name in ("devices", "lent (h)", "chip (h)", "hot (min)", "times low", "interrupted", "cycles")
    )
    lines = []
    for kind, rows in run.totals.groupby("kind", sort=False):
        cells = (
            len(rows), rows["lent_s"].sum() / 3600.0, rows["chip_s"].sum() / 3600.0, rows["hot_s"].sum() / 60.0,
            rows["times_low"].sum(), rows["interrupted"].sum(), rows["full_cycles"].sum(),
        )  # fmt: skip
        lines.append(
            f"<tr><td>{html.escape(str(kind))}" + "".join(f"<td class=n>{number(float(cell))}" for cell in cells)
        )
    return f"<table>{head}{''.join(lines)}</table>"
