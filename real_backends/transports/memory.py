"""Frames handed over inside one event loop: for tests of drivers and policies that need no socket."""

from __future__ import annotations

import asyncio
from collections import Counter

from real_backends.transports.frames import KIND_NAMES, PeerHint, Receive


class Hub:
    """The nodes that can reach one another."""

    def __init__(self) -> None:
        self.receivers: dict[str, Receive] = {}


class MemoryTransport:
    """Delivers at the loop's next turn, in order; a frame for an absent node is dropped and counted."""

    def __init__(self, hub: Hub, me: str) -> None:
        self.me = me
        self.counts: Counter[str] = Counter()
        self._hub = hub

    async def start(self, receive: Receive, hint: PeerHint) -> None:
        """Begin to deliver; there are no hints."""
        self._hub.receivers[self.me] = receive

    def send(self, to: str, kind: int, body: bytes) -> bool:
        """Queue a frame."""
        self.counts[f"sent_{KIND_NAMES[kind]}"] += 1
        asyncio.get_running_loop().call_soon(self._deliver, to, kind, body)
        return True

    def _deliver(self, to: str, kind: int, body: bytes) -> None:
        receive = self._hub.receivers.get(to)
        if receive is None:
            self.counts["dropped_unreachable"] += 1
        else:
            receive(self.me, kind, body)

    async def close(self, flush_s: float = 0.0) -> None:
        """Leave the hub."""
        self._hub.receivers.pop(self.me, None)
