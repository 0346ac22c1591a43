"""Timing: messages that leave late, in another order, or once more.

What is held waits in the wrapper for a timer of its own, and leaves in a later step. It is volatile: a crash loses it,
as it would lose what a network card had not sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from policies import port as p
from policies.port import NS_PER_S, Effect, Input
from policies.wire import encode
from scenarios.adversaries.behaviours import Delay, Flood, Reorder, Replay
from scenarios.adversaries.payload import at, plain, put, tag_of
from scenarios.adversaries.wrapped import MEMORY_MAX, B, Place, Steps, Wrapped, peer_of

HELD_MAX = 10_000
"""Messages that a liar holds at most; beyond it lets them go at once, so that its memory is bounded."""


class DelayingCell(Wrapped[Delay]):
    """Holds each message for a while, by a timer for each."""

    def __init__(self, cell: Steps, behaviour: Delay, place: Place, index: int) -> None:
        super().__init__(cell, behaviour, place, index)
        self._held: dict[str, Effect] = {}

    def say(self, effect: Effect) -> Iterable[Effect]:
        b = self.behaviour
        if len(self._held) >= HELD_MAX or not self.lies_to(effect, b.tags, b.peers):
            yield effect
            return
        held_s = b.bound_s if b.exactly else self.rng.uniform(0.0, b.bound_s)
        timer = self.timer(str(self._generation), self.now + int(held_s * NS_PER_S))
        self._held[timer[2]] = effect
        yield timer

    def on_own(self, given: Input) -> Iterable[Effect]:
        if given[0] == p.TIMER and given[2] in self._held:
            yield self._held.pop(given[2])


class ReorderingCell(Wrapped[Reorder]):
    """Collects messages to a peer and lets them go shuffled."""

    def __init__(self, cell: Steps, behaviour: Reorder, place: Place, index: int) -> None:
        super().__init__(cell, behaviour, place, index)
        self._held: dict[str, list[Effect]] = {}

    def say(self, effect: Effect) -> Iterable[Effect]:
        if effect[0] != p.SEND:
            yield effect
            return
        peer = peer_of(effect)
        held = self._held.setdefault(peer, [])
        held.append(effect)
        if len(held) >= self.behaviour.window:
            yield from self._shuffled(peer)
        elif len(held) == 1:
            yield self.timer(peer, self.now + int(self.behaviour.at_most_s * NS_PER_S))

    def on_own(self, given: Input) -> Iterable[Effect]:
        if given[0] == p.TIMER:
            yield from self._shuffled(given[2])

    def _shuffled(self, peer: str) -> Iterable[Effect]:
        held = self._held.pop(peer, [])
        while held:
            yield held.pop(self.rng.below(len(held)))


class TickingCell(Wrapped[B]):
    """Does something of its own again and again, from its start on, and watches what is said and heard before."""

    every_ns: int

    def begin(self, given: Input) -> Iterable[Effect]:
        return [*self.act(given), self.timer("tick", self.from_ns)]

    def on_own(self, given: Input) -> Iterable[Effect]:
        if given[0] != p.TIMER or (self.until_ns is not None and self.now >= self.until_ns):
            return
        if self.acting:
            yield from self.tick()
        yield self.timer("tick", self.now + self.every_ns)

    def tick(self) -> Iterable[Effect]:
        """What it does each time."""
        return ()

    def feed(self, given: Input) -> tuple[Effect, ...]:
        if given[0] == p.MESSAGE and self.concerns(given, ""):
            self.heard(given[1], given[3])
        effects = super().feed(given)
        for effect in effects:
            if effect[0] == p.SEND and self.concerns(effect, ""):
                self.said(effect)
        return effects

    def heard(self, path: str, payload: bytes) -> None:
        """A message came, whether it misbehaves yet or not."""

    def said(self, effect: Effect) -> None:
        """The honest Cell sends a message."""


class ReplayingCell(TickingCell[Replay]):
    """Sends recorded messages again."""

    def __init__(self, cell: Steps, behaviour: Replay, place: Place, index: int) -> None:
        super().__init__(cell, behaviour, place, index)
        self.every_ns = int(behaviour.every_s * NS_PER_S)
        self._recorded: deque[tuple[int, Effect]] = deque(maxlen=MEMORY_MAX)

    def heard(self, path: str, payload: bytes) -> None:
        if self.behaviour.heard:
            self._record(path, payload)

    def said(self, effect: Effect) -> None:
        if not self.behaviour.tags or tag_of(effect[3]) in self.behaviour.tags:
            self._keep(effect)

    def _record(self, path: str, payload: bytes) -> None:
        if not self.behaviour.tags or tag_of(payload) in self.behaviour.tags:
            for peer in self.place.peers:
                self._keep((p.SEND, path, peer, payload))

    def _keep(self, effect: Effect) -> None:
        if not self.behaviour.first or len(self._recorded) < MEMORY_MAX:
            self._recorded.append((self.now, effect))

    def tick(self) -> Iterable[Effect]:
        while self.behaviour.heard and self.place.memory:
            self._record(*self.place.memory.popleft())
        old_ns = self.now - int(self.behaviour.age_s * NS_PER_S)
        old = [effect for at_ns, effect in self._recorded if at_ns <= old_ns and not self.place.mate(peer_of(effect))]
        if old:
            yield from (self.rng.choice(old) for _ in range(self.behaviour.burst))


class FloodingCell(TickingCell[Flood]):
    """Sends ever higher numbers."""

    def __init__(self, cell: Steps, behaviour: Flood, place: Place, index: int) -> None:
        super().__init__(cell, behaviour, place, index)
        self.every_ns = int(behaviour.every_s * NS_PER_S)
        self._newest: tuple[str, bytes] | None = None
        self._sent = 0

    def heard(self, path: str, payload: bytes) -> None:
        if tag_of(payload) in self.behaviour.tags:
            self._newest = (path, payload)

    def said(self, effect: Effect) -> None:
        self.heard(effect[1], effect[3])

    def tick(self) -> Iterable[Effect]:
        if self._newest is None:
            return
        path, payload = self._newest
        message, field = plain(payload), self.behaviour.field
        number = at(message, field)
        if not isinstance(number, int):
            return
        self._sent += 1
        flood = encode(put(message, field, number + self.behaviour.by * self._sent))
        yield from ((p.SEND, path, peer, flood) for peer in self.place.peers if not self.place.mate(peer))
