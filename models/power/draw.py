"""The compact power law of the fleet: what a device draws, and where in it the heat appears.

Dynamic power of a chip is C f V(f)^2; over the range in which voltage follows frequency, measured currents of phone
cores grow as frequency to the power 1.9 to 2.1 (Pixel 8) and 1.3 to 1.9 (Pixel 1 to 3; AOSP power profiles). Speed here
is frequency over its maximum, and the exponent is 2 unless a device has its own: `models.power.compact` derives it from
the detailed tables. Elementwise, under NumPy and jax.numpy.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from models.power.arrays import as_arrays

Array = Any

SPEED_EXPONENT = 2.0

LEAK_REFERENCE_C = 25.0
"""Die temperature at which idle, sustained and peak power are meant; leakage above it comes on top."""

LEAK_SHARE = 0.10
LEAK_PER_K = 0.015
"""Leakage at 25 C is a tenth of the chip's sustained power, and grows by 1.5 % of itself a kelvin (assumptions: mobile
chips leak 5 to 15 %; a line is within about 5 % of the exponential over a working range: Liu, Dick, Shang and Yang,
"Accurate temperature-dependent integrated circuit leakage power estimation is easy", DATE'07, from memory)."""


class Draw(NamedTuple):
    """Power by the node that it heats, W: the die, and board, screen and radio under the skin."""

    die_w: Array
    board_w: Array


def draw_w(
    idle_w: Array,
    sustained_w: Array,
    peak_w: Array,
    screen_w: Array,
    screen_on: Array,
    load: Array,
    speed: Array,
    radio_w: Array = 0.0,
    exponent: Array = SPEED_EXPONENT,
) -> Draw:
    """Return what a device draws.

    The chip takes the way from idle to peak in proportion to its load, times speed to the exponent, and its firmware
    holds the mean over half a minute or more at the sustained power (RAPL's PL1, a phone's sustainable power,
    a GPU's power limit). Laws are asked about intervals of that length, so the limit is applied here and
    bursts are not seen.

    Args:
        idle_w: device awake, screen off, nothing to do.
        sustained_w: limit on the mean, idle included.
        peak_w: full load at full speed, idle included.
        screen_w: screen at its usual brightness.
        screen_on: 0 or 1, or the share of the interval.
        load: share of the chip in use, 0 to 1.
        speed: frequency over its maximum, 0 to 1.
        radio_w: radio above its idle.
        exponent: of speed.
    """
    xp, idle, sustained, peak, screen, lit, busy, pace, radio = as_arrays(
        idle_w, sustained_w, peak_w, screen_w, screen_on, load, speed, radio_w
    )
    wanted_w = (peak - idle) * xp.clip(busy, 0.0, 1.0) * pace**exponent
    die_w = xp.clip(wanted_w, 0.0, xp.maximum(sustained - idle, xp.zeros_like(idle)))
    return Draw(*xp.broadcast_arrays(die_w, idle + screen * lit + radio))


def sustained_speed(
    idle_w: Array, sustained_w: Array, peak_w: Array, load: Array = 1.0, exponent: Array = SPEED_EXPONENT
) -> Array:
    """Return the highest speed, 0 to 1, at which `draw_w` does not clip a load.

    Multiply it into compute rates together with the thermal governor's factor, whichever is smaller.
    """
    xp, idle, sustained, peak, busy = as_arrays(idle_w, sustained_w, peak_w, load)
    wanted_w = (peak - idle) * busy
    room_w = xp.maximum(sustained - idle, xp.zeros_like(idle))
    over = wanted_w > room_w
    share = xp.where(over, room_w, 1.0) / xp.where(over, wanted_w, 1.0)
    return share ** (1.0 / exponent)


def leak_slope_w_per_k(idle_w: Array, sustained_w: Array) -> Array:
    """Return how fast a device's leakage grows with its die's temperature, W/K, when nothing better is known."""
    xp, idle, sustained = as_arrays(idle_w, sustained_w)
    return LEAK_SHARE * LEAK_PER_K * xp.maximum(sustained - idle, xp.zeros_like(idle))


def leak_w(die_c: Array, slope_w_per_k: Array) -> Array:
    """Return the leakage above that at 25 C, W: negative on a colder die. A line, so that it may go into a conductance.

    Args:
        die_c: temperature of the die, C.
        slope_w_per_k: `leak_slope_w_per_k`, or a device's own.
    """
    _, die, slope = as_arrays(die_c, slope_w_per_k)
    return slope * (die - LEAK_REFERENCE_C)
