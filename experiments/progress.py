"""Progress on stderr: a bar on a terminal, one JSON line every five seconds elsewhere, nothing when quiet."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[float, str], None]
LINE_EVERY_S = 5.0


@contextmanager
def progress(label: str, *, quiet: bool = False) -> Iterator[Progress]:
    """Yield ``report(fraction, text)`` for the length of one job."""
    if quiet:
        yield lambda fraction, text: None
    elif sys.stderr.isatty():
        with _bar(label) as report:
            yield report
    else:
        yield _lines(label)


@contextmanager
def _bar(label: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn(label),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=1.0, text="")
        yield lambda fraction, text: bar.update(task, completed=fraction, text=text)


def _lines(label: str, clock: Callable[[], float] = time.monotonic) -> Progress:
    begun = last = clock()

    def report(fraction: float, text: str) -> None:
        nonlocal last
        now = clock()
        if now - last >= LINE_EVERY_S:
            last = now
            line = {
                "job": label,
                "done": round(fraction, 4),
                "elapsed_s": round(now - begun, 1),
                "text": text,
            }
            print(json.dumps(line), file=sys.stderr, flush=True)

    return report


def say(text: str) -> None:
    """Tell the user something on stderr."""
    print(f"twin: {text}", file=sys.stderr, flush=True)
