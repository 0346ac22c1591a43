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
    interrupted: Array  # bool: it ended as `owner_back` says


def owner_back(screen_on: Array, has_battery: Array, plugged: Array, on_wifi: Array) -> Array:
    """Return where the owner is back, so that a session which ends there is interrupted.

    The owner uses the device, has unplugged it, or has left with it; a device without a battery is not unplugged: its
    mains have failed.
    """
    return screen_on | (has_battery & ~plugged) | ~on_wifi


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
    used = readings.screen_on | (readings.idle_s < dt_s)
    interrupted = ended & owner_back(used, readings.has_battery, readings.plugged, readings.on_wifi)
    now = xp.zeros_like(compute_s) + now_s
    receipts = Receipts(ended, tally.started_s, now, compute_s, after.state, interrupted)
    running = after.contribute
    return receipts, Tally(
        xp.where(started, now, tally.started_s), compute_s * xp.astype(running & ~started, compute_s.dtype)
    )
