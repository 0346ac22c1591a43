"""The Thevenin circuit: its state, its coefficients at a charge and a temperature, and what its terminals show.

v = OCV(s) - sum of v_k - R0(s, T) I,   ds/dt = -I / Q,   dv_k/dt = (R_k(s, T) I - v_k) / tau_k,   I > 0 discharges.
(Plett, Battery Management Systems I, 2015, chapter 2.) The laws that move the state are in constant_current,
constant_voltage and constant_power; here are only the things that they share. Everything is elementwise: one cell a
row, rows of one kind of cell together, resistor-capacitor pairs along the first axis.

Tables are straight between knots and constant beyond the first and the last. A temperature is frozen for as long as a
`Circuit` is used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from models.arrays import ArrayLike, BoolArray, FloatArray, IntArray
from models.battery.cell import CELSIUS_K, GAS_J_MOL_K, REFERENCE_K, Cell

# Rows that are asked for a time "for ever" are followed this long: 32 years.
FOREVER_S = 1e9
# Voltages no further apart than this are equal: sums of a few volts carry a few 1e-16 each.
ROUNDING_V = 1e-12
# On constant voltage resistances are frozen on pieces of at most this width (constant_voltage says why).
_FINE_SOC = 0.01


class Stop(IntEnum):
    """Why a row came to its end.

    TIME: the time asked for is over. V_LOW, V_HIGH: the terminals met a voltage. CURRENT: a constant voltage asked
    for no more than the cut-off current. SOC: charge met 0 or 1. POWER: the cell cannot give that power (brown-out).
    """

    TIME = 0
    V_LOW = 1
    V_HIGH = 2
    CURRENT = 3
    SOC = 4
    POWER = 5


class State(NamedTuple):
    """Electric state: `soc` (rows), 0 to 1, and the voltage over each pair, `pair_v` (pairs, rows), V."""

    soc: FloatArray
    pair_v: FloatArray

    def take(self, rows: IntArray | BoolArray) -> State:
        """Return these rows."""
        return State(self.soc[rows], self.pair_v[:, rows])


class Moved(NamedTuple):
    """What a law did with each row.

    Attributes:
        state: at the end.
        elapsed_s: how long the row moved, s; less than asked for where it stopped.
        chemical_j: energy out of the chemistry, the integral of OCV over the charge that left, J.
        terminal_j: energy out of the terminals, J.
        stop: a `Stop` a row.
    """

    state: State
    elapsed_s: FloatArray
    chemical_j: FloatArray
    terminal_j: FloatArray
    stop: IntArray


class Tables(NamedTuple):
    """A cell's curves on one grid of charge: every knot of OCV and of resistance is a knot here.

    `ohm` (1 + pairs, knots) holds R0 and then each R_k at 25 C.
    """

    soc: FloatArray
    ocv_v: FloatArray
    ohm: FloatArray


@dataclass(frozen=True)
class Circuit:
    """Rows of one kind of cell, each at its own temperature and age.

    Attributes:
        cell: the kind.
        tables: its curves; `fine` the same on a finer grid.
        tau_s: (pairs, 1), s.
        charge_c: (rows), charge between 0 and 1, coulomb.
        factor: (1 + pairs, rows), resistance over its value at 25 C when new.
        temp_c: (rows), C.
    """

    cell: Cell
    tables: Tables
    fine: Tables
    tau_s: FloatArray
    charge_c: FloatArray
    factor: FloatArray
    temp_c: FloatArray

    def take(self, rows: IntArray | BoolArray) -> Circuit:
        """Return these rows."""
        return Circuit(
            self.cell, self.tables, self.fine, self.tau_s, self.charge_c[rows], self.factor[:, rows], self.temp_c[rows]
        )


class Piece(NamedTuple):
    """The stretch of charge between two knots that each row is on; all curves are straight there.

    Attributes:
        soc, width: lower knot and length.
        ocv_v, ocv_slope: OCV at the lower knot and its rise, V per unit of charge.
        ohm, ohm_slope: (1 + pairs, rows) likewise, at the row's temperature.
    """

    soc: FloatArray
    width: FloatArray
    ocv_v: FloatArray
    ocv_slope: FloatArray
    ohm: FloatArray
    ohm_slope: FloatArray

    def ocv_at(self, soc: FloatArray) -> FloatArray:
        """Return OCV on the piece's line, V."""
        return self.ocv_v + self.ocv_slope * (soc - self.soc)

    def ohm_at(self, soc: FloatArray) -> FloatArray:
        """Return (1 + pairs, rows) resistances on the piece's lines, ohm."""
        return self.ohm + self.ohm_slope * (soc - self.soc)

    def take(self, rows: IntArray | BoolArray) -> Piece:
        """Return these rows."""
        return Piece(*(values[..., rows] for values in self))


@lru_cache(maxsize=256)
def tables(cell: Cell) -> tuple[Tables, Tables]:
    """Return a cell's curves on the union of its knots, and on that grid cut to at most 1 % of charge."""
    coarse = np.union1d(np.asarray(cell.ocv_soc), np.asarray(cell.r_soc))
    cuts = [
        np.linspace(low, high, max(1, int(np.ceil((high - low) / _FINE_SOC - 1e-9))), endpoint=False)
        for low, high in pairwise(coarse)
    ]
    fine = np.append(np.concatenate(cuts), coarse[-1])
    return _on_grid(cell, coarse), _on_grid(cell, fine)


def circuit(
    cell: Cell, temp_c: ArrayLike, capacity_share: ArrayLike = 1.0, resistance_share: ArrayLike = 1.0
) -> Circuit:
    """Return rows of a cell at these temperatures and ages (flat arrays of one common length).

    Args:
        temp_c: cell temperature, C.
        capacity_share: capacity over that of the new cell.
        resistance_share: resistance over that of the new cell at the same temperature.

    Raises:
        ValueError: a temperature or share that is no possible number.
    """
    temperature, capacity, growth = (
        np.atleast_1d(np.asarray(values, dtype=np.float64)) for values in (temp_c, capacity_share, resistance_share)
    )
    for name, values, least in (
        ("temp_c", temperature, -100.0), ("capacity_share", capacity, 1e-6), ("resistance_share", growth, 1e-6)
    ):  # fmt: skip
        good = np.isfinite(values) & (values >= least)
        if not good.all():
            row = int(np.flatnonzero(~good)[0])
            raise ValueError(f"{name} of row {row} is {values[row]}; allowed: finite numbers from {least:g} up")
    temperature, capacity, growth = np.broadcast_arrays(temperature, capacity, growth)
    coarse, fine = tables(cell)
    activation = np.array([cell.r0_activation_j_mol] + [pair.activation_j_mol for pair in cell.pairs])
    inverse_k = 1.0 / (temperature + CELSIUS_K) - 1.0 / REFERENCE_K
    return Circuit(
        cell=cell,
        tables=coarse,
        fine=fine,
        tau_s=np.array([pair.tau_s for pair in cell.pairs]).reshape(-1, 1),
        charge_c=cell.capacity_ah * 3600.0 * capacity,
        factor=growth * np.exp(activation[:, None] / GAS_J_MOL_K * inverse_k),
        temp_c=temperature,
    )


def rested(cell: Cell, soc: ArrayLike) -> State:
    """Return the state of cells that have rested for long at these charges, 0 to 1."""
    charge = np.atleast_1d(np.asarray(soc, dtype=np.float64))
    good = (charge >= 0.0) & (charge <= 1.0)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise ValueError(f"soc of row {row} is {charge[row]}; allowed: numbers from 0 to 1")
    return State(charge.copy(), np.zeros((len(cell.pairs), charge.size)))


def open_v(cell: Cell, soc: ArrayLike) -> FloatArray:
    """Return the open-circuit voltage, V."""
    return np.asarray(np.interp(np.asarray(soc, dtype=np.float64), cell.ocv_soc, cell.ocv_v))


def resistances_ohm(rows: Circuit, soc: FloatArray) -> FloatArray:
    """Return (1 + pairs, rows): R0 and each R_k at the rows' charge and temperature, ohm."""
    at_25c = [np.interp(soc, rows.tables.soc, values) for values in rows.tables.ohm]
    return np.asarray(rows.factor * np.stack(at_25c))


def source_v(rows: Circuit, state: State) -> FloatArray:
    """Return what drives the terminals through R0: OCV less the voltage over the pairs, V."""
    return np.asarray(np.interp(state.soc, rows.tables.soc, rows.tables.ocv_v) - state.pair_v.sum(axis=0))


def terminal_v(rows: Circuit, state: State, current_a: ArrayLike) -> FloatArray:
    """Return the terminal voltage under a current, V."""
    return np.asarray(source_v(rows, state) - resistances_ohm(rows, state.soc)[0] * np.asarray(current_a))


def current_for_power(source: FloatArray, r0_ohm: FloatArray, power_w: FloatArray) -> FloatArray:
    """Return I = (E - sqrt(E^2 - 4 R0 P)) / (2 R0), A; where the root is complex, the current of most power."""
    root = np.sqrt(np.maximum(source**2 - 4.0 * r0_ohm * power_w, 0.0))
    return np.asarray(2.0 * power_w / (source + root))  # the same root, without the cancellation at small P


def with_knee(rows: Circuit, r0_current_v: FloatArray) -> Circuit:
    """Return the rows with R0 frozen where its curve is for a load: knee asinh(x) / x times itself, x = R0 I / knee.

    Two electrodes alike, each 2 R T / F asinh(I / 2 I0), together have a knee of 4 R T / F = 0.1 V; resistance that is
    straight (electrolyte, foils) moves it up. The curve is that of `Cell.r0_knee_v`; without one the rows are returned.

    Args:
        rows: at their temperatures.
        r0_current_v: R0 I of small currents, I the current now, V.
    """
    knee_v = rows.cell.r0_knee_v
    if knee_v is None:
        return rows
    over = np.abs(r0_current_v) / knee_v
    share = np.divide(np.arcsinh(over), over, out=np.ones_like(over), where=over > 1e-9)
    return replace(rows, factor=np.concatenate([rows.factor[:1] * share, rows.factor[1:]]))


def piece_of(rows: Circuit, soc: FloatArray, rising: BoolArray, fine: bool = False) -> Piece:
    """Return the piece each row is on; a row on a knot is on the piece that it is about to enter."""
    grid = rows.fine if fine else rows.tables
    above = np.searchsorted(grid.soc, soc, side="right") - 1
    below = np.searchsorted(grid.soc, soc, side="left") - 1
    low = np.clip(np.where(rising, above, below), 0, grid.soc.size - 2)
    width = grid.soc[low + 1] - grid.soc[low]
    ohm = rows.factor * grid.ohm[:, low]
    return Piece(
        soc=grid.soc[low],
        width=width,
        ocv_v=grid.ocv_v[low],
        ocv_slope=(grid.ocv_v[low + 1] - grid.ocv_v[low]) / width,
        ohm=ohm,
        ohm_slope=(rows.factor * grid.ohm[:, low + 1] - ohm) / width,
    )


def soc_rate(rows: Circuit, current_a: FloatArray) -> FloatArray:
    """Return ds/dt, 1/s; of the charge that goes in, the cell keeps its Coulomb efficiency."""
    kept = np.where(current_a < 0.0, rows.cell.coulomb_efficiency, 1.0)
    return np.asarray(-current_a * kept / rows.charge_c)


def carry(
    piece: Piece, tau_s: FloatArray, rate: FloatArray, state: State, current_a: FloatArray, dt_s: FloatArray
) -> State:
    """Return the state after `dt_s` of constant current on one piece: exact, as R_k(s(t)) is straight in time.

    With R_k = r + rho t, v_k(t) = v_k(0) e + I ((r - rho tau) (1 - e) + rho t), e = exp(-t / tau).
    """
    ohm, climb = piece.ohm_at(state.soc)[1:], piece.ohm_slope[1:] * rate
    settled = current_a * (ohm - climb * tau_s)
    pair_v = state.pair_v - (settled - state.pair_v) * np.expm1(-dt_s / tau_s) + current_a * climb * dt_s
    return State(state.soc + rate * dt_s, pair_v)


def _on_grid(cell: Cell, grid: FloatArray) -> Tables:
    knots = np.asarray(cell.r_soc)
    columns = [cell.r0_ohm] + [pair.r_ohm for pair in cell.pairs]
    ohm = np.stack([np.interp(grid, knots, np.asarray(values)) for values in columns])
    return Tables(grid, np.interp(grid, cell.ocv_soc, cell.ocv_v), ohm)
