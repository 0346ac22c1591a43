"""The pacemaker: when a leader is given up, how long the next one has, and who follows whom."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies.config import HotstuffConfig
from policies.consensus.hotstuff.messages import Certificate, TimeOut, TimeOutCertificate
from policies.consensus.hotstuff.pacemaker import Pacemaker
from policies.port import NS_PER_S

CONFIG = HotstuffConfig(timeout_s=1.0, timeout_factor=2.0, timeout_max_s=10.0, heartbeat_s=0.5, tenure=4)
MEMBERS = ("a", "b", "c", "d")
QC = Certificate(0, 0, b"", ())


def time_out(term: int) -> TimeOut:
    """Return a time-out."""
    return TimeOut(0, term, QC, b"", (0, b"", b"", b""))


def after(seconds: float) -> int:
    """Return nanoseconds."""
    return int(seconds * NS_PER_S)


def test_time_outs_double_with_each_leader_given_up_and_stop_at_the_bound() -> None:
    """1, 2, 4, 8, 10, 10 s: the same at every member, without a draw."""
    pace, waits = Pacemaker(CONFIG, 1), []
    for term in range(6):
        waits.append(pace.timeout_ns / NS_PER_S)
        tc = TimeOutCertificate(0, term, (), QC)
        assert pace.enter(pace.entered_by(tc), tc, 0)

    assert waits == [1, 2, 4, 8, 10, 10]


def test_time_outs_come_down_only_as_far_as_blocks_are_certified_quickly() -> None:
    """Four doublings up, the two-chain's three round trips must fit into half a time-out: 0.5 s each keep 4 s."""
    slow, quick = Pacemaker(CONFIG, 1), Pacemaker(CONFIG, 1)
    for _ in range(4):
        slow.lengthen()
        quick.lengthen()
    for _ in range(10):
        slow.certified(after(0.5))
        quick.certified(after(0.1))

    assert (slow.timeout_ns, quick.timeout_ns) == (after(4), after(1))


def test_a_leader_is_given_up_for_stalling_for_starving_or_for_silence() -> None:
    """One time-out without a commit, two although others are served, one and two heartbeats without a word."""
    pace = Pacemaker(CONFIG, 1)

    assert pace.deadline(None, None) == after(2.0)  # silence
    assert pace.deadline(0, None) == after(1.0)  # what came at 0 waits, and nothing is committed
    assert pace.deadline(None, after(0.5)) == after(1.5)  # a block stays unfinished since 0.5 s
    pace.heard_ns = after(10)
    pace.moved_ns = after(1.9)
    assert pace.deadline(0, None) == after(2.0)  # commits go on without it
    pace.give_up(0, after(2.0))
    assert pace.deadline(0, None) == after(3.0)  # said again


@given(
    since=st.tuples(*[st.none() | st.integers(0, after(30))] * 2), heard=st.integers(0, after(9)),
    moved=st.integers(0, after(30)), given_up=st.booleans(), backoff=st.integers(0, 4),
)  # fmt: skip
def test_no_deadline_is_before_the_earliest(
    since: tuple[int | None, int | None], heard: int, moved: int, given_up: bool, backoff: int
) -> None:
    """Whatever waits since when, a leader has one time-out from the start of its term."""
    pace = Pacemaker(CONFIG, 1)
    for _ in range(backoff):
        pace.lengthen()
    pace.enter(8, None, after(10))
    pace.heard_ns, pace.moved_ns = after(10) + heard, moved
    if given_up:
        pace.give_up(pace.term, after(10))

    assert pace.deadline(*since) >= pace.earliest_ns


def test_a_view_is_entered_once_and_never_left_for_an_older_one() -> None:
    """Certificates of older views change nothing."""
    pace = Pacemaker(CONFIG, 1)

    assert pace.enter(9, None, 0)
    assert not pace.enter(9, None, 0)
    assert not pace.enter(8, TimeOutCertificate(0, 1, (), QC), 0)
    assert (pace.view, pace.term, pace.backoff) == (9, 2, 0)


def test_f_plus_one_time_outs_are_joined_and_f_are_not() -> None:
    """One of four may lie; the second voice is a correct member's or has one beside it."""
    pace = Pacemaker(CONFIG, 1)
    pace.add("b", time_out(1_000_000))
    assert pace.to_join(MEMBERS) is None

    pace.add("c", time_out(2))
    assert pace.to_join(MEMBERS) == 2
    pace.give_up(2, 0)
    assert pace.to_join(MEMBERS) is None


def test_a_flood_of_terms_to_come_takes_one_place() -> None:
    """A member's newest time-out replaces its older ones."""
    pace = Pacemaker(CONFIG, 1)
    for term in range(10_000):
        pace.add("b", time_out(term))

    assert len(pace.time_outs) == 1
