"""The replicated state as a whole: laws that hold whatever commands arrive, in whatever order, and its snapshots."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.commands import (
    Accept,
    Add,
    Command,
    CompareAndSet,
    Complete,
    Evict,
    InSession,
    Join,
    Pay,
    Place,
    Put,
    Receipt,
    Refuse,
    Stand,
    Vouched,
    decode,
)
from policies.jobs import Stage
from policies.state import SnapshotError, VillageState, requests, snapshot
from policies.wire import encode
from sim.keys import KeyRing
from tests.policies.strategies import believe, commands

histories = st.lists(commands, max_size=40)
TRACED = Accept | Complete | Refuse | Join | Pay | InSession | Stand


def after(history: list[Command]) -> VillageState:
    """Return the state after these commands."""
    state = VillageState()
    for command in history:
        state.apply(command, believe)
    return state


@given(histories)
def test_a_request_has_one_outcome_the_first(history: list[Command]) -> None:
    """Once settled, a request is owed nothing and its outcome never changes."""
    state, first = VillageState(), {}
    for command in history:
        state.apply(command, believe)
        for key, outcome in state.outcomes.items():
            assert first.setdefault(key, outcome) is outcome
        assert not state.requests.keys() & state.outcomes.keys()
    assert first.keys() == state.outcomes.keys()


@given(histories, commands)
def test_what_a_state_holds_changes_nothing_when_it_comes_again(history: list[Command], another: Command) -> None:
    """So whoever is given that state need not ask for it; and what was done just now is held, if it leaves a trace."""
    state = VillageState()
    for command in history:
        if state.apply(command, believe) and isinstance(command, TRACED):
            assert state.holds(command)
    for command in (*history, another):
        before = state.digest()
        if state.holds(command):
            assert not state.apply(command, believe)
            assert state.digest() == before


@given(histories)
def test_only_what_was_accepted_is_settled(history: list[Command]) -> None:
    """An outcome needs an acceptance before it."""
    accepted = set()
    state = VillageState()
    for command in history:
        if isinstance(command, Accept):
            accepted.add((command.client, command.op_id))
        state.apply(command, believe)
        assert state.outcomes.keys() | state.requests.keys() <= accepted


@given(histories)
def test_the_ledger_holds_exactly_what_settled_receipts_earned(history: list[Command]) -> None:
    """Tokens times layers, summed over the outcomes; nothing else moves it."""
    state = after(history)
    owed: dict[str, int] = {}
    for outcome in state.outcomes.values():
        if isinstance(outcome, Complete):
            for stage in outcome.receipt.stages:
                work = outcome.receipt.tokens * (stage.last - stage.first)
                owed[stage.node] = owed.get(stage.node, 0) + work

    assert state.ledger == owed
    assert state.earned == sum(owed.values())


@given(histories)
def test_the_same_commands_give_the_same_state_through_the_wire(history: list[Command]) -> None:
    """Two nodes that apply one log agree to the digest, also when one decoded it from bytes."""
    other = after([decode(encode(command)) for command in history])

    assert after(history).digest() == other.digest()


def bare(command: Command) -> bool:
    """Whether a command writes whatever was written before; so does an exchange of a value for itself."""
    return isinstance(command, Put | Add) or (
        isinstance(command, CompareAndSet)
        and (type(command.value), command.value) == (type(command.expected), command.expected)
    )


@given(histories, commands.filter(lambda command: not bare(command)))
def test_a_command_applied_again_changes_nothing(history: list[Command], command: Command) -> None:
    """What consensus delivers twice counts once; but for a bare write, which needs a session for that."""
    state = after([*history, command])
    before = state.digest()

    assert not state.apply(command, believe)
    assert state.digest() == before


@given(histories, commands)
def test_apply_says_whether_it_changed_anything(history: list[Command], command: Command) -> None:
    """The answer is true exactly when the digest moves."""
    state = after(history)
    before = state.digest()

    assert state.apply(command, believe) == (state.digest() != before)


@given(histories)
def test_no_device_stands_in_two_pipelines(history: list[Command]) -> None:
    """Placements are disjoint, and a device has one stage of its own."""
    nodes = [stage.node for placed in after(history).placements.values() for stage in placed.stages]

    assert len(nodes) == len(set(nodes))


def test_an_evicted_device_is_not_placed_again() -> None:
    """A placement that was on its way when its device was evicted does nothing; nor does joining help."""
    place = Place(1, "m", (Stage("a", 0, 2),), 0.1)

    assert not after([]).apply(place, believe)
    assert after([Join("a")]).apply(place, believe)
    assert not after([Join("a"), Evict("a", "lied"), Join("a")]).apply(place, believe)


def test_a_device_has_one_stage_of_a_pipeline() -> None:
    """A placement that names a device twice does nothing."""
    assert not after([Join("a")]).apply(Place(1, "m", (Stage("a", 0, 2), Stage("a", 2, 4)), 0.1), believe)


def test_order_decides_and_every_node_sees_the_same_order() -> None:
    """Of a refusal and an answer the first counts, whoever knows better."""
    accept = Accept("anna", "1", "m", "p", "n1", 3, 4, 1, 0, 9)
    complete = Complete(Receipt("anna", "1", "out", 4, (Stage("a", 0, 2),)), 1, b"")
    refuse = Refuse("anna", "1", "late")

    assert after([accept, complete, refuse]).outcomes == {("anna", "1"): complete}
    refused = after([accept, refuse, complete])
    assert refused.outcomes == {("anna", "1"): refuse}
    assert refused.ledger == {}


# -- who is believed --------------------------------------------------------------------------------------------------

ASKED_FOR = ("m", "p", "n1", 3, 4, 1, 0, 9)
ASKED = Accept("anna", "1", *ASKED_FOR)
LINE, OTHER = (Stage("a", 0, 2), Stage("b", 2, 4)), (Stage("c", 0, 1), Stage("d", 1, 4))
ring = KeyRing(1)


def answer(
    tokens: int = 4, line: tuple[Stage, ...] = LINE, other: tuple[Stage, ...] | None = OTHER, *,
    executor: str = "", verifier: str = "",
) -> Complete:  # fmt: skip
    """Return a request's answer, signed by the heads of its lines, or by whom the test says."""
    receipt = Receipt("anna", "1", "out", tokens, line)
    signature = ring.signature(executor or line[0].node, encode(receipt))
    if other is None:
        return Complete(receipt, 1, signature)
    seconds = Receipt("anna", "1", "out", tokens, other)
    head = verifier or (other or line)[0].node
    return Complete(receipt, 1, signature, Vouched(other, ring.signature(head, encode(seconds))))


def settled(complete: Complete, *before: Command) -> VillageState:
    """Return the state after a request and its answer, with every signature checked."""
    state = VillageState()
    for command in (*(Join(node) for node in "abcd"), ASKED, *before, complete):
        state.apply(command, ring.handle("k1").verify)
    return state


def test_a_verified_receipt_pays_executor_and_verifier_once() -> None:
    """By hand: 10e6 / 360,000 micro-credits a token-layer, times 10 / (4 + 1) for scarcity, the verifier's twice."""
    state = settled(answer())

    assert state.balances == {"a": 444, "b": 444, "c": 444, "d": 1333, "": -2665}
    assert state.ledger == {"a": 8, "b": 8}
    before = state.digest()
    assert not state.apply(answer(), ring.handle("k1").verify)
    assert state.digest() == before


@pytest.mark.parametrize(
    ("complete", "why"),
    [
        (answer(executor="c"), "another signed for the executor"),
        (answer(verifier="a"), "the executor signed for its verifier"),
        (answer(5), "more tokens than were asked for"),
        (answer(other=(Stage("b", 0, 4),)), "a node verifies itself"),
        (answer(other=(Stage("c", 0, 5),)), "the lines ran another number of layers"),
        (answer(line=(Stage("a", 0, 2), Stage("b", 3, 4))), "a line with a gap"),
        (answer(other=()), "nobody vouches"),
    ],
)  # fmt: skip
def test_a_proposer_that_lies_settles_nothing(complete: Complete, why: str) -> None:
    """Whatever was agreed on, every member refuses what the named nodes did not sign; the request stays owed."""
    state = settled(complete)

    assert (state.ledger, state.balances) == ({}, {}), why
    assert list(state.requests) == [("anna", "1")]


def test_a_session_that_nobody_asked_for_is_neither_counted_nor_paid() -> None:
    """Whoever signed for it: without its acceptance in the log a receipt moves nothing, whatever else was asked."""
    state = VillageState()
    others = (Accept("anna", "2", *ASKED_FOR), Accept("bob", "1", *ASKED_FOR))
    for command in (*(Join(node) for node in "abcd"), *others, answer()):
        state.apply(command, ring.handle("k1").verify)

    assert (state.ledger, state.balances, state.outcomes) == ({}, {}, {})
    assert state.apply(ASKED, believe)
    assert state.apply(answer(), ring.handle("k1").verify)  # nothing else was wrong with it


def test_unverified_or_evicted_work_counts_and_is_not_paid() -> None:
    """Without a verifier, or with one that was put out, token-layers are counted and no credit is minted."""
    assert settled(answer(other=None)).balances == {}
    state = settled(answer(), Evict("d", "lied"))
    assert (state.ledger, state.balances) == ({"a": 8, "b": 8}, {})


def test_bytes_that_are_no_command_count_and_change_nothing() -> None:
    """A liar may get anything agreed on; members stay alive, and equal."""
    state = settled(answer())
    before = state.digest()

    assert state.apply_encoded(b"\xff", believe) == (None, False)
    assert (state.digest(), state.applied) == (before, 7)


# -- snapshots --------------------------------------------------------------------------------------------------------


@given(histories, histories)
def test_a_restored_state_goes_on_as_the_one_that_was_saved(before: list[Command], later: list[Command]) -> None:
    """A snapshot gives back state, height and everything that later commands depend on; its bytes are canonical."""
    state = after(before)
    other = VillageState.restore(state.snapshot())
    assert (other.digest(), other.applied) == (state.digest(), state.applied)

    answers = [(state.apply(command, believe), other.apply(command, believe)) for command in later]

    assert all(first == second for first, second in answers)
    assert other.snapshot() == state.snapshot()


@given(histories, st.data())
def test_a_damaged_snapshot_is_refused_in_one_line(history: list[Command], data: st.DataObject) -> None:
    """Any flipped bit, and any missing tail, is found; nothing is half restored."""
    whole = after(history).snapshot()
    at = data.draw(st.integers(0, 8 * len(whole) - 1))
    flipped = bytearray(whole)
    flipped[at // 8] ^= 1 << at % 8

    for damaged in (bytes(flipped), whole[: at // 8]):
        with pytest.raises(SnapshotError, match=r"^state snapshot of \d+ bytes: .*$") as error:
            VillageState.restore(damaged)
        assert "\n" not in str(error.value)


def test_a_snapshot_that_breaks_a_law_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A well-formed snapshot of another version, too large, or with books that do not balance, is not taken over."""
    state = settled(answer())
    state.balances["a"] += 1
    with pytest.raises(SnapshotError, match="state snapshot: ledger: the balances sum to 1 micro-credits, not to 0"):
        VillageState.restore(state.snapshot())

    whole = settled(answer()).snapshot()
    monkeypatch.setattr(snapshot, "VERSION", 4)
    with pytest.raises(SnapshotError, match="version 3, 8 parts; read are version 4, 8 parts"):
        VillageState.restore(whole)
    monkeypatch.setattr(snapshot, "BYTES_MAX", 10)
    with pytest.raises(SnapshotError, match="allowed are 10"):
        VillageState.restore(whole)


def test_outcomes_are_bounded_and_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with the run; every member forgets the same one."""
    monkeypatch.setattr(requests, "OUTCOMES_MAX", 2)
    state = after([c for k in "123" for c in (Accept("c", k, "m", "p", "n", 1, 1, 1, 0, 9), Refuse("c", k, "no"))])

    assert list(state.outcomes) == [("c", "2"), ("c", "3")]
