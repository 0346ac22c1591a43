"""Quiet rows: devices that are unplugged (or off) for a whole window, lend nothing and come near no threshold.

Most of a fleet is quiet most of the time, and most of a reading's work does not concern it: no charger, no session, no
governor, nothing cut off. So a chunk is first run as if all were quiet. What that took for granted is then held against
what came out; the other rows are run again in full, from the window's start. To the bit nothing changes (a test
compares): a quiet row's temperatures and charge are those of `physics.advance`, and its policy is asked once, for all
readings of the window, what it would have said to each (`Harvest.rests`, `Harvest.rested`).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from models.battery import reading as battery
from sim.fleet import physics
from sim.fleet.reading import LOW_SOC, SKIN_HOT_C, USER_LOAD, Device, Sums
from sim.fleet.window import Counts, Result, Signals, Start
from sim.owners.crowd import PLUGGED, SCREEN

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

    charge: battery.Charge
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


def run_quiet(start: Start, rest_below_c: float) -> Quiet:
    """Run a window under NumPy as if every row were quiet; what comes of one that is not means nothing.

    Args:
        rest_below_c: of the policy (`Restful`).
    """
    table, fixed, _ = start.chunk
    body = start.device.body
    air_c = physics.surroundings(fixed, *start.air)
    lit_w = np.minimum(fixed.dynamic_w * (USER_LOAD * np.ones_like(body.die_c)), fixed.room_w)
    most_board_c = (
        fixed.trip_c - fixed.reach_k_per_w * lit_w
    )  # no use of the owner's takes the die to its trip from here
    if body.off.any():
        fixed = fixed._replace(idle_w=fixed.idle_w * ~body.off, leak_w_per_k=fixed.leak_w_per_k * ~body.off)

    def is_calm(nodes_c: Array) -> Array:
        return (nodes_c[0] < rest_below_c) & (nodes_c[1] <= most_board_c) & (nodes_c[2] <= SKIN_HOT_C)

    charge, nodes_c = body.charge, np.stack([body.die_c, body.board_c, body.skin_c])
    calm, fed = is_calm(nodes_c), np.ones(lit_w.shape, dtype=bool)
    sum_w, sum_a = np.zeros_like(lit_w), np.zeros_like(lit_w)
    with np.errstate(all="ignore"):
        for screen in _screens(start):
            soc_last, lit = charge.soc, screen.astype(lit_w.dtype)
            lines = battery.lines_at(table, fixed.cell, soc_last)
            nodes_c, charge, total_w, flow = physics.quiet(fixed, charge, nodes_c, lines, lit, lit_w, air_c)
            sum_w += total_w
            sum_a += flow.current_a
            calm &= is_calm(nodes_c)
            fed &= (total_w >= 0.0) & (flow.end_v >= fixed.cell.v_min)
    return Quiet(charge, nodes_c, soc_last, sum_w, sum_a, calm, fed & (charge.soc > 0.0))


def _screens(start: Start) -> Array:
    """Return where the screen is on, (reading, device)."""
    return (start.flags & np.uint8(SCREEN) != 0) & ~start.device.body.off


def nothing(start: Start) -> Result:
    """Return the result of a window in which nothing has happened yet."""
    none = np.zeros_like(np.asarray(start.device.body.die_c))
    never = np.zeros(none.shape, dtype=np.uint8)
    return start.device, Sums(*(none for _ in Sums._fields)), Counts(*(never for _ in Counts._fields)), start.last


def told(policy: Restful, start: Start, quiet: Quiet, may: Array, signals: Signals) -> tuple[Result, Array]:
    """Return what a window leaves of its quiet rows, and which they are; of others the result means nothing.

    Args:
        may: what `may_be_quiet` said.
    """
    device, soc, off = start.device, quiet.charge.soc, start.device.body.off
    for_s = signals.since_s + (len(start.flags) - 1) * signals.step_s
    heard = (np.where(off, np.nan, charge) for charge in (device.body.charge.soc, quiet.soc_last))
    memory = policy.rested(device.memory, *heard, for_s)
    die_c, board_c, skin_c = quiet.nodes_c
    body = device.body._replace(charge=quiet.charge, die_c=die_c, board_c=board_c, skin_c=skin_c)

    screens = _screens(start)
    used = np.flatnonzero(screens.any(axis=0))
    idle_s = device.idle_s + for_s
    idle_s[used] = np.argmax(screens[::-1, used], axis=0) * signals.step_s

    low = soc < LOW_SOC
    _, sums, counts, last = nothing(start)
    sums = sums._replace(total_w=quiet.total_w, current_a=quiet.current_a)
    counts = counts._replace(low=(low & ~last.low).astype(np.uint8))
    result = Device(body, memory, idle_s), sums, counts, last._replace(low=low)
    return result, may & quiet.calm & (quiet.fed | off)
