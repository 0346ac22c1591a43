"""A worker's windows under JAX: rows are cut into blocks of two sizes, each a shape that is compiled once.

A chunk may be as long as memory allows; a block holds what fits into a core's cache. A last block that is not full is
filled up with copies of its last row, which cost as much as any row: hence the small size. Rows that meet their
governor are few and of all chunks; they run in small blocks, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from sim.fleet import stock
from sim.fleet.again import cut, pick, put_rows, run_in_blocks
from sim.fleet.window import Chunk, Result, Signals, Start, compiled, on_device

Array = Any

LARGE, SMALL = 8000, 1000  # rows; a thousand of them cost twice as much in a small block
LARGE_FROM = 5000  # rows from which a large block that is not full costs less than small ones
_NOTHING: Any = ()  # in the place of what is not cut


class Block(NamedTuple):
    """Some rows of a chunk, the size they are filled up to, and their constants, which are handed over once."""

    rows: slice
    size: int
    chunk: Chunk

    def of(self, start: Start) -> Start:
        """Return the block's part of its chunk's start."""
        bare = start._replace(chunk=Chunk(_NOTHING, _NOTHING, _NOTHING))
        full = self.rows.stop - self.rows.start == self.size
        part = cut(bare, self.rows) if full else pick(bare, _filled(self.rows, self.size))
        return part._replace(chunk=self.chunk)


class Blocks:
    """The compiled windows of a policy, with and without governors.

    Raises:
        ModuleNotFoundError: JAX is not installed.
    """

    def __init__(self, policy: Any) -> None:
        self._free, self._governed = (compiled(policy, governed=governed) for governed in (False, True))

    def cut(self, chunk: Chunk, rows: int) -> list[Block]:
        """Cut a chunk of one kind of device into blocks.

        Args:
            chunk: its constants, no number standing for all rows.
            rows: its length.
        """
        whole = Start(chunk._replace(fixed=stock.of_kind(chunk.fixed)), *(_NOTHING,) * 4)
        return [Block(part, size, on_device(pick(whole, _filled(part, size)).chunk)) for part, size in parts(rows)]

    def run(self, start: Start, blocks: Sequence[Block], signals: Signals, result: Result) -> Array:
        """Write what a window leaves of each row of a chunk; return the rows that would have asked their governor."""
        asking = []
        for block in blocks:
            done, asked = self._free(block.of(start), signals)
            rows, length = block.rows, block.rows.stop - block.rows.start
            put_rows(result, rows, done, slice(length))
            asking.append(rows.start + np.flatnonzero(np.asarray(asked)[:length]))
        return np.concatenate(asking)

    def run_governed(self, start: Start, signals: Signals) -> Result:
        """Return what a window leaves of rows that meet their governor."""
        return run_in_blocks(lambda block: self._governed(block, signals)[0], start, SMALL)

    def warm_up(self, start: Start, blocks: Sequence[Block], signals: Signals) -> None:
        """Compile for the blocks of a chunk."""
        for block in {block.size: block for block in blocks}.values():
            self._free(block.of(start), signals)
        self.run_governed(pick(start, np.zeros(1, dtype=np.int64)), signals)


def parts(rows: int) -> Iterator[tuple[slice, int]]:
    """Yield the rows of each block of a chunk, and the size they are filled up to."""
    first = 0
    while first < rows:
        size = LARGE if rows - first >= LARGE_FROM else SMALL
        yield slice(first, min(first + size, rows)), size
        first += size


def _filled(rows: slice, size: int) -> Array:
    """Return a block's rows, the last one repeated up to its size."""
    return np.minimum(np.arange(rows.start, rows.start + size), rows.stop - 1)
