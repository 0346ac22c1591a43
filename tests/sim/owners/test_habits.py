"""Owners' habits: the shape of a day, and that a device's draws are its own."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from scipy import stats

from scenarios.schema import Owners
from sim.owners import Habits, habits

TICKS = 1440  # a day of minutes


def a_day(kinds: list[str], *, seed: int = 1, owners: Owners | None = None, **changes: Any) -> Habits:
    """Return the habits of one day from midnight, a row a minute."""
    n = len(kinds)
    given: dict[str, Any] = {
        "entity": np.arange(n), "start_minute": 0, "zone_min": np.zeros(n), "ticks": TICKS, "tick_s": 60.0,
    }  # fmt: skip
    return habits(owners or Owners(), seed, kinds, np.zeros(n, dtype=bool), **{**given, **changes})


def at_hour(rows: np.ndarray, hour: int) -> float:
    """Return the share that is true within an hour of the day."""
    return float(rows[60 * hour : 60 * hour + 60].mean())


def test_phones_are_plugged_by_night_and_looked_at_by_day() -> None:
    """Plugged: most at 3:00, few at 15:00. Screens: none at 3:00, about the daily minutes over the waking hours."""
    day = a_day(["phone"] * 600)

    assert 0.7 < at_hour(day.plugged, 3) < 0.87  # the nightly share of 0.8
    assert 0.01 < at_hour(day.plugged, 15) < 0.2
    assert at_hour(day.screen_on, 3) < 0.01
    # 240 minutes a day over 40 sessions; overlaps only take away.
    assert 0.7 * 240 < day.screen_on.sum(axis=0).mean() < 1.05 * 240
    assert 0.6 < at_hour(day.away, 12) < 0.8
    assert at_hour(day.away, 3) == 0.0


def test_plug_in_times_are_normal_about_the_parameter() -> None:
    """Without top-ups the evening's plug-ins are normal about the median, spread by both draws."""
    owners = Owners(top_ups_per_day=0.0, nightly_share=1.0, plug_minute=1200, unplug_minute=400, spread_min=60.0)
    day = a_day(["phone"] * 500, owners=owners)
    after_ten = day.plugged[600:]
    begins = after_ten[1:] & ~after_ten[:-1]
    minutes = 601 + begins.argmax(axis=0)[begins.any(axis=0)]

    spread = 60.0 * np.sqrt(1 + 0.25)  # the day's draw and the person's, half as wide
    assert len(minutes) > 480
    assert stats.kstest(minutes, "norm", args=(1200, spread)).pvalue > 0.001


def test_a_device_draws_the_same_in_any_fleet() -> None:
    """Habits belong to the device's number: neighbours, their count and their order change nothing."""
    many = a_day(["phone"] * 20 + ["laptop"] * 5)
    for column in range(25):
        one = a_day(["phone" if column < 20 else "laptop"], entity=np.array([column]))
        for field in fields(Habits):
            assert np.array_equal(getattr(one, field.name)[:, 0], getattr(many, field.name)[:, column])


def test_a_longer_run_begins_with_the_shorter_one() -> None:
    """More days change nothing about the first."""
    short, long = a_day(["phone"] * 20), a_day(["phone"] * 20, ticks=3 * TICKS)

    for field in fields(Habits):
        assert np.array_equal(getattr(short, field.name), getattr(long, field.name)[:TICKS])


@pytest.mark.parametrize("zone_h", [-12.0, 14.0])
def test_owners_live_by_their_own_clock(zone_h: float) -> None:
    """Another time zone is the same day seen from another hour; the ends of the world have nights too."""
    home = a_day(["phone"] * 300, start_minute=0)
    there = a_day(["phone"] * 300, zone_min=np.full(300, zone_h * 60))

    for hour in range(24):
        local = (hour + int(zone_h)) % 24
        assert at_hour(there.plugged, hour) == pytest.approx(at_hour(home.plugged, local), abs=0.12)


def test_idle_time_counts_from_the_last_look() -> None:
    """Idle seconds are 0 while the screen is on and grow by a tick while it is off."""
    day = a_day(["phone"] * 10)
    for i in range(10):
        idle = 3600.0
        for minute in range(TICKS):
            idle = 0.0 if day.screen_on[minute, i] else idle + (60.0 if minute else 0.0)
            assert day.idle_s[minute, i] == idle


def test_machines_on_the_mains_are_always_plugged_and_dedicated_ones_left_alone() -> None:
    """A desktop is plugged all day; a dedicated machine has no owner at its screen; only phones leave home."""
    n = 3
    day = habits(
        Owners(away_share=1.0), 1, ["desktop", "gpu_box", "laptop"], np.array([False, True, False]),
        entity=np.arange(n), start_minute=0, zone_min=np.zeros(n), ticks=TICKS, tick_s=60.0,
    )  # fmt: skip

    assert day.plugged[:, :2].all()
    assert day.screen_on.any(axis=0).tolist() == [True, False, True]
    assert not day.away.any()


def test_an_owner_without_habits_leaves_a_phone_alone() -> None:
    """No screen minutes, no top-ups and no nightly charge mean neither a look nor a plug."""
    none = a_day(["phone"] * 5, owners=Owners(screen_minutes_per_day=0.0, top_ups_per_day=0.0, nightly_share=0.0))

    assert not none.screen_on.any()
    assert not none.plugged.any()
