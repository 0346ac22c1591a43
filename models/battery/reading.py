"""The battery of many devices over one reading interval: one exponential-midpoint step, elementwise.

The circuit is that of `models.battery.circuit`, cut to what an interval of a minute can resolve: the slowest RC pair
is kept, and faster ones, which settle within the interval, are counted in R0. All devices advance by one fixed
interval, so that decay factors are computed once (`rows`), tables lie on an even grid of charge (no search), and the
order is fixed: coefficients frozen at the interval's start, current at its middle, state at its end. On constant power
that is the exponential-midpoint rule with one substep; constant voltage is held at the middle, too (implicit, so that
no interval is too long for it). The heat of entropy is left out: it comes back over a cycle, and no cell of
`models.battery.packs` has a table of it. Runs under NumPy and jax.numpy alike; no row sees another.

The tests measure what that costs: against the circuit with every pair, and against half the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from models.battery.cell import CELSIUS_K, GAS_J_MOL_K, REFERENCE_K, Cell

Array = Any  # of NumPy or JAX, one element a device

INTERVALS = 200  # of the even grid of charge: cells' own tables have 15 to 40 knots
ENTRIES = INTERVALS + 1
# Chargers refuse a lithium cell outside this range and give it less near its ends (JEITA guideline, 2007; phones taper
# above about 40 C). That the current falls on a straight line is an assumption.
CHARGE_MIN_C, CHARGE_MAX_C = 0.0, 45.0
COLD_TAPER_K, HOT_TAPER_K = 10.0, 5.0


class Tables(NamedTuple):
    """Cells' curves on an even grid, one cell after another; entry ``cell * ENTRIES + i`` is of interval i.

    The last entry of a cell repeats its last interval, for a charge of exactly 1.

    Attributes:
        ocv_at_zero_v, ocv_slope_v: the interval's open-circuit line: its value at charge 0, V, and its rise to 1, V.
        r0_ohm: resistance that acts at once, at 25 C in the interval's middle, ohm.
        r_ohm: resistance of the slow pair, the same.
    """

    ocv_at_zero_v: Array
    ocv_slope_v: Array
    r0_ohm: Array
    r_ohm: Array


class Rows(NamedTuple):
    """What is fixed about each device's cells for one interval length; one element a device.

    Attributes:
        first: first entry of the cell in `Tables`, an integer.
        soc_per_a: charge moved by 1 A over the interval, as a share of the cell's.
        v_min, v_max: cut-off under load and charging voltage, V.
        current_min_a: the largest charging current, < 0, A.
        activation_k, activation_at_25c: activation energy of R0 over the gas constant, K, taken for the pair as well;
            and that over 25 C.
        half, whole: what is left of the slow pair's voltage after half and the whole interval.
        rise_half, rise_whole: one less that.
        heat_share, slow_heat_share: share of heat of what acts at once loses, and of what the slow pair loses.
        full_soc: charge at which charging ends: the owner's limit, or where constant voltage would be down to the
            cut-off current at 25 C.
        a_per_soc: one over `soc_per_a`.
        half_min_v: a quarter of v_min: the least half of a voltage that a current is found from.
    """

    first: Array
    soc_per_a: Array
    v_min: Array
    v_max: Array
    current_min_a: Array
    activation_k: Array
    activation_at_25c: Array
    half: Array
    whole: Array
    rise_half: Array
    rise_whole: Array
    heat_share: Array
    slow_heat_share: Array
    full_soc: Array
    a_per_soc: Array
    half_min_v: Array


class Charge(NamedTuple):
    """What changes, one element a device: charge (0 to 1) and the slow pair's voltage (V)."""

    soc: Array
    relaxing_v: Array


class Flow(NamedTuple):
    """What one cell did, means over the interval.

    Attributes:
        current_a: out of the cell, A.
        power_w: at its terminals, W.
        heat_w: heat in it, W.
        cut: it could not carry its load to the end: below v_min, empty, or asked for more than it can give.
    """

    current_a: Array
    power_w: Array
    heat_w: Array
    cut: Array


def tables(cells: Sequence[Cell]) -> Tables:
    """Lay cells' tables on the even grid; linear between knots, held beyond the first and the last."""
    edges = np.linspace(0.0, 1.0, INTERVALS + 1)
    middles = 0.5 * (edges[1:] + edges[:-1])
    zero_v, slope_v, at_once, slow = [], [], [], []
    for cell in cells:
        volts = np.interp(edges, cell.ocv_soc, cell.ocv_v)
        slope_v.append(np.diff(volts) * INTERVALS)
        zero_v.append(volts[:-1] - slope_v[-1] * edges[:-1])
        fast = [pair.r_ohm for pair in cell.pairs[:-1]]
        at_once.append(np.interp(middles, cell.r_soc, np.sum([cell.r0_ohm, *fast], axis=0)))
        slow.append(np.interp(middles, cell.r_soc, cell.pairs[-1].r_ohm))
    return Tables(
        *(np.concatenate([np.append(one, one[-1]) for one in values]) for values in (zero_v, slope_v, at_once, slow))
    )


def rows(
    cells: Sequence[Cell], which: Array, dt_s: float, *, charge_limit_soc: Array = 1.0, capacity_left: Array = 1.0
) -> Rows:
    """Gather each device's cell for intervals of ``dt_s``; once a chunk.

    Args:
        cells: as given to `tables`.
        which: number of each device's cell, integers.
        dt_s: length of the interval, s.
        charge_limit_soc: the owner's limit of charging.
        capacity_left: share of the new cell's capacity left by ageing.
    """

    def of(values: Sequence[float]) -> Array:
        return np.array(values, dtype=np.float64)[which]

    capacity_ah = of([c.capacity_ah for c in cells]) * capacity_left
    activation_k = of([c.r0_activation_j_mol / GAS_J_MOL_K for c in cells])
    half, whole = (of([np.exp(-length_s / c.pairs[-1].tau_s) for c in cells]) for length_s in (0.5 * dt_s, dt_s))
    return Rows(
        first=np.asarray(which, dtype=np.int64) * ENTRIES,
        soc_per_a=dt_s / (3600.0 * capacity_ah),
        v_min=of([c.v_min for c in cells]),
        v_max=of([c.v_max for c in cells]),
        current_min_a=-capacity_ah * of([c.charge_c_rate_max for c in cells]),
        activation_k=activation_k,
        activation_at_25c=activation_k / REFERENCE_K,
        half=half,
        whole=whole,
        rise_half=1.0 - half,
        rise_whole=1.0 - whole,
        heat_share=of([_heat_share(c) for c in cells]),
        slow_heat_share=of([c.heat_share * c.pairs[-1].heat_share for c in cells]),
        full_soc=np.minimum(of([_full_soc(c) for c in cells]), charge_limit_soc),
        a_per_soc=3600.0 * capacity_ah / dt_s,
        half_min_v=0.25 * of([c.v_min for c in cells]),
    )


def _heat_share(cell: Cell) -> float:
    """Return the share of heat of what acts at once: R0's and the fast pairs', each by its resistance half charged."""
    fast = cell.pairs[:-1]
    ohm = [np.interp(0.5, cell.r_soc, r) for r in (cell.r0_ohm, *(pair.r_ohm for pair in fast))]
    return float(cell.heat_share * np.average([1.0, *(pair.heat_share for pair in fast)], weights=ohm))


def _full_soc(cell: Cell) -> float:
    """Return the charge at which a charger at v_max gives the cut-off current, everything settled, at 25 C."""
    soc = np.linspace(0.0, 1.0, 10_001)
    ohm = np.sum([np.interp(soc, cell.r_soc, r) for r in (cell.r0_ohm, *(p.r_ohm for p in cell.pairs))], axis=0)
    volts = np.interp(soc, cell.ocv_soc, cell.ocv_v) + cell.cutoff_c_rate * cell.capacity_ah * ohm
    return float(soc[np.argmax(volts >= cell.v_max)]) if np.any(volts >= cell.v_max) else 1.0


def lines_at(table: Tables, row: Rows, soc: Array, xp: Any = np) -> Tables:
    """Return what the tables say of the interval that each charge is in; one that is no charge gets some interval's."""
    place = (soc * INTERVALS).astype(xp.int64) + row.first
    return Tables(*(xp.take(column, place, mode="clip") for column in table))


class _Frozen(NamedTuple):
    """Coefficients, held from the interval's start.

    At its middle, under a current I: open circuit less I sag, the pair's voltage slack + I give.
    """

    ocv_v: Array
    slope_v: Array
    r0: Array
    r: Array
    sag: Array
    slack_v: Array
    give: Array


def _frozen(lines: Tables, row: Rows, state: Charge, temp_c: Array, xp: Any) -> _Frozen:
    slope_v = lines.ocv_slope_v
    ocv_v = slope_v * state.soc
    ocv_v += lines.ocv_at_zero_v
    exponent = row.activation_k / (temp_c + CELSIUS_K)
    exponent -= row.activation_at_25c
    warmth = xp.exp(exponent)
    r = lines.r_ohm * warmth
    return _Frozen(
        ocv_v=ocv_v,
        slope_v=slope_v,
        r0=lines.r0_ohm * warmth,
        r=r,
        sag=(0.5 * row.soc_per_a) * slope_v,
        slack_v=state.relaxing_v * row.half,
        give=r * row.rise_half,
    )


def advance(
    table: Tables, row: Rows, state: Charge, power_w: Array, temp_c: Array, xp: Any = np
) -> tuple[Charge, Flow]:
    """Advance every cell by the interval that ``row`` was made for, with power and temperature held.

    Args:
        power_w: net power out of one cell, W; negative is what a charger has left over for it.
        temp_c: temperature of the cells at the interval's start, C.
        xp: numpy or jax.numpy.
    """
    soc, lines = state.soc, lines_at(table, row, state.soc, xp)
    ocv_v, slope_v, r0, r, sag, slack_v, give = _frozen(lines, row, state, temp_c, xp)

    # Charging takes the least of what the charger has left over, the current limit, what holds the middle at v_max, and
    # what is left to the full charge: a floor under the current, which no discharge comes near.
    ohm = sag + give
    ohm += r0
    held_a = ocv_v - slack_v
    held_a -= row.v_max
    held_a /= ohm
    hot = CHARGE_MAX_C - temp_c
    hot *= 1.0 / HOT_TAPER_K
    cold = temp_c - CHARGE_MIN_C
    cold *= 1.0 / COLD_TAPER_K
    limit_a = row.current_min_a * xp.minimum(xp.minimum(hot, cold), 1.0)
    room_a = soc - row.full_soc
    room_a *= row.a_per_soc
    floor_a = xp.minimum(xp.maximum(xp.maximum(held_a, limit_a), room_a), 0.0)

    # The current at the middle; a first guess of it, at no loss, says where the middle is.
    guess_a = xp.maximum(power_w / (ocv_v - state.relaxing_v), floor_a)
    slow_v = give * guess_a
    slow_v += slack_v
    sag *= guess_a
    middle_v = ocv_v - sag
    middle_v -= slow_v
    # I = (E - sqrt(E^2 - 4 R P)) / 2 R without its cancellation. Past the largest power the root is taken as 0: the
    # voltage under load is then half of E, and the cell is cut off. So it is where its pairs hold it down below half
    # of its cut-off: E is taken from there, which keeps a current finite that no circuit would carry.
    half_v = xp.maximum(0.5 * middle_v, row.half_min_v)
    root_v = half_v * half_v
    root_v -= r0 * power_w
    half_v += xp.sqrt(xp.maximum(root_v, 0.0))
    current_a = xp.maximum(power_w / half_v, floor_a)

    at_once_v = r0 * current_a
    moved = current_a * row.soc_per_a
    r *= row.rise_whole
    r *= current_a
    relaxing_v = state.relaxing_v * row.whole
    relaxing_v += r
    slope_v = slope_v * moved
    end_v = ocv_v - slope_v
    end_v -= relaxing_v
    end_v -= at_once_v
    end_soc = soc - moved
    cut = (end_v < row.v_min) | (end_soc <= 0.0)
    charge = Charge(xp.minimum(xp.maximum(end_soc, 0.0), 1.0), relaxing_v)
    middle_v -= at_once_v
    middle_v *= current_a
    at_once_v *= row.heat_share
    slow_v *= row.slow_heat_share
    at_once_v += slow_v
    at_once_v *= current_a
    return charge, Flow(current_a, power_w=middle_v, heat_w=at_once_v, cut=cut)
