"""Power cuts for real files: what `real_backends.stores.file` asks of the system happens, until the power fails.

Then the folder holds what a disk may hold: of each file what was synced, and perhaps some of what was not; of the
names in the folder those that were synced, and perhaps the first few of what happened to them since.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class PowerCut(Exception):
    """The machine is gone."""


class Power:
    """Stands for the module ``os``; files lie in one folder.

    Args:
        folder: where they lie.
        steps: calls until the power fails; None for never.

    Attributes:
        done: calls so far.
    """

    def __init__(self, folder: Path, steps: int | None = None) -> None:
        self.folder, self.steps, self.done = folder, steps, 0
        self.open_: dict[int, int] = {}  # descriptor to file, 0 for the folder
        self.written: list[bytes] = [b""]  # by file
        self.synced: list[bytes] = [b""]
        self.names: dict[str, int] = {}
        for path in sorted(folder.iterdir()):
            self.names[path.name] = self._file(path.read_bytes())
        self.history = [dict(self.names)]  # of the names, since they were synced

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)  # constants

    def _file(self, data: bytes) -> int:
        self.written.append(data)
        self.synced.append(data)
        return len(self.written) - 1

    def _step(self) -> None:
        if self.done == self.steps:
            raise PowerCut
        self.done += 1

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        """Open a file, perhaps a new one, or the folder."""
        self._step()
        number = os.open(path, flags, mode)
        if path == self.folder:
            self.open_[number] = 0
            return number
        if path.name not in self.names:
            self.names[path.name] = self._file(b"")
            self.history.append(dict(self.names))
        self.open_[number] = self.names[path.name]
        if flags & os.O_TRUNC:
            self.written[self.open_[number]] = b""
        return number

    def write(self, number: int, data: Any) -> int:
        """Write some of it: half, as the system may."""
        self._step()
        part = bytes(data)[: max(1, len(data) // 2)]
        self.written[self.open_[number]] += part
        return os.write(number, part)

    def ftruncate(self, number: int, size: int) -> None:
        """Cut a file."""
        self._step()
        file = self.open_[number]
        self.written[file] = self.written[file][:size]
        os.ftruncate(number, size)

    def fsync(self, number: int) -> None:
        """From here on a file's bytes, or the folder's names, stay."""
        self._step()
        if file := self.open_[number]:
            self.synced[file] = self.written[file]
        else:
            self.history = [dict(self.names)]

    def replace(self, old: Path, new: Path) -> None:
        """Give a file another's name."""
        self._step()
        self.names[new.name] = self.names.pop(old.name)
        self.history.append(dict(self.names))
        os.replace(old, new)

    def unlink(self, path: Path) -> None:
        """Take a file's name away."""
        self._step()
        os.unlink(path)
        del self.names[path.name]
        self.history.append(dict(self.names))

    def close(self, number: int) -> None:
        """Close a file."""
        self._step()
        del self.open_[number]
        os.close(number)

    def cut(self, names_kept: float, torn_share: float) -> None:
        """Leave in the folder what the disk holds: shares of what was not synced, of names and of bytes."""
        for number in self.open_:
            os.close(number)
        for path in self.folder.iterdir():
            path.unlink()
        for name, file in self.history[int(names_kept * (len(self.history) - 1))].items():
            synced, written = self.synced[file], self.written[file]
            more = written[len(synced) :] if written.startswith(synced) else b""
            (self.folder / name).write_bytes(synced + more[: int(torn_share * len(more))])
