"""Figures of agreement: what others measured, in ink, and what the twin gives, in colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.plots import AMBER, BLUE, GREEN, INK, MUTED, VIOLET, dress
from experiments.published import elections, regions
from experiments.published.detection import first_suspicion_s
from experiments.published.false_positives import SHOWN
from experiments.published.hotstuff import FITTED_ON
from policies.config import SwimConfig

DOCS = Path(__file__).resolve().parents[2] / "docs"
RANGES = ((150, 155, BLUE), (150, 200, GREEN), (12, 24, AMBER))
THEIRS = {"color": INK, "marker": "o", "markersize": 4.5, "linewidth": 1.2, "linestyle": (0, (4, 2))}
SHADOW = {"color": MUTED, "marker": "x", "markersize": 4.5, "linewidth": 0.9, "linestyle": (0, (1, 2))}


def election_cdf(ax: Axes, trials: int = 300) -> Axes:
    """Draw the share of elections that are over by a time, and the published numbers as vertical marks."""
    for low, high, colour in RANGES:
        times = np.sort(elections.downtimes_ms(low, high, trials))
        ax.step(times, np.arange(1, trials + 1) / trials, where="post", color=colour, label=f"{low}-{high} ms")
    share = {"median": 0.5, "mean": 0.5, "worst": 1.0}
    colours = {(low, high): colour for low, high, colour in RANGES}
    for row in elections.PUBLISHED:
        ax.plot([row.ms], [share[row.what]], "o", color=INK, markersize=6, zorder=4,
                markerfacecolor=colours[int(row.low_ms), int(row.high_ms)])  # fmt: skip
    ax.set_xscale("log")
    return dress(ax, "time without a leader (ms)", "share of elections", legend=True)


def against_size(ax: Axes, what: str, label: str, rows: pd.DataFrame) -> Axes:
    """Draw one quantity of the HotStuff table against the number of members, both settings."""
    for setting, colour in (("1 KB", BLUE), ("10 ms", GREEN)):
        one = rows[(rows["setting"] == setting) & (rows["what"] == what)]
        ax.plot(one["n"], one["theirs"], **THEIRS, label="measured" if setting == "1 KB" else None)  # type: ignore[arg-type]
        ax.plot(one["n"], one["shadow"], **SHADOW, label="Shadow" if setting == "1 KB" else None)  # type: ignore[arg-type]
        ax.plot(one["n"], one["ours"], color=colour, linewidth=1.8, label=f"ours, {setting}")
        fitted = one[one["n"].isin(FITTED_ON)]
        ax.plot(fitted["n"], fitted["ours"], "s", color=colour, markersize=6)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(rows["n"].unique(), [f"{n}" for n in rows["n"].unique()])
    return dress(ax, "members", label, legend=what == "kops")


def region_bars(ax: Axes, rows: list[tuple[regions.Published, float]]) -> Axes:
    """Draw the latencies by region: theirs, Shadow's, ours."""
    x = np.arange(len(rows))
    ax.bar(x - 0.27, [r.real for r, _ in rows], 0.25, color=INK, label="measured")
    ax.bar(x, [r.shadow for r, _ in rows], 0.25, color=MUTED, label="Shadow")
    ax.bar(x + 0.27, [ours for _, ours in rows], 0.25, color=BLUE, label="ours")
    ax.set_xticks(x, [r.what for r, _ in rows])
    return dress(ax, "", "latency (ms)", legend=True, grid="y")


def detection(ax: Axes, rows: pd.DataFrame) -> Axes:
    """Draw how long a crash goes unnoticed against the size of the group, and SWIM's expectation."""
    for name, colour in (("swim", BLUE), ("phi", VIOLET)):
        one = rows[rows["detector"] == name]
        ax.plot(one["n"], one["first_s"], "o-", color=colour, label=f"{name}: suspected")
        ax.plot(one["n"], one["all_s"], "s--", color=colour, label=f"{name}: known to all")
    ax.axhline(first_suspicion_s(SwimConfig()), color=INK, linewidth=1.2, linestyle=(0, (4, 2)), label="e / (e - 1) s")
    ax.set_xscale("log", base=2)
    ax.set_xticks(rows["n"].unique(), [f"{n}" for n in rows["n"].unique()])
    ax.set_ylim(0, None)
    return dress(ax, "members", "after the crash (s)", legend=True)


def bytes_sent(ax: Axes, rows: pd.DataFrame) -> Axes:
    """Draw what a member sends against the size of the group."""
    for name, colour in (("swim", BLUE), ("phi", VIOLET)):
        one = rows[rows["detector"] == name]
        ax.plot(one["n"], one["bytes_per_s"], "o-", color=colour, label=name)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(rows["n"].unique(), [f"{n}" for n in rows["n"].unique()])
    return dress(ax, "members", "bytes/s sent by a member", legend=True)


def false_deaths(ax: Axes, rows: pd.DataFrame) -> Axes:
    """Draw how many healthy members one holds dead while others are slow: the mean of the seeds, and their range."""
    for name, colour in (("plain", AMBER), ("lifeguard", BLUE), ("phi", VIOLET)):
        one = rows[rows["detector"] == name]
        by_size = (one["dead"] / one["n"]).groupby(one["n"])
        ax.plot(by_size.mean(), "o-", color=colour, label=SHOWN[name])
        ax.fill_between(by_size.min().index, by_size.min(), by_size.max(), color=colour, alpha=0.25, linewidth=0)
    ax.set_xscale("log", base=2)
    ax.set_yscale("symlog", linthresh=0.1)
    ax.set_ylim(0, None)
    ax.set_xticks(rows["n"].unique(), [f"{n}" for n in rows["n"].unique()])
    return dress(ax, "members, a quarter of them slow", "false deaths a member", legend=True)


def draw(out: Path) -> None:
    """Draw all seven panels.

    Args:
        out: a .png, .svg or .pdf.
    """
    table, members = pd.read_csv(DOCS / "hotstuff.csv"), pd.read_csv(DOCS / "membership.csv")
    figure = Figure(figsize=(13, 10.5), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(2, 1))
    axes = [*above.subplots(2, 2).ravel(), *below.subplots(1, 3)]
    election_cdf(axes[0])
    region_bars(axes[1], regions.table())
    against_size(axes[2], "kops", "thousand operations/s", table)
    against_size(axes[3], "ms", "latency (ms)", table)
    detection(axes[4], members)
    false_deaths(axes[5], pd.read_csv(DOCS / "false_positives.csv"))
    bytes_sent(axes[6], members)
    figure.savefig(out, dpi=130)
