"""The step-wise governor: one poll as the kernel does it, and the limit cycle it ends in as a closed form.

The rule, as in drivers/thermal/gov_step_wise.c of Linux up to 6.8 with the hysteresis that Qualcomm posted for it and
ships on Android ("thermal: step_wise: use hysteresis temperature", 2018):

* The zone is polled every `polling-delay-passive` while throttled, 20 to 1000 ms on the boards we know (device trees of
  rk3399, mt8173, rk3588 and others; `POLL_S`).
* The trend is this poll's temperature against the last one's (get_tz_trend without a driver's own: rising, dropping, or
  stable, which does nothing).
* At or above the trip and rising: one level more. At or above the trip and dropping: nothing.
* Below the trip less the hysteresis and dropping: one level less. The hysteresis lies on the lower side only.
* Between the two: nothing. Never more than one level a poll, never outside 0 .. levels - 1.

With a hysteresis of 0 this is mainline up to 6.8, which does not look at it. Later kernels differ: below the threshold
they go straight to no cooling, and the threshold of a crossed trip is the trip less the hysteresis.

In closed form: the die relaxes with one time constant towards a slow base plus its own rise. Level k has a lasting
temperature T_k that falls with k. If some T_k lies between release (trip less hysteresis) and trip the governor stays
there; which one, where several do, is history, hence `level`. Otherwise the two neighbours of the gap take turns: at
the hot one the die climbs to the trip and is seen there half a poll later on average, at the cool one it falls to the
release and half a poll on; the two times, one poll in them, give the share of each. Setting the lasting temperature
to the trip instead would be wrong by up to half a level. Left out: a die that shot past the trip and drops towards a
lasting temperature still above it keeps its level, as the rule does nothing about it until it next rises.
"""

from __future__ import annotations

from typing import NamedTuple

from models.arrays import namespace
from models.governors.speed import power_of_speed, speed_of_level
from models.thermal.network import Values

POLL_S = 0.1  # between the 20 ms of rk3399 and the 1 s of mt8173; Android's thermal zones poll at 100 ms when passive
_TINY_W = 1e-30  # keeps a ratio of two zeros at zero, in single precision too


class Cycle(NamedTuple):
    """Where the governor ends up.

    Attributes:
        mean_power_w: over a cycle, W.
        mean_speed: over a cycle, 0 to 1.
        level_low: the faster of the two levels; the only one where the governor stays.
        share_low: share of the time at `level_low`; the rest is spent one level cooler.
    """

    mean_power_w: Values
    mean_speed: Values
    level_low: Values
    share_low: Values


def poll(
    level: Values, temp_c: Values, previous_temp_c: Values, trip_c: Values, hysteresis_k: Values, levels: Values
) -> Values:
    """Return the cooling level after one poll: one up, one down, or the same.

    Args:
        level: now, 0 (full speed) to levels - 1.
        temp_c: of the zone at this poll.
        previous_temp_c: at the poll before; their order is the trend.
        trip_c: passive trip point.
        hysteresis_k: below the trip, from 0 up.
        levels: how many there are, at least 1.
    """
    xp = namespace(level, temp_c, previous_temp_c, trip_c, hysteresis_k, levels)
    hotter = xp.asarray((temp_c >= trip_c) & (temp_c > previous_temp_c))
    cooler = xp.asarray((temp_c < trip_c - hysteresis_k) & (temp_c < previous_temp_c))
    moved = xp.where(hotter, level + 1, xp.where(cooler, level - 1, level))
    return xp.minimum(xp.maximum(moved, 0 * levels), levels - 1)


def cycle(
    base_c: Values,
    k_per_w: Values,
    tau_s: Values,
    fixed_w: Values,
    dynamic_w: Values,
    trip_c: Values,
    hysteresis_k: Values,
    levels: Values,
    poll_s: float,
    exponent: float = 2.0,
    *,
    level: Values | None = None,
    drift_k_per_w: Values = 0.0,
) -> Cycle:
    """Return the governor's lasting state, elementwise.

    Args:
        base_c: what the die would cool to at once without power: ambient, board and skin.
        k_per_w: how far above it a watt lifts the die, above 0.
        tau_s: how fast, time constant.
        fixed_w: die power that no level takes away.
        dynamic_w: die power on top at full speed.
        trip_c, hysteresis_k, levels: as for `poll`.
        poll_s: time between polls.
        exponent: of speed in power.
        level: before, where several levels would last; None for a device that has been warming up.
        drift_k_per_w: how far a watt lifts the base itself on average over the time looked at (`models.governors.
            reading`); 0 for a base that stands still.
    """
    xp = namespace(base_c, k_per_w, fixed_w, dynamic_w, trip_c)
    lasting = k_per_w + drift_k_per_w
    release_c = trip_c - hysteresis_k
    # Speed to the power of the exponent whose lasting temperature is the trip, and the release; 4 is "any speed".
    per_share = 1.0 / (lasting * xp.maximum(dynamic_w, 1e-9))
    spare_c = base_c + lasting * fixed_w
    at_trip = _speed(xp.minimum(xp.maximum((trip_c - spare_c) * per_share, 0.0), 4.0), exponent)
    at_release = _speed(xp.minimum(xp.maximum((release_c - spare_c) * per_share, 0.0), 4.0), exponent)
    first_below_trip = xp.floor((1.0 - at_trip) * levels) + 1.0
    last_above_release = xp.floor((1.0 - at_release) * levels)
    top = levels - 1.0
    least = xp.minimum(xp.maximum(first_below_trip, 0.0), top)
    stays = least if level is None else xp.maximum(xp.minimum(level, last_above_release), least)
    turns = (first_below_trip > last_above_release) & (first_below_trip <= top) & (last_above_release >= 0.0)
    low = xp.where(turns, least - 1.0, stays)
    speed_hot, speed_cool = speed_of_level(low, levels), speed_of_level(low + 1.0, levels)
    hot_w = power_of_speed(speed_hot, fixed_w, dynamic_w, exponent)
    cool_w = power_of_speed(speed_cool, fixed_w, dynamic_w, exponent)
    # Where the base drifts, it does so at about the power whose lasting temperature is in the middle of the band.
    middle_w = xp.minimum(xp.maximum((0.5 * (trip_c + release_c) - base_c) / lasting, cool_w), hot_w)
    now_c = base_c + drift_k_per_w * middle_w
    over_k, under_k = now_c + k_per_w * hot_w - trip_c, release_c - now_c - k_per_w * cool_w
    # A die that meets both ends of the band only as the base drifts: the middle of the band on average.
    brisk = turns & (over_k > 0.0) & (under_k > 0.0)
    late = xp.exp(xp.asarray(-0.5 * poll_s / tau_s))
    over_k, under_k = xp.where(brisk, over_k, 1.0), xp.where(brisk, under_k, 1.0)
    left_over_k, left_under_k = over_k * late, under_k * late
    span_k = over_k + under_k + hysteresis_k
    hot_time = xp.log((span_k - left_under_k) / left_over_k)
    cool_time = xp.log((span_k - left_over_k) / left_under_k)
    share_turns = xp.where(
        brisk, hot_time / (hot_time + cool_time), (middle_w - cool_w) / xp.maximum(hot_w - cool_w, _TINY_W)
    )
    share = xp.where(turns, share_turns, 1.0)
    return Cycle(
        cool_w + share * (hot_w - cool_w),
        speed_cool + share * (speed_hot - speed_cool),
        low,
        share,
    )


def _speed(share: Values, exponent: float) -> Values:
    if exponent == 2.0:
        return namespace(share).sqrt(share)
    return share ** (1.0 / exponent)
