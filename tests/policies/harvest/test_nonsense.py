"""Readings that no sensor can mean: unknown to every rule, so that none lends on them, and outside the envelope."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.config import (
    BoincConfig,
    FederatedConfig,
    HarvestConfig,
    HarvestRules,
    PredecessorConfig,
    PredictiveConfig,
)
from policies.harvest import Devices, make, violations
from policies.harvest.rows import known
from policies.readings import COLDEST_C, HOTTEST_C, RANGES, Plausible, Readings, plausible
from tests.policies.harvest.histories import GOOD, INF, NAN, NONSENSE, RULES, columns, histories

ASKS: dict[str, tuple[HarvestRules, tuple[str, ...]]] = {
    "documented": (HarvestConfig(), ("soc", "die_c", "bandwidth_bytes_per_s", "idle_s", "local_minute")),
    "boinc": (
        BoincConfig(start_hour=22.0, end_hour=7.0, run_if_user_active=False),
        ("soc", "battery_c", "bandwidth_bytes_per_s", "idle_s", "local_minute", "user_load"),
    ),
    "federated": (FederatedConfig(), ("soc", "skin_c", "bandwidth_bytes_per_s", "idle_s")),
    "predictive": (
        PredictiveConfig(start_hazard_per_h=99.0, stop_hazard_per_h=99.0),
        ("soc", "die_c", "skin_c", "bandwidth_bytes_per_s", "local_minute"),
    ),
}
"""Each rule, and the numbers without which it does not lend a phone."""
INPUTS = [(rule, field, value) for rule, (_, fields) in ASKS.items() for field in fields for value in NONSENSE[field]]


@pytest.mark.parametrize(("rule", "field", "value"), INPUTS)
def test_no_rule_lends_on_nonsense(rule: str, field: str, value: float) -> None:
    """A phone that would lend, and one that does, lend nothing on a number that no sensor can mean."""
    config, _ = ASKS[rule]
    policy = make(config)
    fresh = policy.init(Devices(False, True))
    good, lending = policy.decide(fresh, GOOD, 0.0)
    assert bool(good.contribute)

    for state in (fresh, lending):
        decision, _ = policy.decide(state, GOOD._replace(**{field: value}), 60.0)
        assert not bool(decision.contribute)
        assert float(decision.compute_share) == float(decision.memory_share) == 0.0


@pytest.mark.parametrize(("rule", "field", "value"), INPUTS)
def test_the_envelope_tells_who_lends_on_nonsense(rule: str, field: str, value: float) -> None:
    """A decision that lends on such a number is outside, with the number and that it cannot be."""
    config, _ = ASKS[rule]
    policy = make(config)
    lends, _ = policy.decide(policy.init(Devices(False, True)), GOOD, 0.0)
    assert violations(config, Devices(False, True), GOOD, lends) == []

    found = violations(config, Devices(False, True), GOOD._replace(**{field: value}), lends)

    shown = value * 8 / 1e6 if field == "bandwidth_bytes_per_s" else value
    assert any(f" is {shown}, which no sensor can mean; allowed while contributing: " in line for line in found)


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=80, deadline=None)
@given(st.data())
def test_nonsense_is_read_as_a_missing_sensor(rule: str, data: st.DataObject) -> None:
    """Whatever numbers are read, every rule decides and remembers as if those that cannot be were missing."""
    config, devices, history = data.draw(histories(rule))
    policy = make(config)
    wild = missing = policy.init(devices)

    for dt_s, fleet in history:
        blanked = [
            row._replace(**{field: NAN for field in RANGES if not _can_be(field, getattr(row, field))}) for row in fleet
        ]
        got, wild = policy.decide(wild, columns(fleet), dt_s)
        want, missing = policy.decide(missing, columns(blanked), dt_s)
        for a, b in zip((*got, *wild), (*want, *missing), strict=True):
            np.testing.assert_array_equal(a, b)
            assert not np.issubdtype(a.dtype, np.floating) or np.isfinite(a).all()


def _can_be(field: str, value: float) -> bool:
    low, high = RANGES[field]
    return math.isfinite(value) and low <= value <= high and (field != "local_minute" or value != high)


def test_the_bad_example_starts_nothing_on_nonsense_and_ends_nothing_by_it() -> None:
    """The predecessor checks at the start only: nonsense forbids that, as heat does, and ends a session no more."""
    policy = make(PredecessorConfig())
    fresh = policy.init(Devices(False, True))
    _, lending = policy.decide(fresh, GOOD, 0.0)
    for field, value in (("die_c", -INF), ("local_minute", 5000.0), ("local_minute", INF), ("die_c", 151.0)):
        nonsense = GOOD._replace(**{field: value})
        assert not bool(policy.decide(fresh, nonsense, 60.0)[0].contribute)
        assert bool(policy.decide(lending, nonsense, 60.0)[0].contribute)
    for soc in (INF, 1.5):
        assert not bool(policy.decide(fresh, GOOD._replace(soc=soc), 60.0)[0].contribute)


def test_a_machine_on_the_mains_may_say_any_charge() -> None:
    """Without a battery the charge is no limit's business, whatever it reads."""
    for config, _ in ASKS.values():
        policy = make(config)
        desk = GOOD._replace(has_battery=False, soc=INF)
        decision, _ = policy.decide(policy.init(Devices(False, False)), desk, 0.0)
        assert bool(decision.contribute)
        assert violations(config, Devices(False, False), desk, decision) == []


def test_readings_that_are_vouched_for_are_taken_as_they_are() -> None:
    """What a fleet's sensors say passes to the bit, and unasked: of nonsense it is the maker who has to know."""
    vouched = Plausible(*columns([GOOD, GOOD._replace(soc=1.5)]))

    for ours, theirs in zip(known(vouched, np), vouched, strict=True):
        assert ours is theirs
    assert np.isnan(known(Readings(*vouched), np).soc).tolist() == [False, True]
    assert isinstance(vouched._replace(soc=0.5), Plausible)


@given(st.sampled_from(list(RANGES)), st.floats())
def test_one_number_and_many_are_plausible_alike(field: str, value: float) -> None:
    """The one rule says the same of a number, of an array, and of what a reader of sensors may pass on."""
    assert bool(plausible(field, value)) is bool(plausible(field, np.array([value]))[0]) is _can_be(field, value)


def test_the_ladder_and_harvest_agree_on_what_a_temperature_can_be() -> None:
    """Families of policies do not know one another; the range they both go by is the same."""
    for field in ("die_c", "skin_c", "battery_c"):
        assert RANGES[field] == (COLDEST_C, HOTTEST_C)


def test_every_number_of_a_reading_has_a_range() -> None:
    """A field that is added is checked as well, or this fails."""
    assert set(RANGES) == {field for field, value in GOOD._asdict().items() if not isinstance(value, bool)}
