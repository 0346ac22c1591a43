"""Rows of many chunks that are run again together, from the start of a window.

What few rows need is not asked of all: a window is run without it first, and the rows that would have needed it are
taken out of all chunks, as they were at its start, run once more together, and put back. So it is with rows that are
not quiet (`sim.fleet.quiet`) and with those that meet their governor (one reading in a thousand; its law is long). Rows
do not see one another, so nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from sim.fleet.window import Chunk, Result, Start

Array = Any
Run = Callable[[Start], tuple[Result, Array]]


class Taken(NamedTuple):
    """Some rows of chunks: which, one element a row, and their start."""

    chunk: Array
    row: Array
    start: Start


class Again:
    """Collects rows and runs them in blocks.

    Args:
        run: runs a window from its start; returns the result and which rows need still more.
        size: rows of a block.
    """

    def __init__(self, run: Run, size: int) -> None:
        self.run, self.size = run, size
        self._waiting: list[Taken] = []

    def add(self, taken: Taken) -> None:
        """Let rows wait for their block; a start of more rows than one block is cut."""
        if taken.row.size:
            self._waiting.append(taken)

    def blocks(self, *, last: bool = False) -> Iterator[tuple[Taken, Result, Array]]:
        """Run the blocks that are full, with ``last`` all that wait; yield each, its result and which need more."""
        while self._waiting and (last or sum(part.row.size for part in self._waiting) >= self.size):
            whole = _joined(self._waiting)
            block, rest = (_cut(whole, part) for part in (slice(0, self.size), slice(self.size, None)))
            self._waiting = [rest] if rest.row.size else []
            yield block, *self.run(block.start)


def pick(start: Start, rows: Array) -> Start:
    """Return some rows of a chunk; a value that stands for all goes on to do so."""

    def rows_of(leaf: Any) -> Array:
        array = np.asarray(leaf)
        return np.take(array, rows, axis=-1) if array.ndim else array[()]

    return _of_rows(rows_of, start)


def cut(start: Start, part: slice) -> Start:
    """Return some rows of a chunk in their order; none is copied."""
    return _of_rows(lambda leaf: leaf[..., part] if np.ndim(leaf) else leaf, start)


def blank(result: Result) -> Result:
    """Return arrays like a chunk's result, for `put` to write on."""
    found: Result = _mapped(np.empty_like, result)
    return found


def own(result: Result) -> Result:
    """Return a chunk's result in arrays of NumPy's own, for `put` to write over."""
    found: Result = _mapped(np.array, result)
    return found


def put(results: Sequence[Result], block: Taken, done: Result) -> None:
    """Write what has become of a block's rows on the results of their chunks."""
    edges = np.flatnonzero(np.diff(block.chunk, prepend=-1, append=-1))
    for first, end in pairwise(edges.tolist()):
        part = slice(first, end)
        put_rows(results[int(block.chunk[first])], block.row[part], done, part)


def put_rows(result: Result, rows: Any, done: Result, part: slice = slice(None)) -> None:
    """Write what has become of some rows on their chunk's result."""

    def write(old: Array, new: Array) -> None:
        old[rows] = new[part]

    _mapped(write, result, done)


def _of_rows(change: Callable[[Any], Array], start: Start) -> Start:
    """Apply a function to all columns of a start; the tables have no rows."""
    fixed, site = (_mapped(change, part) for part in start.chunk[1:])
    return Start(Chunk(start.chunk.table, fixed, site), *(_mapped(change, part) for part in start[1:]))


def _cut(taken: Taken, part: slice) -> Taken:
    return Taken(taken.chunk[part], taken.row[part], cut(taken.start, part))


def _joined(parts: list[Taken]) -> Taken:
    """Join rows; what is one number in all parts stays so."""
    if len(parts) == 1:
        return parts[0]

    def joined(*leaves: Array) -> Array:
        if all(np.ndim(leaf) == 0 and leaf == leaves[0] for leaf in leaves):
            return leaves[0]
        sized = zip(leaves, parts, strict=True)
        wide = [leaf if np.ndim(leaf) else np.broadcast_to(leaf, part.row.size) for leaf, part in sized]
        return np.concatenate(wide, axis=-1)

    starts = [part.start for part in parts]
    fixed, site = (_mapped(joined, *(one.chunk[i] for one in starts)) for i in (1, 2))
    rest = (_mapped(joined, *(one[i] for one in starts)) for i in range(1, len(starts[0])))
    start = Start(Chunk(starts[0].chunk.table, fixed, site), *rest)
    which = (np.concatenate([getattr(part, name) for part in parts]) for name in ("chunk", "row"))
    return Taken(*which, start=start)


def _mapped(change: Any, *trees: Any) -> Any:
    """Apply a function to the leaves of trees of tuples."""
    if not isinstance(trees[0], tuple):
        return change(*trees)
    parts = [_mapped(change, *leaves) for leaves in zip(*trees, strict=True)]
    return type(trees[0])(*parts) if hasattr(trees[0], "_fields") else tuple(parts)
