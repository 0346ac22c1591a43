"""A simulated disk: bytes that are lost, or torn, when they were not synced.

It implements `policies.log.Storage`, so the recovery code that ships is the recovery code that runs here.
"""

from __future__ import annotations


class Disk:
    """One append-only file of one node.

    Attributes:
        synced: bytes that survive a crash.
    """

    __slots__ = ("_data", "synced")

    def __init__(self) -> None:
        self._data = bytearray()
        self.synced = 0

    def read(self) -> bytes:
        """Return the whole file."""
        return bytes(self._data)

    def append(self, data: bytes) -> None:
        """Write at the end, into the cache."""
        self._data += data

    def sync(self) -> None:
        """Make everything appended durable."""
        self.synced = len(self._data)

    def truncate(self, size: int) -> None:
        """Cut the file, durably."""
        del self._data[size:]
        self.synced = size

    @property
    def size(self) -> int:
        """Bytes written, durable or not."""
        return len(self._data)

    def sync_to(self, size: int) -> None:
        """Make the first ``size`` bytes durable (a sync that was started at that size ends)."""
        self.synced = max(self.synced, min(size, len(self._data)))

    def crash(self, torn_share: float = 0.0) -> int:
        """Lose what was not synced, except the first ``torn_share`` of it; return the bytes lost."""
        keep = self.synced + int((len(self._data) - self.synced) * torn_share)
        lost = len(self._data) - keep
        del self._data[keep:]
        self.synced = keep
        return lost
