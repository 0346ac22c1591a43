"""Where in a user's own file an error came from: what their policy raises is theirs to mend, by its line."""

from __future__ import annotations

import traceback
from pathlib import Path


def line_of(error: BaseException, path: str) -> int:
    """Return the last line of the file at ``path`` that led to the error; 0 if none did."""
    if isinstance(error, SyntaxError) and Path(error.filename or "").resolve() == Path(path).resolve():
        return error.lineno or 0
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == Path(path).resolve()]
    return (lines or [0])[-1] or 0
