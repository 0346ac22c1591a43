"""The clairvoyant bound: equal to exhaustive search, and above whatever the rules harvest."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.config import HarvestConfig, PredictiveConfig
from policies.harvest import Devices, make
from policies.readings import Readings
from sim.clairvoyant import allowed, best, clairvoyant

MBPS = 125_000.0


def search(may: list[bool], session: int | None, rest: int) -> int:
    """Return the best of all schedules, tried one by one."""
    most = 0
    for lent in itertools.product((False, True), repeat=len(may)):
        if any(on and not ok for on, ok in zip(lent, may, strict=True)):
            continue
        run, since, fine = 0, 99, True
        for k, on in enumerate(lent):
            if on:
                started = k == 0 or not lent[k - 1]
                fine &= not started or since >= max(1, rest)
                run = 1 if started else run + 1
                fine &= session is None or run <= session
            else:
                ended = k > 0 and lent[k - 1]
                since = 0 if ended else since
                run = 0
            since += 1
        if fine:
            most = max(most, sum(lent))
    return most


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.booleans(), min_size=1, max_size=10),
    st.one_of(st.none(), st.integers(1, 5)),
    st.integers(0, 4),
)
def test_it_is_the_best_of_all_schedules(may: list[bool], session: int | None, rest: int) -> None:
    """On short horizons the programme's value is that of exhaustive search."""
    assert best(np.array(may)[:, None], session, rest).tolist() == [search(may, session, rest)]


def owners(readings: int, devices: int, seed: int, dt_s: float) -> Readings:
    """Draw owners who plug, look and leave at random, on devices that are always cool and full."""
    g = np.random.default_rng(seed)

    def spells(share: float, mean: float) -> Any:
        flips = g.random((readings, devices)) < 1.0 / mean
        return (np.cumsum(flips, axis=0) + (g.random(devices) < share)) % 2 == 1

    shape = (readings, devices)
    screen = spells(0.2, 60.0) & (g.random(shape) < 0.5)
    tick = np.arange(readings)[:, None]
    last = np.maximum.accumulate(np.where(screen, tick, -60), axis=0)
    minute = (1200.0 + tick * dt_s / 60.0 + g.integers(0, 1440, devices)) % 1440.0
    full = np.ones(shape)
    return Readings(
        has_battery=full > 0, soc=full, plugged=spells(0.6, 300.0), die_c=30.0 * full, skin_c=28.0 * full,
        battery_c=28.0 * full, on_wifi=spells(0.9, 500.0), metered=full < 0, bandwidth_bytes_per_s=20 * MBPS * full,
        screen_on=screen, idle_s=(tick - last) * dt_s, local_minute=minute, user_load=0.0 * full,
        memory_free_bytes=8e9 * full,
    )  # fmt: skip


@pytest.mark.parametrize("config", [HarvestConfig(), HarvestConfig(max_session_h=1.0), PredictiveConfig()])
def test_no_rule_harvests_more_than_the_bound(config: Any) -> None:
    """Over two days of random owners no device's rule exceeds its bound; the documented one comes near it."""
    dt_s, n = 60.0, 60
    ahead = owners(2880, n, seed=3, dt_s=dt_s)
    devices = Devices(np.arange(n) % 10 == 0, np.ones(n, dtype=bool))
    rule = make(config)
    state, harvested_s = rule.init(devices), np.zeros(n)
    for k in range(2880):
        decision, state = rule.decide(state, Readings(*(column[k] for column in ahead)), dt_s if k else 0.0)
        harvested_s += decision.compute_share * dt_s

    bound_s = clairvoyant(config, devices, ahead, dt_s)

    assert (harvested_s <= bound_s + 1e-6).all()
    assert bound_s.sum() > 0
    if isinstance(config, HarvestConfig):
        assert harvested_s.sum() >= 0.95 * bound_s.sum()


def test_the_hard_rules_allow_more_than_the_documented_ones() -> None:
    """Without hours, idle time, session length and cool-down there is more to harvest, device by device."""
    ahead = owners(1440, 20, seed=5, dt_s=60.0)
    devices = Devices(np.zeros(20, dtype=bool), np.ones(20, dtype=bool))
    documented, hard = (clairvoyant(c, devices, ahead, 60.0) for c in (HarvestConfig(), PredictiveConfig()))

    assert (documented <= hard).all()
    assert documented.sum() < hard.sum()
    assert not (allowed(HarvestConfig(), devices, ahead) & ~allowed(PredictiveConfig(), devices, ahead)).any()


def test_a_night_of_nine_hours_is_a_session_a_rest_and_a_session() -> None:
    """Nine open hours hold eight of the first session, half an hour's rest and half an hour of the second."""
    ahead = owners(1440, 1, seed=0, dt_s=60.0)
    ahead = Readings(*(np.broadcast_to(column[:1], (1440, 1)) for column in ahead))._replace(
        plugged=np.full((1440, 1), True), on_wifi=np.full((1440, 1), True), screen_on=np.full((1440, 1), False),
        idle_s=np.full((1440, 1), 3600.0), local_minute=np.arange(1440.0)[:, None],
    )  # fmt: skip
    phone = Devices(np.array([False]), np.array([True]))

    # From midnight to seven and from 22 to midnight: one session each, both shorter than eight hours.
    assert clairvoyant(HarvestConfig(), phone, ahead, 60.0).tolist() == [9 * 3600 * 0.5]
    shifted = ahead._replace(local_minute=(np.arange(1440.0)[:, None] + 1320.0) % 1440.0)
    assert clairvoyant(HarvestConfig(), phone, shifted, 60.0).tolist() == [8.5 * 3600 * 0.5]
    assert clairvoyant(PredictiveConfig(), phone, shifted, 60.0).tolist() == [24 * 3600 * 0.5]


def test_bad_shapes_are_refused() -> None:
    """Readings of one moment are no future."""
    ahead = owners(10, 2, seed=0, dt_s=60.0)
    phones = Devices(np.zeros(2, dtype=bool), np.ones(2, dtype=bool))
    with pytest.raises(ValueError, match=r"allowed: \(readings, 2\)"):
        clairvoyant(HarvestConfig(), phones, Readings(*(column[0] for column in ahead)), 60.0)
    with pytest.raises(ValueError, match=r"dt_s is 0\.0; allowed: above 0"):
        clairvoyant(HarvestConfig(), phones, ahead, 0.0)
