"""The crowd: its conjunction is the fitted law under every story, and chunks, windows and order change nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from models.availability import DECOMPOSITIONS, PHASES, scores, simulate_conjunction
from sim.owners import crowd
from sim.owners.crowd import NETWORK, PLUGGED, SCREEN, WIFI, CrowdState
from sim.owners.tables import LEVELS, MIN_PHASE_S, _lengths, _residual

STORIES = tuple(DECOMPOSITIONS)
KIND = {"phone": 0, "tablet": 1, "laptop": 2, "desktop": 3, "gpu_box": 4}


def live(
    story: object, n: int, days: float, *, kind: str | np.ndarray = "phone", seed: int = 1, step_s: int = 600,
    entity: np.ndarray | None = None, zone_min: float = 0.0, weekday: int = 0, start_minute: float = 0.0,
) -> np.ndarray:  # fmt: skip
    """Return the flags of n devices from midnight, (steps, n)."""
    codes = np.full(n, KIND[kind]) if isinstance(kind, str) else kind
    entity = np.arange(n) if entity is None else entity
    state = crowd.start(story, seed, entity, codes, zone_min, start_minute, weekday)
    return crowd.window(story, seed, state, entity, codes, 0, int(days * 86400) // step_s, step_s)[0]


def available(flags: np.ndarray) -> np.ndarray:
    """Idle, charging and on Wi-Fi."""
    return (flags & (PLUGGED | WIFI | SCREEN)) == (PLUGGED | WIFI)


@pytest.fixture(scope="module")
def law() -> np.ndarray:
    """Twenty thousand phones of the fitted law."""
    return simulate_conjunction(11, np.arange(20_000), 5)


@pytest.mark.parametrize("story", STORIES)
def test_the_conjunction_of_the_three_is_the_fitted_law(story: str, law: np.ndarray) -> None:
    """Profile, autocorrelation, devices and runs of plug AND dark AND Wi-Fi are those of the law, in every story."""
    assert DECOMPOSITIONS[story].idle_threshold_s == 0.0  # dark is idle
    found = scores(law, available(live(story, 8000, 5, step_s=1800)))

    assert found.hour_mae < 0.004
    assert np.abs(found.autocorrelation).max() < 0.015
    assert found.ks < 0.02
    assert found.on_run_h[1] == pytest.approx(found.on_run_h[0], rel=0.04)
    assert found.off_run_h[1] == pytest.approx(found.off_run_h[0], rel=0.05)


def test_the_stories_differ_in_what_the_data_leave_open() -> None:
    """Charging, Wi-Fi or the screen is what is scarce while the other two are had, as each story's name says."""
    share = {}
    for story in STORIES:
        flags = live(story, 3000, 3)
        plugged, wifi, dark = (flags & PLUGGED) > 0, (flags & WIFI) > 0, (flags & SCREEN) == 0
        share[story] = {
            "charger_limited": (wifi & dark & ~plugged).mean(),
            "wifi_limited": (plugged & dark & ~wifi).mean(),
            "screen_limited": (plugged & wifi & ~dark).mean(),
        }
    for name in STORIES:
        assert max(STORIES, key=lambda story, name=name: share[story][name]) == name


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
    st.integers(0, 59),
    st.integers(1, 60),
    st.sampled_from(STORIES),
)
def test_windows_and_chunks_change_nothing(lengths: list[int], first: int, size: int, story: str) -> None:
    """Windows of any lengths over any rows give the same bits as one window over the whole."""
    n, steps = 120, sum(lengths)
    entity, kind = np.arange(n) * 7 + 3, np.arange(n) % 5
    begin = crowd.start(story, 9, entity, kind, 60.0, 1200.0, 4)
    whole, end = crowd.window(story, 9, begin, entity, kind, 0, steps, 60)
    rows = slice(first, first + size)
    state = CrowdState(*(field[rows] for field in begin))
    parts, at = [], 0
    for length in lengths:
        flags, state = crowd.window(story, 9, state, entity[rows], kind[rows], at, length, 60)
        parts.append(flags)
        at += length

    assert np.array_equal(np.concatenate(parts), whole[:, rows])
    for field, of_whole in zip(state, end, strict=True):
        assert np.array_equal(field, of_whole[rows])


def test_long_runs_in_any_windows_and_order_are_the_same() -> None:
    """Three days by quarter hours, in reverse order of devices, equal three days at once."""
    n = 300
    entity, kind = np.arange(n), np.arange(n) % 5
    whole = live("wifi_limited", n, 3, kind=kind, step_s=60)
    back = slice(None, None, -1)
    state = crowd.start("wifi_limited", 1, entity[back], kind[back], 0.0, 0.0, 0)
    parts = []
    for at in range(0, len(whole), 15):
        flags, state = crowd.window("wifi_limited", 1, state, entity[back], kind[back], at, 15, 60)
        parts.append(flags)

    assert np.array_equal(np.concatenate(parts)[:, back], whole)


def test_a_coarser_step_sees_the_same_life() -> None:
    """Flags at ten-minute steps are every tenth of those at one minute: times do not depend on the step."""
    assert np.array_equal(live("screen_limited", 500, 1, step_s=60)[::10], live("screen_limited", 500, 1, step_s=600))


def test_the_state_given_is_left_as_it_was() -> None:
    """A window returns a new state; the old one can be used again."""
    entity, kind = np.arange(50), np.zeros(50, dtype=int)
    state = crowd.start("charger_limited", 1, entity, kind, 0.0, 0.0, 0)
    before = [field.copy() for field in state]
    once, _ = crowd.window("charger_limited", 1, state, entity, kind, 0, 1440, 60)

    assert all(np.array_equal(field, old) for field, old in zip(state, before, strict=True))
    assert np.array_equal(crowd.window("charger_limited", 1, state, entity, kind, 0, 1440, 60)[0], once)


def test_the_first_day_is_like_the_fifth() -> None:
    """A crowd begins in its stationary law: plug, screen and Wi-Fi of day one are those of day five, for every kind."""
    for kind in KIND:
        flags = live("wifi_limited", 4000, 5, kind=kind)
        for bit in (PLUGGED, SCREEN, WIFI):
            by_day = ((flags & bit) > 0).reshape(5, 6, -1, 4000).mean(axis=(2, 3))  # by four hours
            assert np.abs(by_day[0] - by_day[4]).max() < 0.03


def test_time_zones_and_starts_shift_the_day() -> None:
    """Six hours east at midnight is six in the morning, and so is a start at six."""
    home = available(live("charger_limited", 6000, 1)).mean(axis=1)
    east = available(live("charger_limited", 6000, 1, zone_min=360.0)).mean(axis=1)
    late = live("charger_limited", 6000, 1, start_minute=360.0)

    assert np.abs(east - np.roll(home, -36)).max() < 0.02
    assert np.array_equal(available(late).mean(axis=1), east)


def test_weekends_are_later() -> None:
    """With a weekend shift of three hours, Saturday's screens come on three hours later than Monday's."""
    story = replace(DECOMPOSITIONS["charger_limited"], weekend_shift_min=180.0)
    monday, saturday = (((live(story, 4000, 1, weekday=day, step_s=1800) & SCREEN) > 0).mean(axis=1) for day in (0, 5))

    # Screens cross 8 % in the morning (3 % by night, 12 % by day).
    rises = [int(np.flatnonzero(share[8:40] > 0.08)[0]) for share in (monday, saturday)]
    assert rises[1] - rises[0] == 6  # half hours


def test_flags_never_contradict_a_phase() -> None:
    """Wi-Fi implies a network; a GPU box is always on and dark; every combination seen is that of some phase."""
    for story in STORIES:
        flags = live(story, 1500, 2, kind=np.arange(1500) % 5)
        assert not ((flags & WIFI > 0) & (flags & NETWORK == 0)).any()
        allowed = set()
        for phase in PHASES.values():
            bits = PLUGGED * phase.plugged | WIFI * phase.wifi | NETWORK * phase.network
            allowed |= {bits} if phase.screen == "dark" else {bits | SCREEN}
            allowed |= {bits} if phase.screen == "free" else set()
        assert set(np.unique(flags).tolist()) <= allowed
    assert set(np.unique(live("charger_limited", 50, 2, kind="gpu_box")).tolist()) == {PLUGGED | WIFI | NETWORK}


def test_desktops_are_up_as_long_as_microsoft99() -> None:
    """Up times are Weibull 0.55, 35.3 h and down times 0.60, 9.34 h: share up, and how long downs go on."""
    flags = live("charger_limited", 4000, 30, kind="desktop", step_s=1800)
    up = (flags & PLUGGED) > 0
    mean_up, mean_down = stats.weibull_min(0.55, scale=35.3).mean(), stats.weibull_min(0.60, scale=9.34).mean()

    assert up.mean() == pytest.approx(mean_up / (mean_up + mean_down), abs=0.02)
    lengths = []
    for column in np.diff(up[:, :1000].astype(np.int8), axis=0).T:
        falls, rises = np.flatnonzero(column == -1), np.flatnonzero(column == 1)
        lengths += [(rises[rises > fall][0] - fall) / 2.0 for fall in falls if (rises > fall).any()]
    down, law = np.array(lengths), stats.weibull_min(0.60, scale=9.34)
    for low_h, high_h in ((2.0, 6.0), (6.0, 24.0), (24.0, 48.0)):
        expected = law.sf(high_h) / law.sf(low_h)
        assert (down > high_h).sum() / (down > low_h).sum() == pytest.approx(expected, abs=0.05)


def test_tables_of_lengths_have_their_means() -> None:
    """Lengths have mean 1; what is left of one, seen at any moment, has mean (1 + variance) / 2 of the table's."""
    for shape in (1.0, 0.6):
        lengths = _lengths(shape)
        assert len(lengths) == LEVELS
        assert lengths.mean() == pytest.approx(1.0)
        assert _residual(shape).mean() == pytest.approx((lengths**2).mean() / 2.0, rel=0.05)
    assert np.allclose(_residual(1.0)[:3900], _lengths(1.0)[:3900], rtol=0.03)  # the exponential forgets


def test_bouts_are_as_many_and_as_long_as_stated() -> None:
    """Bouts of a phone that is never plugged in number what the story says less the time that they take."""
    story = DECOMPOSITIONS["charger_limited"]
    law = replace(story.law, never=1.0)
    owner = replace(story.owners["phone"][0], phases={"carried on wifi": (1.0,) * 24}, mean_h={"carried on wifi": 3.0})
    still = replace(story, law=law, owners={**story.owners, "phone": (owner,)}, weekend_shift_min=0.0)
    screen = (live(still, 2000, 4, step_s=60) & SCREEN) > 0
    begins = (screen[1:] & ~screen[:-1]).sum() / 2000 / 4

    lit_min, gap_min, waking_min = 7.0, story.bout_gap_min, 17 * 60.0
    waits_min = waking_min / owner.bouts_per_day  # mean, at the mean rate of bouts
    expected = np.mean([waking_min / (waits_min / x + lit_min + gap_min) for x in np.linspace(0.4, 1.6, 101)])
    assert begins == pytest.approx(expected, rel=0.06)
    assert screen.sum() / 2000 / 4 / begins == pytest.approx(lit_min, rel=0.06)
    assert MIN_PHASE_S == 600


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decomposition": "wish"}, "decomposition is 'wish'; allowed: charger_limited"),
        ({"kind_code": np.array([0, 7])}, r"kind_code\[1\] is 7; allowed: 0 to 4"),
        ({"zone_min": np.array([0.0, np.nan])}, r"zone_min\[1\] is nan"),
        ({"weekday": 7}, "weekday is 7"),
        ({"start_minute": -1.0}, r"start_minute\[0\] is -1"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], message: str) -> None:
    """What is wrong is said with its row and what is allowed."""
    given_: dict[str, object] = {
        "decomposition": "charger_limited", "seed": 1, "entity": np.arange(2), "kind_code": np.zeros(2, dtype=int),
        "zone_min": 0.0, "start_minute": 0.0, "weekday": 0,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        crowd.start(**{**given_, **change})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="whole seconds"):
        crowd.window("charger_limited", 1, None, np.arange(2), None, 0, 15, 0.5)  # type: ignore[arg-type]
