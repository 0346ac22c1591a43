"""The record log's disk: one append-only file, which another may replace (`policies.log.Storage`)."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from policies.log import NoRoom

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)
"""What says that there cannot be another file now, and nothing of those that are there."""
SPARE_BYTES = 4 << 20
"""What a replacement leaves free for all that is appended meanwhile (our choice: a second of a busy node's journal)."""


class FileStorage:
    """Append, sync, truncate, replace and read one file. Not for two processes at once.

    Args:
        path: the file; made when absent, with its directory entry made durable too.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._new = path, path.with_name(f"{path.name}.new")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._drop_new()  # a replacement that a crash cut short
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._folder = os.open(path.parent, os.O_RDONLY)  # kept: none may be left to open it with when it must be
        self._sync_folder()

    def read(self) -> bytes:
        """Return the whole file."""
        with open(self._file, "rb", closefd=False) as file:  # by the descriptor that is there: others may be used up
            file.seek(0)
            return file.read()

    def append(self, data: bytes) -> None:
        """Write at the end.

        Raises:
            OSError: the disk is full or broken; what was written so far is a torn tail.
        """
        write_all(self._file, data)

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
            NoRoom: for both at once; the file is as it was.
            OSError: the disk is broken; the file is one or the other.
        """
        try:
            file = self._write_new(data)
        except OSError as error:
            self._drop_new()  # what it holds may be the room that appending needs
            if error.errno in NO_ROOM:
                raise NoRoom(error.errno, error.strerror) from None
            raise
        os.close(self._file)
        self._file = file
        self._sync_folder()  # before anything is appended: what the old file lacks must not be acknowledged

    def _write_new(self, data: bytes) -> int:
        """Write a file and give it the name; return its descriptor."""
        room = os.statvfs(self.path.parent)
        if room.f_bavail * room.f_frsize < len(data) + SPARE_BYTES:  # to find out by writing would fill the disk
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file = os.open(self._new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            write_all(file, data)
            os.fsync(file)  # before it has the name: else the name may outlive a crash, and the bytes not
            os.replace(self._new, self.path)
        except OSError:
            os.close(file)
            raise
        return file

    def _drop_new(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._new)

    def _sync_folder(self) -> None:
        """Else a crash of the machine may lose a file's name although its bytes were synced (fsync(2))."""
        os.fsync(self._folder)

    def close(self) -> None:
        """Close the file; nothing is synced by that."""
        os.close(self._file)
        os.close(self._folder)


def write_all(file: int, data: bytes) -> None:
    """Write at a file's place: the system may take less at a time, before it says that the disk is full."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
