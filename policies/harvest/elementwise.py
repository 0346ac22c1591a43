"""The harvest rule, elementwise: one row on a device and a million rows in the twin are the same code.

Array API only, so that it runs under NumPy, `jax.jit` and any other conforming library. Nothing here loops
over rows, and no row sees another.

The rule at every reading:

1. Each limit of temperature and battery is a latch. Reaching the limit sets it; it is cleared only beyond
   its band: ``hysteresis_c`` below a temperature limit; for the battery floor at ``optimal_battery``, and
   never less than ``hysteresis_battery`` above the floor.
2. A session may run while nothing forbids it: critical heat, battery and charging, network, owner, hours,
   length.
3. A session may start if it may run, the die is below the start limit, and the cool-down is over.
4. Whatever ends a session starts the cool-down.

A number that is not one (a failed sensor) never satisfies a limit, so a blind device does not lend.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import array_api_compat
import array_api_compat.numpy as plain_numpy

from policies.config import HarvestConfig
from policies.readings import Array, Decision, Readings

BYTES_PER_S_PER_MBPS = 125_000.0  # 1 Mbit/s = 10^6 bits a second, 8 bits a byte
THROTTLED_FACTOR = 0.5  # documented: compute is halved from the throttle temperature
S_PER_MIN = 60.0
S_PER_H = 3600.0
MIN_PER_H = 60.0

# Indices into policies.readings.HARVEST_STATES.
IDLE, HARVESTING, CHARGING_LOW, THERMAL_THROTTLE, USER_ACTIVE, NETWORK_METERED, DISABLED = range(7)


class Devices(NamedTuple):
    """What is fixed about a device.

    ``dedicated`` rows are machines set aside for the village: hours, idle time, screen, session length,
    cool-down and charging do not bind them; temperature, battery floor and network do.
    ``has_battery`` comes from the inventory; a battery that either it or the readings report is obeyed.
    """

    dedicated: Array  # bool
    has_battery: Array  # bool


class HarvestState(NamedTuple):
    """One element a device. ``too_hot`` to ``battery_low`` are the latches."""

    dedicated: Array  # bool, from Devices
    has_battery: Array  # bool, from Devices
    contributing: Array  # bool
    session_s: Array  # seconds in the current session, 0 outside
    cooldown_s: Array  # seconds left
    too_hot: Array  # bool: no session may start
    throttled: Array  # bool: compute is halved
    critical: Array  # bool: no session may run
    battery_low: Array  # bool: the floor was reached


class Harvest:
    """The harvest policy of a village; immutable, so one object serves every row.

    Args:
        config: the limits.

    Raises:
        ValueError: limits that contradict each other.
    """

    def __init__(self, config: HarvestConfig) -> None:
        if not config.max_cpu_temp_c <= config.throttle_temp_c <= config.critical_temp_c:
            raise ValueError(
                f"max_cpu_temp_c, throttle_temp_c, critical_temp_c are {config.max_cpu_temp_c:g}, "
                f"{config.throttle_temp_c:g}, {config.critical_temp_c:g}; allowed: values that do not fall"
            )
        if config.hour_start == config.hour_end:
            raise ValueError(
                f"hour_start and hour_end are both {config.hour_start:g}; allowed: two hours (0-24 is always)"
            )
        self.config = config
        # A full battery always suffices, whatever the floor and the band add up to.
        above_floor = min(1.0, config.min_battery + config.hysteresis_battery)
        self._reentry_soc = max(config.optimal_battery, above_floor)
        self._lends = config.max_cpu > 0 and config.max_memory > 0

    def init(self, devices: Devices) -> HarvestState:
        """Return the state of devices that have not been read yet: no session, no latch, no cool-down."""
        xp = _namespace(devices)
        dedicated, has_battery = (xp.asarray(field) for field in devices)
        off = xp.zeros_like(dedicated)
        zero = xp.zeros(dedicated.shape)
        return HarvestState(dedicated, has_battery, off, zero, zero, off, off, off, off)

    def decide(self, state: HarvestState, readings: Readings, dt_s: Array) -> tuple[Decision, HarvestState]:
        """Decide for every row.

        Args:
            state: what `init` or the previous call returned.
            readings: one element a row; Python scalars will do for one row.
            dt_s: seconds since the previous reading, a scalar or one element a row.

        Returns:
            The decision and the next state.
        """
        config, xp = self.config, _namespace(state)
        readings = Readings(*(xp.asarray(field) for field in readings))
        state = self._latch(state, readings)

        battery = readings.has_battery | state.has_battery
        uncharged = battery & ~(readings.plugged | state.dedicated) & config.require_charging
        no_power = (battery & state.battery_low) | uncharged
        no_network = (
            (~readings.on_wifi & config.wifi_only)
            | (readings.metered & (not config.allow_metered))
            | ~(readings.bandwidth_bytes_per_s >= config.min_bandwidth_mbps * BYTES_PER_S_PER_MBPS)
        )
        in_use = readings.screen_on & config.require_screen_off
        owner = (in_use | ~(readings.idle_s >= config.idle_min * S_PER_MIN)) & ~state.dedicated
        open_now = self._open(readings.local_minute) | state.dedicated

        session_s = xp.where(state.contributing, state.session_s + dt_s, xp.zeros_like(state.session_s))
        left_s = state.cooldown_s - dt_s
        cooldown_s = xp.where(left_s > 0.0, left_s, xp.zeros_like(left_s))
        in_time = (session_s < config.max_session_h * S_PER_H) | state.dedicated
        may_run = ~(state.critical | no_power | no_network | owner) & open_now & in_time & self._lends
        may_start = may_run & ~state.too_hot & ((cooldown_s <= 0.0) | state.dedicated)
        contribute = xp.where(state.contributing, may_run, may_start)

        ended = state.contributing & ~contribute
        cooldown_s = xp.where(ended, xp.full_like(cooldown_s, config.cooldown_min * S_PER_MIN), cooldown_s)
        session_s = xp.where(contribute, session_s, xp.zeros_like(session_s))
        state = state._replace(contributing=contribute, session_s=session_s, cooldown_s=cooldown_s)

        # The last reason that holds is the one reported: the documented checks from last to first.
        code = xp.full_like(contribute, IDLE, dtype=xp.int32)
        for holds, index in (
            (owner, USER_ACTIVE),
            (no_network, NETWORK_METERED),
            (state.too_hot | state.critical, THERMAL_THROTTLE),
            (no_power, CHARGING_LOW),
            (contribute, HARVESTING),
            (contribute & state.throttled, THERMAL_THROTTLE),
            (xp.full_like(contribute, not self._lends), DISABLED),
        ):
            code = xp.where(holds, xp.full_like(code, index), code)
        return self._decision(contribute, state.throttled, code, session_s.dtype, xp), state

    def _latch(self, state: HarvestState, readings: Readings) -> HarvestState:
        config = self.config

        def hot(was: Array, limit_c: float) -> Array:
            cleared = readings.die_c < limit_c - config.hysteresis_c
            return ~(readings.die_c < limit_c) | (was & ~cleared)

        return state._replace(
            too_hot=hot(state.too_hot, config.max_cpu_temp_c),
            throttled=hot(state.throttled, config.throttle_temp_c),
            critical=hot(state.critical, config.critical_temp_c),
            battery_low=~(readings.soc >= config.min_battery)
            | (state.battery_low & ~(readings.soc >= self._reentry_soc)),
        )

    def _open(self, local_minute: Array) -> Array:
        start, end = self.config.hour_start * MIN_PER_H, self.config.hour_end * MIN_PER_H
        after, before = local_minute >= start, local_minute < end
        return after & before if start < end else after | before

    def _decision(self, contribute: Array, throttled: Array, code: Array, dtype: Any, xp: Any) -> Decision:
        config = self.config
        lent = xp.astype(contribute, dtype)
        slowed = 1.0 - (1.0 - THROTTLED_FACTOR) * xp.astype(throttled, dtype)
        # The bandwidth cap holds at rest as well: hand-backs and heartbeats are the village's traffic too.
        cap = xp.full_like(lent, config.max_bandwidth_mbps * BYTES_PER_S_PER_MBPS)
        return Decision(contribute, lent * slowed * config.max_cpu, lent * config.max_memory, cap, code)


def _namespace(fields: tuple[Array, ...]) -> Any:
    """Return the array library of ``fields``; Python scalars are read as NumPy's."""
    arrays = [field for field in fields if not isinstance(field, bool | int | float)]
    return array_api_compat.array_namespace(*arrays) if arrays else plain_numpy
