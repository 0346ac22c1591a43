"""G16, G17, G18 and G20 where harvest and the edge ladder decide: one defect of the predecessor each.

The documented rule is told something else than was read, or another configuration; it stays the same otherwise. (All of
the predecessor's rule at once is `policies.harvest.predecessor`.)
"""

from __future__ import annotations

from typing import Any

import msgspec

from models.arrays import namespace
from policies.config import EdgeConfig, HarvestConfig
from policies.edge.ladder import LadderState, Limits, ladder
from policies.harvest.elementwise import Harvest, HarvestState
from policies.harvest.rows import LONG_AGO_S
from policies.readings import Array, Decision, Readings

COLD_C = 20.0
"""A die's temperature that no limit minds."""


class IgnoresHeat(Harvest):
    """G16: heat is asked only when a session starts: a session goes on, in full, above 55 and 65 C."""

    def decide(self, state: HarvestState, readings: Readings, dt_s: Array) -> tuple[Decision, HarvestState]:
        """Decide as if a device that lends were cold."""
        xp = namespace(state.since_s)
        return super().decide(
            state, readings._replace(die_c=xp.where(state.contributing, COLD_C, readings.die_c)), dt_s
        )


class IgnoresUnplugging(Harvest):
    """G16: the charger is asked only when a session starts: an unplugged device is drained by the village."""

    def decide(self, state: HarvestState, readings: Readings, dt_s: Array) -> tuple[Decision, HarvestState]:
        """Decide as if a device that lends were plugged in."""
        return super().decide(state, readings._replace(plugged=readings.plugged | state.contributing), dt_s)


class SessionsWithoutEnd(Harvest):
    """G16: the longest session is a field that nothing reads."""

    def decide(self, state: HarvestState, readings: Readings, dt_s: Array) -> tuple[Decision, HarvestState]:
        """Decide as if every session had just begun."""
        xp = namespace(state.since_s)
        return super().decide(state._replace(since_s=xp.where(state.contributing, 0.0, state.since_s)), readings, dt_s)


class SkipsTheCooldown(Harvest):
    """G16: the cool-down is a field that nothing reads; the next session starts after the dwell."""

    def __init__(self, config: HarvestConfig) -> None:
        super().__init__(msgspec.structs.replace(config, cooldown_min=0.0))


class HasNoBands(Harvest):
    """G17: no hysteresis at 45, 55 and 65 C, nor at the battery's floor: what trembles at a limit flaps."""

    def __init__(self, config: HarvestConfig) -> None:
        floor = config.min_battery
        super().__init__(
            msgspec.structs.replace(config, hysteresis_c=0.0, hysteresis_battery=0.0, optimal_battery=floor)
        )


class HasNoDwell(Harvest):
    """G17: no dwell: a machine set aside for the village starts again at the next reading."""

    def __init__(self, config: HarvestConfig) -> None:
        super().__init__(msgspec.structs.replace(config, dwell_min=0.0))


class TakesWiredForMetered(Harvest):
    """G18: a wired network counts as metered. Machines without a battery are those that are wired."""

    def decide(self, state: HarvestState, readings: Readings, dt_s: Array) -> tuple[Decision, HarvestState]:
        """Decide as if wired machines were on a metered network."""
        return super().decide(state, readings._replace(metered=readings.metered | ~state.has_battery), dt_s)


class TakesMainsForEmpty(Harvest):
    """G18: a machine without a battery is reported as 0 % and refused."""

    def decide(self, state: HarvestState, readings: Readings, dt_s: Array) -> tuple[Decision, HarvestState]:
        """Decide as if every machine had a battery, an empty one where there is none."""
        xp = namespace(state.since_s)
        soc = xp.where(state.has_battery, readings.soc, 0.0)
        return super().decide(state, readings._replace(soc=soc, has_battery=readings.has_battery | True), dt_s)


class NeverDrains(Harvest):
    """G18: pending tasks are never drained: a session that ends in order drops what it holds."""

    def __init__(self, config: HarvestConfig) -> None:
        super().__init__(msgspec.structs.replace(config, drain_s=0.0))


class KeepsItsTasks(Harvest):
    """G18: a device that was stopped keeps its tasks, and the memory they hold."""

    def decide(self, state: HarvestState, readings: Readings, dt_s: Array) -> tuple[Decision, HarvestState]:
        """Hold the memory of every session that ever ended."""
        xp = namespace(state.since_s)
        decision, after = super().decide(state, readings, dt_s)
        ever = after.since_s < LONG_AGO_S  # a device that has lent has changed since it was first read
        return decision._replace(memory_share=xp.where(ever, self.config.max_memory, decision.memory_share)), after


class TakesEmptyForUnknown(Harvest):
    """G20: 0 % is falsy, so an empty battery is no constraint."""

    def decide(self, state: HarvestState, readings: Readings, dt_s: Array) -> tuple[Decision, HarvestState]:
        """Decide as if an empty battery were full."""
        return super().decide(state, _empty_is_full(readings, namespace(state.since_s)), dt_s)


HARVEST: dict[str, type[Harvest]] = {
    "g16_heat": IgnoresHeat,
    "g16_unplugged": IgnoresUnplugging,
    "g16_length": SessionsWithoutEnd,
    "g16_cooldown": SkipsTheCooldown,
    "g17_bands": HasNoBands,
    "g17_dwell": HasNoDwell,
    "g18_wired": TakesWiredForMetered,
    "g18_mains": TakesMainsForEmpty,
    "g18_drain": NeverDrains,
    "g18_keeps": KeepsItsTasks,
    "g20_harvest": TakesEmptyForUnknown,
}


def ladder_without_bands(
    state: LadderState, readings: Readings, memory_bytes: Array, config: EdgeConfig
) -> tuple[Limits, LadderState]:
    """G17: no hysteresis at 45, 55 and 65 C and at 10, 20 and 40 %: a rung is left as soon as it is."""
    bare = msgspec.structs.replace(config, hysteresis_c=0.0, hysteresis_battery=0.0, hysteresis_memory_mb=0.0)
    return ladder(state, readings, memory_bytes, bare)


def ladder_without_zero(
    state: LadderState, readings: Readings, memory_bytes: Array, config: EdgeConfig
) -> tuple[Limits, LadderState]:
    """G20: 0 % is falsy, so an empty battery puts the ladder on its best rung."""
    return ladder(state, _empty_is_full(readings, namespace(state.battery)), memory_bytes, config)


LADDERS: dict[str, Any] = {"g17_ladder": ladder_without_bands, "g20_ladder": ladder_without_zero}


def _empty_is_full(readings: Readings, xp: Any) -> Readings:
    return readings._replace(soc=xp.where(readings.soc == 0.0, 1.0, readings.soc))
