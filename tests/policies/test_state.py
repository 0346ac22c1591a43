"""The replicated state: laws that hold whatever commands arrive, in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies.commands import Accept, Command, Complete, Evict, Join, Place, Receipt, Refuse, decode
from policies.jobs import Stage
from policies.state import VillageState
from policies.wire import encode
from tests.policies.strategies import commands

histories = st.lists(commands, max_size=40)


def after(history: list[Command]) -> VillageState:
    """Return the state after these commands."""
    state = VillageState()
    for command in history:
        state.apply(command)
    return state


@given(histories)
def test_a_request_has_one_outcome_the_first(history: list[Command]) -> None:
    """Once settled, a request is owed nothing and its outcome never changes."""
    state, first = VillageState(), {}
    for command in history:
        state.apply(command)
        for key, outcome in state.outcomes.items():
            assert first.setdefault(key, outcome) is outcome
        assert not state.requests.keys() & state.outcomes.keys()
    assert first.keys() == state.outcomes.keys()


@given(histories)
def test_only_what_was_accepted_is_settled(history: list[Command]) -> None:
    """An outcome needs an acceptance before it."""
    accepted = set()
    state = VillageState()
    for command in history:
        if isinstance(command, Accept):
            accepted.add((command.client, command.op_id))
        state.apply(command)
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


@given(histories, commands)
def test_a_command_applied_again_changes_nothing(history: list[Command], command: Command) -> None:
    """What consensus delivers twice counts once."""
    state = after([*history, command])
    before = state.digest()

    assert not state.apply(command)
    assert state.digest() == before


@given(histories, commands)
def test_apply_says_whether_it_changed_anything(history: list[Command], command: Command) -> None:
    """The answer is true exactly when the digest moves."""
    state = after(history)
    before = state.digest()

    assert state.apply(command) == (state.digest() != before)


@given(histories)
def test_no_device_stands_in_two_pipelines(history: list[Command]) -> None:
    """Placements are disjoint, and a device has one stage of its own."""
    nodes = [stage.node for placed in after(history).placements.values() for stage in placed.stages]

    assert len(nodes) == len(set(nodes))


def test_an_evicted_device_is_not_placed_again() -> None:
    """A placement that was on its way when its device was evicted does nothing; nor does joining help."""
    place = Place(1, "m", (Stage("a", 0, 2),), 0.1)

    assert not after([]).apply(place)
    assert after([Join("a")]).apply(place)
    assert not after([Join("a"), Evict("a", "lied"), Join("a")]).apply(place)


def test_a_device_has_one_stage_of_a_pipeline() -> None:
    """A placement that names a device twice does nothing."""
    assert not after([Join("a")]).apply(Place(1, "m", (Stage("a", 0, 2), Stage("a", 2, 4)), 0.1))


def test_order_decides_and_every_node_sees_the_same_order() -> None:
    """Of a refusal and an answer the first counts, whoever knows better."""
    accept = Accept("anna", "1", "m", "p", "n1", 3, 4, 1, 0, 9)
    complete = Complete(Receipt("anna", "1", "out", 4, (Stage("a", 0, 2),)), 1, b"")
    refuse = Refuse("anna", "1", "late")

    assert after([accept, complete, refuse]).outcomes == {("anna", "1"): complete}
    refused = after([accept, refuse, complete])
    assert refused.outcomes == {("anna", "1"): refuse}
    assert refused.ledger == {}
