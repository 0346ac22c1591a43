"""Comparison of two sets of Runs, in pairs, with intervals; a difference inside the noise is said to be one.

Repeats are paired by seed and give Student's t interval of the mean difference. A single pair is compared
request by request (the same ``op_id`` in both), with a bootstrap of the pairs (Efron 1979, percentile
interval).
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.compose import UsageError
from experiments.results import Run, number
from experiments.statistics import DONE, STATISTICS, bootstrap_interval, metrics_of, t_interval

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NEGLIGIBLE = 1e-6  # of A: nobody acts on less, and it may be the rounding of a clock
METRICS: dict[str, tuple[str, str]] = {
    "latency_mean_s": ("latency mean (s)", "lower"),
    "latency_p50_s": ("latency p50 (s)", "lower"),
    "latency_p95_s": ("latency p95 (s)", "lower"),
    "ttft_mean_s": ("TTFT mean (s)", "lower"),
    "ttft_p50_s": ("TTFT p50 (s)", "lower"),
    "ttft_p95_s": ("TTFT p95 (s)", "lower"),
    "answered_share": ("answered in time", "higher"),
    "throughput_tokens_per_s": ("throughput (tok/s)", "higher"),
    "commits": ("commits", ""),
    "elections": ("elections", ""),
}
"""Name to its label and which way is better, where one is."""


@dataclass(frozen=True)
class Difference:
    """One metric in A and in B.

    Attributes:
        metric: a key of `METRICS`.
        a, b: its value (mean over the pairs).
        low, high: interval of B - A; NaN where one pair says nothing about noise.
        pairs: how many pairs the interval rests on.
    """

    metric: str
    a: float
    b: float
    low: float
    high: float
    pairs: int

    @property
    def difference(self) -> float:
        """B - A."""
        return self.b - self.a

    @property
    def relative(self) -> float:
        """(B - A) / A; NaN if A is zero."""
        return self.difference / self.a if self.a else float("nan")

    @property
    def verdict(self) -> str:
        """``inside the noise``, ``B better/worse/higher/lower``, ``equal``, or ``one pair``: no interval."""
        if max(abs(x) for x in (self.difference, self.low, self.high) if x == x) <= NEGLIGIBLE * abs(self.a):
            return "equal"
        if self.low != self.low:
            return "one pair"
        if self.low <= 0 <= self.high:
            return "inside the noise"
        way = "higher" if self.low > 0 else "lower"
        better = METRICS[self.metric][1]
        return f"B {way}" if not better else "B better" if way == better else "B worse"


@dataclass(frozen=True)
class Comparison:
    """A table of differences, and whether both sides ran the same policies."""

    a: str
    b: str
    differences: tuple[Difference, ...]
    pairs: int
    kind: str
    same_sources: bool
    changed: tuple[str, ...]
    runs: tuple[tuple[Run, Run], ...]

    @property
    def table(self) -> pd.DataFrame:
        """One row a metric."""
        import pandas as pd

        return pd.DataFrame([
            {"metric": d.metric, "a": d.a, "b": d.b, "difference": d.difference, "relative": d.relative,
             "low": d.low, "high": d.high, "pairs": d.pairs, "verdict": d.verdict}
            for d in self.differences
        ]).set_index("metric")  # fmt: skip

    @property
    def worse(self) -> list[str]:
        """Metrics in which B is worse beyond the noise."""
        return [d.metric for d in self.differences if d.verdict == "B worse"]

    @property
    def sources(self) -> str:
        """One sentence on the policies' source digests."""
        if self.same_sources:
            return "same policies: every source digest is equal"
        return f"different policies: {', '.join(self.changed) or 'no digests recorded'}"

    @property
    def profiles(self) -> str:
        """One sentence if the sides ran at different host profiles (``assumed``: nobody measured), else nothing."""
        names = [[str(run.manifest.get("profile", "")) for run in side] for side in zip(*self.runs, strict=True)]
        sides = [sorted(set(side)) for side in names]
        if sides[0] == sides[1]:
            return ""
        named = [",".join(profile[:12] or "none" for profile in side[:2]) for side in sides]
        return f"different profiles: A {named[0]}, B {named[1]}"

    def text(self) -> str:
        """Return the table in at most 80 columns."""
        lines = [f"A = {self.a}", f"B = {self.b}", f"{self.pairs} pairs {self.kind}; {self.sources}"]
        lines += [self.profiles, ""] if self.profiles else [""]
        lines.append(f"{'':18}{'A':>9}{'B':>9}{'B-A':>8}  {'95 % of B-A':<17} verdict")
        for d in self.differences:
            interval = "" if d.low != d.low or d.verdict == "equal" else f"{_short(d.low)} .. {_short(d.high)}"
            change = "–" if d.relative != d.relative else f"{d.relative:+.1%}"
            values = f"{METRICS[d.metric][0]:18}{number(d.a):>9}{number(d.b):>9}{change:>8}"
            lines.append(f"{values}  {interval:<17} {d.verdict}".rstrip())
        return "\n".join(lines)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the relative differences with their intervals; zero is no difference."""
        from experiments.plots import BLUE, GREEN, MUTED, RED, dress, new_axes

        ax = ax or new_axes()
        shown = [d for d in self.differences if d.relative == d.relative][::-1]
        colours = {"B better": GREEN, "B worse": RED, "inside the noise": MUTED}
        for row, d in enumerate(shown):
            colour = colours.get(d.verdict, BLUE)
            ax.plot([100 * d.low / abs(d.a), 100 * d.high / abs(d.a)], [row, row], color=colour, linewidth=2.2)
            ax.plot(100 * d.relative, row, "o", color=colour, markersize=5)
        ax.axvline(0, color=MUTED, linewidth=0.8)
        ax.set_yticks(range(len(shown)), [METRICS[d.metric][0] for d in shown])
        return dress(ax, "B against A (%), 95 % interval", "", grid="x")

    def plain(self) -> dict[str, Any]:
        """Return plain data for JSON; what is not a number is null."""
        rows = self.table.reset_index().to_dict("records")
        clean = [{k: None if isinstance(v, float) and v != v else v for k, v in row.items()} for row in rows]
        return {
            "a": self.a,
            "b": self.b,
            "pairs": self.pairs,
            "kind": self.kind,
            "same_sources": self.same_sources,
            "changed": list(self.changed),
            "profiles": self.profiles,
            "metrics": clean,
        }

    def _repr_html_(self) -> str:
        return f"<div><p>{html.escape(self.sources)}</p>{self.table.round(4).to_html()}</div>"


def compare(a: Any, b: Any) -> Comparison:
    """Compare two Runs, or two sets of repeats.

    Args:
        a: a `Run`, a list of them, or a path to a Run or to a folder that holds repeats.
        b: the same; differences are B - A.

    Raises:
        UsageError: the sides have no seed in common, or there is nothing there.
    """
    left, right = _runs(a), _runs(b)
    pairs = pair(left, right)
    single = len(pairs) == 1
    differences = _by_request(*pairs[0]) if single else _by_run(pairs)
    changed = _changed_sources([run for pair_ in pairs for run in pair_])
    recorded = all(run.manifest.get("policies") for pair_ in pairs for run in pair_)
    count = max((d.pairs for d in differences), default=0) if single else len(pairs)
    return Comparison(
        _label(a, left), _label(b, right), tuple(differences), count,
        "of requests (one run a side)" if single else "of runs",
        recorded and not changed, tuple(changed), tuple(pairs),
    )  # fmt: skip


def pair(left: Sequence[Run], right: Sequence[Run]) -> list[tuple[Run, Run]]:
    """Pair the runs by seed, in order; a seed's only run stands against all its repeats on the other side."""
    pairs: list[tuple[Run, Run]] = []
    for seed in sorted({run.seed for run in left} & {run.seed for run in right}):
        ours, theirs = [r for r in left if r.seed == seed], [r for r in right if r.seed == seed]
        if len(ours) == 1:
            ours *= len(theirs)
        elif len(theirs) == 1:
            theirs *= len(ours)
        pairs += zip(ours, theirs, strict=False)
    if not pairs:
        seeds = [",".join(str(s) for s in sorted({r.seed for r in side})[:8]) for side in (left, right)]
        raise UsageError(f"compare: no seed in common (A has {seeds[0]}; B has {seeds[1]})")
    return pairs


def _by_run(pairs: Iterable[tuple[Run, Run]]) -> list[Difference]:
    cache: dict[int, dict[str, float]] = {}
    rows = [tuple(cache.setdefault(id(run), metrics_of(run)) for run in both) for both in pairs]
    found = []
    for name in METRICS:
        values = [(a[name], b[name]) for a, b in rows if a[name] == a[name] and b[name] == b[name]]
        if values:
            a, b = np.array(values).T
            found.append(Difference(name, float(a.mean()), float(b.mean()), *t_interval(list(b - a)), len(values)))
    return found


def _by_request(left: Run, right: Run) -> list[Difference]:
    ours, theirs = metrics_of(left), metrics_of(right)
    both = left.requests.merge(right.requests, on="op_id", suffixes=("_a", "_b"))
    intervals: dict[str, tuple[float, float, int]] = {}
    done = both[both["status_a"].isin(DONE) & both["status_b"].isin(DONE)]
    for column, name in (("latency_s", "latency"), ("first_token_s", "ttft")):
        rows = done[[f"{column}_a", f"{column}_b"]].dropna()
        a, b = rows[f"{column}_a"].to_numpy(float), rows[f"{column}_b"].to_numpy(float)
        for key, statistic in STATISTICS.items():
            intervals[f"{name}_{key}_s"] = (*bootstrap_interval(a, b, statistic), len(a))
            if len(a):  # over the same requests as the interval
                ours[f"{name}_{key}_s"], theirs[f"{name}_{key}_s"] = float(statistic(a)), float(statistic(b))
    shares = [(both[f"status_{side}"] == "answered").to_numpy(float) for side in "ab"]
    intervals["answered_share"] = (*bootstrap_interval(shares[0], shares[1], STATISTICS["mean"]), len(both))
    nothing = (float("nan"), float("nan"), 1)
    return [
        Difference(name, ours[name], theirs[name], *intervals.get(name, nothing))
        for name in METRICS if ours[name] == ours[name] and theirs[name] == theirs[name]
    ]  # fmt: skip


def _changed_sources(runs: Sequence[Run]) -> list[str]:
    """Return the paths whose source digest is not the same in every run."""
    found: dict[str, set[str]] = {}
    manifests = [run.manifest.get("policies", {}) for run in runs]
    for path in {path for manifest in manifests for path in manifest}:
        found[path] = {manifest.get(path, {}).get("source_sha256", "") for manifest in manifests}
    return sorted(path for path, digests in found.items() if len(digests) > 1)


def _runs(side: Any) -> list[Run]:
    if isinstance(side, Run):
        return [side]
    if isinstance(side, str | Path):
        from experiments.folders import find_runs

        return [Run(folder=folder) for folder in find_runs(str(side))]
    return list(side)


def _label(side: Any, runs: Sequence[Run]) -> str:
    name = str(side) if isinstance(side, str | Path) else repr(runs[0])
    return (
        f"{name} ({len(runs)} runs, {'/'.join(sorted({run.world for run in runs}))})"
        if len(runs) > 1
        else f"{name} ({runs[0].world})"
    )


def _short(value: float) -> str:
    return f"{value:.2g}" if abs(value) < 1000 else f"{value:.0f}"
