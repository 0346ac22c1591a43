"""What a running node writes about itself: its journal and its events. A kill costs them a torn tail.

Each is one file, or two where it is bounded: one that has grown to its bound becomes ``NAME.old``, in the place of the
one before, and another begins. So from the bound to twice as much of the newest is kept.
"""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from policies.log import RECORD_BYTES_MAX, frames
from policies.port import Effect, Input
from policies.wire import WIRE_VERSION, encode
from real_backends.stores.file import FileStorage, write_all
from scenarios.journal import Header, Journal, read


def require_version(folder: Path) -> None:
    """Refuse a node's folder whose log another wire version wrote, and mark a new one with this.

    What is saved is what was said: votes and certificates that an older version signed are false to this one.

    Raises:
        ValueError: naming the log, both versions and what to do.
        OSError: the folder cannot be read or written.
    """
    mark, log = FileStorage(folder / "wire_version"), folder / "node.log"
    said = mark.read().decode(errors="replace")
    if said != str(WIRE_VERSION):
        if log.exists() and log.stat().st_size:
            raise ValueError(
                f"{log}: written under wire version {said or '(older than 7)'}, and this is {WIRE_VERSION}: start the "
                "release that wrote it, or found the village anew"  # a member that forgot its votes may not rise again
            )
        mark.replace(str(WIRE_VERSION).encode())
    mark.close()


class Cut(NamedTuple):
    """A file's end that was no whole record, row or line, and was cut off when it was opened."""

    file: str
    from_bytes: int
    to_bytes: int


class JournalFile:
    """Appends one node's steps to a file; after a restart it goes on where the last whole row ended.

    Args:
        path: the file.
        header: opens it. One whose file has another header, of other policies for example, begins another.
        bytes_max: of rows in one file; 0 for no bound.

    Attributes:
        cut: what was cut off when it was opened; of no bytes as a rule.
    """

    def __init__(self, path: Path, header: Header, bytes_max: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._header, self._bytes_max = path, header, bytes_max
        self._file = path.open("ab", buffering=0)
        found, steps, end = _whole(path)
        self.cut = Cut(path.name, self._file.tell(), end)
        self._file.truncate(end)
        self._steps, self._bytes = steps, end
        self._journal = Journal(header)
        self._journal.take()  # the file has its header, or `_begin` writes it
        if found is None:
            self._steps = _whole(_old(path))[1]
            self._begin(b"")
        elif encode(found) != encode(header):
            self.turn(b"")

    @property
    def full(self) -> bool:
        """Whether it is time to `turn`."""
        return 0 < self._bytes_max <= self._bytes

    def add(self, now_ns: int, wall_ns: int, given: Input, effects: tuple[Effect, ...]) -> None:
        """Append one step; it reaches the operating system at the next `flush`."""
        self._journal.add(now_ns, wall_ns, given, effects)
        self._steps += 1

    def flush(self) -> None:
        """Hand what was added to the operating system."""
        if data := self._journal.take():
            write_all(self._file.fileno(), data)
            self._bytes += len(data)

    def turn(self, state: bytes) -> None:
        """Begin another file.

        Args:
            state: of the Cell after all that was added, or b"" where there is none.
        """
        self.flush()
        self._file = _another(self._path, self._file)
        self._begin(state)

    def _begin(self, state: bytes) -> None:
        if len(state) > RECORD_BYTES_MAX // 2:  # no frame could hold it
            state = b""
        self._journal = Journal(msgspec.structs.replace(self._header, steps_before=self._steps, state=state))
        self.flush()
        self._bytes = 0

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        self._file.close()


def _old(path: Path) -> Path:
    return path.with_name(f"{path.name}.old")


def _another(path: Path, file: FileIO) -> FileIO:
    """Let a file that is open be the old one, and return a new one of its name."""
    file.close()
    os.replace(path, _old(path))
    return path.open("ab", buffering=0)


def _whole(path: Path) -> tuple[Header | None, int, int]:
    """Return a journal's header as it was told, how many steps there were by its end, and where its whole rows end."""
    data = path.read_bytes() if path.exists() else b""
    ends = [end for _, end in frames(data)]
    if not ends:
        return None, 0, 0
    header = read(data)[0]
    plain = msgspec.structs.replace(header, steps_before=0, state=b"")
    return plain, header.steps_before + len(ends) - 1, ends[-1]


def read_journal(path: Path) -> bytes:
    """Return a node's journal, as far as it is kept: of two files, the newer one's rows behind the older one's."""
    newer = path.read_bytes()
    (before, steps, _), (header, _, _) = _whole(_old(path)), _whole(path)
    if before is None or header is None or encode(before) != encode(header) or steps != read(newer)[0].steps_before:
        return newer  # nothing before it, or what another life's policies did
    _, begin = next(frames(newer))
    return _old(path).read_bytes() + newer[begin:]


class EventFile:
    """One JSON object a line: ``now_ns``, ``kind``, ``path``, ``name`` and ``detail``.

    Args:
        path: the file.
        bytes_max: of one file; 0 for no bound.

    Attributes:
        cut: as for a journal.
    """

    def __init__(self, path: Path, bytes_max: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._bytes_max = path, bytes_max
        self._file = path.open("ab", buffering=0)
        self._bytes = path.read_bytes().rfind(b"\n") + 1
        self.cut = Cut(path.name, self._file.tell(), self._bytes)
        self._file.truncate(self._bytes)  # or the next event would stand behind half of another
        self._encoder = msgspec.json.Encoder(order="deterministic")

    def add(self, now_ns: int, kind: str, path: str, name: str, detail: Any) -> None:
        """Append one event; bytes become hexadecimal, a message keeps its array form ``[tag, field, ...]``."""
        event = {"now_ns": now_ns, "kind": kind, "path": path, "name": name, "detail": _hexed(detail)}
        data = self._encoder.encode(event) + b"\n"
        write_all(self._file.fileno(), data)
        self._bytes += len(data)
        if 0 < self._bytes_max <= self._bytes:
            self._file, self._bytes = _another(self._path, self._file), 0

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
    """Return the events that are kept, oldest first; no file means none, and a torn last line is left out."""
    whole = [file.read_bytes().rpartition(b"\n")[0] for file in (_old(path), path) if file.exists()]
    return [msgspec.json.decode(line) for data in whole for line in data.split(b"\n") if line]
