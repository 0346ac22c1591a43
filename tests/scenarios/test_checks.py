"""Every check breaks on a history planted to break it, names the first event, and holds on the honest one beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from policies.commands import Accept, Complete, Receipt
from policies.consensus.messages import Chosen, Elected
from policies.harvest.messages import Session
from policies.jobs import Stage
from policies.state import VillageState
from policies.wire import Message, encode
from policies.work import Credited, Gone, Placed, SettledOp
from scenarios.checks import Check, VillageChecks
from scenarios.checks.state import LedgerConserved
from tests.policies.strategies import believe

LAYERS = 8
PATHS = {"leader": "consensus", "commit": "consensus", "harvest": "harvest"}


def play(*history: tuple[int, str, str, Message]) -> VillageChecks:
    """Feed a history of (time, node, kind, value)."""
    checks = VillageChecks(LAYERS)
    for now, node, kind, value in history:
        checks.decided(now, node, PATHS.get(kind, "coordination"), kind, encode(value))
    return checks


def commit(now: int, node: str, index: int, term: int = 1, checksum: int = 7) -> tuple[int, str, str, Message]:
    """A commit."""
    return now, node, "commit", Chosen(index, term, checksum)


def credit(now: int, node: str, command: int) -> tuple[int, str, str, Message]:
    """A member credits the request."""
    return now, node, "credited", Credited("c", "op", command, 8, 5)


def settle(now: int, node: str, output: str = "", refused: str = "") -> tuple[int, str, str, Message]:
    """A request's outcome."""
    return now, node, "settled", SettledOp("c", "op", refused, output, 5, ("a",), 1)


def place(now: int, *stages: tuple[str, int, int]) -> tuple[int, str, str, Message]:
    """A placement."""
    return now, "n0", "placed", Placed(1, tuple(Stage(*stage) for stage in stages))


HISTORIES: list[tuple[Callable[[VillageChecks], Check], list[Any], list[Any], str]] = [
    (
        lambda checks: checks.one_leader,
        [(1, "a", "leader", Elected(1)), (2, "a", "leader", Elected(1)), (3, "b", "leader", Elected(2))],
        [(1, "a", "leader", Elected(1)), (4, "b", "leader", Elected(1)), (5, "c", "leader", Elected(1))],
        "t=4ns: b leads term 1, as a did",
    ),
    (
        lambda checks: checks.agreement,
        [commit(1, "a", 1), commit(2, "b", 1), commit(3, "a", 2, 2, 9), commit(4, "b", 2, 2, 9)],
        [commit(1, "a", 1), commit(2, "b", 1, checksum=8), commit(3, "c", 1, checksum=9)],
        "t=2ns: b commits (1, 8) at index 1, another committed (1, 7)",
    ),
    (
        lambda checks: checks.agreement,
        [commit(1, "a", 1, term=2)],
        [commit(1, "a", 1, term=2), commit(5, "b", 1, term=3)],
        "t=5ns: b commits (3, 7) at index 1, another committed (2, 7)",
    ),
    (
        lambda checks: checks.in_order,
        [commit(1, "a", 1), commit(2, "b", 1), commit(3, "a", 2), commit(4, "a", 3)],
        [commit(1, "a", 1), commit(2, "a", 3), commit(3, "a", 2)],
        "t=2ns: a commits index 3 after 1",
    ),
    (
        lambda checks: checks.in_order,
        [],
        [commit(1, "a", 1), commit(2, "a", 1)],
        "t=2ns: a commits index 1 after 1",
    ),
    (
        lambda checks: checks.one_outcome,
        [settle(1, "a", "x"), settle(2, "b", "x")],
        [settle(1, "a", "x"), settle(2, "b", "y"), settle(3, "c", "z")],
        "t=2ns: b settles c/op as ('', 'y'), it was settled as ('', 'x')",
    ),
    (
        lambda checks: checks.one_outcome,
        [settle(1, "a", refused="late")],
        [settle(1, "a", "x"), settle(2, "b", refused="late")],
        "t=2ns: b settles c/op as ('late', ''), it was settled as ('', 'x')",
    ),
    (
        lambda checks: checks.credited,
        [credit(1, "a", 4), credit(2, "b", 4), credit(3, "a", 4)],
        [credit(1, "a", 4), credit(2, "b", 4), credit(3, "b", 9)],
        "t=3ns: b credits c/op as (command, token-layers, micro-credits) (9, 8, 5), it was credited as (4, 8, 5)",
    ),
    *(
        (
            lambda checks: checks.coverage,
            [place(1, ("a", 0, 3), ("b", 3, 8)), place(2, ("c", 0, 8))],
            [place(1, ("a", 0, 8)), place(2, *cut), place(3)],
            f"t=2ns: n0 places {list(cut)} for a model of 8 layers",
        )
        for cut in (
            (("a", 0, 3), ("b", 4, 8)),
            (("a", 0, 5), ("b", 3, 8)),
            (("a", 0, 7),),
            (("a", 1, 8),),
            (("a", 0, 9),),
            (("a", 0, 0), ("b", 0, 8)),
            (),
        )
    ),
]


@pytest.mark.parametrize(("which", "good", "bad", "says"), HISTORIES, ids=[says[:40] for *_, says in HISTORIES])
def test_a_check_holds_on_the_good_history_and_names_the_first_event_of_the_bad_one(
    which: Callable[[VillageChecks], Check], good: list[Any], bad: list[Any], says: str
) -> None:
    """The planted event breaks this check, and no later event takes its place; the good history breaks none."""
    honest, broken = play(*good), play(*bad)

    assert all(verdict.holds for verdict in honest.all)
    assert which(broken).broken == says
    assert not which(broken).holds
    assert which(broken).events == len(bad)


def test_a_restarted_node_announces_its_commits_again() -> None:
    """After a restart a node may begin at 1, where another still may not."""
    checks = play(commit(1, "a", 1), commit(2, "a", 2))
    checks.restarted("a")
    checks.restarted("never seen")
    checks.decided(3, "a", "consensus", "commit", encode(Chosen(1, 1, 7)))
    assert checks.in_order.holds

    checks.decided(4, "a", "consensus", "commit", encode(Chosen(3, 1, 7)))
    assert checks.in_order.broken == "t=4ns: a commits index 3 after 1"


def ledger(*tokens: int) -> VillageState:
    """Return a state in which these many tokens were earned by two nodes."""
    state = VillageState()
    for number, count in enumerate(tokens):
        op = f"op{number}"
        state.apply(Accept("c", op, "m", "p", "a", 1, count, 0, 0, 1), believe)
        receipt = Receipt("c", op, "out", count, (Stage("a", 0, 3), Stage("b", 3, 8)))
        state.apply(Complete(receipt, 1, b""), believe)
    return state


def test_a_ledger_that_pays_more_than_was_earned_is_named() -> None:
    """Equal prefixes and earned sums hold; a ledger with one token-layer too many is named with both numbers."""
    checks = VillageChecks(LAYERS)
    checks.ledger.ask({"a": ledger(5, 6), "b": ledger(5, 6), "c": ledger(5)})
    assert checks.ledger.holds
    assert checks.ledger.events == 3

    forged = ledger(5, 6)
    forged.ledger["a"] += 1
    checks.ledger.ask({"a": ledger(5), "b": forged, "c": forged})
    assert checks.ledger.broken == "b: the ledger sums to 89, 88 token-layers were earned"


def test_ledgers_that_differ_after_the_same_commands_are_named() -> None:
    """Two nodes that applied as many commands must hold the same state, even where both sums are right."""
    moved = ledger(5, 6)
    moved.ledger["a"], moved.ledger["b"] = moved.ledger["b"], moved.ledger["a"]
    checks = VillageChecks(LAYERS)
    checks.ask_states({"a": ledger(5, 6), "b": moved})

    assert checks.ledger.holds
    assert checks.equal.broken == "b and a applied 4 commands and differ"


def test_what_a_check_decodes_it_returns_for_the_record_and_a_strangers_words_are_left_alone() -> None:
    """The village's own announcements come back as values; other policies' never reach a check."""
    checks = VillageChecks(LAYERS)
    for kind, value in (
        ("placed", Placed(1, (Stage("a", 0, 8),))),
        ("gone", Gone(1, "left")),
        ("harvest", Session(True, 0.5, 0.3, 1)),
        ("leader", Elected(4)),
    ):
        assert checks.decided(9, "a", PATHS.get(kind, "coordination"), kind, encode(value)) == value
    assert checks.decided(9, "a", "", "leader", b"not ours") is None
    assert checks.decided(9, "a", "mine", "colour", b"") is None
    assert (checks.elections, checks.commits, checks.leaders) == (1, 0, [(9, "a", 4)])


def test_every_check_has_its_own_name() -> None:
    """Names are what manifests and summaries show."""
    for protocol, count in (("raft", 18), ("hotstuff", 18), ("pbft", 18)):
        names = [verdict.name for verdict in VillageChecks(protocol=protocol).all]

        assert len(names) == len(set(names)) == count


def test_what_was_never_asked_is_not_shown_as_kept() -> None:
    """A manifest names the checks that had something to judge, and what broke without an event."""
    checks = VillageChecks()
    assert checks.asked == []
    checks.decided(1, "a", "consensus", "leader", encode(Elected(1)))
    checks.answered.broken = "c/1: no outcome"

    assert [check.name for check in checks.asked] == ["one_leader_per_term", "every_request_ends"]


@pytest.mark.parametrize("protocol", ["raft", "hotstuff", "pbft"])
def test_evidence_may_name_known_liars_only(protocol: str) -> None:
    """Whatever the protocol: a member that is accused and lies is none of our concern, any other breaks a promise."""
    checks = VillageChecks(members=("a", "b", "c", "d"), faulty=("d",), protocol=protocol)
    checks.decided(1, "a", "consensus", "evidence", encode(["evidence", "d", 0, 7]))
    assert checks.first_broken is None
    checks.decided(2, "b", "consensus", "evidence", encode(["evidence", "c", 0, 7]))

    assert checks.first_broken is not None
    assert checks.first_broken.broken == "t=2ns: b accuses c, who did nothing"


def test_a_village_hears_messages_under_protocols_that_bear_liars() -> None:
    """A vote for another block in the same view breaks a promise there; under Raft nobody listens."""
    vote = ["vote", 0, 7]
    checks = VillageChecks(members=("a", "b", "c", "d"), protocol="hotstuff")
    checks.said(1, "a", "consensus", "b", encode([*vote, b"one", b""]))
    assert checks.first_broken is None
    checks.said(2, "a", "other", "b/consensus", encode([*vote, b"two", b""]))

    assert checks.first_broken is not None
    assert checks.first_broken.name == "no_double_vote"
    assert not VillageChecks().hears_messages


@pytest.mark.parametrize(
    ("account", "earned", "says"),
    [
        ("a", {"a": 60}, "k1: the accounts sum to 1 micro-credits, not to 0"),
        ("", {"a": 60}, "k1: the accounts sum to 1 micro-credits, not to 0"),
        (None, {"a": 61}, "k1: 60 micro-credits exist, 61 were earned"),
    ],
)
def test_the_check_of_the_ledger_asks_every_law_of_the_books(
    account: str | None, earned: dict[str, int], says: str
) -> None:
    """What a member that takes the state over would refuse, a run finds where it came about."""
    state, check = VillageState(), LedgerConserved()
    state.credits.reward("work", [("a", 60)])
    check.ask({"k1": state})
    assert check.holds
    if account is not None:
        state.credits.balances[account] += 1
    state.credits.earned = earned
    check.ask({"k1": state})

    assert check.broken == says
