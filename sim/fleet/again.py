"""Rows that met their governor within a window, run again with it.

Few rows do (one in a thousand readings), and the governor's law is long: asked at every reading of every chunk it would
cost as much as all the rest. So a window is run without governors first; the rows that would have been asked are taken
out of all chunks, as they were at its start, run once more together with their governors, and put back. Rows do not see
one another, so nothing else changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sim.fleet.reading import Device, Owner
from sim.fleet.window import Air, Chunk, Last, Result, Signals, run_numpy

Array = Any


class Start(NamedTuple):
    """Some rows at the start of a window, every column an array; devices stand along the last axis."""

    chunk: Chunk
    device: Device
    last: Last
    air: Air
    owner: Owner


def pick(start: Start, rows: Array) -> Start:
    """Return some rows of a chunk; what stands as one number for all becomes a column."""
    size = start.owner.plugged.shape[1]

    def rows_of(leaf: Any) -> Array:
        array = np.asarray(leaf)
        return array[..., rows] if array.shape[-1:] == (size,) else np.broadcast_to(array, (rows.size,))

    table = _mapped(np.asarray, start.chunk.table)
    chunk = Chunk(table, _mapped(rows_of, start.chunk.fixed), _mapped(rows_of, start.chunk.site))
    owner = Owner(*(bits[:, rows] for bits in start.owner))
    return Start(chunk, *(_mapped(rows_of, part) for part in (start.device, start.last, start.air)), owner)


def run_again(policy: Any, parts: Sequence[Start], signals: Signals) -> list[Result]:
    """Run the rows of several chunks together, and return each chunk's own."""
    sizes = [part.owner.plugged.shape[1] for part in parts]
    whole = _joined(parts)
    found = run_numpy(policy, *whole, signals)[0]
    ends = np.cumsum(sizes)
    return [
        _mapped(lambda leaf, first=end - size, end=end: leaf[first:end], found)
        for size, end in zip(sizes, ends.tolist(), strict=True)
    ]


def put(done: Result, rows: Array, again: Result) -> Result:
    """Return a chunk's result with some rows replaced."""

    def replaced(old: Any, new: Array) -> Array:
        kept = np.array(old)
        kept[rows] = new
        return kept

    result: Result = _mapped(replaced, done, again)
    return result


def _joined(parts: Sequence[Start]) -> Start:
    chunk, device, last, air, owner = zip(*parts, strict=True)
    table = chunk[0].table

    def joined(*leaves: Array) -> Array:
        return np.concatenate(leaves, axis=-1)

    fixed, site = (_mapped(joined, *(getattr(one, name) for one in chunk)) for name in ("fixed", "site"))
    owners = Owner(*(np.concatenate(bits, axis=1) for bits in zip(*owner, strict=True)))
    return Start(Chunk(table, fixed, site), *(_mapped(joined, *part) for part in (device, last, air)), owners)


def _mapped(change: Any, *trees: Any) -> Any:
    """Apply a function to the leaves of trees of tuples."""
    if not isinstance(trees[0], tuple):
        return change(*trees)
    parts = [_mapped(change, *leaves) for leaves in zip(*trees, strict=True)]
    return type(trees[0])(*parts) if hasattr(trees[0], "_fields") else tuple(parts)
