"""The adaptation ladder, elementwise: how much a device lends at its charge, heat and free memory.

Array API only; one row on a device and a fleet's rows are the same code, as in `policies.harvest.elementwise`.

Three ladders of four rungs each, 0 (best) to 3 (most careful):

=========  ====================  ====================  ====================  ====================
rung       0                     1                     2                     3
=========  ====================  ====================  ====================  ====================
battery    above 40 %            conservative <= 40 %  low <= 20 %           critical <= 10 %
heat       below 45 °C           warm >= 45 °C         hot >= 55 °C          critical >= 65 °C
memory     above 8 GB free       <= 8 GB               <= 4 GB               <= 2 GB
=========  ====================  ====================  ====================  ====================

A device climbs to a more careful rung at once and comes down only beyond a band, so that a reading which trembles
at a limit changes nothing. The numbers are the village's documented ones (its mobile resource manager; where its edge
manager says otherwise, 512 MB and the smallest chunk at a critical battery, the complete table of the
former stands). 35 °C is documented as the normal temperature and limits nothing. What the documents leave
open, and how it is read here:

* conservative and low battery bind only while not plugged in, as in the documented power modes; critical always;
* the temperature is the hotter of die and, where there is a battery, the battery;
* MB and GB are powers of two;
* machines set aside for the village have no owner to be careful for: the caps of the best rung (half the compute, 1 GB,
  two tasks) do not bind them, the other rungs do; they take the documented ten tasks of a fog node.

A number that is missing (NaN, infinite, or out of its range) puts its ladder on the most careful rung, and
unknown memory lends none. ``blind`` says so.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from models.arrays import namespace
from policies.config import EdgeConfig
from policies.readings import Array, Readings, plausible

MB = 2.0**20
GB = 2.0**30

MODES = ("performance", "balanced", "power_save", "critical")
"""Documented power modes; the index is the worse of the battery's and the heat's rung."""

# Documented chunk scales by rung, best first.
MEMORY_SCALE = (1.25, 1.0, 0.75, 0.5)
HEAT_SCALE = (1.0, 0.75, 0.5, 0.3)
BATTERY_SCALE = (1.0, 0.8, 0.6, 0.3)


class LadderState(NamedTuple):
    """One element a device; the last three are rungs 0..3."""

    dedicated: Array  # bool: set aside for the village
    has_battery: Array  # bool, from the inventory; a battery that either it or the readings report is obeyed
    battery: Array  # int32
    heat: Array  # int32
    memory: Array  # int32


class Limits(NamedTuple):
    """What a device may lend, elementwise."""

    cpu_share: Array  # share of its compute, 0..1
    memory_bytes: Array  # whole bytes, as floats
    tasks: Array  # int32: at once
    chunk_bytes: Array  # whole bytes, as floats: of a transfer
    mode: Array  # int32 index into MODES
    blind: Array  # bool: a reading that matters is missing


def begin(dedicated: Array, has_battery: Array) -> LadderState:
    """Return the state of devices that have not been read yet."""
    xp = namespace(dedicated, has_battery)
    dedicated, has_battery = xp.asarray(dedicated), xp.asarray(has_battery)
    best = xp.zeros(dedicated.shape, dtype=xp.int32)
    return LadderState(dedicated, has_battery, best, best, best)


def ladder(
    state: LadderState, readings: Readings, memory_bytes: Array, config: EdgeConfig | None = None
) -> tuple[Limits, LadderState]:
    """Return every row's limits and the next state.

    Args:
        state: what `begin` or the previous call returned.
        readings: one element a row; Python scalars will do for one row. The village's own reservations are not
            subtracted from free memory: a ladder that shrinks because of what it allowed would never come to rest.
        memory_bytes: what the device has for the village at most. Half of that bounds what is lent as half of what is
            free does; the rung goes by what is free.
        config: the numbers; the documented ones if none are given.
    """
    numbers, xp = config or EdgeConfig(), namespace(*state)
    free, most = xp.asarray(readings.memory_free_bytes), xp.asarray(memory_bytes)
    free_known = xp.isfinite(free) & (free >= 0.0)
    soc, has_battery = xp.asarray(readings.soc), xp.asarray(readings.has_battery) | state.has_battery
    soc_known = (soc >= 0.0) & (soc <= 1.0)
    die_c, cell_c = xp.asarray(readings.die_c), xp.asarray(readings.battery_c)
    heat_c = xp.where(has_battery & (cell_c > die_c), cell_c, die_c)
    heat_known = plausible("die_c", die_c) & (plausible("battery_c", cell_c) | ~has_battery)

    def rungs(good: Array, known: Array, limits: tuple[float, float, float], better: bool) -> Array:
        """Count the limits that ``good`` does not keep away from (above them if ``better`` is more, else below)."""
        at = xp.zeros(good.shape, dtype=xp.int32)
        for limit in limits:
            away = (good > limit) if better else (good < limit)
            at = at + xp.astype(~(away & known), xp.int32)
        return at

    def moved(was: Array, good: Array, known: Array, limits: tuple[float, ...], band: float, better: bool) -> Array:
        shifted = tuple(limit + band if better else limit - band for limit in limits)
        climbed = rungs(good, known, limits, better)  # type: ignore[arg-type]
        stays = rungs(good, known, shifted, better)  # type: ignore[arg-type]
        return xp.where(climbed > was, climbed, xp.where(was < stays, was, stays))

    battery_limits = (numbers.battery_conservative, numbers.battery_low, numbers.battery_critical)
    battery = moved(state.battery, soc, soc_known, battery_limits, numbers.hysteresis_battery, True)
    heat_limits = (numbers.warm_c, numbers.hot_c, numbers.critical_c)
    heat = moved(state.heat, heat_c, heat_known, heat_limits, numbers.hysteresis_c, False)
    memory_limits = (numbers.memory_high_gb * GB, numbers.memory_medium_gb * GB, numbers.memory_low_gb * GB)
    memory = moved(state.memory, free, free_known, memory_limits, numbers.hysteresis_memory_mb * MB, True)

    none = xp.zeros_like(battery)
    plugged = xp.asarray(readings.plugged)
    binding = xp.where(has_battery & ~(plugged & (battery < 3)), battery, none)
    blind = (has_battery & ~soc_known) | ~heat_known | ~free_known
    free = xp.where(free_known, xp.where(free > most, most, free), xp.zeros_like(free))
    limits = _limits(numbers, state.dedicated, binding, heat, memory, free, xp)
    mode = xp.where(binding > heat, binding, heat)
    return limits._replace(mode=mode, blind=blind), state._replace(battery=battery, heat=heat, memory=memory)


def _limits(
    n: EdgeConfig, dedicated: Array, battery: Array, heat: Array, memory: Array, free: Array, xp: Any
) -> Limits:
    one = free * 0.0 + 1.0  # in the rows' own float type

    def capped(value: Array, where: Array, cap: float) -> Array:
        return xp.where(where & ~(value <= cap), cap * one, value)

    cpu = capped(one, ~dedicated, n.cpu_share)
    cpu = capped(cpu, battery == 2, n.cpu_low_battery)
    cpu = capped(cpu, battery == 3, n.cpu_critical_battery)
    cpu = capped(cpu, heat == 2, n.cpu_hot)
    cpu = capped(cpu, heat == 3, n.cpu_critical_heat)

    lent = capped(free / 2.0, ~dedicated, n.memory_mb * MB)
    lent = xp.where(battery == 2, lent * n.memory_low_battery, lent)
    lent = xp.where(heat == 2, lent * n.memory_hot, lent)
    lent = capped(lent, (battery == 3) | (heat == 3), n.memory_critical_mb * MB)
    lent = capped(lent, memory == 3, n.memory_short_mb * MB)

    tasks = xp.where(dedicated, n.tasks_dedicated + battery * 0, n.tasks + battery * 0)
    tasks = xp.where(((battery >= 2) | (heat == 3)) & (tasks > 1), battery * 0 + 1, tasks)

    chunk = n.chunk_bytes * one
    for scale, rung in ((MEMORY_SCALE, memory), (HEAT_SCALE, heat), (BATTERY_SCALE, battery)):
        for number, factor in enumerate(scale):
            chunk = xp.where(rung == number, chunk * factor, chunk)
    chunk = xp.floor(capped(chunk, xp.full_like(dedicated, True), float(n.chunk_max_bytes)))
    chunk = xp.where(chunk < n.chunk_min_bytes, n.chunk_min_bytes * one, chunk)
    return Limits(cpu, xp.floor(lent), tasks, chunk, battery, dedicated)
