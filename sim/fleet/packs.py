"""Rows of all chunks, packed into blocks that a core's cache holds and that are long enough for NumPy's calls.

What a chunk has of some sort of row may be thousands or ten. A call costs the same for fifty rows as for a thousand, so
that what is few is put together with what other chunks have, also of other kinds of device; rows do not see one
another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from sim.fleet.again import Taken, joined, pick, put_changed
from sim.fleet.quiet import nothing
from sim.fleet.window import Result, Start

Array = Any
Run = Callable[[Start, Result], tuple[Result, Array]]

AT_ONCE = 16_384  # rows: what a core's third cache holds; fewer cost more in calls than in work


def run_packed(
    run: Run, starts: Sequence[Start], rows: Sequence[Array], results: Sequence[Result], todo: Sequence[Array]
) -> None:
    """Run some rows of each chunk, and write what has become of those that the run is right for.

    Args:
        run: takes rows at the start of a window and the result of a window in which nothing happens; returns theirs,
            and for which of them it is right. What it leaves as it was should be the same array.
        starts, results: of the chunks; results are as they were before the window where nothing was written.
        rows: of each chunk.
        todo: which rows of each chunk have no result yet; written on.
    """
    for pack in _packs(rows):
        start = joined([Taken(some, pick(starts[i], some)) for i, some in pack])
        before = nothing(start)
        done, right = run(start, before)
        first = 0
        for i, some in pack:
            part = slice(first, first + some.size)
            put_changed(results[i], some, before, done, part, some[~right[part]])
            todo[i][some] = ~right[part]
            first += some.size


def _packs(rows: Sequence[Array]) -> Iterator[list[tuple[int, Array]]]:
    """Yield blocks of rows: number of the chunk and rows of it, at most AT_ONCE together."""
    few: list[tuple[int, Array]] = []
    size = 0
    for i, of_chunk in enumerate(rows):
        for some in np.array_split(of_chunk, max(1, -(-of_chunk.size // AT_ONCE))):
            if some.size > AT_ONCE // 2:
                yield [(i, some)]
            elif some.size:
                few.append((i, some))
                size += some.size
        if size > AT_ONCE // 2:
            yield few
            few, size = [], 0
    if few:
        yield few
