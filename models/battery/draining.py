"""Cells that give power for many readings in a row and are not near their end, under NumPy.

That is `models.battery.reading.advance`, to the bit, without all that never binds there: no charger, no cut-off. An
array is written over rather than made anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.battery.cell import CELSIUS_K
from models.battery.reading import INTERVALS, Charge, Rows, Tables

Array = Any  # of NumPy, one element a device


class Draining:
    """Draining cells and what a reading makes of them.

    Right where the power is not negative and neither voltage nor charge come to their ends: ``end_v`` at or above
    v_min, charge above 0. Where they do, the answer may be anything, also not a number.

    Args:
        table, row: as for `models.battery.reading.advance`.
        charge: at the start; not written on.

    Attributes:
        charge: after the last reading.
        current_a, heat_w: means over the last reading, as in `models.battery.reading.Flow`.
        end_v: under load at its end, by which `advance` finds a cell cut off, V.
    """

    def __init__(self, table: Tables, row: Rows, charge: Charge) -> None:
        self._table, self._row = table, row
        self.charge = Charge(charge.soc.copy(), charge.relaxing_v.copy())
        self._half_soc_per_a = 0.5 * row.soc_per_a
        self.current_a, self.heat_w, self.end_v = (np.empty_like(charge.soc) for _ in range(3))
        self._arrays = tuple(np.empty_like(charge.soc) for _ in range(7))
        self._place = np.empty(charge.soc.shape, dtype=np.int64)

    def give(self, power_w: Array, temp_c: Array) -> None:
        """Advance by one reading.

        Args:
            power_w: out of one cell, W.
            temp_c: temperature of the cells at the reading's start, C.
        """
        row, (soc, relaxing_v) = self._row, self.charge
        slope_v, r, slow_v, give, sag, some, half_v = self._arrays
        ocv_v, at_once = self.end_v, self.heat_w  # at once: resistance, then volts, then its heat

        # The tables, as `models.battery.reading.lines_at`, and coefficients held from the start, as its `_frozen`.
        np.multiply(soc, INTERVALS, out=some)
        place = self._place
        place[:] = some
        place += row.first
        for column, values in zip(self._table, (some, slope_v, at_once, r), strict=True):
            column.take(place, out=values, mode="clip")
        np.multiply(slope_v, soc, out=ocv_v)
        ocv_v += some
        np.multiply(self._half_soc_per_a, slope_v, out=sag)
        warmth = np.add(temp_c, CELSIUS_K, out=give)
        np.divide(row.activation_k, warmth, out=warmth)
        warmth -= row.activation_at_25c
        np.exp(warmth, out=warmth)
        r *= warmth
        at_once *= warmth
        np.multiply(relaxing_v, row.half, out=slow_v)
        np.multiply(r, row.rise_half, out=give)

        # The current at the middle, from a first guess of it.
        guess_a = np.subtract(ocv_v, relaxing_v, out=some)
        np.divide(power_w, guess_a, out=guess_a)
        give *= guess_a
        slow_v += give
        sag *= guess_a
        np.subtract(ocv_v, sag, out=half_v)
        half_v -= slow_v
        half_v *= 0.5
        root_v = np.multiply(half_v, half_v, out=some)
        np.multiply(at_once, power_w, out=give)
        root_v -= give
        np.sqrt(root_v, out=root_v)
        half_v += root_v
        current_a = np.divide(power_w, half_v, out=self.current_a)

        # The end.
        at_once *= current_a
        r *= row.rise_whole
        r *= current_a
        relaxing_v *= row.whole
        relaxing_v += r
        moved = np.multiply(current_a, row.soc_per_a, out=some)
        soc -= moved
        moved *= slope_v
        ocv_v -= moved
        ocv_v -= relaxing_v
        ocv_v -= at_once
        slow_v *= row.slow_heat_share
        at_once *= row.heat_share
        at_once += slow_v
        at_once *= current_a
