"""Receipts of a fleet's sessions, elementwise: the same fields that a node's agent announces for one device."""

from __future__ import annotations

from typing import NamedTuple

from models.arrays import namespace
from policies.readings import Array, Decision, Readings


class Tally(NamedTuple):
    """What the running session of each row has lent so far; zeros outside."""

    started_s: Array
    compute_s: Array  # integral of the compute share


class Receipts(NamedTuple):
    """One element a row; fields as in `policies.harvest.messages.HarvestReceipt`, valid where ``ended``."""

    ended: Array  # bool: a session ended at this reading
    started_s: Array
    ended_s: Array
    compute_s: Array
    reason: Array  # index into HARVEST_STATES
    interrupted: Array  # bool: it ended as the owner came back or unplugged the device


def no_tally(decision: Decision) -> Tally:
    """Return the tally of rows that have not been decided yet."""
    zero = namespace(decision.compute_share).zeros_like(decision.compute_share)
    return Tally(zero, zero)


def settle(
    tally: Tally, before: Decision, after: Decision, readings: Readings, now_s: Array, dt_s: Array
) -> tuple[Receipts, Tally]:
    """Account for the interval that has passed between two decisions.

    Args:
        tally: what `no_tally` or the previous call returned.
        before: the decision that held over the interval; at the first reading, one without sessions.
        after: the decision at its end.
        readings: what ``after`` was decided on.
        now_s: time of ``after``.
        dt_s: length of the interval; what was lent in it is ``before.compute_share * dt_s``.

    Returns:
        The receipts of the sessions that ended, and the next tally.
    """
    xp = namespace(tally.compute_s)
    ended = before.contribute & ~after.contribute
    started = after.contribute & ~before.contribute
    compute_s = tally.compute_s + before.compute_share * dt_s
    unplugged = readings.has_battery & ~readings.plugged
    owner = readings.screen_on | (readings.idle_s < dt_s) | unplugged
    now = xp.zeros_like(compute_s) + now_s
    receipts = Receipts(ended, tally.started_s, now, compute_s, after.state, ended & owner)
    running = after.contribute
    return receipts, Tally(
        xp.where(started, now, tally.started_s), compute_s * xp.astype(running & ~started, compute_s.dtype)
    )
