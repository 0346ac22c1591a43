"""The figures of runs that the README shows: ``python -m experiments.figure RUN OUT.png``, or one plot by name."""

from __future__ import annotations

import sys
from pathlib import Path

from experiments.results import Run, open_run


def draw(run: Run, out: Path) -> None:
    """Draw the fleet, the requests, the charge and the timeline of a run into one PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.4), layout="constrained")
    panels = figure.subplot_mosaic([["fleet", "heat"], ["battery", "latency"], ["timeline", "timeline"]])
    run.plot.fleet(ax=panels["fleet"])
    run.plot.temperature(ax=panels["heat"])
    run.plot.battery(ax=panels["battery"])
    run.plot.latency(ax=panels["latency"])
    run.plot.timeline(ax=panels["timeline"])
    figure.savefig(out, dpi=130)


def draw_one(run: Run, out: Path, plot: str) -> None:
    """Draw one plot of a run (`experiments.plots.Plots`) into a PNG of its own."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    getattr(run.plot, plot)(ax=figure.add_subplot())
    figure.savefig(out, dpi=130)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: python -m experiments.figure RUN OUT.png [PLOT]")
    if len(sys.argv) == 4:
        draw_one(open_run(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    else:
        draw(open_run(sys.argv[1]), Path(sys.argv[2]))
