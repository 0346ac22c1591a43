"""Constant current, rest included: exact. Charge moves along a straight line, each pair along line plus exponential.

Nothing is stepped: a row goes from knot to knot of its curves (they are straight between), on each by the closed form
of `circuit.carry`, so cutting an interval in two changes rounding only. Voltage crossings come from `crossing`.
"""

from __future__ import annotations

import numpy as np

from models.arrays import ArrayLike, BoolArray, FloatArray, IntArray
from models.battery.circuit import FOREVER_S, ROUNDING_V, Circuit, Moved, Piece, State, Stop, carry, piece_of, soc_rate
from models.battery.crossing import first_fall


def constant_current(
    circuit: Circuit,
    state: State,
    current_a: ArrayLike,
    dt_s: ArrayLike,
    v_low: ArrayLike = -np.inf,
    v_high: ArrayLike = np.inf,
) -> Moved:
    """Hold a current for `dt_s`, or until the terminals fall to `v_low`, rise to `v_high`, or charge meets 0 or 1.

    Args:
        circuit: the rows at their temperatures.
        state: at the start; not changed.
        current_a: A, discharge > 0, 0 rests.
        dt_s: s, at least 0; at most 1e9 is followed.
        v_low, v_high: V; a row that starts beyond one does not move.
    """
    count = state.soc.size
    amps, wanted, low, high = (
        np.broadcast_to(np.asarray(values, dtype=np.float64), (count,)) for values in (current_a, dt_s, v_low, v_high)
    )
    left = np.minimum(wanted, FOREVER_S).copy()
    soc, pair_v = state.soc.copy(), state.pair_v.copy()
    elapsed, chemical, terminal = np.zeros(count), np.zeros(count), np.zeros(count)
    stop = np.full(count, int(Stop.TIME))
    rows = np.arange(count)
    while rows.size:
        part, now = circuit.take(rows), State(soc[rows], pair_v[:, rows])
        current = amps[rows]
        rate = soc_rate(part, current)
        piece = piece_of(part, now.soc, rate > 0.0)
        volts = piece.ocv_at(now.soc) - now.pair_v.sum(axis=0) - piece.ohm_at(now.soc)[0] * current
        stop[rows] = _stopped(volts, low[rows], high[rows], now.soc, rate)
        going = np.flatnonzero((stop[rows] == Stop.TIME) & (left[rows] > 0.0))
        if going.size < rows.size:
            rows, part, now, piece = rows[going], part.take(going), now.take(going), piece.take(going)
            current, rate = current[going], rate[going]
            if not rows.size:
                break
        far = np.where(rate > 0.0, piece.soc + piece.width, piece.soc)
        with np.errstate(over="ignore"):  # next to no current takes for ever, and inf says so
            to_far = np.divide(far - now.soc, rate, out=np.full(rows.size, np.inf), where=rate != 0.0)
        whole = to_far <= left[rows]
        span = np.minimum(left[rows], to_far)
        meets = _first_meeting(part, piece, now, current, rate, span, low[rows], high[rows])
        crossed = meets[0] <= span
        span = np.where(crossed, meets[0], span)
        new = carry(piece, part.tau_s, rate, now, current, span)
        new = State(np.where(whole & ~crossed, far, new.soc), new.pair_v)
        moved_c = part.charge_c * (now.soc - new.soc)
        middle = 0.5 * (now.soc + new.soc)  # straight curves: the mean is the value in the middle
        open_v, ohm = piece.ocv_at(middle), piece.ohm_at(middle)
        # From the pair's own equation: the integral of v_k is that of R_k I less tau times its change.
        pairs_vs = (ohm[1:] * current * span - part.tau_s * (new.pair_v - now.pair_v)).sum(axis=0)
        soc[rows], pair_v[:, rows] = new
        elapsed[rows] += span
        chemical[rows] += open_v * moved_c
        terminal[rows] += current * ((open_v - ohm[0] * current) * span - pairs_vs)
        left[rows] = np.where(whole | crossed, left[rows] - span, 0.0)
        stop[rows] = np.where(crossed, meets[1], int(Stop.TIME))
        rows = rows[(left[rows] > 0.0) & ~crossed]
    return Moved(State(soc, pair_v), elapsed, chemical, terminal, stop)


def time_to_voltage_s(circuit: Circuit, state: State, current_a: ArrayLike, volts: ArrayLike) -> FloatArray:
    """Return when a held current first brings the terminals to a voltage, s: 0 if beyond it already, inf if never.

    A discharge waits for a voltage below, a charge for one above; at rest the cell waits for it from where it is.
    """
    amps = np.broadcast_to(np.asarray(current_a, dtype=np.float64), state.soc.shape)
    level = np.broadcast_to(np.asarray(volts, dtype=np.float64), state.soc.shape)
    piece = piece_of(circuit, state.soc, amps < 0.0)
    resting_v = piece.ocv_at(state.soc) - state.pair_v.sum(axis=0)
    falling: BoolArray = (amps > 0.0) | ((amps == 0.0) & (resting_v >= level))
    moved = constant_current(
        circuit, state, amps, FOREVER_S, np.where(falling, level, -np.inf), np.where(falling, np.inf, level)
    )
    met = (moved.stop == Stop.V_LOW) | (moved.stop == Stop.V_HIGH)
    return np.where(met, moved.elapsed_s, np.inf)


def time_to_soc_s(circuit: Circuit, state: State, current_a: ArrayLike, soc: ArrayLike) -> FloatArray:
    """Return when a held current brings charge to `soc`, s: inf if it lies behind or the current is 0."""
    amps = np.broadcast_to(np.asarray(current_a, dtype=np.float64), state.soc.shape)
    way = np.asarray(soc, dtype=np.float64) - state.soc
    rate = soc_rate(circuit, amps)
    ahead = (way * rate > 0.0) | (way == 0.0)
    return np.where(ahead, np.divide(way, rate, out=np.zeros_like(rate), where=(rate != 0.0) & (way != 0.0)), np.inf)


def _stopped(volts: FloatArray, low: FloatArray, high: FloatArray, soc: FloatArray, rate: FloatArray) -> IntArray:
    ends = ((rate < 0.0) & (soc <= 0.0)) | ((rate > 0.0) & (soc >= 1.0))
    other = np.where(ends, int(Stop.SOC), int(Stop.TIME))
    return np.where(volts <= low, int(Stop.V_LOW), np.where(volts >= high, int(Stop.V_HIGH), other))


def _first_meeting(
    part: Circuit,
    piece: Piece,
    now: State,
    current: FloatArray,
    rate: FloatArray,
    span: FloatArray,
    low: FloatArray,
    high: FloatArray,
) -> tuple[FloatArray, IntArray]:
    """Return when the terminals first meet a level on this piece (inf if they do not), and which."""
    when, which = np.full(span.size, np.inf), np.full(span.size, int(Stop.TIME))
    if np.isneginf(low).all() and np.isposinf(high).all():
        return when, which
    ohm = piece.ohm_at(now.soc)
    climb = piece.ohm_slope * rate
    settled = current * (ohm[1:] - climb[1:] * part.tau_s)
    const = piece.ocv_at(now.soc) - current * ohm[0] - settled.sum(axis=0)
    slope = piece.ocv_slope * rate - current * climb.sum(axis=0)
    weights = settled - now.pair_v
    rates = np.broadcast_to(1.0 / part.tau_s, weights.shape)
    for level, sign, kind in ((low, 1.0, Stop.V_LOW), (high, -1.0, Stop.V_HIGH)):
        watched = np.flatnonzero(np.isfinite(level))
        if watched.size:
            at = first_fall(
                sign * (const - level)[watched],
                sign * slope[watched],
                sign * weights[:, watched],
                rates[:, watched],
                span[watched],
                ROUNDING_V,
            )
            sooner = at < when[watched]
            when[watched[sooner]], which[watched[sooner]] = at[sooner], int(kind)
    return when, which
