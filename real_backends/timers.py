"""A Cell's timers over the event loop: one live timer a (path, name); re-arming replaces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from real_backends.clock import Clock

Fired = Callable[[str, str, int], None]
"""Called with (path, name, generation)."""


class Timers:
    """Arms, replaces and cancels timers whose deadlines are in the clock's monotonic nanoseconds."""

    def __init__(self, clock: Clock, fired: Fired) -> None:
        self._clock, self._fired = clock, fired
        self._live: dict[tuple[str, str], asyncio.TimerHandle] = {}

    def set(self, path: str, name: str, deadline_ns: int, generation: int) -> None:
        """Fire once at the deadline, never before it."""
        self.cancel(path, name)
        after_s = max(0, deadline_ns - self._clock.now()) / 1e9
        loop = asyncio.get_running_loop()
        self._live[(path, name)] = loop.call_later(after_s, self._fire, path, name, deadline_ns, generation)

    def cancel(self, path: str, name: str) -> None:
        """Disarm; unknown names are ignored."""
        if (handle := self._live.pop((path, name), None)) is not None:
            handle.cancel()

    def clear(self) -> None:
        """Disarm all."""
        for handle in self._live.values():
            handle.cancel()
        self._live.clear()

    def _fire(self, path: str, name: str, deadline_ns: int, generation: int) -> None:
        if self._clock.now() < deadline_ns:  # the loop may wake early by its own clock's resolution
            self.set(path, name, deadline_ns, generation)
            return
        del self._live[(path, name)]
        self._fired(path, name, generation)
