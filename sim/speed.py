"""How fast a device works as time goes on: a phone that throttles, a laptop that is unplugged, a device that is away.

A factor holds until the next one. Work of w seconds at factor 1 ends when the factor's integral has grown by w, so that
an iteration under way is slowed from the very moment of the change.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence


class Speed:
    """Factors that hold from given times on; 1 before the first.

    Args:
        steps: (time in s, factor), times in order, factors from 0; 0 is a standstill.

    Raises:
        ValueError: times out of order, or a factor below 0 or not finite.
    """

    def __init__(self, steps: Sequence[tuple[float, float]] = ()) -> None:
        for at_s, factor in steps:
            if not (math.isfinite(at_s) and 0.0 <= factor < math.inf):
                raise ValueError(f"steps: factor {factor} at {at_s} s; allowed: finite times, factors from 0")
        self._at_s = [at_s for at_s, _ in steps]
        self._factors = [1.0, *(factor for _, factor in steps)]
        if self._at_s != sorted(set(self._at_s)):
            raise ValueError(f"steps: times {self._at_s}; allowed: one after another")

    def spent_s(self, now_s: float, work_s: float) -> float:
        """Return how long work takes that begins at ``now_s``; infinite where it never ends."""
        place, at_s = bisect_right(self._at_s, now_s), now_s
        for until_s in self._at_s[place:]:
            done_s = (until_s - at_s) * self._factors[place]
            if done_s >= work_s:
                break
            work_s, at_s, place = work_s - done_s, until_s, place + 1
        factor = self._factors[place]
        if work_s == 0.0:
            return at_s - now_s
        return at_s - now_s + work_s / factor if factor else math.inf
