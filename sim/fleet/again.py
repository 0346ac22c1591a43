"""Rows that are run again from the start of a window.

What few rows need is not asked of all: a window is run without it first, and the rows that would have needed it are
taken out as they were at its start, run once more, and put back. So it is with rows that are not quiet
(`sim.fleet.quiet`), and with those that meet their governor (one reading in a thousand; its law is long), which all
chunks run together. Rows do not see one another, so nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from sim.fleet.window import Chunk, Result, Start

Array = Any


class Taken(NamedTuple):
    """Some rows of a chunk, and their start."""

    row: Array
    start: Start


def run_again(run: Callable[[Start], Result], taken: Sequence[Taken], results: Sequence[Result]) -> None:
    """Run rows of several chunks together, and write what has become of them on their chunks' results."""
    parts = [(one, result) for one, result in zip(taken, results, strict=True) if one.row.size]
    if not parts:
        return
    done = run(joined([one for one, _ in parts]))
    ends = np.cumsum([one.row.size for one, _ in parts]).tolist()
    for (one, result), end in zip(parts, ends, strict=True):
        put_rows(result, one.row, done, slice(end - one.row.size, end))


def run_in_blocks(run: Callable[[Start], Result], start: Start, size: int) -> Result:
    """Run rows in blocks of ``size``, the one shape that is compiled; copies of the last row fill the last one up."""
    rows = start.flags.shape[1]
    filled = pick(_spread(start), np.minimum(np.arange(-(-rows // size) * size), rows - 1))
    done = [run(cut(filled, slice(first, first + size))) for first in range(0, rows, size)]
    found: Result = _mapped(lambda *leaves: np.concatenate(leaves)[:rows], *done)
    return found


def pick(start: Start, rows: Array) -> Start:
    """Return some rows of a chunk; a value that stands for all goes on to do so."""

    def rows_of(leaf: Any) -> Array:
        array = np.asarray(leaf)
        return array.take(rows, axis=-1, mode="clip") if array.ndim else array[()]  # to raise costs as much again

    return _of_rows(rows_of, start)


def without_governor(start: Start) -> Start:
    """Return a start without the constants of governors, for rows that do not meet theirs: they need not be copied."""
    fixed = start.chunk.fixed._replace(response=(), idle_k_per_w=(), hysteresis_k=(), levels=())
    return start._replace(chunk=start.chunk._replace(fixed=fixed))


def cut(start: Start, part: slice) -> Start:
    """Return some rows of a chunk in their order; none is copied."""
    return _of_rows(lambda leaf: leaf[..., part] if np.ndim(leaf) else leaf, start)


def blank(result: Result) -> Result:
    """Return arrays like a chunk's result, for `put` to write on."""
    found: Result = _mapped(np.empty_like, result)
    return found


def put_rows(result: Result, rows: Any, done: Result, part: slice = slice(None)) -> None:
    """Write what has become of some rows on their chunk's result."""

    def write(old: Array, new: Array) -> None:
        old[rows] = np.asarray(new)[part]

    _mapped(write, result, done)


def put_changed(result: Result, rows: Array, before: Result, done: Result, part: slice, but: Array) -> None:
    """Write what has become of some rows on their chunk's result, but for columns that are still those of before.

    Args:
        part: where these rows stand in ``done``.
        but: those of them that are left as they were, few.
    """

    def write(old: Array, was: Array, new: Array) -> None:
        if new is not was:
            left = old[but]
            old[rows] = new[part]
            old[but] = left

    _mapped(write, result, before, done)


def own(tree: Any) -> Any:
    """Return a copy of a tree of arrays, none of which is another one or is read from elsewhere."""
    return _mapped(np.array, tree)


def _of_rows(change: Callable[[Any], Array], start: Start) -> Start:
    """Apply a function to all columns of a start; the tables have no rows."""
    fixed, site = (_mapped(change, part) for part in start.chunk[1:])
    return Start(Chunk(start.chunk.table, fixed, site), *(_mapped(change, part) for part in start[1:]))


def _spread(start: Start) -> Start:
    """Return a start in which no number stands for all rows."""
    rows = start.flags.shape[1]
    return _of_rows(lambda leaf: leaf if np.ndim(leaf) else np.broadcast_to(leaf, rows), start)


def joined(parts: Sequence[Taken]) -> Start:
    """Join rows; what is one number in all parts stays so."""
    if len(parts) == 1:
        return parts[0].start

    def joined(*leaves: Array) -> Array:
        if all(np.ndim(leaf) == 0 and leaf == leaves[0] for leaf in leaves):
            return leaves[0]
        sized = zip(leaves, parts, strict=True)
        return np.concatenate(
            [leaf if np.ndim(leaf) else np.broadcast_to(leaf, part.row.size) for leaf, part in sized], axis=-1
        )

    starts = [part.start for part in parts]
    fixed, site = (_mapped(joined, *(one.chunk[i] for one in starts)) for i in (1, 2))
    rest = (_mapped(joined, *(one[i] for one in starts)) for i in range(1, len(starts[0])))
    return Start(Chunk(starts[0].chunk.table, fixed, site), *rest)


def _mapped(change: Any, *trees: Any) -> Any:
    """Apply a function to the leaves of trees of tuples. Small fleets live by the call, so a leaf costs one only."""
    first = trees[0]
    if not isinstance(first, tuple):
        return change(*trees)
    parts = [
        _mapped(change, *leaves) if isinstance(leaves[0], tuple) else change(*leaves)
        for leaves in zip(*trees, strict=True)
    ]
    return tuple.__new__(type(first), parts)  # of named ones too, whose own call costs four times as much
