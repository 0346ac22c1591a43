"""Clocks that are wrong: the times given to a Cell are rewritten, and its deadlines back again.

All in integers, so that every machine computes the same skew. The swing is a triangle, not a sine: its slope is
bounded by its corners, and its inverse needs no more than bisection.
"""

from __future__ import annotations

from collections.abc import Iterator

from policies import port as p
from policies.port import NS_PER_S, Effect, Input
from scenarios.adversaries.behaviours import SkewedClock
from scenarios.adversaries.wrapped import Place, Steps, Wrapped


class SkewedCell(Wrapped[SkewedClock]):
    """Lives by another clock."""

    def __init__(self, cell: Steps, behaviour: SkewedClock, place: Place, index: int) -> None:
        super().__init__(cell, behaviour, place, index)
        self._amount_ns = int(behaviour.amount_s * NS_PER_S)
        self._period_ns = int(behaviour.period_s * NS_PER_S)

    def feed(self, given: Input) -> tuple[Effect, ...]:
        wall = self.wall + (self._offset(self.now - self.from_ns) if self.acting else 0)
        now = self._monotonic(self.now) if self.behaviour.monotonic else self.now
        effects = self.cell.step(now, wall, given)
        self.crypto_ops, self.cell.crypto_ops = self.crypto_ops + self.cell.crypto_ops, 0
        return tuple(self._back(effects)) if self.behaviour.monotonic else effects

    def _offset(self, since_ns: int) -> int:
        """How far the clock is off ``since_ns`` after it began to be."""
        shape = self.behaviour.shape
        if shape == "step":
            return self._amount_ns
        if shape == "linear":
            return since_ns * self.behaviour.ppm // 1_000_000
        quarters = 4 * (since_ns % self._period_ns)  # in quarters of a period: up, down, down, up
        if quarters > 3 * self._period_ns:
            quarters -= 4 * self._period_ns
        elif quarters > self._period_ns:
            quarters = 2 * self._period_ns - quarters
        return self._amount_ns * quarters // self._period_ns

    def _monotonic(self, now: int) -> int:
        """The skewed monotonic clock; it never runs backwards, and keeps its offset when the skew ends."""
        if now <= self.from_ns:
            return now
        skewed_until = now if self.until_ns is None else min(now, self.until_ns)
        return now + self._offset(skewed_until - self.from_ns)

    def _back(self, effects: tuple[Effect, ...]) -> Iterator[Effect]:
        for effect in effects:
            if effect[0] == p.SET_TIMER:
                effect = (*effect[:3], self._real(effect[3]), effect[4])
            yield effect

    def _real(self, skewed: int) -> int:
        """Return the first time, not before now, at which the skewed clock reads ``skewed``."""
        low, span = self.now, 1
        while self._monotonic(low + span) < skewed:
            span *= 2
        high = low + span
        while low < high:
            middle = (low + high) // 2
            if self._monotonic(middle) < skewed:
                low = middle + 1
            else:
                high = middle
        return low
