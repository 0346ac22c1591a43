"""Readings replayed from rows, for repeatable runs and for machines that lack the sensors."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from policies.readings import Row

MAINS_DESK = Row(
    has_battery=False, soc=1.0, plugged=True, die_c=35.0, skin_c=30.0, on_wifi=True, metered=False,
    bandwidth_bytes_per_s=12.5e6, screen_on=False, idle_s=86_400.0, local_minute=0.0, user_load=0.0,
)  # fmt: skip
"""A cool desktop on the mains that nobody uses: an assumption, for runs whose subject is not the harvest."""


class TraceSensors:
    """Gives the newest row whose time has come.

    Args:
        rows: (seconds since the node's start, row), in order of time; the first counts from the beginning.
    """

    missing: tuple[str, ...] = ()

    def __init__(self, rows: Sequence[tuple[float, Row]]) -> None:
        if not rows:
            raise ValueError("rows=[]: a trace needs at least one row")
        self._times_s = [time_s for time_s, _ in rows]
        if self._times_s != sorted(self._times_s):
            raise ValueError("rows: times must not decrease")
        self._rows = [row for _, row in rows]
        self._begun_ns: int | None = None

    def read(self, now_ns: int) -> Row:
        """Return the row in force at ``now_ns``; the first call is time 0."""
        if self._begun_ns is None:
            self._begun_ns = now_ns
        at = bisect_right(self._times_s, (now_ns - self._begun_ns) / 1e9)
        return self._rows[max(0, at - 1)]
