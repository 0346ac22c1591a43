"""Figures of a Run. Each function draws on the Axes it is given, or makes one, and returns it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from experiments.results import Run

INK, MUTED, GRID = "#1f2933", "#697586", "#e6e9ee"
GREEN, BLUE, AMBER, RED, VIOLET = "#2f9e6e", "#3572b0", "#e0a030", "#cf4a3e", "#7a5fb0"
STATUS_COLOURS = {"answered": GREEN, "late": AMBER, "refused": VIOLET, "lost": RED}
PRIORITY_COLOURS = {"critical": RED, "high": AMBER, "normal": BLUE, "low": GREEN, "background": MUTED}
BAND = (0.05, 0.95)  # quantiles of the shaded bands


class Plots:
    """The plots of one Run: ``run.plot.latency()``."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def timeline(self, ax: Axes | None = None) -> Axes:
        """Requests by outcome over the run."""
        ax = _axes(ax)
        requests = self._run.requests
        edges, unit = _bins(self._run)
        bottom = np.zeros(len(edges) - 1)
        for status, colour in STATUS_COLOURS.items():
            rows = requests[requests["status"] == status]
            count, _ = np.histogram(rows["arrival_s"].to_numpy(float), bins=edges)
            if count.any():
                ax.bar(edges[:-1] / unit[0], count, np.diff(edges) / unit[0], bottom, align="edge",
                       color=colour, label=status, linewidth=0)  # fmt: skip
                bottom += count
        return dress(ax, f"time ({unit[1]})", "requests", legend=bool(bottom.any()))

    def latency(self, ax: Axes | None = None) -> Axes:
        """Distribution of the latency of answers, by class of priority."""
        ax = _axes(ax)
        requests = self._run.requests
        done = requests[requests["status"].isin(["answered", "late"])]
        for priority, colour in PRIORITY_COLOURS.items():
            values = done.loc[done["priority"] == priority, "latency_s"].dropna().to_numpy(float)
            if len(values):
                share = np.linspace(0, 1, min(len(values), 300) + 1)
                ax.step(np.quantile(values, share), share, where="post", color=colour, linewidth=1.6,
                        label=f"{priority} ({len(values):,})")  # fmt: skip
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_ylim(0, 1)
        return dress(ax, "latency (s)", "share of answers", legend=len(done) > 0)

    def fleet(self, ax: Axes | None = None) -> Axes:
        """Devices contributing, charging and hot over the run."""
        ax = _axes(ax)
        devices, unit = self._run.devices, time_unit(self._run)
        if len(devices):
            hot = devices["die_c"] >= self._run.config.get("policy", {}).get("harvest", {}).get("throttle_temp_c", 55.0)
            by_time = devices.assign(hot=hot).groupby("time_s")[["contributing", "plugged", "hot"]].sum()
            names = {
                "plugged": "on the charger",
                "contributing": "contributing",
                "hot": "hot (throttle limit)",
            }
            for column, colour in (("plugged", BLUE), ("contributing", GREEN), ("hot", RED)):
                ax.plot(by_time.index / unit[0], by_time[column], color=colour, linewidth=1.6, label=names[column])
        ax.set_ylim(bottom=0)
        return dress(ax, f"time ({unit[1]})", "devices", legend=len(devices) > 0)

    def battery(self, ax: Axes | None = None) -> Axes:
        """State of charge of the devices that have a battery: median and 5-95 % band."""
        rows = self._run.devices.dropna(subset=["soc"])
        return self._bands(ax, rows[rows["soc"].between(0, 1)], {"soc": ("charge", BLUE)}, 100.0, "charge (%)")

    def temperature(self, ax: Axes | None = None) -> Axes:
        """Die and skin temperature: median and 5-95 % band."""
        lines = {"die_c": ("die", RED), "skin_c": ("skin", AMBER)}
        return self._bands(ax, self._run.devices, lines, 1.0, "temperature (°C)")

    def contributors(self, ax: Axes | None = None, top: int = 12) -> Axes:
        """The nodes that earned most."""
        from matplotlib.ticker import EngFormatter

        ax = _axes(ax)
        ledger = ledger_of(self._run)
        best = sorted(ledger.items(), key=lambda item: (-item[1], item[0]))[:top][::-1]
        ax.barh([name for name, _ in best], [value for _, value in best], color=GREEN, height=0.65)
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
        unit = "token-layers earned" if "ledger" in self._run.manifest else "tokens of answers worked on"
        return dress(ax, unit, "", grid="x")

    def events(self, ax: Axes | None = None) -> Axes:
        """Faults and leaders on one timeline."""
        ax = _axes(ax)
        unit = time_unit(self._run)
        spans = leader_spans(self._run)
        kinds = ["leader", *dict.fromkeys(self._run.faults["kind"])]
        names = sorted({node for _, _, node in spans})
        shades = [BLUE, GREEN, VIOLET, AMBER, MUTED]
        for start, end, node in spans:
            colour = shades[names.index(node) % len(shades)]
            ax.barh(0, (end - start) / unit[0], left=start / unit[0], color=colour, height=0.5, alpha=0.85)
            if end - start > 0.07 * duration_s(self._run):
                ax.text((start + end) / 2 / unit[0], 0, node, ha="center", va="center", color="white", fontsize=8)
        for kind, start, end, _ in fault_spans(self._run):
            row = kinds.index(kind)
            ax.plot(
                [start / unit[0], end / unit[0]],
                [row, row],
                color=RED,
                linewidth=6,
                alpha=0.45,
                solid_capstyle="butt",
            )
            ax.plot(start / unit[0], row, "|", color=RED, markersize=10, markeredgewidth=1.4)
        ax.set_yticks(range(len(kinds)), kinds)
        ax.set_ylim(-0.6, len(kinds) - 0.4)
        ax.invert_yaxis()
        ax.set_xlim(0, duration_s(self._run) / unit[0])
        return dress(ax, f"time ({unit[1]})", "", grid="x")

    def agreement(self, ax: Axes | None = None) -> Axes:
        """Views, their leaders, faults and commits on one timeline (`experiments.agreement_plot`)."""
        from experiments.agreement_plot import agreement

        return agreement(self._run, ax)

    def _bands(self, ax: Axes | None, rows: Any, lines: dict[str, tuple[str, str]], scale: float, label: str) -> Axes:
        ax, unit = _axes(ax), time_unit(self._run)
        for column, (name, colour) in lines.items() if len(rows) else ():
            parts = rows.groupby("time_s")[column].quantile([BAND[0], 0.5, BAND[1]]).unstack() * scale
            x = parts.index / unit[0]
            ax.fill_between(x, parts[BAND[0]], parts[BAND[1]], color=colour, alpha=0.18, linewidth=0)
            ax.plot(x, parts[0.5], color=colour, linewidth=1.6, label=f"{name}: median, 5–95 %")
        return dress(ax, f"time ({unit[1]})", label, legend=len(rows) > 0)


def ledger_of(run: Run) -> dict[str, float]:
    """Return what each node earned: the manifest's ledger, or else the tokens of the answers it worked on."""
    if isinstance(ledger := run.manifest.get("ledger"), dict):
        return {str(node): float(value) for node, value in ledger.items()}
    found: dict[str, float] = {}
    done = run.requests[run.requests["status"].isin(["answered", "late"])]
    for nodes, tokens in zip(done["nodes"], done["tokens"], strict=True):
        for node in split_nodes(nodes):
            found[node] = found.get(node, 0.0) + float(tokens or 0)
    return found


def split_nodes(nodes: Any) -> list[str]:
    """Return the node names of one cell of ``requests.nodes``: a list, or text with commas."""
    if nodes is None or isinstance(nodes, float):
        return []
    return [n for n in nodes.replace(" ", ",").split(",") if n] if isinstance(nodes, str) else [str(n) for n in nodes]


def leader_spans(run: Run) -> list[tuple[float, float, str]]:
    """Return (start, end, node) of every leadership that begins within the run's time, in seconds.

    A run goes on after its time, until its requests have ended; figures end with it, and words beyond would break them.
    """
    rows = run.decisions[run.decisions["kind"] == "leader"].sort_values("time_s", kind="stable")
    rows = rows[rows["time_s"] < duration_s(run)]
    starts, nodes = rows["time_s"].tolist(), rows["node"].tolist()
    return list(zip(starts, [*starts[1:], duration_s(run)], nodes, strict=True)) if starts else []


def fault_spans(run: Run) -> list[tuple[str, float, float, str]]:
    """Return (kind, start, end, node) of every fault begun within the run's time; an open end is the run's end."""
    found: list[tuple[str, float, float, str]] = []
    begun: dict[tuple[str, str], float] = {}
    rows = run.faults.sort_values("time_s", kind="stable")
    rows = rows[(rows["time_s"] < duration_s(run)) | (rows["phase"] != "start")]
    for time_s, kind, node, phase in zip(rows["time_s"], rows["kind"], rows["node"], rows["phase"], strict=True):
        key = (str(kind), str(node))
        if phase == "start":
            begun[key] = float(time_s)
        elif key in begun:
            found.append((key[0], begun.pop(key), float(time_s), key[1]))
    found += [(kind, start, duration_s(run), node) for (kind, node), start in begun.items()]
    return sorted(found, key=lambda span: (span[1], span[0], span[3]))


def new_axes(width_in: float = 6.4, height_in: float = 2.9) -> Axes:
    """Return the Axes of a new figure that no pyplot state holds on to."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained").add_subplot()


def _axes(ax: Axes | None) -> Axes:
    return new_axes() if ax is None else ax


def duration_s(run: Run) -> float:
    """Return how long the run lasted."""
    return float(run.config.get("duration_s") or run.summary.get("duration_s") or 1.0)


def time_unit(run: Run) -> tuple[float, str]:
    """Return seconds in the unit of the time axis, and its name."""
    whole_s = duration_s(run)
    return (3600.0, "h") if whole_s > 7200 else (60.0, "min") if whole_s > 300 else (1.0, "s")


def _bins(run: Run) -> tuple[Any, tuple[float, str]]:
    return np.linspace(0, duration_s(run), 49), time_unit(run)


def dress(ax: Axes, x: str, y: str, *, legend: bool = False, grid: str = "both") -> Axes:
    """Give an Axes its labels and the house's looks."""
    if x == "time (h)":
        from matplotlib.ticker import MultipleLocator

        ax.xaxis.set_major_locator(MultipleLocator(max(1, round(np.diff(ax.get_xlim())[0] / 8))))
    ax.set_xlabel(x, color=MUTED, fontsize=9)
    ax.set_ylabel(y, color=MUTED, fontsize=9)
    ax.tick_params(colors=MUTED, labelsize=8.5, length=0)
    ax.grid(axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
    ax.set_axisbelow(True)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(GRID)
    if legend:
        columns = len(ax.get_legend_handles_labels()[0])
        ax.legend(frameon=False, fontsize=8.5, labelcolor=INK, ncols=columns if columns < 5 else 3, loc="lower left",
                  bbox_to_anchor=(0, 1), borderpad=0, columnspacing=1.2, handlelength=1.4)  # fmt: skip
    return ax
