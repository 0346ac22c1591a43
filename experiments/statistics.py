"""Statistics of a comparison: the metrics of one run, and intervals of paired differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from experiments.results import Run

CONFIDENCE = 0.95
RESAMPLES = 2000
DONE = ("answered", "late")
Array = Any

STATISTICS: dict[str, Callable[[Array], Any]] = {
    "mean": lambda values: np.mean(values, axis=-1),
    "p50": lambda values: np.quantile(values, 0.5, axis=-1),
    "p95": lambda values: np.quantile(values, 0.95, axis=-1),
}


def t_interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return Student's t interval of the mean of paired differences; NaN below two."""
    from scipy import stats

    values = np.asarray(differences, float)
    if len(values) < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def bootstrap_interval(a: Array, b: Array, statistic: Callable[[Array], Any], seed: int = 0) -> tuple[float, float]:
    """Return the percentile bootstrap interval of statistic(b) - statistic(a) over pairs; NaN below two."""
    if len(a) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    found = []
    chunk = max(1, 2_000_000 // len(a))  # resamples at a time, to bound memory
    for first in range(0, RESAMPLES, chunk):
        picks = rng.integers(0, len(a), (min(chunk, RESAMPLES - first), len(a)))
        found.append(statistic(b[picks]) - statistic(a[picks]))
    low, high = np.quantile(np.concatenate(found), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def metrics_of(run: Run) -> dict[str, float]:
    """Return the compared metrics of one run; NaN where it has none."""
    done = run.requests[run.requests["status"].isin(DONE)]
    found = {}
    for column, name in (("latency_s", "latency"), ("first_token_s", "ttft")):
        values = done[column].dropna().to_numpy(float)
        for key, statistic in STATISTICS.items():
            found[f"{name}_{key}_s"] = float(statistic(values)) if len(values) else float("nan")
    total = len(run.requests)
    found["answered_share"] = float((run.requests["status"] == "answered").sum() / total) if total else float("nan")
    for name in ("throughput_tokens_per_s", "commits", "elections"):
        found[name] = float(run.summary.get(name, float("nan")))
    return found
