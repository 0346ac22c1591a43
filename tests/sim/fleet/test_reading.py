"""One reading of a fleet: beside other backends, other intervals, and the same laws written without arrays."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from experiments.bench.million_day import beside_simpy
from policies.config import HarvestConfig
from policies.readings import RANGES, Decision, Plausible, Readings, plausible
from scenarios.fleet import FleetScenario
from sim.fleet import physics, stock
from sim.fleet.day import Share
from sim.fleet.reading import Owner, Site, Sums, sense, step
from sim.fleet.window import Air, owners
from sim.owners.crowd import NETWORK, WIFI
from tests.sim.fleet.fleets import HOUR_S, lived, small

Array = Any
NODES = ("die_c", "board_c", "skin_c")
HALF = "30 s against 60 s"
TOTALS = ("total_j", "village_j", "plug_j", "chip_s", "flop")
needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs the extra jax")


def living(
    scenario: FleetScenario, *, with_jax: bool = False, decisions: list[Any] | None = None
) -> Iterator[tuple[Any, Decision, Readings]]:
    """Live a fleet reading by reading; yield the charge and temperatures after each, what was decided, and on what.

    Args:
        with_jax: under `jax.jit`.
        decisions: carry these out instead of the policy's own, which are still returned.
    """
    share = Share(scenario, [np.arange(scenario.devices)], stock.roster(scenario))
    (lot,) = share.lots
    device, chunk = lot.device, lot.chunk
    xp: Any = np
    run: Any = step
    if with_jax:
        import jax
        import jax.numpy as xp

        jax.config.update("jax_enable_x64", True)

        run = jax.jit(lambda *given: step(share.policy, *given[:-1], xp, given[-1]))
    else:

        def run(*given: Any) -> Any:
            return step(share.policy, *given[:-1], np, given[-1])

    number_taken = 0
    sums = Sums(*(np.zeros(scenario.devices) for _ in Sums._fields))
    for number in range(round(scenario.duration_s / scenario.window_s)):
        flags = share.flags(0, number)
        air = Air(lot.what.climate_c + 22.0, np.zeros(scenario.devices))
        grid = np.ones(scenario.devices, dtype=bool)
        signals = share.signals(number, 1.0)
        bits = owners(flags, grid)
        for k in range(share.steps):
            done = decisions[number_taken] if decisions is not None else None
            device, _, _, decision, readings = run(
                chunk.table, chunk.fixed, chunk.site, device, Owner(*(b[k] for b in bits)), air.ambient_c,
                physics.surroundings(chunk.fixed, *air), sums, signals.zone_minute[k],
                60.0 if number_taken else 0.0, 1.0, done,
            )  # fmt: skip
            number_taken += 1
            yield (
                tuple(np.asarray(c) for c in (device.body.charge.soc, *device.body[1:4])),
                Decision(*(np.asarray(c) for c in decision)), Readings(*(np.asarray(c) for c in readings)),
            )  # fmt: skip


def lived_steps(scenario: FleetScenario, **how: Any) -> tuple[list[Any], list[Decision]]:
    """Live a fleet as `living` does; return the states after each reading, and the decisions."""
    lived_through = list(living(scenario, **how))
    return [state for state, _, _ in lived_through], [decision for _, decision, _ in lived_through]


@needs_jax
def test_numpy_and_jax_agree_when_fed_the_same_decisions(physics: Callable[..., None]) -> None:
    """With NumPy's decisions fed to JAX, charge and temperatures agree to 1e-6 after hours."""
    scenario = small(devices=400)
    ours, decisions = lived_steps(scenario)
    theirs, _ = lived_steps(scenario, with_jax=True, decisions=decisions)

    soc, *temps = (np.abs(a - b).max() for a, b in zip(ours[-1], theirs[-1], strict=True))
    physics("fleet: charge under jax.jit, same decisions", "NumPy", soc, "SoC", 1e-6)
    physics("fleet: temperatures under jax.jit, same decisions", "NumPy", max(temps), "K", 1e-6)
    for a, b in zip(ours[-1], theirs[-1], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


class Free(NamedTuple):
    """Two backends that ran free, over all readings in which a device had decided alike so far.

    Attributes:
        steps: device-steps compared.
        first: for each device that came to decide otherwise, how far its readings then were from a threshold, relative.
        nearest: the least such distance of charge and of the die in any device-step.
    """

    steps: int
    first: list[float]
    nearest: float


def run_free(scenario: FleetScenario) -> Free:
    """Let NumPy and JAX each decide on its own readings, and compare every column of what they decide."""
    alike = np.ones(scenario.devices, dtype=bool)
    steps, first, nearest = 0, [], np.inf
    for (_, ours, readings), (_, theirs, _) in zip(living(scenario), living(scenario, with_jax=True), strict=True):
        differs = np.any([a != b for a, b in zip(ours, theirs, strict=True)], axis=0) & alike
        off = distances(scenario.policy.harvest, readings)
        steps += int(alike.sum())
        nearest = min(nearest, float(np.nanmin(off[:2, alike])))
        first += list(np.nanmin(off, axis=0)[differs])
        alike &= ~differs
    return Free(steps, first, nearest)


def distances(config: HarvestConfig, readings: Readings) -> Array:
    """Return how far each device's die, charge and idle time are from the policy's nearest threshold, relative.

    The other readings are the owners', which both backends are given.
    """
    starts, full, ends = config.max_cpu_temp_c, config.throttle_temp_c, config.critical_temp_c
    band_k, floor = config.hysteresis_c, config.min_battery
    thresholds = (
        (readings.die_c, (starts, starts - band_k, full, full - band_k, ends, ends - band_k)),
        (readings.soc, (floor, max(config.optimal_battery, min(1.0, floor + config.hysteresis_battery)))),
        (readings.idle_s, (60.0 * config.idle_min,)),
    )
    return np.array([np.min([np.abs(value / level - 1.0) for level in levels], axis=0) for value, levels in thresholds])


@needs_jax
def test_numpy_and_jax_decide_alike_when_running_free() -> None:
    """Running free for three hours, no device of 400 decides otherwise in any column."""
    free = run_free(small(devices=400))

    assert free.steps == 400 * 180
    assert free.first == []


@needs_jax
@pytest.mark.nightly
def test_first_differences_are_fewer_than_one_in_a_million_and_at_thresholds(physics: Callable[..., None]) -> None:
    """Running free for a day, at most one device-step in a million differs first, each within 1e-9 of a threshold."""
    free = run_free(small(devices=4000, duration_s=24 * HOUR_S, chunk=100_000))

    of_them = f"farthest {max(free.first):.1e} from a threshold" if free.first else "none, so none near a threshold"
    note = f"{free.steps:,} device-steps: {of_them}; die or charge came within {free.nearest:.0e} of one"
    law = "fleet: first differences of decisions under jax.jit, running free"
    physics(law, "NumPy", len(free.first) / free.steps, "a device-step", 1e-6, note=note)
    assert free.steps > 5_000_000
    assert len(free.first) <= 1e-6 * free.steps
    assert all(off <= 1e-9 for off in free.first)


@needs_jax
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_under_jax_has_the_digest_of_one_under_numpy(processes: int) -> None:
    """The quantised history is the same under both backends, whatever the chunks and in workers, whose compiler is told
    to fuse more; sampled rows agree to 1e-6.
    """
    numpy, jax = lived(), lived(backend="jax", chunk=128, processes=processes)

    assert numpy.digest == jax.digest
    assert jax.alone_differs <= 1e-6


@pytest.mark.parametrize("backend", ["numpy", pytest.param("jax", marks=needs_jax)])
def test_float32_is_close_to_float64(backend: str, physics: Callable[..., None]) -> None:
    """In single precision charge is within 1e-4, temperatures within 0.02 K, and aggregates within 0.1 %."""
    double, single = lived(), lived(precision="float32", backend=backend, chunk=700)
    same = double.devices["sessions"] == single.devices["sessions"]

    off = {name: np.abs(double.devices[name] - single.devices[name])[same].max() for name in ("soc", *NODES)}
    aggregates = [abs(single.devices[name].sum() / double.devices[name].sum() - 1.0) for name in TOTALS]
    note = "of devices with equal sessions"
    physics("fleet: charge in float32", "float64", off.pop("soc"), "SoC", 1e-4, note=note)
    physics("fleet: temperatures in float32", "float64", max(off.values()), "K", 0.02, note=note)
    physics("fleet: aggregates in float32", "float64", 100.0 * max(aggregates), "%", 0.1)
    assert same.mean() >= 0.99  # rows that decided otherwise at a threshold are another history
    assert np.abs(double.devices["soc"] - single.devices["soc"])[same].max() <= 1e-4
    for name in NODES:
        assert np.abs(double.devices[name] - single.devices[name])[same].max() <= 0.02
    for name in TOTALS:
        assert single.devices[name].sum() == pytest.approx(double.devices[name].sum(), rel=1e-3)


def test_single_precision_stays_single() -> None:
    """Under NumPy a window in float32 leaves no column of the devices in float64: nothing in it was computed so."""
    scenario = small(precision="float32")
    share = Share(scenario, [np.arange(300)], stock.roster(scenario))

    share.advance(0, 1.0)

    (lot,) = share.lots
    body = lot.device.body
    columns = {"soc": body.charge.soc, "relaxing_v": body.charge.relaxing_v, "idle_s": lot.device.idle_s}
    columns |= {name: getattr(body, name) for name in (*NODES, "level")} | {"since_s": lot.device.memory.since_s}
    assert {name: column.dtype.name for name, column in columns.items()} == dict.fromkeys(columns, "float32")


def test_half_the_interval_moves_little(physics: Callable[..., None]) -> None:
    """Where no governor and no hot charger acts, 30 s intervals move nine phones in ten by less than 1.5e-4 in charge.

    The worst is 3.5e-4: a phone that meets a kink (charger to voltage limit, full) within an interval. Skin moves by
    0.06 K and die by 0.5 K at most. At 12 C, with loads, screens and chargers that change every ten minutes.
    """
    whole, halves = advanced(60.0, 2 * HOUR_S, 12.0), advanced(30.0, 2 * HOUR_S, 12.0)
    calm = (whole.peak_c < 40.0) & (halves.peak_c < 40.0)
    moved = np.abs(whole.soc - halves.soc)[calm]

    law = "fleet: interval halved, no governor nor hot charger"
    note = f"mean {moved.mean():.1e}; {100 * np.mean(moved > 1e-4):.0f} % of phones beyond the bar"
    physics(f"{law}, charge", HALF, moved.max(), "SoC", 1e-4, note=note)
    for node, bar in (("skin_c", 0.05), ("die_c", 0.5)):
        off = np.abs(getattr(whole, node) - getattr(halves, node))[calm]
        physics(f"{law}, {node[:-2]}", HALF, off.max(), "K", bar, note=f"mean {off.mean():.1e} K")
    assert calm.mean() > 0.5
    assert np.median(moved) <= 5e-5
    assert np.quantile(moved, 0.9) <= 1.5e-4
    assert moved.max() <= 5e-4
    assert np.abs(whole.skin_c - halves.skin_c)[calm].max() <= 0.06
    assert np.abs(whole.die_c - halves.die_c)[calm].max() <= 0.5


def test_half_the_interval_under_governor_and_hot_charger_is_bounded(physics: Callable[..., None]) -> None:
    """Thresholds are met at readings, so halving them moves hot phones more: charge 1 %, skin 1 K, die 3 K at worst."""
    whole, halves = advanced(60.0, 2 * HOUR_S, 24.0), advanced(30.0, 2 * HOUR_S, 24.0)

    for name, unit, bar in (("soc", "SoC", 1e-4), ("skin_c", "K", 0.05), ("die_c", "K", 0.5)):
        off = np.abs(getattr(whole, name) - getattr(halves, name))
        law = f"fleet: interval halved, governor or hot charger, {'charge' if name == 'soc' else name[:-2]}"
        physics(law, HALF, off.max(), unit, bar, note=f"mean {off.mean():.1e} {unit}")
    assert np.abs(whole.soc - halves.soc).max() <= 0.02
    assert np.abs(whole.skin_c - halves.skin_c).max() <= 1.0
    assert np.abs(whole.die_c - halves.die_c).max() <= 3.0


class After(NamedTuple):
    """Phones after a test drive, and the hottest that their batteries were."""

    soc: Array
    skin_c: Array
    die_c: Array
    peak_c: Array


def advanced(reading_s: float, for_s: float, ambient_c: float) -> After:
    """Advance phones under loads, screens and chargers that change every ten minutes; return them at the end."""
    scenario = small(devices=500, reading_s=reading_s)
    share = Share(scenario, [np.arange(300)], stock.roster(scenario))
    (lot,) = share.lots
    fixed, body, peak_c = lot.chunk.fixed, lot.device.body, np.zeros(300)
    air = Air(np.full(300, ambient_c), np.zeros(300))
    body = body._replace(**dict.fromkeys(("die_c", "board_c", "skin_c"), air.ambient_c))
    draw = np.random.default_rng(1)
    for _ in range(round(for_s / 600.0)):
        lit, lent, plugged = draw.random(300) < 0.3, 0.5 * (draw.random(300) < 0.5), draw.random(300) < 0.4
        demand = physics.Demand(
            plugged, lit.astype(float), 0.3 * lit, lent, air.ambient_c, physics.surroundings(fixed, *air)
        )
        for _ in range(round(600.0 / reading_s)):
            body, _ = physics.advance(lot.chunk.table, fixed, body, demand)
            peak_c = np.maximum(peak_c, body.board_c)
    return After(body.charge.soc, body.skin_c, body.die_c, peak_c)


ASKED = tuple(field for field in RANGES if field != "memory_free_bytes")


class Listening:
    """A policy that holds what it is asked against what a sensor can mean."""

    def __init__(self, policy: Any) -> None:
        self.policy, self.asked, self.unknown = policy, 0, 0

    def decide(self, state: Any, readings: Readings, dt_s: Any) -> Any:
        """Look at every number, then decide."""
        assert isinstance(readings, Plausible)
        assert np.all(np.isnan(readings.memory_free_bytes))  # only the edge ladder asks for it, and fleets have none
        for field in ASKED:
            value = np.asarray(getattr(readings, field))
            unknown = np.isnan(value) & (field == "soc")  # of a device that is off
            assert np.all(plausible(field, value) | unknown), field
            self.asked, self.unknown = self.asked + value.size, self.unknown + int(unknown.sum())
        return self.policy.decide(state, readings, dt_s)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_fleet_reads_nothing_but_what_can_be(precision: str) -> None:
    """Through twelve hours and midnight all that its sensors say is plausible, as they vouch, or is not said."""
    scenario = small(devices=300, duration_s=12 * HOUR_S, precision=precision, time_zones_h=(-5.5, 0.0, 5.5))
    share = Share(scenario, [np.arange(scenario.devices)], stock.roster(scenario), watched=True)
    share.policy = heard = Listening(share.policy)
    for number in range(round(scenario.duration_s / scenario.window_s)):
        share.histories(number, 1.0)

    assert heard.asked == len(ASKED) * 300 * 720
    assert heard.unknown > 0


def test_only_a_network_carries_bytes() -> None:
    """At home a device has its home's bandwidth, out a mobile network's, which is metered; and out of reach none."""
    share = Share(small(), [np.arange(3)], stock.roster(small()))
    (lot,) = share.lots
    site = Site(np.zeros(3, dtype=int), np.full(3, 5e6), np.full(3, 1e6))
    flags = np.array([[WIFI, NETWORK, 0]], dtype=np.uint8)
    owner = Owner(*(bits[0] for bits in owners(flags, np.ones(3, dtype=bool))))

    read = sense(lot.chunk.fixed, site, lot.device, owner, np.zeros(3), np.zeros(3), np)

    assert read.bandwidth_bytes_per_s.tolist() == [5e6, 1e6, 0.0]
    assert read.metered.tolist() == [False, True, False]


def test_energy_is_accounted_for() -> None:
    """What a battery gave equals what the device drew less what the plug gave, to the law's own rounding."""
    scenario = small(devices=500)
    share = Share(scenario, [np.arange(300)], stock.roster(scenario))
    report = share.advance(0, 1.0)
    (lot,) = share.lots
    sums = report.sums["phone"]
    stored = (np.asarray(lot.device.body.charge.soc) - stock.first_soc(scenario, lot.who, lot.what.has_battery)).sum()

    assert sums["plug_mj"] > 0
    drawn_less_given = sums["total_mj"] - sums["plug_mj"]
    assert np.sign(drawn_less_given) == -np.sign(stored)


@pytest.mark.slow
def test_plain_floats_in_simpy_end_at_the_same_charge(physics: Callable[..., None]) -> None:
    """A SimPy process a device, with the laws in plain Python floats, ends at the fleet's charge to 1e-9."""
    off = beside_simpy(devices=60, hours=6.0)["simpy_soc_off"]

    physics("fleet: final charge after 6 h", "SimPy, plain floats", off, "SoC", 1e-9, note="60 devices; same constants")
    assert off <= 1e-9
