"""How much of the lost energy warms the cell, fitted to measured temperatures.

The law is that of `models.battery.heat`: C dT/dt = share (OCV - v) I - G (T - ambient). OCV is the fitted curve, v and
I are the measured ones. Heat capacity and conductance are taken as given where they are given, else fitted as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.calibration.cells_io import Course, Given
from experiments.fitting import fit, independent_count

# A 21700 cell: 65 g at about 0.95 kJ/kg/K less its can's share; still air (10 W/m2/K) over 53 cm2. Used where nothing
# is given and no temperature was measured.
HEAT_J_PER_K, COOLING_W_PER_K, HEAT_SHARE = 45.0, 0.05, 1.0
_SHARE_MOST = 2.0  # as `Cell` allows: above 1 it stands for entropic heat
_LEAST_RISE_K = 0.05  # less than that says nothing


@dataclass(frozen=True)
class HeatFit:
    """Lumped heat of a cell.

    Attributes:
        share, heat_j_per_k, cooling_w_per_k: the law's numbers.
        errors: standard errors of those that were fitted, by name.
        rms_k: of the predicted temperature over all courses, K; NaN where no temperature was measured.
        courses, residual_k: those fitted, and predicted less measured of each.
    """

    share: float
    heat_j_per_k: float
    cooling_w_per_k: float
    errors: dict[str, float]
    rms_k: float
    courses: tuple[Course, ...]
    residual_k: tuple[np.ndarray, ...]


def fit_heat(courses: Sequence[Course], ocv_soc: np.ndarray, ocv_v: np.ndarray, given: Given) -> HeatFit:
    """Fit the share of heat, and what of heat capacity and conductance is not given, to courses with temperatures."""
    heat_j_per_k = given.heat_j_per_k or HEAT_J_PER_K
    cooling = given.cooling_w_per_k or COOLING_W_PER_K
    warm = [c for c in courses if c.warm and float(np.abs(c.temp_c - c.temp_c[0]).max()) > _LEAST_RISE_K]
    if not warm:
        return HeatFit(HEAT_SHARE, heat_j_per_k, cooling, {}, float("nan"), (), ())
    names = ["heat_share"]
    names += [] if given.heat_j_per_k else ["ln_heat_j_per_k"]
    names += [] if given.cooling_w_per_k else ["ln_cooling_w_per_k"]
    start = {"heat_share": 0.8, "ln_heat_j_per_k": np.log(heat_j_per_k), "ln_cooling_w_per_k": np.log(cooling)}
    low = {"heat_share": 0.0, "ln_heat_j_per_k": np.log(1e-2), "ln_cooling_w_per_k": np.log(1e-4)}
    high = {"heat_share": _SHARE_MOST, "ln_heat_j_per_k": np.log(1e5), "ln_cooling_w_per_k": np.log(1e3)}
    columns = [(*_drives(course, ocv_soc, ocv_v), course) for course in warm]

    def read(x: Any) -> tuple[Any, Any, Any]:
        import jax.numpy as jnp

        values = dict(zip(names, x, strict=True))
        capacity = jnp.exp(values["ln_heat_j_per_k"]) if "ln_heat_j_per_k" in values else heat_j_per_k
        conductance = jnp.exp(values["ln_cooling_w_per_k"]) if "ln_cooling_w_per_k" in values else cooling
        return values["heat_share"], capacity, conductance

    def law(x: Any) -> Any:
        import jax.numpy as jnp

        share, capacity, conductance = read(x)
        parts = [
            (_temperatures(share, capacity, conductance, dt_s, lost_w, course) - course.temp_c) * weight
            for dt_s, lost_w, weight, course in columns
        ]
        return jnp.concatenate(parts)

    sizes = np.cumsum([course.t_s.size for course in warm])[:-1]
    found = fit(law, [start[name] for name in names], names, low=[low[name] for name in names],
                high=[high[name] for name in names],
                independent=lambda residuals: independent_count(np.split(residuals, sizes)))  # fmt: skip
    share, capacity, conductance = (float(value) for value in read(found.values))
    predicted = [np.asarray(_temperatures(share, capacity, conductance, dt, lost, c)) for dt, lost, _, c in columns]
    residual_k = tuple(values - course.temp_c for values, course in zip(predicted, warm, strict=True))
    errors = {name.removeprefix("ln_"): float(error) for name, error in zip(names, found.standard_errors, strict=True)}
    for name, value in (("heat_j_per_k", capacity), ("cooling_w_per_k", conductance)):
        if name in errors:
            errors[name] *= value
    rms_k = float(np.sqrt(np.mean(np.concatenate(residual_k) ** 2)))
    return HeatFit(share, capacity, conductance, errors, rms_k, tuple(warm), residual_k)


def _drives(course: Course, ocv_soc: np.ndarray, ocv_v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return gaps, mean power lost over each gap, and the weight of each row (the time it stands for)."""
    dt_s = np.diff(course.t_s, prepend=course.t_s[0])
    lost_w = (np.interp(course.soc, ocv_soc, ocv_v) - course.v_v) * course.i_a
    steady = np.concatenate([[False], course.i_a[1:] == course.i_a[:-1]])
    mean_w = np.where(steady, 0.5 * (lost_w + np.roll(lost_w, 1)), lost_w)
    return dt_s, mean_w, np.sqrt(dt_s / max(float(dt_s.mean()), 1e-300))


def _temperatures(
    share: Any, heat_j_per_k: Any, cooling_w_per_k: Any, dt_s: np.ndarray, lost_w: np.ndarray, course: Course
) -> Any:
    """Return the temperature at every row, C, from the first measured one."""
    import jax.numpy as jnp
    from jax import lax

    kept = jnp.exp(-dt_s * cooling_w_per_k / heat_j_per_k)
    added = (1.0 - kept) * (course.ambient_c + share * lost_w / cooling_w_per_k)

    def step(temp_c: Any, row: Any) -> Any:
        new = row[0] * temp_c + row[1]
        return new, new

    _, temps = lax.scan(step, jnp.asarray(course.temp_c[0]), (kept, added))
    return temps
