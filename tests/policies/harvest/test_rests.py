"""What the documented rule tells ahead of unplugged devices is what it decides reading by reading."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.config import HarvestConfig
from policies.harvest import Devices, Harvest
from policies.harvest.elementwise import HarvestState
from policies.readings import Readings

MBPS = 125_000.0
bits = st.lists(st.booleans(), min_size=8, max_size=8)
falling = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=15).map(lambda socs: sorted(socs, reverse=True))


@given(
    flags=bits, socs=falling, since_s=st.integers(0, 100_000), screen=bits,
    share=st.floats(-1.0, 1.0, exclude_max=True), config=st.sampled_from([
        HarvestConfig(), HarvestConfig(drain_s=0.0), HarvestConfig(min_battery=0.5, optimal_battery=0.4),
        HarvestConfig(hysteresis_c=0.0, max_cpu=0.0), HarvestConfig(require_charging=False),
    ]),
)  # fmt: skip
def test_a_resting_row_is_told_ahead(
    flags: list[bool], socs: list[float], since_s: int, screen: list[bool], share: float, config: HarvestConfig
) -> None:
    """Unplugged, cool and with a charge that does not rise, rows of `rests` lend at no reading and end as `rested`."""
    rule = Harvest(config)
    dedicated, battery, contributing, draining, cool, unthrottled, safe, charged = (np.array([flag]) for flag in flags)
    state = HarvestState(
        dedicated, battery, contributing, draining, np.array([float(since_s)]), cool, unthrottled, safe, charged
    )
    before = state
    die_c = np.array([np.nextafter(rule.rest_below_c, -np.inf) - 10.0 * (1.0 + share)])

    lent = False
    for k, soc in enumerate(socs):
        read = Readings(
            battery, np.array([soc]), np.array([False]), die_c, die_c, die_c, np.array([True]), np.array([False]),
            np.array([20 * MBPS]), np.array([screen[k % 8]]), np.array([3600.0]), np.array([120.0]), np.array([0.0]),
        )  # fmt: skip
        decision, state = rule.decide(state, read, 60.0)
        lent |= bool(decision.contribute[0]) or float(decision.memory_share[0]) > 0.0

    if rule.rests(before)[0]:
        assert not lent
        told = rule.rested(before, np.array([socs[0]]), np.array([socs[-1]]), 60.0 * len(socs))
        assert [column.tolist() for column in told] == [column.tolist() for column in state]
    assert bool(rule.rests(before)[0]) == (
        config.require_charging and battery[0] and not (dedicated[0] or contributing[0] or draining[0])
        and cool[0] and unthrottled[0] and safe[0]
    )  # fmt: skip


@given(
    flags=bits, since_s=st.integers(0, 40_000), first_minute=st.integers(0, 1439),
    socs=st.lists(st.floats(0.0, 1.0), min_size=15, max_size=15),
    dies_c=st.lists(st.floats(20.0, 70.0), min_size=2, max_size=15), config=st.sampled_from([
        HarvestConfig(), HarvestConfig(drain_s=0.0), HarvestConfig(hour_start=0.0, hour_end=24.0),
        HarvestConfig(hour_start=8.0, hour_end=9.0, max_session_h=0.5, max_cpu=0.0),
        HarvestConfig(wifi_only=False, require_charging=False, require_screen_off=False),
    ]), owners=st.lists(st.booleans(), min_size=3, max_size=3),
)  # fmt: skip
def test_a_decision_that_lasts_is_made_once(
    flags: list[bool], since_s: int, first_minute: int, socs: list[float], dies_c: list[float], config: HarvestConfig,
    owners: list[bool],
) -> None:  # fmt: skip
    """Where only heat, charge and time move, rows of `may_last` decide as at first while `lasts` says so."""
    rule = Harvest(config)
    columns = [np.array([flag]) for flag in flags]
    state = HarvestState(*columns[:4], np.array([float(since_s)]), *columns[4:])
    minutes = (first_minute + np.arange(len(dies_c))[:, None]) % 1440.0
    plugged, wifi, screen = (np.array([bit]) for bit in owners)
    forbidden = rule.forbids(state, plugged, wifi, screen)
    may = rule.may_last(state, minutes, np.array([0]), 60.0 * len(dies_c), forbidden)[0]
    was, decisions, told, lasts = state.contributing[0], [], [], []
    for k, die_c in enumerate(dies_c):
        die = np.array([die_c])
        read = Readings(
            columns[1], np.array([socs[k]]), plugged, die, die, die, wifi, np.array([False]),
            np.array([20 * MBPS]), screen, np.array([3600.0 + 60.0 * k]), minutes[k], np.array([0.0]),
        )  # fmt: skip
        decision, state = rule.decide(state, read, 60.0)
        told.append(rule.later(told[-1], die, np.array([socs[k]]), 60.0) if told else state)
        lasts.append(bool(rule.lasts(told[-1])[0]))
        decisions.append((bool(decision.contribute[0]), float(decision.compute_share[0]), bool(state.draining[0])))

    if may and decisions[0][0] == was and not decisions[0][2] and all(lasts):
        assert set(decisions) == {decisions[0]}
        assert [column.tolist() for column in told[-1]] == [column.tolist() for column in state]


def test_a_session_by_night_lasts_and_one_that_ends_soon_does_not() -> None:
    """Hours, the session's length and a drain have a say; a phone at rest by day lasts whatever else."""
    rule = Harvest(HarvestConfig())
    state = rule.init(Devices(np.zeros(5, dtype=bool), np.ones(5, dtype=bool)))
    state = state._replace(
        contributing=np.array([True, True, True, False, False]),
        draining=np.array([False, False, False, False, True]),
        since_s=np.array([60.0, 8 * 3600.0 - 900.0, 60.0, 60.0, 60.0]),
    )
    minutes = np.array([[120.0, 600.0], [121.0, 601.0]])

    free = np.zeros(5, dtype=bool)
    lasts = rule.may_last(state, minutes, np.array([0, 0, 1, 1, 1]), 900.0, free)
    assert lasts.tolist() == [True, False, False, True, False]


@pytest.mark.parametrize("what", ["nothing", "no charger", "no Wi-Fi", "screen on", "its battery is out"])
def test_a_phone_whose_owner_forbids_a_session_rests_by_night(what: str) -> None:
    """By night it lasts at rest where it is on no charger or Wi-Fi, or in use all along; a desktop needs no charger."""
    rule = Harvest(HarvestConfig())
    has_battery = np.array([what != "its battery is out"])
    state = rule.init(Devices(np.array([False]), has_battery))
    plugged = np.array([what not in ("no charger", "its battery is out")])
    forbidden = rule.forbids(state, plugged, np.array([what != "no Wi-Fi"]), np.array([what == "screen on"]))

    night = np.array([[120.0], [121.0]])
    lasts = rule.may_last(state, night, np.array([0]), 900.0, forbidden)
    assert lasts.tolist() == [what not in ("nothing", "its battery is out")]


def test_a_phone_that_was_just_met_rests() -> None:
    """A phone without history is one of those that can be told ahead; a machine of the village is not."""
    rule = Harvest(HarvestConfig())

    resting = rule.rests(rule.init(Devices(np.array([False, True, False]), np.array([True, True, False]))))

    assert resting.tolist() == [True, False, False]
