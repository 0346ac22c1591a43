"""The exact walk of the state of charge along the open-circuit curve. Inputs are checked in battery.

One cell is one row. A row runs through pieces: stretches of charge on which the open-circuit curve is
straight and the current is set in one way. Rows are flat arrays; most rows finish in the piece in which they
start, so each round keeps only the unfinished.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.arrays import BoolArray, FloatArray, IntArray

CURRENT, POWER, VOLTAGE = 0, 1, 2  # what is held constant on a piece

# Newton's method on a smooth, nearly straight function: the error squares each time and is at rounding after
# 4.
_NEWTON_ROUNDS = 4


@dataclass(frozen=True)
class Circuit:
    """One cell a row and the power asked of it (W; negative charges, 0 rests)."""

    ocv_soc: FloatArray
    ocv_v: FloatArray
    charge_c: FloatArray
    ohm: FloatArray
    power_w: FloatArray
    current_max_a: FloatArray
    current_end_a: FloatArray
    v_max: float
    v_min: float


class Bounds(NamedTuple):
    """States of charge at which a row changes its law.

    Attributes:
        to_power: charging is at constant current below this.
        to_voltage: charging is at constant voltage from here on.
        stop: where the row comes to rest: empty when discharging, full when charging.
    """

    to_power: FloatArray
    to_voltage: FloatArray
    stop: FloatArray


class Moved(NamedTuple):
    """Where rows ended: state of charge, time used, energy out of the chemistry and of the terminals."""

    soc: FloatArray
    elapsed_s: FloatArray
    chemical_j: FloatArray
    terminal_j: FloatArray


def bounds(circuit: Circuit) -> Bounds:
    """Return where each row changes its law, from the voltages at which two of the currents are equal."""
    ohm, limit_a = circuit.ohm, circuit.current_max_a
    # Charging. The current is the least of what the limit, the charger's power and the charging voltage
    # allow.
    give_w = np.maximum(-circuit.power_w, 0.0)
    at_limit_v = np.divide(give_w, limit_a, out=np.zeros_like(give_w), where=limit_a > 0)
    power_meets_limit_v = at_limit_v - ohm * limit_a
    voltage_meets_limit_v = circuit.v_max - ohm * limit_a
    voltage_meets_power_v = circuit.v_max - ohm * give_w / circuit.v_max
    power_rules = power_meets_limit_v < voltage_meets_limit_v
    to_power_v = np.where(power_rules, power_meets_limit_v, voltage_meets_limit_v)
    to_voltage_v = np.where(power_rules, voltage_meets_power_v, voltage_meets_limit_v)
    full_v = np.maximum(circuit.v_max - ohm * circuit.current_end_a, to_voltage_v)
    # Discharging. V = E - R I stays at v_min or above, and the cell can give at most E^2 / (4 R).
    need_w = np.maximum(circuit.power_w, 0.0)
    strong = ohm * need_w <= circuit.v_min**2
    empty_v = np.where(strong, circuit.v_min + ohm * need_w / circuit.v_min, 2.0 * np.sqrt(ohm * need_w))
    stop_v = np.where(circuit.power_w < 0.0, full_v, empty_v)
    to_power, to_voltage, stop = (
        np.interp(volts, circuit.ocv_v, circuit.ocv_soc) for volts in (to_power_v, to_voltage_v, stop_v)
    )
    # A cell too weak even when full would be clipped to 1.0 and look as if it were just able.
    hopeless = (circuit.power_w > 0.0) & (stop_v > circuit.ocv_v[-1])
    return Bounds(to_power, to_voltage, np.where(hopeless, np.inf, stop))


def current_a(circuit: Circuit, limits: Bounds, soc: FloatArray) -> FloatArray:
    """Return the current out of each cell at a state of charge, A; 0 where the row is at rest."""
    open_v = np.interp(soc, circuit.ocv_soc, circuit.ocv_v)
    way = _way(circuit.power_w, limits, soc)
    root = np.sqrt(np.maximum(open_v**2 - 4.0 * circuit.ohm * circuit.power_w, 0.0))
    by_power = 2.0 * circuit.power_w / (open_v + root)
    ohm = np.where(circuit.ohm > 0.0, circuit.ohm, 1.0)
    by_voltage = (open_v - circuit.v_max) / ohm
    flowing = np.choose(way, (-circuit.current_max_a, by_power, by_voltage))
    return np.where(_moving(circuit.power_w, limits.stop, soc), flowing, 0.0)


def walk(
    circuit: Circuit, limits: Bounds, soc: FloatArray, dt_s: FloatArray, goal: FloatArray | None = None
) -> Moved:
    """Move every row for `dt_s`, or until it rests or meets `goal` (which lies ahead of it or at `soc`)."""
    end = np.array(soc, dtype=np.float64)
    elapsed_s, chemical_j, terminal_j = np.zeros_like(end), np.zeros_like(end), np.zeros_like(end)
    left_s = np.array(dt_s, dtype=np.float64)
    discharging = circuit.power_w > 0.0
    last = limits.stop
    if goal is not None:
        last = np.where(discharging, np.maximum(last, goal), np.minimum(last, goal))
    rows: IntArray = np.flatnonzero(_moving(circuit.power_w, last, end) & (left_s > 0.0))
    while rows.size:
        here = Bounds(limits.to_power[rows], limits.to_voltage[rows], last[rows])
        piece = _piece(circuit, here, rows, end[rows])
        whole_s = _seconds(piece, piece.v_end)
        inside = whole_s > left_s[rows]
        inner_s = np.where(inside, left_s[rows], 0.0)
        v_stop = np.where(inside, _voltage_after(piece, inner_s, whole_s), piece.v_end)
        # A piece that is used up ends on its boundary exactly, so that the next round finds the next piece.
        soc_stop = np.where(inside, piece.soc + (v_stop - piece.v) / piece.slope_v, piece.soc_end)
        used_s = np.where(inside, left_s[rows], whole_s)
        moved_c = piece.charge_c * (piece.soc - soc_stop)
        out_j = moved_c * 0.5 * (piece.v + v_stop)
        by_current_j = out_j - piece.ohm * piece.current_a * moved_c
        by_way_j = (by_current_j, piece.power_w * used_s, moved_c * circuit.v_max)
        end[rows] = soc_stop
        elapsed_s[rows] += used_s
        chemical_j[rows] += out_j
        terminal_j[rows] += np.choose(piece.way, by_way_j)
        left_s[rows] = np.where(inside, 0.0, left_s[rows] - whole_s)
        rows = rows[(left_s[rows] > 0.0) & _moving(circuit.power_w[rows], last[rows], soc_stop)]
    return Moved(end, elapsed_s, chemical_j, terminal_j)


class _Piece(NamedTuple):
    """One straight piece a row: from (soc, v) to (soc_end, v_end), and what is held on it."""

    soc: FloatArray
    v: FloatArray
    soc_end: FloatArray
    v_end: FloatArray
    slope_v: FloatArray
    way: IntArray
    charge_c: FloatArray
    ohm: FloatArray
    power_w: FloatArray
    current_a: FloatArray  # of the constant-current way, out of the cell
    v_max: float


def _moving(power_w: FloatArray, stop: FloatArray, soc: FloatArray) -> BoolArray:
    return np.where(power_w > 0.0, soc > stop, (power_w < 0.0) & (soc < stop))


def _way(power_w: FloatArray, limits: Bounds, soc: FloatArray) -> IntArray:
    charging = np.where(soc >= limits.to_voltage, VOLTAGE, np.where(soc >= limits.to_power, POWER, CURRENT))
    return np.where(power_w > 0.0, POWER, charging).astype(np.int64)


def _piece(circuit: Circuit, limits: Bounds, rows: IntArray, soc: FloatArray) -> _Piece:
    power_w = circuit.power_w[rows]
    down = power_w > 0.0
    last_segment = circuit.ocv_soc.size - 2
    # A row on a knot belongs to the segment it is about to enter.
    above = np.searchsorted(circuit.ocv_soc, soc, side="right") - 1
    below = np.searchsorted(circuit.ocv_soc, soc, side="left") - 1
    segment = np.clip(np.where(down, below, above), 0, last_segment)
    s0, v0 = circuit.ocv_soc[segment], circuit.ocv_v[segment]
    s1, v1 = circuit.ocv_soc[segment + 1], circuit.ocv_v[segment + 1]
    slope_v = (v1 - v0) / (s1 - s0)
    way = _way(power_w, limits, soc)
    change = np.where(way == CURRENT, limits.to_power, np.where(way == POWER, limits.to_voltage, np.inf))
    soc_end = np.where(down, np.maximum(s0, limits.stop), np.minimum(np.minimum(s1, change), limits.stop))
    return _Piece(
        soc=soc,
        v=v0 + slope_v * (soc - s0),
        soc_end=soc_end,
        v_end=v0 + slope_v * (soc_end - s0),
        slope_v=slope_v,
        way=way,
        charge_c=circuit.charge_c[rows],
        ohm=circuit.ohm[rows],
        power_w=power_w,
        current_a=-circuit.current_max_a[rows],
        v_max=circuit.v_max,
    )


def _seconds(piece: _Piece, v_stop: FloatArray) -> FloatArray:
    """Return the time from the start of the piece to an open-circuit voltage on it, s."""
    per_volt_c = piece.charge_c / piece.slope_v
    by_current = per_volt_c * (piece.v - v_stop) / piece.current_a
    with np.errstate(over="ignore"):  # next to no power takes for ever, and inf says so
        by_power = per_volt_c * _power_integral(piece, v_stop) / (2.0 * piece.power_w)
    # log1p of the step keeps short steps exact; masked because other rows may lie beyond v_max.
    is_cv = piece.way == VOLTAGE
    share = np.where(is_cv, (piece.v - v_stop) / np.where(is_cv, piece.v_max - piece.v, 1.0), 0.0)
    by_voltage = -per_volt_c * piece.ohm * np.log1p(share)
    return np.choose(piece.way, (by_current, by_power, by_voltage))


def _voltage_after(piece: _Piece, dt_s: FloatArray, whole_s: FloatArray) -> FloatArray:
    """Return the open-circuit voltage `dt_s` into the piece, V: the inverse of `_seconds`."""
    per_volt_c = piece.charge_c / piece.slope_v
    by_current = piece.v - piece.current_a * dt_s / per_volt_c
    is_cv = piece.way == VOLTAGE
    tau_s = np.where(is_cv, per_volt_c * piece.ohm, 1.0)
    by_voltage = piece.v - (piece.v_max - piece.v) * np.expm1(-dt_s / tau_s)
    share = np.divide(dt_s, whole_s, out=np.zeros_like(dt_s), where=whole_s > 0)
    by_power = piece.v + (piece.v_end - piece.v) * share
    low, high = np.minimum(piece.v, piece.v_end), np.maximum(piece.v, piece.v_end)
    wanted = dt_s * 2.0 * piece.power_w / per_volt_c
    for _ in range(_NEWTON_ROUNDS):
        missing = _power_integral(piece, by_power) - wanted
        by_power = np.clip(by_power + missing / (by_power + _root(piece, by_power)), low, high)
    return np.choose(piece.way, (by_current, by_power, by_voltage))


def _root(piece: _Piece, volts: FloatArray) -> FloatArray:
    return np.sqrt(np.maximum(volts**2 - 4.0 * piece.ohm * piece.power_w, 0.0))


def _power_integral(piece: _Piece, v_stop: FloatArray) -> FloatArray:
    """Integrate E + sqrt(E^2 - 4 R P) from E = `v_stop` to the start of the piece, V^2."""
    w0, w1 = _root(piece, piece.v), _root(piece, v_stop)
    logs = 4.0 * piece.ohm * piece.power_w * np.log((piece.v + w0) / (v_stop + w1))
    return 0.5 * ((piece.v - v_stop) * (piece.v + v_stop) + piece.v * w0 - v_stop * w1 - logs)
