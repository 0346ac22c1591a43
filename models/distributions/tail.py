"""The far tail of a sample: a generalised Pareto law over a high threshold, and how far beyond the data it may reach.

Over a threshold that is high enough, excesses follow a generalised Pareto law (Pickands, Annals of Statistics 3, 1975;
Balkema and de Haan, Annals of Probability 2, 1974). Scale and shape come from probability-weighted moments (Hosking and
Wallis, "Parameter and quantile estimation for the generalized Pareto distribution", Technometrics 29, 1987, section 4,
with plotting positions (j - 0.35) / n).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.draws import integers

Sample = npt.NDArray[np.float64]

TAIL_SHARE = 0.1  # our choice: of the sample, what lies over the threshold
TAIL_SHARE_MAX = 0.25  # of a small sample, so that the tail has
EXCESSES_MIN = 30  # values, of which fewer do not carry two parameters


class Tail(NamedTuple):
    """What lies over ``threshold``: a share of everything, with excesses of this scale and shape."""

    threshold: float
    share: float
    scale: float
    shape: float

    def quantile(self, exceeded: float) -> float:
        """Return the value that a share ``exceeded`` of everything lies above; at most `share`.

        Raises:
            ValueError: the share is not in the tail.
        """
        if not 0 < exceeded <= self.share:
            raise ValueError(f"exceeded is {exceeded:g}; allowed: above 0, up to {self.share:g}")
        ratio = self.share / exceeded
        grown = np.log(ratio) if abs(self.shape) < 1e-9 else np.expm1(self.shape * np.log(ratio)) / self.shape
        return float(self.threshold + self.scale * grown)


def fit_tail(sample: Sample) -> Tail:
    """Return the tail of a sample; its shape is never below 0.

    A shape below 0 has an end, and an end that was fitted on what honest runs happened to show is no bound for others:
    the tail is then taken as exponential with the same mean, which is heavier.

    Raises:
        ValueError: too few values for a tail.
    """
    ordered = np.sort(sample)
    count = max(int(len(ordered) * TAIL_SHARE), EXCESSES_MIN)
    if count > len(ordered) * TAIL_SHARE_MAX:
        raise ValueError(f"sample of {len(ordered)}: needed are {int(EXCESSES_MIN / TAIL_SHARE_MAX)} for a tail")
    threshold = float(ordered[-count - 1])
    excesses = ordered[-count:] - threshold
    mean = float(excesses.mean())
    weights = 1.0 - (np.arange(1, count + 1) - 0.35) / count
    weighted = float(np.mean(weights * excesses))
    if mean <= 2 * weighted:  # no spread that a Pareto law has
        return Tail(threshold, count / len(ordered), mean, 0.0)
    shape = 2.0 - mean / (mean - 2.0 * weighted)
    if shape <= 0.0:
        return Tail(threshold, count / len(ordered), mean, 0.0)
    return Tail(threshold, count / len(ordered), 2.0 * mean * weighted / (mean - 2.0 * weighted), shape)


def tail_bound(groups: Sequence[Sample], exceeded: float, *, confidence: float, resamples: int, seed: int) -> float:
    """Return an upper confidence bound on the value that a share ``exceeded`` of everything lies above.

    The bound is a quantile over resamples of whole groups (the bootstrap: Efron, Annals of Statistics 7, 1979), since
    values of one group resemble each other; it is never below the largest value that was seen.

    Args:
        groups: values by group.
        exceeded: the share, which may be far below one in the size of the sample.
        confidence: one-sided, as 0.99.
        resamples: how many.
        seed: of the draws.

    Raises:
        ValueError: too few values for a tail.
    """
    picks = integers(seed, "tail resamples", np.arange(resamples)[:, None], np.arange(len(groups)), len(groups))
    bounds = [fit_tail(np.concatenate([groups[at] for at in pick])).quantile(exceeded) for pick in picks]
    return float(max(np.quantile(bounds, confidence), *(group.max() for group in groups)))
