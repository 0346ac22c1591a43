"""The record log's disk: one append-only file, which another may replace (`policies.log.Storage`)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


class FileStorage:
    """Append, sync, truncate, replace and read one file. Not for two processes at once.

    Args:
        path: the file; made when absent, with its directory entry made durable too.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._new = path, path.with_name(f"{path.name}.new")
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            os.unlink(self._new)  # a replacement that a crash cut short
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._sync_folder()

    def read(self) -> bytes:
        """Return the whole file."""
        return self.path.read_bytes()

    def append(self, data: bytes) -> None:
        """Write at the end.

        Raises:
            OSError: the disk is full or broken; what was written so far is a torn tail.
        """
        _write(self._file, data)

    def sync(self) -> None:
        """Return once everything appended is on the disk."""
        os.fsync(self._file)

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes, durably."""
        os.ftruncate(self._file, size)
        os.fsync(self._file)

    def replace(self, data: bytes) -> None:
        """Let the file hold ``data`` instead, durably: a crash at any time leaves it as it was, or so.

        Raises:
            OSError: the disk is full or broken; the file is one or the other.
        """
        file = os.open(self._new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            _write(file, data)
            os.fsync(file)  # before it has the name: else the name may outlive a crash, and the bytes not
            os.replace(self._new, self.path)
        except OSError:
            os.close(file)
            raise
        os.close(self._file)
        self._file = file
        self._sync_folder()  # before anything is appended: what the old file lacks must not be acknowledged

    def _sync_folder(self) -> None:
        """Else a crash of the machine may lose a file's name although its bytes were synced (fsync(2))."""
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Close the file; nothing is synced by that."""
        os.close(self._file)


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
