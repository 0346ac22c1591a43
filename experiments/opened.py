"""Which files of the checkout a process opened or imported, told to who asks: `twin test nightly`.

Who asks names a file in the environment; processes that a test starts inherit it, and each adds its own files to it.
"""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path

OPENED = "VILLAGETWIN_OPENED"
"""The variable that names the file to write to."""
CHECKOUT = Path(__file__).resolve().parent.parent
_opened: set[str] = set()


def tell_at_exit(*, sources: bool) -> None:
    """Keep account of what is opened from here on, and tell it when the process ends; nothing if nobody asks.

    Args:
        sources: whether a source counts that was read and not imported. For programs of ours it does not: they read
            all of them, for the digest by which a version is named.
    """
    if OPENED in os.environ:
        sys.addaudithook(_heard)
        atexit.register(_tell, sources)


def _tell(sources: bool) -> None:
    """Write what was opened, and which modules were imported: these are often read as bytecode."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    opened = {file for file in list(_opened) if sources or not file.endswith(".py")}
    paths = map(Path, opened.union(os.path.abspath(file) for file in files if file))
    names = sorted(path.relative_to(CHECKOUT).as_posix() for path in paths if path.is_relative_to(CHECKOUT))
    with Path(os.environ[OPENED]).open("ab", buffering=0) as told:
        told.write("".join(f"{name}\n" for name in names).encode())  # in one piece: others may tell theirs just now


def _heard(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        _opened.add(os.path.abspath(os.fsdecode(arguments[0])))
