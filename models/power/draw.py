"""Power law: what a device draws, and where in it the heat appears.

Dynamic power of a chip is C f V(f)^2; over the range in which voltage follows frequency, measured currents of
phone cores grow as frequency to the power 1.9 to 2.1 (Pixel 8) and 1.3 to 1.9 (Pixel 1 to 3; AOSP power
profiles). Speed here is frequency over its maximum, and the exponent is 2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.arrays import ArrayLike, FloatArray, spread

SPEED_EXPONENT = 2.0


class Draw(NamedTuple):
    """Power by the node that it heats, W: the die, and board, screen and radio under the skin."""

    die_w: FloatArray
    board_w: FloatArray


def draw_w(
    idle_w: ArrayLike,
    sustained_w: ArrayLike,
    peak_w: ArrayLike,
    screen_w: ArrayLike,
    screen_on: ArrayLike,
    load: ArrayLike,
    speed: ArrayLike,
    radio_w: ArrayLike = 0.0,
) -> Draw:
    """Return what a device draws.

    The chip takes the way from idle to peak in proportion to its load, times speed squared, and its firmware
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
    """
    idle, sustained, peak, screen, lit, busy, pace, radio = spread(
        idle_w, sustained_w, peak_w, screen_w, screen_on, load, speed, radio_w
    )
    wanted_w = (peak - idle) * np.clip(busy, 0.0, 1.0) * pace**SPEED_EXPONENT
    die_w = np.clip(wanted_w, 0.0, np.maximum(sustained - idle, 0.0))
    return Draw(die_w=die_w, board_w=idle + screen * lit + radio)


def sustained_speed(
    idle_w: ArrayLike, sustained_w: ArrayLike, peak_w: ArrayLike, load: ArrayLike = 1.0
) -> FloatArray:
    """Return the highest speed, 0 to 1, at which `draw_w` does not clip a load.

    Multiply it into compute rates together with the thermal governor's factor, whichever is smaller.
    """
    idle, sustained, peak, busy = spread(idle_w, sustained_w, peak_w, load)
    wanted_w = (peak - idle) * busy
    room_w = np.maximum(sustained - idle, 0.0)
    share = np.divide(room_w, wanted_w, out=np.ones_like(wanted_w), where=wanted_w > room_w)
    return np.asarray(share ** (1.0 / SPEED_EXPONENT))
