"""Quiet rows: devices that are on their battery for a whole window, lend nothing and come near no threshold.

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
    """A quiet row on its way through a window, (device,) each, nodes by (node, device).

    Attributes:
        soc_last: at its last reading.
        idle_s: since its screen was on, at that reading.
        total_w, current_a: sums over its readings, as in `Sums`.
        peak_c: the highest of each node at any reading or at the end.
        least_w, least_v: the least draw, and the least voltage under load over v_min.
    """

    charge: battery.Charge
    nodes_c: Array
    soc_last: Array
    idle_s: Array
    total_w: Array
    current_a: Array
    peak_c: Array
    least_w: Array
    least_v: Array


def may_be_quiet(policy: Restful, start: Start) -> Array:
    """Return the rows that may be quiet in a window."""
    body = start.device.body
    plugged = np.bitwise_or.reduce(start.flags, axis=0) & PLUGGED != 0
    alone = ~plugged & ~np.asarray(body.off) & (np.asarray(body.level) == 0.0) & start.chunk.fixed.has_battery
    return alone & np.asarray(policy.rests(start.device.memory))


def run_quiet(start: Start, signals: Signals) -> Quiet:
    """Run a window under NumPy as if every row were quiet; what comes of one that is not means nothing."""
    air_c = physics.surroundings(start.chunk.fixed, *start.air)
    lit_w = draw_when_lit(start.chunk.fixed, start.device.body.die_c)
    quiet = begin(start.device)
    with np.errstate(all="ignore"):
        for k, lit in enumerate(start.flags & np.uint8(SCREEN) != 0):
            since_s = signals.since_s if k == 0 else signals.step_s
            quiet = reading(start, quiet, lit.astype(lit_w.dtype), lit_w, air_c, since_s)
    return quiet


def draw_when_lit(fixed: physics.Fixed, like: Array) -> Array:
    """Return what an owner's use takes of the chip while the screen is on, W; of the type of ``like``."""
    return np.minimum(fixed.dynamic_w * (USER_LOAD * np.ones_like(like)), fixed.room_w)


def begin(device: Device) -> Quiet:
    """Return the start of a window."""
    body = device.body
    none, nodes_c = np.zeros_like(body.die_c), np.stack([body.die_c, body.board_c, body.skin_c])
    most = none + np.inf
    return Quiet(body.charge, nodes_c, body.charge.soc, device.idle_s, none, none, nodes_c, most, most)


def reading(start: Start, quiet: Quiet, lit: Array, lit_w: Array, air_c: Array, since_s: Array) -> Quiet:
    """Advance quiet rows by one reading; ``lit`` is 1 where the screen is on, else 0."""
    fixed = start.chunk.fixed
    lines = battery.lines_at(start.chunk.table, fixed.cell, quiet.charge.soc)
    nodes_c, charge, total_w, flow = physics.quiet(fixed, quiet.charge, quiet.nodes_c, lines, lit, lit_w, air_c)
    return Quiet(
        charge,
        nodes_c,
        soc_last=quiet.charge.soc,
        idle_s=(quiet.idle_s + since_s) * (1.0 - lit),
        total_w=quiet.total_w + total_w,
        current_a=quiet.current_a + flow.current_a,
        peak_c=np.maximum(quiet.peak_c, nodes_c),
        least_w=np.minimum(quiet.least_w, total_w),
        least_v=np.minimum(quiet.least_v, flow.end_v - fixed.cell.v_min),
    )


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
    fixed, device = start.chunk.fixed, start.device
    soc = quiet.charge.soc
    die_c, board_c, skin_c = quiet.nodes_c
    peak_die_c, peak_board_c, peak_skin_c = quiet.peak_c
    reach_c = peak_board_c + fixed.reach_k_per_w * draw_when_lit(fixed, die_c)
    cool = (peak_die_c < policy.rest_below_c) & (peak_skin_c <= SKIN_HOT_C) & (reach_c <= fixed.trip_c)
    fed = (quiet.least_w >= 0.0) & (quiet.least_v >= 0.0) & (soc > 0.0)

    for_s = signals.since_s + (len(start.flags) - 1) * signals.step_s
    memory = policy.rested(device.memory, device.body.charge.soc, quiet.soc_last, for_s)
    body = device.body._replace(charge=quiet.charge, die_c=die_c, board_c=board_c, skin_c=skin_c)
    low = soc < LOW_SOC
    _, sums, counts, last = nothing(start)
    sums = sums._replace(total_w=quiet.total_w, current_a=quiet.current_a)
    counts = counts._replace(low=(low & ~last.low).astype(np.uint8))
    return (Device(body, memory, quiet.idle_s), sums, counts, last._replace(low=low)), may & cool & fed
