"""Figures of a fleet's run. Each function draws on the Axes it is given, or makes one, and returns it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.plots import AMBER, BLUE, GREEN, MUTED, RED, VIOLET, dress, new_axes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from experiments.results import Run

KIND_COLOURS = {"phone": BLUE, "tablet": VIOLET, "laptop": GREEN, "desktop": AMBER, "gpu_box": RED}
HOUR_S = 3600.0


class FleetPlots:
    """The plots of one fleet's run: ``run.plot.lent()``."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def lent(self, ax: Axes | None = None) -> Axes:
        """Share of each kind's devices that lend, over the run."""
        ax = ax or new_axes()
        for kind, rows in self._kinds():
            share = rows["contributing"] / rows["devices"] * 100.0
            ax.plot(rows["time_s"] / HOUR_S, share, color=KIND_COLOURS[kind], linewidth=1.5, label=kind)
        ax.set_ylim(bottom=0)
        return dress(ax, "time (h)", "devices that lend (%)", legend=True)

    def power(self, ax: Axes | None = None) -> Axes:
        """What the fleet draws, and the village's part, mean over each window."""
        ax = ax or new_axes()
        rows = self._run.fleet.groupby("time_s")[["total_mj", "village_mj", "plug_mj"]].sum()
        window_s = float(self._run.config["window_s"])
        for column, name, colour in (
            ("total_mj", "devices", MUTED), ("plug_mj", "from the plug", BLUE), ("village_mj", "village's work", GREEN),
        ):  # fmt: skip
            ax.plot(rows.index / HOUR_S, rows[column] * 1e-9 / window_s, color=colour, linewidth=1.5, label=name)
        ax.set_ylim(bottom=0)
        return dress(ax, "time (h)", "power (MW)", legend=True)

    def heat(self, ax: Axes | None = None) -> Axes:
        """Mean skin temperature of each kind, and the hottest skin of all at each window's end."""
        ax = ax or new_axes()
        for kind, rows in self._kinds():
            mean_c = rows["skin_mc"] / rows["devices"] * 1e-3
            ax.plot(rows["time_s"] / HOUR_S, mean_c, color=KIND_COLOURS[kind], linewidth=1.5, label=f"{kind}, mean")
        carried = self._run.fleet[self._run.fleet["kind"].isin(["phone", "tablet", "laptop"])]
        if len(carried):
            worst = carried.groupby("time_s")["skin_c_max"].max()
            ax.plot(
                worst.index / HOUR_S, worst, color=RED, linewidth=1.0, linestyle=":", label="hottest carried device"
            )
        return dress(ax, "time (h)", "skin (°C)", legend=True)

    def charge(self, ax: Axes | None = None) -> Axes:
        """Mean state of charge of each kind that has a battery."""
        ax = ax or new_axes()
        for kind, rows in self._kinds():
            if rows["batteries"].max() > 0:
                mean = rows["soc_ppm"] / rows["batteries"] * 1e-4
                ax.plot(rows["time_s"] / HOUR_S, mean, color=KIND_COLOURS[kind], linewidth=1.5, label=kind)
        ax.set_ylim(0, 100)
        return dress(ax, "time (h)", "mean charge (%)", legend=True)

    def harm(self, ax: Axes | None = None) -> Axes:
        """How harm is spread: share of devices at or above so many minutes with hot skin, and sessions interrupted."""
        ax = ax or new_axes()
        totals = self._run.totals
        owned = totals[totals["battery_wh"] > 0]
        days = float(self._run.config["duration_s"]) / 86_400.0
        for values, name, colour in (
            (owned["hot_s"] / 60.0 / days, "minutes a day with hot skin", RED),
            (owned["interrupted"] / days, "interrupted sessions a day", VIOLET),
            (owned["times_low"] / days, "times a day below 20 %", AMBER),
        ):
            worst_first = np.sort(values.to_numpy(float))[::-1]
            share = (np.arange(worst_first.size) + 1) / worst_first.size
            picks = np.unique(np.geomspace(1, worst_first.size, 200).astype(int)) - 1
            ax.plot(share[picks] * 100.0, worst_first[picks], color=colour, linewidth=1.5, label=name)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
        return dress(ax, "worst share of devices with a battery (%)", "at least", legend=True)

    def history(self, ax: Axes | None = None, device: int | None = None) -> Axes:
        """One sampled device through the run: charge, skin, and when it lent."""
        ax = ax or new_axes()
        rows = self._run.history(device)
        if not len(rows):
            return dress(ax, "time (h)", "no histories were kept")
        chosen = rows["device"].iloc[0]
        hours = rows["time_s"] / HOUR_S
        ax.plot(hours, rows["soc"] * 100.0, color=BLUE, linewidth=1.5, label="charge (%)")
        ax.plot(hours, rows["skin_c"], color=AMBER, linewidth=1.2, label="skin (°C)")
        ax.plot(hours, rows["die_c"], color=RED, linewidth=0.8, alpha=0.7, label="die (°C)")
        ax.fill_between(hours, 0, 4, where=rows["contribute"].to_numpy(bool), color=GREEN, linewidth=0, label="lends")
        ax.set_ylim(0, 100)
        return dress(ax, "time (h)", f"device {chosen}", legend=True)

    def _kinds(self) -> list[tuple[str, pd.DataFrame]]:
        table: Any = self._run.fleet
        found = dict(list(table.groupby("kind")))
        return [(kind, found[kind].sort_values("time_s")) for kind in KIND_COLOURS if kind in found]
