"""What a device learns about its heat, elementwise, and the share of its cap that it forecasts to be safe.

Skin approaches an asymptote with one time constant, so two readings give the asymptote they are heading for;
it is learned as ``rest + rise x``, ``x`` being the share of the cap that was lent, by normalised least mean squares
(Haykin, Adaptive Filter Theory, chapter 6), its step in proportion to the time that has passed: a reading soon after
the last says little of where the skin is heading, a coarse sensor's least of all. The die follows the skin within a
minute, so its excess over the skin is learned in the same way without a time constant.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from policies.config import PredictiveConfig
from policies.harvest.rows import S_PER_MIN
from policies.readings import Array, Readings

RISE_PRIOR_K = 8.0  # of skin at the cap: half of the 18 K that 3 W sustained give a phone (assumption)
EXCESS_PRIOR_K = 10.0  # of the die over the skin at the cap (assumption)
RISE_MIN_K = 0.5  # keeps a share finite on devices that lending does not warm


class Heat(NamedTuple):
    """What was learned of a device's heat."""

    known: Array  # bool: the previous reading had both temperatures
    skin_c: Array  # the previous reading's
    rest_c: Array  # asymptote of skin with nothing lent
    rise_k: Array  # what the whole cap adds to it
    excess_k: Array  # of the die over the skin with nothing lent
    excess_rise_k: Array  # what the whole cap adds to that
    load: Array  # share of the cap lent since the previous reading


def no_heat(like: Array, xp: Any) -> Heat:
    """Return what is known of heat before the first reading: the priors."""
    zero = xp.zeros_like(like)
    return Heat(zero > 1.0, zero, zero, zero + RISE_PRIOR_K, zero, zero + EXCESS_PRIOR_K, zero)


def feel(heat: Heat, config: PredictiveConfig, r: Readings, dt_s: Array, xp: Any) -> tuple[Array, Heat]:
    """Learn from one reading, and return the share of the cap (0..1) that keeps skin and die below their limits."""
    dtype = heat.skin_c.dtype
    known = (r.skin_c > -100.0) & (r.die_c > -100.0)  # false for NaN
    skin_c = xp.where(known, r.skin_c, heat.skin_c)
    excess_k = xp.where(known, r.die_c, skin_c) - skin_c
    moved = 1.0 - xp.exp(-xp.asarray(dt_s, dtype=dtype) / (config.skin_tau_min * S_PER_MIN))
    first, again = known & ~heat.known, known & heat.known & (moved > 0.0)
    minutes = xp.minimum(xp.asarray(dt_s, dtype=dtype) / S_PER_MIN, 1.0 / config.heat_rate)
    rest_c = xp.where(first, skin_c, heat.rest_c)
    rest_k = xp.where(first, excess_k, heat.excess_k)

    x = heat.load
    weight = xp.astype(again, dtype) * (minutes * config.heat_rate) / (1.0 + x * x)
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
