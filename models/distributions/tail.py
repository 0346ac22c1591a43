"""The far tail of a sample of positive values, taken for a power law, and a bound on a quantile beyond the data.

Over a high threshold the logarithms' excesses are taken as exponential: their mean is Hill's estimate of the inverse of
the tail's index (Hill, Annals of Statistics 3, 1975), and the quantile that follows is Weissman's (Journal of the
American Statistical Association 73, 1978). Tails that fall faster, as those of normal or lognormal values do, are
overestimated, which is what a bound may do; a tail that falls no faster than its own Hill line is what it is right for.
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
EXCESSES_MIN = 30  # values: the estimate's standard error is its 1 / sqrt(30)


class Tail(NamedTuple):
    """A share of all values lies over ``threshold``, and falls with the power ``1 / inverse_index``."""

    threshold: float
    share: float
    inverse_index: float

    def quantile(self, exceeded: float) -> float:
        """Return the value that a share ``exceeded`` of everything lies above; at most `share`.

        Raises:
            ValueError: the share is not in the tail.
        """
        if not 0 < exceeded <= self.share:
            raise ValueError(f"exceeded is {exceeded:g}; allowed: above 0, up to {self.share:g}")
        return float(self.threshold * (self.share / exceeded) ** self.inverse_index)


def fit_tail(sample: Sample) -> Tail:
    """Return the tail of a sample.

    Raises:
        ValueError: too few values for a tail, or a threshold that is not above 0.
    """
    ordered = np.sort(sample)
    count = max(int(len(ordered) * TAIL_SHARE), EXCESSES_MIN)
    if count > len(ordered) * TAIL_SHARE_MAX:
        raise ValueError(f"sample of {len(ordered)}: needed are {int(EXCESSES_MIN / TAIL_SHARE_MAX)} for a tail")
    threshold = float(ordered[-count - 1])
    if not threshold > 0:
        raise ValueError(f"threshold is {threshold:g}; allowed: above 0")
    return Tail(threshold, count / len(ordered), float(np.mean(np.log(ordered[-count:] / threshold))))


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
        ValueError: see `fit_tail`.
    """
    picks = integers(seed, "tail resamples", np.arange(resamples)[:, None], np.arange(len(groups)), len(groups))
    bounds = [fit_tail(np.concatenate([groups[at] for at in pick])).quantile(exceeded) for pick in picks]
    return float(max(np.quantile(bounds, confidence), *(group.max() for group in groups)))
