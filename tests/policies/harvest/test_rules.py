"""What holds for every harvest rule: a row is the same alone, the envelope, the dwell, three array libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.config import (
    BoincConfig,
    FederatedConfig,
    HarvestConfig,
    OwnerLimits,
    PredecessorConfig,
    PredictiveConfig,
)
from policies.harvest import Devices, make, violations
from policies.readings import HARVEST_STATES, Readings
from tests.policies.harvest.histories import AROUND, GOOD, NONSENSE, RULES, columns, histories

DEFAULTS = {
    "documented": HarvestConfig(hour_start=0.0, hour_end=24.0),
    "predecessor": PredecessorConfig(),
    "boinc": BoincConfig(),
    "federated": FederatedConfig(),
    "predictive": PredictiveConfig(start_hazard_per_h=5.0, stop_hazard_per_h=5.0, compute_weight=0.5),
}


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_one_row_is_the_same_row_among_many(rule: str, data: st.DataObject) -> None:
    """A row decided alone, from Python scalars, failed sensors included, is bit for bit the row of the fleet."""
    config, devices, history = data.draw(histories(rule))
    row = data.draw(st.integers(0, len(devices.dedicated) - 1))
    policy = make(config)
    many = policy.init(devices)
    one = policy.init(Devices(*(field[row].item() for field in devices)))

    for dt_s, fleet in history:
        together, many = policy.decide(many, columns(fleet), dt_s)
        alone, one = policy.decide(one, fleet[row], dt_s)
        for a, b in zip((*alone, *one), (*together, *many), strict=True):
            np.testing.assert_array_equal(np.asarray(a), b[row])


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "predecessor"])
@settings(max_examples=120, deadline=None)
@given(st.data())
def test_no_rule_leaves_its_envelope_whatever_the_sensors_say(rule: str, data: st.DataObject) -> None:
    """Over any readings, failed sensors included, nothing is lent that a limit forbids, no share but a number."""
    config, devices, history = data.draw(histories(rule))
    policy = make(config)
    state = policy.init(devices)

    for dt_s, fleet in history:
        decision, state = policy.decide(state, columns(fleet), dt_s)
        assert violations(config, devices, columns(fleet), decision) == []
        assert set(np.asarray(decision.state).tolist()) <= set(range(len(HARVEST_STATES)))


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "predecessor"])
@settings(max_examples=120, deadline=None)
@given(st.data())
def test_no_row_flaps_more_than_once_a_dwell(rule: str, data: st.DataObject) -> None:
    """After a session ended the next starts no sooner than the dwell later."""
    config, devices, history = data.draw(histories(rule))
    assert not isinstance(config, PredecessorConfig)
    policy = make(config)
    state = policy.init(devices)
    rest_s = np.full(len(devices.dedicated), np.inf)
    was = np.zeros(len(devices.dedicated), dtype=bool)

    for dt_s, fleet in history:
        decision, state = policy.decide(state, columns(fleet), dt_s)
        rest_s = np.where(was, 0.0, rest_s + dt_s)
        started = decision.contribute & ~was
        assert not np.any(started & (rest_s < config.dwell_min * 60.0))
        rest_s = np.where(decision.contribute, np.inf, rest_s)
        was = decision.contribute


@pytest.mark.parametrize("rule", ["documented", "predictive"])
@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_drain_follows_a_session_and_ends_in_time(rule: str, data: st.DataObject) -> None:
    """Only a row that lent at the reading before, or drains already, drains, and for no longer than configured."""
    config, devices, history = data.draw(histories(rule))
    assert isinstance(config, OwnerLimits)
    policy = make(config)
    state = policy.init(devices)
    lent = drained = np.zeros(len(devices.dedicated), dtype=bool)
    ended_s = np.full(len(devices.dedicated), np.inf)

    for dt_s, fleet in history:
        decision, state = policy.decide(state, columns(fleet), dt_s)
        drains = np.asarray(decision.state) == HARVEST_STATES.index("draining")
        ended_s = np.where(lent, 0.0, ended_s + dt_s)
        assert not np.any(drains & ~(lent | drained))
        assert not np.any(drains & (ended_s >= config.drain_s))
        assert not np.any(drains & (decision.compute_share > 0.0))
        lent, drained = decision.contribute, drains


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("library", ["jax", "array_api_strict"])
def test_three_array_libraries_decide_the_same(rule: str, library: str) -> None:
    """Under jax.jit and under the strict standard every decision is NumPy's; what is learned agrees to rounding."""
    generator = np.random.default_rng(7)
    anything = {name: [*values, *NONSENSE.get(name, ())] for name, values in AROUND.items()}
    fleets = [
        [
            GOOD._replace(**{name: values[generator.integers(len(values))] for name, values in anything.items()
                             if generator.random() < 0.15})
            for _ in range(200)
        ]
        for _ in range(20)
    ]  # fmt: skip
    flags = Devices(generator.random(200) < 0.2, generator.random(200) < 0.7, 1e14 * generator.random(200) ** 4)
    policy = make(DEFAULTS[rule])
    decide: Any = policy.decide
    if library == "jax":
        jax = pytest.importorskip("jax", reason="jax is not installed")
        xp, decide = jax.numpy, jax.jit(policy.decide)
    else:
        xp = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    other = policy.init(Devices(*(xp.asarray(field.tolist()) for field in flags)))
    plain = policy.init(flags)
    lent = stopped = 0

    for fleet in fleets:
        expected, plain = policy.decide(plain, columns(fleet), 900.0)
        actual, other = decide(other, columns(fleet, xp), 900.0)
        for want, got in zip((*expected, *plain), (*actual, *other), strict=True):
            got = np.asarray(got)
            if want.dtype.kind == "f":
                np.testing.assert_allclose(got, want, rtol=3e-4, atol=3e-4)
            else:
                np.testing.assert_array_equal(got, want)
        lent += int(expected.contribute.sum())
        stopped += int((~expected.contribute).sum())
    assert lent > 50
    assert stopped > 50


@pytest.mark.parametrize("rule", RULES)
def test_a_good_night_is_harvested(rule: str) -> None:
    """Plugged in, full, cool and alone at two in the morning, every rule lends; with its owner at it, none but one."""
    policy = make(DEFAULTS[rule])
    state = policy.init(Devices(False, True))
    for minute in range(120, 240):
        decision, state = policy.decide(state, GOOD._replace(local_minute=float(minute)), 60.0)
    assert bool(decision.contribute)
    assert 0.0 < float(decision.compute_share) <= 0.5

    decision, state = policy.decide(state, GOOD._replace(screen_on=True, idle_s=0.0), 60.0)
    assert bool(decision.contribute) is (rule == "predecessor")


@pytest.mark.parametrize("rule", RULES)
def test_one_clock_may_serve_a_whole_fleet(rule: str) -> None:
    """A field that is the same for all rows may be given once."""
    policy = make(DEFAULTS[rule])
    state = policy.init(Devices(np.zeros(3, dtype=bool), np.ones(3, dtype=bool)))
    fleet = columns([GOOD, GOOD._replace(soc=0.1), GOOD._replace(plugged=False)])
    each, _ = policy.decide(state, fleet, 0.0)
    shared, _ = policy.decide(state, fleet._replace(local_minute=np.asarray(120.0)), np.asarray(0.0))

    for a, b in zip(each, shared, strict=True):
        np.testing.assert_array_equal(a, b)


def test_contradicting_limits_are_refused_by_every_rule_that_has_them() -> None:
    """Temperatures that fall are the user's error, whichever of the village's own rules is configured."""
    for kind in (HarvestConfig, PredecessorConfig, PredictiveConfig):
        with pytest.raises(ValueError, match="allowed: values that do not fall"):
            make(kind(max_cpu_temp_c=56.0))
    with pytest.raises(ValueError, match="allowed: from start_hazard_per_h"):
        make(PredictiveConfig(start_hazard_per_h=0.5, stop_hazard_per_h=0.4))
    with pytest.raises(TypeError, match="allowed: one of the harvest configurations"):
        make(Readings(*GOOD))  # type: ignore[arg-type]
