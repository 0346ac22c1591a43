"""Harvest over random histories and array libraries: the envelope, one row among many, three libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.config import HarvestConfig
from policies.harvest import Devices, Harvest, violations
from policies.readings import Decision, Readings

MBPS = 125_000.0
GOOD = Readings(True, 0.9, True, 30.0, 28.0, 28.0, True, False, 20 * MBPS, False, 3600.0, 120.0, 0.0)

# Values around every limit, so that random sequences cross them often. All are exact in float32.
AROUND: dict[str, list[Any]] = {
    "has_battery": [True, False],
    "soc": [0.125, 0.25, 0.5, 0.75, 1.0],
    "plugged": [True, True, True, False],
    "die_c": [30.0, 41.0, 44.0, 45.0, 53.0, 55.0, 63.0, 65.0, 80.0],
    "skin_c": [30.0],
    "battery_c": [30.0],
    "on_wifi": [True, True, True, False],
    "metered": [False, False, False, True],
    "bandwidth_bytes_per_s": [20 * MBPS, 20 * MBPS, 5 * MBPS, 4 * MBPS],
    "screen_on": [False, False, False, True],
    "idle_s": [3600.0, 3600.0, 300.0, 299.0],
    "local_minute": [0.0, 60.0, 300.0, 419.0, 420.0, 1319.0, 1320.0],
    "user_load": [0.0],
}
rows = st.tuples(*(st.sampled_from(values) for values in AROUND.values())).map(lambda row: Readings(*row))
steps_s = st.sampled_from([0.0, 60.0, 900.0, 1800.0, 14400.0])
configs = st.builds(
    HarvestConfig,
    require_charging=st.booleans(),
    wifi_only=st.booleans(),
    allow_metered=st.booleans(),
    require_screen_off=st.booleans(),
    hour_start=st.sampled_from([0.0, 1.0, 22.0]),
    hour_end=st.sampled_from([5.0, 7.0, 24.0]),
    max_session_h=st.sampled_from([0.5, 8.0]),
    cooldown_min=st.sampled_from([0.0, 30.0]),
)


def columns(fleet: list[Readings], xp: Any = np) -> Readings:
    """Stack rows into arrays of ``xp``."""
    return Readings(*(xp.asarray(np.array(column).tolist()) for column in zip(*fleet, strict=True)))


@st.composite
def histories(draw: st.DrawFn, rows_max: int = 5) -> tuple[HarvestConfig, Devices, list[tuple[float, list[Readings]]]]:
    """Draw limits, a few devices, and what each reads over time."""
    count = draw(st.integers(1, rows_max))
    flags = st.lists(st.booleans(), min_size=count, max_size=count)
    step = st.tuples(steps_s, st.lists(rows, min_size=count, max_size=count))
    devices = Devices(np.array(draw(flags)), np.array(draw(flags)))
    return draw(configs), devices, draw(st.lists(step, min_size=1, max_size=12))


@settings(max_examples=150, deadline=None)
@given(histories())
def test_whenever_it_lends_every_gate_holds(given_: Any) -> None:
    """Over random histories no decision leaves the envelope, no session outlasts its limit, rest is kept."""
    config, devices, history = given_
    rule = Harvest(config)
    state = rule.init(devices)
    lending_s = np.zeros(len(devices.dedicated))
    resting_s = np.full(len(devices.dedicated), np.inf)
    was = np.zeros(len(devices.dedicated), dtype=bool)

    for dt_s, fleet in history:
        decision, state = rule.decide(state, columns(fleet), dt_s)
        assert violations(config, devices, columns(fleet), decision) == []
        on, guest = decision.contribute, ~devices.dedicated
        lending_s = np.where(was, lending_s + dt_s, 0.0)
        resting_s = np.where(was, 0.0, resting_s + dt_s)  # since the reading that ended the session
        assert not np.any(on & guest & (lending_s >= config.max_session_h * 3600))
        assert not np.any(on & ~was & guest & (resting_s < config.cooldown_min * 60))
        resting_s = np.where(was & on, np.inf, resting_s)
        was = on


@settings(max_examples=60, deadline=None)
@given(histories(), st.data())
def test_one_row_is_the_same_row_among_many(given_: Any, data: st.DataObject) -> None:
    """A row decided alone, from Python scalars, is bit for bit the row decided in a fleet."""
    config, devices, history = given_
    row = data.draw(st.integers(0, len(devices.dedicated) - 1))
    rule = Harvest(config)
    many = rule.init(devices)
    one = rule.init(Devices(*(bool(field[row]) for field in devices[:2])))

    for dt_s, fleet in history:
        together, many = rule.decide(many, columns(fleet), dt_s)
        alone, one = rule.decide(one, fleet[row], dt_s)
        assert [np.asarray(x).item() for x in alone] == [x[row].item() for x in together]
        assert [np.asarray(x).item() for x in one] == [x[row].item() for x in many]


@pytest.mark.parametrize("library", ["jax", "array_api_strict"])
def test_other_array_libraries_decide_the_same(library: str) -> None:
    """Under jax.jit and under the strict standard every answer and every state equals NumPy's."""
    generator = np.random.default_rng(7)
    fleets = [
        [Readings(*(values[generator.integers(len(values))] for values in AROUND.values())) for _ in range(200)]
        for _ in range(12)
    ]
    flags = Devices(generator.random(200) < 0.2, generator.random(200) < 0.7)
    rule = Harvest(HarvestConfig(hour_start=0.0, hour_end=24.0))
    decide: Any = rule.decide
    if library == "jax":
        jax = pytest.importorskip("jax", reason="jax is not installed")
        xp, decide = jax.numpy, jax.jit(rule.decide)
    else:
        xp = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    other = rule.init(Devices(*(xp.asarray(field.tolist()) for field in flags[:2])))
    plain = rule.init(flags)
    lent = 0

    for fleet in fleets:
        expected, plain = rule.decide(plain, columns(fleet), 900.0)
        actual, other = decide(other, columns(fleet, xp), 900.0)
        for want, got in zip((*expected, *plain), (*actual, *other), strict=True):
            np.testing.assert_array_equal(np.asarray(got, dtype=np.float32), want.astype(np.float32))
        lent += int(expected.contribute.sum())
    assert lent > 100


def test_the_envelope_names_row_field_and_limit() -> None:
    """A decision that lends in the heat, too much, is told off line by line."""
    readings = columns([GOOD, GOOD._replace(die_c=66.0)])
    decision = Decision(
        np.array([True, True]),
        np.array([0.5, 0.5]),
        np.array([0.3, 0.3]),
        np.array([1.25e6, 1.25e6]),
        np.array([1, 1]),
    )

    assert violations(HarvestConfig(), Devices(False, True), readings, decision) == [
        "row 1: die_c is 66.0; allowed while contributing: below 65",
        "row 1: compute_share is 0.5; allowed: 0 to 0.25",
    ]
