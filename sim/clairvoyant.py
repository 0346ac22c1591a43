"""The most compute that any policy could have harvested, knowing what every owner would do: a bound, not a policy.

Given owners' conditions on a grid of readings, it maximises what is lent under the timing rules of an envelope (hours,
session length, cool-down, dwell) by dynamic programming over (in a session for s readings | at rest for k readings).

What is relaxed, so that the result is an upper bound rather than the optimum of the coupled system: heat and charge.
It takes every allowed reading at the full cap, as if no die were too hot to start, no governor slowed it, and no
battery fell below its floor. Every schedule that a rule of the same envelope can produce is one of those searched, at
no more than its value; so no policy, however clever, harvests more.
"""

from __future__ import annotations

import math

import numpy as np

from policies.config import HarvestConfig, OwnerLimits
from policies.harvest.limits import Limits
from policies.harvest.rows import Devices, within_hours
from policies.readings import Readings


def clairvoyant(config: OwnerLimits, devices: Devices, owners: Readings, dt_s: float) -> np.ndarray:
    """Return the bound on each device's harvest, in compute-seconds: the integral of the compute share.

    Args:
        config: a `HarvestConfig` is bounded with hours, idle time, session length and cool-down; any other
            `OwnerLimits` (`PredictiveConfig`) with the hard rules and the dwell alone.
        devices: one element a device.
        owners: readings of shape (readings, devices); charge and temperatures are not looked at.
        dt_s: time between readings; a decision holds from one to the next, the last one for as long.

    Raises:
        ValueError: the readings are not of that shape, or ``dt_s`` is not above 0.
    """
    plugged = np.asarray(owners.plugged)
    n = np.size(devices.dedicated)
    if plugged.ndim != 2 or plugged.shape[1] != n:
        raise ValueError(f"owners.plugged has shape {plugged.shape}; allowed: (readings, {n})")
    if not dt_s > 0.0:
        raise ValueError(f"dt_s is {dt_s}; allowed: above 0")
    dedicated = np.broadcast_to(np.asarray(devices.dedicated), (n,))
    may = allowed(config, devices, owners)
    dwell = _steps(config.dwell_min * 60.0, dt_s)
    readings = np.zeros(n)
    if dedicated.any():
        readings[dedicated] = best(may[:, dedicated], None, dwell)
    if not dedicated.all():
        session, rest = None, dwell
        if isinstance(config, HarvestConfig):
            session = max(1, _steps(config.max_session_h * 3600.0, dt_s))
            rest = max(dwell, _steps(config.cooldown_min * 60.0, dt_s))
        readings[~dedicated] = best(may[:, ~dedicated], session, rest)
    return readings * dt_s * config.max_cpu


def allowed(config: OwnerLimits, devices: Devices, owners: Readings) -> np.ndarray:
    """Return, by reading and device, whether the owner's conditions allow a session; heat and charge are relaxed."""
    limits, own = Limits(config), np.asarray(devices.dedicated)
    r = Readings(*(np.asarray(field) for field in owners))
    power = limits.power(r, np.asarray(devices.has_battery), own, np.True_)
    owner = ~r.screen_on | own if config.require_screen_off else np.True_
    may = power & limits.network(r) & owner & limits.lends
    if isinstance(config, HarvestConfig):
        hours = within_hours(r.local_minute, config.hour_start, config.hour_end)
        may = may & (own | (hours & (r.idle_s >= config.idle_min * 60.0)))
    return np.broadcast_to(may, np.shape(owners.plugged))


def best(may: np.ndarray, session: int | None, rest: int) -> np.ndarray:
    """Return the largest number of readings that each column can lend.

    Args:
        may: bool, (readings, devices): lending is allowed.
        session: a session lends at most this many readings; None: as many as it likes.
        rest: between the reading that ends a session and the next start lie at least this many, and at least one.
    """
    n, rest = may.shape[1], max(1, rest)
    runs = np.zeros((n, (session or 1) + 1))  # value, by readings lent so far in this session (if that counts)
    rests = np.zeros((n, rest + 1))  # value, by readings since the session ended; the last: rested
    for now in may[::-1]:
        gain = np.where(now, 1.0, -np.inf)  # what is not allowed is never chosen
        end = rests[:, 1]
        if session is None:
            stay = (gain + runs[:, 1])[:, None]
        else:
            stay = np.full((n, session + 1), -np.inf)
            stay[:, :-1] = gain[:, None] + runs[:, 1:]
        start = gain + runs[:, 1]
        resting = np.concatenate([rests[:, 1:], np.maximum(start, rests[:, -1])[:, None]], axis=1)
        runs, rests = np.maximum(stay, end[:, None]), resting
        if session is None:
            runs = np.repeat(runs, 2, axis=1)
    return rests[:, -1]


def _steps(span_s: float, dt_s: float) -> int:
    """Return how many readings it takes until ``span_s`` has passed."""
    return math.ceil(round(span_s / dt_s, 9))
