"""Cells written over, many readings in a row, are those of the whole law."""

from __future__ import annotations

import numpy as np
import pytest

from models.battery import reading
from models.battery.cells import Cells
from models.battery.packs import LCO_POUCH, LG_M50

COUNT = 60


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_draining_cells_are_those_of_the_whole_law_to_the_bit(dtype: str) -> None:
    """Charge, pair, current, heat and voltage after each of two hundred minutes; the first charge is not written on."""
    draw = np.random.default_rng(5)
    which = draw.integers(0, 2, COUNT)
    cells = [LCO_POUCH, LG_M50]
    table = reading.Tables(*(column.astype(dtype) for column in reading.tables(cells)))
    row = reading.rows(cells, which, 60.0)
    row = reading.Rows(*(c.astype(dtype) if c.dtype.kind == "f" else c for c in row))
    soc = draw.uniform(0.7, 1.0, COUNT).astype(dtype)
    charge = reading.Charge(soc.copy(), np.zeros(COUNT, dtype))
    ours = Cells(table, row, charge)
    for _ in range(200):
        power_w = draw.uniform(0.0, 1.0, COUNT).astype(dtype)
        temp_c = draw.uniform(5.0, 45.0, COUNT).astype(dtype)
        charge, flow = reading.advance(table, row, charge, power_w, temp_c)
        ours.give(power_w, temp_c)
        assert not flow.cut.any()
        np.testing.assert_array_equal(ours.charge.soc, charge.soc)
        np.testing.assert_array_equal(ours.charge.relaxing_v, charge.relaxing_v)
        np.testing.assert_array_equal(ours.current_a, flow.current_a)
        np.testing.assert_array_equal(ours.heat_w, flow.heat_w)
        assert (ours.end_v >= row.v_min).all()
        assert ours.heat_w.dtype == dtype

    assert charge.soc.min() < 0.6


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_cells_with_a_charger_are_those_of_the_whole_law_to_the_bit(dtype: str) -> None:
    """Through hours of charging and draining, cold and hot, to the full charge and the voltage limit, all is equal."""
    draw = np.random.default_rng(6)
    which = draw.integers(0, 2, COUNT)
    cells = [LCO_POUCH, LG_M50]
    table = reading.Tables(*(column.astype(dtype) for column in reading.tables(cells)))
    row = reading.rows(cells, which, 60.0, charge_limit_soc=np.where(np.arange(COUNT) % 3, 1.0, 0.8))
    row = reading.Rows(*(c.astype(dtype) if c.dtype.kind == "f" else c for c in row))
    charge = reading.Charge(draw.uniform(0.3, 1.0, COUNT).astype(dtype), np.zeros(COUNT, dtype))
    ours, full, cold, charger_w = Cells(table, row, charge, charger=True), 0, 0, draw.uniform(0.0, 20.0, COUNT)
    for minute in range(300):
        plugged = (minute // 50 + np.arange(COUNT)) % 2
        power_w = (draw.uniform(0.0, 2.0, COUNT) - plugged * charger_w).astype(dtype)
        temp_c = draw.uniform(-5.0, 50.0, COUNT).astype(dtype)
        charge, flow = reading.advance(table, row, charge, power_w, temp_c)
        ours.give(power_w, temp_c)
        assert not flow.cut.any()
        for mine, theirs in zip(
            (*ours.charge, ours.current_a, ours.power_w, ours.heat_w), (*charge, *flow[:3]), strict=True
        ):
            np.testing.assert_array_equal(mine, theirs)
            assert mine.dtype == dtype
        full, cold = full + (charge.soc >= row.full_soc).sum(), cold + ((temp_c < 0.0) & (flow.current_a < 0.0)).sum()

    assert full > 0
    assert cold == 0
