"""A handful of devices and their owners: the twin's own physics, and a harvest rule that decides at every reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter_ns
from typing import ClassVar

import msgspec
import numpy as np

from experiments.hunt.arena import Arena, Watch, groups
from experiments.hunt.outcome import Outcome
from models import devices, draws
from policies.cell import Cell
from policies.config import EdgeConfig, HarvestConfig, PolicyConfig
from policies.edge import ladder
from policies.harvest.elementwise import Harvest
from policies.port import NS_PER_S
from policies.readings import HARVEST_STATES, Readings
from scenarios import faults as f
from scenarios.checks import Check, Checks
from scenarios.checks import harvest as promises
from scenarios.defects.harvest import HARVEST, LADDERS
from scenarios.schema import Network, Scenario
from scenarios.trial import Trial
from sim.around import FleetAround
from sim.faults import Faults
from sim.fleet.ladders import Ladders
from sim.fleet.lines import home_lines, mobile_lines
from sim.fleet.village import Fleet, Inventory
from sim.guard import Guards
from sim.keys import KeyRing
from sim.network import Links, MessageNetwork
from sim.trace import FAULT, Event
from sim.world import World

KINDS = (
    ("phone", False), ("desktop", False), ("laptop", False), ("laptop", True), ("tablet", False), ("desktop", True),
)  # fmt: skip
"""Kind of each device by its position, and whether it is set aside for the village; then again from the first."""

READING_S = 60.0
START_MIN = 120  # 2:00, when nearly all owners sleep: what disturbs the night is the trial's faults
SHORTER = 4.0
"""By this much every time of the documented rule is divided, so that hours, the longest session, cool-down, dwell and
idle time all end within a trial and keep their ratios; temperatures and charges are those of real time."""

_DOCUMENTED = HarvestConfig()
HARVESTS = msgspec.structs.replace(
    _DOCUMENTED, hour_start=START_MIN / 60.0, hour_end=START_MIN / 60.0 + 9.0 / SHORTER,  # 22-07 is nine hours
    max_session_h=_DOCUMENTED.max_session_h / SHORTER, cooldown_min=_DOCUMENTED.cooldown_min / SHORTER,
    dwell_min=_DOCUMENTED.dwell_min / SHORTER, idle_min=_DOCUMENTED.idle_min / SHORTER,
    drain_s=_DOCUMENTED.drain_s / SHORTER,
)  # fmt: skip
EDGE = EdgeConfig()

DIE_ERROR_C = 1.0  # a sensor in the die trembles by so much, either way (assumption)
RATE_SIGMA = 0.1  # log-normal spread of one measurement of a link's rate (assumption)
NEARLY_EMPTY_SHARE, NEARLY_EMPTY_SOC = 0.25, 0.05  # owners who plug in only what is empty (assumption)


class Night(Fleet):
    """The twin's fleet with sensors as they are: dies tremble, rates do, and charge is told in whole per cent.

    (Android's BatteryManager: "remaining battery capacity as an integer percentage".)
    """

    def tremble(self) -> None:
        """Draw every error of the run."""
        ticks, who, seed = np.arange(self.ticks)[:, None], self.stock.entity, self.scenario.seed
        self.error_c = (2.0 * draws.uniform(seed, "die sensor", who, ticks) - 1.0) * DIE_ERROR_C
        self.rate_factor = draws.lognormal(seed, "measured rate", who, ticks, 1.0, RATE_SIGMA)

    def read(self, k: int) -> Readings:
        """Return every device's readings at tick ``k``."""
        exact = super().read(k)
        return exact._replace(
            die_c=exact.die_c + self.error_c[k],
            bandwidth_bytes_per_s=exact.bandwidth_bytes_per_s * self.rate_factor[k],
            soc=np.round(exact.soc, 2),
        )


class FleetArena(Arena):
    """Six devices in a night of 2 h of storm and 20 min of calm, read once a minute."""

    name = "fleet"
    what = "devices and their owners under heat, power cuts, network switches: harvest and the edge ladder decide"
    defects: ClassVar[Mapping[str, str]] = {
        name: (kind.__doc__ or "").split("\n")[0] for name, kind in (HARVEST | LADDERS).items()
    }
    expects: ClassVar[Mapping[str, str]] = {
        "g16_heat": "never_past_the_envelope", "g16_unplugged": "never_past_the_envelope",
        "g16_length": "sessions_are_short", "g16_cooldown": "rests_between_sessions",
        "g17_bands": "keeps_its_bands", "g17_dwell": "rests_between_sessions", "g17_ladder": "keeps_its_bands",
        "g18_wired": "free_devices_lend", "g18_mains": "free_devices_lend", "g18_drain": "hands_back_in_order",
        "g18_keeps": "never_past_the_envelope", "g20_harvest": "never_past_the_envelope",
        "g20_ladder": "climbs_at_once",
    }  # fmt: skip
    canary = "g16_unplugged"
    shape = Trial(arena="fleet", nodes=6, requests=0, storm_s=7200.0, calm_s=1200.0)
    kinds = f.SURROUNDINGS

    def committee(self, trial: Trial) -> int:
        """Return that there is none."""
        return 0

    def run(self, trial: Trial, watch: Watch | None = None, guards: Guards | None = None) -> Outcome:
        """Run a trial. ``guards`` find nothing here: what decides is a function of arrays, and no node takes a step."""
        return _Trial(trial, watch).go()


class _Trial:
    """One trial: a fleet that ticks in a world whose nodes do nothing but suffer."""

    def __init__(self, trial: Trial, watch: Watch | None) -> None:
        self.trial, self.watch = trial, watch
        count = trial.nodes
        self.world = World(MessageNetwork(trial.seed, Links.alike(count, 0.001, 1e6), Network()))
        ring = KeyRing(trial.seed)
        for name in trial.names:
            self.world.add(name, partial(Cell, {}, name, (), seed=trial.seed, keys=ring.handle(name)))
        self.fleet = _fleet(trial, self._load)
        assert self.fleet.ladders is not None
        self.ladders = self.fleet.ladders
        self.checks = Checks(*_promises(trial, self.fleet))
        self.faults = Faults(
            self.world, (), trial.names, seed=trial.seed, duration_s=trial.storm_s, restart=lambda node: None,
            groups=groups(trial), around=FleetAround(self.fleet),
        )  # fmt: skip
        self.faults.on_record = lambda kind, who, phase: self._show(who, f"{kind} {phase}s")
        self.said = [""] * count

    def _load(self, row: int, elapsed_s: float) -> float:
        """Return what a device computed: all that it lent, which is the hottest it can be."""
        assert self.fleet.decision is not None
        assert self.ladders.limits is not None
        return float(min(self.fleet.decision.compute_share[row], self.ladders.limits.cpu_share[row]))

    def go(self) -> Outcome:
        """Run storm and calm; stop early where a promise breaks."""
        trial, begun = self.trial, perf_counter_ns()
        self.faults.schedule(trial.faults)
        self.world.engine.call_at(int(trial.storm_s * NS_PER_S), lambda _: self.faults.heal(), None)
        for number in range(int(trial.end_s // READING_S) + 1):
            if number:
                self.world.run(number * READING_S)
            self._tick()
            if self.checks.first_broken is not None:
                break
        else:
            self.checks.end(int(self.world.engine.now))
        broken, now_ns = self.checks.first_broken, int(self.world.engine.now)
        kinds = {row[1] for row in self.faults.rows if row[3] == "start"}
        return Outcome(
            broken.name if broken else "", broken.broken if broken else "",
            (broken.broken_ns if broken else now_ns) / NS_PER_S, self.world.digest, self.fleet.tick_number,
            now_ns / NS_PER_S, self.checks.spent_ns / max(1, perf_counter_ns() - begun), dict(self.checks.sometimes),
            tuple(sorted(kinds)),
        )  # fmt: skip

    def _tick(self) -> None:
        fleet = self.fleet
        fleet.tick()
        assert fleet.readings is not None
        assert fleet.decision is not None
        now_ns = int(self.world.engine.now)
        reading = promises.Reading(
            now_ns / NS_PER_S, fleet.readings, fleet.decision, fleet.off.copy(), self.ladders.state
        )
        state = fleet.state
        rounded = [np.round(x, 3).tolist() for x in (state.soc, state.die_c, fleet.decision.compute_share)]
        self.world.mark("read", *rounded, fleet.decision.state.tolist(), reading.rungs.heat.tolist(),
                        reading.rungs.battery.tolist())  # fmt: skip
        if self.watch is not None:
            self._tell_changes(reading)
        self.checks.tell(now_ns, "", "read", reading)

    def _tell_changes(self, reading: promises.Reading) -> None:
        r, d = reading.readings, reading.decision
        for row, name in enumerate(self.trial.names):
            said = f"{HARVEST_STATES[d.state[row]]}: lends {d.compute_share[row]:g}"
            if said != self.said[row]:
                self.said[row] = said
                self._show(name, f"{said} at soc {r.soc[row]:g}, die {r.die_c[row]:.1f} C")

    def _show(self, who: str, what: str) -> None:
        if self.watch is not None:
            self.watch(Event(int(self.world.engine.now), who, (FAULT, what), (), ""))


def _fleet(trial: Trial, load: Callable[[int, float], float]) -> Night:
    """Return the devices of a trial, plugged in where they are set aside, and with charges from 0 to full."""
    scenario = Scenario(
        name="fleet", seed=trial.seed, duration_s=trial.end_s, start_minute=START_MIN, reading_s=READING_S,
        policy=PolicyConfig(harvest=HARVESTS, edge=EDGE),
    )  # fmt: skip
    stock = _stock(trial, scenario)
    fleet = Night(
        scenario, stock, take_load=load, on_speed=lambda row, speed: None, on_verdict=lambda row: None,
        ladders=Ladders(EDGE, stock.dedicated, stock.has_battery, stock.row.ram_bytes,
                        LADDERS.get(trial.policy, ladder)),
    )  # fmt: skip
    fleet.tremble()
    fleet.harvest = HARVEST.get(trial.policy, Harvest)(HARVESTS)
    fleet.memory = fleet.harvest.init(fleet.fixed)
    fleet.habits.plugged[:, stock.dedicated] = True
    low = draws.uniform(trial.seed, "nearly empty", stock.entity, 0) < NEARLY_EMPTY_SHARE
    full = draws.uniform(trial.seed, "first charge", stock.entity, 0)
    soc = np.where(stock.has_battery, np.where(low, full * NEARLY_EMPTY_SOC, full), 1.0)
    fleet.body = fleet.body._replace(charge=fleet.body.charge._replace(soc=soc))
    return fleet


def _stock(trial: Trial, scenario: Scenario) -> Inventory:
    """Draw a device model of its kind for each position, and its lines."""
    kinds = [KINDS[k % len(KINDS)] for k in range(trial.nodes)]
    entity = np.arange(trial.nodes)
    models = [devices.by_kind(kind) for kind, _ in kinds]
    picks = draws.integers(trial.seed, "device model", entity, 0, np.array([len(of_kind) for of_kind in models]))
    rows = tuple(of_kind[pick] for of_kind, pick in zip(models, picks.tolist(), strict=True))
    return Inventory(
        trial.names, tuple(kind for kind, _ in kinds), np.array([devices.find_index(row.name) for row in rows]),
        devices.table(rows), np.array([dedicated for _, dedicated in kinds]), np.zeros(trial.nodes),
        home_lines(scenario, entity), mobile_lines(scenario, entity), entity,
    )  # fmt: skip


def _promises(trial: Trial, fleet: Fleet) -> tuple[Check, ...]:
    names, fixed = trial.names, fleet.fixed
    timed = (
        promises.NeverPastTheEnvelope, promises.SessionsAreShort, promises.RestsBetweenSessions,
        promises.HandsBackInOrder, promises.FreeDevicesLend,
    )  # fmt: skip
    return (
        *(kind(names, fixed, HARVESTS) for kind in timed),
        promises.KeepsItsBands(names, fixed, HARVESTS, EDGE),
        promises.ClimbsAtOnce(names, fixed, EDGE),
        *promises.rare(),
    )
