"""Who sits, as a device without a log believes it: one correct member of the committee it knew has to say so."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies import port as p
from policies.cell import Cell
from policies.coordination.attempts import TERM_SHIFT, reign
from policies.port import NS_PER_S
from policies.seats import InOffice, Seats
from policies.serving import Worker
from policies.wire import encode
from policies.work import NotLeader
from sim.keys import KeyRing
from tests.policies.small_village import LEND, Lender
from tests.policies.test_worker import FULL

FOUNDERS = ("a", "b", "c", "d")
NEXT, LATER = InOffice(1, ("b", "c", "d", "e")), InOffice(2, ("c", "d", "e", "f"))


def test_one_member_is_not_believed_and_two_of_four_are() -> None:
    """f + 1 = 2: one of them may be the liar, both are not."""
    seats = Seats(FOUNDERS)

    assert not seats.hear("a", NEXT)
    assert not seats.hear("a", NEXT)  # however often
    assert seats.members == FOUNDERS
    assert seats.hear("c", NEXT)
    assert (seats.epoch, seats.members) == (1, NEXT.members)


def test_liars_and_strangers_seat_nobody() -> None:
    """A liar's committee, a stranger's word and two members who disagree change nothing."""
    seats = Seats(FOUNDERS)
    cabal = InOffice(9, ("x", "y", "z", "a"))

    for sender in ("a", "x", "y", "z"):
        assert not seats.hear(sender, cabal)
    assert not seats.hear("b", NEXT)
    assert not seats.hear("c", LATER)
    assert seats.members == FOUNDERS


def test_epochs_may_be_skipped_and_never_come_back() -> None:
    """Who slept is told by the old members, who keep the log as learners; an older committee is no news."""
    seats = Seats(FOUNDERS)

    assert not seats.hear("a", LATER)
    assert seats.hear("b", LATER)
    assert seats.members == LATER.members
    assert not any(seats.hear(name, NEXT) for name in LATER.members)
    assert not seats.install(InOffice(2, ("q",)))


def test_what_a_member_said_earlier_and_comes_late_takes_nothing_back() -> None:
    """Of each member the newest word counts, in whatever order they come."""
    seats = Seats(FOUNDERS)

    assert not any(seats.hear("a", said) for said in (LATER, NEXT))
    assert seats.hear("b", LATER)


def test_one_of_three_is_believed_where_members_only_crash() -> None:
    """f = 0 of three: each member is correct."""
    assert Seats(("a", "b", "c")).hear("b", InOffice(1, ("b", "c", "d")))


NAMES = st.lists(st.sampled_from("abcdxy"), max_size=6)


@given(st.lists(st.tuples(st.sampled_from("abcxy"), st.integers(-1, 3), NAMES)))
def test_what_f_liars_say_alone_is_not_believed(said: list[tuple[str, int, list[str]]]) -> None:
    """Whatever a liar and strangers say, before and after one correct member: its word or the founders."""
    seats = Seats(FOUNDERS)
    for sender, epoch, members in said:
        if sender in ("a", "x", "y"):
            seats.hear(sender, InOffice(epoch, tuple(members)))
        else:
            seats.hear(sender, NEXT)
    assert seats.members in (FOUNDERS, NEXT.members)
    assert len(seats.claims) <= len(FOUNDERS)


def test_a_worker_remembers_on_its_disk_who_sat_last() -> None:
    """The founders may all be gone when it starts again: it asks those whom it knew last, and nobody else."""

    def cell() -> Cell:
        policies = {"harvest": Lender(), "worker": Worker(("a", "b", "c", "d"), FULL, 60.0)}
        return Cell(policies, "w", ("a",), seed=1, keys=KeyRing(1).handle("w"))

    first, saved = cell(), {}
    first.step(0, 0, (p.START, "", {}, 0))
    for sender in ("c", "d"):
        for effect in first.step(1, 1, (p.MESSAGE, "worker", sender, encode(LATER))):
            if effect[0] == p.SAVE:
                saved.update(effect[3])
    second = cell()
    second.step(2, 2, (p.START, "", saved, 1))
    said = second.step(2, 2, (p.REQUEST, "harvest", "", "", encode(LEND)))

    assert [effect[2].removesuffix("/coordination") in LATER.members for effect in said if effect[0] == p.SEND] == [
        True
    ]
    assert second.policy("worker").seats.members == LATER.members  # type: ignore[attr-defined]


def test_a_worker_that_is_pointed_beyond_the_committee_it_knows_holds_back() -> None:
    """The hint leads a committee that it has not heard of, or was just voted out: to ask at once would be a storm."""
    worker = Worker(("a", "b", "c", "d"), FULL, 60.0)
    cell = Cell({"harvest": Lender(), "worker": worker}, "w", ("a",), seed=1, keys=KeyRing(1).handle("w"))
    cell.step(0, 0, (p.START, "", {}, 0))
    cell.step(0, 0, (p.REQUEST, "harvest", "", "", encode(LEND)))

    def pointed(to: str) -> float:
        said = cell.step(9, 9, (p.MESSAGE, "worker", worker.leader, encode(NotLeader(to))))
        return next(effect[3] - 9 for effect in said if effect[0] == p.SET_TIMER) / NS_PER_S

    assert pointed("x") == 7.5  # a quarter of what is between two renewals
    other = "a" if worker.leader != "a" else "b"
    assert pointed(other) == 0.0
    assert sorted(pointed("b" if worker.leader == "a" else "a") for _ in range(8)) == [0.0] * 7 + [7.5]


@given(st.integers(0, (1 << 19) - 1), st.integers(0, (1 << 24) - 2))
def test_a_reign_grows_with_the_term_and_leaves_room_for_a_count(epoch: int, term: int) -> None:
    """Numbers of attempts fit a signed integer of 64 bits in any epoch, and terms of Raft are their own reign."""
    of = (epoch << 32) + term

    assert (reign(of) << TERM_SHIFT) + (1 << TERM_SHIFT) - 1 < 1 << 63
    assert reign(of) < reign(of + 1) < reign((epoch + 1) << 32)
    assert reign(term) == term
