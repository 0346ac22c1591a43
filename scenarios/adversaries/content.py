"""Content: messages that say something else than the honest Cell meant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from policies import port as p
from policies.port import Effect, Input
from policies.rng import Rng
from policies.wire import encode
from scenarios.adversaries.behaviours import Corrupt, DoubleVote, ForgeReceipts, Overclaim, Split
from scenarios.adversaries.payload import at, flip, lookalike, other, plain, put, substitute, swapped, tag_of
from scenarios.adversaries.wrapped import PAYLOAD, B, Place, Steps, Wrapped, peer_of, signatures_in, with_payload

_KINDS = {"send": p.SEND, "reply": p.REPLY, "submit": p.SUBMIT}


class ChangingCell(Wrapped[B]):
    """Changes fields, and may sign again what it had signed."""

    def changed(self, payload: bytes, field: tuple[int, ...], value: Any, resign: bool) -> bytes:
        """Return a message with another value in one field; ``resign`` renews the signatures in it."""
        message = plain(payload)
        old = at(message, field)
        forged = encode(put(message, field, value))
        if resign:
            for signature in list(signatures_in(payload, self.place.keys.made)):
                fresh = self.sign(substitute(self.place.keys.made[signature], old, value))
                forged = swapped(forged, {signature: fresh})
        return forged


class CorruptingCell(ChangingCell[Corrupt]):
    """Changes one field, of messages or of jobs."""

    def __init__(self, cell: Steps, behaviour: Corrupt, place: Place, index: int) -> None:
        super().__init__(cell, behaviour, place, index)
        self._first: dict[str, Any] = {}

    def say(self, effect: Effect) -> Iterable[Effect]:
        b = self.behaviour
        if effect[0] != _KINDS.get(b.on) or (b.peers and peer_of(effect) not in b.peers):
            yield effect
        else:
            yield with_payload(effect, self._corrupt(effect[PAYLOAD[effect[0]]]))

    def hear(self, given: Input) -> Input | None:
        if self.behaviour.on == "outcome" and given[0] == p.JOB:
            return (*given[:3], self._corrupt(given[3]))
        return given

    def _corrupt(self, payload: bytes) -> bytes:
        b, message = self.behaviour, plain(payload)
        value = at(message, b.field)
        if value is None or message[0] not in b.tags or (b.share < 1 and self.rng.random() >= b.share):
            return payload
        lie = self._lie(message[0], value)
        if b.on in ("submit", "outcome") and type(lie) is not type(value):
            return payload
        return self.changed(payload, b.field, lie, b.resign)

    def _lie(self, tag: str, value: Any) -> Any:
        b = self.behaviour
        if b.change == "set":
            return b.to
        if b.change == "old":
            return self._first.setdefault(tag, value)
        if b.change == "flip":
            return flip(value)
        if b.change == "digest":
            return lookalike(value, self.place.party) if isinstance(value, str | bytes) else value
        return value + b.by if isinstance(value, int | float) and not isinstance(value, bool) else value


class SplittingCell(ChangingCell[Split]):
    """Tells each group of peers something else."""

    def say(self, effect: Effect) -> Iterable[Effect]:
        b = self.behaviour
        group = self._group(peer_of(effect)) if self.lies_to(effect, b.tags) else 0
        value = at(plain(effect[3]), b.field) if group else None
        if value is None:
            yield effect
        else:
            yield with_payload(effect, self.changed(effect[3], b.field, other(value, group), b.resign))

    def _group(self, peer: str) -> int:
        """Return the number of a peer's group; 0 is told the truth."""
        if not self.behaviour.groups:
            return Rng(self.place.seed, self.place.party, f"{self.own} half {peer}", 0).below(2)
        return next((k for k, group in enumerate(self.behaviour.groups, 1) if peer in group), 0)


class DoubleVotingCell(ChangingCell[DoubleVote]):
    """Says a thing and its contrary."""

    def say(self, effect: Effect) -> Iterable[Effect]:
        yield effect
        b = self.behaviour
        if self.lies_to(effect, b.tags) and (value := at(plain(effect[3]), b.field)) is not None:
            yield with_payload(effect, self.changed(effect[3], b.field, other(value, 1), b.resign))


class OverclaimingCell(Wrapped[Overclaim]):
    """Claims more than it lends (`policies.work.Renew`)."""

    def say(self, effect: Effect) -> Iterable[Effect]:
        if effect[0] == p.SEND and tag_of(effect[3]) == "renew":
            message, factors = plain(effect[3]), (self.behaviour.memory, *[1 / self.behaviour.speed] * 3)
            for k, factor in enumerate(factors):
                if isinstance(true := at(message, (0, k)), float):
                    message = put(message, (0, k), true * factor)
            effect = with_payload(effect, encode(message))
        yield effect


class ReceiptForgingCell(ChangingCell[ForgeReceipts]):
    """Reports more work than it did (`policies.work.Report`)."""

    _TOKENS = (6,)

    def say(self, effect: Effect) -> Iterable[Effect]:
        if effect[0] == p.SEND and tag_of(effect[3]) == "report":
            tokens = at(plain(effect[3]), self._TOKENS)
            if isinstance(tokens, int) and tokens > 0:
                forged = self.changed(effect[3], self._TOKENS, tokens * self.behaviour.factor, True)
                effect = with_payload(effect, forged)
        yield effect
