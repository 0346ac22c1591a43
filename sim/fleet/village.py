"""The fleet: physics and elementwise policy of every device, one row a device, once a tick.

`Fleet` alone owns batteries, temperatures, governors and the harvest rule's state. Each tick it advances the physics
over the interval that has passed with the loads that were, reads the sensors, lets the harvest policy decide
all rows in one call, and hands each row that changed to its node. Coupling order: coefficients frozen at the
interval's start, electric advance, heat, thermal advance, governor, readings, decision. The physics is that of
`sim.fleet.physics`, as for a million devices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models import devices, draws, links
from models.battery.reading import Charge
from policies.config import HarvestRules
from policies.harvest import Devices, make, violations
from policies.readings import Decision, Readings
from scenarios import hosts
from scenarios.groups import entities, zones
from scenarios.schema import KINDS, Scenario, Shaped
from sim.fleet import physics
from sim.fleet.around import Surroundings
from sim.fleet.ladders import Ladders
from sim.fleet.lines import Lines, home_lines, mobile_lines
from sim.fleet.reading import USER_LOAD
from sim.fleet.stock import Roster, cell_tables, fixed
from sim.owners import Habits, habits


@dataclass(frozen=True)
class Inventory:
    """The fleet's fixed properties, arrays of one element a device; devices are ordered by kind."""

    name: tuple[str, ...]
    kind: tuple[str, ...]
    model: np.ndarray  # row of the device library
    row: devices.Table
    dedicated: np.ndarray
    zone_min: np.ndarray
    home: Lines
    mobile: Lines
    entity: np.ndarray  # who draws: the same for a device whatever else the fleet holds

    @property
    def has_battery(self) -> np.ndarray:
        """Devices with a battery."""
        return np.asarray(self.row.battery_wh > 0)


def inventory(scenario: Scenario) -> Inventory:
    """Draw the fleet: a device model of its kind for each, uniformly, and its lines."""
    fleet = scenario.fleet
    counts = fleet.counts
    kinds = tuple(kind for kind, count in zip(KINDS, counts, strict=True) for _ in range(count))
    prefix = "desk" if scenario.fleet.size == fleet.desktops else ""
    numbers = [k for count in counts for k in range(count)]
    names = tuple(f"{prefix or kind.replace('_', '-')}-{number}" for kind, number in zip(kinds, numbers, strict=True))
    entity = entities(scenario)
    models = [devices.by_kind(kind) for kind in kinds]
    picks = draws.integers(scenario.seed, "device model", entity, 0, np.array([len(m) for m in models]))
    rows = [of_kind[pick] for of_kind, pick in zip(models, picks.tolist(), strict=True)]
    mains = [i for i, kind in enumerate(kinds) if kind in ("gpu_box", "desktop")]
    dedicated = np.zeros(len(kinds), dtype=bool)
    dedicated[list(reversed(mains))[: fleet.dedicated]] = True
    zone = np.array(fleet.time_zones_h)[zones(scenario)] * 60.0
    model = np.array([devices.find_index(row.name) for row in rows])
    home, mobile = home_lines(scenario, entity), mobile_lines(scenario, entity)
    return Inventory(names, kinds, model, devices.table(tuple(rows)), dedicated, zone, home, mobile, entity)


def chip_flops(scenario: Scenario, stock: Inventory) -> np.ndarray:
    """Return what is known of every device's chip, FLOP/s: on one host what its profile tells, else a data sheet's."""
    if scenario.network.home != "loopback":
        return stock.row.flops
    profile, shaped = hosts.read_profile(scenario.profile), scenario.fleet.shaped
    return np.array([hosts.flops(profile, shaped.get(name, Shaped())) for name in stock.name])


class State(NamedTuple):
    """What changes, one element a device; ``level`` is the governor's, ``speed`` 0 to 1."""

    soc: np.ndarray
    die_c: np.ndarray
    skin_c: np.ndarray
    level: np.ndarray
    speed: np.ndarray


class Fleet:
    """All devices of a run.

    Args:
        scenario: fleet, owners and harvest policy.
        stock: what `inventory` drew.
        take_load: mean busy share of a device since the last tick, by row and seconds elapsed.
        on_speed: called with (row, speed) when a device's speed changes.
        on_verdict: called with the row when its decision changes.
        on_power: called with (row, on) when a device runs empty, and when it starts again on a charger.
        ladders: of the edge agents, where devices mount them.
        on_rungs: called with the row when its ladders move, before its decision is.
    """

    def __init__(
        self,
        scenario: Scenario,
        stock: Inventory,
        *,
        take_load: Callable[[int, float], float],
        on_speed: Callable[[int, float], None],
        on_verdict: Callable[[int], None],
        on_power: Callable[[int, bool], None] = lambda row, on: None,
        ladders: Ladders | None = None,
        on_rungs: Callable[[int], None] = lambda row: None,
    ) -> None:
        self.scenario, self.stock = scenario, stock
        self.take_load, self.on_speed, self.on_verdict, self.on_power = take_load, on_speed, on_verdict, on_power
        self.ladders, self.on_rungs = ladders, on_rungs
        n = len(stock.name)
        self.tick_s = scenario.reading_s
        self.ticks = int(np.ceil(scenario.duration_s / self.tick_s)) + 1
        self.habits: Habits = habits(
            scenario.owners, scenario.seed, list(stock.kind), stock.dedicated, entity=stock.entity,
            start_minute=scenario.start_minute, zone_min=stock.zone_min, ticks=self.ticks, tick_s=self.tick_s,
        )  # fmt: skip
        who = Roster(stock.entity, np.array([KINDS.index(kind) for kind in stock.kind]), stock.model)
        self.table = cell_tables()
        self.physics = fixed(scenario.seed, who, stock.row.battery_wh, self.tick_s)
        ambient_c = np.full(n, scenario.owners.ambient_c)
        self.air = physics.surroundings(self.physics, ambient_c, np.zeros(n))
        self.ambient_c = ambient_c
        self.around = Surroundings(n)
        drawn = draws.uniform(scenario.seed, "initial charge", stock.entity, 0) * 0.6 + 0.35
        soc, no = np.where(stock.has_battery, drawn, 1.0), np.zeros(n, dtype=bool)
        warm = (ambient_c.copy() for _ in range(3))
        self.body = physics.State(Charge(soc, np.zeros(n)), *warm, np.zeros(n), no)
        self.speed = np.ones(n)
        self.config: HarvestRules = scenario.policy.harvest
        self.fixed = Devices(stock.dedicated, stock.has_battery, chip_flops(scenario, stock))
        self.harvest = make(self.config)
        self.memory = self.harvest.init(self.fixed)
        self.decision: Decision | None = None
        self.tick_number = 0
        self.energy_j = self.village_j = 0.0
        self.sessions = 0
        self.violations: list[str] = []
        self.readings: Readings | None = None

    @property
    def state(self) -> State:
        """Charge, temperatures, governor and speed now."""
        body = self.body
        return State(body.charge.soc, body.die_c, body.skin_c, body.level, self.speed)

    @property
    def off(self) -> np.ndarray:
        """Devices that ran empty and have not been charged since."""
        return np.asarray(self.body.off)

    def warm(self, row: int, by_c: float) -> None:
        """Make the air around a device warmer, or cooler again."""
        self.around.warmer_c[row] += by_c
        ambient_c = self.ambient_c + self.around.warmer_c
        self.air = physics.surroundings(self.physics, ambient_c, np.zeros(len(ambient_c)))

    def tick(self) -> None:
        """Advance one interval (none before the first tick), read the sensors, decide."""
        k = min(self.tick_number, self.ticks - 1)
        if self.tick_number:
            self._advance(max(0, k - 1))
        self._decide(k)
        self.tick_number += 1

    def _advance(self, k: int) -> None:
        dt, n = self.tick_s, len(self.stock.name)
        village = np.fromiter((self.take_load(i, dt) for i in range(n)), dtype=np.float64, count=n)
        now = self.around.at(self.habits, k)
        screen = now.screen_on & ~self.off
        demand = physics.Demand(
            plugged=now.plugged,
            lit=np.where(screen, 1.0, 0.0),
            user_load=np.where(screen, USER_LOAD, 0.0),
            village_load=np.where(self.off, 0.0, village),
            ambient_c=self.ambient_c + self.around.warmer_c,
            from_air_c=self.air,
        )
        was_off = self.off
        self.body, outcome = physics.advance(self.table, self.physics, self.body, demand)
        if self.tick_number < self.ticks:  # what late requests take after the run's end is in no total
            self.energy_j += float(outcome.total_w.sum()) * dt
            self.village_j += float(outcome.village_w.sum()) * dt
        for i in np.flatnonzero(self.off != was_off).tolist():
            self.on_power(i, not self.off[i])
        changed = np.flatnonzero(outcome.speed != self.speed)
        self.speed = outcome.speed
        for i in changed.tolist():
            self.on_speed(i, float(outcome.speed[i]))

    def read(self, k: int) -> Readings:
        """Return every device's readings at tick ``k``.

        A device that is off says nothing: its charge is not a number and it is on no network, so no policy lends it.
        """
        stock, state, now = self.stock, self.state, self.around.at(self.habits, k)
        at_home = ~now.away
        minute = (self.scenario.start_minute + k * self.tick_s / 60.0 + stock.zone_min) % 1440.0
        mobile = links.LINKS[self.scenario.network.mobile]
        return Readings(
            has_battery=stock.has_battery,
            soc=np.where(self.off, np.nan, state.soc),
            plugged=now.plugged,
            die_c=state.die_c,
            skin_c=state.skin_c,
            battery_c=self.body.board_c,
            on_wifi=at_home,
            metered=~at_home & ~now.offline & mobile.metered,
            bandwidth_bytes_per_s=np.where(
                now.offline | self.off, 0.0, np.where(at_home, stock.home.up_bytes_per_s, stock.mobile.up_bytes_per_s)
            ),
            screen_on=now.screen_on,
            idle_s=now.idle_s,
            local_minute=minute,
            user_load=USER_LOAD * now.screen_on,
            memory_free_bytes=stock.row.ram_bytes * (1.0 - self.scenario.owners.memory_share * now.screen_on),
        )

    def _decide(self, k: int) -> None:
        self.readings = self.read(k)
        for i in self.ladders.move(self.readings) if self.ladders is not None else ():
            self.on_rungs(i)
        before = self.decision
        self.decision, self.memory = self.harvest.decide(self.memory, self.readings, self.tick_s if before else 0.0)
        after = self.decision
        if len(self.violations) < 10:
            found = violations(self.config, self.fixed, self.readings, after)
            self.violations += [f"t={k * self.tick_s:g}s: {line}" for line in found]
        if before is None:
            changed = np.arange(len(self.stock.name))
            self.sessions += int(after.contribute.sum())
        else:
            changed = np.flatnonzero(
                (before.contribute != after.contribute)
                | (before.compute_share != after.compute_share)
                | (before.memory_share != after.memory_share)
                | (before.bandwidth_bytes_per_s != after.bandwidth_bytes_per_s)
            )
            self.sessions += int((~before.contribute & after.contribute).sum())
        for i in changed.tolist():
            self.on_verdict(i)
