"""Constant power: exponential midpoint. A power has no closed form, as the current that it needs moves the voltage.

I = (E - sqrt(E^2 - 4 R0 P)) / (2 R0) with E = OCV - sum of v_k; a complex root is a brown-out. One substep holds the
current of its own middle and carries the state by the closed form of constant current (the exponential midpoint rule;
Hochbruck and Ostermann, Acta Numerica 19, 2010). Each substep is done whole and in two halves: the difference bounds
the error and sets the next length, and a third of it added to the halves takes the leading error away (Richardson).

A substep is at most 2 % of charge, at most 600 s (or 0.1 % of charge, where a tiny power takes longer for that), and
ends on every knot of the curves that it meets. Fast pairs shorten it after a change of load, and only then.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.arrays import ArrayLike, BoolArray, FloatArray, IntArray
from models.battery.circuit import (
    FOREVER_S,
    Circuit,
    Moved,
    Piece,
    State,
    Stop,
    carry,
    current_for_power,
    piece_of,
    soc_rate,
)
from models.battery.constant_current import constant_current

_SOC_MAX = 0.02
_SPAN_MAX_S = 600.0
_SLOW_SOC = 0.001
# What whole and halves may differ by, a substep. The sum over a discharge stays below 1e-6 of charge.
_SOC_ERROR = 1e-8
_VOLT_ERROR = 3e-6
_SHORTEST_S = 1e-3
_KNOT_ROUNDS = 4  # of a fixed-point iteration that gains two to three digits each
_EVENT_ROUNDS = 60


def constant_power(
    circuit: Circuit,
    state: State,
    power_w: ArrayLike,
    dt_s: ArrayLike,
    v_low: ArrayLike = 0.0,
    v_high: ArrayLike = np.inf,
) -> Moved:
    """Hold a power at the terminals for `dt_s`, or until `v_low`, `v_high`, charge 0 or 1, or a brown-out.

    Args:
        circuit: the rows at their temperatures.
        state: at the start; not changed.
        power_w: W, discharge > 0, 0 rests.
        dt_s: s, at least 0; at most 1e9 is followed.
        v_low, v_high: V, at the terminals; a row that starts beyond one does not move.
    """
    count = state.soc.size
    power, wanted, low, high = (
        np.broadcast_to(np.asarray(values, dtype=np.float64), (count,)) for values in (power_w, dt_s, v_low, v_high)
    )
    left = np.minimum(wanted, FOREVER_S).copy()
    soc, pair_v = state.soc.copy(), state.pair_v.copy()
    elapsed, chemical = np.zeros(count), np.zeros(count)
    stop = np.full(count, int(Stop.TIME))
    longest = np.full(count, np.inf)
    resting = np.flatnonzero(power == 0.0)
    if resting.size:
        rest = constant_current(
            circuit.take(resting), state.take(resting), 0.0, left[resting], low[resting], high[resting]
        )
        soc[resting], pair_v[:, resting] = rest.state
        elapsed[resting], stop[resting] = rest.elapsed_s, rest.stop
    rows = np.flatnonzero(power != 0.0)
    while rows.size:
        load = _load(circuit.take(rows), State(soc[rows], pair_v[:, rows]), power[rows], low[rows], high[rows])
        stop[rows] = load.stopped()
        going = np.flatnonzero((stop[rows] == Stop.TIME) & (left[rows] > 0.0))
        if going.size < rows.size:
            rows, load = rows[going], load.take(going)
            if not rows.size:
                break
        rate = np.abs(soc_rate(load.part, load.current(load.now)))
        room = np.abs(load.far - load.now.soc)
        with np.errstate(over="ignore", divide="ignore"):  # next to no power takes for ever, and inf says so
            to_far = room / rate
            most = np.minimum(_SOC_MAX / rate, np.maximum(_SPAN_MAX_S, _SLOW_SOC / rate))
        span = np.minimum(np.minimum(left[rows], longest[rows]), np.minimum(most, load.resolving_s()))
        span, at_knot = _to_knot(load, span, room, to_far)
        new, middle, error = _substep(load, span)
        retry = (error > 1.0) & (span > _SHORTEST_S)
        longest[rows] = np.where(at_knot & (error <= 1.0), longest[rows], span * _stretch(error))
        margin_middle, margin_end = load.margin(middle), load.margin(new)
        ends = np.flatnonzero(~retry & ((margin_end <= 0.0) | (margin_middle <= 0.0)))
        if ends.size:
            half = margin_middle[ends] <= 0.0
            at = _meeting(load.take(ends), np.where(half, 0.5 * span[ends], span[ends]))
            met, _, _ = _substep(load.take(ends), at)
            new.soc[ends], new.pair_v[:, ends], span[ends] = met.soc, met.pair_v, at
            at_knot[ends] = False
        kept = np.flatnonzero(~retry)
        done = rows[kept]
        new_soc = np.where(at_knot, load.far, new.soc)[kept]
        before = load.now.take(kept)
        gone_c = load.part.charge_c[kept] * (before.soc - new_soc)
        chemical[done] += gone_c * load.piece.take(kept).ocv_at(0.5 * (before.soc + new_soc))
        soc[done], pair_v[:, done] = new_soc, new.pair_v[:, kept]
        elapsed[done] += span[kept]
        left[done] = np.maximum(left[done] - span[kept], 0.0)
        stop[rows[ends]] = load.take(ends).kind()
        rows = rows[(left[rows] > 0.0) & (stop[rows] == Stop.TIME)]
    return Moved(State(soc, pair_v), elapsed, chemical, power * elapsed, stop)


def time_to_empty_s(circuit: Circuit, state: State, power_w: ArrayLike, v_low: ArrayLike) -> FloatArray:
    """Return when a held power first brings the terminals to `v_low`, or the cell to its limit; s, inf if never."""
    moved = constant_power(circuit, state, power_w, FOREVER_S, v_low)
    return np.where((moved.stop != Stop.TIME) & (moved.stop != Stop.V_HIGH), moved.elapsed_s, np.inf)


class _Load(NamedTuple):
    """Rows under their powers on their pieces, and the two levels of E = OCV - sum of v_k at which they stop."""

    part: Circuit
    now: State
    piece: Piece
    power_w: FloatArray
    far: FloatArray  # charge at the piece's end
    v_low: FloatArray
    v_high: FloatArray

    def take(self, rows: IntArray) -> _Load:
        return _Load(
            self.part.take(rows), self.now.take(rows), self.piece.take(rows), self.power_w[rows], self.far[rows],
            self.v_low[rows], self.v_high[rows],
        )  # fmt: skip

    def source(self, state: State) -> FloatArray:
        return np.asarray(self.piece.ocv_at(state.soc) - state.pair_v.sum(axis=0))

    def r0(self, state: State) -> FloatArray:
        return np.asarray(self.piece.ohm_at(state.soc)[0])

    def current(self, state: State) -> FloatArray:
        return current_for_power(self.source(state), self.r0(state), self.power_w)

    def resolving_s(self) -> FloatArray:
        """Return the substep that sees every pair settle that still moves charge by more than the error allowed, s.

        A substep much longer than a pair's time constant, and its halves, have their middles where the pair has
        settled: both leave out what it moves before, and their difference does not tell. The pair's distance from
        where it settles, R_k I - v_k, changes the current by about I / E of it for about tau_k.
        """
        amps, source = self.current(self.now), self.source(self.now)
        apart_v = np.abs(self.piece.ohm_at(self.now.soc)[1:] * amps - self.now.pair_v)
        moves = apart_v * np.abs(amps) * self.part.tau_s / np.maximum(source, 1e-3) / self.part.charge_c
        return np.asarray(np.where(moves > _SOC_ERROR, self.part.tau_s, np.inf).min(axis=0, initial=np.inf))

    def margins(self, state: State) -> tuple[FloatArray, FloatArray]:
        """Return how far E is above its low level and below its high one, V.

        V = (E + sqrt(E^2 - 4 R0 P)) / 2 is at least v just where E is at least v + R0 P / v, as long as v is at least
        sqrt(R0 P), the voltage of most power; below that the cell's limit 2 sqrt(R0 P) comes first.
        """
        source, r0 = self.source(state), self.r0(state)
        limit = np.sqrt(np.maximum(r0 * self.power_w, 0.0))
        strong = self.v_low > limit
        lowest = np.where(strong, self.v_low, 1.0)
        low = np.where(strong, lowest + r0 * self.power_w / lowest, 2.0 * limit)
        high = np.where(np.isfinite(self.v_high), self.v_high, 1.0)
        high = np.where(np.isfinite(self.v_high), high + r0 * self.power_w / high, np.inf)
        return source - low, high - source

    def margin(self, state: State) -> FloatArray:
        return np.minimum(*self.margins(state))

    def kind(self) -> IntArray:
        """Return which level a row stops at that meets one."""
        low, high = self.margins(self.now)
        weak = self.v_low <= np.sqrt(np.maximum(self.r0(self.now) * self.power_w, 0.0))
        discharge = np.where(weak, int(Stop.POWER), int(Stop.V_LOW))
        return np.where(self.power_w > 0.0, discharge, np.where(low <= high, int(Stop.V_LOW), int(Stop.V_HIGH)))

    def stopped(self) -> IntArray:
        low, high = self.margins(self.now)
        ends = ((self.power_w > 0.0) & (self.now.soc <= 0.0)) | ((self.power_w < 0.0) & (self.now.soc >= 1.0))
        weak = self.v_low <= np.sqrt(np.maximum(self.r0(self.now) * self.power_w, 0.0))
        low_kind = np.where(weak, int(Stop.POWER), int(Stop.V_LOW))
        rest = np.where(ends, int(Stop.SOC), int(Stop.TIME))
        return np.where(low <= 0.0, low_kind, np.where(high <= 0.0, int(Stop.V_HIGH), rest))


def _load(part: Circuit, now: State, power_w: FloatArray, v_low: FloatArray, v_high: FloatArray) -> _Load:
    piece = piece_of(part, now.soc, power_w < 0.0)
    far = np.where(power_w < 0.0, piece.soc + piece.width, piece.soc)
    return _Load(part, now, piece, power_w, far, v_low, v_high)


def _midpoint(load: _Load, state: State, span: FloatArray) -> State:
    first = load.current(state)
    tau = load.part.tau_s
    middle = carry(load.piece, tau, soc_rate(load.part, first), state, first, 0.5 * span)
    held = load.current(middle)
    return carry(load.piece, tau, soc_rate(load.part, held), state, held, span)


def _substep(load: _Load, span: FloatArray) -> tuple[State, State, FloatArray]:
    """Return the state after a substep and in its middle, and the error over what is allowed."""
    whole = _midpoint(load, load.now, span)
    middle = _midpoint(load, load.now, 0.5 * span)
    halves = _midpoint(load, middle, 0.5 * span)
    soc_off, volt_off = halves.soc - whole.soc, halves.pair_v - whole.pair_v
    worst_v = np.abs(volt_off).max(axis=0, initial=0.0)
    error = np.maximum(np.abs(soc_off) / _SOC_ERROR, worst_v / _VOLT_ERROR)
    return State(halves.soc + soc_off / 3.0, halves.pair_v + volt_off / 3.0), middle, error


def _stretch(error: FloatArray) -> FloatArray:
    """Return by how much the next substep may be longer; the local error goes with the cube of its length."""
    return np.asarray(np.clip(0.9 / np.cbrt(np.maximum(error, 1e-6)), 0.2, 4.0))


def _to_knot(load: _Load, span: FloatArray, room: FloatArray, to_knot: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Return the spans, cut where the knot ahead comes first (or nearly), and where that is so."""
    at_knot = to_knot <= 1.05 * span
    near = np.flatnonzero(at_knot)
    if near.size:
        close, space, time = load.take(near), room[near], to_knot[near]
        for _ in range(_KNOT_ROUNDS):
            new, _, _ = _substep(close, time)
            made = np.abs(new.soc - close.now.soc)
            # A row within rounding of its knot may not move at all: it is there.
            time = time * np.divide(space, made, out=np.ones_like(space), where=made > 0.0)
        reached = time <= span[near]
        at_knot[near] = reached
        span = span.copy()
        span[near] = np.where(reached, time, span[near])
    return span, at_knot


def _meeting(load: _Load, high: FloatArray) -> FloatArray:
    """Return when a row's margin meets 0 inside a substep, s: regula falsi (Illinois), each trial its own substep."""
    low = np.zeros_like(high)
    f_low = load.margin(load.now)
    f_high = load.margin(_substep(load, high)[0])
    side = np.zeros_like(high)
    at = high
    for _ in range(_EVENT_ROUNDS):
        share = np.divide(f_low, f_low - f_high, out=np.full_like(high, 0.5), where=f_low > f_high)
        at = low + np.clip(share, 0.0, 1.0) * (high - low)
        f = load.margin(_substep(load, at)[0])
        above = f > 0.0
        f_low = np.where(above, f, np.where(side < 0.0, 0.5 * f_low, f_low))
        f_high = np.where(above, np.where(side > 0.0, 0.5 * f_high, f_high), f)
        low, high = np.where(above, at, low), np.where(above, high, at)
        side = np.where(above, 1.0, -1.0)
        if ((np.abs(f) <= 1e-13) | (high - low <= 1e-15 * high)).all():
            break
    return at
