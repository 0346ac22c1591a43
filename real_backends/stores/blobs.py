"""Blobs: immutable bytes in a folder, each under the digest of its content."""

from __future__ import annotations

import os
import re
from pathlib import Path

from policies.wire import digest

_NAME = re.compile(r"[0-9a-f]{40}")  # the digest of `policies.wire`, so that no peer can name a path


class BlobStore:
    """Puts and gets bytes by digest; a blob that does not match its name is never returned."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes) -> str:
        """Keep ``data`` and return its digest. The blob appears whole or not at all."""
        name = digest(data)
        path = self.folder / name
        if not path.exists():
            part = self.folder / f".{name}.{os.getpid()}.part"
            part.write_bytes(data)
            os.replace(part, path)
        return name

    def get(self, name: str) -> bytes | None:
        """Return the blob, or None when it is absent. A damaged one is removed and counts as absent."""
        if not _NAME.fullmatch(name):
            return None
        path = self.folder / name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        if digest(data) != name:
            path.unlink(missing_ok=True)
            return None
        return data
