"""The figure of a run that the README shows: ``python -m experiments.figure RUN OUT.png``."""

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


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m experiments.figure RUN OUT.png")
    draw(open_run(sys.argv[1]), Path(sys.argv[2]))
