"""One cell as numbers: a Thevenin equivalent circuit with its heat. No law here.

v = OCV(s) - R0(s, T) I - sum of v_k, with dv_k/dt = (R_k(s, T) I - v_k) / tau_k and ds/dt = -I / Q; I > 0 is a
discharge. Resistances are tables over the state of charge at 25 C, linear between knots, times an Arrhenius factor of
the temperature: exp(Ea / R (1/T - 1/298.15 K)). Time constants do not depend on charge or temperature, so that one
decay factor a step serves every cell of a kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

GAS_J_MOL_K = 8.314462618  # CODATA 2018, exact
REFERENCE_K = 298.15
CELSIUS_K = 273.15  # of 0 C
# Cells are within about 1 mV/K (Viswanathan et al., J. Power Sources 195, 2010); more than 5 is a mistake of units.
ENTROPIC_MOST_V_PER_K = 0.005
PAIRS_LEAST, PAIRS_MOST = 2, 3  # of a cell that was fitted


@dataclass(frozen=True)
class Pair:
    """One resistor-capacitor pair.

    Attributes:
        tau_s: time constant, s.
        r_ohm: resistance at 25 C at the knots of `Cell.r_soc`, ohm.
        activation_j_mol: how its resistance follows temperature, J/mol.
        heat_share: share of its loss v_k I that becomes heat, besides the cell's own share, 0 to 1. A pair that stands
            for diffusion in particles makes little, as long as heat of mixing is left out (`models.battery.heat`).
    """

    tau_s: float
    r_ohm: tuple[float, ...]
    activation_j_mol: float
    heat_share: float = 1.0


@dataclass(frozen=True)
class Cell:
    """A cell; packs are strings of equal cells (`models.battery.packs`).

    Attributes:
        name: of the cell.
        chemistry: of its electrodes, e.g. ``nmc``, ``lco``, ``lfp``.
        source: where the numbers come from.
        capacity_ah: charge between state of charge 0 and 1, A.h.
        v_min: cut-off under load, V.
        v_max: end-of-charge voltage, V.
        ocv_soc: knots of the open-circuit curve, state of charge from 0 to 1, rising.
        ocv_v: open-circuit voltage at the knots, V, rising.
        r_soc: knots of all resistance tables, rising; held constant beyond the first and the last. A rule for
            charges below the last measured load is laid down as knots (experiments/calibration does).
        r0_ohm: ohmic resistance at 25 C at these knots, ohm.
        r0_activation_j_mol: how it follows temperature, J/mol.
        r0_knee_v: from about this voltage on, what R0 takes grows with the logarithm of the current (charge transfer,
            Butler and Volmer): knee asinh(R0 I / knee), V. None is a straight line. On a bench (`protocol`) only;
            elsewhere R0 is that of small currents.
        pairs: two or three RC pairs, fastest first; a stored cell has no other number (`stored_cell`). The laws hold
            for fewer, too: a cell with none is a plain resistance.
        coulomb_efficiency: share of the charge put in that can be taken out, 0 to 1.
        heat_share: share of (OCV - v) I that becomes heat, about 0.8 to 1, before the shares of the pairs.
        heat_j_per_k: heat capacity of the cell, J/K.
        cooling_w_per_k: conductance from the cell to ambient when it stands alone, W/K.
        charge_c_rate_max: largest charging current over capacity, 1/h.
        cutoff_c_rate: constant-voltage charging ends at this current over capacity, 1/h.
        entropic_soc: knots of the entropic table, rising, between 0 and 1; constant beyond the first and the last.
        entropic_v_per_k: how the open-circuit voltage follows temperature, dOCV/dT, at these knots, V/K. It makes heat
            only: the open-circuit curve is that of one temperature. Empty tables are a cell without it.

    Raises:
        ValueError: a number that is not finite or out of its range, knots that do not rise, tables of other lengths.
    """

    name: str
    chemistry: str
    source: str
    capacity_ah: float
    v_min: float
    v_max: float
    ocv_soc: tuple[float, ...]
    ocv_v: tuple[float, ...]
    r_soc: tuple[float, ...]
    r0_ohm: tuple[float, ...]
    r0_activation_j_mol: float
    pairs: tuple[Pair, ...]
    coulomb_efficiency: float = 1.0
    heat_share: float = 1.0
    heat_j_per_k: float = 45.0
    cooling_w_per_k: float = 0.05
    charge_c_rate_max: float = 1.0
    cutoff_c_rate: float = 0.05
    r0_knee_v: float | None = None
    entropic_soc: tuple[float, ...] = ()
    entropic_v_per_k: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _check(self)


def _check(cell: Cell) -> None:
    """Raise a ValueError that names the first field that cannot be; a cell that exists is a cell that can be run."""
    name = f"cell {cell.name!r}"
    for field, least, most in (
        ("capacity_ah", 1e-6, math.inf),
        ("v_min", 0.0, math.inf),
        ("v_max", cell.v_min, math.inf),
        ("r0_activation_j_mol", 0.0, 2e5),
        ("coulomb_efficiency", 0.5, 1.0),
        ("heat_share", 0.0, 2.0),
        ("heat_j_per_k", 1e-6, math.inf),
        ("cooling_w_per_k", 0.0, math.inf),
        ("charge_c_rate_max", 0.0, math.inf),
        ("cutoff_c_rate", 0.0, math.inf),
    ):
        value = getattr(cell, field)
        if not (math.isfinite(value) and least <= value <= most):
            raise ValueError(f"{name}: {field} is {value}; allowed: numbers from {least:g} to {most:g}")
    if cell.r0_knee_v is not None and not 0.01 <= cell.r0_knee_v <= 1e3:
        raise ValueError(f"{name}: r0_knee_v is {cell.r0_knee_v}; allowed: numbers from 0.01 to 1000, or none")
    _check_rising(f"{name}: ocv_soc", cell.ocv_soc)
    if len(cell.ocv_soc) < 2 or cell.ocv_soc[0] != 0.0 or cell.ocv_soc[-1] != 1.0:
        raise ValueError(f"{name}: ocv_soc has {len(cell.ocv_soc)} knots; allowed: two or more, from 0 to 1")
    _check_table(f"{name}: ocv_v", cell.ocv_v, len(cell.ocv_soc), "ocv_soc")
    _check_rising(f"{name}: ocv_v", cell.ocv_v)
    _check_rising(f"{name}: r_soc", cell.r_soc)
    if not cell.r_soc or cell.r_soc[0] < 0.0 or cell.r_soc[-1] > 1.0:
        raise ValueError(f"{name}: r_soc is {cell.r_soc}; allowed: one or more knots between 0 and 1")
    _check_table(f"{name}: r0_ohm", cell.r0_ohm, len(cell.r_soc), "r_soc")
    if len(cell.pairs) > PAIRS_MOST:
        raise ValueError(f"{name}: pairs has {len(cell.pairs)}; allowed: {PAIRS_MOST} at most")
    for index, pair in enumerate(cell.pairs):
        if not (math.isfinite(pair.tau_s) and pair.tau_s > 0.0):
            raise ValueError(f"{name}: pairs[{index}].tau_s is {pair.tau_s}; allowed: numbers above 0")
        if index and pair.tau_s < cell.pairs[index - 1].tau_s:
            before_s = cell.pairs[index - 1].tau_s
            raise ValueError(f"{name}: pairs[{index}].tau_s is {pair.tau_s} after {before_s}; allowed: fastest first")
        if not (math.isfinite(pair.activation_j_mol) and 0.0 <= pair.activation_j_mol <= 2e5):
            raise ValueError(f"{name}: pairs[{index}].activation_j_mol is {pair.activation_j_mol}; allowed: 0 to 2e5")
        if not (math.isfinite(pair.heat_share) and 0.0 <= pair.heat_share <= 1.0):
            raise ValueError(f"{name}: pairs[{index}].heat_share is {pair.heat_share}; allowed: 0 to 1")
        _check_table(f"{name}: pairs[{index}].r_ohm", pair.r_ohm, len(cell.r_soc), "r_soc")
    _check_entropic(name, cell)


def _check_entropic(name: str, cell: Cell) -> None:
    _check_rising(f"{name}: entropic_soc", cell.entropic_soc)
    if cell.entropic_soc and not 0.0 <= cell.entropic_soc[0] <= cell.entropic_soc[-1] <= 1.0:
        raise ValueError(f"{name}: entropic_soc is {cell.entropic_soc}; allowed: knots between 0 and 1")
    found, wanted = len(cell.entropic_v_per_k), len(cell.entropic_soc)
    if found != wanted:
        raise ValueError(f"{name}: entropic_v_per_k has {found} values; allowed: {wanted}, one a knot of entropic_soc")
    for index, value in enumerate(cell.entropic_v_per_k):
        if not abs(value) <= ENTROPIC_MOST_V_PER_K:
            raise ValueError(
                f"{name}: entropic_v_per_k[{index}] is {value}; allowed: numbers within {ENTROPIC_MOST_V_PER_K:g}"
            )


def _check_rising(label: str, knots: Sequence[float]) -> None:
    for index, value in enumerate(knots):
        if not math.isfinite(value):
            raise ValueError(f"{label}[{index}] is {value}; allowed: finite numbers")
        if index and value <= knots[index - 1]:
            raise ValueError(f"{label}[{index}] is {value} after {knots[index - 1]}; allowed: numbers that rise")


def _check_table(label: str, values: Sequence[float], length: int, knots: str) -> None:
    if len(values) != length:
        raise ValueError(f"{label} has {len(values)} values; allowed: {length}, one for each knot of {knots}")
    for index, value in enumerate(values):
        if not (math.isfinite(value) and value > 0.0):
            raise ValueError(f"{label}[{index}] is {value}; allowed: numbers above 0")
