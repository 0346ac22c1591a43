"""The words of the check language: each holds on the history beside the one that breaks it, and names what broke it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from zlib import crc32

import pytest

from policies.consensus.messages import Chosen, Elected, Restored
from policies.consensus.raft.log import Log
from policies.wire import encode
from scenarios.checks import AtMost, Check, Checks, Each, Ends, Happens, InOrder, Same, Sometimes, decided, told
from scenarios.checks.consensus import CommittedStays, commits_in_order

ELECTED = decided("consensus", "leader", Elected)
BEGUN, ENDED, HEALED = told("begun"), told("ended"), told("healed")


def feed(check: Check, *history: tuple[int, str, str, Any]) -> Check:
    """Tell a check (time, node, kind, value) in order, then that the run is over."""
    checks = Checks(check)
    for now, node, kind, value in history:
        if kind == "leader":
            checks.decided(now, node, "consensus", "leader", encode(Elected(value)))
        elif kind == "restart":
            checks.restarted(node)
        else:
            checks.tell(now, node, kind, value)
    checks.end(99)
    return check


def test_each_check_hears_an_announcement_as_what_it_takes_it_for() -> None:
    """Two that decode the same announcement in different ways each get their own; the first one's is returned."""
    heard: list[Any] = []
    plain = decided("consensus", "leader", list)
    says = {"key": lambda e: heard.append(e.value), "value": lambda e: e.value, "says": lambda e, first: "never"}
    checks = Checks(Same("typed", ELECTED, **says), Same("plain", plain, **says), Same("again", ELECTED, **says))
    value = checks.decided(1, "a", "consensus", "leader", encode(Elected(7)))

    assert value == Elected(7)
    assert heard.count(Elected(7)) == 2
    assert [each for each in heard if isinstance(each, list)] == [["elected", 7]]
    assert [check.events for check in checks.checks] == [1, 1, 1]


def same() -> Check:
    """One leader a term."""
    return Same("same", ELECTED, key=lambda e: e.value.term, value=lambda e: e.node, says=lambda e, f: f"not {f}")


def each() -> Check:
    """No number above 3."""
    return Each("each", BEGUN, wrong=lambda e: f"{e.value} > 3" if e.value > 3 else "")


def in_order() -> Check:
    """Numbers in order."""
    return InOrder("in order", BEGUN, number=lambda e: int(e.value), says="says")


def at_most() -> Check:
    """At most 3."""
    return AtMost("at most", BEGUN, amount=lambda e: e.value, limit=3, says="holds")


def ends() -> Check:
    """What begins ends."""
    return Ends("ends", BEGUN, ENDED, key=lambda e: e.value)


def happens() -> Check:
    """Two ends after healing."""
    return Happens("happens", ENDED, after=HEALED, times=2, says="it ended")


CASES = [
    (
        same,
        [(1, "a", "leader", 1), (2, "b", "leader", 2)],
        [(1, "a", "leader", 1), (2, "b", "leader", 1)],
        "t=2ns: not a",
    ),
    (each, [(1, "a", "begun", 3)], [(1, "a", "begun", 3), (4, "b", "begun", 9), (5, "c", "begun", 8)], "t=4ns: 9 > 3"),
    (
        in_order,
        [(1, "a", "begun", 1), (2, "b", "begun", 1), (3, "a", "restart", 0), (4, "a", "begun", 1)],
        [(1, "a", "begun", 1), (2, "a", "begun", 3)],
        "t=2ns: a says 3 after 1",
    ),
    (at_most, [(1, "a", "begun", 3)], [(1, "a", "begun", 4)], "t=1ns: a: holds 4, at most 3"),
    (
        ends,
        [(1, "a", "begun", "x"), (2, "b", "ended", "x"), (3, "a", "begun", "x"), (4, "b", "ended", "y")],
        [(1, "a", "begun", "x"), (2, "b", "begun", "y"), (3, "b", "ended", "x")],
        "t=99ns: y began at t=2ns on b and has not ended",
    ),
    (
        happens,
        [(1, "", "healed", 0), (2, "a", "ended", 0), (3, "a", "ended", 0)],
        [(1, "a", "ended", 0), (2, "", "healed", 0), (3, "a", "ended", 0)],
        "t=99ns: it ended 1 times, expected at least 2",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("make", "good", "bad", "why"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_word_holds_on_one_history_and_names_the_first_event_of_the_other(
    make: Any, good: list[Any], bad: list[Any], why: str
) -> None:
    """The same word, asked of two histories that differ in one thing."""
    held, broke = feed(make(), *good), feed(make(), *bad)

    assert (held.holds, held.broken) == (True, "")
    assert (broke.holds, broke.broken) == (False, why)
    assert held.events > 0


def test_something_rare_is_no_breach_and_is_remembered() -> None:
    """A run in which it did not happen breaks nothing."""
    rare = Sometimes("rare", ELECTED, when=lambda e: e.value.term > 1)
    checks = Checks(rare)
    assert checks.sometimes == {"rare": False}
    checks.decided(1, "a", "consensus", "leader", encode(Elected(2)))
    checks.end(2)

    assert checks.sometimes == {"rare": True}
    assert checks.all == []
    assert checks.first_broken is None


def test_liars_announcements_count_for_nothing() -> None:
    """Only what honest nodes announce is asked about; the world's own word always is."""
    check = same()
    checks = Checks(check, honest=("a",))
    for node in ("a", "b"):
        checks.decided(1, node, "consensus", "leader", encode(Elected(1)))

    assert (check.holds, check.events) == (True, 1)


def test_the_first_breach_in_time_comes_first() -> None:
    """Of several broken promises the one that broke first is the run's."""
    one, other = each(), at_most()
    checks = Checks(one, other)
    checks.tell(5, "a", "begun", 9)

    assert checks.first_broken is one
    other.broken_ns = 3
    assert checks.first_broken is other


def raft(log: tuple[tuple[int, bytes], ...] = ((1, b"x"), (1, b"y")), start: int = 0, **fields: Any) -> Any:
    """Return the part of a member's state that is looked at; a snapshot holds its log up to ``start``."""
    usual = {"term": 1, "commit": 2, "role": "follower", "log": Log()}
    usual["log"].extend(log)
    usual["log"].compact(start)
    return SimpleNamespace(**(usual | fields))


LOOKS = [
    ([{"a": raft()}, {"a": raft(commit=1)}], "a was at term 1, commit 2; is at 1, 1 of 2"),
    ([{"a": raft()}, {"a": raft(log=((1, b"x"), (2, b"z")))}], f"a holds {(2, crc32(b'z'))} at committed index 2"),
    ([{"a": raft(), "b": raft(log=((1, b"x"), (1, b"z")))}], "b holds"),
    ([{"a": raft(), "b": raft(role="leader", term=2, commit=0, log=())}], "b leads term 2 without committed index 2"),
    ([{"a": raft()}, {"a": raft(commit=3)}], "is at 1, 3 of 2"),
]


@pytest.mark.parametrize(("looks", "why"), LOOKS)
def test_what_a_member_has_committed_stays(looks: list[dict[str, Any]], why: str) -> None:
    """A log that changes under its commit index, a commit that goes back, a leader without it: each is named."""
    check = CommittedStays()
    checks = Checks(check)
    for states in looks:
        checks.look(1, tuple(states), lambda node, path, states=states: states[node])

    assert why in check.broken


def test_what_a_snapshot_holds_is_not_looked_at() -> None:
    """A member may forget what it committed, or never have had it; a leader owes only what its snapshot lacks."""
    check = CommittedStays()
    checks = Checks(check)
    for states in ({"a": raft()}, {"a": raft(start=2)}, {"b": raft(start=2, role="leader", term=2)}):
        checks.look(1, tuple(states), lambda node, path, states=states: states[node])

    assert check.holds


def test_a_snapshot_is_a_place_to_go_on_from() -> None:
    """Commits go on after the index of a snapshot, which never takes a member back."""
    check = commits_in_order()
    checks = Checks(check)
    for index in (1, 2):
        checks.decided(1, "a", "consensus", "commit", encode(Chosen(index, 1, 0)))
    checks.decided(2, "a", "consensus", "restore", encode(Restored(7, 1)))
    checks.decided(3, "a", "consensus", "commit", encode(Chosen(8, 1, 0)))
    assert check.holds

    checks.decided(4, "a", "consensus", "restore", encode(Restored(5, 1)))
    assert check.broken == "t=4ns: a goes back to a snapshot of index 5 after 8"


def test_a_restarted_member_finds_its_commit_index_again() -> None:
    """Commit indices are volatile, and so is a term that was not durable yet."""
    check = CommittedStays()
    checks = Checks(check)
    checks.look(1, ("a",), lambda node, path: raft())
    checks.restarted("a")
    checks.look(2, ("a",), lambda node, path: raft(commit=0))

    assert check.holds


def test_a_paused_leader_owes_nothing_to_what_was_chosen_after_it() -> None:
    """Members of a newer term chose without it, and restarted since: its log may be short."""
    check = CommittedStays()
    checks = Checks(check)
    states = {"a": raft(role="leader", term=2, commit=0, log=()), "b": raft(term=3)}
    checks.look(1, ("a", "b"), lambda node, path: states[node])
    checks.restarted("b")
    checks.look(2, ("a",), lambda node, path: states[node])

    assert check.holds
