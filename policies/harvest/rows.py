"""What every harvest rule is made of: its interface, the fixed facts of a device, the names of its states.

A rule decides elementwise and in pure functions of the Array API, so one row on a device and a million rows in the
twin, under NumPy or `jax.jit`, are the same code. Nothing here loops over rows, and no row sees another.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from policies.config import HarvestRules
from policies.readings import RANGES, Array, Decision, Plausible, Readings, plausible

BYTES_PER_S_PER_MBPS = 125_000.0  # 1 Mbit/s = 10^6 bits a second, 8 bits a byte
S_PER_MIN = 60.0
S_PER_H = 3600.0
MIN_PER_H = 60.0
LONG_AGO_S = float(1 << 22)  # 48 days, whole seconds even in float32: a device never read has rested this long

# Indices into policies.readings.HARVEST_STATES.
IDLE, HARVESTING, CHARGING_LOW, THERMAL_THROTTLE, USER_ACTIVE, NETWORK_METERED, DISABLED, DRAINING = range(8)


class Devices(NamedTuple):
    """What is fixed about a device.

    ``dedicated`` rows are machines set aside for the village: their owner's presence, hours, session length,
    cool-down and charging do not bind them; temperature, battery floor and network do.
    ``has_battery`` comes from the inventory; a battery that either it or the readings report is obeyed.
    """

    dedicated: Array  # bool
    has_battery: Array  # bool
    flops: Array = 0.0  # dense FP16 peak, FLOP/s; 0 where it is not known


class HarvestRule(Protocol):
    """The interface of every harvest policy; immutable, so one object serves every row."""

    @property
    def config(self) -> HarvestRules:
        """The parameters."""
        ...

    def init(self, devices: Devices) -> Any:
        """Return the state of devices that were never read: a NamedTuple of arrays, rows along the first axis."""
        ...

    def decide(self, state: Any, readings: Readings, dt_s: Array) -> tuple[Decision, Any]:
        """Decide for every row, ``dt_s`` seconds after the previous reading, and return the next state too."""
        ...


def known(readings: Readings, xp: Any) -> Plausible:
    """Return the readings as arrays of ``xp``, what no sensor can mean as unknown: NaN, which satisfies no limit.

    So every rule reads, whoever asks it. Only `Plausible` readings pass as they are: their maker vouches for them, and
    so a fleet's window does without the check.
    """
    if not isinstance(readings, Plausible):
        readings = readings._replace(**{field: _or_nan(field, getattr(readings, field), xp) for field in RANGES})
    return Plausible(*(xp.asarray(x) if isinstance(x, bool | int | float) else x for x in readings))


def _or_nan(field: str, value: Array, xp: Any) -> Array:
    good = plausible(field, value)
    if isinstance(value, int | float):  # one row's: without arrays, which would take it ten times as long
        return value if good else xp.nan
    return xp.where(good, value, xp.nan)


class Gates(NamedTuple):
    """Which gates are open, in the order of the documented checks: the first that is shut is reported."""

    power: Array
    heat: Array
    network: Array
    owner: Array


def state_code(contribute: Array, full: Array, draining: Array, gates: Gates, xp: Any) -> Array:
    """Return the index into HARVEST_STATES.

    Args:
        contribute: a session runs.
        full: it runs, and not throttled.
        draining: a session hands back.
        gates: what a row without a session is waiting for.

    The index is put together from its three bits, which costs half of choosing among eight.
    """
    rest = ~(contribute | draining)
    to_heat = rest & gates.power
    to_network = to_heat & gates.heat
    to_owner = to_network & gates.network
    idle = to_owner & gates.owner
    power, heat = rest ^ to_heat, to_heat ^ to_network  # each gate's set holds the next one's
    network, owner = to_network ^ to_owner, to_owner ^ idle
    ones = contribute | heat | network | draining  # states 1, 3, 5, 7
    twos = power | heat | (contribute ^ full) | draining  # 2, 3, 7
    fours = owner | network | draining  # 4, 5, 7
    low = xp.astype(ones, xp.int8) + xp.astype(twos, xp.int8) * 2
    return low + xp.astype(fours, xp.int8) * 4


def within_hours(local_minute: Array, start_h: float, end_h: float) -> Array:
    """Return whether the minute of the day lies in [start, end), which may cross midnight; never for NaN."""
    after, before = local_minute >= start_h * MIN_PER_H, local_minute < end_h * MIN_PER_H
    return after & before if start_h < end_h else after | before


def below(was: Array, value: Array, limit: float, band: float) -> Array:
    """Return a latch: false from ``limit`` up (and for NaN), true again only below ``limit - band``."""
    return (value < limit) & (was | (value < limit - band))


def above(was: Array, value: Array, floor: float, clear: float) -> Array:
    """Return a latch: false below ``floor`` (and for NaN), true again only from ``clear`` up."""
    return (value >= floor) & (was | (value >= clear))
