"""Heat of a cell and the temperature that it gives: one lump of heat capacity that cools to ambient.

heat = share (R0 I + sum of share_k v_k) I - I T dOCV/dT, as Bernardi et al. 1985: what the circuit loses, and the heat
of its entropy (I > 0 discharges; a table of dOCV/dT above 0 cools a discharge and warms a charge). A pair may stand for
resistance (all heat) or for diffusion in particles, which loses voltage at once, but gives it off as heat of mixing;
where that is left out, as in most full models, the pair's share is low (Thomas and Newman, J. Electrochem. Soc. 150,
2003). C dT/dt = heat - G (T - ambient) has a closed form while heat is held at its mean over an interval.
"""

from __future__ import annotations

import numpy as np

from models.arrays import ArrayLike, FloatArray
from models.battery.cell import CELSIUS_K, Cell
from models.battery.circuit import Circuit, Moved, State, resistances_ohm


def heat_now_w(part: Circuit, state: State, current_a: FloatArray) -> FloatArray:
    """Return the heat of each row now, under a current, W."""
    lost_v = resistances_ohm(part, state.soc)[0] * current_a + (_pair_shares(part.cell) * state.pair_v).sum(axis=0)
    return np.asarray((part.cell.heat_share * lost_v - _entropic_v(part, state.soc)) * current_a)


def mean_heat_w(part: Circuit, before: State, moved: Moved) -> FloatArray:
    """Return the mean heat of each row while it moved, W; 0 where it did not.

    With every share at 1 and no entropy the balance is exact: energy out of the chemistry = energy out of the terminals
    + heat. It is below 0 where a pair that was charged before gives back more than the rest loses. What a share takes
    off, and the heat of entropy, are exact for a constant current on one piece of the curves; else they are of the mean
    current and of the curves at the middle charge, which `protocol` keeps close by its short substeps.
    """
    cell, after, span_s = part.cell, moved.state, moved.elapsed_s
    gone_c = part.charge_c * (before.soc - after.soc)
    out_c = np.where(gone_c < 0.0, gone_c / cell.coulomb_efficiency, gone_c)
    mean_a = np.divide(out_c, span_s, out=np.zeros_like(span_s), where=span_s > 0.0)
    middle = 0.5 * (before.soc + after.soc)
    # From the pair's own equation: the integral of v_k is that of R_k I less tau times its change.
    pairs_vs = resistances_ohm(part, middle)[1:] * out_c - part.tau_s * (after.pair_v - before.pair_v)
    cold_j = ((1.0 - _pair_shares(cell)) * pairs_vs).sum(axis=0) * mean_a
    made_j = cell.heat_share * (moved.chemical_j - moved.terminal_j - cold_j) - _entropic_v(part, middle) * gone_c
    return np.asarray(np.divide(made_j, span_s, out=np.zeros_like(made_j), where=span_s > 0.0))


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


def _pair_shares(cell: Cell) -> FloatArray:
    """Return each pair's share of heat, (pairs, 1)."""
    return np.array([pair.heat_share for pair in cell.pairs]).reshape(-1, 1)


def _entropic_v(part: Circuit, soc: FloatArray) -> FloatArray:
    """Return T dOCV/dT of each row, V."""
    cell = part.cell
    if not cell.entropic_soc:
        return np.zeros_like(soc)
    return np.asarray((part.temp_c + CELSIUS_K) * np.interp(soc, cell.entropic_soc, cell.entropic_v_per_k))
