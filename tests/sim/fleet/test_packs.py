"""Rows that are run apart and packed: every row once, and the run is the one in which nothing is."""

from __future__ import annotations

import numpy as np
import pytest

from sim.fleet import day, packs
from sim.fleet.day import Share
from sim.fleet.packs import _packs
from tests.sim.fleet.fleets import HOUR_S, lived


def test_rows_are_packed_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks hold every row once and none too many; what one chunk has enough of is not joined with other chunks."""
    monkeypatch.setattr(packs, "AT_ONCE", 10)
    rows = [np.arange(23), np.arange(2), np.arange(0), np.arange(9), np.arange(3), np.arange(4), np.arange(1)]
    blocks = list(_packs(rows))

    held = sorted((i, row) for block in blocks for i, some in block for row in some.tolist())
    assert held == [(i, row) for i, of_chunk in enumerate(rows) for row in of_chunk.tolist()]
    assert all(sum(some.size for _, some in block) <= 10 for block in blocks)
    assert all(len(block) == 1 for block in blocks if block[0][1].size > 5)


def test_a_run_without_short_ways_is_the_same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether quiet and fed rows are run apart or in full, every column of the devices is the same to the bit."""
    apart = lived(duration_s=HOUR_S)
    begin = Share.__init__

    def without(self: Share, *args: object, **names: object) -> None:
        begin(self, *args, **names)  # type: ignore[arg-type]
        self._foretells = None

    monkeypatch.setattr(Share, "__init__", without)
    full = lived(duration_s=HOUR_S)

    assert apart.digest == full.digest
    for name, column in apart.devices.items():
        np.testing.assert_array_equal(column, full.devices[name])


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows are run at once, with whom, and how many make a round of their own, the run is the same."""
    usual = lived(duration_s=HOUR_S)
    monkeypatch.setattr(packs, "AT_ONCE", 37)
    monkeypatch.setattr(day, "MANY", 0)

    assert lived(duration_s=HOUR_S).digest == usual.digest
