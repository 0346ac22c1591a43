"""A transport with faults: loss, delay, duplication, reorder and cuts, per frame, above TLS.

What is wrong is a list, as in the twin's network: spells that touch a frame add up, and one that ends takes nothing
of another's along. Losses, delays and copies are decided once, where a frame is sent, by a keyed random stream, so
that the same frames in the same order meet the same faults. Frames of and to exempt peers (the village's owner, who
applies the faults) always pass.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable

import msgspec

from policies.rng import Rng
from real_backends.transports.frames import PeerHint, Receive, Transport
from scenarios.disturbed import stops, touches
from scenarios.hosts import Ways


class Cut(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Frames from ``sources`` to ``targets`` do not arrive; None is everybody who is not on the other side."""

    sources: tuple[str, ...] | None = None
    targets: tuple[str, ...] | None = None

    stops = stops


class Disturbance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is wrong with the links of some nodes for a while.

    Attributes:
        nodes: a frame suffers if either end is one of them; None is all.
        loss: share of frames that vanish.
        duplicate: share of frames sent twice.
        delay_s: held back by this long.
        reorder: share of frames held back by up to ``reorder_s`` more, so that later ones overtake.
        reorder_s: see ``reorder``.
    """

    nodes: tuple[str, ...] | None = None
    loss: float = 0.0
    duplicate: float = 0.0
    delay_s: float = 0.0
    reorder: float = 0.0
    reorder_s: float = 0.01

    def __post_init__(self) -> None:
        for field in ("loss", "duplicate", "reorder"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field}={getattr(self, field)}: allowed are shares from 0 to 1")
        for field in ("delay_s", "reorder_s"):
            if not getattr(self, field) >= 0:
                raise ValueError(f"{field}={getattr(self, field)}: allowed are seconds from 0")

    touches = touches


class LinkFaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is wrong with the village's links at the moment; every node knows the same."""

    disturbances: tuple[Disturbance, ...] = ()
    cuts: tuple[Cut, ...] = ()

    def stopped(self, source: str, target: str) -> bool:
        """Whether a cut is between these two, in this direction."""
        return any(cut.stops(source, target) for cut in self.cuts)


class FaultyTransport:
    """Wraps a transport; ``faults`` may be replaced at any time.

    Args:
        inner: the transport that carries what survives.
        seed: the run's seed; with the node's name it fixes every draw.
        exempt: peers that faults never touch.
        ways: shaped links, whose frames arrive later at all times.
    """

    def __init__(self, inner: Transport, seed: int, exempt: Iterable[str] = (), ways: Ways | None = None) -> None:
        self.me, self.inner, self.counts = inner.me, inner, inner.counts
        self.faults = LinkFaults()
        self.done: Counter[str] = Counter()
        self._exempt, self._ways = frozenset(exempt), ways or Ways({})
        self._rng = Rng(seed, inner.me, "faulty-transport", 0)
        self._late: dict[int, asyncio.TimerHandle] = {}
        self._held = 0  # so many were ever held back

    async def start(self, receive: Receive, hint: PeerHint) -> None:
        """Begin to deliver what may pass."""
        self._receive = receive
        await self.inner.start(self._on_frame, hint)

    def send(self, to: str, kind: int, body: bytes) -> bool:
        """Send, subject to the faults; a lost frame counts as sent, as it would on a real link."""
        if to in self._exempt:
            return self.inner.send(to, kind, body)
        if self.faults.stopped(self.me, to):
            self.done["cut"] += 1
            return True
        # Each fault draws for each frame, so that switching one on does not shift the others.
        lost, twice, held = (self._rng.random() for _ in range(3))
        wrong = [one for one in self.faults.disturbances if one.touches(self.me, to)]
        if lost < sum(one.loss for one in wrong):
            self.done["lost"] += 1
            return True
        shaped_s = self._ways.delay_s(time.monotonic(), self.me, to, len(body))
        delay_s = sum(one.delay_s for one in wrong)
        if holding := [one for one in wrong if held < one.reorder]:
            self.done["reordered"] += 1
            delay_s += sum(one.reorder_s * held / one.reorder for one in holding)
        copies = 2 if twice < sum(one.duplicate for one in wrong) else 1
        self.done["duplicated"] += copies - 1
        if delay_s > 0:
            self.done["delayed"] += 1
        delay_s += shaped_s
        if delay_s <= 0:
            return all([self.inner.send(to, kind, body) for _ in range(copies)])
        loop = asyncio.get_running_loop()
        for _ in range(copies):
            self._held += 1
            self._late[self._held] = loop.call_later(delay_s, self._send_late, self._held, to, kind, body)
        return True

    def _send_late(self, number: int, to: str, kind: int, body: bytes) -> None:
        del self._late[number]
        self.inner.send(to, kind, body)

    def _on_frame(self, sender: str, kind: int, body: bytes) -> None:
        # Also here: a frame may have been on its way, or come from a node that has not heard of the cut yet.
        if sender not in self._exempt and self.faults.stopped(sender, self.me):
            self.done["cut"] += 1
            return
        self._receive(sender, kind, body)

    async def close(self, flush_s: float = 0.0) -> None:
        """Close the inner transport; frames still held back are lost."""
        for handle in self._late.values():
            handle.cancel()
        self._late.clear()
        await self.inner.close(flush_s)
