"""A battery between a load and a charger over an interval: which law holds, and when it gives way to the next.

What is left of the charger after the device's own draw charges the cell at the least of three currents: the cell's
limit (constant current), what that power gives (constant power), what v_max lets through (constant voltage: the taper),
down to the cut-off current. Each change is an event of the law before it; nothing is stepped.
"""

from __future__ import annotations

import numpy as np

from models.arrays import ArrayLike, FloatArray, IntArray
from models.battery.circuit import Circuit, Moved, State, Stop, resistances_ohm, source_v
from models.battery.constant_current import constant_current
from models.battery.constant_power import constant_power
from models.battery.constant_voltage import constant_voltage

# Chargers refuse a lithium cell outside this range (JEITA guideline, 2007; the usual phone limits).
CHARGE_MIN_C, CHARGE_MAX_C = 0.0, 45.0
_SLACK_V = 1e-9  # between leaving a law for power and coming back, so that rounding makes no ping-pong
_CHANGES_MAX = 100
_LOOK_S = 15.0  # of a taper near empty that is looked at once
_HALVINGS = 50  # of that while: to rounding


def advance(
    circuit: Circuit, state: State, power_w: ArrayLike, dt_s: ArrayLike, current_max_a: ArrayLike = np.inf
) -> Moved:
    """Advance cells by `dt_s` under a power each: above 0 drawn from the cell, below 0 offered to it, 0 rest.

    A discharge stops at `v_min` under load, empty, or at a brown-out; a charge stops when constant voltage asks for no
    more than the cut-off current, and does not begin below 0 C or above 45 C. Whatever stopped, the cell rests for what
    is left of the interval. Splitting the interval changes rounding (and 1e-6 on constant power) up to that stop; a
    later call begins anew, so that a cell that has recovered is used again: whether it should be is its user's rule.

    Args:
        circuit: the rows at their temperatures.
        state: at the start; not changed.
        power_w: W, of one cell.
        dt_s: s, at least 0, finite.
        current_max_a: largest charging current, A; at most the cell's own limit holds.

    Returns:
        Moved: the state after all of `dt_s`; `elapsed_s` and the energies are of the time in use.
    """
    count = state.soc.size
    power, length = (np.broadcast_to(np.asarray(values, dtype=np.float64), (count,)) for values in (power_w, dt_s))
    cell = circuit.cell
    may_charge = (circuit.temp_c >= CHARGE_MIN_C) & (circuit.temp_c <= CHARGE_MAX_C)
    own_limit_a = cell.charge_c_rate_max * circuit.charge_c / 3600.0
    limit_a = np.minimum(np.broadcast_to(np.asarray(current_max_a, dtype=np.float64), (count,)), own_limit_a)
    soc, pair_v = state.soc.copy(), state.pair_v.copy()
    elapsed, chemical, terminal = np.zeros(count), np.zeros(count), np.zeros(count)
    stop = np.full(count, int(Stop.TIME))

    def put(rows: IntArray, moved: Moved) -> None:
        soc[rows], pair_v[:, rows] = moved.state
        elapsed[rows] += moved.elapsed_s
        chemical[rows] += moved.chemical_j
        terminal[rows] += moved.terminal_j
        stop[rows] = moved.stop

    drawing = np.flatnonzero(power > 0.0)
    if drawing.size:
        part, now = circuit.take(drawing), state.take(drawing)
        put(drawing, constant_power(part, now, power[drawing], length[drawing], cell.v_min))
    rows = np.flatnonzero((power < 0.0) & may_charge & (limit_a > 0.0))
    for _ in range(_CHANGES_MAX):
        if not rows.size:
            break
        part, now = circuit.take(rows), State(soc[rows], pair_v[:, rows])
        left = np.maximum(length[rows] - elapsed[rows], 0.0)
        law = _law(part, now, -power[rows], limit_a[rows])
        change_v = -power[rows] / limit_a[rows]  # where the current limit and the power give the same current
        for which in range(3):
            mine = np.flatnonzero(law == which)
            if not mine.size:
                continue
            at, some, its = rows[mine], part.take(mine), now.take(mine)
            if which == 0:
                put(at, _taper(some, its, -power[at], limit_a[at], left[mine], elapsed[at]))
            elif which == 1:
                until = np.minimum(cell.v_max, change_v[mine] + _SLACK_V)
                put(at, constant_current(some, its, -limit_a[at], left[mine], -np.inf, until))
            else:
                back = np.maximum(change_v[mine] - _SLACK_V, 0.0)
                put(at, constant_power(some, its, power[at], left[mine], back, cell.v_max))
        changed = (stop[rows] == Stop.V_LOW) | (stop[rows] == Stop.V_HIGH)
        changed |= (stop[rows] == Stop.TIME) & (law == 0)  # a taper that was only looked at for a while
        rows = rows[changed & (elapsed[rows] < length[rows])]
    else:
        raise AssertionError(f"charging changes its law more than {_CHANGES_MAX} times: rows {rows[:5]}")
    idle = np.flatnonzero(elapsed < length)
    if idle.size:
        resting = constant_current(circuit.take(idle), State(soc[idle], pair_v[:, idle]), 0.0, (length - elapsed)[idle])
        soc[idle], pair_v[:, idle] = resting.state
    stop = np.where((stop == Stop.V_LOW) & (power < 0.0) | (stop == Stop.V_HIGH), int(Stop.TIME), stop)
    return Moved(State(soc, pair_v), elapsed, chemical, terminal, stop)


def _taper(
    part: Circuit, now: State, offered_w: FloatArray, limit_a: FloatArray, left_s: FloatArray, elapsed_s: FloatArray
) -> Moved:
    """Hold v_max: down to the cut-off current, or until the limit or the charger's power gives less current again.

    That happens near empty, where resistance falls with charge faster than the open-circuit voltage climbs. As long as
    it may, only a while is looked at, longer as time passes; where the current has then grown past the others, the
    moment is bisected. Cutting a taper changes rounding only.
    """
    cell, end_a = part.cell, part.cell.cutoff_c_rate * part.charge_c / 3600.0
    falls_until = np.max(np.asarray(cell.r_soc)[1:][np.diff(cell.r0_ohm) < 0.0], initial=0.0)
    span = np.where(now.soc < falls_until, np.minimum(left_s, _LOOK_S + 0.25 * elapsed_s), left_s)
    moved = constant_voltage(part, now, cell.v_max, span, end_a)
    over = np.flatnonzero(_law(part, moved.state, offered_w, limit_a) != 0)
    if not over.size:
        return moved
    some, its = part.take(over), now.take(over)
    low, high = np.zeros(over.size), moved.elapsed_s[over]
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        state = constant_voltage(some, its, cell.v_max, middle, end_a[over]).state
        held = _law(some, state, offered_w[over], limit_a[over]) == 0
        low, high = np.where(held, middle, low), np.where(held, high, middle)
    part_way = constant_voltage(some, its, cell.v_max, high, end_a[over])
    for whole, cut in zip(moved[1:4], part_way[1:4], strict=True):
        whole[over] = cut
    moved.state.soc[over], moved.state.pair_v[:, over] = part_way.state
    moved.stop[over] = int(Stop.V_LOW)
    return moved


def _law(part: Circuit, now: State, offered_w: FloatArray, limit_a: FloatArray) -> IntArray:
    """Return which current is the least: 0 constant voltage, 1 the limit, 2 the power's."""
    source, r0_ohm = source_v(part, now), resistances_ohm(part, now.soc)[0]
    by_voltage = (part.cell.v_max - source) / r0_ohm
    by_power = 2.0 * offered_w / (source + np.sqrt(source**2 + 4.0 * r0_ohm * offered_w))
    least = np.minimum(limit_a, by_power)
    # At v_max both are equal but for rounding: the voltage holds.
    return np.where(by_voltage <= least * (1.0 + 1e-7), 0, np.where(limit_a <= by_power, 1, 2))
