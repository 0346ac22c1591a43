"""A measured rate replayed: constant between samples, so that transfers end where its integral says; exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import ArrayLike, FloatArray, require_not_negative, spread


@dataclass(frozen=True)
class RateTrace:
    """A rate that is constant between times; after the last of them it begins again.

    Attributes:
        times_s: (n + 1,), from 0, rising; the last is the trace's length.
        bytes_per_s: (n,), from 0 up.

    Raises:
        ValueError: the times do not begin at 0 or do not rise, or a rate is negative or no number.
    """

    times_s: FloatArray
    bytes_per_s: FloatArray

    def __post_init__(self) -> None:
        require_not_negative("bytes_per_s", self.bytes_per_s)
        if self.times_s.shape != (self.bytes_per_s.size + 1,) or self.bytes_per_s.size == 0:
            raise ValueError(f"times_s has {self.times_s.size} values; allowed: one more than the rates, at least 2")
        if self.times_s[0] != 0.0 or not np.all(np.diff(self.times_s) > 0.0) or not np.all(np.isfinite(self.times_s)):
            raise ValueError("times_s do not rise from 0; allowed: 0 first, each after the one before")

    @property
    def length_s(self) -> float:
        """How long the trace is."""
        return float(self.times_s[-1])

    def rate_bytes_per_s(self, time_s: ArrayLike) -> FloatArray:
        """Return the rate at these times, from 0 up; at a change, the new one."""
        within = np.mod(np.asarray(time_s, dtype=np.float64), self.length_s)
        return np.asarray(self.bytes_per_s[np.searchsorted(self.times_s, within, side="right") - 1])

    def carried_bytes(self, time_s: ArrayLike) -> FloatArray:
        """Return what the link carries from 0 to these times at full use, bytes."""
        laps, within = np.divmod(np.asarray(time_s, dtype=np.float64), self.length_s)
        carried = self._carried()
        return np.asarray(laps * carried[-1] + np.interp(within, self.times_s, carried))

    def end_s(self, start_s: ArrayLike, size_bytes: ArrayLike) -> FloatArray:
        """Return when transfers end that have the link to themselves; inf where the trace carries nothing.

        Args:
            start_s, size_bytes: from 0 up, broadcast against each other.
        """
        require_not_negative("start_s", start_s)
        require_not_negative("size_bytes", size_bytes)
        start, size = spread(start_s, size_bytes)
        carried = self._carried()
        if carried[-1] == 0.0:
            return np.where(size > 0.0, np.inf, start)
        laps, within = np.divmod(start, self.length_s)
        wanted = np.interp(within, self.times_s, carried) + size
        more = np.maximum(np.ceil(wanted / carried[-1]) - 1.0, 0.0)
        left = wanted - more * carried[-1]
        # The first moment at which so much has been carried: a plateau of no rate is not waited out.
        step = np.clip(np.searchsorted(carried, left, side="left"), 1, carried.size - 1) - 1
        rate = self.bytes_per_s[step]
        into = np.divide(left - carried[step], rate, out=np.zeros_like(left), where=rate > 0.0)
        end = (laps + more) * self.length_s + self.times_s[step] + into
        return np.asarray(np.where(size > 0.0, np.maximum(end, start), start))

    def _carried(self) -> FloatArray:
        return np.concatenate([[0.0], np.cumsum(np.diff(self.times_s) * self.bytes_per_s)])
