"""Rows at rest: hours closed or owners away from their Wi-Fi for a whole window, so that they lend nothing in it.

Phones that charge by day are most of them. Of their policy only the latches move, and their chips are idle but for
their owners, so that what is left is their cells with a charger, and heat. What that takes for granted (no governor,
no cell cut off) is held against what comes out; other rows are run in full. To the bit nothing changes (a test
compares).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.battery.cells import Cells
from sim.fleet.idle import Idle
from sim.fleet.lasting import Lasting
from sim.fleet.quiet import idle_s
from sim.fleet.reading import LOW_SOC, SKIN_HOT_C, Device
from sim.fleet.window import Result, Signals, Start, rises
from sim.owners.crowd import PLUGGED

Array = Any


def may_rest(start: Start, lasting: Array) -> Array:
    """Return the rows that may be at rest all window with their batteries in use, of those whose decision may last."""
    body = start.device.body
    idle = lasting & ~start.device.memory.contributing
    return idle & start.chunk.fixed.has_battery & ~body.off & (body.level == 0.0)


def run_rest(policy: Lasting, start: Start, signals: Signals, before: Result) -> tuple[Result, Array]:
    """Return what a window leaves of its rows at rest, and which they are; of others the result means nothing.

    Args:
        before: the result of a window in which nothing happens.
    """
    (table, fixed, _), body, memory = start.chunk, start.device.body, start.device.memory
    idle, cells = Idle(start), Cells(table, fixed.cell, body.charge, charger=True)
    plugged = (start.flags & np.uint8(PLUGGED) != 0).astype(body.die_c.dtype)
    sum_w, sum_a, sum_plug_w = (np.zeros_like(body.die_c) for _ in range(3))
    plug_w, some = np.empty_like(sum_w), np.empty_like(sum_w)
    hot, low = np.zeros(sum_w.shape, dtype=np.uint8), np.empty(start.flags.shape, dtype=bool)
    right, soc = np.ones(sum_w.shape, dtype=bool), cells.charge.soc
    with np.errstate(all="ignore"):
        for k, on in enumerate(plugged):
            memory = policy.later(memory, idle.nodes_c[0], soc, signals.step_s if k else signals.since_s)
            right &= idle.nodes_c[1] <= idle.most_board_c
            total_w = idle.draw(k)
            np.multiply(fixed.charger_w, on, out=plug_w)
            np.subtract(total_w, plug_w, out=some)
            some *= fixed.per_cell
            cells.give(some, idle.nodes_c[1])
            idle.warm(cells.heat_w)

            sum_w += total_w
            sum_a += np.abs(cells.current_a, out=some)
            np.minimum(total_w, plug_w, out=plug_w)
            np.minimum(cells.power_w, 0.0, out=some)
            some *= fixed.cells
            plug_w -= some
            sum_plug_w += plug_w
            hot += idle.nodes_c[2] > SKIN_HOT_C
            np.less(soc, LOW_SOC, out=low[k])
            right &= cells.end_v >= fixed.cell.v_min
            right &= soc > 0.0
    _, sums, counts, last = before
    die_c, board_c, skin_c = idle.nodes_c
    body = body._replace(charge=cells.charge, die_c=die_c, board_c=board_c, skin_c=skin_c)
    sums = sums._replace(total_w=sum_w, plug_w=sum_plug_w, current_a=sum_a)
    counts = counts._replace(hot=hot, low=rises(last.low, low))
    return (Device(body, memory, idle_s(start, signals)), sums, counts, last._replace(low=low[-1])), right
