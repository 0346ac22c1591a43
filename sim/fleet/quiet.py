"""Quiet rows: devices that are unplugged (or off) for a whole window, lend nothing and come near no threshold.

Most of a fleet is quiet most of the time, and most of a reading's work does not concern it: no charger, no session, no
governor, nothing cut off. So who may be quiet is first run as if it were. What that took for granted is then held
against what came out; other rows are run again in full, from the window's start. To the bit nothing changes (a test
compares): a quiet row's temperatures and charge are those of `physics.advance`, and its policy is asked once, for all
readings of the window, what it would have said to each (`Harvest.rests`, `Harvest.rested`).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from models.battery.cells import Cells
from models.battery.reading import Charge
from sim.fleet.idle import Idle, screens
from sim.fleet.reading import LOW_SOC, SKIN_HOT_C, Device, Sums
from sim.fleet.window import Counts, Result, Signals, Start
from sim.owners.crowd import PLUGGED

Array = Any


@runtime_checkable
class Restful(Protocol):
    """A harvest policy that can tell ahead what it will decide; see `policies.harvest.elementwise.Harvest`."""

    @property
    def rest_below_c(self) -> float:
        """The temperature of the die below which nothing that it remembers moves."""
        ...

    def rests(self, state: Any) -> Array:
        """Return the rows that lend nothing while they are unplugged."""
        ...

    def rested(self, state: Any, soc_first: Array, soc_last: Array, for_s: Array) -> Any:
        """Return their state after a row of readings."""
        ...


class Quiet(NamedTuple):
    """What a window left of quiet rows, (device,) each, nodes by (node, device).

    Attributes:
        soc_last: charge at its last reading.
        total_w, current_a: sums over its readings, as in `Sums`.
        calm: cool enough at every reading and at the end for policy and governor to have nothing to do.
        fed: it drew power at every reading, and its cells stood it.
    """

    charge: Charge
    nodes_c: Array
    soc_last: Array
    total_w: Array
    current_a: Array
    calm: Array
    fed: Array


def may_be_quiet(policy: Restful, start: Start) -> Array:
    """Return the rows that may be quiet in a window: on their battery throughout, or off."""
    body = start.device.body
    plugged = np.bitwise_or.reduce(start.flags, axis=0) & PLUGGED != 0
    return ~plugged & (body.level == 0.0) & start.chunk.fixed.has_battery & policy.rests(start.device.memory)


def without_plug(start: Start) -> Start:
    """Return a start without what only a charger or an asked policy reads: quiet rows need no copy of it."""
    fixed = start.chunk.fixed
    fixed = fixed._replace(cell=fixed.cell._replace(full_soc=()), charger_w=(), has_battery=())
    return start._replace(chunk=start.chunk._replace(fixed=fixed, site=()))


def run_quiet(start: Start, rest_below_c: float) -> Quiet:
    """Run a window under NumPy as if every row were quiet; what comes of one that is not means nothing.

    Args:
        rest_below_c: of the policy (`Restful`).
    """
    table, fixed, _ = start.chunk
    idle, cells = Idle(start), Cells(table, fixed.cell, start.device.body.charge)
    most_c, least_w = idle.nodes_c.copy(), np.full_like(idle.total_w, np.inf)
    least_v, sum_w, sum_a = least_w.copy(), np.zeros_like(least_w), np.zeros_like(least_w)
    power_w = np.empty_like(least_w)
    with np.errstate(all="ignore"):
        for k in range(len(start.flags)):
            if k == len(start.flags) - 1:
                soc_last = cells.charge.soc.copy()
            total_w = idle.draw(k)
            cells.give(np.multiply(total_w, fixed.per_cell, out=power_w), idle.nodes_c[1])
            idle.warm(cells.heat_w)

            sum_w += total_w
            sum_a += cells.current_a
            np.maximum(most_c, idle.nodes_c, out=most_c)  # what is not a number stays so
            np.minimum(least_w, total_w, out=least_w)
            np.minimum(least_v, cells.end_v, out=least_v)
    calm = (most_c[0] < rest_below_c) & (most_c[1] <= idle.most_board_c) & (most_c[2] <= SKIN_HOT_C)
    fed = (least_w >= 0.0) & (least_v >= fixed.cell.v_min) & (cells.charge.soc > 0.0)
    return Quiet(cells.charge, idle.nodes_c, soc_last, sum_w, sum_a, calm, fed)


def nothing(start: Start) -> Result:
    """Return the result of a window in which nothing has happened yet."""
    none = np.zeros_like(np.asarray(start.device.body.die_c))
    never = np.zeros(none.shape, dtype=np.uint8)
    return start.device, Sums(*(none for _ in Sums._fields)), Counts(*(never for _ in Counts._fields)), start.last


def told(policy: Restful, start: Start, quiet: Quiet, signals: Signals, before: Result) -> tuple[Result, Array]:
    """Return what a window leaves of rows that may be quiet, and which are; of others the result means nothing.

    Args:
        before: the result of a window in which nothing happens.
    """
    device, soc, off = start.device, quiet.charge.soc, start.device.body.off
    for_s = passes_s(start, signals)
    heard = (np.where(off, np.nan, charge) for charge in (device.body.charge.soc, quiet.soc_last))
    memory = policy.rested(device.memory, *heard, for_s)
    die_c, board_c, skin_c = quiet.nodes_c
    body = device.body._replace(charge=quiet.charge, die_c=die_c, board_c=board_c, skin_c=skin_c)
    low = soc < LOW_SOC
    _, sums, counts, last = before
    sums = sums._replace(total_w=quiet.total_w, current_a=quiet.current_a)
    counts = counts._replace(low=(low & ~last.low).astype(np.uint8))
    result = Device(body, memory, idle_s(start, signals)), sums, counts, last._replace(low=low)
    return result, quiet.calm & (quiet.fed | off)


def passes_s(start: Start, signals: Signals) -> float:
    """Return the seconds from the reading before a window to its last."""
    return signals.since_s + (len(start.flags) - 1) * signals.step_s


def idle_s(start: Start, signals: Signals) -> Array:
    """Return for how long screens have been off at a window's last reading."""
    lit = screens(start)
    used = np.flatnonzero(lit.any(axis=0))
    off_s = start.device.idle_s + passes_s(start, signals)
    off_s[used] = np.argmax(lit[::-1, used], axis=0) * signals.step_s
    return off_s
