"""Blobs: immutable bytes in a folder, each under the digest of its content.

A blob ends when it is dropped, or when there is no room: then those go that were used last the longest ago. There is a
room of its own for each kind (`Kind`), so that what others bring, or make a node fetch, never displaces what the node
itself must be able to hand out. In a room whoever has the most in it gives way first (`real_backends.stores.room`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Literal

from policies.wire import digest
from real_backends.stores.room import Room

_NAME = re.compile(r"[0-9a-f]{40}")  # the digest of `policies.wire`, so that no peer can name a path

Kind = Literal["answers", "stages", "fetched", "brought"]
"""The answers that this node, as a head, has given; what its stages took and gave, shown for a check; what it has
fetched from others; and what came along with requests."""

ROOM_BYTES: Mapping[Kind, int] = {"answers": 1 << 28, "stages": 1 << 30, "fetched": 1 << 30, "brought": 1 << 28}
"""Our choice: a quarter of a million answers or prompts of 256 tokens; two of the largest inputs that a stage can have
taken (`blob_exchange.BLOB_BYTES_MAX`), or dozens of usual ones. A node's disk holds 2.5 GiB of blobs at most."""
ROOM_BLOBS_MAX = 1 << 18  # our choice, as many: or blobs of a byte would take memory and files without end


class BlobStore:
    """Puts and gets bytes by digest; a blob that does not match its name is never returned.

    Args:
        folder: where they lie; what an earlier life left there is found again.
        bytes_max: of each kind, together. The newest one stays, whatever its size.
        blobs_max: how many of each kind.
    """

    def __init__(
        self, folder: Path, bytes_max: Mapping[Kind, int] = ROOM_BYTES, blobs_max: int = ROOM_BLOBS_MAX
    ) -> None:
        self.folder = folder
        self._lock = Lock()  # executors put from their own thread
        self._rooms: dict[Kind, Room] = {
            kind: Room(folder if kind == "answers" else folder / kind, size, blobs_max, _NAME)
            for kind, size in bytes_max.items()
        }

    @property
    def bytes_held(self) -> int:
        """Of all blobs; one that is of two kinds counts twice, and lies there twice."""
        return sum(room.bytes for room in self._rooms.values())

    def put(self, data: bytes, kind: Kind = "answers", peer: str = "") -> str:
        """Keep ``data`` and return its digest. The blob appears whole or not at all.

        Args:
            data: the blob.
            kind: why it is kept.
            peer: who brought it, or from whom it was fetched.
        """
        name = digest(data)
        with self._lock:
            self._rooms[kind].put(name, data, peer)
        return name

    def get(self, name: str) -> bytes | None:
        """Return the blob, of any kind, or None when it is absent. A damaged one is removed and counts as absent."""
        if not _NAME.fullmatch(name):
            return None
        with self._lock:
            for room in self._rooms.values():
                data = room.read(name)
                if data is not None and digest(data) == name:
                    room.used(name, len(data))
                    return data
                if data is not None:
                    room.remove(name)
        return None

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
            pieces = (room.read(name, begin, count) for room in self._rooms.values())
            return next((piece for piece in pieces if piece is not None), None)

    def drop(self, name: str, kind: Kind = "answers") -> None:
        """Forget a blob of this kind; an unknown one is ignored, and one that is of another kind too stays as that."""
        if _NAME.fullmatch(name):
            with self._lock:
                self._rooms[kind].remove(name)
