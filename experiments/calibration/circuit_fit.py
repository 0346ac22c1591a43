"""The Thevenin circuit fitted to courses: open-circuit curve, resistances, time constants, activation energies.

The law is that of `models.battery.circuit`, driven by the measured current, charge and temperature: over a gap between
rows R_k is straight in time, so that a pair moves as there (`models.battery.circuit.carry`), exactly; a test holds one
against the other. It runs under NumPy and, for exact gradients, jax.numpy.

All numbers are found in one least squares over the slow discharge and the pulses, so that the open-circuit curve is
corrected for the slow discharge's own overpotential and agrees with the voltages at rest. Tables are straight between
knots; resistances and time constants are fitted as logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from experiments.calibration.cells_io import Course, Given
from experiments.fitting import Fit, fit, independent_count
from models.battery.cell import CELSIUS_K, GAS_J_MOL_K, REFERENCE_K

OCV_KNOTS = 40
# Closer where resistance turns up: lithium runs out at the surface first.
R_SOC = (0.0, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
TAU_START_S = {2: (20.0, 400.0), 3: (8.0, 60.0, 900.0)}
TAU_LOW_S, TAU_HIGH_S = 2.0, 6000.0  # shorter than the rows can show, longer than their rests
# Where only one temperature was measured: middle of 20 to 30 kJ/mol that pulses of LG M50 cells at 0 to 45 C give.
ACTIVATION_J_MOL = 25e3
ONE_TEMPERATURE_K = 5.0
_STEP_J_MOL = 1e4  # unit of the fitted activation energies
# Weights. A row counts by the time it stands for, to this power: 0 is a row a vote, 1 an hour an hour's worth.
_TIME_POWER, _TIME_MOST_S = 0.75, 200.0
# A pair's resistance is the same at all currents, a cell's is not: of what cannot be fitted at once, a millivolt at the
# current that a cell usually sees counts for more than one in the highest pulse.
_USUAL_OF_LARGEST = 1.0 / 3.0  # pulses are made at about 1C, discharges and phones draw C/3 and less
_OPEN_SHARE = 0.25  # of the slow discharges in the sum; the pulses have the rest
# Knots of the open-circuit curve: bends are seen over this much charge to either side; this share is spread evenly.
_BEND_SOC, _EVEN_SHARE = 0.01, 0.3
# Weak beliefs, so that no number runs away where nothing was measured: the open-circuit curve is the slow discharge's,
# to this (a difference of this costs a millivolt), and resistance changes slowly along the charge.
_APPARENT_V = 0.1
_SMOOTH_MV = 0.1  # what it costs that a resistance changes e-fold over 10 % of charge
_BELOW_CUTOFF_V = 0.02
# Where R0 bends (`circuit.with_knee`): one number for all cells. Pulses of simulated cells ask for 0.07 to 0.13 V, but
# do not show what works against a bend in a long discharge (electrolyte that runs short at high current). Of 0.07 to
# 0.35 V and none it was chosen by leaving out one of four simulated cells at a time: each three choose 0.2 or 0.25 V.
KNEE_V = 0.2
_CURRENTS_APART = 1.5  # short loads of currents that differ less say nothing of a bend: R0 is straight


@dataclass(frozen=True)
class Shape:
    """What is fixed in a fit: knots, number of pairs, the activation energies where they are not fitted, R0's knee."""

    ocv_soc: np.ndarray
    r_soc: np.ndarray
    pairs: int
    activation_j_mol: float | None
    r0_knee_v: float | None = None

    def names(self) -> list[str]:
        """Return the parameters' names, in the order of `split`."""
        found = [f"ocv_v[{soc:.4g}]" for soc in self.ocv_soc]
        found += [f"ln_r{k}_ohm[{soc:.4g}]" for k in range(self.pairs + 1) for soc in self.r_soc]
        found += [f"ln_tau{k + 1}_s" for k in range(self.pairs)]
        if self.activation_j_mol is None:
            found += [f"activation{k}_1e4_j_mol" for k in range(self.pairs + 1)]
        return found

    def split(self, x: Any) -> tuple[Any, Any, Any, Any]:
        """Return OCV (knots), ln R (1 + pairs, knots), ln tau (pairs), activation (1 + pairs), 1e4 J/mol."""
        a = self.ocv_soc.size
        b = a + (self.pairs + 1) * self.r_soc.size
        c = b + self.pairs
        given = self.activation_j_mol
        activation = x[c:] if given is None else np.full(self.pairs + 1, given / _STEP_J_MOL)
        return x[:a], x[a:b].reshape(self.pairs + 1, self.r_soc.size), x[b:c], activation


class Rows(NamedTuple):
    """Courses side by side, padded to one length: (courses, rows); all that does not depend on the parameters."""

    dt_s: Any
    i_a: Any
    v_v: Any
    weight: Any
    inverse_k: Any
    ocv_low: Any
    ocv_part: Any
    r_low: Any
    r_part: Any


@dataclass(frozen=True)
class CircuitFit:
    """A fitted circuit, pairs fastest first.

    Attributes:
        shape: what was fixed.
        ocv_v, r_ohm, tau_s, activation_j_mol: the law's numbers; r_ohm is (1 + pairs, knots of charge) at 25 C.
        errors: standard errors of the same four, shaped alike.
        fitted: the least squares itself.
        courses, residual_mv: per course, predicted less measured, NaN where a row did not count.
    """

    shape: Shape
    ocv_v: np.ndarray
    r_ohm: np.ndarray
    tau_s: np.ndarray
    activation_j_mol: np.ndarray
    errors: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
    fitted: Fit
    courses: tuple[Course, ...]
    residual_mv: tuple[np.ndarray, ...]

    def rms_mv(self, chosen: Sequence[np.ndarray]) -> float:
        """Return the root mean square over the chosen rows of each course, mV; rows count as in the fit."""
        total = count = 0.0
        usual_a = _usual_a(self.courses)
        for course, values, mask in zip(self.courses, self.residual_mv, chosen, strict=True):
            weight = np.where(mask & np.isfinite(values), _row_weight(course, usual_a), 0.0)
            total += float((weight * np.nan_to_num(values) ** 2).sum())
            count += float(weight.sum())
        return float(np.sqrt(total / max(count, 1e-300)))


def terminal_v(x: Any, rows: Rows, shape: Shape, xp: Any = np) -> Any:
    """Return the terminal voltage at every row under the measured current, V; pairs start at rest.

    Args:
        x: parameters in the order of `Shape.split`.
        rows: the courses.
        xp: numpy or jax.numpy.
    """
    ocv_v, ln_r, ln_tau, activation = shape.split(x)
    factor = xp.exp(xp.reshape(activation, (-1, 1, 1)) * (_STEP_J_MOL / GAS_J_MOL_K) * rows.inverse_k)
    low, high = xp.exp(ln_r)[:, rows.r_low], xp.exp(ln_r)[:, rows.r_low + 1]
    ohm = (low + (high - low) * rows.r_part) * factor  # (1 + pairs, courses, rows)
    kept, added = pair_steps(ohm[1:], rows.dt_s / xp.reshape(xp.exp(ln_tau), (-1, 1, 1)), rows.i_a, xp)
    open_v = ocv_v[rows.ocv_low] + (ocv_v[rows.ocv_low + 1] - ocv_v[rows.ocv_low]) * rows.ocv_part
    at_once_v, knee_v = ohm[0] * rows.i_a, shape.r0_knee_v
    if knee_v is not None:
        at_once_v = knee_v * xp.arcsinh(at_once_v / knee_v)
    return open_v - at_once_v - _pairs_sum(kept, added, xp)


def pair_steps(ohm: Any, part: Any, i_a: Any, xp: Any) -> tuple[Any, Any]:
    """Return kept and added of v[n] = kept[n] v[n-1] + added[n], the voltage over each pair at row n, rows last.

    As `models.battery.circuit.carry`: R(t) = r + rho t gives v e^-x + I (r (1 - e^-x) + rho (t - tau (1 - e^-x))).

    Args:
        ohm: the pairs' resistances at the rows.
        part: x = t / tau, the gap before each row over the pair's time constant.
        i_a: the current over that gap.
        xp: numpy or jax.numpy.
    """
    before = xp.concatenate([ohm[..., :1], ohm[..., :-1]], axis=-1)
    gone = -xp.expm1(-part)
    lag = xp.where(part > 0.0, 1.0 - gone / xp.where(part > 0.0, part, 1.0), 0.0)
    return xp.exp(-part), i_a * (before * gone + (ohm - before) * lag)


def _pairs_sum(kept: Any, added: Any, xp: Any) -> Any:
    """Return the sum over pairs of v[n] = kept[n] v[n-1] + added[n]; all (pairs, courses, rows)."""
    if xp is np:
        pair_v, total = np.zeros(kept.shape[:2]), np.empty(kept.shape[1:])
        for row in range(kept.shape[2]):
            pair_v = kept[:, :, row] * pair_v + added[:, :, row]
            total[:, row] = pair_v.sum(axis=0)
        return total
    from jax import lax

    def step(pair_v: Any, row: Any) -> Any:
        new = row[0] * pair_v + row[1]
        return new, new.sum(axis=0)

    _, total = lax.scan(step, xp.zeros(kept.shape[:2]), (xp.moveaxis(kept, 2, 0), xp.moveaxis(added, 2, 0)))
    return total.T


def make_rows(
    courses: Sequence[Course], shape: Shape, v_min: float, left_out: Sequence[np.ndarray], usual_a: float
) -> Rows:
    """Return courses as padded arrays.

    Args:
        courses: of one kind.
        shape: knots.
        v_min: rows well below the cut-off do not count.
        left_out: rows of each course that do not count either.
        usual_a: from about this current up a row counts for less, A.
    """
    longest = max(course.t_s.size for course in courses)

    def padded(values: np.ndarray) -> np.ndarray:
        return np.pad(values, (0, longest - values.size), mode="edge")

    columns: dict[str, list[np.ndarray]] = {name: [] for name in Rows._fields}
    for course, out in zip(courses, left_out, strict=True):
        dt_s = np.diff(course.t_s, prepend=course.t_s[0])
        weight = np.where(out | (course.v_v < v_min - _BELOW_CUTOFF_V), 0.0, _row_weight(course, usual_a))
        ocv_low, ocv_part = _hats(shape.ocv_soc, course.soc)
        r_low, r_part = _hats(shape.r_soc, course.soc)
        values = (dt_s, course.i_a, course.v_v, weight, 1.0 / (course.temp_c + CELSIUS_K) - 1.0 / REFERENCE_K,
                  ocv_low, ocv_part, r_low, r_part)  # fmt: skip
        for name, column in zip(Rows._fields, values, strict=True):
            columns[name].append(padded(column))
        columns["weight"][-1][course.t_s.size :] = 0.0
        columns["dt_s"][-1][course.t_s.size :] = 0.0
    made = Rows(**{name: np.stack(values) for name, values in columns.items()})
    return made._replace(weight=np.sqrt(made.weight / max(made.weight.sum(), 1e-300)))


def fit_circuit(
    open_circuit: Sequence[Course],
    pulses: Sequence[Course],
    given: Given,
    pairs: int,
    *,
    left_out: Sequence[np.ndarray] | None = None,
    tolerance: float = 1e-6,
    ocv_knots: int = OCV_KNOTS,
) -> CircuitFit:
    """Fit one circuit.

    Args:
        open_circuit: slow discharges, or rested voltages, over the whole range of charge.
        pulses: everything else.
        given: limits and size.
        pairs: 2 or 3.
        left_out: rows of each of `pulses` that must not count.
        tolerance: of the least squares.
        ocv_knots: 15 to 40.
    """
    shape = _shape(open_circuit, pulses, given, pairs, ocv_knots)
    nothing = [np.zeros(course.t_s.size, dtype=bool) for course in (*pulses, *open_circuit)]
    outs = list(left_out or nothing[: len(pulses)])
    usual_a = _usual_a(pulses)
    groups = [
        (list(pulses), make_rows(pulses, shape, given.v_min, outs, usual_a), np.sqrt(1.0 - _OPEN_SHARE)),
        (
            list(open_circuit),
            make_rows(open_circuit, shape, given.v_min, nothing[len(pulses) :], usual_a),
            np.sqrt(_OPEN_SHARE),
        ),
    ]

    def law(x: Any) -> Any:
        import jax.numpy as jnp

        parts = [
            ((terminal_v(x, rows, shape, jnp) - rows.v_v) * rows.weight * (1e3 * share)).ravel()
            for _, rows, share in groups
        ]
        return jnp.concatenate(parts)

    start, low, high = _start(open_circuit, shape, given, pulses)
    # `law` is normalised so that its sum of squares is a mean square in mV^2: a penalty of 1 is a millivolt's worth.
    spans = np.sqrt(np.diff(shape.r_soc) / 0.1)

    def penalty(x: Any) -> Any:
        import jax.numpy as jnp

        ocv_v, ln_r, _, _ = shape.split(x)
        smooth = jnp.ravel(jnp.diff(ln_r, axis=1) / spans) * _SMOOTH_MV
        return jnp.concatenate([smooth, (ocv_v - start[: ocv_v.size]) / _APPARENT_V])

    def independent(residuals: np.ndarray) -> float:
        sizes = [rows.weight.size for _, rows, _ in groups]
        parts = np.split(residuals, np.cumsum(sizes)[:-1])
        series = [
            row[: course.t_s.size]
            for (kind, rows, _), part in zip(groups, parts, strict=True)
            for course, row in zip(kind, part.reshape(rows.weight.shape), strict=True)
        ]
        return independent_count(series)

    found = fit(law, start, shape.names(), low=low, high=high, penalty=penalty, independent=independent,
                max_evaluations=80, tolerance=tolerance)  # fmt: skip
    residual_mv = []
    for kind, rows, _ in groups:
        error = 1e3 * (terminal_v(found.values, rows, shape) - rows.v_v)
        for course, values in zip(kind, error, strict=True):
            counted = course.v_v >= given.v_min - _BELOW_CUTOFF_V
            residual_mv.append(np.where(counted, values[: course.t_s.size], np.nan))
    return _sorted(shape, found, (*pulses, *open_circuit), tuple(residual_mv))


def choose_pairs(
    open_circuit: Sequence[Course], pulses: Sequence[Course], given: Given
) -> tuple[int, dict[int, float]]:
    """Return the number of pairs that predicts left-out pulses best, and each one's error there, mV.

    Every third pair of pulses (a discharge and the charge after it, with their rests) is left out of the fit.
    """
    left_out = [(course.pulse >= 0) & (course.pulse // 2 % 3 == 1) for course in pulses]
    if not any(mask.any() for mask in left_out):
        return 2, {}
    nothing = [np.zeros(course.t_s.size, dtype=bool) for course in open_circuit]
    scores = {
        pairs: fit_circuit(open_circuit, pulses, given, pairs, left_out=left_out, tolerance=1e-4).rms_mv(
            [*left_out, *nothing]
        )
        for pairs in (2, 3)
    }
    return min(scores, key=scores.__getitem__), scores


def several_currents(course: Course) -> bool:
    """Return whether a course holds short loads of several currents: what tells a bend of R0 from R0 itself."""
    loads_a = np.abs(course.i_a[course.pulse >= 0])
    loads_a = loads_a[loads_a > 0.05 * loads_a.max(initial=0.0)]
    return bool(loads_a.size) and float(loads_a.max() / loads_a.min()) >= _CURRENTS_APART


def _shape(open_circuit: Sequence[Course], pulses: Sequence[Course], given: Given, pairs: int, ocv_knots: int) -> Shape:
    ambients = [course.ambient_c for course in pulses]
    one = max(ambients) - min(ambients) < ONE_TEMPERATURE_K
    loaded = np.concatenate([course.soc[np.abs(course.i_a) > 0.0] for course in pulses])
    # Below the last load nothing is known of resistance: no knots there, so that it is held as at the last.
    r_soc = np.array([soc for soc in R_SOC if soc >= loaded.min() - 0.5 * (0.1 if soc >= 0.2 else 0.02)])
    soc, volts = _apparent_ocv(open_circuit, given)
    knee_v = KNEE_V if any(several_currents(course) for course in pulses) else None
    return Shape(_knots(soc, volts, ocv_knots), r_soc, pairs, ACTIVATION_J_MOL if one else None, knee_v)


def _apparent_ocv(open_circuit: Sequence[Course], given: Given) -> tuple[np.ndarray, np.ndarray]:
    """Return the slow discharge nearest to 25 C on an even grid, ending in the cut-off at charge 0."""
    course = min(open_circuit, key=lambda one: abs(one.ambient_c - 25.0))
    order = np.argsort(course.soc, kind="stable")
    soc, volts = course.soc[order], course.v_v[order]
    if soc[0] > 0.0:
        soc, volts = np.append(0.0, soc), np.append(min(given.v_min, volts[0] - 1e-3), volts)
    grid = np.linspace(0.0, 1.0, 1001)
    return grid, np.interp(grid, soc, volts)


def _knots(soc: np.ndarray, volts: np.ndarray, count: int) -> np.ndarray:
    """Return knots, dense where the curve bends: spacing goes with the root of curvature (best for straight pieces)."""
    middle = np.clip(soc, _BEND_SOC, 1.0 - _BEND_SOC)
    sides = np.interp(middle - _BEND_SOC, soc, volts) + np.interp(middle + _BEND_SOC, soc, volts)
    bend = np.abs(sides - 2.0 * np.interp(middle, soc, volts)) / _BEND_SOC**2
    density = np.sqrt(np.convolve(np.pad(bend, 10, mode="edge"), np.ones(21) / 21.0, "valid"))
    density += _EVEN_SHARE * density.mean()
    grown = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    knots = np.interp(np.linspace(0.0, grown[-1], count), grown, soc)
    knots[0], knots[-1] = 0.0, 1.0
    return knots


def _start(
    open_circuit: Sequence[Course], shape: Shape, given: Given, pulses: Sequence[Course]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return first guess and bounds."""
    largest_a = max(float(np.abs(course.i_a).max()) for course in pulses)
    each_ohm = 0.075 / largest_a  # half of 150 mV at the largest current, order of magnitude
    soc, volts = _apparent_ocv(open_circuit, given)
    ocv_v = np.interp(shape.ocv_soc, soc, volts)
    tables = (shape.pairs + 1) * shape.r_soc.size
    energies = shape.pairs + 1 if shape.activation_j_mol is None else 0
    guess = (ocv_v, np.full(tables, np.log(each_ohm)), np.log(TAU_START_S[shape.pairs]), np.full(energies, 2.0))
    least = (ocv_v - 0.5, np.full(tables, np.log(each_ohm * 1e-4)), np.full(shape.pairs, np.log(TAU_LOW_S)),
             np.zeros(energies))  # fmt: skip
    most = (ocv_v + 0.5, np.full(tables, np.log(each_ohm * 1e3)), np.full(shape.pairs, np.log(TAU_HIGH_S)),
            np.full(energies, 10.0))  # fmt: skip
    return np.concatenate(guess), np.concatenate(least), np.concatenate(most)


def _sorted(shape: Shape, found: Fit, courses: tuple[Course, ...], residual_mv: tuple[np.ndarray, ...]) -> CircuitFit:
    """Return the law's own numbers, fastest pair first, open-circuit voltage rising."""
    ocv_v, ln_r, ln_tau, activation = (np.asarray(part) for part in shape.split(found.values))
    if shape.activation_j_mol is None:
        errors = [np.asarray(part) for part in shape.split(found.standard_errors)]
    else:
        errors = [np.asarray(part) for part in shape.split(found.standard_errors)[:3]]
        errors.append(np.full(activation.size, np.nan))
    order = np.argsort(ln_tau)
    rows = np.append(0, order + 1)
    r_ohm, tau_s = np.exp(ln_r[rows]), np.exp(ln_tau[order])
    physical = (errors[0], r_ohm * errors[1][rows], tau_s * errors[2][order], errors[3][rows] * _STEP_J_MOL)
    energies = activation[rows] * _STEP_J_MOL
    return CircuitFit(shape, _rising(ocv_v), r_ohm, tau_s, energies, physical, found, courses, residual_mv)


def _rising(volts: np.ndarray) -> np.ndarray:
    """Return the curve with each fall lifted to a rise of 0.1 mV (noise on a flat stretch)."""
    floor = np.arange(volts.size) * 1e-4
    return np.maximum.accumulate(volts - floor) + floor


def _row_weight(course: Course, usual_a: float) -> np.ndarray:
    """Return what each row counts."""
    gaps_s = np.diff(course.t_s, prepend=course.t_s[0])
    return np.asarray(np.clip(gaps_s, 1.0, _TIME_MOST_S) ** _TIME_POWER / (1.0 + (course.i_a / usual_a) ** 2))


def _usual_a(pulses: Sequence[Course]) -> float:
    return _USUAL_OF_LARGEST * max(float(np.abs(course.i_a).max()) for course in pulses)


def _hats(knots: np.ndarray, soc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower knot and the part of the way to the next; beyond the ends the table is constant."""
    inside = np.clip(soc, knots[0], knots[-1])
    low = np.clip(np.searchsorted(knots, inside, side="right") - 1, 0, knots.size - 2)
    return low, (inside - knots[low]) / (knots[low + 1] - knots[low])
