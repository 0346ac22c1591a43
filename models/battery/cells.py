"""Cells over many readings in a row, under NumPy: an array is written over rather than made anew.

That is `models.battery.reading.advance`, to the bit, for cells that do not come to their end, which the caller sees
from `Cells.end_v` and the charge. Where nothing charges them, what a charger asks for is left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.battery.cell import CELSIUS_K
from models.battery.reading import (
    CHARGE_MAX_C,
    CHARGE_MIN_C,
    COLD_TAPER_K,
    HOT_TAPER_K,
    INTERVALS,
    Charge,
    Rows,
    Tables,
)

Array = Any  # of NumPy, one element a device


class Cells:
    """Cells and what a reading makes of them.

    Right where voltage and charge do not come to their ends: ``end_v`` at or above v_min, charge above 0; without a
    charger, where the power is not negative. Elsewhere the answer may be anything, also not a number.

    Args:
        table, row: as for `models.battery.reading.advance`.
        charge: at the start; not written on.
        charger: some cells may be charged.

    Attributes:
        charge: after the last reading.
        current_a, power_w, heat_w: means over the last reading, as in `models.battery.reading.Flow`; the power only
            with a charger.
        end_v: under load at its end, by which `advance` finds a cell cut off, V.
    """

    def __init__(self, table: Tables, row: Rows, charge: Charge, *, charger: bool = False) -> None:
        self._table, self._row, self._charger = table, row, charger
        self.charge = Charge(charge.soc.copy(), charge.relaxing_v.copy())
        self._half_soc_per_a = 0.5 * row.soc_per_a
        self.current_a, self.power_w, self.heat_w, self.end_v = (np.empty_like(charge.soc) for _ in range(4))
        self._arrays = tuple(np.empty_like(charge.soc) for _ in range(9 if charger else 7))
        self._place = np.empty(charge.soc.shape, dtype=np.int64)

    def give(self, power_w: Array, temp_c: Array) -> None:
        """Advance by one reading.

        Args:
            power_w: net power out of one cell, W.
            temp_c: temperature of the cells at the reading's start, C.
        """
        row, (soc, relaxing_v) = self._row, self.charge
        slope_v, r, slow_v, give, sag, some, half_v = self._arrays[:7]
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
        floor_a = self._floor(ocv_v, slow_v, sag, give, at_once, temp_c) if self._charger else None

        # The current at the middle, from a first guess of it.
        guess_a = np.subtract(ocv_v, relaxing_v, out=some)
        np.divide(power_w, guess_a, out=guess_a)
        if floor_a is not None:
            np.maximum(guess_a, floor_a, out=guess_a)
        give *= guess_a
        slow_v += give
        sag *= guess_a
        middle_v = np.subtract(ocv_v, sag, out=sag)
        middle_v -= slow_v
        np.multiply(middle_v, 0.5, out=half_v)
        root_v = np.multiply(half_v, half_v, out=some)
        np.multiply(at_once, power_w, out=give)
        root_v -= give
        np.sqrt(root_v, out=root_v)
        half_v += root_v
        current_a = np.divide(power_w, half_v, out=self.current_a)
        if floor_a is not None:
            np.maximum(current_a, floor_a, out=current_a)

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
        if floor_a is not None:
            np.minimum(soc, 1.0, out=soc)
            middle_v -= at_once
            np.multiply(middle_v, current_a, out=self.power_w)
        slow_v *= row.slow_heat_share
        at_once *= row.heat_share
        at_once += slow_v
        at_once *= current_a

    def _floor(self, ocv_v: Array, slack_v: Array, sag: Array, give: Array, r0: Array, temp_c: Array) -> Array:
        """Return the floor under the current that charging has, as `models.battery.reading.advance`."""
        row, (floor_a, some) = self._row, self._arrays[7:]
        ohm = np.add(sag, give, out=some)
        ohm += r0
        held_a = np.subtract(ocv_v, slack_v, out=floor_a)
        held_a -= row.v_max
        held_a /= ohm
        hot = np.subtract(CHARGE_MAX_C, temp_c, out=some)
        hot *= 1.0 / HOT_TAPER_K
        cold = np.subtract(temp_c, CHARGE_MIN_C, out=self.power_w)
        cold *= 1.0 / COLD_TAPER_K
        limit_a = np.minimum(hot, cold, out=some)
        np.minimum(limit_a, 1.0, out=limit_a)
        limit_a *= row.current_min_a
        np.maximum(floor_a, limit_a, out=floor_a)
        room_a = np.subtract(self.charge.soc, row.full_soc, out=some)
        room_a *= row.a_per_soc
        np.maximum(floor_a, room_a, out=floor_a)
        return np.minimum(floor_a, 0.0, out=floor_a)
