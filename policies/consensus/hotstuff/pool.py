"""The pool: entries that wait to be committed, in the order in which they came. Liveness only.

Each member's entries stay in its own pool until they are committed, so a leader that ignores them delays them and no
more. A sender fills only its own quota, ``pool_max`` entries and `SENDER_BYTES_MAX`, so that a flood crowds out nobody
else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from policies.consensus.hotstuff.certificates import entry_key
from policies.consensus.hotstuff.messages import Entry

DONE_MAX = 4096
"""Keys of committed entries remembered, so that a copy that comes late is not ordered again."""

SENDER_BYTES_MAX = 16 << 20
"""Bytes of entries kept from any one sender: 64 of the largest that a block may hold by default (our bound)."""


class Waiting(NamedTuple):
    """An entry in the pool: who sent it here, and when."""

    entry: Entry
    sender: str
    since_ns: int


class Pool:
    """Entries by key.

    Args:
        pool_max: entries kept from any one sender.

    Attributes:
        oldest_ns: when the entry that waits longest came, or None for an empty pool; asked in every step.
    """

    def __init__(self, pool_max: int) -> None:
        self.pool_max = pool_max
        self.waiting: dict[bytes, Waiting] = {}
        self.held: dict[str, int] = {}  # entries by sender
        self.size: dict[str, int] = {}  # and their bytes
        self.done: dict[bytes, None] = {}
        self.oldest_ns: int | None = None

    def add(self, entry: Entry, sender: str, now_ns: int) -> bytes | None:
        """Take an entry in; return its key, or None if it is known already or the sender's quota is full."""
        key = entry_key(entry)
        if key in self.waiting or key in self.done or self.held.get(sender, 0) >= self.pool_max:
            return None
        size = self.size.get(sender, 0) + len(entry.data)
        if size > SENDER_BYTES_MAX:
            return None
        self.waiting[key] = Waiting(entry, sender, now_ns)
        if self.oldest_ns is None:
            self.oldest_ns = now_ns
        self.held[sender], self.size[sender] = self.held.get(sender, 0) + 1, size
        return key

    def take(self, ordered: Collection[bytes], count: int, size: int) -> tuple[Entry, ...]:
        """Return the oldest entries that are not ``ordered`` in blocks already, within ``count`` and ``size`` bytes.

        An entry of another kind than a command or a read stands alone in its block.
        """
        batch: list[Entry] = []
        for key, (entry, _, _) in self.waiting.items():
            if key in ordered:
                continue
            size -= len(entry.data)
            if len(batch) == count or (batch and (size < 0 or entry.alone or batch[0].alone)):
                break
            batch.append(entry)
        return tuple(batch)

    def commit(self, keys: Collection[bytes]) -> None:
        """Forget entries that are committed."""
        for key in keys:
            if key in self.waiting:
                self._drop(key)
            self.done[key] = None
        self._look()
        while len(self.done) > DONE_MAX:
            del self.done[next(iter(self.done))]

    def expire(self, me: str, before_ns: int) -> None:
        """Forget entries that others sent before a time."""
        late = [key for key, w in self.waiting.items() if w.since_ns < before_ns and w.sender != me]
        for key in late:
            self._drop(key)
        self._look()

    def _drop(self, key: bytes) -> None:
        entry, sender, _ = self.waiting.pop(key)
        self.held[sender] -= 1
        self.size[sender] -= len(entry.data)

    def _look(self) -> None:
        self.oldest_ns = next(iter(self.waiting.values())).since_ns if self.waiting else None

    def of(self, sender: str, before_ns: int, count: int, size: int, but: Callable[[Entry], bool]) -> tuple[Entry, ...]:
        """Return the oldest entries of ``sender`` that came no later than ``before_ns``, within bounds as in `take`.

        Those that ``but`` holds of are left out.
        """
        found: list[Entry] = []
        for entry, by, since_ns in self.waiting.values():
            if since_ns > before_ns or len(found) == count:
                break
            if by == sender and not but(entry):
                size -= len(entry.data)
                if found and size < 0:
                    break
                found.append(entry)
        return tuple(found)
