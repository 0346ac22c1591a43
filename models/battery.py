"""Battery law: open-circuit voltage behind a resistance, charged at constant current, then constant voltage.

With temperature and power held over an interval, the state of charge follows ds/dt = -I(s) / Q, where the
current I depends on the state of charge alone. On each straight piece of the open-circuit curve E(s) that
integrates in closed form for each of the three ways a current can be set:

* constant current:  t = Q ds / I
* constant voltage:  I = (v_max - E) / R, an exponential
* constant power P:  I = (E - sqrt(E^2 - 4 R P)) / (2 R), so dt = -Q (E + sqrt(E^2 - 4 R P)) / (2 P) ds

Hence no step size: `advance` walks from piece to piece and inverts the last one, and cutting an interval in
two changes nothing but rounding. What is left out: relaxation after a load change (minutes; its resistance is
counted in R), ageing, temperature change within the interval, and the loss of usable capacity in the cold.
Against a real LG M50 the energy of a discharge is within 3 % at 25 and 45 C, up to 9 % too high at 10 C and
16 % at 0 C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.arrays import ArrayLike, BoolArray, FloatArray, require_not_negative, spread
from models.cells import CELLS
from models.charge import Circuit, bounds, current_a, walk

GAS_J_MOL_K = 8.314462618  # CODATA 2018, exact
REFERENCE_K = 298.15
# Chargers refuse a lithium cell outside this range (JEITA guideline, 2007; the usual phone limits).
CHARGE_MIN_C, CHARGE_MAX_C = 0.0, 45.0


@dataclass(frozen=True)
class Pack:
    """A battery as one string of equal cells; arrays hold one value a device.

    Attributes:
        capacity_ah: charge between 0 % and 100 %, A.h; 0 marks a device on mains.
        ocv_soc: knots of the open-circuit curve, state of charge from 0 to 1, rising.
        ocv_v: open-circuit voltage of one cell at the knots, V, rising.
        r0_ohm_25c: resistance of one cell at 25 C, ohm.
        v_max: charging voltage of one cell, V.
        v_min: voltage of one cell under load at which the device switches off, V.
        r0_activation_j_mol: activation energy of the resistance, J/mol.
        charge_c_rate_max: largest charging current over capacity, 1/h.
        cutoff_c_rate: constant-voltage charging ends at this current over capacity, 1/h (C/20: common in data
            sheets).
        cells_in_series: cells in the string.
    """

    capacity_ah: ArrayLike
    ocv_soc: FloatArray
    ocv_v: FloatArray
    r0_ohm_25c: ArrayLike
    v_max: float
    v_min: float
    r0_activation_j_mol: float
    charge_c_rate_max: float
    cutoff_c_rate: float = 0.05
    cells_in_series: ArrayLike = 1.0


class Step(NamedTuple):
    """What one interval did; powers are means over it.

    Attributes:
        soc: state of charge at the end, 0 to 1.
        heat_w: heat in the cells, W.
        battery_power_w: power out of the battery, W; negative while charging.
        from_charger_w: power taken from the plug, for the device and the battery, W.
        empty: the battery could not carry the device's draw up to the end.
        terminal_v: voltage of the string at the end, V.
    """

    soc: FloatArray
    heat_w: FloatArray
    battery_power_w: FloatArray
    from_charger_w: FloatArray
    empty: BoolArray
    terminal_v: FloatArray


def pack(chemistry: str, energy_wh: ArrayLike, cells_in_series: ArrayLike = 1.0) -> Pack:
    """Scale a reference cell to packs of this energy (at open-circuit voltage); 0 W.h is a device on mains.

    Resistance scales with one over capacity, as for cells in parallel.
    """
    if chemistry not in CELLS:
        raise ValueError(f"chemistry is {chemistry!r}; allowed: {', '.join(CELLS)}")
    require_not_negative("energy_wh", energy_wh)
    cell = CELLS[chemistry]
    knots = np.array(cell.knots, dtype=np.float64)
    mean_v = float(np.trapezoid(knots[:, 1], knots[:, 0]))
    energy, series = spread(energy_wh, cells_in_series)
    capacity_ah = energy / (mean_v * series)
    r0_ohm = cell.resistance_ohm_25c * np.divide(
        cell.capacity_ah, capacity_ah, out=np.zeros_like(capacity_ah), where=capacity_ah > 0
    )
    return Pack(
        capacity_ah=capacity_ah,
        ocv_soc=knots[:, 0],
        ocv_v=knots[:, 1],
        r0_ohm_25c=r0_ohm,
        v_max=cell.v_max,
        v_min=cell.v_min,
        r0_activation_j_mol=cell.activation_j_mol,
        charge_c_rate_max=cell.charge_c_rate_max,
        cells_in_series=series,
    )


def ocv_v(pack: Pack, soc: ArrayLike) -> FloatArray:
    """Return the open-circuit voltage of the string, V."""
    cell_v = np.interp(np.asarray(soc, dtype=np.float64), pack.ocv_soc, pack.ocv_v)
    return np.asarray(cell_v * np.asarray(pack.cells_in_series, dtype=np.float64))


def resistance_ohm(pack: Pack, temp_c: ArrayLike) -> FloatArray:
    """Return the resistance of the string at a cell temperature, ohm (Arrhenius about 25 C)."""
    return np.asarray(_cell_ohm(pack, temp_c) * np.asarray(pack.cells_in_series, dtype=np.float64))


def advance(
    pack: Pack, soc: ArrayLike, power_w: ArrayLike, charger_w: ArrayLike, temp_c: ArrayLike, dt_s: ArrayLike
) -> Step:
    """Advance packs over an interval in which draw, charger and temperature are held.

    The draw comes off the charger first. What is left charges the battery, unless the cells are below 0 C or
    above 45 C: at the current limit, then at the charger's power, then at constant voltage down to the
    cut-off current. Charging therefore ends a little below 1.0, where the open-circuit voltage is v_max less
    R times the cut-off current. A device on mains stays at 1.0 and takes its draw from the plug whatever
    `charger_w` says.

    Args:
        soc: state of charge at the start, 0 to 1.
        power_w: what the device draws, W, at least 0.
        charger_w: what the plug can give at the battery's terminals, W; 0 is unplugged.
        temp_c: cell temperature, C.
        dt_s: length of the interval, s, at least 0.
    """
    for name, values in (("power_w", power_w), ("charger_w", charger_w), ("dt_s", dt_s)):
        require_not_negative(name, values)
    start, draw_w, plug_w, temperature, length_s, capacity_ah, series = spread(
        soc, power_w, charger_w, temp_c, dt_s, pack.capacity_ah, pack.cells_in_series
    )
    has_cells = capacity_ah > 0.0
    net_w = draw_w - plug_w
    may_charge = (temperature >= CHARGE_MIN_C) & (temperature <= CHARGE_MAX_C)
    runs = has_cells & ((net_w > 0.0) | ((net_w < 0.0) & may_charge))
    circuit = _circuit(pack, np.where(runs, net_w, 0.0) / series, temperature, capacity_ah)
    limits = bounds(circuit)
    moved = walk(circuit, limits, start.ravel(), length_s.ravel())

    soc_end = np.where(has_cells, moved.soc.reshape(start.shape), 1.0)
    terminal_j = moved.terminal_j.reshape(start.shape) * series
    lost_j = moved.chemical_j.reshape(start.shape) * series - terminal_j
    battery_w, heat_w = _mean_w(terminal_j, length_s), np.maximum(_mean_w(lost_j, length_s), 0.0)
    direct_w = np.where(has_cells, np.minimum(draw_w, plug_w), draw_w)
    empty = has_cells & (net_w > 0.0) & (soc_end <= limits.stop.reshape(start.shape))
    cell_a = current_a(circuit, limits, soc_end.ravel()).reshape(start.shape)
    cell_v = np.interp(soc_end, pack.ocv_soc, pack.ocv_v) - cell_a * circuit.ohm.reshape(start.shape)
    return Step(
        soc=soc_end,
        heat_w=heat_w,
        battery_power_w=battery_w,
        from_charger_w=direct_w + np.maximum(-battery_w, 0.0),
        empty=empty,
        terminal_v=cell_v * series,
    )


def time_to_soc_s(
    pack: Pack, soc: ArrayLike, power_w: ArrayLike, target_soc: ArrayLike, temp_c: ArrayLike
) -> FloatArray:
    """Return when a state of charge is first reached, s, or inf if it never is.

    Args:
        soc: state of charge now, 0 to 1.
        power_w: net draw from the battery, W; negative is what a charger has left over for it.
        target_soc: state of charge to wait for, 0 to 1.
        temp_c: cell temperature, C.
    """
    start, net_w, target, temperature, capacity_ah, series = spread(
        soc, power_w, target_soc, temp_c, pack.capacity_ah, pack.cells_in_series
    )
    may_charge = (temperature >= CHARGE_MIN_C) & (temperature <= CHARGE_MAX_C)
    runs = (capacity_ah > 0.0) & ((net_w > 0.0) | ((net_w < 0.0) & may_charge))
    circuit = _circuit(pack, np.where(runs, net_w, 0.0) / series, temperature, capacity_ah)
    limits = bounds(circuit)
    ahead = np.where(net_w > 0.0, target < start, target > start)
    goal = np.where(ahead, target, start)
    stop = limits.stop.reshape(start.shape)
    reachable = np.where(net_w > 0.0, goal >= stop, goal <= stop)
    moved = walk(circuit, limits, start.ravel(), np.full(start.size, np.inf), goal.ravel())
    waited = np.where(ahead & runs & reachable, moved.elapsed_s.reshape(start.shape), np.inf)
    return np.where(target == start, 0.0, waited)


def _mean_w(energy_j: FloatArray, dt_s: FloatArray) -> FloatArray:
    return np.asarray(np.divide(energy_j, dt_s, out=np.zeros_like(dt_s), where=dt_s > 0.0))


def _cell_ohm(pack: Pack, temp_c: ArrayLike) -> FloatArray:
    kelvin = np.asarray(temp_c, dtype=np.float64) + 273.15
    ohm_25c = np.asarray(pack.r0_ohm_25c, dtype=np.float64)
    slope_k = pack.r0_activation_j_mol / GAS_J_MOL_K
    return np.asarray(ohm_25c * np.exp(slope_k * (1 / kelvin - 1 / REFERENCE_K)))


def _circuit(pack: Pack, cell_w: FloatArray, temperature: FloatArray, capacity_ah: FloatArray) -> Circuit:
    ohm, _ = spread(_cell_ohm(pack, temperature), cell_w)
    return Circuit(
        ocv_soc=pack.ocv_soc,
        ocv_v=pack.ocv_v,
        charge_c=capacity_ah.ravel() * 3600.0,
        ohm=ohm.ravel(),
        power_w=cell_w.ravel(),
        current_max_a=(capacity_ah * pack.charge_c_rate_max).ravel(),
        current_end_a=(capacity_ah * pack.cutoff_c_rate).ravel(),
        v_max=pack.v_max,
        v_min=pack.v_min,
    )
