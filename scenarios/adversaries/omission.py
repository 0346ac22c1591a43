"""Omission: what a node does not say, does not hear, or keeps back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from policies import port as p
from policies.port import Effect, Input
from scenarios.adversaries.behaviours import Silent, Withhold
from scenarios.adversaries.payload import tag_of
from scenarios.adversaries.wrapped import PAYLOAD, Place, Steps, Wrapped, peer_of


class SilentCell(Wrapped[Silent]):
    """Drops sends and replies, messages and requests, or both."""

    def _drops(self, payload: bytes, peer: str, side: str) -> bool:
        b = self.behaviour
        if b.side not in (side, "both") or (b.peers and peer not in b.peers):
            return False
        if b.tags and tag_of(payload) not in b.tags:
            return False
        return b.share >= 1 or self.rng.random() < b.share

    def say(self, effect: Effect) -> Iterable[Effect]:
        if effect[0] in (p.SEND, p.REPLY) and self._drops(effect[PAYLOAD[effect[0]]], peer_of(effect), "send"):
            return
        yield effect

    def hear(self, given: Input) -> Input | None:
        heard = {p.MESSAGE: 3, p.REQUEST: 4}.get(given[0])
        if heard is None:
            return given
        peer = given[2] if given[0] == p.MESSAGE else ""
        return None if self._drops(given[heard], peer, "receive") else given


class WithholdingCell(Wrapped[Withhold]):
    """Keeps messages back, for good or for as long as newer ones do not follow."""

    def __init__(self, cell: Steps, behaviour: Withhold, place: Place, index: int) -> None:
        super().__init__(cell, behaviour, place, index)
        self._kept: dict[tuple[str, str, str], deque[Effect]] = {}

    def say(self, effect: Effect) -> Iterable[Effect]:
        if not self.lies_to(effect, self.behaviour.tags):
            yield effect
        elif self.behaviour.lag:
            kept = self._kept.setdefault((effect[1], effect[2], tag_of(effect[3])), deque())
            kept.append(effect)
            if len(kept) > self.behaviour.lag:
                yield kept.popleft()
