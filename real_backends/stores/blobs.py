"""Blobs: immutable bytes in a folder, each under the digest of its content.

A blob ends when its session does (`BlobStore.drop`), or when there is no room: then those go that were used last the
longest ago.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from threading import Lock

from policies.wire import digest

_NAME = re.compile(r"[0-9a-f]{40}")  # the digest of `policies.wire`, so that no peer can name a path

STORE_BYTES_MAX = 1 << 30  # our choice: a quarter of a million prompts and answers, or dozens of stages' inputs


class BlobStore:
    """Puts and gets bytes by digest; a blob that does not match its name is never returned.

    Args:
        folder: where they lie; what an earlier life left there is found again.
        bytes_max: of all of them. The newest one stays, whatever its size.
    """

    def __init__(self, folder: Path, bytes_max: int = STORE_BYTES_MAX) -> None:
        self.folder, self.bytes_max = folder, bytes_max
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = Lock()  # executors put from their own thread
        found = [(path.stat(), path.name) for path in folder.iterdir() if _NAME.fullmatch(path.name)]
        self._sizes = {name: stat.st_size for stat, name in sorted(found, key=lambda each: each[0].st_mtime_ns)}
        self.bytes = sum(self._sizes.values())

    def put(self, data: bytes) -> str:
        """Keep ``data`` and return its digest. The blob appears whole or not at all."""
        name = digest(data)
        with self._lock:
            path = self.folder / name
            if not path.exists() or path.stat().st_size != len(data):  # cut short: the disk lost power before it wrote
                part = self.folder / f".{name}.{os.getpid()}.part"
                part.write_bytes(data)
                os.replace(part, path)
            self._used(name, len(data))
            while self.bytes > self.bytes_max and len(self._sizes) > 1:
                self._remove(next(iter(self._sizes)))
        return name

    def get(self, name: str) -> bytes | None:
        """Return the blob, or None when it is absent. A damaged one is removed and counts as absent."""
        if not _NAME.fullmatch(name):
            return None
        with self._lock:
            try:
                data = (self.folder / name).read_bytes()
            except FileNotFoundError:
                return None
            if digest(data) != name:
                self._remove(name)
                return None
            self._used(name, len(data))
        return data

    def piece(self, name: str, begin: int, count: int) -> bytes | None:
        """Return up to ``count`` bytes from ``begin`` on, or None when the blob is absent.

        Only a first piece is looked at whole, as in `get`: whoever has all pieces checks them.
        """
        if begin <= 0:
            data = self.get(name)
            return None if data is None else data[:count]
        if not _NAME.fullmatch(name):
            return None
        with self._lock:
            try:
                with (self.folder / name).open("rb") as file:
                    file.seek(begin)
                    return file.read(count)
            except FileNotFoundError:
                return None

    def drop(self, name: str) -> None:
        """Forget a blob; an unknown one is ignored."""
        if _NAME.fullmatch(name):
            with self._lock:
                self._remove(name)

    def _used(self, name: str, size: int) -> None:
        self.bytes += size - self._sizes.pop(name, 0)
        self._sizes[name] = size

    def _remove(self, name: str) -> None:
        self.bytes -= self._sizes.pop(name, 0)
        (self.folder / name).unlink(missing_ok=True)
