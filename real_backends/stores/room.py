"""A room of the blob store: files of one folder, bounded in bytes and in number, and shared among those who fill it.

When it is full, whoever has the largest share gives up what it used last the longest ago: a peer that brings more and
more displaces its own. What two have brought stays as long as either's share has it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path


class Room:
    """Keeps bytes by name.

    Args:
        folder: where they lie. What an earlier life left there is nobody's, as what is put by the peer "" is.
        bytes_max, blobs_max: of them all. The newest one stays, whatever its size.
        names: what files are called that are taken for blobs.

    Attributes:
        bytes: of them all.
    """

    def __init__(self, folder: Path, bytes_max: int, blobs_max: int, names: re.Pattern[str]) -> None:
        self.folder, self.bytes_max, self.blobs_max = folder, bytes_max, blobs_max
        folder.mkdir(parents=True, exist_ok=True)
        for part in folder.glob(".*.part"):  # what a kill left of a blob; no room counts it
            part.unlink(missing_ok=True)
        found = [(path.stat(), path.name) for path in folder.iterdir() if names.fullmatch(path.name)]
        self._sizes = {name: stat.st_size for stat, name in sorted(found, key=lambda each: each[0].st_mtime_ns)}
        self.bytes = sum(self._sizes.values())
        # By peer, oldest use first, with the sum of each. What is read before it was put here is nobody's.
        self._shares: dict[str, dict[str, None]] = {"": dict.fromkeys(self._sizes)}
        self._bytes: dict[str, int] = {"": self.bytes}

    def put(self, name: str, data: bytes, peer: str) -> None:
        """Keep a blob as this peer's; it appears whole or not at all."""
        path = self.folder / name
        if self.read(name) != data:  # nothing, or what a disk that lost power made of it: cut short, or zeros
            part = self.folder / f".{name}.{os.getpid()}.part"
            try:
                part.write_bytes(data)
                os.replace(part, path)
            except OSError:
                part.unlink(missing_ok=True)  # of a full disk it would keep the last of the room
                raise
        self._resize(name, len(data))
        self._shares.setdefault(peer, {})
        self._bytes.setdefault(peer, 0)
        if name not in self._shares[peer]:
            self._shares[peer][name] = None
            self._bytes[peer] += len(data)
        self.used(name, len(data))
        while (self.bytes > self.bytes_max or len(self._sizes) > self.blobs_max) and len(self._sizes) > 1:
            self._make_room(name)

    def read(self, name: str, begin: int = 0, count: int = -1) -> bytes | None:
        """Return a blob's bytes, or ``count`` of them; None if it is not here."""
        try:
            with (self.folder / name).open("rb") as file:
                file.seek(begin)
                return file.read(count)
        except FileNotFoundError:
            return None

    def used(self, name: str, size: int) -> None:
        """A blob of this size is here, and was used just now."""
        self._resize(name, size)
        shares = [share for share in self._shares.values() if name in share]
        if not shares:  # another process put it
            shares = [self._shares.setdefault("", {})]
            self._bytes[""] = self._bytes.get("", 0) + size
        for share in shares:
            share.pop(name, None)
            share[name] = None

    def remove(self, name: str) -> None:
        """Forget a blob, whoever brought it."""
        for peer in [peer for peer, share in self._shares.items() if name in share]:
            self._give_up(peer, name)
        self._sizes.pop(name, None)
        (self.folder / name).unlink(missing_ok=True)

    def _resize(self, name: str, size: int) -> None:
        grown = size - self._sizes.get(name, 0)
        self._sizes[name] = size
        self.bytes += grown
        for peer, share in self._shares.items():
            if name in share:
                self._bytes[peer] += grown

    def _make_room(self, newest: str) -> None:
        """Let whoever has most give up its oldest blob, though not the newest of all."""
        oldest = {peer: next((name for name in share if name != newest), None) for peer, share in self._shares.items()}
        peer = max((peer for peer, name in oldest.items() if name is not None), key=self._share)
        name = oldest[peer]
        assert name is not None
        self._give_up(peer, name)

    def _share(self, peer: str) -> float:
        return max(self._bytes[peer] / self.bytes_max, len(self._shares[peer]) / self.blobs_max)

    def _give_up(self, peer: str, name: str) -> None:
        size = self._sizes[name]
        del self._shares[peer][name]
        self._bytes[peer] -= size
        if not self._shares[peer]:
            del self._shares[peer], self._bytes[peer]
        if not any(name in share for share in self._shares.values()):
            del self._sizes[name]
            self.bytes -= size
            (self.folder / name).unlink(missing_ok=True)
