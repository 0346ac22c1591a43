"""Each promise of agreement holds on a small history and breaks on the one beside it, and says who broke it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import pytest

from policies.consensus.messages import Chosen, Elected
from policies.port import NS_PER_S
from policies.wire import encode
from scenarios.checks import Check, Checks, bounds, byzantine, histories, logs, progress, told
from scenarios.checks.linear_models import REGISTER
from scenarios.checks.votes import HOTSTUFF, PBFT, RAFT

NAMES = ("a", "b", "c", "d")
CHOSEN_X = ("a", "commit", Chosen(1, 1, crc32(b"x")))
HEALED = ("", "healed", None)
Step = tuple[str, str, Any]
"""Node, kind, value; a value of kind ``look`` is the members' states."""


def feed(check: Check, *steps: Step) -> Check:
    """Tell a check one step a second, then that the run is over."""
    checks = Checks(check)
    for second, (node, kind, value) in enumerate(steps):
        now = second * NS_PER_S
        if kind == "said":
            to, *message = value
            checks.said(now, node, "consensus", to, encode(message))
        elif kind == "look":
            checks.look(now, NAMES, lambda name, path, at=value: at.get(name))  # type: ignore[misc]
        elif kind == "crash":
            checks.restarted(node)
        elif kind in ("commit", "leader", "evidence", "restore"):
            checks.decided(now, node, "consensus", kind, encode(value))
        else:
            checks.tell(now, node, kind, value)
    checks.end(len(steps) * NS_PER_S)
    return check


class Log:
    """A member's log as others see it: ``start`` entries in a snapshot, and those after it."""

    def __init__(self, entries: Sequence[tuple[int, bytes]], start: int = 0) -> None:
        self.entries, self.start, self.last = entries, start, start + len(entries)

    def entry(self, index: int) -> tuple[int, bytes]:
        """Return an entry."""
        return self.entries[index - self.start - 1]


def member(*terms: int, commit: int = 0, start: int = 0, **other: Any) -> Any:
    """A member whose log has entries of these terms, each with its term as its command."""
    log = Log([(term, b"%d" % term) for term in terms], start)
    state = {"term": max(terms, default=0), "applied": commit, "durable": log.last, **other}
    return SimpleNamespace(log=log, commit=commit, **state)


def looks(*states: dict[str, Any]) -> tuple[Step, ...]:
    """Looks at these states in turn."""
    return tuple(("", "look", state) for state in states)


def vote(node: str, *message: Any, to: str = "b") -> Step:
    """A message that a node sends."""
    return (node, "said", (to, *message))


def qc(view: int, *signers: str) -> list[Any]:
    """A certificate of HotStuff."""
    return ["qc", 0, view, b"block %d" % view, [[name, b"signature"] for name in signers]]


def proposal(node: str, view: int, parent: int) -> Step:
    """A proposal of HotStuff, built on the block of view ``parent``."""
    return vote(node, "proposal", ["block", 0, view, view, qc(parent, "a", "b", "c"), []], None, b"signature")


def ballots(node: str, view: int) -> Step:
    """A vote of HotStuff for the block of a view."""
    return vote(node, "vote", 0, view, b"block %d" % view, b"signature")


def other_entry() -> Any:
    """A member whose second entry has the others' term and another command."""
    odd = member(1, 1)
    odd.log.entries[1] = (1, b"other")
    return odd


CASES: dict[str, tuple[Any, tuple[Step, ...], tuple[Step, ...], str]] = {
    "S2": (
        logs.OnlyWhatWasAskedFor,
        (("", "proposed", b"x"), CHOSEN_X, ("a", "commit", Chosen(2, 1, crc32(b"")))),
        (("", "proposed", b"y"), CHOSEN_X),
        "which nobody asked for",
    ),
    "S6": (
        logs.LogsMatch,
        looks(
            {"a": member(1, 1, 2), "b": member(1, 3)},
            {"a": member(1, 1, 2, 2, commit=3), "c": member(2, 2, start=2)},
        ),
        looks({"a": member(1, 1), "b": other_entry()}),
        "b and a hold different logs up to index 2, term 1",
    ),
    "S6, before it": (
        logs.LogsMatch,
        looks({"a": member(1, 3), "b": member(2, 4)}),
        looks({"a": member(1, 1, 3), "b": member(1, 2, 3)}),
        "up to index 3, term 3",
    ),
    "S8": (
        lambda: logs.CommittedIsDurable(NAMES[:3]),
        looks({"a": member(1, 1, commit=2), "b": member(1, 1), "c": member(1)}, {"a": member(1, 1, commit=2)}),
        looks({"a": member(1, 1, commit=2), "b": member(1, 1, durable=1), "c": member(1)}),
        "a knows index 2 committed, and b, c do not hold it durably",
    ),
    "S10": (
        logs.StateInOrder,
        (*looks({"a": member(1, 2, commit=2)}), ("a", "crash", None), *looks({"a": member(1, commit=1)})),
        looks({"a": member(1, 2, commit=2)}, {"a": member(1, 2, commit=1)}),
        r"a was at \(term, commit, applied\) \(2, 2, 2\) and is at \(2, 1, 1\)",
    ),
    "S11": (
        logs.StateInOrder,
        looks({"a": member(1, 1, start=4, commit=5)}, {"b": SimpleNamespace(term=1, commit=3, applied=2)}),
        looks({"a": member(1, 1, start=4, commit=3)}),
        "a: snapshot 4, applied 3, commit 3, last 6",
    ),
    "S13, too few": (
        lambda: byzantine.CertificatesHaveQuorums(NAMES, HOTSTUFF),
        (vote("a", "status", 0, qc(0), None), vote("a", "status", 0, qc(3, "a", "b", "d"), None)),
        (vote("a", "status", 0, qc(3, "a", "b"), None),),
        "certificate of view 3 with 2 signatures of 2 members",
    ),
    "S13, one twice": (
        lambda: byzantine.CertificatesHaveQuorums(NAMES, HOTSTUFF),
        (vote("a", "checkpoint", 0, 9, 9, b"", b"state", [["a", b""], ["b", b""], ["c", b""]]),),
        (vote("a", "checkpoint", 0, 9, 9, b"", b"state", [["a", b""], ["b", b""], ["b", b""]]),),
        "checkpoint of index 9 with 3 signatures of 2 members",
    ),
    "S13, a stranger": (
        lambda: byzantine.CertificatesHaveQuorums(NAMES, PBFT),
        (vote("a", "decided", 1, 7, [], [["a", b""], ["b", b""], ["c", b""]]),),
        (vote("a", "stable", [7, 7, b"", 0, b""], [["a", b""], ["b", b""], ["e", b""]]),),
        "checkpoint of 7 with a signature of e, who is no member",
    ),
    "S14, hotstuff": (
        lambda: byzantine.NoDoubleVote(HOTSTUFF),
        (ballots("a", 3), ("a", "crash", None), ballots("a", 3), vote("b", "vote", 0, 3, b"another", b"")),
        (ballots("a", 3), ("a", "crash", None), vote("a", "vote", 0, 3, b"another", b"")),
        r"a votes for .* in \('votes', 0, 3\), it voted for",
    ),
    "S14, a leader": (
        lambda: byzantine.NoDoubleVote(HOTSTUFF),
        (proposal("a", 3, 2), proposal("a", 3, 2), proposal("a", 4, 3)),
        (proposal("a", 3, 2), proposal("a", 3, 1)),
        r"a votes for .* in \('proposes', 0, 3\)",
    ),
    "S14, pbft": (
        lambda: byzantine.NoDoubleVote(PBFT),
        (vote("a", "prepare", 1, 7, b"x", b""), vote("a", "commit", 1, 7, b"y", b"")),
        (vote("a", "prepare", 1, 7, b"x", b""), vote("a", "prepare", 1, 7, b"y", b"")),
        r"a votes for .* in \('prepare', 1, 7\)",
    ),
    "S14, raft": (
        lambda: byzantine.NoDoubleVote(RAFT),
        (vote("a", "vote", 2, True), vote("a", "vote", 2, False, to="c"), vote("a", "vote", 3, True, to="c")),
        (vote("a", "vote", 2, True), vote("a", "vote", 2, True, to="c")),
        "a votes for c in 2, it voted for b",
    ),
    "S15": (
        lambda: byzantine.LockIsKept(HOTSTUFF),
        (proposal("a", 2, 1), proposal("b", 3, 2), ballots("c", 3), proposal("d", 5, 3), ballots("c", 5)),
        (
            proposal("a", 2, 1), proposal("b", 3, 2), proposal("d", 4, 3), ballots("c", 4), proposal("a", 5, 1),
            ballots("c", 5),
        ),
        "c, locked on view 2, votes in view 5 for a certificate of view 1",
    ),
    "S16": (
        lambda: byzantine.blames_only({"d"}),
        (("a", "evidence", ["evidence", "d", 0, 3]),),
        (("a", "evidence", ["evidence", "b", 0, 3]),),
        "a accuses b, who did nothing",
    ),
    "S17": (
        lambda: histories.Linearizable(REGISTER),
        (
            ("", "called", ("x", "1", ("write", 1))), ("", "called", ("y", "1", ("read",))),
            ("", "answered_with", ("y", "1", 1)), ("", "answered_with", ("x", "1", None)),
        ),
        (
            ("", "called", ("x", "1", ("write", 1))), ("", "answered_with", ("x", "1", None)),
            ("", "called", ("y", "1", ("read",))), ("", "answered_with", ("y", "1", None)),
        ),
        "not linearizable: y's",
    ),
    "S17, two answers": (
        lambda: histories.Linearizable(REGISTER),
        (("", "called", ("x", "1", ("read",))), *[("", "answered_with", ("x", "1", None))] * 2),
        (
            ("", "called", ("x", "1", ("read",))), ("", "answered_with", ("x", "1", None)),
            ("", "answered_with", ("x", "1", 2)),
        ),
        "x/1 was answered None, and now 2",
    ),
    "S19": (
        lambda: byzantine.CheckpointsAgree(HOTSTUFF),
        (vote("a", "checkpoint_vote", 0, 9, 9, b"", b"s", b""), vote("b", "checkpoint_vote", 0, 9, 9, b"", b"s", b"")),
        (vote("a", "checkpoint_vote", 0, 9, 9, b"", b"s", b""), vote("b", "checkpoint_vote", 0, 9, 9, b"", b"t", b"")),
        "b and a differ in their state at index 9",
    ),
    "S19, pbft": (
        lambda: byzantine.CheckpointsAgree(PBFT),
        (
            vote("a", "checkpoint", [8, 9, b"s", 0, b""], b""), vote("b", "checkpoint", [16, 18, b"t", 0, b""], b""),
            vote("b", "checkpoint", [9, 9, b"u", 9, b"state"], b""),
        ),
        (vote("a", "checkpoint", [8, 9, b"s", 0, b""], b""), vote("b", "checkpoint", [8, 9, b"t", 0, b""], b"")),
        "b and a differ in their state at place 8",
    ),
    "S19, pbft, where an epoch begins": (  # of which no member says how it stands
        lambda: byzantine.CheckpointsAgree(PBFT),
        (vote("a", "stable", [8, 0, b"", 0, b""], []), vote("b", "checkpoint", [8, 9, b"s", 9, b"state"], b"")),
        (vote("a", "checkpoint", [8, 9, b"s", 9, b"state"], b""), vote("b", "stable", [8, 9, b"t", 0, b""], [])),
        "b and a differ in their state at place 8",
    ),
    "S19, pbft, states": (
        lambda: byzantine.CheckpointsAgree(PBFT),
        (
            vote("a", "checkpoint", [8, 9, b"s", 9, b"state"], b""),
            vote("b", "checkpoint", [8, 9, b"s", 9, b"state"], b""),
        ),
        (
            vote("a", "checkpoint", [8, 9, b"s", 9, b"state"], b""),
            vote("b", "checkpoint", [8, 9, b"s", 9, b"other"], b""),
        ),
        "b and a differ in their state at index 9",
    ),
    "L1, too late": (
        lambda: progress.DecidesWithinViews(2),
        (("a", "leader", Elected(7)), HEALED, ("b", "leader", Elected(9)), CHOSEN_X, ("c", "leader", Elected(12))),
        (("a", "leader", Elected(7)), HEALED, ("b", "leader", Elected(10)), CHOSEN_X),
        "3 views have begun since the faults",
    ),
    "L1, never": (
        lambda: progress.DecidesWithinViews(2),
        (("b", "leader", Elected(9)),),
        (CHOSEN_X, HEALED),
        "nothing was decided after the faults",
    ),
    "L2": (
        progress.proposals_are_chosen,
        (("", "proposed", b"x"), CHOSEN_X),
        (("", "proposed", b"y"), CHOSEN_X),
        "was not chosen",
    ),
    "L3": (
        progress.ViewsConverge,
        (*looks({"a": member(1), "b": member(9)}), HEALED, *looks({"a": member(8), "b": member(9)})),
        (HEALED, *looks({"a": member(7), "b": member(9)})),
        r"members are in terms \{'a': 7, 'b': 9\}",
    ),
    "L4": (
        progress.EverybodyCatchesUp,
        (
            HEALED, *looks({"a": member(1, 1, commit=2), "b": member()}),
            *looks({"a": member(1, 1, 1, commit=3), "b": member(start=2, commit=2)}),
        ),
        (HEALED, *looks({"a": member(1, 1, commit=2), "b": member(1, commit=1)})),
        r"\{'b': 1\} are behind index 2",
    ),
    "L4, while a disk has a backlog": (
        progress.EverybodyCatchesUp,
        (HEALED, *looks({"a": member(1, 1, commit=2), "b": member(1, 1, commit=1, durable=1)})),
        (HEALED, *looks({"a": member(1, 1, commit=2), "b": member(1, 1, commit=1, durable=2)})),
        r"\{'b': 1\} are behind index 2",
    ),
    "L5, memory": (
        lambda: progress.Bounded(lambda one: iter([bounds.Held("votes", len(one.votes), 2)]), every=1),
        looks({"a": member(votes=[1, 2])}),
        looks({"a": member(votes=[1, 2, 3])}),
        "a holds 3 votes, at most 2",
    ),
    "L5, messages": (
        lambda: progress.MessagesPerDecision(2, 10),
        (("", "sent", 900), CHOSEN_X, ("", "sent", 922)),
        (("", "sent", 900), CHOSEN_X, ("", "sent", 923)),
        "23 messages for 1 decisions in 2 s, at most 22",
    ),
    "L6": (
        lambda: progress.EndsWithin("soon", told("asked"), told("ended"), key=lambda e: e.value, within_s=2),
        (("", "asked", 1), ("", "x", 0), ("", "ended", 1)),
        (("", "asked", 1), ("", "x", 0), ("", "x", 0), ("", "ended", 1)),
        "1 took 3 s, at most 2 s are allowed",
    ),
    "L6, never": (
        lambda: progress.EndsWithin("soon", told("asked"), told("ended"), key=lambda e: e.value, within_s=2),
        (("", "asked", 1), ("", "ended", 1)),
        (("", "asked", 1), ("", "ended", 2)),
        "1 began at t=0ns on  and has not ended",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_promise_holds_and_breaks(name: str) -> None:
    """It holds on the first history; on the second it breaks, and its line says who broke it."""
    make, holds, breaks, line = CASES[name]
    assert feed(make(), *holds).broken == ""
    assert re.search(line, feed(make(), *breaks).broken)


def test_a_log_that_was_cut_is_not_these_checks_concern() -> None:
    """A member that lost what it had committed breaks `StateInOrder`; the checks of logs still answer."""
    steps = looks({"a": member(1, 1, 1, commit=3)}, {"a": member(1, commit=3, durable=3)})
    assert feed(logs.LogsMatch(), *steps).broken == ""
    assert feed(logs.CommittedIsDurable("a"), *steps).broken == ""
    assert "commit 3, last 1" in feed(logs.StateInOrder(), *steps).broken


def test_a_liars_words_break_no_promise() -> None:
    """What a member that is not honest says, votes and decides is not held against anybody."""
    check = byzantine.NoDoubleVote(RAFT)
    checks = Checks(check, honest={"b"})
    for to in "bc":
        checks.said(0, "a", "consensus", to, encode(["vote", 2, True]))
    assert check.holds


def test_a_history_too_hard_to_judge_is_no_breach() -> None:
    """The check says that it does not know, and holds."""
    check = histories.Linearizable(REGISTER, steps_max=1)
    feed(check, *[("", "called", (str(k), "1", ("write", k))) for k in range(3)], ("", "called", ("r", "1", ("read",))),
         ("", "answered_with", ("r", "1", 9)))  # fmt: skip
    assert check.holds
    assert check.unknown


def test_rare_things_are_seen() -> None:
    """A view change, evidence, and a snapshot taken over are each noticed, and not before they happen."""
    checks = Checks(*byzantine.rare())
    assert set(checks.sometimes.values()) == {False}
    for kind, value in (("leader", Elected(2)), ("evidence", ["evidence", "d"]), ("restore", ["restored", 3, 1])):
        checks.decided(0, "a", "consensus", kind, encode(value))
    assert set(checks.sometimes.values()) == {True}
