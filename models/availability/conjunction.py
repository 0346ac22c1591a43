"""The law of a phone that is idle AND charging AND on Wi-Fi, in continuous time.

A semi-Markov law with two kinds of on-run and two kinds of off-run:

    short on --(mu)--------+--> short off (q) --(nu)-----------> long on (rho) or short on
    long on --(E(clock))---+--> long off (1 - q) --(f L(clock))-> long on (P(clock, f)) or short on

so that on-runs and off-runs are mixtures, what ends a long run and begins one follows the clock, and ``f`` is the
device's own factor: 0 for a share of the phones, gamma for the rest (mean 1). Most owners have a habit: a personal
hour of the day about which runs begin, and long ones end, more often or less than the fleet's clock says. All rates are
constant within half an hour of the clock, hence every next event is exact: the integrated hazard is inverted, none is
stepped. In each of the four states the past does not matter, so a run may begin anywhere from the stationary law.

Units are hours here, because all published figures of this subject are. `models.availability.fit` made the constants.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from models import draws
from models.arrays import BoolArray, FloatArray, IntArray

SLOT_H = 0.5
"""Half an hour: the grid of the data, of the clock's profiles and of what `simulate_conjunction` returns."""
SLOTS = 48
SHORT_ON, LONG_ON, SHORT_OFF, LONG_OFF = range(4)
NO_HABIT = 24
"""Row of owners without a personal hour, after the 24 hours."""
FACTORS: FloatArray = np.geomspace(0.04, 6.0, 10)
"""Grid of device factors on which the fit integrates and the stationary law is tabulated (ratio 1.75)."""
FASTEST_PER_H = 12.0
"""Rates above it look all the same in half-hour slots; the bound keeps an optimiser's wild guesses finite."""


@dataclass(frozen=True)
class Law:
    """Parameters; each as the fit's unbounded number gives it.

    Attributes:
        mu_per_h: rate at which a short on-run ends.
        q: chance that an on-run is followed by a short gap.
        nu_per_h: rate at which a short gap ends.
        rho: chance that a long on-run follows a short gap.
        gamma_shape: of the device factor among the phones that take part at all.
        never: share of phones with factor 0.
        habit: strengths k of the personal hour H: the rate of coming on is multiplied by the exponential of the sum of
            k_m cos(m (clock - H) 2 pi / 24 h), scaled to mean 1.
        habit_end: what cosine and sine of clock - H add to the log of the rate at which a long on-run ends.
        regular: share of owners who have a habit.
        factor_to_long: slope of the logit of a long run on the factor's logarithm.
        begin: log of the rate (1/h) at which a device of factor 1 comes on: constant, then cos and sin of 24 h / m.
        end: log of the rate (1/h) at which a long on-run ends, likewise.
        long: logit of the chance that an on-run after a long gap is a long one, likewise.
    """

    mu_per_h: float
    q: float
    nu_per_h: float
    rho: float
    gamma_shape: float
    never: float
    regular: float
    habit: tuple[float, ...]
    habit_end: tuple[float, ...]
    factor_to_long: float
    begin: tuple[float, ...]
    end: tuple[float, ...]
    long: tuple[float, ...]

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not np.all(np.isfinite(value)):
                raise ValueError(f"{field.name} is {value}; allowed: finite numbers")
        for name in ("mu_per_h", "nu_per_h", "gamma_shape"):
            if getattr(self, name) <= 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: above 0")
        for name in ("q", "rho", "never", "regular"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: 0 to 1")

    def begin_per_h(self) -> FloatArray:
        """Rate of coming on at factor 1, by habit and slot, (25, 48); the last row has no habit."""
        angle = _from_habit()
        own = np.exp(sum(k * np.cos((m + 1) * angle) for m, k in enumerate(self.habit)))
        return np.asarray(np.exp(profile(self.begin)) * _with_none(own / own.mean(axis=1, keepdims=True)))

    def end_per_h(self) -> FloatArray:
        """Rate at which long on-runs end, by habit and slot, (25, 48)."""
        angle = _from_habit()
        own = np.exp(self.habit_end[0] * np.cos(angle) + self.habit_end[1] * np.sin(angle))
        return np.asarray(np.exp(profile(self.end)) * _with_none(own))

    def long_share(self, factor: Any) -> FloatArray:
        """Chance that an on-run is a long one, by factor and slot, (..., 48)."""
        logit = profile(self.long) + self.factor_to_long * np.log(np.asarray(factor, dtype=np.float64))[..., None]
        return np.asarray(1.0 / (1.0 + np.exp(-logit)))


def _from_habit() -> FloatArray:
    """Angle from each personal hour to the middle of each slot, (24, 48)."""
    return np.asarray(2.0 * np.pi * ((np.arange(SLOTS) + 0.5) * SLOT_H - np.arange(24.0)[:, None]) / 24.0)


def _with_none(own: FloatArray) -> FloatArray:
    return np.concatenate([own, np.ones((1, SLOTS))])


def profile(coefficients: tuple[float, ...] | FloatArray) -> FloatArray:
    """Return a constant plus harmonics of the day at the middle of each half hour, (48,)."""
    hour = (np.arange(SLOTS) + 0.5) * SLOT_H
    value = np.full(SLOTS, float(coefficients[0]))
    for m in range(len(coefficients) // 2):
        angle = 2.0 * np.pi * (m + 1) * hour / 24.0
        value = value + coefficients[1 + 2 * m] * np.cos(angle) + coefficients[2 + 2 * m] * np.sin(angle)
    return value


def slot_transitions(law: Law, factor: FloatArray, habits: IntArray | None = None) -> FloatArray:
    """Return the chance of each state one slot later, (factor, habit, slot, from, to); default all 25 habits."""
    habits = np.arange(NO_HABIT + 1) if habits is None else habits
    rates = np.zeros((len(factor), len(habits), SLOTS, 4, 4))
    end, long = np.minimum(law.end_per_h()[habits], FASTEST_PER_H), law.long_share(factor)[:, None]
    begin = np.minimum(factor[:, None, None] * law.begin_per_h()[habits], FASTEST_PER_H)
    for on, rate in ((SHORT_ON, np.full(SLOTS, law.mu_per_h)), (LONG_ON, end)):
        rates[..., on, SHORT_OFF], rates[..., on, LONG_OFF] = rate * law.q, rate * (1.0 - law.q)
    rates[..., SHORT_OFF, LONG_ON] = law.nu_per_h * law.rho
    rates[..., SHORT_OFF, SHORT_ON] = law.nu_per_h * (1.0 - law.rho)
    rates[..., LONG_OFF, LONG_ON], rates[..., LONG_OFF, SHORT_ON] = begin * long, begin * (1.0 - long)
    states = np.arange(4)
    rates[..., states, states] = -rates.sum(axis=-1)
    # Taylor to order 6 of a sixteenth, then four squarings: to 1e-9 for rates up to 10 an hour.
    small = rates * (SLOT_H / 16.0)
    result = term = np.broadcast_to(np.eye(4), rates.shape)
    for order in range(1, 7):
        term = term @ small / order
        result = result + term
    for _ in range(4):
        result = result @ result
    return result


def stationary(transitions: FloatArray) -> FloatArray:
    """Return the periodic stationary law at the start of each slot, (..., slot, state)."""
    day = np.broadcast_to(np.eye(4), transitions[..., 0, :, :].shape)
    for slot in range(SLOTS):
        day = day @ transitions[..., slot, :, :]
    for _ in range(7):  # 128 days: longer than any run remembers
        day = day @ day
    row = day[..., :1, :]
    rows = []
    for slot in range(SLOTS):
        rows.append(row[..., 0, :])
        row = row @ transitions[..., slot, :, :]
    return np.stack(rows, axis=-2)


def device_factor(law: Law, seed: int, entity: IntArray) -> FloatArray:
    """Draw the devices' factors, 0 for those that never take part; (n,)."""
    u = draws.uniform(seed, "availability factor", entity, 0)
    table = gamma_quantiles(law.gamma_shape)
    conditional = np.clip((u - law.never) / (1.0 - law.never), 0.0, 1.0) if law.never < 1.0 else np.zeros_like(u)
    return np.where(u < law.never, 0.0, np.interp(conditional, np.linspace(0.0, 1.0, len(table)), table))


def gamma_quantiles(shape: float, count: int = 4097) -> FloatArray:
    """Tabulate the quantiles of the gamma law of mean 1 at ``count`` even levels, the last one just below 1.

    It is cut to the fit's grid of factors.
    """
    from scipy.special import gammaincinv

    levels = np.linspace(0.0, 1.0, count)
    levels[-1] = 1.0 - 0.25 / count
    return np.asarray(np.clip(gammaincinv(shape, levels) / shape, FACTORS[0] / 4.0, FACTORS[-1]))


def habit_hour(law: Law, seed: int, entity: IntArray) -> IntArray:
    """Draw each owner's personal hour, 0..23, or `NO_HABIT`, (n,); any hour is as likely."""
    hour = draws.integers(seed, "availability habit", entity, 0, NO_HABIT)
    return np.where(draws.uniform(seed, "availability habit", entity, 1) < law.regular, hour, NO_HABIT)


class Clock:
    """Rates that repeat every day, rows of 48 slots; their integral and its inverse. Times in hours."""

    def __init__(self, rate_per_h: FloatArray) -> None:
        self.rate = rate_per_h
        zero = np.zeros((len(rate_per_h), 1))
        self.integral = np.concatenate([zero, np.cumsum(rate_per_h * SLOT_H, axis=1)], axis=1)

    def after(self, row: IntArray, time_h: FloatArray, amount: FloatArray) -> FloatArray:
        """Return when the row's integral from ``time_h`` on reaches ``amount``."""
        day, hour = np.divmod(time_h, 24.0)
        slot = np.minimum((hour / SLOT_H).astype(int), SLOTS - 1)
        target = self.integral[row, slot] + (hour - slot * SLOT_H) * self.rate[row, slot] + amount
        days, rest = np.divmod(target, self.integral[row, -1])
        found = (rest[:, None] >= self.integral[row, 1:]).sum(axis=1).clip(max=SLOTS - 1)
        into_h = (rest - self.integral[row, found]) / self.rate[row, found]
        return np.asarray(24.0 * (day + days) + found * SLOT_H + into_h)


def simulate_conjunction(seed: int, entity: Any, days: int, law: Law | None = None) -> BoolArray:
    """Draw when phones are idle, charging and on Wi-Fi, from midnight, every half hour.

    Args:
        seed: seed of the run.
        entity: who draws, integers below 2**32; a device is the same in any company.
        days: from 1 up.
        law: parameters; default the fitted `LAW`.

    Returns:
        bool, (48 days, n): the state at the start of each slot.

    Raises:
        ValueError: days below 1.
    """
    if days < 1:
        raise ValueError(f"days is {days}; allowed: from 1 up")
    law = LAW if law is None else law
    entity = np.asarray(entity)
    factor, habit = device_factor(law, seed, entity), habit_hour(law, seed, entity)
    begin, end = Clock(law.begin_per_h()), Clock(law.end_per_h())
    grid_long = law.long_share(FACTORS)
    result = np.zeros((SLOTS * days, len(entity)), dtype=bool)
    first = stationary(slot_transitions(law, FACTORS))[nearest_factor(factor), habit, 0]
    u = draws.uniform(seed, "availability begins", entity, 0)
    state = np.minimum((u[:, None] > np.cumsum(first, axis=1)).sum(axis=1), LONG_OFF)
    who = np.flatnonzero(factor > 0.0)
    state, time = state[who], np.zeros(len(who))
    index = 1
    while len(who):
        amount = draws.exponential(seed, "availability run", entity[who], index)
        until = time + amount / np.where(state == SHORT_ON, law.mu_per_h, law.nu_per_h)
        until = np.where(state == LONG_ON, end.after(habit[who], time, amount), until)
        until = np.where(state == LONG_OFF, begin.after(habit[who], time, amount / factor[who]), until)
        on = np.flatnonzero(state <= LONG_ON)
        row = np.ceil(time[on] / SLOT_H).astype(int)
        length = np.maximum(np.minimum(np.ceil(until[on] / SLOT_H).astype(int), len(result)) - row, 0)
        rows = np.repeat(row - np.cumsum(length) + length, length) + np.arange(length.sum())
        result[rows, np.repeat(who[on], length)] = True
        u = draws.uniform(seed, "availability turn", entity[who], index)
        slot = (np.mod(until, 24.0) / SLOT_H).astype(int) % SLOTS
        chance = np.where(state == SHORT_OFF, law.rho, grid_long[nearest_factor(factor[who]), slot])
        turned = np.where(u < chance, LONG_ON, SHORT_ON)
        state = np.where(state <= LONG_ON, np.where(u < law.q, SHORT_OFF, LONG_OFF), turned)
        keep = until < 24.0 * days
        who, state, time = who[keep], state[keep], until[keep]
        index += 1
    return result


def nearest_factor(factor: FloatArray) -> IntArray:
    """Return the row of `FACTORS` nearest to each factor, by ratio."""
    step = np.log(FACTORS[1] / FACTORS[0])
    row = np.rint(np.log(np.maximum(factor, 1e-9) / FACTORS[0]) / step)
    return np.asarray(np.clip(row, 0, len(FACTORS) - 1).astype(np.int64))


LAW = Law(
    mu_per_h=1.570, q=0.145, nu_per_h=2.166, rho=0.030, gamma_shape=1.192, never=0.194, regular=0.717,
    habit=(0.920, 0.757, 0.730), habit_end=(-1.126, 1.009), factor_to_long=0.270,
    begin=(-2.508, -0.193, -0.488, -0.104, -0.107, 0.124, -0.019), end=(-1.687, -1.735, -0.308, -0.396, 0.060),
    long=(-1.282, 0.924, 1.560, 0.532, -0.026),
)  # fmt: skip
"""Fit to `phone_availability`: 594 phones of FLASH (Yang et al., WWW'21) by way of FMCL-Convergence-Privacy, 2020-01-29
to 02-02, China. One holiday week of one place; other places and weeks are extrapolation."""

LAW_ERROR = Law(
    mu_per_h=0.055, q=0.020, nu_per_h=0.54, rho=0.157, gamma_shape=0.204, never=0.025, regular=0.044,
    habit=(0.053, 0.062, 0.063), habit_end=(0.152, 0.111), factor_to_long=0.114,
    begin=(0.060, 0.041, 0.044, 0.038, 0.042, 0.044, 0.041), end=(0.085, 0.170, 0.132, 0.107, 0.101),
    long=(0.138, 0.157, 0.196, 0.141, 0.156),
)  # fmt: skip
"""Standard errors of `LAW`, by bootstrap over devices (`models.availability.fit.bootstrap_errors`); within this sample
only, and without what `habits_as_observed` adds."""
