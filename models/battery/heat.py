"""Heat of a cell and the temperature that it gives: one lump of heat capacity that cools to ambient.

heat = share (OCV - v) I, as Bernardi et al. 1985 without the entropic term (the share stands for it, and for the heat
of mixing); C dT/dt = heat - G (T - ambient) has a closed form while heat is held at its mean over an interval.
"""

from __future__ import annotations

import numpy as np

from models.arrays import ArrayLike, FloatArray
from models.battery.cell import Cell
from models.battery.circuit import Moved


def mean_heat_w(cell: Cell, moved: Moved) -> FloatArray:
    """Return the mean heat of each row while it moved, W; 0 where it did not.

    At `heat_share` 1 the balance is exact: energy out of the chemistry = energy out of the terminals + heat. It is
    below 0 where a pair that was charged before gives back more than the rest loses.
    """
    lost_j = cell.heat_share * (moved.chemical_j - moved.terminal_j)
    return np.asarray(np.divide(lost_j, moved.elapsed_s, out=np.zeros_like(lost_j), where=moved.elapsed_s > 0.0))


def temperature_c(
    cell: Cell, temp_c: ArrayLike, heat_w: ArrayLike, ambient_c: ArrayLike, dt_s: ArrayLike
) -> FloatArray:
    """Return the cell temperature after `dt_s` of this heat and ambient, C."""
    start, ambient, heat, dt = (np.asarray(values, dtype=np.float64) for values in (temp_c, ambient_c, heat_w, dt_s))
    rate = cell.cooling_w_per_k / cell.heat_j_per_k
    gone = -np.expm1(-rate * dt)
    # (1 - exp(-r t)) / r tends to t: a cell that is insulated only warms.
    warming = heat / cell.heat_j_per_k * (gone / rate if rate > 0.0 else dt)
    return np.asarray(start + (ambient - start) * gone + warming)
