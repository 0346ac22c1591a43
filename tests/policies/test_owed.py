"""What a leader owes, watched: overdue requests, and patience that doubles."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies.commands import Accept
from policies.coordination.owed import ASKED_MAX, DOUBLINGS_MAX, REFUSED_MAX, Owed
from policies.port import NS_PER_S

SETTLE_S = 8


def accept(op_id: str, deadline_s: int = 60) -> Accept:
    """Return a request that was accepted at wall time 1,000 s."""
    wall = 1000 * NS_PER_S
    return Accept("anna", op_id, "m", "p", "k1", 3, 4, 2, wall, wall + deadline_s * NS_PER_S)


def overdue_from(owed: Owed, now_s: int) -> int:
    """Return the first whole second from ``now_s`` on at which the leader is given up."""
    return next(s for s in range(now_s, 10**7) if owed.give_up(s * NS_PER_S))


def test_nothing_is_overdue_while_nothing_is_owed() -> None:
    """However long ago the last answer was."""
    owed = Owed(SETTLE_S * NS_PER_S)
    assert not owed.give_up(1 << 60)
    owed.accepted(accept("1"), 0)
    owed.settled(("anna", "1"), True, NS_PER_S)

    assert not owed.give_up(1 << 60)


def test_a_leader_that_answers_nothing_is_given_up_after_the_patience_and_the_next_after_twice_that() -> None:
    """It counts from when something came to be owed, from the last answer, and from a leader's beginning."""
    owed = Owed(SETTLE_S * NS_PER_S)
    owed.accepted(accept("1", 10**8), 100 * NS_PER_S)
    assert overdue_from(owed, 100) == 108
    owed.settled(("anna", "0"), True, 105 * NS_PER_S)
    assert overdue_from(owed, 105) == 113

    owed.new_leader(113 * NS_PER_S)
    owed.new_leader(114 * NS_PER_S)  # for the log's own reasons
    assert overdue_from(owed, 114) == 114 + 16
    owed.new_leader(150 * NS_PER_S)
    assert overdue_from(owed, 150) == 150 + 32
    for day in range(1, 20):
        owed.give_up(day * 100_000 * NS_PER_S)
        owed.new_leader(day * 100_000 * NS_PER_S)
    assert overdue_from(owed, 1_900_000) == 1_900_000 + SETTLE_S * 2**DOUBLINGS_MAX
    for _ in range(DOUBLINGS_MAX + 3):
        owed.settled(("anna", "0"), True, 1_910_000 * NS_PER_S)
    assert overdue_from(owed, 1_910_000) == 1_910_008


def test_a_leader_that_refuses_all_before_their_deadlines_is_given_up() -> None:
    """After eight in a row, though nothing is owed any more; one answer among them, and they count anew."""
    owed = Owed(SETTLE_S * NS_PER_S)

    def refuse(count: int, answered: bool = False) -> None:
        for number in range(count):
            owed.accepted(accept(str(number)), NS_PER_S)
            owed.settled(("anna", str(number)), answered, NS_PER_S)

    refuse(REFUSED_MAX - 1)
    assert not owed.give_up(1 << 60)
    refuse(1, answered=True)
    refuse(REFUSED_MAX - 1)
    assert not owed.give_up(1 << 60)
    refuse(1)
    assert overdue_from(owed, 1) == 1 + SETTLE_S
    owed.new_leader(20 * NS_PER_S)
    assert not owed.give_up(1 << 60)


def test_requests_refused_at_their_deadlines_are_nobodys_fault() -> None:
    """A village without workers can do no more."""
    owed = Owed(SETTLE_S * NS_PER_S)
    for number in range(2 * REFUSED_MAX):
        owed.accepted(accept(str(number)), 0)
        owed.settled(("anna", str(number)), False, 60 * NS_PER_S)

    assert not owed.give_up(1 << 60)


def test_a_refusal_calms_nobody() -> None:
    """A leader that refuses what it need not work for has answered nothing."""
    owed = Owed(SETTLE_S * NS_PER_S)
    owed.accepted(accept("1"), 0)
    owed.accepted(accept("2"), 0)
    owed.settled(("anna", "2"), False, 7 * NS_PER_S)

    assert overdue_from(owed, 0) == 8


def test_a_request_that_a_leader_starves_while_it_answers_others_is_overdue_after_its_deadline() -> None:
    """By what the log says of it, or by what its client said here, if that is earlier."""
    owed = Owed(SETTLE_S * NS_PER_S)
    owed.expect(("anna", "2"), 5 * NS_PER_S, 0)
    owed.accepted(accept("1", 60), 0)
    owed.accepted(accept("2", 10_000), 0)

    def answering(until_s: int) -> int:
        for second in range(until_s):
            owed.settled(("bert", str(second)), True, second * NS_PER_S)
            if owed.give_up(second * NS_PER_S):
                return second
        return -1

    assert answering(200) == 5 + SETTLE_S
    assert owed.settled(("anna", "2"), True, 13 * NS_PER_S)
    assert answering(200) == 60 + SETTLE_S


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 40), st.integers(0, SETTLE_S - 1)), min_size=1, max_size=12)
)
def test_a_leader_that_answers_within_the_patience_or_refuses_at_the_deadline_is_never_given_up(
    given_: list[tuple[int, int, int]],
) -> None:
    """One request a time, each settled before anybody may complain."""
    owed, now = Owed(SETTLE_S * NS_PER_S), 0
    for pause, deadline_s, took_s in given_:
        now += pause
        key = ("anna", str(now))
        owed.accepted(accept(str(now), deadline_s), now * NS_PER_S)
        for _ in range(took_s):
            assert not owed.give_up(now * NS_PER_S)
            now += 1
        assert not owed.give_up(now * NS_PER_S)
        owed.settled(key, True, now * NS_PER_S)
        now += 1


def test_what_is_remembered_of_clients_is_bounded() -> None:
    """The oldest is forgotten."""
    owed = Owed(SETTLE_S * NS_PER_S)
    for number in range(2 * ASKED_MAX):
        owed.expect(("anna", str(number)), NS_PER_S, 0)

    assert len(owed.asked) == ASKED_MAX
