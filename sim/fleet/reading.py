"""One reading of every row: sensors, decision, and the physics of the interval that follows. Elementwise.

The same function runs under NumPy for a chunk, under `jax.jit` inside a scan, and for one row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from models.battery import reading as battery
from policies.readings import Decision, Plausible, Readings
from sim.fleet import physics

Array = Any

USER_LOAD = 0.3
"""Share of compute an owner uses while the screen is on (assumption: browsing and messaging)."""
SKIN_HOT_C = 43.0  # long touch of a hot surface (IEC 62368-1 / EN 563 classes, as in the physics notes)
LOW_SOC = 0.20  # an owner finds the battery low below this (Android's own warning is at 15-20 %)


class Site(NamedTuple):
    """Where a device is used, one element a device.

    Attributes:
        zone: index of its time zone.
        home_bytes_per_s, mobile_bytes_per_s: upload on Wi-Fi (or wire) and on a mobile network; on none it is 0.
    """

    zone: Array
    home_bytes_per_s: Array
    mobile_bytes_per_s: Array


class Owner(NamedTuple):
    """What owners do over one interval, bool, one element a device."""

    plugged: Array
    screen: Array
    wifi: Array
    metered: Array


class Device(NamedTuple):
    """Everything that changes: physics, the policy's own state, and how long the screen has been off, s."""

    body: physics.State
    memory: Any
    idle_s: Array


class Sums(NamedTuple):
    """Sums over the readings of a window, one element a device; powers in W, to be multiplied by the interval."""

    total_w: Array
    village_w: Array
    plug_w: Array
    done: Array  # share of the chip at full speed that the village got
    current_a: Array  # into and out of one cell, without its sign


class Marks(NamedTuple):
    """What happened in one interval, bool, one element a device.

    Attributes:
        contribute: a session runs.
        hot: the skin was hot at the interval's end.
        low: the battery was low then.
        asked: see `physics.Outcome`.
    """

    contribute: Array
    hot: Array
    low: Array
    asked: Array


def bandwidth(site: Site, wifi: Array, mobile: Array, xp: Any) -> Array:
    """Return what a device can send, bytes a second; ``mobile`` is true where a mobile network is all there is."""
    return xp.where(wifi, site.home_bytes_per_s, site.mobile_bytes_per_s * mobile)


def sense(
    fixed: physics.Fixed, site: Site, device: Device, owner: Owner, lit: Array, local_minute: Array, xp: Any
) -> Plausible:
    """Return what the sensors say; a device that is off says nothing (its charge is not a number).

    Args:
        lit: 1 where the screen is on, else 0, a number.
    """
    body = device.body
    return Plausible(
        has_battery=fixed.has_battery,
        soc=xp.where(body.off, xp.nan, body.charge.soc),
        plugged=owner.plugged,
        die_c=body.die_c,
        skin_c=body.skin_c,
        battery_c=body.board_c,
        on_wifi=owner.wifi,
        metered=owner.metered,
        bandwidth_bytes_per_s=bandwidth(site, owner.wifi, owner.metered, xp),
        screen_on=owner.screen,
        idle_s=device.idle_s,
        local_minute=local_minute,
        user_load=USER_LOAD * lit,
    )


def step(
    policy: Any, table: battery.Tables, fixed: physics.Fixed, site: Site, device: Device, owner: Owner,
    ambient_c: Array, from_air_c: Array, sums: Sums, zone_minute: Array, since_s: Array,
    demand: Array, xp: Any = np, decided: Decision | None = None, *, governed: bool = True,
) -> tuple[Device, Sums, Marks, Decision, Readings]:  # fmt: skip
    """Read, decide and advance by the interval that ``fixed`` was made for.

    Args:
        policy: an elementwise harvest policy.
        ambient_c, from_air_c: see `physics.Demand`.
        zone_minute: local minute of each time zone.
        since_s: seconds since the previous reading; 0 at the first.
        demand: share of what is lent that the village uses, 0 to 1.
        xp: numpy or jax.numpy.
        decided: carry out this instead of the policy's own decision, which is still taken.
        governed: see `physics.advance`.
    """
    owner = owner._replace(screen=owner.screen & ~device.body.off)
    lit = owner.screen.astype(device.body.die_c.dtype)  # chosen among Python's numbers it would be of double precision
    device = device._replace(idle_s=(device.idle_s + since_s) * (1.0 - lit))
    readings = sense(fixed, site, device, owner, lit, xp.take(zone_minute, site.zone, mode="clip"), xp)
    decision, memory = policy.decide(device.memory, readings, since_s)
    done = decision if decided is None else decided
    asked = physics.Demand(owner.plugged, lit, readings.user_load, done.compute_share * demand, ambient_c, from_air_c)
    body, outcome = physics.advance(table, fixed, device.body, asked, xp, governed=governed)
    sums = Sums(
        sums.total_w + outcome.total_w,
        sums.village_w + outcome.village_w,
        sums.plug_w + outcome.plug_w,
        sums.done + outcome.done,
        sums.current_a + xp.abs(outcome.current_a),
    )
    marks = Marks(done.contribute, body.skin_c > SKIN_HOT_C, body.charge.soc < LOW_SOC, outcome.asked)
    return Device(body, memory, device.idle_s), sums, marks, decision, readings
