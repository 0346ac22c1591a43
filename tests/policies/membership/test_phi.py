"""Phi accrual: its mathematics against scipy and numpy, and groups that use it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from policies import port as p
from policies.config import PhiConfig
from policies.membership import PhiAccrual
from policies.membership.messages import ALIVE, Heartbeat
from policies.membership.phi import Intervals
from policies.port import NS_PER_S
from policies.wire import encode
from tests.policies.membership.groups import ROUGH, Group

FAST = PhiConfig(heartbeat_s=0.2, std_min_s=0.02, pause_s=0.4)
EXACT = PhiConfig(window=8, std_min_s=1e-6, pause_s=0.0)


@given(st.lists(st.integers(1, 10**11), min_size=1, max_size=40))
def test_mean_and_deviation_are_those_of_the_window(intervals: list[int]) -> None:
    """Exact sums, whatever was forgotten: numpy says the same of the last eight."""
    seen = Intervals(EXACT)
    for interval in intervals:
        seen.add(interval)
    last = [750_000_000, 1_250_000_000, *intervals][-8:]

    mean, std = seen.mean_std()
    assert mean == pytest.approx(np.mean(last), rel=1e-12)
    assert std == pytest.approx(max(np.std(last), 1_000), rel=1e-6, abs=1_000)


@given(st.floats(0.0, 5.0))
def test_phi_is_the_logarithm_of_a_normal_tail(silence_s: float) -> None:
    """Equation 4 of the paper, with scipy's survival function."""
    seen = Intervals(EXACT)
    mean, std = seen.mean_std()
    expected = -norm.logsf(silence_s * NS_PER_S, mean, std) / np.log(10)

    assert seen.phi(silence_s * NS_PER_S) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("phi", [0.5, 1.0, 3.0, 8.0, 16.0])
def test_the_silence_for_a_phi_has_that_phi(phi: float) -> None:
    """The timer fires where the accrued suspicion crosses the threshold."""
    seen = Intervals(EXACT)

    assert seen.phi(seen.silence_ns(phi)) == pytest.approx(phi, rel=1e-6)


def test_a_death_before_a_suspicion_is_refused() -> None:
    """The thresholds are in order."""
    with pytest.raises(ValueError, match=r"dead_phi=1\.0: expected >= suspect_phi=3\.0"):
        PhiAccrual(PhiConfig(dead_phi=1.0), ("a",))


@pytest.mark.parametrize("n", [2, 8])
def test_a_crash_is_seen_by_all_as_soon_as_the_silence_is_surprising(n: int) -> None:
    """Suspicion and verdict come when their phi says so, after the last heartbeat, and nobody else is accused."""
    group = Group(FAST, n)
    group.run(10)
    group.crash("n0")
    group.run(5)
    since = group.detector("n1").last["n0"]
    intervals = group.detector("n1").intervals["n0"]

    for status, phi in (("suspect", FAST.suspect_phi), ("dead", FAST.dead_phi)):
        seen = group.seen(status)
        assert {(who, whom) for _, who, whom in seen} == {(who, "n0") for who in group.names[1:]}
        at_s = next(time_s for time_s, who, _ in seen if who == "n1")
        assert at_s == pytest.approx((since + intervals.silence_ns(phi)) / NS_PER_S, abs=0.01)


def test_the_longest_pauses_seen_make_a_member_more_patient() -> None:
    """Irregular heartbeats raise the deviation and with it the time to the same phi: the detector adapts."""
    calm, rough = Group(FAST, 4), Group(FAST, 4, network=ROUGH)
    for group in (calm, rough):
        group.run(20)
    silences = [group.detector("n1").intervals["n2"].silence_ns(8.0) for group in (calm, rough)]

    assert silences[1] > 1.5 * silences[0]


def test_halves_and_lives_are_found_again() -> None:
    """After a partition and after a restart all are alive to all; the outage is no interval between heartbeats."""
    group = Group(FAST, 6)
    group.run(5)
    before = group.detector("n0").intervals["n5"].mean_std()[0]
    group.cluster.partition(["n0", "n1", "n2"])
    group.run(10)
    assert group.views("n0", "n2") == {("n0", "n1", "n2")}
    group.cluster.heal()
    group.crash("n4")
    group.run(3)
    group.restart("n4")
    group.run(3)

    assert group.views() == {group.names}
    assert group.detector("n0").intervals["n5"].mean_std()[0] == pytest.approx(before, rel=0.05)


def test_strangers_join_up_to_the_bound() -> None:
    """Who was not expected is taken in by its heartbeat, while there is room."""
    group = Group(PhiConfig(heartbeat_s=0.2, members_max=3), 6, known=1)
    group.run(2)

    assert len(group.detector("n0").alive()) == 4  # three peers and itself


def test_a_heartbeat_of_an_earlier_life_that_comes_late_is_not_heard() -> None:
    """The incarnation that watchers are told never falls."""
    group = Group(FAST, 3)
    group.run(1)
    group.crash("n1")
    group.restart("n1")
    group.run(1)
    group.cluster.world.give(group.cluster.world.by_name["n0"], (p.MESSAGE, "", "n1", encode(Heartbeat(1, 0))))

    assert group.detector("n0").table.entries["n1"] == (2, ALIVE)


def test_a_member_that_lost_its_disk_begins_after_its_last_life() -> None:
    """It counts its lives from one again; the others tell it which of them they last heard, and trust it again."""
    group = Group(FAST, 3)
    for _ in range(3):
        group.run(2)
        group.crash("n1")
        group.restart("n1")
    group.run(2)
    group.crash("n1")
    group.cluster.world.by_name["n1"].disk.replace(b"")
    group.run(6)
    assert group.views("n0", "n2") == {("n0", "n2")}
    group.restart("n1")
    group.run(2)

    assert group.views() == {group.names}
    assert {group.detector(name).table.entries["n1"] for name in ("n0", "n2")} == {(5, ALIVE)}
    group.crash("n1")
    group.restart("n1")
    group.run(2)
    assert group.detector("n0").table.entries["n1"] == (6, ALIVE)


@pytest.mark.parametrize("last", [2**62, 2**21])
def test_a_member_whose_lives_somebody_exhausts_goes_on(last: int) -> None:
    """Told that it lived so often, it does not count on from there; who says so of itself may begin anew."""
    group = Group(FAST, 3)
    group.run(2)
    for to, said in (("n0", Heartbeat(1, last)), ("n2", Heartbeat(last, 1))):
        group.cluster.world.give(group.cluster.world.by_name[to], (p.MESSAGE, "", "n1", encode(said)))
    group.run(6)

    assert group.views() == {group.names}
    assert group.detector("n0").incarnation == 1
    assert group.detector("n2").table.entries["n1"] == (1, ALIVE)


def test_a_heartbeat_of_no_life_is_malformed() -> None:
    """Lives are counted from one: a stranger's that has none began no intervals, and stopped whoever heard it."""
    group = Group(FAST, 3, known=2)
    group.cluster.world.give(group.cluster.world.by_name["n0"], (p.MESSAGE, "", "stranger", encode(Heartbeat(0, 0))))
    group.run(8)

    assert group.views() == {group.names}
