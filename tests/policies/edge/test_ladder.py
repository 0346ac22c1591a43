"""The adaptation ladder: documented numbers, the fleet of one, bands, and what is missing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.config import EdgeConfig
from policies.edge import check_edge
from policies.edge.ladder import GB, MB, MODES, LadderState, Limits, begin, ladder
from policies.readings import Readings

NAN = math.nan
ALL = 16 * GB
COOL = Readings(True, 0.9, False, 30.0, 28.0, 28.0, True, False, 1e7, False, 3600.0, 120.0, 0.0, ALL)

numbers = st.floats(width=64) | st.sampled_from([NAN, math.inf, -math.inf, 0.1, 0.2, 0.4, 45.0, 55.0, 65.0, 42.0])
socs = st.floats(-0.1, 1.1) | numbers
heats = st.floats(-50, 160) | numbers
frees = st.floats(-1, 20 * GB) | numbers
rows = st.tuples(st.booleans(), socs, st.booleans(), heats, heats, frees)  # battery, soc, plugged, die, battery, free


def one(soc: float = 0.9, die_c: float = 30.0, free: float = ALL, **changes: Any) -> Limits:
    """Return the limits of a device that is read for the first time."""
    row = COOL._replace(soc=soc, die_c=die_c, memory_free_bytes=free, **changes)
    return ladder(begin(False, True), row, ALL)[0]


@pytest.mark.parametrize(
    ("given_", "cpu", "memory_mb", "tasks", "mode"),
    [
        ({}, 0.50, 1024, 2, "performance"),
        ({"soc": 0.40}, 0.50, 1024, 2, "balanced"),
        ({"soc": 0.20}, 0.35, 716, 1, "power_save"),
        ({"soc": 0.20, "plugged": True}, 0.50, 1024, 2, "performance"),
        ({"soc": 0.10}, 0.20, 256, 1, "critical"),
        ({"soc": 0.10, "plugged": True}, 0.20, 256, 1, "critical"),
        ({"soc": 0.0}, 0.20, 256, 1, "critical"),
        ({"die_c": 45.0}, 0.50, 1024, 2, "balanced"),
        ({"die_c": 55.0}, 0.30, 614, 2, "power_save"),
        ({"die_c": 65.0}, 0.15, 256, 1, "critical"),
        ({"battery_c": 55.0}, 0.30, 614, 2, "power_save"),
        ({"soc": 0.20, "die_c": 55.0}, 0.30, 430, 1, "power_save"),
        ({"free": 2 * GB}, 0.50, 512, 2, "performance"),
        ({"free": 1 * GB}, 0.50, 512, 2, "performance"),
        ({"free": 600 * MB}, 0.50, 300, 2, "performance"),
    ],
)
def test_each_rung_has_its_documented_limits(
    given_: dict[str, Any], cpu: float, memory_mb: int, tasks: int, mode: str
) -> None:
    """CPU, memory, tasks and power mode at the documented limits of battery, heat and memory; 0 % is a value."""
    limits = one(**given_)

    assert (float(limits.cpu_share), int(limits.tasks), MODES[int(limits.mode)]) == (cpu, tasks, mode)
    assert int(limits.memory_bytes / MB) == memory_mb
    assert not limits.blind


@pytest.mark.parametrize(
    ("given_", "chunk"),
    [
        ({}, 640),  # 512 x 1.25
        ({"free": 8 * GB}, 512),
        ({"free": 4 * GB}, 384),
        ({"free": 2 * GB}, 256),
        ({"free": 8 * GB, "die_c": 45.0}, 384),
        ({"free": 8 * GB, "die_c": 55.0}, 256),
        ({"free": 8 * GB, "die_c": 65.0}, 153),
        ({"free": 8 * GB, "soc": 0.4}, 409),
        ({"free": 8 * GB, "soc": 0.2}, 307),
        ({"free": 2 * GB, "soc": 0.1, "die_c": 65.0}, 64),  # 23 is below the smallest
    ],
)
def test_chunks_are_scaled_by_all_three(given_: dict[str, Any], chunk: int) -> None:
    """512 bytes times the documented scales, within 64 and 2048."""
    assert int(one(**given_).chunk_bytes) == chunk


def test_a_dedicated_machine_is_bound_by_the_worse_rungs_only() -> None:
    """No owner's half of the compute, but heat is heat."""
    state = begin(np.array([True, True]), np.array([False, False]))
    row = Readings(*(np.broadcast_to(np.asarray(field), (2,)) for field in COOL))
    limits, _ = ladder(state, row._replace(has_battery=np.zeros(2, bool), die_c=np.array([30.0, 65.0])), ALL)

    assert limits.cpu_share.tolist() == [1.0, 0.15]
    assert limits.memory_bytes.tolist() == [8 * GB, 256 * MB]
    assert limits.tasks.tolist() == [10, 1]


def test_mains_devices_have_no_battery_to_be_careful_for() -> None:
    """Without a battery neither its charge nor its temperature is asked for."""
    row = COOL._replace(has_battery=False, soc=NAN, battery_c=NAN)
    limits, _ = ladder(begin(False, False), row, ALL)

    assert (float(limits.cpu_share), bool(limits.blind)) == (0.5, False)


@pytest.mark.parametrize("missing", ["soc", "die_c", "battery_c", "free"])
@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf, -41.0])
def test_what_is_missing_is_the_most_careful_rung(missing: str, value: float) -> None:
    """Not a number, infinite or impossible: critical for charge and heat, no memory to lend, and ``blind`` says so."""
    limits = one(**{missing: value})

    assert limits.blind
    if missing == "free":
        assert float(limits.memory_bytes) == 0.0
    else:
        assert float(limits.memory_bytes) == 256 * MB
        assert float(limits.cpu_share) == (0.20 if missing == "soc" else 0.15)
        assert (int(limits.tasks), MODES[int(limits.mode)]) == (1, "critical")


def test_what_a_machine_offers_bounds_what_is_lent_and_not_the_rung() -> None:
    """Where there is more free memory than it has for the village, it lends half of that, on the best rung."""
    limits, state = ladder(begin(True, False), COOL._replace(memory_free_bytes=64 * GB), 3 * GB)

    assert (float(limits.memory_bytes), int(state.memory)) == (1.5 * GB, 0)


@pytest.mark.parametrize(
    ("field", "limit", "inside", "beyond"),
    [
        ("die_c", 55.0, 52.0, 51.99),
        ("die_c", 65.0, 62.0, 61.99),
        ("soc", 0.20, 0.25, 0.251),
        ("soc", 0.1, 0.15, 0.151),
        ("memory_free_bytes", 2 * GB, 2 * GB + 512 * MB, 2 * GB + 513 * MB),
        ("memory_free_bytes", 8 * GB, 8 * GB + 512 * MB, 8 * GB + 513 * MB),
    ],
)
def test_a_rung_is_left_only_beyond_its_band(field: str, limit: float, inside: float, beyond: float) -> None:
    """Trembling between a limit and its band changes nothing; the band's far side lets go."""
    _, state = ladder(begin(False, True), COOL._replace(**{field: limit}), ALL)
    first = state
    for value in (inside, limit, inside, inside, limit, inside):
        limits, state = ladder(state, COOL._replace(**{field: value}), ALL)
        assert state == first
    _, state = ladder(state, COOL._replace(**{field: beyond}), ALL)

    assert state != first
    assert limits.mode >= 2 or field == "memory_free_bytes"


@settings(max_examples=100, deadline=None)
@given(st.floats(0.1, 0.9), st.lists(st.floats(-1.0, 1.0), min_size=2, max_size=40))
def test_noise_inside_a_band_flaps_at_most_once(at: float, noise: list[float]) -> None:
    """However a reading trembles by less than half a band, each ladder moves up at most once and never comes down."""
    state, seen = begin(False, True), []
    for shake in noise:
        free = 10 * GB * at + 255 * MB * shake
        row = COOL._replace(soc=at + 0.024 * shake, die_c=40.0 + 30 * at + 1.49 * shake, memory_free_bytes=free)
        _, state = ladder(state, row, ALL)
        seen.append((int(state.battery), int(state.heat), int(state.memory)))

    for rung in zip(*seen, strict=True):
        assert list(rung) == sorted(rung)
        assert len(set(rung)) <= 2


def arrays(chosen: list[tuple[Any, ...]], xp: Any) -> tuple[Readings, Any]:
    """Return rows as arrays of a library."""
    battery, soc, plugged, die, cell, free = (xp.asarray(np.array(column)) for column in zip(*chosen, strict=True))
    n = len(chosen)
    rest = Readings(*(xp.asarray(np.broadcast_to(np.asarray(field), (n,)).copy()) for field in COOL))
    read = {"has_battery": battery, "soc": soc, "plugged": plugged, "die_c": die, "battery_c": cell}
    return rest._replace(**read, memory_free_bytes=free), xp.asarray(np.full(n, ALL))


def assert_same(left: tuple[Any, ...], right: tuple[Any, ...]) -> None:
    """Compare two structs of arrays exactly."""
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(rows, rows, rows), min_size=1, max_size=6), st.tuples(*[st.booleans()] * 6))
def test_the_fleet_of_one_is_the_batch(ticks: list[Any], kind: tuple[bool, ...]) -> None:
    """Rows fed one at a time get the limits and rungs they get together, over any sequence of readings."""
    dedicated, battery = np.array(kind[:3]), np.array(kind[3:])
    fleet = begin(dedicated, battery)
    alone = [begin(bool(d), bool(b)) for d, b in zip(dedicated, battery, strict=True)]
    for tick in ticks:
        limits, fleet = ladder(fleet, *arrays(tick, np))
        for k, (has, soc, plugged, die, cell, free) in enumerate(tick):
            read = {"has_battery": has, "soc": soc, "plugged": plugged, "die_c": die, "battery_c": cell}
            row = COOL._replace(**read, memory_free_bytes=free)
            single, alone[k] = ladder(alone[k], row, ALL)
            assert_same(single, [field[k] for field in limits])
            assert_same(alone[k], [field[k] for field in fleet])


@settings(max_examples=200, deadline=None)
@given(st.lists(rows, min_size=1, max_size=8), st.booleans(), st.booleans())
def test_no_reading_lifts_a_device_above_the_documented_caps(
    ticks: list[tuple[Any, ...]], dedicated: bool, has_battery: bool
) -> None:
    """Limits are finite and in range whatever is read, and no wider than the rung of this very reading allows."""
    state = begin(dedicated, has_battery)
    for has, soc, plugged, die, cell, free in ticks:
        read = {"has_battery": has, "soc": soc, "plugged": plugged, "die_c": die, "battery_c": cell}
        limits, state = ladder(state, COOL._replace(**read, memory_free_bytes=free), ALL)
        battery = has or has_battery
        assert 0 < limits.cpu_share <= (1.0 if dedicated else 0.5)
        assert 0 <= limits.memory_bytes <= (max(0.0, free) / 2 if free == free else 0.0)
        assert 64 <= limits.chunk_bytes <= 640
        if not die < 65 or (battery and not cell < 65):
            assert limits.cpu_share == 0.15
        if battery and not soc > 0.10:
            assert limits.cpu_share <= 0.20
            assert limits.memory_bytes <= 256 * MB
        known = 0 <= free < math.inf and -40 <= die <= 150
        assert known or limits.blind


def test_jax_and_strict_arrays_give_numpys_limits() -> None:
    """The ladder is Array API: the strict library accepts it, and under `jax.jit` it decides as under NumPy."""
    jax = pytest.importorskip("jax")
    strict = pytest.importorskip("array_api_strict")
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(5)
    n = 500
    state = begin(rng.random(n) < 0.2, rng.random(n) < 0.7)
    jax_state = LadderState(*(jax.numpy.asarray(field) for field in state))
    strict_state = LadderState(*(strict.asarray(field) for field in state))
    jitted = jax.jit(ladder)
    for _ in range(5):
        chosen = list(zip(rng.random(n) < 0.7, rng.random(n), rng.random(n) < 0.5, rng.uniform(20, 90, n),
                          rng.uniform(20, 60, n), rng.uniform(0, 12 * GB, n), strict=True))  # fmt: skip
        chosen[0] = (True, NAN, False, NAN, NAN, NAN)
        limits, state = ladder(state, *arrays(chosen, np))
        by_jax, jax_state = jitted(jax_state, *arrays(chosen, jax.numpy))
        by_strict, strict_state = ladder(strict_state, *arrays(chosen, strict))
        for other, other_state in ((by_jax, jax_state), (by_strict, strict_state)):
            assert_same(limits, other)
            assert_same(state, other_state)


def test_the_configured_numbers_are_the_ones_used() -> None:
    """Another configuration gives other limits."""
    config = EdgeConfig(cpu_share=0.8, warm_c=30.0, hot_c=35.0, critical_c=40.0, cpu_hot=0.1)
    cool, _ = ladder(begin(False, True), COOL._replace(die_c=20.0), ALL, config)
    hot, _ = ladder(begin(False, True), COOL._replace(die_c=36.0), ALL, config)

    assert (float(cool.cpu_share), float(hot.cpu_share)) == (0.8, 0.1)


def test_a_full_battery_leaves_the_highest_rung_that_is_allowed() -> None:
    """At 0.94, which `check_edge` allows, a battery that was half full is back on the best rung at 1.0."""
    config, state = EdgeConfig(battery_conservative=0.94), begin(False, True)
    check_edge(config)
    rungs = []
    for soc in (0.5, 0.99, 1.0):
        _, state = ladder(state, COOL._replace(soc=soc), ALL, config)
        rungs.append(int(state.battery))

    assert rungs == [1, 1, 0]
