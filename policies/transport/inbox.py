"""The destination's side of a letter: taken once, durable, handed to the node's consumer until that has it.

A stream is one origin's numbered letters to one destination (this node, or everyone). What is saved, by key:
``in/STREAM/NUMBER`` a letter that was taken, with its body until the consumer took it, and ``floor/STREAM`` the
origin's epoch and the number below which everything is known to be over.

The promise: of all copies of a letter exactly one is taken and announced. Across a crash of this very node between a
hand-over and the consumer's word, the letter is handed, and announced, ``again``; no receiver can do better without
its consumer's help, and the consumer that saves what it took by (stream, number) does nothing twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec

from policies.port import NS_PER_S, Port
from policies.transport.messages import Delivered, Handed, stream_name
from policies.wire import Message, encode

AGAIN_NS = 30 * NS_PER_S
"""A consumer that has not taken a letter is handed it again after this (documented as the delivery's time-out)."""
TIMER = "inbox"


class Verdict(Enum):
    """What became of a copy. Only `FULL` and `STALE` are no reason to acknowledge it."""

    NEW = "new"
    KNOWN = "known"
    FULL = "full"  # the consumer is slow, or the sender's numbers run too far ahead of its floor: not now
    STALE = "stale"  # of a memory that its sender has lost since


class Held(Message, frozen=True, tag="held"):
    """A letter as it is saved; without its body once it is ``taken``."""

    origin: str
    to: str
    body: bytes
    taken: bool


_held = msgspec.msgpack.Decoder(Held).decode
_floor = msgspec.msgpack.Decoder(tuple[int, int]).decode


class Inbox:
    """All streams that end at one node.

    Args:
        port: the policy's.
        consumer: path of the policy that letters are handed to; ``""`` for none, then the announcement is all.
        open_max: letters that wait for the consumer at once, and the widest a stream's numbers may lie apart.
        saved: what was durable.

    Attributes:
        waiting: letters that the consumer has not taken, with the token of their save, by (stream, number).
    """

    def __init__(self, port: Port, consumer: str, open_max: int, saved: Mapping[str, bytes]) -> None:
        self.port, self.consumer, self.open_max = port, consumer, open_max
        self.waiting: dict[tuple[str, int], tuple[int, Held]] = {}
        self._floors = {name[len("floor/") :]: _floor(v) for name, v in saved.items() if name.startswith("floor/")}
        self._seen: dict[str, set[int]] = {}  # by stream, from its floor on
        for name in saved:
            if name.startswith("in/"):
                self._recover(name, _held(saved[name]))
        if self.waiting:  # a step later, so that the announcement does not wait for what the consumer saves
            port.set_timer(TIMER, 0)

    def _recover(self, name: str, held: Held) -> None:
        stream, _, digits = name[len("in/") :].rpartition("/")
        number = int(digits)
        epoch, floor = self._floors[f"{held.origin}>{held.to}"]
        if stream == stream_name(held.origin, held.to, epoch) and number >= floor:
            self._seen.setdefault(stream, set()).add(number)
        if not held.taken:
            self.waiting[stream, number] = (0, held)
            self.port.decide("delivered", Delivered(f"{stream}/{number}", held.body, True))

    def offer(self, origin: str, to: str, epoch: int, number: int, floor: int, body: bytes) -> Verdict:
        """Take a copy, if it is the first of its letter; what the policy sends after it waits for the disk."""
        known_epoch, known_floor = self._floors.get(f"{origin}>{to}", (-1, 0))
        if epoch < known_epoch:
            return Verdict.STALE
        if self.has(origin, to, epoch, number):
            return Verdict.KNOWN
        if len(self.waiting) >= self.open_max or not floor <= number < floor + self.open_max:
            return Verdict.FULL
        stream = stream_name(origin, to, epoch)
        if epoch > known_epoch:
            self._forget(stream_name(origin, to, known_epoch), None)
        if (epoch, floor) > (known_epoch, known_floor):
            self._floors[f"{origin}>{to}"] = (epoch, floor)
            self.port.save(f"floor/{origin}>{to}", encode((epoch, floor)))
            self._forget(stream, floor)
        self._seen.setdefault(stream, set()).add(number)
        held = Held(origin, to, body, False)
        token = self.port.save(f"in/{stream}/{number}", encode(held))
        self.waiting[stream, number] = (token, held)
        self.port.decide("delivered", Delivered(f"{stream}/{number}", body, False))
        return Verdict.NEW

    def has(self, origin: str, to: str, epoch: int, number: int) -> bool:
        """Whether this letter was taken, or belongs to a memory that is over."""
        known_epoch, floor = self._floors.get(f"{origin}>{to}", (-1, 0))
        if epoch != known_epoch:
            return epoch < known_epoch
        return number < floor or number in self._seen.get(stream_name(origin, to, epoch), ())

    def token(self, origin: str, to: str, epoch: int, number: int) -> int:
        """Return the token of the save of a letter that waits for the consumer."""
        return self.waiting[stream_name(origin, to, epoch), number][0]

    def durable(self, token: int) -> None:
        """Hand over what has become durable."""
        for (stream, number), (saved_by, held) in list(self.waiting.items()):
            if saved_by == token:
                self._hand(stream, number, held, again=False)

    def remind(self) -> None:
        """Hand over again what the consumer has not taken; for the timer `TIMER`."""
        for (stream, number), (_, held) in list(self.waiting.items()):
            self._hand(stream, number, held, again=True)

    def took(self, stream: str, number: int) -> None:
        """The consumer has it."""
        entry = self.waiting.pop((stream, number), None)
        if entry is None:
            return
        if number in self._seen.get(stream, ()):
            self.port.save(f"in/{stream}/{number}", encode(msgspec.structs.replace(entry[1], body=b"", taken=True)))
        else:  # its stream is past it
            self.port.erase(f"in/{stream}/{number}")

    def _hand(self, stream: str, number: int, held: Held, again: bool) -> None:
        if not self.consumer:
            self.took(stream, number)
            return
        self.port.tell(self.consumer, Handed(stream, number, held.origin, held.body, again))
        self.port.set_timer(TIMER, AGAIN_NS)

    def _forget(self, stream: str, below: int | None) -> None:
        """Drop a stream's marks below a number, or all of them; what still waits for the consumer stays."""
        seen = self._seen.get(stream, set())
        for number in sorted(one for one in seen if below is None or one < below):
            seen.remove(number)
            if (stream, number) not in self.waiting:
                self.port.erase(f"in/{stream}/{number}")
        if not seen:
            self._seen.pop(stream, None)
