"""The real clocks of a node."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic and wall time, both in int nanoseconds."""

    def now(self) -> int:
        """Monotonic nanoseconds."""
        ...

    def wall(self) -> int:
        """Nanoseconds since the epoch."""
        ...


class SystemClock:
    """The operating system's clocks. On one machine all processes share the monotonic one."""

    def now(self) -> int:
        """Monotonic nanoseconds."""
        return time.monotonic_ns()

    def wall(self) -> int:
        """Nanoseconds since the epoch."""
        return time.time_ns()
