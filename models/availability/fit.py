"""Fitting the law of the conjunction: exact maximum likelihood on half-hourly states with gaps.

What is seen is the state at half hours, with slots unknown. Which kind of run it is remains hidden, and so do the
device's factor and habit: the likelihood sums over the first by the forward algorithm (an unknown slot allows every
state, so nothing is thrown away at a gap: this is the exact form of censoring) and over the second and third on a grid.
Its gradient is that of the expected complete likelihood (Fisher's identity), from one forward-backward pass.

The constants in `models.availability.conjunction` came from ``fit(load("availability_30min.csv.gz"))`` and their
standard errors from `bootstrap_errors`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from models.arrays import FloatArray
from models.availability.conjunction import (
    FACTORS,
    NO_HABIT,
    SLOTS,
    Law,
    simulate_conjunction,
    slot_transitions,
    stationary,
)  # fmt: skip
from models.availability.score import LAGS_H, Trace, autocorrelation, hour_profile, with_gaps

HABITS = np.append(np.arange(0, 24, 2), NO_HABIT)
"""Grid of personal hours on which the likelihood integrates, and none."""
ROUGHNESS = 0.01
"""Weight of the squared harmonics: keeps those that the data do not know near 0."""
LOOSE = 0.3
"""Standard deviation allowed to the clock's coefficients when the profile by hour is matched: twice their error."""
BLOCK = 66  # devices handled at once, so that a pass fits a cache rather than the memory
_RATE_LOG = (-9.0, 2.5)  # rates from 1e-4 to 12 an hour: what half-hour slots can tell
_SCALARS = ("mu_per_h", "q", "nu_per_h", "rho", "gamma_shape", "never", "regular", "factor_to_long")
_SHARES = ("q", "rho", "never", "regular")
_PROFILES = {"habit": 3, "habit_end": 2, "begin": 7, "end": 5, "long": 5}
_EMIT = np.array([[0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])  # off, on, unknown (-1)

_START = Law(
    mu_per_h=1.365, q=0.145, nu_per_h=2.166, rho=0.030, gamma_shape=1.192, never=0.194,
    regular=0.717, habit=(0.575, 0.473, 0.456), habit_end=(-1.126, 1.009), factor_to_long=0.27,
    begin=(-2.675, -0.130, -0.409, -0.104, -0.151, 0.061, -0.036), end=(-1.613, -1.758, -0.287, -0.373, 0.107),
    long=(-1.282, 0.924, 1.560, 0.532, -0.026),
)  # fmt: skip


def fit(trace: Trace, start: Law | None = None, *, iterations: int = 60) -> Law:
    """Return the law: greatest likelihood, then `habits_as_observed`.

    Args:
        trace: (slots, devices): 1 available, 0 not, -1 unknown; every half hour from local midnight.
        start: first guess.
        iterations: limit of the optimiser (L-BFGS).
    """
    from scipy.optimize import minimize

    found = minimize(
        _loss, _vector(start or _START), args=(np.asarray(trace),), jac=True, method="L-BFGS-B",
        bounds=[(value - 3.0, value + 3.0) for value in _vector(_START)], options={"maxiter": iterations, "maxcor": 25},
    )  # fmt: skip
    return habits_as_observed(_law(found.x), trace)


def habits_as_observed(law: Law, trace: Trace, *, devices: int = 6000) -> Law:
    """Adjust habits and short runs until simulated phones resemble their own past as the observed ones do.

    Likelihood weighs every transition, and so follows the busiest phones; the mean over phones of the correlation with
    themselves comes out too low by 0.05 a day later, and too high by 0.03 half an hour later. So the habit is scaled
    (by 1 to 2) and short runs end sooner (by 1 or 1.15), the clock's profiles follow (`hours_as_observed`), and the
    pair is taken whose correlations at the lags of `LAGS_H` have the least squares of differences.
    """
    target = np.array([autocorrelation(trace, lag) for lag in LAGS_H])
    hours = hour_profile(trace)
    days = -(-len(trace) // SLOTS)

    def scaled(habit: float, sooner: float) -> tuple[Law, float]:
        changed = replace(law, habit=tuple(habit * k for k in law.habit), mu_per_h=law.mu_per_h * sooner)
        changed = hours_as_observed(changed, hours)
        made = with_gaps(simulate_conjunction(0, np.arange(devices), days, changed), trace)
        # What the grid of factors leaves over of the mean; a rate a tenth higher makes the share 0.09 higher.
        level = 1.1 * float(np.log(hours.mean() / hour_profile(made).mean()))
        changed = replace(changed, begin=(changed.begin[0] + level, *changed.begin[1:]))
        return changed, float(((np.array([autocorrelation(made, lag) for lag in LAGS_H]) - target) ** 2).sum())

    found = [scaled(habit, sooner) for habit in (1.0, 1.2, 1.4, 1.6, 1.8, 2.0) for sooner in (1.0, 1.15)]
    return min(found, key=lambda pair: pair[1])[0]


def hours_as_observed(law: Law, hours: FloatArray) -> Law:
    """Move the fleet's clock (``begin`` and ``end``) until the stationary law has this profile by hour of day.

    Least squares in points of availability, held to where they were by a standard deviation of `LOOSE` a coefficient.
    """
    from scipy.optimize import least_squares

    split = len(law.begin)
    here = np.array(law.begin + law.end)

    def moved(shift: FloatArray) -> Law:
        values = (here + shift).tolist()
        return replace(law, begin=tuple(values[:split]), end=tuple(values[split:]))

    def distance(shift: FloatArray) -> FloatArray:
        changed = moved(shift)
        up = stationary(slot_transitions(changed, FACTORS, HABITS))[..., :2].sum(axis=-1)
        profile = (1.0 - law.never) * np.tensordot(_weights(law), up, axes=2)
        return np.concatenate([100.0 * (profile.reshape(24, 2).mean(axis=1) - hours), shift / LOOSE])

    return moved(least_squares(distance, np.zeros(len(here)), max_nfev=4).x)


def log_likelihood(law: Law, trace: Trace) -> FloatArray:
    """Return each device's log likelihood, (devices,)."""
    return np.concatenate([_Pass(law, block).log_likelihood for block in _blocks(trace)])


def bootstrap_errors(trace: Trace, law: Law, *, times: int = 400, seed: int = 0) -> Law:
    """Return the standard deviation of each parameter over devices drawn anew, in a `Law`'s own fields.

    One Newton step a draw instead of a fit a draw: each device's slope of the log likelihood is found once, by central
    differences; the slopes of the devices drawn, less their sum, times the inverse of the slopes' outer product.
    """
    here, step = _vector(law), 1e-4
    slopes = np.empty((trace.shape[1], len(here)))
    for i in range(len(here)):
        aside = np.where(np.arange(len(here)) == i, step, 0.0)
        more, less = (log_likelihood(_law(here + sign * aside), trace) for sign in (1.0, -1.0))
        slopes[:, i] = (more - less) / (2.0 * step)
    information = slopes.T @ slopes + 2.0 * ROUGHNESS * np.diag(_rough())
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(slopes), np.full(len(slopes), 1.0 / len(slopes)), size=times)
    moved = here + np.linalg.solve(information, ((drawn - 1.0) @ slopes).T).T
    laws = [_law(vector) for vector in moved]
    spread: dict[str, Any] = {
        name: tuple(np.std([getattr(one, name) for one in laws], axis=0, ddof=1).round(3).tolist())
        if name in _PROFILES
        else round(float(np.std([getattr(one, name) for one in laws], ddof=1)), 4)
        for name in (*_SCALARS, *_PROFILES)
    }
    return Law(**spread)


def _rough() -> FloatArray:
    """Return 1 for each parameter that is a harmonic of the fleet's clock, else 0."""
    flags = [0.0] * len(_SCALARS)
    for name, count in _PROFILES.items():
        flags += [0.0] * count if name.startswith("habit") else [0.0] + [1.0] * (count - 1)
    return np.array(flags)


def _vector(law: Law) -> FloatArray:
    """Return the law's parameters without bounds: rates and shapes as logarithms, shares as logits."""
    numbers = []
    for name in _SCALARS:
        value = getattr(law, name)
        if name in _SHARES:
            numbers.append(np.log(value / (1.0 - value)))
        else:
            numbers.append(value if name == "factor_to_long" else np.log(value))
    return np.array(numbers + [c for name in _PROFILES for c in getattr(law, name)])


def _law(vector: FloatArray) -> Law:
    values: dict[str, Any] = {}
    for name, number in zip(_SCALARS, vector.tolist(), strict=False):
        if name in _SHARES:
            values[name] = float(1.0 / (1.0 + np.exp(-number)))
        else:
            values[name] = number if name == "factor_to_long" else float(np.exp(np.clip(number, *_RATE_LOG)))
    at = len(_SCALARS)
    for name, count in _PROFILES.items():
        values[name] = tuple(vector[at : at + count].tolist())
        at += count
    return Law(**values)


def _weights(law: Law) -> FloatArray:
    """Return weights (factor, habit): the gamma density times the grid's spacing; hours evenly, and none."""
    factor = np.exp(law.gamma_shape * (np.log(FACTORS) - FACTORS))
    hours = len(HABITS) - 1
    return np.outer(factor / factor.sum(), np.append(np.full(hours, law.regular / hours), 1.0 - law.regular))


class _Pass:
    """One forward pass over devices, and what the backward pass adds."""

    def __init__(self, law: Law, trace: Trace) -> None:
        self.emit = _EMIT[trace]  # (slots, devices, 4)
        table = slot_transitions(law, FACTORS, HABITS)
        self.moves = table.reshape(-1, SLOTS, 4, 4)
        begin = stationary(self.moves)[:, 0]
        steps, devices = trace.shape
        self.alpha = np.empty((steps, len(self.moves), devices, 4))
        self.scale = np.empty((steps, len(self.moves), devices))
        state = begin[:, None, :] * self.emit[0]
        for t in range(steps):
            if t:
                state = (state @ self.moves[:, (t - 1) % SLOTS]) * self.emit[t]
            self.scale[t] = np.maximum(state.sum(axis=-1), 1e-300)
            state = state / self.scale[t][..., None]
            self.alpha[t] = state
        weight = np.log(_weights(law).ravel() * (1.0 - law.never))[:, None]
        weight = weight + np.log(self.scale).sum(axis=0)
        silent = (trace != 1).all(axis=0)
        top = weight.max(axis=0)
        part = np.exp(weight - top)
        never = np.where(silent, law.never, 0.0) * np.exp(-top)
        total = part.sum(axis=0) + never
        self.log_likelihood = top + np.log(total)
        self.posterior, self.never = part / total, float((never / total).sum())

    def expected(self) -> tuple[FloatArray, FloatArray]:
        """Return expected counts of transitions (group, slot, 4, 4) and of first states (group, 4)."""
        counts = np.zeros(self.moves.shape)
        back = np.ones(self.alpha.shape[1:])
        for t in range(len(self.alpha) - 1, 0, -1):
            seen = back * self.emit[t] / self.scale[t][..., None]
            slot = (t - 1) % SLOTS
            joint = np.swapaxes(self.alpha[t - 1] * self.posterior[..., None], 1, 2) @ seen
            counts[:, slot] += joint * self.moves[:, slot]
            back = seen @ np.swapaxes(self.moves[:, slot], 1, 2)
        return counts, (self.alpha[0] * back * self.posterior[..., None]).sum(axis=1)


def _blocks(trace: Trace) -> list[Trace]:
    return [trace[:, at : at + BLOCK] for at in range(0, trace.shape[1], BLOCK)]


def _loss(vector: FloatArray, trace: Trace) -> tuple[float, FloatArray]:
    """Return minus the penalised log likelihood and its gradient."""
    law = _law(vector)
    total, never = 0.0, 0.0
    counts: Any = 0.0
    first: Any = 0.0
    posterior: Any = 0.0
    for block in _blocks(trace):
        forward = _Pass(law, block)
        more, begin = forward.expected()
        counts, first = counts + more, first + begin
        posterior = posterior + forward.posterior.sum(axis=1)
        total, never = total + float(forward.log_likelihood.sum()), never + forward.never

    def expected_complete(vector: FloatArray) -> float:
        law = _law(vector)
        table = slot_transitions(law, FACTORS, HABITS).reshape(counts.shape)
        value = float((counts * np.log(np.maximum(table, 1e-300))).sum())
        value += float((first * np.log(np.maximum(stationary(table)[:, 0], 1e-300))).sum())
        value += never * np.log(law.never) + posterior.sum() * np.log1p(-law.never)
        return float(value + posterior @ np.log(_weights(law).ravel()))

    rough = _rough()
    step = 1e-5
    gradient = np.empty(len(vector))
    for i in range(len(vector)):
        more, less = vector.copy(), vector.copy()
        more[i] += step
        less[i] -= step
        gradient[i] = (expected_complete(more) - expected_complete(less)) / (2.0 * step)
    return -total + ROUGHNESS * float(rough @ vector**2), -gradient + 2.0 * ROUGHNESS * rough * vector
