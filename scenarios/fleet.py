"""The fleet scenario: many devices without nodes, as typed data. Villages with nodes are in `scenarios.schema`.

The same promises: one place defines each field, its unit, its range and its default; `build` refuses with one line.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from policies.config import HarvestConfig, HarvestRules
from scenarios.contradictions import check_harvest
from scenarios.explain import explain
from scenarios.schema import (
    Minute,
    NonNegative,
    Period,
    ScenarioError,
    Share,
    Strict,
    require_finite,
    with_rule,
)


class Climate(Strict, frozen=True):
    """The air around devices: a day's wave, warmest at 15:00, about a mean of its own for each device."""

    mean_c: Annotated[float, Meta(ge=-30, le=45)] = 22.0
    spread_c: NonNegative = 3.0  # standard deviation between devices (assumption: heated and unheated rooms)
    swing_c: NonNegative = 2.0  # half of the day's range (assumption: indoors)
    # On what is carried about, off Wi-Fi, at noon (assumption: 100 cm2, 700 W/m2, a third absorbed).
    sun_w: NonNegative = 2.0


class Work(Strict, frozen=True):
    """The village's appetite for compute: what arrives waits until lent devices have done it."""

    tflop_per_s: NonNegative | None = None  # mean arrival rate over the fleet; none takes all that is lent
    swing: Share = 0.5  # of the day's wave about it, highest at 20:00 UTC of the run's clock (assumption)
    queue_h: Annotated[float, Meta(ge=0.01)] = (
        24.0  # work older than this many hours of mean arrivals is dropped, and counted
    )


class Outage(Strict, frozen=True):
    """A region without mains: chargers give nothing."""

    region: Annotated[int, Meta(ge=0)]
    at_s: NonNegative
    for_s: Period


class FleetRecord(Strict, frozen=True):
    """What the run keeps besides the fleet's totals by window and the devices' totals."""

    histories: Annotated[int, Meta(ge=0, le=10_000)] = 20  # devices whose every reading is kept
    # Simulated hours between saved states: an interrupted run goes on from there. Each is written to disk.
    checkpoint_h: Annotated[float, Meta(ge=0.01)] = 6.0


class FleetPolicies(Strict, frozen=True):
    """The elementwise policies of a fleet."""

    harvest: HarvestRules = HarvestConfig()


class FleetScenario(Strict, frozen=True):
    """Everything a fleet needs to run."""

    name: str
    kind: Literal["fleet"] = "fleet"
    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 1
    world: Literal["sim"] = "sim"
    devices: Annotated[int, Meta(ge=1, le=10_000_000)] = 100_000
    mix: str = "global_2024"  # of device models, a name in models.devices.MIXES
    decomposition: str = "charger_limited"  # of owners' habits, a name in models.availability.DECOMPOSITIONS
    duration_s: Period = 86_400.0
    start_minute: Minute = 0  # minute of the day of the run's clock at t = 0
    weekday: Annotated[int, Meta(ge=0, le=6)] = 2  # 0 is Monday
    # Hours from the run's clock; a keyed draw with equal shares (assumption), and no summer time.
    time_zones_h: tuple[Annotated[float, Meta(ge=-12, le=14)], ...] = (0.0,)
    regions: Annotated[int, Meta(ge=1, le=1000)] = 10
    climate: Climate = Climate()
    work: Work = Work()
    outages: tuple[Outage, ...] = ()
    # What energy from the mains costs, any currency per kWh: 24, one an hour of the run's clock; none has no price.
    price_per_kwh: tuple[Annotated[float, Meta(ge=-10_000, le=10_000)], ...] = ()
    policy: FleetPolicies = FleetPolicies()
    reading_s: Period = 60.0
    window_s: Period = 900.0  # fleet signals are held this long
    backend: Literal["numpy", "jax"] = "numpy"
    precision: Literal["float64", "float32"] = "float64"
    chunk: Annotated[int, Meta(ge=1, le=1_000_000)] = 32_000  # rows at a time; changes nothing but speed
    processes: Annotated[int, Meta(ge=0, le=256)] = 0  # 0: one a core; changes nothing but speed
    record: FleetRecord = FleetRecord()


HOURS = 24


def price_at(scenario: FleetScenario, number: int) -> float | None:
    """Return the price a kWh that is held through window ``number``, that of its start; None without prices."""
    if not scenario.price_per_kwh:
        return None
    hours = (scenario.start_minute * 60.0 + number * scenario.window_s) / 3600.0
    return scenario.price_per_kwh[int(hours) % HOURS]


SPEED_ONLY = ("chunk", "processes")
"""Fields that change no result, and so are in no key."""


def build(data: dict[str, Any]) -> FleetScenario:
    """Validate plain data into a `FleetScenario`.

    Raises:
        ScenarioError: unknown key, wrong type, value out of range, or parts that contradict one another.
    """
    data = with_rule(data)
    try:
        scenario = msgspec.convert(data, FleetScenario)
    except msgspec.ValidationError as error:
        raise ScenarioError(explain(str(error), data, FleetScenario)) from None
    require_finite(msgspec.to_builtins(scenario))
    _cross_check(scenario)
    return scenario


def _cross_check(s: FleetScenario) -> None:
    from models.availability import DECOMPOSITIONS
    from models.devices import MIXES

    for field, value, known in (("mix", s.mix, MIXES), ("decomposition", s.decomposition, DECOMPOSITIONS)):
        if value not in known:
            raise ScenarioError(f"{field}={value!r}: expected one of {', '.join(known)}")
    try:
        check_harvest(s.policy.harvest)
    except ValueError as error:
        raise ScenarioError(str(error)) from None
    readings = s.window_s / s.reading_s
    if readings != round(readings) or not 1 <= readings <= 255:
        raise ScenarioError(
            f"window_s={s.window_s:g}: expected 1 to 255 times reading_s={s.reading_s:g}, a whole number of times"
        )
    if s.duration_s / s.window_s != round(s.duration_s / s.window_s):
        raise ScenarioError(f"duration_s={s.duration_s:g}: expected a whole number of windows of {s.window_s:g} s")
    if s.reading_s > 600.0:
        raise ScenarioError(f"reading_s={s.reading_s:g}: expected at most 600 s, the longest step of the battery's law")
    if not s.time_zones_h:
        raise ScenarioError("time_zones_h=[]: expected at least one, e.g. [0.0]")
    if len(s.price_per_kwh) not in (0, HOURS):
        raise ScenarioError(f"price_per_kwh: has {len(s.price_per_kwh)} values; expected none, or {HOURS}, one an hour")
    for i, outage in enumerate(s.outages):
        if outage.region >= s.regions:
            raise ScenarioError(f"outages[{i}].region={outage.region}: expected 0 to {s.regions - 1}")
        if outage.at_s % s.window_s or outage.for_s % s.window_s:
            raise ScenarioError(
                f"outages[{i}]: at_s={outage.at_s:g} and for_s={outage.for_s:g}: expected whole windows of "
                f"{s.window_s:g} s"
            )
