"""What a device learns about its owner, elementwise, and the chance an hour that it forecasts of a return.

How soon an owner ends a stretch in which the device was left alone is known from others' devices, as one of two
stories, and each device learns which is its own and how it differs from it:

- **with a battery**, a phone or a device that lies at home. A phone's stretch is a short one, which ends at
  ``SHORT_PER_H`` whatever the hour, or a long one (the night on the charger), which ends by the clock. Which of the
  two it is nobody sees; a long one is likelier at bedtime, hardly ever follows a short interruption, and grows likelier
  the longer the stretch lasts: so the chance of a return falls with its age. At home, returns come at any hour alike.
- **without**, a machine that is used in office hours or one that is used in the evening.

What is learned, at every reading: which story (Bayes' rule: each says how likely a return was); the owner's own level
of returns (the count of them over the count that the story expected, as for a Poisson rate of gamma prior) and own hour
(a first harmonic of the day, by the gradient of the likelihood); a phone's own share of long stretches. The own hour
makes up for a story that is wrong about the clock, within days.
"""

from __future__ import annotations

from math import cos as cos_of
from math import exp, pi
from math import sin as sin_of
from typing import Any, NamedTuple

from policies.config import PredictiveConfig
from policies.harvest.rows import MIN_PER_H, S_PER_H
from policies.readings import Array

HOURS = 24
# Phones, by hour: `models.availability.LAW`, fitted to 594 of them over five days (FLASH, Yang et al., WWW 2021).
SHORT_PER_H = 1.57  # ends of short stretches an hour
PHONE_PER_H = (
    0.022, 0.026, 0.037, 0.060, 0.100, 0.163, 0.247, 0.343, 0.435, 0.517, 0.592, 0.667,
    0.745, 0.814, 0.843, 0.795, 0.658, 0.469, 0.291, 0.162, 0.087, 0.049, 0.031, 0.023,
)  # fmt: skip
"""Ends of long stretches an hour."""
PHONE_LONG = (
    0.34, 0.52, 0.51, 0.35, 0.12, -0.13, -0.36, -0.55, -0.72, -0.90, -1.15, -1.48,
    -1.90, -2.37, -2.85, -3.24, -3.46, -3.46, -3.21, -2.72, -2.07, -1.34, -0.63, -0.05,
)  # fmt: skip
"""Log-odds that a stretch which begins at that hour after a long absence is a long one."""
GAP_SHARE = 0.145  # of stretches: a short gap follows
GAP_PER_H = 2.166  # ends of short gaps an hour
ABSENT_PER_H = 0.1  # ends of all other absences, about the law's mean over the day
GAP_LONG = 0.03  # chance that a long stretch follows a short gap
# The others: ends an hour of the twin's own devices, an assumed population (`models.availability.decompositions`), as
# measured on `fleet_week`, seeds 901 to 906. A real fleet has to be measured anew.
HOME_PER_H = (0.2,) * HOURS  # tablets; laptops keep neither story well and are learned
OFFICE_PER_H = (*(0.04,) * 8, 0.79, *(0.96,) * 9, 0.25, *(0.04,) * 5)
EVENING_PER_H = (*(0.15,) * 17, 0.39, *(0.44,) * 5, 0.22)
"""Machines without a battery, parted in two by expectation maximisation; office hours first."""
PHONES = 0.9  # log-odds that a device with a battery is a phone: 71 %
OFFICES = 0.26  # log-odds that a machine without one keeps office hours: 56 %

NO_SHORT = 9.0  # log-odds of a long stretch where there are no short ones
STORY_MAX = 6.0  # log-odds: an owner who changes is found out within a few returns
HABIT_VAR = 0.25  # of each coefficient of the own hour, of a log (phones alone: 0.8; chosen on seeds 901 and 902)
HABIT_MAX = 2.5
LONG_RATE = 0.25  # step of the own log-odds of long stretches at a return (chosen on seeds 901 to 906)
TASTE_MAX = 4.0
FASTEST_PER_H = 12.0  # owners who come more often look all the same
SEEN_H = 1.0  # between two readings further apart nobody knows what happened: no more is learned than from an hour


class Owner(NamedTuple):
    """What was learned of an owner; one element a device."""

    alone: Array  # bool: left alone, on power and network, at the previous reading
    absent_h: Array  # hours since it was so last, 0 while it is
    returns: Array  # fading count of returns, but for those that end short stretches
    expected: Array  # fading count that the stories expected
    habit_cos: Array  # coefficients of the own hour, of the log of the chance of a return
    habit_sin: Array
    taste: Array  # own log-odds of long stretches, on top of the clock's
    long: Array  # chance that this stretch is a long one, if the first story is true
    began: Array  # the same as the stretch began
    first: Array  # chance of the first story


def no_owner(like: Array, has_battery: Array, xp: Any) -> Owner:
    """Return what is known of owners before the first reading: the stories, and that it was absent for long."""
    zero = xp.zeros_like(like)
    first = xp.where(has_battery, zero + _chance(PHONES), zero + _chance(OFFICES))
    return Owner(zero > 1.0, zero + HOURS, zero, zero, zero, zero, zero, zero, zero, first)


def watch(
    owner: Owner, config: PredictiveConfig, local_minute: Array, alone: Array, mains: Array, dt_s: Array, xp: Any
) -> tuple[Array, Owner]:
    """Learn from one reading, and return the chance an hour that the owner comes, at the end of the look-ahead.

    Args:
        alone: the device is left alone, on power and network.
        mains: it has no battery.
        dt_s: the interval.
    """
    dtype = owner.returns.dtype
    minute = xp.where(local_minute >= 0.0, local_minute, xp.zeros_like(local_minute))  # NaN is gated elsewhere
    battery = xp.astype(~mains, dtype)
    hours = dt_s / S_PER_H
    time_h = xp.astype(owner.alone, dtype) * xp.minimum(xp.asarray(hours, dtype=dtype), xp.asarray(SEEN_H, dtype=dtype))
    ended = owner.alone & ~alone
    end = xp.astype(ended, dtype)

    # What the interval says about the stretch and about the owner's story.
    row = _row(minute, mains, xp)
    long_per_h, second_per_h = _per_h(owner, config, row, xp)
    long = owner.long / (owner.long + (1.0 - owner.long) * xp.exp((long_per_h - SHORT_PER_H) * time_h))
    first_per_h = SHORT_PER_H + (long_per_h - SHORT_PER_H) * long
    against = xp.where(ended, second_per_h / first_per_h, xp.ones_like(end))
    against = against * xp.exp((first_per_h - second_per_h) * time_h)
    first = _within(owner.first / (owner.first + (1.0 - owner.first) * against), 1.0 - _SURE, _SURE, xp)

    # What it says about how this owner differs from the story.
    mine, rest = first * long, 1.0 - first
    level = _level(owner, config)
    keep = 1.0 - dt_s / (dt_s + config.memory_days * HOURS * S_PER_H)
    count, hoped = end * (mine + rest), time_h * (mine * long_per_h + rest * second_per_h)
    returns, expected = owner.returns * keep + count, owner.expected * keep + hoped / level
    step = (count - hoped) / (1.0 / HABIT_VAR + level * owner.expected / 2.0)
    taste = _within(owner.taste + LONG_RATE * first * end * (long - owner.began), -TASTE_MAX, TASTE_MAX, xp)

    begins = _begins(owner.absent_h, taste, battery, row, xp)
    goes_on = owner.alone & alone
    after = Owner(
        alone=alone,
        absent_h=(owner.absent_h + hours) * xp.astype(~alone, dtype),
        returns=returns,
        expected=expected,
        habit_cos=_within(owner.habit_cos + step * _at(_COS, row, dtype, xp), -HABIT_MAX, HABIT_MAX, xp),
        habit_sin=_within(owner.habit_sin + step * _at(_SIN, row, dtype, xp), -HABIT_MAX, HABIT_MAX, xp),
        taste=taste,
        long=xp.where(goes_on, long, begins),
        began=xp.where(goes_on, owner.began, begins),
        first=first,
    )
    long_per_h, second_per_h = _per_h(after, config, _row(minute + config.look_ahead_min, mains, xp), xp)
    first_per_h = SHORT_PER_H + (long_per_h - SHORT_PER_H) * after.long
    return second_per_h + (first_per_h - second_per_h) * first, after


def _level(owner: Owner, config: PredictiveConfig) -> Array:
    return (config.prior_returns + owner.returns) / (config.prior_returns + owner.expected)


def _per_h(owner: Owner, config: PredictiveConfig, row: Array, xp: Any) -> tuple[Array, Array]:
    """Return how often an hour this owner ends a long stretch by the first story, and any by the second."""
    level, dtype = _level(owner, config), owner.returns.dtype
    own = xp.exp(owner.habit_cos * _at(_COS, row, dtype, xp) + owner.habit_sin * _at(_SIN, row, dtype, xp))
    level = level * own
    first, second = level * _at(_FIRST, row, dtype, xp), level * _at(_SECOND, row, dtype, xp)
    return _within(first, 0.0, FASTEST_PER_H, xp), _within(second, 0.0, FASTEST_PER_H, xp)


def _begins(absent_h: Array, taste: Array, battery: Array, row: Array, xp: Any) -> Array:
    """Return the chance that a stretch which begins now is a long one, by the first story."""
    odds = xp.exp((ABSENT_PER_H - GAP_PER_H) * absent_h)
    gap = battery * odds / (odds + _ABSENCES)  # chance that the absence was a short gap
    long = 1.0 / (1.0 + xp.exp(-_at(_LONG, row, taste.dtype, xp) - taste))
    return long + (GAP_LONG - long) * gap


def _chance(log_odds: float) -> float:
    return 1.0 / (1.0 + exp(-log_odds))


def _row(minute: Array, mains: Array, xp: Any) -> Array:
    """Return the row of the tables: the hour, for machines without a battery in a second day."""
    hour = xp.floor(minute / MIN_PER_H)
    return xp.astype(hour - HOURS * xp.floor(hour / HOURS), xp.int32) + HOURS * xp.astype(mains, xp.int32)


def _at(table: tuple[float, ...], row: Array, dtype: Any, xp: Any) -> Array:
    return xp.asarray(table, dtype=dtype)[row]


def _within(value: Array, low: float, high: float, xp: Any) -> Array:
    return xp.minimum(xp.maximum(value, low), high)


_FIRST, _SECOND = PHONE_PER_H + OFFICE_PER_H, HOME_PER_H + EVENING_PER_H
_LONG = PHONE_LONG + (NO_SHORT,) * HOURS
_COS, _SIN = (tuple(f(2.0 * pi * (hour + 0.5) / HOURS) for hour in range(HOURS)) * 2 for f in (cos_of, sin_of))
_ABSENCES = (1.0 - GAP_SHARE) * ABSENT_PER_H / (GAP_SHARE * GAP_PER_H)  # all other absences to one short gap, at once
_SURE = _chance(STORY_MAX)
