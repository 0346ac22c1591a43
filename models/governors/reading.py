"""The step-wise governor over one reading of a fleet (60 s): the slow part of the chain drifts, the die cycles on it.

A chain's response to die power has one fast mode, the die itself, and slow ones, board and skin. Over a reading the
governor keeps its level until the drift carries the die out of the band (solved for, with the drift taken as even),
and spends the rest in the limit cycle of `models.governors.step_wise` on the base of that rest.
"""

from __future__ import annotations

from typing import NamedTuple

from models.arrays import namespace
from models.governors.speed import power_of_speed, speed_of_level
from models.governors.step_wise import cycle
from models.thermal.network import Modes, Network, Values


class Response(NamedTuple):
    """How a kind's die answers power within a reading; made once a chunk, elementwise over devices.

    Attributes:
        start: the slow part of the die's distance from steady, as weights on each node's distance now.
        mean: the same for the mean over the reading.
        k_per_w: lasting rise of the fast mode, K/W.
        drift_k_per_w: mean rise of the slow modes over a reading, K/W.
        tau_s: time constant of the fast mode, s.
    """

    start: tuple[float, ...]
    mean: tuple[Values, ...]
    k_per_w: Values
    drift_k_per_w: Values
    tau_s: Values


class Reading(NamedTuple):
    """Mean die power (W) and speed over a reading, and the cooling level at its end."""

    mean_power_w: Values
    mean_speed: Values
    level: Values


def response(
    network: Network, modes: Modes, dt_s: float, time_scale: Values = 1.0, conductance_scale: Values = 1.0
) -> Response:
    """Return a die's response to power in readings of `dt_s`, for devices with these factors on C / G and on G."""
    xp = namespace(time_scale, conductance_scale)
    rates = modes.rates_per_s.tolist()
    size = len(rates)
    weight = [[float(modes.from_modal[0, m] * modes.to_modal[m, j]) for j in range(size)] for m in range(size)]
    gain = [weight[m][0] / (network.heat_j_per_k[0] * rates[m]) for m in range(size)]
    average = [-xp.expm1(-xp.asarray(rate * dt_s / time_scale)) / (rate * dt_s / time_scale) for rate in rates]
    slow = range(1, size)
    return Response(
        start=tuple(sum(weight[m][j] for m in slow) for j in range(size)),
        mean=tuple(sum(weight[m][j] * average[m] for m in slow) for j in range(size)),
        k_per_w=gain[0] / conductance_scale,
        drift_k_per_w=sum(gain[m] * (1.0 - average[m]) for m in slow) / conductance_scale,
        tau_s=time_scale / rates[0],
    )


def step_wise_reading(
    response: Response,
    temps_c: tuple[Values, ...],
    idle_c: tuple[Values, ...],
    fixed_w: Values,
    dynamic_w: Values,
    trip_c: Values,
    hysteresis_k: Values,
    levels: Values,
    level: Values,
    poll_s: float,
    exponent: float = 2.0,
) -> Reading:
    """Return what the governor leaves of a device's power over one reading.

    Args:
        response: of the kind and this length of reading.
        temps_c: nodes at its start, die first.
        idle_c: `steady_c` of the chain without any die power.
        fixed_w, dynamic_w, trip_c, hysteresis_k, levels, poll_s, exponent: as for `cycle`.
        level: at its start, as returned for the reading before.
    """
    xp = namespace(*temps_c, fixed_w, dynamic_w)
    start_c, mean_c = _slow_c(response, temps_c, idle_c)
    speed = speed_of_level(level, levels)
    power_w = power_of_speed(speed, fixed_w, dynamic_w, exponent)
    # Die temperature at this level, the fast mode settled, and how far a drift as even as its mean moves it.
    from_c = start_c + response.k_per_w * power_w
    move_k = 2.0 * (mean_c + response.drift_k_per_w * power_w - start_c)
    release_c, top = trip_c - hysteresis_k, levels - 1
    rising = move_k > 0.0
    room_k = xp.where(rising, trip_c, release_c) - from_c
    outside = ((from_c >= trip_c) & (level < top)) | ((from_c < release_c) & (level > 0))
    meets = xp.where(rising, (room_k <= move_k) & (level < top), (room_k >= move_k) & (level > 0))
    kept = xp.where(meets, xp.minimum(xp.maximum(room_k / xp.where(move_k == 0.0, 1.0, move_k), 0.0), 1.0), 1.0)
    kept = xp.where(outside, 0.0, kept)
    after = 1.0 + kept  # the rest's middle, in half readings
    rest = cycle(
        start_c + (mean_c - start_c) * after, response.k_per_w, response.tau_s, fixed_w, dynamic_w, trip_c,
        hysteresis_k, levels, poll_s, exponent, level=level, drift_k_per_w=response.drift_k_per_w * after,
    )  # fmt: skip
    end = xp.where(rest.share_low >= 0.5, rest.level_low, rest.level_low + 1.0)
    return Reading(
        rest.mean_power_w + kept * (power_w - rest.mean_power_w),
        rest.mean_speed + kept * (speed - rest.mean_speed),
        xp.where(outside | meets, end, level),
    )


def untouched(
    response: Response,
    temps_c: tuple[Values, ...],
    idle_c: tuple[Values, ...],
    fixed_w: Values,
    dynamic_w: Values,
    trip_c: Values,
    level: Values,
) -> Values:
    """Return which devices run at full speed throughout: the rest are the rows that `step_wise_reading` is for.

    A third of its cost; arguments as there. Under NumPy most of a fleet need not be asked for more.
    """
    start_c, mean_c = _slow_c(response, temps_c, idle_c)
    full_w = fixed_w + dynamic_w
    from_c = start_c + response.k_per_w * full_w
    end_c = from_c + 2.0 * (mean_c + response.drift_k_per_w * full_w - start_c)
    return (level <= 0) & (from_c < trip_c) & (end_c < trip_c)


def _slow_c(response: Response, temps_c: tuple[Values, ...], idle_c: tuple[Values, ...]) -> tuple[Values, Values]:
    """Return what the die would be at without its own power, fast mode gone: now, and on average over the reading."""
    away = [now - idle for now, idle in zip(temps_c, idle_c, strict=True)]
    start_c = idle_c[0] + sum(w * k for w, k in zip(response.start, away, strict=True))
    return start_c, idle_c[0] + sum(w * k for w, k in zip(response.mean, away, strict=True))
