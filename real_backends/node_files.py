"""What a running node writes about itself: its journal and its events. A kill costs them a torn tail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from policies.log import frames
from policies.port import Effect, Input
from scenarios.journal import Header, Journal


class JournalFile:
    """Appends one node's steps to a file; after a restart it goes on where the last whole row ended."""

    def __init__(self, path: Path, header: Header) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(header)
        self._file = path.open("ab", buffering=0)
        data = path.read_bytes()
        end = 0
        for _, end in frames(data):  # noqa: B007  (the last end is where the journal is whole)
            pass
        self._file.truncate(end)
        if end:
            self._journal.take()  # the file has its header

    def add(self, now_ns: int, wall_ns: int, given: Input, effects: tuple[Effect, ...]) -> None:
        """Append one step; it reaches the operating system at the next `flush`."""
        self._journal.add(now_ns, wall_ns, given, effects)

    def flush(self) -> None:
        """Hand what was added to the operating system."""
        if data := self._journal.take():
            self._file.write(data)

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        self._file.close()


class EventFile:
    """One JSON object a line: ``now_ns``, ``kind``, ``path``, ``name`` and ``detail``."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._encoder = msgspec.json.Encoder(order="deterministic")

    def add(self, now_ns: int, kind: str, path: str, name: str, detail: Any) -> None:
        """Append one event; bytes become hexadecimal, a message keeps its array form ``[tag, field, ...]``."""
        event = {"now_ns": now_ns, "kind": kind, "path": path, "name": name, "detail": _hexed(detail)}
        self._file.write(self._encoder.encode(event) + b"\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _hexed(detail: Any) -> Any:
    """Return plain data with its bytes as hexadecimal text, as the twin's tables have them; JSON has no bytes."""
    if isinstance(detail, bytes):
        return detail.hex()
    if isinstance(detail, list | tuple):
        return [_hexed(one) for one in detail]
    return detail


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the events of a file, oldest first; no file means none, and a torn last line is left out."""
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return [msgspec.json.decode(line) for line in whole.split(b"\n") if line]
