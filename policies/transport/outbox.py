"""The origin's side of a letter: durable from its acceptance until it has ended, numbered, bounded, asked for once.

What is saved, by key: ``out/KEY`` an open letter, ``end/KEY`` how one ended, ``next/TO`` the next number to a
destination, ``epoch``. The ended ones are kept, the oldest forgotten first, so that a client which asks again hears
the outcome; those that ended dead are the dead-letter queue.

The numbers and floors are those of RIFL (Lee et al., SOSP 2015, section 3): exactly-once with a memory that is
bounded by what the sender may have open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from policies.port import NS_PER_S, Port
from policies.transport.messages import (
    EVERYONE,
    Accepted,
    Acknowledged,
    Carried,
    Carry,
    Dead,
    Known,
    Post,
    Refused,
    Spread,
    Taken,
    letter_name,
)
from policies.wire import Message, encode

ACKNOWLEDGED, SPREAD, DEAD = "acknowledged", "spread", "dead"


class Letter(Message, frozen=True, tag="letter"):
    """An open letter as it is saved. ``asker`` is the local policy that hears of its end, ``""`` for a client's."""

    key: str
    asker: str
    to: str
    number: int
    expires_wall_ns: int
    body: bytes
    tries: int = 0


class End(Message, frozen=True, tag="end"):
    """How a letter ended; ``order`` counts ends, oldest first."""

    order: int
    outcome: str
    reason: str


@dataclass(frozen=True)
class Bounds:
    """What an outbox holds: letters open (and, in one stream, numbers apart), bytes of a body, life of a letter."""

    open_max: int
    body_max_bytes: int
    ttl_s: float
    broadcasts: bool = False


_letter = msgspec.msgpack.Decoder(Letter).decode
_end = msgspec.msgpack.Decoder(End).decode
_number = msgspec.msgpack.Decoder(int).decode


class Outbox:
    """All letters of one node, open and ended.

    Attributes:
        epoch: names this memory; the wall clock at which it began (assumption: no clock is set back by more
            than a lost disk takes to replace).
        letters: open letters by key.
        ended: how letters ended, by key, oldest first; at most ``bounds.open_max``.
    """

    def __init__(self, port: Port, bounds: Bounds, saved: Mapping[str, bytes]) -> None:
        self.port, self.bounds = port, bounds
        self.letters: dict[str, Letter] = {}
        self._numbers: dict[str, dict[int, str]] = {}  # by destination: open numbers, rising, and their keys
        self._next = {name[len("next/") :]: _number(value) for name, value in saved.items() if name[:5] == "next/"}
        found = [_letter(value) for name, value in saved.items() if name.startswith("out/")]
        for letter in sorted(found, key=lambda one: (one.to, one.number)):
            self._open(letter)
        ends = [(name[len("end/") :], _end(value)) for name, value in saved.items() if name.startswith("end/")]
        self.ended = dict(sorted(ends, key=lambda pair: pair[1].order))
        self._ends = max((end.order for end in self.ended.values()), default=0)
        if "epoch" in saved:
            self.epoch = _number(saved["epoch"])
        else:
            self.epoch = port.wall
            port.save("epoch", encode(self.epoch))

    def __iter__(self) -> Iterator[Letter]:
        """All open letters, by destination and number."""
        return (self.letters[key] for numbers in self._numbers.values() for key in numbers.values())

    def get(self, to: str, number: int) -> Letter | None:
        """Return an open letter by its destination and number."""
        key = self._numbers.get(to, {}).get(number)
        return self.letters[key] if key is not None else None

    def name(self, letter: Letter) -> str:
        """Return a letter's name."""
        return letter_name(self.port.me, letter.to, self.epoch, letter.number)

    def floor(self, to: str) -> int:
        """Return the lowest number that may still come to ``to``."""
        return next(iter(self._numbers.get(to, ())), self._next.get(to, 1))

    def refusal(self, to: str, body: bytes) -> str:
        """Return why a letter cannot be taken now, or ""."""
        if to not in self.port.peers and not (to == EVERYONE and self.bounds.broadcasts):
            return f"no node {to!r} is known here"
        if len(body) > self.bounds.body_max_bytes:
            return f"a body of {len(body)} bytes, allowed are {self.bounds.body_max_bytes}"
        if len(self.letters) >= self.bounds.open_max:
            return f"{self.bounds.open_max} letters are open already"
        if self._next.get(to, 1) - self.floor(to) >= self.bounds.open_max:
            return f"an open letter to {to} is {self.bounds.open_max} numbers behind"
        return ""

    def accept(self, key: str, asker: str, to: str, body: bytes) -> Letter:
        """Save and number a letter that `refusal` lets pass; everything that leaves after it waits for the disk."""
        number = self._next.get(to, 1)
        self._next[to] = number + 1
        expires_ns = self.port.wall + int(self.bounds.ttl_s * NS_PER_S)
        letter = Letter(key, asker, to, number, expires_ns, body)
        self.port.save(f"next/{to}", encode(number + 1))
        self.change(letter)
        self._open(letter)
        self.port.decide("accepted", Accepted(self.name(letter), key, to))
        return letter

    def request(self, client: str, op_id: str, post: Post) -> Letter | None:
        """Answer a client; return the letter if it is a new one."""
        key = f"{client}/{op_id}"
        if (end := self.ended.get(key)) is not None:
            self.port.reply(client, op_id, Known(key, end.outcome, end.reason))
        elif key in self.letters:
            self.port.reply(client, op_id, Taken(key))
        elif reason := self.refusal(post.to, post.body):
            self.port.reply(client, op_id, Refused(reason))
        else:
            letter = self.accept(key, "", post.to, post.body)
            self.port.reply(client, op_id, Taken(key))
            return letter
        return None

    def carry(self, asker: str, carry: Carry) -> Letter | None:
        """Take a local policy's letter, or tell it how the letter of that key ended; return the letter if it is new."""
        key = f"{asker}/{carry.key}"
        if (end := self.ended.get(key)) is not None:
            self.port.tell(asker, Carried(carry.key, end.outcome == ACKNOWLEDGED, end.reason))
        elif key not in self.letters:
            if not (reason := self.refusal(carry.to, carry.body)):
                return self.accept(key, asker, carry.to, carry.body)
            self.port.tell(asker, Carried(carry.key, False, reason))
        return None

    def change(self, letter: Letter) -> int:
        """Save what has changed of an open letter; returns the save's token."""
        self.letters[letter.key] = letter
        return self.port.save(f"out/{letter.key}", encode(letter))

    def end(self, letter: Letter, outcome: str, reason: str = "") -> None:
        """Close a letter, once: announce how it ended, tell its asker, and remember it."""
        del self.letters[letter.key]
        del self._numbers[letter.to][letter.number]
        self._ends += 1
        self.ended[letter.key] = End(self._ends, outcome, reason)
        self.port.erase(f"out/{letter.key}")
        self.port.save(f"end/{letter.key}", encode(self.ended[letter.key]))
        if len(self.ended) > self.bounds.open_max:
            oldest = next(iter(self.ended))
            del self.ended[oldest]
            self.port.erase(f"end/{oldest}")
        if outcome == ACKNOWLEDGED:
            self.port.decide(outcome, Acknowledged(self.name(letter)))
        elif outcome == SPREAD:
            self.port.decide(outcome, Spread(self.name(letter)))
        else:
            self.port.decide(DEAD, Dead(self.name(letter), reason))
        if letter.asker:
            key = letter.key.removeprefix(f"{letter.asker}/")
            self.port.tell(letter.asker, Carried(key, outcome == ACKNOWLEDGED, reason))

    def _open(self, letter: Letter) -> None:
        self.letters[letter.key] = letter
        self._numbers.setdefault(letter.to, {})[letter.number] = letter.key
