"""The record log's disk: one append-only file (`policies.log.Storage`)."""

from __future__ import annotations

import os
from pathlib import Path


class FileStorage:
    """Append, sync, truncate and read one file. Not for two processes at once.

    Args:
        path: the file; made when absent, with its directory entry made durable too.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        # Else a crash of the machine may lose the file's name although its bytes were synced (fsync(2)).
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def read(self) -> bytes:
        """Return the whole file."""
        return self.path.read_bytes()

    def append(self, data: bytes) -> None:
        """Write at the end.

        Raises:
            OSError: the disk is full or broken; what was written so far is a torn tail.
        """
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]

    def sync(self) -> None:
        """Return once everything appended is on the disk."""
        os.fsync(self._file)

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes, durably."""
        os.ftruncate(self._file, size)
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file; nothing is synced by that."""
        os.close(self._file)
