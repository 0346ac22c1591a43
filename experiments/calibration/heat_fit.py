"""What warms a cell, fitted to measured temperatures under its fitted circuit: shares of pairs, and entropy.

The law is that of `models.battery.heat`: C dT/dt = (R0 I + sum of share_k v_k) I - I T dOCV/dT - G (T - ambient). What
the cell loses at once is taken to be all heat, OCV - sum of v_k - v with the measured v. Fitted are the share of each
pair, between 0 and 1, and the entropic table, straight between knots; heat capacity and conductance only where not
given. Slow discharges at several temperatures are no measure of the table: even at C/50 what resistance loses, less
when warm, moves them by 0.1 to 0.4 mV/K.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from experiments.calibration.cells_io import Course, Given
from experiments.calibration.circuit_fit import pair_steps
from experiments.fitting import fit, independent_count
from models.battery.cell import CELSIUS_K, Cell
from models.battery.circuit import circuit, resistances_ohm

# A 21700 cell: 65 g at about 0.95 kJ/kg/K less its can's share; still air (10 W/m2/K) over 53 cm2. Used where nothing
# is given and no temperature was measured.
HEAT_J_PER_K, COOLING_W_PER_K = 45.0, 0.05
ENTROPIC_SOC = (0.0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0)
_ENTROPIC_MOST_MV = 3.0  # mV/K, three times that of known cells
_LEAST_RISE_K = 0.05  # less than that says nothing
# Weak beliefs, so that no number runs away where nothing was measured: no entropy, and a table that changes slowly.
# Each is what a mV/K costs, of knot or of its change over 10 % of charge, over the root mean square rise.
_NONE_SHARE, _SMOOTH_SHARE = 0.003, 0.01


@dataclass(frozen=True)
class HeatFit:
    """Lumped heat of a cell.

    Attributes:
        pair_shares: share of heat of each pair.
        entropic_soc, entropic_v_per_k: the table; empty where no temperature was measured.
        heat_j_per_k, cooling_w_per_k: the lump.
        errors: standard errors of those that were fitted, by name; the table's in V/K.
        rms_k: of the predicted temperature over all courses, K; NaN where no temperature was measured.
        courses, residual_k: those fitted, and predicted less measured of each.
    """

    pair_shares: tuple[float, ...]
    entropic_soc: tuple[float, ...]
    entropic_v_per_k: tuple[float, ...]
    heat_j_per_k: float
    cooling_w_per_k: float
    errors: dict[str, float]
    rms_k: float
    courses: tuple[Course, ...]
    residual_k: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class _Drive:
    """What drives the temperature of a course over the gap before each row.

    Attributes:
        course, dt_s: the rows, and the gaps between them.
        at_once_w: (rows), mean of R0 I^2.
        parts_w: (parts, rows), mean heat of each pair at share 1 and of each knot at 1 mV/K.
        weight: (rows), root of the time that a row stands for.
    """

    course: Course
    dt_s: np.ndarray
    at_once_w: np.ndarray
    parts_w: np.ndarray
    weight: np.ndarray


def fit_heat(courses: Sequence[Course], cell: Cell, given: Given) -> HeatFit:
    """Fit what warms a cell to courses with temperatures.

    Args:
        courses: pulses and other runs; those without a measured temperature, or hardly a rise, are left aside.
        cell: the fitted circuit; its own numbers of heat are not used.
        given: heat capacity and conductance, if known.
    """
    pairs = len(cell.pairs)
    heat_j_per_k = given.heat_j_per_k or HEAT_J_PER_K
    cooling = given.cooling_w_per_k or COOLING_W_PER_K
    warm = [c for c in courses if c.warm and float(np.abs(c.temp_c - c.temp_c[0]).max()) > _LEAST_RISE_K]
    if not warm:
        return HeatFit((1.0,) * pairs, (), (), heat_j_per_k, cooling, {}, float("nan"), (), ())
    drives = [_drive(course, cell) for course in warm]
    size = sum(course.t_s.size for course in warm)
    knots = len(ENTROPIC_SOC)
    names = [f"heat_share{k + 1}" for k in range(pairs)] + [f"entropic_v_per_k[{soc:g}]" for soc in ENTROPIC_SOC]
    start, low = [0.5] * pairs + [0.0] * knots, [0.0] * pairs + [-_ENTROPIC_MOST_MV] * knots
    high = [1.0] * pairs + [_ENTROPIC_MOST_MV] * knots
    for name, known, value, least, most in (
        ("ln_heat_j_per_k", given.heat_j_per_k, heat_j_per_k, 1e-2, 1e5),
        ("ln_cooling_w_per_k", given.cooling_w_per_k, cooling, 1e-4, 1e3),
    ):
        if known is None:
            names.append(name)
            for bounds, bound in ((start, value), (low, least), (high, most)):
                bounds.append(float(np.log(bound)))

    def lump(x: Any) -> tuple[Any, Any]:
        import jax.numpy as jnp

        values = dict(zip(names, x, strict=True))
        capacity = jnp.exp(values["ln_heat_j_per_k"]) if "ln_heat_j_per_k" in values else heat_j_per_k
        return capacity, jnp.exp(values["ln_cooling_w_per_k"]) if "ln_cooling_w_per_k" in values else cooling

    def law(x: Any) -> Any:
        import jax.numpy as jnp

        parts = [(_temperatures(x, lump(x), one) - one.course.temp_c) * one.weight for one in drives]
        return jnp.concatenate(parts) / size**0.5  # its sum of squares is a mean square in K^2

    rise_k = float(np.sqrt(np.mean(np.concatenate([(c.temp_c - c.ambient_c) ** 2 for c in warm]))))
    steps = np.sqrt([(above - below) / 0.1 for below, above in pairwise(ENTROPIC_SOC)])

    def penalty(x: Any) -> Any:
        import jax.numpy as jnp

        table = x[pairs : pairs + knots]
        return jnp.concatenate([table * _NONE_SHARE, jnp.diff(table) / steps * _SMOOTH_SHARE]) * rise_k

    sizes = np.cumsum([course.t_s.size for course in warm])[:-1]
    found = fit(law, start, names, low=low, high=high, penalty=penalty,
                independent=lambda residuals: independent_count(np.split(residuals, sizes)))  # fmt: skip
    capacity, conductance = (float(value) for value in lump(found.values))
    residual_k = tuple(
        np.asarray(_temperatures(found.values, (capacity, conductance), one)) - one.course.temp_c for one in drives
    )
    units = {"ln_heat_j_per_k": capacity, "ln_cooling_w_per_k": conductance}
    errors = {
        name.removeprefix("ln_"): float(error) * units.get(name, 1e-3 if name.startswith("entropic") else 1.0)
        for name, error in zip(names, found.standard_errors, strict=True)
    }
    rms_k = float(np.sqrt(np.mean(np.concatenate(residual_k) ** 2)))
    shares = tuple(float(share) for share in found.values[:pairs])
    table = tuple(1e-3 * float(value) for value in found.values[pairs : pairs + knots])
    return HeatFit(
        shares, ENTROPIC_SOC, table, capacity, conductance, errors, rms_k, tuple(warm), residual_k
    )  # fmt: skip


def pair_voltages(course: Course, cell: Cell) -> np.ndarray:
    """Return the voltage over each pair at every row, (pairs, rows), V; at rest at the first.

    Driven by the measured current, charge and temperature.
    """
    ohm = resistances_ohm(circuit(cell, course.temp_c), course.soc)[1:]
    part = np.diff(course.t_s, prepend=course.t_s[0]) / np.array([[pair.tau_s] for pair in cell.pairs])
    kept, added = pair_steps(ohm, part, course.i_a, np)
    volts, now = np.empty_like(ohm), np.zeros(len(cell.pairs))
    for row in range(course.t_s.size):
        now = kept[:, row] * now + added[:, row]
        volts[:, row] = now
    return volts


def _drive(course: Course, cell: Cell) -> _Drive:
    pair_v = pair_voltages(course, cell)
    dt_s = np.diff(course.t_s, prepend=course.t_s[0])
    at_once_v = np.interp(course.soc, cell.ocv_soc, cell.ocv_v) - pair_v.sum(axis=0) - course.v_v
    hats = np.stack([np.interp(course.soc, ENTROPIC_SOC, hat) for hat in np.eye(len(ENTROPIC_SOC))])
    volts = np.concatenate([at_once_v[None], pair_v, -1e-3 * (course.temp_c + CELSIUS_K) * hats])
    steady = np.append(False, course.i_a[1:] == course.i_a[:-1])  # else the row begins another load
    power_w = volts * course.i_a
    mean_w = np.where(steady, 0.5 * (power_w + np.roll(power_w, 1, axis=1)), power_w)
    return _Drive(course, dt_s, mean_w[0], mean_w[1:], np.sqrt(dt_s / max(float(dt_s.mean()), 1e-300)))


def _temperatures(x: Any, lump: tuple[Any, Any], drive: _Drive) -> Any:
    """Return the temperature at every row, C, from the first measured one."""
    import jax.numpy as jnp
    from jax import lax

    heat_j_per_k, cooling_w_per_k = lump
    heat_w = drive.at_once_w + jnp.asarray(x)[: drive.parts_w.shape[0]] @ drive.parts_w
    kept = jnp.exp(-drive.dt_s * cooling_w_per_k / heat_j_per_k)
    added = (1.0 - kept) * (drive.course.ambient_c + heat_w / cooling_w_per_k)

    def step(temp_c: Any, row: Any) -> Any:
        new = row[0] * temp_c + row[1]
        return new, new

    _, temps = lax.scan(step, jnp.asarray(drive.course.temp_c[0]), (kept, added))
    return temps
