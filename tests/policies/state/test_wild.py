"""The state under commands that no correct member would propose: a liar that leads has anything ordered."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.commands import Accept, Command, Complete, Join, Receipt, Vouched
from policies.jobs import LAYERS_MAX, NAME_MAX, TOKENS_MAX, Stage
from policies.state import VillageState, contributions
from policies.wire import encode
from tests.policies.strategies import believe

NUMBERS = (-(2**63), -1, 0, 1, 2, 3, LAYERS_MAX, TOKENS_MAX, 2**32, 2**63 - 1, 2**64 - 1)
WORDS = ("", "a", "b", "c", "a/b", "\x00", "w" * 300)
_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: st.sampled_from(NUMBERS),
    str: st.sampled_from(WORDS),
    bytes: st.sampled_from((b"", b"x", bytes(32))),
    float: st.sampled_from((0.0, -1.0, float("nan"), float("inf"))),
    bool: st.booleans(),
    type(None): st.none(),
}


def anything(kind: Any) -> st.SearchStrategy[Any]:
    """Return values of a type's shape, whatever bounds it has."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return anything(args[0])
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple:
        return st.lists(anything(args[0]), max_size=3).map(tuple)
    if origin is Union or args:  # `X | Y`
        return st.one_of([anything(arg) for arg in args])
    if kind in _PLAIN:
        return _PLAIN[kind]
    hints = get_type_hints(kind, include_extras=True)
    return st.builds(kind, *(anything(hints[name]) for name in kind.__struct_fields__))


wild = st.one_of([anything(kind) for kind in get_args(Command)])


def order(state: VillageState, command: Any) -> bool:
    """Apply a command as a log gives it: whatever of it can be written down at all."""
    try:
        ordered = encode(command)
    except OverflowError:
        return False
    return state.apply_encoded(ordered, believe)[1]


def sound(state: VillageState) -> bool:
    """Whether a state can be said in full, keeps its books, and is taken over by others as it is."""
    return state.credits.wrong() == "" and VillageState.restore(state.snapshot()).digest() == state.digest()


@given(st.lists(wild, max_size=20))
@settings(max_examples=60, deadline=None)
def test_whatever_is_ordered_the_state_stays_sound(history: list[Any]) -> None:
    """No command raises, and what it leaves can be digested, written down and read again."""
    state = VillageState()
    for command in history:
        order(state, command)
    assert sound(state)


def answered(state: VillageState, op_id: str, tokens: int, line: tuple[Stage, ...], other: tuple[Stage, ...]) -> bool:
    """Have a request taken in and answered with so much work; return whether it was settled."""
    order(state, Accept("anna", op_id, "m", "p", "n", 1, tokens, 1, 0, 9))
    return order(state, Complete(Receipt("anna", op_id, "out", tokens, line), 1, b"", Vouched(other, b"")))


def test_work_beyond_any_model_or_answer_is_none() -> None:
    """Its product is no number that MessagePack holds: every member would stop at its next digest."""
    state = VillageState()
    most = (Stage("a", 0, LAYERS_MAX),), (Stage("b", 0, LAYERS_MAX),)
    beyond = tuple((msgspec.structs.replace(line[0], last=2**63),) for line in most)

    assert not answered(state, "1", 2**63 - 1, *beyond)
    assert not answered(state, "2", TOKENS_MAX + 1, *most)
    assert not answered(state, "3", -1, *most)
    assert answered(state, "4", TOKENS_MAX, *most)
    assert (state.earned, sound(state)) == (TOKENS_MAX * LAYERS_MAX, True)


def test_work_is_of_all_layers_of_a_model_that_is_served() -> None:
    """Heads that lie together would else be paid for any number of layers."""
    for layers, paid in ({"m": 4, "n": 9}, (4, 9)), ({}, (3, 4, 8, 9)):
        state = VillageState(layers=layers)
        for last in (3, 4, 8, 9):
            line, other = (Stage("a", 0, last),), (Stage("b", 0, last),)
            assert answered(state, f"{last}", 1, line, other) == (last in paid)
        assert state.earned == sum(paid)


@pytest.mark.parametrize("field", ["client", "op_id", "model", "prompt", "source"])
def test_a_name_that_fills_a_snapshot_is_no_command(field: str) -> None:
    """A client chooses its operation's name, and outcomes by the thousand keep it: no member could take over a state
    of more than 64 MiB."""
    fine = Accept("anna", "1", "m", "p", "n", 1, 4, 1, 0, 9)
    state = VillageState()

    assert not order(state, msgspec.structs.replace(fine, **{field: "x" * (NAME_MAX + 1)}))
    assert order(state, msgspec.structs.replace(fine, **{field: "x" * NAME_MAX}))
    assert not order(state, Complete(Receipt("anna", "1", "x" * (NAME_MAX + 1), 1, (Stage("a", 0, 2),)), 1, b""))


@pytest.mark.parametrize("priority", [-9, 100])
def test_a_priority_that_no_client_may_have_is_no_command(priority: int) -> None:
    """A leader of several models looks up its class: there is none before the first."""
    state = VillageState()

    assert not order(state, Accept("anna", "1", "m", "p", "n", 1, 4, priority, 0, 9))
    assert state.requests == {}


def test_what_liars_add_up_ends_before_the_sum_cannot_be_written() -> None:
    """The receipt that would exceed it settles its request and counts for nothing; a smaller one still counts."""
    state = VillageState()
    state.contributions.by_node, state.contributions.total = (
        {"a": contributions.TOTAL_MAX - 8},
        (contributions.TOTAL_MAX - 8),
    )
    line, other = (Stage("a", 0, 3),), (Stage("b", 0, 3),)

    assert answered(state, "1", 3, line, other)
    assert state.earned == contributions.TOTAL_MAX - 8
    assert answered(state, "2", 2, line, other)
    assert state.earned == contributions.TOTAL_MAX - 2
    assert sound(state)


def test_nobody_joins_as_the_mint_nor_is_rewarded_as_it() -> None:
    """A line may name any nodes behind its head: with the mint among them less was minted than was earned, and no
    member could take such a state over."""
    state = VillageState()
    assert not order(state, Join(""))
    for node in "ab":
        assert order(state, Join(node))
    assert answered(state, "1", 10**6, (Stage("a", 0, 2), Stage("", 2, 4)), (Stage("b", 0, 4),))

    assert state.balances == {}
    assert not state.credits.reward("reward", [("a", 5), ("", 5)])
    assert sound(state)
