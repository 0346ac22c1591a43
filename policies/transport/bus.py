"""Bus: one address for everybody, whichever transport there is.

A letter is durable here before anything else. The bus gives it to the first transport whose breaker for that
destination lets it pass: long-range first, then the mesh. One that fails, or is silent too long, costs its breaker a
failure and the letter goes to the next. When none is left it waits and is offered again, until it is known to have
arrived or its life is over. So the village goes over to the mesh when the internet goes, and back when it returns.

Acknowledged means durable on the destination's node: a crash there may still lie between its transport's inbox and its
bus, and the letter is handed over after it. Over two transports a letter may come twice: the receiving bus takes it
once, by the same numbers as the transports do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from policies.config import BusConfig
from policies.port import NS_PER_S, Policy
from policies.transport import inbox as inboxes
from policies.transport.breaker import Breaker
from policies.transport.inbox import Inbox, Verdict
from policies.transport.messages import Carried, Carry, Count, Handed, Post, Result, Routed, Took
from policies.transport.outbox import ACKNOWLEDGED, DEAD, Bounds, Letter, Outbox
from policies.wire import Codec, Message, WireError, encode

LONG_RANGE_FIRST = ("delivery", "mesh")
"""Paths of the transports, the preferred one first."""


class Envelope(Message, frozen=True, tag="envelope"):
    """What the bus puts into a transport's letter: its own numbers, and the body."""

    epoch: Count
    number: Count
    floor: Count
    body: bytes


_open = Codec((Envelope,)).decode


class Call(msgspec.Struct):
    """A letter in a transport's hands."""

    name: str
    to: str
    transport: str


class Bus(Policy):
    """One node's bus.

    Args:
        config: the breakers' numbers, patience and bounds.
        transports: local paths, the preferred one first; each takes `Carry`, answers `Carried`, and hands `Handed`.
        consumer: path of the policy that arriving letters are handed to, ``""`` for none.
    """

    requests = (Post,)

    def __init__(
        self, config: BusConfig | None = None, transports: tuple[str, ...] = LONG_RANGE_FIRST, consumer: str = ""
    ) -> None:
        self.config, self.transports, self.consumer = config or BusConfig(), transports, consumer

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        """Give every open letter to a transport again: what the transports made of it before is not known here."""
        config = self.config
        bounds = Bounds(config.queue_max, config.body_max_bytes, config.ttl_s)
        self.outbox = Outbox(self.port, bounds, saved)
        self.inbox = Inbox(self.port, self.consumer, config.queue_max, saved)
        self.breakers: dict[tuple[str, str], Breaker] = {}
        self.calls: dict[str, Call] = {}  # by the key that the transport knows
        self.failed: dict[str, set[str]] = {}  # by letter: transports that failed since it last waited
        self._owed: dict[int, list[tuple[str, Took]]] = {}  # by the save that must be durable first
        for letter in list(self.outbox):
            self._route(letter)

    def on_request(self, client: str, op_id: str, operation: Post) -> None:
        """A client posts a letter, or asks what became of it."""
        if letter := self.outbox.request(client, op_id, operation):
            self._route(letter)

    def on_local(self, sender: str, message: Any) -> None:
        """A user posts or has taken a letter; a transport answers or hands one over."""
        match message:
            case Took():
                self.inbox.took(message.stream, message.number)
            case Carried():
                self._answered(message)
            case Handed():
                self._handed(sender, message)
            case Carry() if letter := self.outbox.carry(sender, message):
                self._route(letter)

    def on_timer(self, name: str) -> None:
        """A letter's transport was silent too long, its wait is over, or the consumer is to be reminded."""
        if name == inboxes.TIMER:
            self.inbox.remind()
        elif letter := self.outbox.letters.get(name.removeprefix("letter/")):
            key = f"{letter.key}#{letter.tries}"
            if key in self.calls:
                self._answered(Carried(key, False, "no answer"))
            else:
                self._route(letter)

    def on_durable(self, token: int) -> None:
        """What arrived is safe: hand it over, and let the transport forget it."""
        self.inbox.durable(token)
        for transport, took in self._owed.pop(token, ()):
            self.port.tell(transport, took)

    # -- sending -------------------------------------------------------------------------------------

    def succeeded(self, answer: Carried) -> bool:
        """Return what a transport's answer means: only its yes is a yes."""
        return answer.ok

    def breaker_of(self, transport: str, to: str) -> tuple[str, str]:
        """Return which breaker a call belongs to: each transport may fail towards each destination by itself."""
        return transport, to

    def _breaker(self, transport: str, to: str) -> Breaker:
        return self.breakers.get(self.breaker_of(transport, to), Breaker()).at(self.port.now, self.config)

    def _route(self, letter: Letter) -> None:
        """Give a letter to the best transport that may have it, or let it wait."""
        if self.port.wall >= letter.expires_wall_ns:
            self._end(letter, DEAD, "expired")
            return
        failed = self.failed.setdefault(letter.key, set())
        for transport in self.transports:
            breaker = self._breaker(transport, letter.to)
            if transport not in failed and breaker.allows(self.config):
                self.breakers[self.breaker_of(transport, letter.to)] = breaker.called()
                self._call(msgspec.structs.replace(letter, tries=letter.tries + 1), transport)
                return
        failed.clear()
        self._wait(letter, self.config.open_s)

    def _call(self, letter: Letter, transport: str) -> None:
        self.outbox.change(letter)  # so that no key is used twice: a transport remembers how a key ended
        key, name = f"{letter.key}#{letter.tries}", self.outbox.name(letter)
        self.calls[key] = Call(name, letter.to, transport)
        envelope = Envelope(self.outbox.epoch, letter.number, self.outbox.floor(letter.to), letter.body)
        self.port.decide("routed", Routed(name, letter.to, transport))
        self._wait(letter, self.config.patience_s)
        self.port.tell(transport, Carry(key, letter.to, encode(envelope)))

    def _answered(self, answer: Carried) -> None:
        letter = self.outbox.letters.get(answer.key.rpartition("#")[0])
        call = self.calls.pop(answer.key, None)
        ok = self.succeeded(answer)
        if call is not None:
            key = self.breaker_of(call.transport, call.to)
            self.breakers[key] = self._breaker(call.transport, call.to).heard(ok, self.port.now, self.config)
            self.port.decide("result", Result(call.name, call.to, call.transport, answer.ok, answer.reason))
        if letter is None:
            return
        if ok:
            self._end(letter, ACKNOWLEDGED)
        elif call is not None:
            self.failed.setdefault(letter.key, set()).add(call.transport)
            self._route(letter)

    def _wait(self, letter: Letter, wait_s: float) -> None:
        self.port.set_timer(f"letter/{letter.key}", int(wait_s * NS_PER_S))

    def _end(self, letter: Letter, outcome: str, reason: str = "") -> None:
        self.port.cancel_timer(f"letter/{letter.key}")
        self.failed.pop(letter.key, None)
        if call := self.calls.pop(f"{letter.key}#{letter.tries}", None):  # an earlier call's late yes ended the letter
            key = self.breaker_of(call.transport, call.to)
            self.breakers[key] = self._breaker(call.transport, call.to).dropped()
        self.outbox.end(letter, outcome, reason)

    # -- receiving -----------------------------------------------------------------------------------

    def _handed(self, transport: str, handed: Handed) -> None:
        took = Took(handed.stream, handed.number)
        try:
            envelope = _open(handed.body)
        except WireError:
            self.port.note("no_envelope", origin=handed.origin)
            self.port.tell(transport, took)
            return
        me = self.port.me
        verdict = self.inbox.offer(handed.origin, me, envelope.epoch, envelope.number, envelope.floor, envelope.body)
        if verdict is Verdict.NEW:
            token = self.inbox.token(handed.origin, me, envelope.epoch, envelope.number)
            self._owed.setdefault(token, []).append((transport, took))
        elif verdict is not Verdict.FULL:  # else the transport keeps it and hands it again
            self.port.tell(transport, took)
