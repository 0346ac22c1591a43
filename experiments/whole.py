"""Files that users name: each is written whole, or what stood there stays as it was."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.compose import UsageError
from experiments.folders import check_place


def check_file(option: str, path: Path | None) -> None:
    """Refuse, before the work, a file that could not be written after it; None is no file.

    Raises:
        UsageError: it names the option, the file and the reason.
    """
    if path is None:
        return
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"{option} {path}: must be a file in a folder that exists")
    if path.is_file() or not path.exists():  # what is no file is written as it is, its folder may be closed
        check_place(path.resolve().parent, f"{option} {path}")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a place beside ``path``, of the same ending, that takes its name once it is filled.

    What is no file (``/dev/stdout``, a pipe) is written as it is: a name that is moved over it would take its place.

    Raises:
        UsageError: there is no room, or no right to write; nothing is left behind.
    """
    place = path.resolve()  # a link goes on pointing where it did
    part = place.with_name(f".{place.stem}.{os.getpid()}.part{place.suffix}")
    through = path.exists() and not path.is_file()
    try:
        yield path if through else part
        if not through:
            part.replace(place)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        if not through:
            with contextlib.suppress(OSError):  # a name below a file cannot be removed either
                part.unlink()


def write_whole(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all; raises as `whole` does."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")
