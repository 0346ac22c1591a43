"""Which conclusions survive the assumptions: a ranking that changes between decompositions is unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

UNKNOWN = "unknown"


def rank_agreement(
    results_by_decomposition: Mapping[str, Mapping[str, float | Sequence[float]]], *, margin: float = 0.0
) -> str:
    """Say how policies rank, if every decomposition says so.

    Args:
        results_by_decomposition: for each decomposition, each policy's result, more is better: a number, or one a
            paired seed (then a difference counts only beyond the 95 % interval of the paired mean differences).
        margin: differences up to it are none.

    Returns:
        ``"A > B > C"`` when each decomposition ranks them all so, else ``"unknown"``.

    Raises:
        ValueError: fewer than two decompositions or policies, different policies, or numbers that are not finite.
    """
    if len(results_by_decomposition) < 2:
        raise ValueError(f"decompositions: {len(results_by_decomposition)}; allowed: at least 2")
    orders = {_order(name, results, margin) for name, results in results_by_decomposition.items()}
    names = {tuple(sorted(results)) for results in results_by_decomposition.values()}
    if len(names) > 1:
        raise ValueError(f"policies differ between decompositions: {sorted(names)}; allowed: the same in each")
    only = next(iter(orders))
    return " > ".join(only) if len(orders) == 1 and only else UNKNOWN


def _order(name: str, results: Mapping[str, float | Sequence[float]], margin: float) -> tuple[str, ...]:
    """Return the policies from best to worst, or nothing where two of them cannot be told apart."""
    if len(results) < 2:
        raise ValueError(f"{name}: {len(results)} policies; allowed: at least 2")
    values = {policy: np.atleast_1d(np.asarray(value, dtype=np.float64)) for policy, value in results.items()}
    for policy, value in values.items():
        if not np.all(np.isfinite(value)) or value.shape != next(iter(values.values())).shape:
            raise ValueError(f"{name}, {policy}: {value}; allowed: finite numbers, as many as the other policies have")
    ranked = sorted(values, key=lambda policy: -values[policy].mean())
    for better, worse in pairwise(ranked):
        difference = values[better] - values[worse]
        noise = _half_width(difference)
        if difference.mean() - noise <= margin:
            return ()
    return tuple(ranked)


def _half_width(differences: np.ndarray) -> float:
    """Return half the 95 % interval of the mean of paired differences; 0 for a single number."""
    if len(differences) < 2:
        return 0.0
    from scipy.stats import t

    return float(t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences)))
