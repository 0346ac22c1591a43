"""Heat law: two warm nodes (die; skin with board and battery) against ambient air, exact over any interval.

C dT/dt = -G T + P + g_a T_a with powers and ambient held. The 2x2 system matrix is similar to a symmetric
one, so it has two real decay rates and its exponential is a sum of two projections: exp(-M t) = exp(-fast t)
(M - slow I) / (fast - slow) + exp(-slow t) (fast I - M) / (fast - slow). The governor here is the kernel's
step-wise rule; it is sampled, as on a real device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.arrays import ArrayLike, FloatArray, IntArray, require_not_negative, spread

# Bisection halves a bracket of doubles at most this often before it is one float wide in relative terms;
# Newton steps in between make it faster. A test holds the crossing time to 1e-9.
_ROOT_ROUNDS = 80


@dataclass(frozen=True)
class Body:
    """Heat capacities (J/K) and conductances (W/K) of a device; every value above 0."""

    die_j_per_k: ArrayLike
    skin_j_per_k: ArrayLike
    die_skin_w_per_k: ArrayLike
    skin_ambient_w_per_k: ArrayLike


class Reference(NamedTuple):
    """A body and the power it is built to shed for ever, W."""

    sustained_w: float
    body: Body


# Phone and laptop: three-node values chosen so that 3 W sustained warms a phone's skin by 18 K with a time
# constant of 10 to 20 minutes (published skin resistances are 6-8 K/W), with the board and the skin lumped
# here and their conductances to the die in series; the laptop is an order of magnitude. Tablet: assumption, a
# phone with twice the surface and mass. Desktop and gpu_box: assumption, 45 to 50 K over ambient at the
# sustained power, as GPUs and CPUs show at their power limit (65-75 C), with capacities of that order of
# magnitude.
BODIES = {
    "phone": Reference(3.0, Body(2.5, 150.0, 0.334, 0.16)),
    "tablet": Reference(6.0, Body(4.0, 350.0, 0.668, 0.32)),
    "laptop": Reference(28.0, Body(12.0, 1250.0, 0.856, 0.95)),
    "desktop": Reference(65.0, Body(40.0, 900.0, 1.9, 6.5)),
    "gpu_box": Reference(350.0, Body(90.0, 4400.0, 10.0, 23.0)),
}


class Warmth(NamedTuple):
    """Temperatures at the end of an interval and their means over it, C."""

    die_c: FloatArray
    skin_c: FloatArray
    mean_die_c: FloatArray
    mean_skin_c: FloatArray


class _Modes(NamedTuple):
    """Decay rates (1/s), steady temperatures (C) and each node's share of each mode (K)."""

    fast: FloatArray
    slow: FloatArray
    steady_die_c: FloatArray
    steady_skin_c: FloatArray
    die_fast_k: FloatArray
    die_slow_k: FloatArray
    skin_fast_k: FloatArray
    skin_slow_k: FloatArray


def body(kind: str, sustained_w: ArrayLike) -> Body:
    """Return bodies of a kind, scaled to the power they shed for ever (assumption: coolers fit the chip).

    Capacities and conductances scale together, so time constants stay those of the kind.
    """
    if kind not in BODIES:
        raise ValueError(f"kind is {kind!r}; allowed: {', '.join(BODIES)}")
    reference = BODIES[kind]
    scale = np.asarray(sustained_w, dtype=np.float64) / reference.sustained_w
    one = reference.body
    return Body(
        die_j_per_k=scale * np.asarray(one.die_j_per_k),
        skin_j_per_k=scale * np.asarray(one.skin_j_per_k),
        die_skin_w_per_k=scale * np.asarray(one.die_skin_w_per_k),
        skin_ambient_w_per_k=scale * np.asarray(one.skin_ambient_w_per_k),
    )


def steady(
    body: Body, die_power_w: ArrayLike, skin_power_w: ArrayLike, ambient_c: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Return the die and skin temperatures (C) that these powers (W) end in."""
    die_w, skin_w, air_c = spread(die_power_w, skin_power_w, ambient_c)
    skin_c = air_c + (die_w + skin_w) / np.asarray(body.skin_ambient_w_per_k)
    return skin_c + die_w / np.asarray(body.die_skin_w_per_k), skin_c


def advance(
    body: Body,
    die_c: ArrayLike,
    skin_c: ArrayLike,
    die_power_w: ArrayLike,
    skin_power_w: ArrayLike,
    ambient_c: ArrayLike,
    dt_s: ArrayLike,
) -> Warmth:
    """Advance temperatures (C) over an interval (s) with heat (W) and ambient (C) held."""
    require_not_negative("dt_s", dt_s)
    modes = _modes(body, die_c, skin_c, die_power_w, skin_power_w, ambient_c)
    length_s = np.asarray(dt_s, dtype=np.float64)
    fast_left, slow_left = np.exp(-modes.fast * length_s), np.exp(-modes.slow * length_s)
    fast_mean, slow_mean = _mean_decay(modes.fast * length_s), _mean_decay(modes.slow * length_s)
    return Warmth(
        modes.steady_die_c + modes.die_fast_k * fast_left + modes.die_slow_k * slow_left,
        modes.steady_skin_c + modes.skin_fast_k * fast_left + modes.skin_slow_k * slow_left,
        modes.steady_die_c + modes.die_fast_k * fast_mean + modes.die_slow_k * slow_mean,
        modes.steady_skin_c + modes.skin_fast_k * fast_mean + modes.skin_slow_k * slow_mean,
    )


def time_to_die_c(
    body: Body,
    die_c: ArrayLike,
    skin_c: ArrayLike,
    die_power_w: ArrayLike,
    skin_power_w: ArrayLike,
    ambient_c: ArrayLike,
    target_c: ArrayLike,
) -> FloatArray:
    """Return when the die first is at `target_c`, from above or below, s; inf if it never is.

    The die follows a constant and two exponentials: at most one turning point, hence at most one crossing
    before it and one after. Each is bracketed, then found by Newton's method guarded by bisection.
    """
    modes = _modes(body, die_c, skin_c, die_power_w, skin_power_w, ambient_c)
    goal, fast, slow, a, b, end = spread(
        target_c, modes.fast, modes.slow, modes.die_fast_k, modes.die_slow_k, modes.steady_die_c
    )

    def gap_k(t_s: FloatArray) -> FloatArray:
        return np.asarray((end - goal) + a * np.exp(-fast * t_s) + b * np.exp(-slow * t_s))

    with np.errstate(divide="ignore", invalid="ignore"):
        turn_s = np.log(-(a * fast) / (b * slow)) / (fast - slow)
        turn_s = np.where(np.isfinite(turn_s) & (turn_s > 0.0), turn_s, 0.0)
        # By this time what is left of both modes is smaller than the distance from the end to the target.
        late_s = np.log((np.abs(a) + np.abs(b)) / np.abs(end - goal)) / slow
    late_s = np.where(np.isfinite(late_s), np.maximum(late_s, turn_s), turn_s) + 1.0 / slow
    at_start, at_turn = gap_k(np.zeros_like(goal)), gap_k(turn_s)
    early = at_start * at_turn <= 0.0
    crosses = early | (at_turn * (end - goal) < 0.0)
    low, high = np.where(early, 0.0, turn_s), np.where(early, turn_s, late_s)
    rising = np.where(early, at_start <= 0.0, at_turn < 0.0)
    root_s = 0.5 * (low + high)
    for _ in range(_ROOT_ROUNDS):
        gap = gap_k(root_s)
        before = (gap < 0.0) == rising
        low, high = np.where(before, root_s, low), np.where(before, high, root_s)
        slope = -a * fast * np.exp(-fast * root_s) - b * slow * np.exp(-slow * root_s)
        with np.errstate(divide="ignore", invalid="ignore"):
            newton_s = root_s - gap / slope
        step_s = np.where((newton_s > low) & (newton_s < high), newton_s, 0.5 * (low + high))
        if np.array_equal(step_s, root_s):
            break
        root_s = step_s
    return np.where(at_start == 0.0, 0.0, np.where(crosses, root_s, np.inf))


def throttle(
    level: npt.ArrayLike, die_c: ArrayLike, trip_c: ArrayLike, hysteresis_k: ArrayLike, levels: npt.ArrayLike
) -> IntArray:
    """Return the next cooling level: one up from the trip on, one down below trip less hysteresis.

    This is one poll of the Linux step-wise governor (drivers/thermal/gov_step_wise.c) with the trend left
    out: a die that stays above its trip goes on climbing.

    Args:
        level: cooling level now, 0 (full speed) to levels - 1.
        levels: how many levels there are, at least 1.
    """
    hot = np.asarray(die_c, dtype=np.float64)
    trip = np.asarray(trip_c, dtype=np.float64)
    up = (hot >= trip).astype(np.int64)
    down = (hot < trip - np.asarray(hysteresis_k, dtype=np.float64)).astype(np.int64)
    top = np.asarray(levels, dtype=np.int64) - 1
    return np.asarray(np.clip(np.asarray(level, dtype=np.int64) + up - down, 0, top))


def speed_factor(level: npt.ArrayLike, levels: npt.ArrayLike) -> FloatArray:
    """Return the speed left at a cooling level: 1 at level 0, falling evenly to 1 / levels at the last.

    Even steps are an assumption: real tables of operating points are close to even in frequency.
    """
    return np.asarray(1.0 - np.asarray(level, dtype=np.float64) / np.asarray(levels, dtype=np.float64))


def _mean_decay(x: FloatArray) -> FloatArray:
    """Return the mean of exp(-x u) for u in [0, 1]."""
    return np.where(x > 0.0, -np.expm1(-x) / np.where(x > 0.0, x, 1.0), 1.0)


def _modes(
    body: Body,
    die_c: ArrayLike,
    skin_c: ArrayLike,
    die_power_w: ArrayLike,
    skin_power_w: ArrayLike,
    ambient_c: ArrayLike,
) -> _Modes:
    steady_die_c, steady_skin_c = steady(body, die_power_w, skin_power_w, ambient_c)
    die_j, skin_j, across, out = spread(
        body.die_j_per_k, body.skin_j_per_k, body.die_skin_w_per_k, body.skin_ambient_w_per_k
    )
    die_out, die_in = across / die_j, -across / die_j
    skin_in, skin_out = -across / skin_j, (across + out) / skin_j
    fast = 0.5 * (die_out + skin_out) + np.sqrt(0.25 * (die_out - skin_out) ** 2 + die_in * skin_in)
    slow = across * out / (die_j * skin_j) / fast  # by the determinant: no cancellation
    die_k = np.asarray(die_c, dtype=np.float64) - steady_die_c
    skin_k = np.asarray(skin_c, dtype=np.float64) - steady_skin_c
    span = fast - slow
    die_fast_k = ((die_out - slow) * die_k + die_in * skin_k) / span
    skin_fast_k = (skin_in * die_k + (skin_out - slow) * skin_k) / span
    return _Modes(
        fast,
        slow,
        steady_die_c,
        steady_skin_c,
        die_fast_k,
        die_k - die_fast_k,
        skin_fast_k,
        skin_k - skin_fast_k,
    )
