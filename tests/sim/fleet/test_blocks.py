"""Blocks of compiled windows: every row once, few of them filled up, and no trace of where the cuts were."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.fleet import blocks
from sim.fleet.blocks import LARGE, SMALL, parts
from tests.sim.fleet.fleets import HOUR_S, lived


@given(st.integers(1, 60_000))
def test_blocks_hold_each_row_once_and_less_than_one_of_them_is_filled_up(rows: int) -> None:
    """Blocks follow one another without a gap, each has one of two sizes, and only the last one is not full."""
    found = list(parts(rows))

    assert [row for part, _ in found for row in (part.start, part.stop)][1:-1] == [
        edge for part, _ in found[1:] for edge in (part.start, part.start)
    ]
    assert (found[0][0].start, found[-1][0].stop) == (0, rows)
    assert {size for _, size in found} <= {LARGE, SMALL}
    assert all(part.stop - part.start == size for part, size in found[:-1])


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs the extra jax")
def test_where_blocks_are_cut_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks of other sizes, with other copies of last rows, a run under JAX leaves the same numbers."""
    whole = lived(backend="jax", duration_s=HOUR_S)
    monkeypatch.setattr(blocks, "LARGE", 96)
    monkeypatch.setattr(blocks, "LARGE_FROM", 60)
    monkeypatch.setattr(blocks, "SMALL", 32)
    cut = lived(backend="jax", duration_s=HOUR_S)

    assert whole.digest == cut.digest
    for name, column in whole.devices.items():
        np.testing.assert_array_equal(column, cut.devices[name], err_msg=name)


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs the extra jax")
def test_chunks_change_no_bit_under_jax() -> None:
    """In chunks of 70 rows, of 333 and in one a kind, a run under JAX leaves the same numbers."""
    whole = lived(backend="jax", duration_s=HOUR_S / 2)
    for size in (70, 333):
        cut = lived(backend="jax", duration_s=HOUR_S / 2, chunk=size)
        assert whole.digest == cut.digest
        for name, column in whole.devices.items():
            np.testing.assert_array_equal(column, cut.devices[name], err_msg=name)
