"""What faults change around a device: its air, its mains, its network, and who holds it. One row a device."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.owners import Habits


class Moment(NamedTuple):
    """What owners and surroundings do at one tick; arrays of one element a device.

    Attributes:
        plugged: on a live socket.
        screen_on: in use.
        away: not on its home network.
        offline: on no network.
        idle_s: since it was last in use.
    """

    plugged: np.ndarray
    screen_on: np.ndarray
    away: np.ndarray
    offline: np.ndarray
    idle_s: np.ndarray


class Surroundings:
    """What is out of the ordinary now, by device.

    Attributes:
        warmer_c: added to the air.
        dark: how many power cuts it is under.
        mobile, offline: how many switches put it on its mobile network, or on none.
        taken: how many times its owner took it.
    """

    def __init__(self, count: int) -> None:
        self.warmer_c = np.zeros(count)
        self.dark, self.mobile, self.offline, self.taken = (np.zeros(count, dtype=np.int64) for _ in range(4))

    def at(self, habits: Habits, tick: int) -> Moment:
        """Return the owners' habits at a tick, as faults have changed them."""
        taken, offline = self.taken > 0, self.offline > 0
        return Moment(
            plugged=habits.plugged[tick] & (self.dark == 0) & ~taken,
            screen_on=habits.screen_on[tick] | taken,
            away=habits.away[tick] | (self.mobile > 0) | offline,
            offline=offline,
            idle_s=np.where(taken, 0.0, habits.idle_s[tick]),
        )
