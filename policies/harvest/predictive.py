"""The predictive harvest rule: the owner's hard limits, and forecasts in place of the clock.

Heat, battery floor, charger, network, screen and caps bind as in the documented rule, through the same gates and
latches. Hours, idle time, optimum, session length and cool-down do not; instead, at every reading and looking a
horizon ahead (`policies.harvest.owner`, `policies.harvest.heat`), a row:

1. starts a session only where what it would lend is worth the risk that its owner ends it soon: the chance an hour of a
   return stays below ``start_hazard_per_h`` times the share of the cap that it can lend and the value of its chip; and
   hands back in order, before the owner comes, where the chance exceeds ``stop_hazard_per_h`` times both. So risk is
   taken where it buys most, and a session that heat holds down must be a safe one. Chips are alike, or by
   ``compute_weight`` worth what they compute;
2. starts none that endangers the owner's charge: the chance of being unplugged below ``charge_to`` stays small;
3. lends the share of its cap with which skin and die stay below their limits to the horizon, in sixteenths.

An orderly end (1, or heat that leaves no share) drains; what the owner's limits end drops at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from models.arrays import namespace
from policies.config import PredictiveConfig
from policies.harvest.heat import Heat, feel, no_heat
from policies.harvest.limits import THROTTLED_FACTOR, Limits, check_limits
from policies.harvest.owner import Owner, no_owner, watch
from policies.harvest.rows import (
    LONG_AGO_S,
    S_PER_MIN,
    Devices,
    Gates,
    above,
    below,
    known,
)
from policies.readings import Array, Decision, Readings

STEPS = 16  # of the share of the cap: fewer messages than a share that moves at every reading
START_SHARE = 0.25  # of the cap: a session that heat would hold below it is not worth its owner's risk (assumption)


class PredictiveState(NamedTuple):
    """One element a device; the first nine are those of the documented rule."""

    dedicated: Array
    has_battery: Array
    contributing: Array
    draining: Array
    since_s: Array
    cool: Array
    unthrottled: Array
    safe: Array
    charged: Array
    alone: Array
    absent_h: Array
    returns: Array
    expected: Array
    habit_cos: Array
    habit_sin: Array
    taste: Array
    long: Array
    began: Array
    first: Array
    known: Array
    skin_c: Array
    rest_c: Array
    rise_k: Array
    excess_k: Array
    excess_rise_k: Array
    load: Array
    value: Array  # of an hour of the device, in hours of the mean chip


_OWNER = slice(9, 9 + len(Owner._fields))
_HEAT = slice(_OWNER.stop, _OWNER.stop + len(Heat._fields))


class Predictive:
    """The predictive harvest policy; immutable, so one object serves every row.

    Args:
        config: the owner's limits and the forecasts' parameters.

    Raises:
        ValueError: limits that contradict each other.
    """

    def __init__(self, config: PredictiveConfig) -> None:
        check_limits(config)
        if config.stop_hazard_per_h < config.start_hazard_per_h:
            raise ValueError(
                f"stop_hazard_per_h is {config.stop_hazard_per_h:g}; allowed: from start_hazard_per_h, "
                f"{config.start_hazard_per_h:g}"
            )
        self.config = config
        self._dwell_s = min(LONG_AGO_S, config.dwell_min * S_PER_MIN)
        self._limits = Limits(config)
        self._reentry_soc = min(1.0, config.min_battery + config.hysteresis_battery)

    def init(self, devices: Devices) -> PredictiveState:
        """Return the state of devices that have not been read yet: no session, no latch, the data's owner."""
        xp = namespace(*devices)
        dedicated, has_battery = xp.asarray(devices.dedicated), xp.asarray(devices.has_battery)
        off, on = xp.zeros_like(dedicated), xp.ones_like(dedicated)
        since = xp.full(dedicated.shape, LONG_AGO_S)
        learned = (*no_owner(since, has_battery, xp), *no_heat(since, xp))
        value = self._value(xp.zeros_like(since) + xp.asarray(devices.flops), xp)
        return PredictiveState(dedicated, has_battery, off, off, since, on, on, on, on, *learned, value)

    def _value(self, flops: Array, xp: Any) -> Array:
        """Return what an hour of each device is worth, an hour of the mean chip being 1; so is what is not known."""
        weight = self.config.compute_weight
        chips = flops / (self.config.chip_tflops * 1e12)
        return xp.where(chips > 0.0, 1.0 - weight + weight * chips, xp.ones_like(chips))

    def decide(self, state: PredictiveState, readings: Readings, dt_s: Array) -> tuple[Decision, PredictiveState]:
        """Decide for every row; see `policies.harvest.rows.HarvestRule`."""
        config, limits, xp = self.config, self._limits, namespace(state.since_s)
        r = known(readings, xp)
        own, was = state.dedicated, state.contributing

        cool = below(state.cool, r.die_c, config.max_cpu_temp_c, config.hysteresis_c)
        unthrottled = below(state.unthrottled, r.die_c, config.throttle_temp_c, config.hysteresis_c)
        safe = below(state.safe, r.die_c, config.critical_temp_c, config.hysteresis_c)
        charged = above(state.charged, r.soc, config.min_battery, self._reentry_soc)
        power = limits.power(r, state.has_battery, own, charged)
        network = limits.network(r)
        owner = (~r.screen_on | own) if config.require_screen_off else own | True
        mains = ~(r.has_battery | state.has_battery)
        touched = r.screen_on | (r.idle_s < dt_s)
        alone = (r.plugged | mains) & network & ~touched
        hazard, learned = watch(Owner(*state[_OWNER]), config, r.local_minute, alone, mains, dt_s, xp)
        room, heat = feel(Heat(*state[_HEAT]), config, r, dt_s, xp)
        share = xp.floor(room * STEPS) / STEPS
        # A clock or a skin sensor that failed forecasts nothing.
        may = safe & power & network & owner & heat.known & (own | (r.local_minute >= 0.0))

        slowed = THROTTLED_FACTOR + (1.0 - THROTTLED_FACTOR) * xp.astype(unthrottled, state.since_s.dtype)
        lendable = xp.minimum(share, slowed)
        worth = lendable * state.value
        missing = xp.maximum(config.charge_to - r.soc, 0.0)
        chargeable = (hazard * missing <= config.charge_risk * config.charge_per_h) | mains | own
        since_s = state.since_s + dt_s
        start = ~was & cool & chargeable & (since_s >= self._dwell_s)
        start = start & ((hazard < config.start_hazard_per_h * worth) | own) & (share >= START_SHARE)
        stay = was & ((hazard < config.stop_hazard_per_h * worth) | own) & (share > 0.0)
        contribute = may & (start | stay)
        draining = may & (was | (state.draining & (since_s < config.drain_s))) & ~contribute
        if not limits.lends:
            contribute = draining = contribute & False
        if config.drain_s == 0:
            draining = draining & False
        since_s = since_s * xp.astype(was == contribute, since_s.dtype)

        lent = xp.astype(contribute, since_s.dtype)
        load = lent * lendable
        gates = Gates(power, cool & safe & (share >= START_SHARE), network, owner)
        decision = limits.answer(contribute, draining, contribute & unthrottled, load * config.max_cpu, lent, gates, xp)
        return decision, PredictiveState(
            own, state.has_battery, contribute, draining, since_s, cool, unthrottled, safe, charged,
            *learned, *heat._replace(load=load), state.value,
        )  # fmt: skip
