"""One exchange window of one chunk: its readings in a row, under fleet signals held constant.

NumPy goes through the readings in a loop; JAX scans the same function, compiled once for all chunks. What is not needed
at every reading (sessions begun, hot minutes) is counted once at the window's end from one bit a reading.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from models.battery.reading import Tables
from policies.harvest import owner_back
from policies.readings import Decision, Readings
from sim.fleet.physics import Fixed, surroundings
from sim.fleet.reading import Device, Marks, Owner, Site, Sums, step
from sim.owners.crowd import NETWORK, PLUGGED, SCREEN, WIFI

Array = Any


class Chunk(NamedTuple):
    """What is fixed about the rows of a chunk; a value that all its rows share may stand as one number."""

    table: Tables
    fixed: Fixed
    site: Site


class Air(NamedTuple):
    """What surrounds each device for one window, one element a device."""

    ambient_c: Array
    sun_w: Array


class Start(NamedTuple):
    """Some rows at the start of a window; devices stand along the last axis.

    Attributes:
        flags: what owners do, (reading, device) bits; a plug without mains behind it is none.
    """

    chunk: Chunk
    device: Device
    last: Last
    air: Air
    flags: Array


class Signals(NamedTuple):
    """What the fleet tells its devices for one window.

    Attributes:
        demand: share of what is lent that the village uses, 0 to 1.
        zone_minute: local minute by (reading, time zone).
        since_s: seconds since the reading before the window's first; 0 at the start of a run.
        step_s: period of the readings.
        price: of a kWh from the mains; None where there is no price.
    """

    demand: float
    zone_minute: Array
    since_s: float
    step_s: float
    price: float | None = None


class Counts(NamedTuple):
    """How often something happened in a window, one element a device, small integers."""

    lent: Array  # readings at which a session ran
    sessions: Array  # sessions begun
    interrupted: Array  # sessions that ended at the owner's return (`policies.harvest.owner_back`)
    hot: Array  # readings after which the skin was hot
    low: Array  # times the battery fell below the owner's mark


class Last(NamedTuple):
    """Bits of the last reading, from which the next window's changes are counted."""

    contribute: Array
    low: Array


class Trace(NamedTuple):
    """The full history of a window, by (reading, device)."""

    soc: Array
    die_c: Array
    skin_c: Array
    contribute: Array
    compute_share: Array
    state: Array
    flags: Array


Result = tuple[Device, Sums, Counts, Last]
Window = Callable[..., tuple[Result, Array]]
Watch = Callable[[Device, Readings, Decision], None]


def owners(flags: Array, grid: Array = True, xp: Any = np) -> Owner:
    """Return what owners do from their flags, (reading, device); ``grid`` is false where the power is out."""

    def bit(mask: int) -> Array:
        return (flags & xp.asarray(mask, dtype=xp.uint8)) != 0

    wifi = bit(WIFI)
    return Owner(bit(PLUGGED) & grid, bit(SCREEN), wifi, bit(NETWORK) & ~wifi)


def run_numpy(
    policy: Any, start: Start, signals: Signals, *, governed: bool = True, watch: Watch | None = None
) -> tuple[Result, Array]:  # fmt: skip
    """Run a window under NumPy; return its result and which rows asked, or would have asked, their governor.

    Args:
        governed: see `physics.advance`.
        watch: called after each reading with what has become of the devices, what was read, and the policy's decision.
    """
    chunk, device, last, air, flags = start
    owner = owners(flags)
    steps, rows = flags.shape
    sums = Sums(*(np.zeros(rows, dtype=device.body.die_c.dtype) for _ in Sums._fields))
    from_air_c = surroundings(chunk.fixed, *air)
    marks = Marks(*(np.empty((steps, rows), dtype=bool) for _ in Marks._fields))
    for k in range(steps):
        since_s = signals.since_s if k == 0 else signals.step_s
        device, sums, now, decision, readings = step(
            policy, chunk.table, chunk.fixed, chunk.site, device, Owner(*(bits[k] for bits in owner)),
            air.ambient_c, from_air_c, sums, signals.zone_minute[k], since_s, signals.demand,
            governed=governed,
        )  # fmt: skip
        for kept, bits in zip(marks, now, strict=True):
            kept[k] = bits
        if watch is not None:
            watch(device, readings, decision)
    counts, last = count(marks, owner, chunk.fixed.has_battery, last)
    return (device, sums, counts, last), np.any(marks.asked, axis=0)


def compiled(policy: Any, *, governed: bool) -> Window:
    """Return the window under JAX: a function of (start, signals).

    What it returns is that of `run_numpy`.

    Args:
        governed: see `physics.advance`.

    Raises:
        ModuleNotFoundError: JAX is not installed.
    """
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)  # single precision is asked for by the arrays, never had by default

    def run(start: Start, signals: Signals) -> tuple[Result, Array]:
        chunk, device, last, air, flags = start
        from_air_c = surroundings(chunk.fixed, *air)
        first = jnp.arange(flags.shape[0]) == 0

        def reading(carry: tuple[Device, Sums], inputs: Any) -> tuple[tuple[Device, Sums], Array]:
            flags, minute, is_first = inputs
            since_s = jnp.where(is_first, signals.since_s, signals.step_s)
            device, sums, marks, *_ = step(
                policy, chunk.table, chunk.fixed, chunk.site, carry[0], owners(flags, xp=jnp),
                air.ambient_c, from_air_c, carry[1], minute, since_s, signals.demand, jnp, governed=governed,
            )  # fmt: skip
            # One byte in and one out: the time of a window is that of its arrays' way to the cache and back.
            return (device, sums), sum(bit.astype(jnp.uint8) << np.uint8(place) for place, bit in enumerate(marks))

        nothing = jnp.zeros_like(device.body.die_c)
        sums = Sums(*(nothing for _ in Sums._fields))
        (device, sums), bits = jax.lax.scan(reading, (device, sums), (flags, signals.zone_minute, first))
        marks = Marks(*(bits & np.uint8(1 << place) != 0 for place in range(len(Marks._fields))))
        counts, last = count(marks, owners(flags, xp=jnp), chunk.fixed.has_battery, last, jnp)
        return (device, sums, counts, last), jnp.any(marks.asked, axis=0)

    return jax.jit(run)


def on_device(chunk: Chunk) -> Chunk:
    """Return a chunk's constants as JAX arrays, so that they are handed over once and not at every window."""
    import jax

    jax.config.update("jax_enable_x64", True)
    found: Chunk = jax.device_put(chunk)
    return found


def count(marks: Marks, owner: Owner, has_battery: Array, last: Last, xp: Any = np) -> tuple[Counts, Last]:
    """Count what the bits of a window, (reading, device), say; at most 255 readings a window."""
    lent, low = marks.contribute, marks.low
    back = owner_back(owner.screen, has_battery, owner.plugged, owner.wifi)
    lent_before = xp.concatenate([last.contribute[None], lent[:-1]])

    def total(bits: Array) -> Array:
        return xp.sum(bits, axis=0, dtype=xp.uint8)

    return (
        Counts(
            lent=total(lent),
            sessions=rises(last.contribute, lent, xp),
            interrupted=total(lent_before & ~lent & back),
            hot=total(marks.hot),
            low=rises(last.low, low, xp),
        ),
        Last(lent[-1], low[-1]),
    )


def rises(last: Array, bits: Array, xp: Any = np) -> Array:
    """Return how often each row's bit, (reading, device), becomes true after that of the last window."""
    before = xp.concatenate([last[None], bits[:-1]])
    return xp.sum(bits & ~before, axis=0, dtype=xp.uint8)
