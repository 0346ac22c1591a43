"""The linearizability checker agrees with all orders tried by hand, with published examples, and with made ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.commands import Add, CompareAndSet, Put
from policies.state.configuration import Configuration
from scenarios.checks.linear import ILLEGAL, UNKNOWN, Model, Operation, check
from scenarios.checks.linear_models import COUNTER, KEY_VALUE, REGISTER, SET, VERSIONED

# -- all orders by hand --------------------------------------------------------------------------------


def by_hand(model: Model, history: Sequence[Operation]) -> bool:
    """Return whether some order of the answered operations and some of the others explains every answer."""
    answered = [one for one in history if one.answered is not None]
    pending = [one for one in history if one.answered is None]
    for count in range(len(pending) + 1):
        for some in combinations(pending, count):
            if any(_explains(model, order) for order in permutations([*answered, *some])):
                return True
    return False


def _explains(model: Model, order: Sequence[Operation]) -> bool:
    states: dict[Any, Any] = {}
    for number, one in enumerate(order):
        if any(late.answered is not None and late.answered < one.called for late in order[number + 1 :]):
            return False
        state = model.step(states.get(model.part(one.asked), model.initial), one.asked, one.answer)
        if state is ILLEGAL:
            return False
        states[model.part(one.asked)] = state
    return True


# -- histories: operations happen one after another, and answers are then told wrongly or not at all ---

few = st.integers(0, 2)
ASKED: dict[Model, st.SearchStrategy[Any]] = {
    REGISTER: st.one_of(st.just(("read",)), st.tuples(st.just("write"), few), st.tuples(st.just("cas"), few, few)),
    KEY_VALUE: st.one_of(
        st.tuples(st.just("get"), st.sampled_from("xy")),
        st.tuples(st.sampled_from(["put", "append"]), st.sampled_from("xy"), st.sampled_from("ab")),
    ),
    COUNTER: st.one_of(st.just(("read",)), st.tuples(st.just("add"), few)),
    SET: st.one_of(st.just(("read",)), st.tuples(st.just("add"), few)),
}
ANSWERS: dict[Model, st.SearchStrategy[Any]] = {
    REGISTER: st.sampled_from([None, 0, 1, 2, True, False]),
    KEY_VALUE: st.sampled_from(["", "a", "b", "ab", "aa"]),
    COUNTER: st.integers(0, 4),
    SET: st.frozensets(few),
}


@st.composite
def truthful(draw: st.DrawFn, models: Sequence[Model] = tuple(ASKED), most: int = 5) -> tuple[Model, list[Operation]]:
    """A model and operations with the answers that it gave, each called before and answered after its moment."""
    model = draw(st.sampled_from(models))
    asked = draw(st.lists(ASKED[model], min_size=1, max_size=most))
    moments = draw(st.permutations(range(3 * len(asked))))  # three moments an operation: call, effect, answer
    spans = sorted((sorted(moments[3 * k : 3 * k + 3]) for k in range(len(asked))), key=lambda span: span[1])
    states: dict[Any, Any] = {}
    history = []
    for number, (one, (called, _, answered)) in enumerate(zip(asked, spans, strict=True)):
        state = states.get(model.part(one), model.initial)
        answer: Any = state == one[1] if one[0] == "cas" else state
        heard = draw(st.integers(0, 3)) > 0
        history.append(Operation(f"c{number}", one, called, answered if heard else None, answer if heard else UNKNOWN))
        happened = heard or draw(st.booleans())
        states[model.part(one)] = model.step(state, one, UNKNOWN) if happened else state
    return model, history


@st.composite
def mutated(draw: st.DrawFn) -> tuple[Model, list[Operation]]:
    """A truthful history in which some answers are others."""
    model, history = draw(truthful())
    for number in draw(st.sets(st.integers(0, len(history) - 1), min_size=1, max_size=2)):
        if history[number].answered is not None:
            history[number] = history[number]._replace(answer=draw(ANSWERS[model]))
    return model, history


@given(truthful(most=12))
def test_what_happened_one_after_another_is_linearizable(given: tuple[Model, list[Operation]]) -> None:
    """A history made by doing operations at moments between call and answer is linearizable, lost answers included."""
    assert check(*given).linearizable is True


@settings(max_examples=400)
@given(mutated())
def test_the_verdict_is_that_of_all_orders_by_hand(given: tuple[Model, list[Operation]]) -> None:
    """Whatever the answers, the verdict is what trying every order and every subset of unanswered operations gives."""
    assert check(*given).linearizable is by_hand(*given)


@settings(max_examples=400)
@given(mutated())
def test_the_stuck_point_is_the_smallest(given: tuple[Model, list[Operation]]) -> None:
    """Just before the stuck answer the history is linearizable, with it no more, and what was placed is an order."""
    model, history = given
    verdict = check(model, history)
    if verdict.stuck is None:
        return
    end = verdict.stuck.answered
    assert end is not None
    part = [one for one in history if model.part(one.asked) == model.part(verdict.stuck.asked)]
    assert not by_hand(model, _until(part, end))
    assert by_hand(model, _until(part, end - 1))
    assert _explains(model, verdict.placed)
    before = {one.client for one in part if one.answered is not None and one.answered < end}
    assert before <= {one.client for one in verdict.placed}


def _until(history: Sequence[Operation], moment: int) -> list[Operation]:
    """Return what was called before ``moment``; what was answered only later may have happened, with that answer."""
    seen = [one for one in history if one.called <= moment]
    return [one if (one.answered or moment + 1) <= moment else one._replace(answered=None) for one in seen]


# -- published examples --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(("write", 100), 0, 100, None), (("read",), 25, 75, 100), (("read",), 30, 60, 0)], True),
        ([(("write", 200), 0, 100, None), (("read",), 10, 30, 200), (("read",), 40, 90, 0)], False),
        (
            [(("write", 100), 0, 100, None), (("read",), 25, 75, 100), (("read",), 30, 30, 0), (("read",), 30, 30, 0)],
            True,
        ),
        (
            [
                (("write", 200), 0, 100, None),
                (("read",), 10, 10, 200),
                (("read",), 10, 10, 200),
                (("read",), 40, 90, 0),
            ],
            False,
        ),
    ],
)
def test_registers_of_a_quiz(rows: list[tuple[Any, int, int, Any]], expected: bool) -> None:
    """The register examples of the MIT 6.824 quiz 2 of 2017, section VII, and those of no duration, of Porcupine."""
    from_zero = REGISTER._replace(initial=0)
    history = [Operation(str(k), *row) for k, row in enumerate(rows)]
    assert check(from_zero, history).linearizable is expected


@pytest.mark.parametrize(
    ("added", "read", "expected"),
    [((100, 0), [100], True), ((100, 110), [100, 110], True), ((100, 110), [100, 100, 110], False)],
)
def test_sets_that_overlap(added: tuple[int, int], read: list[int], expected: bool) -> None:
    """A read beside two adds may see one or both, and no member twice (Porcupine's examples of a set)."""
    history = [Operation("a", ("add", added[0]), 0, 5), Operation("b", ("add", added[1]), 1, 4)]
    assert check(SET, [*history, Operation("c", ("read",), 2, 3, read)]).linearizable is expected


# -- effort and bad input ------------------------------------------------------------------------------


def test_an_effort_that_does_not_suffice_is_called_unknown() -> None:
    """With too few steps the verdict is neither yes nor no; with enough it is no."""
    writes = [Operation(f"w{k}", ("write", k), 0, 100) for k in range(10)]
    history = [*writes, Operation("r", ("read",), 200, 300, 99)]
    assert str(check(REGISTER, history, steps_max=500)) == "unknown after 501 steps"
    assert check(REGISTER, history).linearizable is False


def test_a_part_at_fault_outweighs_one_that_is_unknown() -> None:
    """A history is not linearizable if one key is not, even where another key's search had to stop."""
    hard = [Operation(f"w{k}", ("append", "hard", "x"), 0, 100) for k in range(10)]
    hard.append(Operation("r", ("get", "hard"), 200, 300, "nothing of the kind"))
    bad = [Operation("p", ("put", "easy", "a"), 0, 1), Operation("g", ("get", "easy"), 2, 3, "b")]
    assert check(KEY_VALUE, hard, steps_max=40).linearizable is None
    assert check(KEY_VALUE, hard + bad, steps_max=40).linearizable is False


def test_many_unanswered_operations_that_are_alike_are_cheap() -> None:
    """Forty writes without an answer, four values in all, cost thousands of steps, not a power of two of forty."""
    lost = [Operation(f"w{k}", ("write", k % 4), k) for k in range(40)]
    reads = [Operation("r", ("read",), 100 + 2 * k, 101 + 2 * k, (k * 3) % 4) for k in range(8)]
    assert check(REGISTER, lost + reads).linearizable is True
    verdict = check(REGISTER, [*lost, *reads, Operation("r", ("read",), 200, 201, 9)])
    assert verdict.linearizable is False
    assert verdict.stuck is not None
    assert verdict.stuck.called == 200
    assert verdict.steps < 50_000


def test_a_long_history_is_read_without_recursion() -> None:
    """Ten thousand operations of four clients on one register end well within the effort allowed."""
    history = [
        Operation(f"c{k % 4}", ("write", k) if k % 2 == 0 else ("read",), 10 * k, 10 * k + 15, k - 1 if k % 2 else None)
        for k in range(10_000)
    ]
    assert check(REGISTER, history).linearizable is True


def test_an_answer_before_its_call_is_refused() -> None:
    """Such a history is an error of who recorded it, named in one line."""
    with pytest.raises(ValueError, match=r"answered=3: a's \('read',\) was called at 5"):
        check(REGISTER, [Operation("a", ("read",), 5, 3, None)])


@pytest.mark.parametrize("model", [REGISTER, KEY_VALUE, COUNTER, SET])
def test_an_unknown_operation_is_refused(model: Model) -> None:
    """A verb that the object does not have is named, with those that it has."""
    with pytest.raises(ValueError, match="operation 'pop'"):
        check(model, [Operation("a", ("pop", "k"), 0, 1)])


@given(
    st.lists(st.one_of(
        st.tuples(st.just("get"), st.sampled_from("xy")),
        st.tuples(st.sampled_from(["put", "add"]), st.sampled_from("xy"), few),
        st.tuples(st.just("cas"), st.sampled_from("xy"), few, few),
    ), min_size=1, max_size=12),
    st.sampled_from([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_versioned_registers_are_the_state_machines_own(asked: list[Any], lie: tuple[int, int, int]) -> None:
    """What the replicated configuration answers one after another is linearizable; with one part changed it is not."""
    real, history = Configuration(), []
    for number, (verb, key, *values) in enumerate(asked):
        kinds = {"put": Put, "add": Add, "cas": CompareAndSet}
        result = real.get(key) if verb == "get" else real.apply(kinds[verb](key, *values))
        answer = (result.ok, result.value, result.version)
        if number == len(asked) - 1:
            answer = (result.ok != bool(lie[0]), 9 if lie[1] else result.value, result.version + lie[2])
        history.append(Operation("c", (verb, key, *values), 10 * number, 10 * number + 5, answer))

    assert check(VERSIONED, history).linearizable is (lie == (0, 0, 0))
