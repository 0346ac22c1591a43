"""The documented harvest rule, with every field enforced at every reading.

1. Each limit of temperature and battery is a latch (`rows.below`, `rows.above`). Reaching the limit sets it; it is
   cleared only beyond its band: ``hysteresis_c`` below a temperature limit; for the battery floor at
   ``optimal_battery``, and never less than ``hysteresis_battery`` above the floor.
2. A session may run while nothing forbids it: critical heat, battery and charging, network, owner, a clock that has
   failed, hours, length.
3. A session may start if it may run, the die is below the start limit, and both the cool-down and the dwell since
   the last one are over. So a row flaps at most once a dwell, while what the envelope demands stops it at once.
4. A session that only time has ended (hours, length) drains for ``drain_s``: nothing is computed or taken on, memory
   stays held and the network is used to hand work back. Whatever else ends a session drops it at once, and cuts a
   drain short: the owner is back, the charger is gone, the battery is low, the die is critical, a sensor or the
   clock failed, or there is no network to hand back over.

A number that is not one (a failed sensor), or that none can mean (`rows.known`), never satisfies a limit, so a blind
device does not lend.
"""

from __future__ import annotations

from typing import NamedTuple

from models.arrays import namespace
from policies.config import HarvestConfig
from policies.harvest.limits import Limits, check_limits
from policies.harvest.rows import (
    LONG_AGO_S,
    S_PER_H,
    S_PER_MIN,
    Devices,
    Gates,
    above,
    below,
    known,
    within_hours,
)
from policies.readings import Array, Decision, Readings

__all__ = ["Devices", "Harvest", "HarvestState"]


class HarvestState(NamedTuple):
    """One element a device. ``cool`` to ``charged`` are the latches: true while their limit is not reached."""

    dedicated: Array  # bool, from Devices
    has_battery: Array  # bool, from Devices
    contributing: Array  # bool
    draining: Array  # bool
    since_s: Array  # seconds since ``contributing`` changed: a session's length, or the rest's
    cool: Array  # bool: a session may start
    unthrottled: Array  # bool: compute is lent in full
    safe: Array  # bool: below critical heat
    charged: Array  # bool: above the battery floor


class Harvest:
    """The documented harvest policy; immutable, so one object serves every row.

    Args:
        config: the limits.

    Raises:
        ValueError: limits that contradict each other.
    """

    def __init__(self, config: HarvestConfig) -> None:
        check_limits(config)
        if config.hour_start == config.hour_end:
            raise ValueError(
                f"hour_start and hour_end are both {config.hour_start:g}; allowed: two hours (0-24 is always)"
            )
        self.config = config
        self._limits = Limits(config)
        # A full battery always suffices, whatever the floor and the band add up to.
        above_floor = min(1.0, config.min_battery + config.hysteresis_battery)
        self._reentry_soc = max(config.optimal_battery, above_floor)
        self._idle_s = config.idle_min * S_PER_MIN
        self._session_s = config.max_session_h * S_PER_H
        self._dwell_s = min(LONG_AGO_S, config.dwell_min * S_PER_MIN)
        self._rest_s = min(LONG_AGO_S, max(config.cooldown_min * S_PER_MIN, self._dwell_s))
        self._always_open = config.hour_start == 0.0 and config.hour_end == 24.0

    def init(self, devices: Devices) -> HarvestState:
        """Return the state of devices that have not been read yet: no session, no latch, no cool-down."""
        xp = namespace(*devices)
        dedicated, has_battery = xp.asarray(devices.dedicated), xp.asarray(devices.has_battery)
        off, on = xp.zeros_like(dedicated), xp.ones_like(dedicated)
        since = xp.full(dedicated.shape, LONG_AGO_S)
        return HarvestState(dedicated, has_battery, off, off, since, on, on, on, on)

    def decide(self, state: HarvestState, readings: Readings, dt_s: Array) -> tuple[Decision, HarvestState]:
        """Decide for every row.

        Args:
            state: what `init` or the previous call returned.
            readings: one element a row; Python scalars will do for one row.
            dt_s: seconds since the previous reading, a scalar or one element a row.

        Returns:
            The decision and the next state.
        """
        config, limits, xp = self.config, self._limits, namespace(state.since_s)
        r = known(readings, xp)
        own, was = state.dedicated, state.contributing

        cool = below(state.cool, r.die_c, config.max_cpu_temp_c, config.hysteresis_c)
        unthrottled = below(state.unthrottled, r.die_c, config.throttle_temp_c, config.hysteresis_c)
        safe = below(state.safe, r.die_c, config.critical_temp_c, config.hysteresis_c)
        charged = above(state.charged, r.soc, config.min_battery, self._reentry_soc)

        power = limits.power(r, state.has_battery, own, charged)
        network = limits.network(r)
        owner = r.idle_s >= self._idle_s
        if config.require_screen_off:
            owner = owner & ~r.screen_on
        owner = owner | own
        told = own | (r.local_minute >= 0.0)  # by a clock that has not failed
        may = safe & power & network & owner & told  # all but time

        since_s = state.since_s + dt_s
        in_time = was & ((since_s < self._session_s) | own)
        rested = ~was & cool & ((since_s >= self._rest_s) | (own & (since_s >= self._dwell_s)))
        contribute = may & (in_time | rested)
        if not self._always_open:
            contribute = contribute & (own | within_hours(r.local_minute, config.hour_start, config.hour_end))
        draining = may & (was | (state.draining & (since_s < config.drain_s))) & ~contribute
        if not limits.lends:
            contribute = draining = contribute & False
        if config.drain_s == 0:
            draining = draining & False
        since_s = since_s * xp.astype(was == contribute, since_s.dtype)  # 0 where it changed

        gates = Gates(power, cool & safe, network, owner)
        return (
            limits.decision(contribute, draining, unthrottled, gates, since_s, xp),
            HarvestState(own, state.has_battery, contribute, draining, since_s, cool, unthrottled, safe, charged),
        )

    def rests(self, state: HarvestState) -> Array:
        """Return the rows that lend nothing for as long as they are unplugged, whatever else is read.

        Only those that `rested` can tell of: no latch of heat is set, no session runs or drains.
        """
        at_rest = ~(state.dedicated | state.contributing | state.draining) & state.has_battery
        calm = state.cool & state.unthrottled & state.safe
        return at_rest & calm if self.config.require_charging else at_rest & False

    @property
    def rest_below_c(self) -> float:
        """The temperature of the die below which no latch of heat moves."""
        return self.config.max_cpu_temp_c - self.config.hysteresis_c

    def rested(self, state: HarvestState, soc_first: Array, soc_last: Array, for_s: Array) -> HarvestState:
        """Return the next state after a row of readings at which a row of `rests` was unplugged: `decide`, all at once.

        The die was below `rest_below_c` at each, and the charge, which is a number, did not rise from one to the next.

        Args:
            soc_first, soc_last: charge at the first of them and at the last.
            for_s: seconds from the reading before the first to the last; whole, so that they add up exactly.
        """
        charged = (soc_last >= self.config.min_battery) & (state.charged | (soc_first >= self._reentry_soc))
        return state._replace(since_s=state.since_s + for_s, charged=charged)

    def forbids(self, state: HarvestState, plugged: Array, on_wifi: Array, screen_on: Array) -> Array:
        """Return the rows in which no session begins through a row of readings, for what their owners do.

        Args:
            plugged, on_wifi: at some reading.
            screen_on: at every reading.
        """
        c = self.config
        forbidden = ~on_wifi & c.wifi_only
        forbidden = forbidden | (~plugged & state.has_battery & c.require_charging)
        return forbidden | (screen_on & c.require_screen_off)

    def may_last(self, state: HarvestState, local_minute: Array, zone: Array, for_s: Array, forbidden: Array) -> Array:
        """Return the rows that decide alike at every reading of a row of them, as far as time and owners have a say.

        Those are at rest while hours are closed or owners forbid, or in a session that neither hours nor its length
        end. A session lasts if in addition plug, network and screen stay as they are, and `lasts` holds after each
        reading.

        Args:
            local_minute: at each reading, (reading, time zone).
            zone: each row's time zone.
            for_s: seconds from the reading before the first to the last.
            forbidden: see `forbids`.
        """
        opens = within_hours(local_minute, self.config.hour_start, self.config.hour_end) | self._always_open
        ever, always = opens.any(axis=0)[zone], opens.all(axis=0)[zone]
        rests = ~(state.contributing | state.draining | (ever & ~forbidden))
        runs = state.contributing & always & (state.since_s + for_s < self._session_s)
        return ~state.dedicated & (rests | runs)

    def later(self, state: HarvestState, die_c: Array, soc: Array, dt_s: Array) -> HarvestState:
        """Return the next state after one more reading that is decided like the last: only heat and charge moved."""
        c = self.config
        return state._replace(
            since_s=state.since_s + dt_s,
            cool=below(state.cool, die_c, c.max_cpu_temp_c, c.hysteresis_c),
            unthrottled=below(state.unthrottled, die_c, c.throttle_temp_c, c.hysteresis_c),
            safe=below(state.safe, die_c, c.critical_temp_c, c.hysteresis_c),
            charged=above(state.charged, soc, c.min_battery, self._reentry_soc),
        )

    def lasts(self, state: HarvestState) -> Array:
        """Return the rows at rest, and those whose session neither heat nor charge ends or halves."""
        return ~state.contributing | (state.unthrottled & state.safe & (state.charged | ~state.has_battery))
