"""Delivery, the long-range transport: at least once over the network, once to the consumer.

A letter is durable before its acceptance is told. It is sent, and sent again after 1, 2, 4 ... seconds, until its
acknowledgement comes; the destination acknowledges what is durable there, and every copy of it again. After the last
try, or its life, it is dead, with the reason kept. Silence is never success.

No order is promised: letters overtake one another. Whoever wants order finds the numbers in `Handed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from policies.config import DeliveryConfig
from policies.port import NS_PER_S, Policy
from policies.transport import inbox as inboxes
from policies.transport.inbox import Inbox, Verdict
from policies.transport.messages import Carry, Count, Post, Took, Tried
from policies.transport.outbox import ACKNOWLEDGED, DEAD, Bounds, Letter, Outbox
from policies.wire import Message

BACKOFF_FACTOR = 2
"""Documented for the village's message delivery."""


class Data(Message, frozen=True, tag="data"):
    """A copy of a letter."""

    epoch: Count
    number: Count
    floor: Count
    body: bytes


class Ack(Message, frozen=True, tag="ack"):
    """The letter is durable at its destination."""

    epoch: Count
    number: Count


class Delivery(Policy):
    """One node's end of the long-range transport.

    Args:
        config: tries, waits and bounds.
        consumer: path of the policy that arriving letters are handed to, ``""`` for none.
    """

    messages = (Data, Ack)
    requests = (Post,)

    def __init__(self, config: DeliveryConfig | None = None, consumer: str = "") -> None:
        self.config, self.consumer = config or DeliveryConfig(), consumer

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        """Go on with every letter that is open, after the wait that its last try earned."""
        config = self.config
        bounds = Bounds(config.queue_max, config.body_max_bytes, config.ttl_s)
        self.outbox = Outbox(self.port, bounds, saved)
        self.inbox = Inbox(self.port, self.consumer, config.queue_max, saved)
        self._leaving: dict[int, list[str]] = {}  # keys of letters that leave when a save is durable, by its token
        for letter in self.outbox:
            self._wait(letter)

    def on_request(self, client: str, op_id: str, operation: Post) -> None:
        """A client posts a letter, or asks what became of it."""
        if letter := self.outbox.request(client, op_id, operation):
            self._try(letter)

    def on_local(self, sender: str, message: Any) -> None:
        """A local policy posts a letter, or has taken one."""
        if isinstance(message, Took):
            self.inbox.took(message.stream, message.number)
        elif isinstance(message, Carry) and (letter := self.outbox.carry(sender, message)):
            self._try(letter)

    def on_message(self, sender: str, message: Data | Ack) -> None:
        """Take a copy and acknowledge it, or hear that a letter arrived."""
        if isinstance(message, Data):
            verdict = self.inbox.offer(sender, self.port.me, message.epoch, message.number, message.floor, message.body)
            if verdict in (Verdict.NEW, Verdict.KNOWN):
                self.port.send(sender, Ack(message.epoch, message.number))
        elif message.epoch == self.outbox.epoch and (letter := self.outbox.get(sender, message.number)):
            self._end(letter, ACKNOWLEDGED)

    def on_timer(self, name: str) -> None:
        """A letter's wait is over, or the consumer is to be reminded."""
        if name == inboxes.TIMER:
            self.inbox.remind()
        elif letter := self.outbox.letters.get(name.removeprefix("letter/")):
            self.unheard(letter)

    def on_durable(self, token: int) -> None:
        """What arrived is safe, so hand it over; what was tried has left, so count the wait from here."""
        self.inbox.durable(token)
        for key in self._leaving.pop(token, ()):
            if letter := self.outbox.letters.get(key):
                self._wait(letter)

    def unheard(self, letter: Letter) -> None:
        """No acknowledgement came in time: try again, or give the letter up."""
        if self.port.wall >= letter.expires_wall_ns:
            self._end(letter, DEAD, "expired")
        elif letter.tries >= self.config.tries:
            self._end(letter, DEAD, f"no acknowledgement after {letter.tries} tries")
        else:
            self._try(letter)

    def backoff_s(self, tries: int) -> float:
        """Return how long the acknowledgement of the ``tries``-th try is waited for at least."""
        return min(self.config.backoff_first_s * float(BACKOFF_FACTOR) ** (tries - 1), self.config.backoff_max_s)

    def _try(self, letter: Letter) -> None:
        letter = msgspec.structs.replace(letter, tries=letter.tries + 1)
        # Counted before it leaves, so that a node that keeps crashing ends its tries, too.
        self._leaving.setdefault(self.outbox.change(letter), []).append(letter.key)
        data = Data(self.outbox.epoch, letter.number, self.outbox.floor(letter.to), letter.body)
        self.port.send(letter.to, data)
        self.port.decide("tried", Tried(self.outbox.name(letter), letter.tries))

    def _wait(self, letter: Letter) -> None:
        wait_s = self.backoff_s(letter.tries) * (1.0 + self.config.jitter * self.port.rng.random())
        self.port.set_timer(f"letter/{letter.key}", int(wait_s * NS_PER_S))

    def _end(self, letter: Letter, outcome: str, reason: str = "") -> None:
        self.port.cancel_timer(f"letter/{letter.key}")
        self.outbox.end(letter, outcome, reason)
