"""What a device learns about its owner and its heat, elementwise, and forecasts from it.

**Owner.** The chance an hour that an idle, charging device is taken back is ``level x day[hour] / sqrt(1 + age_h)``.
The day's 24 values start from those of real phones and move, an exponential average each, with what this device sees;
``level`` is the device's own factor, its count of returns over the count that the day expected. ``age`` is how long
the device has been left alone: the longer, the safer.

**Heat.** Skin approaches an asymptote with one time constant, so two readings give the asymptote they are heading for;
it is learned as ``rest + rise x``, ``x`` being the share of the cap that was lent, by normalised least mean squares
(Haykin, Adaptive Filter Theory, chapter 6). The die follows the skin within a minute, so its excess over the skin is
learned in the same way without a time constant.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from policies.config import PredictiveConfig
from policies.harvest.rows import MIN_PER_H, S_PER_H, S_PER_MIN
from policies.readings import Array, Readings

HOURS = 24
HAZARD_PER_H = (
    0.42, 0.28, 0.21, 0.20, 0.29, 0.50, 0.77, 0.82, 0.81, 0.85, 0.95, 1.11,
    1.04, 1.14, 1.05, 0.96, 0.95, 1.11, 1.21, 1.15, 1.16, 0.98, 0.59, 0.49,
)  # fmt: skip
"""By local hour: ends of availability an hour of availability, each weighted by 1/sqrt(1 + age), over 594 phones and
five days in half-hour slots (FLASH, Yang et al., WWW 2021). The square root fits the fall from 0.95 to 0.17 an hour
within five hours of age."""
LEVEL_PRIOR = 2.0  # returns; a device's own count outweighs them within days (assumption)
HAZARD_MIN_PER_H = 0.01
RISE_PRIOR_K = 8.0  # of skin at the cap: half of the 18 K that 3 W sustained give a phone (assumption)
EXCESS_PRIOR_K = 10.0  # of the die over the skin at the cap (assumption)
RISE_MIN_K = 0.5  # keeps a share finite on devices that lending does not warm


class Owner(NamedTuple):
    """What was learned of an owner; one element (``day``: one row of 24) a device."""

    day: Array  # 1/h, float32, rows of 24
    returns: Array  # fading count of returns
    expected: Array  # fading count that ``day`` expected
    alone_s: Array  # seconds the device has been left alone, 0 while it is not


class Heat(NamedTuple):
    """What was learned of a device's heat."""

    known: Array  # bool: the previous reading had both temperatures
    skin_c: Array  # the previous reading's
    rest_c: Array  # asymptote of skin with nothing lent
    rise_k: Array  # what the whole cap adds to it
    excess_k: Array  # of the die over the skin with nothing lent
    excess_rise_k: Array  # what the whole cap adds to that
    load: Array  # share of the cap lent since the previous reading


def no_owner(like: Array, xp: Any) -> Owner:
    """Return what is known of owners before the first reading: the day of the data."""
    zero = xp.zeros_like(like)
    day = xp.asarray(HAZARD_PER_H, dtype=xp.float32)
    return Owner(xp.broadcast_to(day, (*like.shape, HOURS)) + xp.zeros(1, dtype=xp.float32), zero, zero, zero)


def no_heat(like: Array, xp: Any) -> Heat:
    """Return what is known of heat before the first reading: the priors."""
    zero = xp.zeros_like(like)
    return Heat(zero > 1.0, zero, zero, zero + RISE_PRIOR_K, zero, zero + EXCESS_PRIOR_K, zero)


def watch(
    owner: Owner, config: PredictiveConfig, local_minute: Array, alone: Array, returned: Array, dt_s: Array, xp: Any
) -> tuple[Array, Owner]:
    """Learn from one reading, and return the chance an hour that the owner comes within the look-ahead.

    Args:
        alone: the device is left alone, on power and network.
        returned: the owner took it in the interval.
        dt_s: the interval.
    """
    zero = xp.zeros_like(owner.alone_s)
    minute = xp.where(local_minute >= 0.0, local_minute, zero)  # NaN is gated elsewhere; one clock may serve all rows
    now = _hour(minute, xp)
    level = (LEVEL_PRIOR + owner.returns) / (LEVEL_PRIOR + owner.expected)
    was_alone = xp.astype(owner.alone_s > 0.0, level.dtype)
    hours = was_alone * (dt_s / S_PER_H)
    here = _at(owner.day, now, xp, level.dtype)
    expected = here * hours / xp.sqrt(1.0 + owner.alone_s / S_PER_H)
    event = was_alone * xp.astype(returned, level.dtype)

    change = xp.maximum((event - level * expected) / config.prior_h, HAZARD_MIN_PER_H - here)
    mark = xp.arange(HOURS, dtype=xp.float32) == xp.astype(now, xp.float32)[..., None]
    day = owner.day + xp.astype(mark, xp.float32) * xp.astype(change, xp.float32)[..., None]
    keep = 1.0 - dt_s / (dt_s + config.memory_days * HOURS * S_PER_H)
    alone_s = (owner.alone_s + dt_s) * xp.astype(alone, level.dtype)
    after = Owner(day, owner.returns * keep + event, owner.expected * keep + expected, alone_s)

    soon = _at(day, _hour(minute + config.look_ahead_min, xp), xp, level.dtype)
    return level * soon / xp.sqrt(1.0 + alone_s / S_PER_H), after


def feel(heat: Heat, config: PredictiveConfig, r: Readings, dt_s: Array, xp: Any) -> tuple[Array, Heat]:
    """Learn from one reading, and return the share of the cap (0..1) that keeps skin and die below their limits."""
    dtype = heat.skin_c.dtype
    known = (r.skin_c > -100.0) & (r.die_c > -100.0)  # false for NaN
    skin_c = xp.where(known, r.skin_c, heat.skin_c)
    excess_k = xp.where(known, r.die_c, skin_c) - skin_c
    moved = 1.0 - xp.exp(-xp.asarray(dt_s, dtype=dtype) / (config.skin_tau_min * S_PER_MIN))
    first, learn = known & ~heat.known, xp.astype(known & heat.known & (moved > 0.0), dtype) * config.heat_rate
    rest_c = xp.where(first, skin_c, heat.rest_c)
    rest_k = xp.where(first, excess_k, heat.excess_k)

    x = heat.load
    weight = learn / (1.0 + x * x)
    heading_c = heat.skin_c + (skin_c - heat.skin_c) / xp.where(moved > 0.0, moved, xp.ones_like(moved))
    error = (heading_c - rest_c - heat.rise_k * x) * weight
    off = (excess_k - rest_k - heat.excess_rise_k * x) * weight
    rest_c, rise_k = rest_c + error, xp.maximum(heat.rise_k + error * x, RISE_MIN_K)
    rest_k, rise_die_k = rest_k + off, xp.maximum(heat.excess_rise_k + off * x, RISE_MIN_K)

    reached = 1.0 - xp.exp(xp.asarray(-config.heat_horizon_min / config.skin_tau_min, dtype=dtype))
    skin_max_c = config.max_skin_c - config.margin_c
    by_skin = (skin_c + (skin_max_c - skin_c) / reached - rest_c) / rise_k
    by_die = (config.throttle_temp_c - config.margin_c - skin_c - rest_k) / rise_die_k
    share = xp.minimum(xp.maximum(xp.minimum(by_skin, by_die), 0.0), 1.0)
    share = share * xp.astype(known, dtype)
    return share, Heat(known, skin_c, rest_c, rise_k, rest_k, rise_die_k, x)


def _hour(minute: Array, xp: Any) -> Array:
    hour = xp.floor(minute / MIN_PER_H)
    return hour - HOURS * xp.floor(hour / HOURS)


def _at(day: Array, hour: Array, xp: Any, dtype: Any) -> Array:
    return xp.astype(xp.take_along_axis(day, xp.astype(hour, xp.int32)[..., None], axis=-1)[..., 0], dtype)
