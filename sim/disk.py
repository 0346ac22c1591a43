"""A simulated disk: bytes that are lost, torn, scattered or garbled when not synced, that may rot or land elsewhere.

It implements `policies.log.Storage`, so the recovery code that ships is the recovery code that runs here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

Draw = Callable[[], float]
"""Draws from [0, 1)."""


class Disk:
    """One append-only file of one node.

    Attributes:
        size: bytes written, durable or not.
        synced: bytes that survive a crash.
    """

    __slots__ = ("_data", "_ends", "_proven", "size", "synced")

    def __init__(self) -> None:
        self._data = bytearray()
        self.size = 0
        self._ends: list[int] = []  # where each write ends
        self._proven: list[int] = []  # how much was durable when it was written
        self.synced = 0

    def read(self) -> bytes:
        """Return the whole file."""
        return bytes(self._data)

    def append(self, data: bytes) -> None:
        """Write at the end, into the cache."""
        self._data += data
        self.size = size = self.size + len(data)
        self._ends.append(size)
        self._proven.append(self.synced)

    def sync(self) -> None:
        """Make everything appended durable."""
        self.synced = self.size

    def truncate(self, size: int) -> None:
        """Cut the file, durably."""
        self._cut(size)
        self.synced = size

    def replace(self, data: bytes) -> None:
        """Hold this instead, durably and at once."""
        self.truncate(0)
        self.append(data)
        self.sync()

    def sync_to(self, size: int) -> None:
        """Make the first ``size`` bytes durable (a sync that was started at that size ends)."""
        self.synced = max(self.synced, min(size, self.size))

    # -- what a crash makes of writes that were not synced -------------------------------------------------

    def crash(self, torn_share: float = 0.0) -> int:
        """Lose what was not synced, except the first ``torn_share`` of it; return the bytes lost."""
        keep = self.synced + int((self.size - self.synced) * torn_share)
        lost = self.size - keep
        self._cut(keep)
        self.synced = keep
        return lost

    def scatter(self, draw: Draw) -> None:
        """Of the writes that were not synced any subset is there, as disks reorder them; a gap reads as zeros."""
        begin, last = self.synced, self.synced
        for end in self._ends[bisect_right(self._ends, self.synced) :]:
            if draw() < 0.5:
                last = end
            else:
                self._data[begin:end] = bytes(end - begin)
            begin = end
        self._cut(last)
        self.synced = last

    def garble(self, draw: Draw) -> None:
        """All that was not synced is there, with one bit of it flipped."""
        if self.synced < self.size:
            self._flip(self.synced, self.size, draw)
        self.synced = self.size

    # -- what happens to durable bytes ---------------------------------------------------------------------

    def wipe(self) -> None:
        """Lose everything."""
        self.truncate(0)

    def rot(self, draw: Draw, *, last_copy: bool = False) -> bool:
        """Flip one bit of what is durable; return whether there was any that may.

        By default only where a later durable write proves that it had been durable, so that recovery can tell.
        """
        end = self._exposed(last_copy)
        if end:
            self._flip(0, end, draw)
        return end > 0

    def misdirect(self, draw: Draw, *, last_copy: bool = False) -> bool:
        """Let one durable write have landed at another place; return whether there was any that may, and a place.

        Its own place reads as zeros. By default both lie where `rot` may strike.
        """
        end = self._exposed(last_copy)
        begins = [0, *self._ends]
        writes = [(b, e) for b, e in zip(begins, self._ends, strict=False) if b < e <= end and e - b < end]
        if not writes:
            return False
        begin, after = writes[int(draw() * len(writes))]
        written = self._data[begin:after]
        places = end - len(written)  # where it may begin, its own place left out
        at = int(draw() * places)
        at += at >= begin
        self._data[begin:after] = bytes(len(written))
        self._data[at : at + len(written)] = written
        return True

    def _exposed(self, last_copy: bool) -> int:
        """Return how many of the first bytes may be damaged."""
        durable = bisect_right(self._ends, self.synced)
        return self.synced if last_copy else max(self._proven[:durable], default=0)

    def _flip(self, begin: int, end: int, draw: Draw) -> None:
        bit = int(draw() * 8 * (end - begin))
        self._data[begin + bit // 8] ^= 1 << bit % 8

    def _cut(self, size: int) -> None:
        del self._data[size:]
        self.size = len(self._data)
        whole = bisect_right(self._ends, size)
        del self._ends[whole:], self._proven[whole:]
