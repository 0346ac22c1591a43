"""The fleet: physics and elementwise policy of every device, one row a device, once a tick.

`Fleet` alone owns batteries, temperatures, governors and the harvest rule's state. Each tick it advances the physics
over the interval that has passed with the loads that were, reads the sensors, lets the harvest policy decide
all rows in one call, and hands each row that changed to its node. Coupling order: coefficients frozen at the
interval's start, electric advance, heat, thermal advance, governor, readings, decision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models import battery, devices, draws, links, power, thermal
from policies.config import HarvestConfig
from policies.harvest.elementwise import Devices, Harvest
from policies.harvest.envelope import violations
from policies.readings import Decision, Readings
from scenarios.hosts import LOOPBACK_BYTES_PER_S
from scenarios.schema import Scenario
from sim.owners import Habits, habits

KINDS = ("phone", "tablet", "laptop", "desktop", "gpu_box")
ENTITY_BITS = 24  # of a device's number among its kind; the kind is above it
BOOT_SOC = 0.03
"""Charge from which an empty device starts again (assumption: phones show their charging sign up to 1-3 %)."""
USER_LOAD = 0.3
"""Share of compute an owner uses while the screen is on (assumption: browsing and messaging)."""


@dataclass(frozen=True)
class Inventory:
    """The fleet's fixed properties, arrays of one element a device; devices are ordered by kind."""

    name: tuple[str, ...]
    kind: tuple[str, ...]
    row: devices.Table
    dedicated: np.ndarray
    zone_min: np.ndarray
    home_bytes_per_s: np.ndarray
    entity: np.ndarray  # who draws: the same for a device whatever else the fleet holds

    @property
    def has_battery(self) -> np.ndarray:
        """Devices with a battery."""
        return np.asarray(self.row.battery_wh > 0)


def inventory(scenario: Scenario) -> Inventory:
    """Draw the fleet: a device model of its kind for each, uniformly, and a home link."""
    fleet = scenario.fleet
    counts = (fleet.phones, fleet.tablets, fleet.laptops, fleet.desktops, fleet.gpu_boxes)
    kinds = tuple(kind for kind, count in zip(KINDS, counts, strict=True) for _ in range(count))
    prefix = "desk" if scenario.fleet.size == fleet.desktops else ""
    numbers = [k for count in counts for k in range(count)]
    names = tuple(f"{prefix or kind.replace('_', '-')}-{number}" for kind, number in zip(kinds, numbers, strict=True))
    entity = np.array([(KINDS.index(kind) << ENTITY_BITS) + k for kind, k in zip(kinds, numbers, strict=True)])
    models = [devices.by_kind(kind) for kind in kinds]
    picks = draws.integers(scenario.seed, "device model", entity, 0, np.array([len(m) for m in models]))
    rows = [of_kind[pick] for of_kind, pick in zip(models, picks.tolist(), strict=True)]
    n = len(kinds)
    mains = [i for i, kind in enumerate(kinds) if kind in ("gpu_box", "desktop")]
    dedicated = np.zeros(n, dtype=bool)
    dedicated[list(reversed(mains))[: fleet.dedicated]] = True
    zones = np.array(fleet.time_zones_h) * 60.0
    zone = zones[draws.integers(scenario.seed, "time zone", entity, 0, len(zones))]
    home = links.LINKS.get(scenario.network.home)
    rate = (
        draws.lognormal(scenario.seed, "home link", entity, 0, home.up_bytes_per_s, home.sigma)
        if home
        else np.full(n, LOOPBACK_BYTES_PER_S)
    )
    return Inventory(names, kinds, devices.table(tuple(rows)), dedicated, zone, rate, entity)


@dataclass
class State:
    """What changes."""

    soc: np.ndarray
    die_c: np.ndarray
    skin_c: np.ndarray
    level: np.ndarray  # cooling level of the governor
    speed: np.ndarray  # 0..1, governor and sustained power


class Fleet:
    """All devices of a run.

    Args:
        scenario: fleet, owners and harvest policy.
        stock: what `inventory` drew.
        take_load: mean busy share of a device since the last tick, by row and seconds elapsed.
        on_speed: called with (row, speed) when a device's speed changes.
        on_verdict: called with the row when its decision changes.
        on_power: called with (row, on) when a device runs empty, and when it starts again on a charger.
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
    ) -> None:
        self.scenario, self.stock = scenario, stock
        self.take_load, self.on_speed, self.on_verdict, self.on_power = take_load, on_speed, on_verdict, on_power
        n = len(stock.name)
        self.tick_s = scenario.reading_s
        self.ticks = int(np.ceil(scenario.duration_s / self.tick_s)) + 1
        zone = stock.zone_min
        self.habits: Habits = habits(
            scenario.owners, scenario.seed, list(stock.kind), stock.dedicated, entity=stock.entity,
            start_minute=scenario.start_minute, zone_min=zone, ticks=self.ticks, tick_s=self.tick_s,
        )  # fmt: skip
        self.packs = [(self._slice(kind), _pack(kind, stock)) for kind in KINDS if self._slice(kind).stop]
        self.body = _bodies(stock)
        kinds = [devices.KINDS[kind] for kind in stock.kind]
        self.trip_c = np.array([k.trip_c for k in kinds])
        self.hysteresis_k = np.array([k.hysteresis_k for k in kinds])
        self.levels = np.array([k.levels for k in kinds])
        self.screen_w = np.array([k.screen_w for k in kinds])
        self.charger_w = np.array([k.charger_w for k in kinds])
        ambient = scenario.owners.ambient_c
        soc = np.where(
            stock.has_battery,
            draws.uniform(scenario.seed, "initial charge", stock.entity, 0) * 0.6 + 0.35,
            1.0,
        )
        self.state = State(soc, np.full(n, ambient), np.full(n, ambient), np.zeros(n, dtype=np.int64), np.ones(n))
        self.config: HarvestConfig = scenario.policy.harvest
        self.fixed = Devices(stock.dedicated, stock.has_battery)
        self.harvest = Harvest(self.config)
        self.memory = self.harvest.init(self.fixed)
        self.decision: Decision | None = None
        self.tick_number = 0
        self.off = np.zeros(n, dtype=bool)  # ran empty and not charged since
        self.energy_j = self.village_j = 0.0
        self.sessions = 0
        self.violations: list[str] = []
        self.readings: Readings | None = None

    def _slice(self, kind: str) -> slice:
        kinds = self.stock.kind
        return slice(kinds.index(kind), kinds.index(kind) + kinds.count(kind)) if kind in kinds else slice(0, 0)

    def tick(self) -> None:
        """Advance one interval (none before the first tick), read the sensors, decide."""
        k = min(self.tick_number, self.ticks - 1)
        if self.tick_number:
            self._advance(max(0, k - 1))
        self._decide(k)
        self.tick_number += 1

    def _advance(self, k: int) -> None:
        stock, state, dt = self.stock, self.state, self.tick_s
        n = len(stock.name)
        village = np.fromiter((self.take_load(i, dt) for i in range(n)), dtype=np.float64, count=n)
        on = ~self.off
        screen = self.habits.screen_on[k] & on
        load = np.minimum(1.0, village + USER_LOAD * screen)
        draw = power.draw_w(
            stock.row.idle_w,
            stock.row.sustained_w,
            stock.row.peak_w,
            self.screen_w,
            screen,
            load,
            state.speed,
        )
        idle = power.draw_w(
            stock.row.idle_w,
            stock.row.sustained_w,
            stock.row.peak_w,
            self.screen_w,
            screen,
            USER_LOAD * screen,
            state.speed,
        )
        draw = power.Draw(draw.die_w * on, draw.board_w * on)  # what is off draws nothing
        total_w = draw.die_w + draw.board_w
        if self.tick_number < self.ticks:  # what late requests take after the run's end is in no total
            self.energy_j += float(total_w.sum()) * dt
            self.village_j += float((draw.die_w - idle.die_w).sum()) * dt
        heat_w, empty = np.zeros(n), np.zeros(n, dtype=bool)
        plug_w = np.where(self.habits.plugged[k], self.charger_w, 0.0)
        for rows, pack in self.packs:
            if not stock.has_battery[rows].any():
                continue
            step = battery.advance(pack, state.soc[rows], total_w[rows], plug_w[rows], state.skin_c[rows], dt)
            state.soc[rows] = step.soc
            heat_w[rows] = step.heat_w
            empty[rows] = step.empty
        warmth = thermal.advance(
            self.body,
            state.die_c,
            state.skin_c,
            draw.die_w,
            draw.board_w + heat_w,
            self.scenario.owners.ambient_c,
            dt,
        )
        state.die_c, state.skin_c = warmth.die_c, warmth.skin_c
        self._switch(empty, self.habits.plugged[k])
        state.level = thermal.throttle(state.level, state.die_c, self.trip_c, self.hysteresis_k, self.levels)
        speed = np.minimum(
            thermal.speed_factor(state.level, self.levels),
            power.sustained_speed(stock.row.idle_w, stock.row.sustained_w, stock.row.peak_w, np.maximum(load, 0.01)),
        )
        changed = np.flatnonzero(speed != state.speed)
        state.speed = speed
        for i in changed.tolist():
            self.on_speed(i, float(speed[i]))

    def _switch(self, empty: np.ndarray, plugged: np.ndarray) -> None:
        """Switch off what ran empty, and on again what a charger has brought back above `BOOT_SOC`."""
        off = (self.off | (empty & ~plugged)) & ~(plugged & (self.state.soc >= BOOT_SOC))
        changed = np.flatnonzero(off != self.off)
        self.off = off
        for i in changed.tolist():
            self.on_power(i, not off[i])

    def read(self, k: int) -> Readings:
        """Return every device's readings at tick ``k``."""
        stock, state, h = self.stock, self.state, self.habits
        at_home = ~h.away[k]
        minute = (self.scenario.start_minute + k * self.tick_s / 60.0 + stock.zone_min) % 1440.0
        mobile = links.LINKS[self.scenario.network.mobile]
        return Readings(
            has_battery=stock.has_battery,
            soc=state.soc,
            plugged=h.plugged[k],
            die_c=state.die_c,
            skin_c=state.skin_c,
            on_wifi=at_home,
            metered=~at_home & mobile.metered,
            bandwidth_bytes_per_s=np.where(at_home, stock.home_bytes_per_s, mobile.up_bytes_per_s),
            screen_on=h.screen_on[k],
            idle_s=h.idle_s[k],
            local_minute=minute,
            user_load=USER_LOAD * h.screen_on[k],
        )

    def _decide(self, k: int) -> None:
        self.readings = self.read(k)
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


def _pack(kind: str, stock: Inventory) -> battery.Pack:
    rows = [i for i, k in enumerate(stock.kind) if k == kind]
    spec = devices.KINDS[kind]
    return battery.pack(spec.chemistry, stock.row.battery_wh[rows], spec.cells_in_series)


def _bodies(stock: Inventory) -> thermal.Body:
    parts = [
        thermal.body(kind, stock.row.sustained_w[[i for i, k in enumerate(stock.kind) if k == kind]])
        for kind in KINDS
        if kind in stock.kind
    ]
    return thermal.Body(
        np.concatenate([np.asarray(b.die_j_per_k) for b in parts]),
        np.concatenate([np.asarray(b.skin_j_per_k) for b in parts]),
        np.concatenate([np.asarray(b.die_skin_w_per_k) for b in parts]),
        np.concatenate([np.asarray(b.skin_ambient_w_per_k) for b in parts]),
    )
