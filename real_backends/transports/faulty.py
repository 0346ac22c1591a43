"""A transport with faults: loss, delay, duplication, reorder and partition, per frame, above TLS.

Faults are decided by a keyed random stream, so that the same frames in the same order meet the same faults.
Frames of and to exempt peers (the village's owner, who applies the faults) always pass.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable

import msgspec

from policies.rng import Rng
from real_backends.transports.frames import PeerHint, Receive, Transport


class LinkFaults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is wrong with this node's links at the moment.

    Attributes:
        loss: share of frames that vanish.
        duplicate: share of frames sent twice.
        delay_s: held back by this long.
        reorder: share of frames held back by a further ``reorder_s``, so that later ones overtake.
        reorder_s: see ``reorder``.
        cut_to: peers that hear nothing from this node.
        cut_from: peers this node does not hear.
    """

    loss: float = 0.0
    duplicate: float = 0.0
    delay_s: float = 0.0
    reorder: float = 0.0
    reorder_s: float = 0.01
    cut_to: tuple[str, ...] = ()
    cut_from: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in ("loss", "duplicate", "reorder"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field}={getattr(self, field)}: allowed are shares from 0 to 1")
        for field in ("delay_s", "reorder_s"):
            if not getattr(self, field) >= 0:
                raise ValueError(f"{field}={getattr(self, field)}: allowed are seconds from 0")


class FaultyTransport:
    """Wraps a transport; ``faults`` may be replaced at any time.

    Args:
        inner: the transport that carries what survives.
        seed: the run's seed; with the node's name it fixes every draw.
        exempt: peers that faults never touch.
    """

    def __init__(self, inner: Transport, seed: int, exempt: Iterable[str] = ()) -> None:
        self.me, self.inner, self.counts = inner.me, inner, inner.counts
        self.faults = LinkFaults()
        self.done: Counter[str] = Counter()
        self._exempt = frozenset(exempt)
        self._rng = Rng(seed, inner.me, "faulty-transport", 0)
        self._late: set[asyncio.TimerHandle] = set()

    async def start(self, receive: Receive, hint: PeerHint) -> None:
        """Begin to deliver what may pass."""
        self._receive = receive
        await self.inner.start(self._on_frame, hint)

    def send(self, to: str, kind: int, body: bytes) -> bool:
        """Send, subject to the faults; a lost frame counts as sent, as it would on a real link."""
        if to in self._exempt:
            return self.inner.send(to, kind, body)
        faults = self.faults
        if to in faults.cut_to:
            self.done["cut"] += 1
            return True
        # Each fault draws for each frame, so that switching one on does not shift the others.
        lost, twice, held = (self._rng.random() for _ in range(3))
        if lost < faults.loss:
            self.done["lost"] += 1
            return True
        delay_s = faults.delay_s
        if held < faults.reorder:
            self.done["reordered"] += 1
            delay_s += faults.reorder_s
        copies = 2 if twice < faults.duplicate else 1
        self.done["duplicated"] += copies - 1
        if delay_s <= 0:
            return all([self.inner.send(to, kind, body) for _ in range(copies)])
        self.done["delayed"] += 1
        loop = asyncio.get_running_loop()
        for _ in range(copies):
            handle = loop.call_later(delay_s, self._send_late, to, kind, body)
            self._late.add(handle)
        return True

    def _send_late(self, to: str, kind: int, body: bytes) -> None:
        now = asyncio.get_running_loop().time()
        self._late = {handle for handle in self._late if handle.when() > now and not handle.cancelled()}
        self.inner.send(to, kind, body)

    def _on_frame(self, sender: str, kind: int, body: bytes) -> None:
        if sender in self.faults.cut_from and sender not in self._exempt:
            self.done["cut"] += 1
            return
        self._receive(sender, kind, body)

    async def close(self, flush_s: float = 0.0) -> None:
        """Close the inner transport; frames still held back are lost."""
        for handle in self._late:
            handle.cancel()
        await self.inner.close(flush_s)
