"""What a node of the mesh carries for others: a bounded number of packets, and whose must go when one too many comes.

A packet that is carried is not durable and nobody was promised it: its origin keeps the letter and offers it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, NamedTuple

from msgspec import Meta

from policies.transport.messages import Count, letter_name
from policies.wire import Message


class Id(NamedTuple):
    """Which letter: the same on every node."""

    origin: str
    to: str
    epoch: Count
    number: Count

    @property
    def letter(self) -> str:
        """The letter's name."""
        return letter_name(*self)


class Packet(Message, frozen=True, tag="packet"):
    """A copy of a letter that has made ``hops`` hops once it arrives."""

    id: Id
    floor: Count
    expires_wall_ns: Count
    hops: Annotated[int, Meta(ge=0, le=255)]
    body: bytes


class Buffer:
    """At most ``size`` packets.

    Eviction: the origin with most packets here loses the one that is nearest to its end, so that whoever floods the
    mesh pushes out its own and not everybody's.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._packets: dict[Id, Packet] = {}
        self._of: dict[str, int] = {}  # packets by origin

    def __len__(self) -> int:
        """Packets carried."""
        return len(self._packets)

    def __iter__(self) -> Iterator[Packet]:
        """Packets carried, the longest carried first."""
        return iter(self._packets.values())

    @property
    def full(self) -> bool:
        """Whether one more pushes one out."""
        return len(self._packets) >= self.size

    def get(self, name: Id) -> Packet | None:
        """Return a packet, if it is carried."""
        return self._packets.get(name)

    def put(self, packet: Packet) -> bool:
        """Carry a packet, or its better copy; returns False if it is itself the one that must go."""
        if packet.id not in self._packets:
            self._of[packet.id.origin] = self._of.get(packet.id.origin, 0) + 1
        self._packets[packet.id] = packet
        if len(self._packets) <= self.size:
            return True
        most = max(self._of, key=lambda origin: (self._of[origin], origin))
        victim = min((p for p in self if p.id.origin == most), key=lambda p: (p.expires_wall_ns, p.id))
        self.drop(victim.id)
        return victim.id != packet.id

    def drop(self, name: Id) -> None:
        """Carry a packet no more."""
        if self._packets.pop(name, None) is not None:
            self._of[name.origin] -= 1
            if not self._of[name.origin]:
                del self._of[name.origin]

    def expire(self, wall_ns: int) -> None:
        """Drop what is past its life."""
        for packet in [p for p in self if p.expires_wall_ns <= wall_ns]:
            self.drop(packet.id)
