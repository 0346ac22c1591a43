"""The bars of the gap, and when a machine is too noisy for them: then the word is unmeasurable, never passed.

Real against real comes first. Each repeat is held against the median of the others, request by request, as the twin is
held against a repeat. What a perfect twin could not do better than is the noise. Its size ``h`` is the larger of

- the half-width of the 95 % interval (Student's t over rounds) of the median signed error of a round, and
- the median absolute error of single requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments.gap.errors import PER_REQUEST, Array, Errors
from experiments.statistics import t_interval

if TYPE_CHECKING:
    import pandas as pd

REPEATS_MIN = 7
REQUESTS_MIN = 2000
"""Ours: an interval over rounds has six degrees of freedom, and twenty requests lie beyond the 99th percentile."""
PASSED, MISSED, UNMEASURABLE, TOO_LITTLE = "passed", "missed", "unmeasurable", "too little data"


class Bar(NamedTuple):
    """What absolute errors of single requests may be, as shares; None: shown, not judged."""

    median: float
    p95: float | None
    p99: float | None


BARS = {"model": Bar(0.05, 0.15, None), "paced": Bar(0.02, None, 0.05)}
"""By executor. Ours: a twin that is 5 % off still orders policies; where nothing is computed, only queues are left."""


class Noise(NamedTuple):
    """Real against real, of one quantity.

    Attributes:
        repeats: how many there were.
        half_width: of the interval of a round's median signed error, the mean over rounds.
        errors: of all requests of all repeats, each against the median of the others.
    """

    repeats: int
    half_width: float
    errors: Errors

    @property
    def h(self) -> float:
        """The size of the noise; see the module."""
        return max(self.half_width, self.errors.size(0.5))


class Verdict(NamedTuple):
    """A word, and why."""

    word: str
    why: str


def noise(rounds: Sequence[Mapping[Any, pd.DataFrame]]) -> dict[str, Noise]:
    """Return real against real, by quantity.

    Args:
        rounds: of each round, request times (`errors.request_times`) by cell; at least two of them.
    """
    found = {}
    for name in PER_REQUEST:
        rows = [_against_others(rounds, index, name) for index in range(len(rounds))]
        rows = [row for row in rows if len(row)]
        if len(rows) < 2:
            continue
        low, high = t_interval([float(np.median(row)) for row in rows])
        found[name] = Noise(len(rows), (high - low) / 2, Errors(np.concatenate(rows), float("nan"), float("nan")))
    return found


def _against_others(rounds: Sequence[Mapping[Any, pd.DataFrame]], index: int, name: str) -> Array:
    """Return the relative errors of one round's requests against the median of the same requests elsewhere."""
    import pandas as pd

    errors = [np.zeros(0)]
    for cell, times in rounds[index].items():
        others = [one[cell][name] for k, one in enumerate(rounds) if k != index and cell in one]
        if others:
            both = pd.concat([times[name], pd.concat(others, axis=1).median(axis=1)], axis=1, join="inner").dropna()
            real = both.to_numpy(float)
            real = real[real[:, 1] > 0]
            errors.append(real[:, 0] / real[:, 1] - 1)
    return np.concatenate(errors)


def judge(errors: Errors, real: Noise | None, bar: Bar) -> Verdict:
    """Return the verdict on the twin's errors of one quantity, given the noise of the machine."""
    n = len(errors.values)
    if real is None or real.repeats < REPEATS_MIN or n < REQUESTS_MIN:
        repeats = 0 if real is None else real.repeats
        return Verdict(TOO_LITTLE, f"{repeats} repeats of {REPEATS_MIN}, {n} requests of {REQUESTS_MIN}")
    if real.h > bar.median:
        return Verdict(UNMEASURABLE, f"real against real is {real.h:.1%} apart, more than {bar.median:.0%}")
    tails = {"p95": (0.95, bar.p95), "p99": (0.99, bar.p99)}
    judged = {name: (share, limit) for name, (share, limit) in tails.items() if limit is not None}
    for name, (share, limit) in judged.items():
        if real.errors.size(share) > limit:
            return Verdict(UNMEASURABLE, f"{name} of real against real is {real.errors.size(share):.1%}")
    if errors.size(0.5) > bar.median:
        return Verdict(MISSED, f"median {errors.size(0.5):.1%}, allowed {bar.median:.0%}")
    for name, (share, limit) in judged.items():
        if errors.size(share) > limit:
            return Verdict(MISSED, f"{name} {errors.size(share):.1%}, allowed {limit:.0%}")
    return Verdict(PASSED, f"median {errors.size(0.5):.1%} within {bar.median:.0%}, h {real.h:.1%}")
