"""Constant voltage: exact on pieces of charge on which the circuit is linear.

With the terminals held at V, e = OCV - V and the pair voltages obey a linear, homogeneous system on a straight piece of
OCV: it is a network of resistors and capacitors (the cell itself is the capacitor Q / slope). Scaled by the square
roots of the capacitances its matrix is symmetric, so it has real decay rates and a stable eigen-decomposition:

  dy/dt = -(D + g g^T / R0) y,   y_0 = e sqrt(C_0), y_k = v_k sqrt(C_k),   C_k = tau_k / R_k,   I = g . y / R0

Resistances depend on charge, which would make this quadratic: here they are held at their middle value on fixed pieces
of at most 1 % of charge. Pieces do not depend on where an interval starts, so splitting it changes rounding only.
The freezing moves the end of a taper by less than 3e-4 of its time, of a whole charge by 1e-4 (its test measures both).
"""

from __future__ import annotations

import numpy as np

from models.arrays import ArrayLike, FloatArray
from models.battery.circuit import FOREVER_S, ROUNDING_V, Circuit, Moved, Piece, State, Stop, piece_of
from models.battery.crossing import first_fall

# A walk of one row passes each of about a hundred pieces once or twice; more would be a defect of ours.
_ROUNDS_MAX = 2000


def constant_voltage(
    circuit: Circuit, state: State, volts: ArrayLike, dt_s: ArrayLike, current_end_a: ArrayLike = 0.0
) -> Moved:
    """Hold the terminals at a voltage for `dt_s`, or until |I| falls to `current_end_a` or charge meets 0 or 1.

    Args:
        circuit: the rows at their temperatures.
        state: at the start; not changed.
        volts: V.
        dt_s: s, at least 0; at most 1e9 is followed.
        current_end_a: cut-off, A; 0 for none. A row whose current is no more than this does not move.
    """
    count = state.soc.size
    held, wanted, cutoff = (
        np.broadcast_to(np.asarray(values, dtype=np.float64), (count,)) for values in (volts, dt_s, current_end_a)
    )
    left = np.minimum(wanted, FOREVER_S).copy()
    soc, pair_v = state.soc.copy(), state.pair_v.copy()
    elapsed, chemical, terminal = np.zeros(count), np.zeros(count), np.zeros(count)
    stop = np.full(count, int(Stop.TIME))
    rows = np.arange(count)
    for _ in range(_ROUNDS_MAX):
        if not rows.size:
            return Moved(State(soc, pair_v), elapsed, chemical, terminal, stop)
        part, now, volt, end_a = circuit.take(rows), State(soc[rows], pair_v[:, rows]), held[rows], cutoff[rows]
        # Charging or discharging decides the piece of a row on a knot; OCV is continuous there, so either piece tells.
        rising = volt > np.interp(now.soc, part.tables.soc, part.tables.ocv_v) - now.pair_v.sum(axis=0)
        piece = piece_of(part, now.soc, rising, fine=True)
        modes = _modes(part, piece, now, volt, rising)
        drive_v = modes.drive.sum(axis=0)
        # The cut-off acts on the current through R0 as it is, not as frozen: also a sum of the same exponentials.
        per_v = end_a * piece.ohm_slope[0] / piece.ocv_slope
        cutoff_v = end_a * piece.ohm[0] + per_v * (volt - piece.ocv_v)
        ends = ((now.soc <= 0.0) & ~rising) | ((now.soc >= 1.0) & rising)
        none_left = (end_a > 0.0) & (np.abs(drive_v) <= cutoff_v + per_v * modes.excess.sum(axis=0))
        stop[rows] = np.where(none_left, int(Stop.CURRENT), np.where(ends, int(Stop.SOC), int(Stop.TIME)))
        span = np.where(none_left | ends, 0.0, left[rows])
        way = np.where(rising, -1.0, 1.0)
        zero = np.zeros_like(span)
        above = piece.ocv_v + piece.ocv_slope * piece.width - volt
        to_top = first_fall(above, zero, -modes.excess, modes.rates, span, ROUNDING_V)
        to_bottom = first_fall(volt - piece.ocv_v, zero, modes.excess, modes.rates, span, ROUNDING_V)
        over_v = way * modes.drive - per_v * modes.excess
        to_end = first_fall(-cutoff_v, zero, over_v, modes.rates, span, ROUNDING_V)
        to_end = np.where(end_a > 0.0, to_end, np.inf)
        met = np.minimum(np.minimum(to_top, to_bottom), np.minimum(to_end, span))
        new = modes.after(piece, now, met)
        new_soc = np.where(to_top <= met, piece.soc + piece.width, np.where(to_bottom <= met, piece.soc, new.soc))
        moved_v = 0.5 * (piece.ocv_at(now.soc) + piece.ocv_at(new_soc))
        gone_c = part.charge_c * (now.soc - new_soc)
        soc[rows], pair_v[:, rows] = new_soc, new.pair_v
        elapsed[rows] += met
        chemical[rows] += moved_v * gone_c
        terminal[rows] += volt * gone_c / np.where(rising, part.cell.coulomb_efficiency, 1.0)
        stop[rows] = np.where(to_end <= met, int(Stop.CURRENT), stop[rows])
        left[rows] = np.where(met < left[rows], left[rows] - met, 0.0)
        rows = rows[(left[rows] > 0.0) & (stop[rows] == Stop.TIME)]
    raise AssertionError(f"constant voltage goes on after {_ROUNDS_MAX} pieces: rows {rows[:5]}, soc {soc[rows[:5]]}")


def time_to_current_s(circuit: Circuit, state: State, volts: ArrayLike, current_a: ArrayLike) -> FloatArray:
    """Return when the current of a held voltage has fallen to `current_a`, s: 0 if it has, inf if it never does."""
    moved = constant_voltage(circuit, state, volts, FOREVER_S, current_a)
    return np.where(moved.stop == Stop.CURRENT, moved.elapsed_s, np.inf)


class _Modes:
    """The rows' motion on their pieces as sums of exponentials: e, v_k = sum of weights exp(-rates t)."""

    def __init__(self, rates: FloatArray, excess: FloatArray, pairs: FloatArray) -> None:
        self.rates = rates  # (modes, rows)
        self.excess = excess  # OCV - V, (modes, rows)
        self.drive = excess - pairs.sum(axis=0)  # R0 I
        self.pairs = pairs  # (pairs, modes, rows)

    def after(self, piece: Piece, now: State, dt_s: FloatArray) -> State:
        """Return the state after `dt_s`; as a change, so that a short time loses no digits."""
        gone = np.expm1(-self.rates * dt_s)
        return State(
            now.soc + (self.excess * gone).sum(axis=0) / piece.ocv_slope,
            now.pair_v + (self.pairs * gone).sum(axis=1),
        )


def _modes(part: Circuit, piece: Piece, now: State, volts: FloatArray, rising: FloatArray) -> _Modes:
    kept = np.where(rising, part.cell.coulomb_efficiency, 1.0)
    ohm = piece.ohm + piece.ohm_slope * (0.5 * piece.width)
    root_c = np.concatenate([np.sqrt(part.charge_c / (piece.ocv_slope * kept))[None], np.sqrt(part.tau_s / ohm[1:])])
    signs = np.ones((root_c.shape[0], 1))
    signs[1:] = -1.0
    feed = (signs / root_c).T  # (rows, modes)
    matrix = feed[:, :, None] * feed[:, None, :] / ohm[0][:, None, None]
    pair = np.arange(1, root_c.shape[0])
    matrix[:, pair, pair] += 1.0 / part.tau_s[:, 0]
    rates, vectors = np.linalg.eigh(matrix)
    start = np.concatenate([(piece.ocv_at(now.soc) - volts)[None], now.pair_v]) * root_c
    amounts = np.einsum("rij,ir->rj", vectors, start)  # each mode's share of the start
    parts = vectors * amounts[:, None, :] / root_c.T[:, :, None]  # (rows, states, modes)
    by_state = np.moveaxis(parts, 0, -1)
    return _Modes(np.maximum(rates.T, 0.0), by_state[0], by_state[1:])
