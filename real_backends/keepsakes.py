"""What is kept of sessions in memory, bounded in number and, with what else is kept there, in bytes.

Whoever has most of it gives up its oldest first, as in a room of blobs (`real_backends.stores.room`): a peer that lets
sessions run on and on displaces what is kept of its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Keepsakes(Generic[Key, Value]):
    """Values by key, the oldest first.

    Args:
        count_max: how many are kept.

    Attributes:
        bytes: of them all.
    """

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._of: dict[Key, tuple[Value, int, str]] = {}
        self._by_peer: dict[str, list[int]] = {}  # how many, and how many bytes
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._of)

    def __iter__(self) -> Iterator[Key]:
        return iter(list(self._of))

    def get(self, key: Key) -> Value | None:
        """Return a value, if it is here."""
        found = self._of.get(key)
        return None if found is None else found[0]

    def put(self, key: Key, value: Value, size_bytes: int, peer: str) -> list[Key]:
        """Keep a value of a session that this peer headed; return what made room for it."""
        self.pop(key)
        self._of[key] = (value, size_bytes, peer)
        self._count(peer, 1, size_bytes)
        gone = []
        while len(self._of) > self._count_max:
            gone.append(self.give_up(by_bytes=False))
        return gone

    def pop(self, key: Key) -> tuple[Value, int, str] | None:
        """Forget a value; return it with its size and its peer, if it was here."""
        found = self._of.pop(key, None)
        if found is not None:
            self._count(found[2], -1, -found[1])
        return found

    def give_up(self, *, by_bytes: bool = True) -> Key:
        """Forget the oldest of the peer that has most; there must be something."""
        most = max(self._by_peer, key=lambda peer: self._by_peer[peer][by_bytes])
        oldest = next(key for key, (_, _, peer) in self._of.items() if peer == most)
        self.pop(oldest)
        return oldest

    def _count(self, peer: str, number: int, size_bytes: int) -> None:
        counted = self._by_peer.setdefault(peer, [0, 0])
        counted[0] += number
        counted[1] += size_bytes
        self.bytes += size_bytes
        if not counted[0]:
            del self._by_peer[peer]
