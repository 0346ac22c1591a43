"""Chip, screen and heat of rows that lend nothing, through a window under NumPy: arrays are written over.

To the bit what `sim.fleet.physics.advance` makes of them while no governor has a say. Their owners' use is all that
chips do, so that most rows, whose screen is off all window, have none; they stand last (`lit_first`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.fleet import physics
from sim.fleet.reading import USER_LOAD
from sim.fleet.window import Start
from sim.owners.crowd import SCREEN

Array = Any


class Idle:
    """Chips and bodies of rows that lend nothing.

    Args:
        start: of the window.

    Attributes:
        nodes_c: temperatures of die, board and skin, (node, device).
        total_w: draw of the device over the last reading.
        most_board_c: no use of the owner's takes the die to its trip from here.
    """

    def __init__(self, start: Start) -> None:
        fixed, body, lit_at = start.chunk.fixed, start.device.body, screens(start)
        on = ~body.off
        self._fixed, self._air_c = fixed, physics.surroundings(fixed, *start.air)
        lit_w = np.minimum(fixed.dynamic_w * (USER_LOAD * np.ones_like(body.die_c)), fixed.room_w)
        self.most_board_c = fixed.trip_c - fixed.reach_k_per_w * lit_w
        self._idle_w, self._leak_w_per_k = fixed.idle_w * on, fixed.leak_w_per_k * on

        # Only the first rows, up to the last one whose screen is on at some reading, have more than their idle draw.
        first = self._first = slice(int(np.max(np.flatnonzero(lit_at.any(axis=0)), initial=-1)) + 1)
        self._lit, self._lit_w = lit_at[:, first].astype(body.die_c.dtype), lit_w[first]
        self._screen_full_w = fixed.screen_w if np.ndim(fixed.screen_w) == 0 else fixed.screen_w[first]
        self._warm_first = fixed.warm_k_per_w[0][:, first]
        self._die_w, self._screen_w = np.empty_like(self._lit_w), np.empty_like(self._lit_w)
        self._warmth = np.empty_like(self._warm_first)
        self._base_w, self._chip_w = self._idle_w.copy(), self._idle_w.copy()
        self.total_w = np.empty_like(self._idle_w)
        self.nodes_c = np.stack([body.die_c, body.board_c, body.skin_c])
        self._next_c, self._some_c = np.empty_like(self.nodes_c), np.empty_like(self.nodes_c)

    def draw(self, k: int) -> Array:
        """Return what devices draw at reading k, W."""
        first, on, total_w = self._first, self._lit[k], self.total_w
        np.multiply(self._screen_full_w, on, out=self._screen_w)
        np.add(self._idle_w[first], self._screen_w, out=self._base_w[first])
        np.multiply(self._lit_w, on, out=self._die_w)
        np.add(self._die_w, self._base_w[first], out=self._chip_w[first])
        np.subtract(self.nodes_c[0], physics.LEAK_REFERENCE_C, out=total_w)
        total_w *= self._leak_w_per_k
        total_w += self._chip_w
        return total_w

    def warm(self, heat_w: Array) -> None:
        """Advance the nodes by the reading, with a cell's heat, which is written on."""
        fixed, first, board_w, screen_w, next_c = self._fixed, self._first, heat_w, self._screen_w, self._next_c
        board_w *= fixed.cells
        board_w += self._base_w
        screen_w *= 1.0 - physics.SCREEN_HEAT_SHARE
        np.subtract(board_w[first], screen_w, out=board_w[first])
        physics.drift(fixed, self.nodes_c, self._air_c, next_c, self._some_c)
        np.add(next_c[:, first], np.multiply(self._warm_first, self._die_w, out=self._warmth), out=next_c[:, first])
        next_c += np.multiply(fixed.warm_k_per_w[1], board_w, out=self._some_c)
        self.nodes_c, self._next_c = next_c, self.nodes_c


def screens(start: Start) -> Array:
    """Return where the screen is on, (reading, device)."""
    return (start.flags & np.uint8(SCREEN) != 0) & ~start.device.body.off


def lit_first(start: Start, rows: Array) -> Array:
    """Return rows, a bit each, as places: first those whose screen is on at some reading."""
    places = np.flatnonzero(rows)
    lit = (np.bitwise_or.reduce(start.flags, axis=0) & SCREEN != 0)[places]
    return np.concatenate([places[lit], places[~lit]])
