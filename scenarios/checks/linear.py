"""Was a history of clients' operations linearizable: could each have happened at one moment between call and answer?

The search is that of Wing and Gong (JPDC 1993) with the memory of Lowe (CCPE 2017): operations are placed one after
another, and a set of placed operations with a state is never tried twice. A model whose operations have keys is
searched key by key (P-compositionality, Horn and Kroening 2015). Nothing recurses and the effort is bounded, so a
history may also end as unknown.

An operation that got no answer may have happened at any moment after its call, or never. Three rules keep many of these
cheap without changing a verdict: one is not placed where it changes nothing; of several alike the earliest called is
placed first; and nothing is tried that was tried with the same answered operations placed, the same state, and no more
of these used up.

    >>> from scenarios.checks.linear_models import REGISTER
    >>> write, read = Operation("a", ("write", 1), 0, 10), Operation("b", ("read",), 20, 30, None)
    >>> print(check(REGISTER, [write, read]))
    not linearizable: b's ('read',) -> None, called at 20 and answered at 30, cannot be placed after 1 of 2 operations
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple


class Mark(Enum):
    """Values that no client writes or reads."""

    ILLEGAL = "illegal"
    UNKNOWN = "unknown"


ILLEGAL: Final = Mark.ILLEGAL
"""What a model returns where an operation cannot have had its answer."""
UNKNOWN: Final = Mark.UNKNOWN
"""The answer of an operation whose client never heard one."""

STEPS_MAX = 2_000_000
"""Placements tried before a history is called unknown: a few seconds of work (our bound)."""


class Model(NamedTuple):
    """A sequential object.

    Attributes:
        name: what it is.
        initial: state of one part before any operation.
        step: (state, asked, answer) to the next state, or `ILLEGAL`; it must allow any answer `UNKNOWN`.
        part: what an operation touches; parts do not know of one another.
    """

    name: str
    initial: Hashable
    step: Callable[[Any, Any, Any], Hashable]
    part: Callable[[Any], Hashable] = lambda asked: None


class Operation(NamedTuple):
    """One operation of a client.

    Attributes:
        client: who asked.
        asked: what, in the model's words; hashable, as the states of a model are.
        called: when (any clock that all clients share).
        answered: when, None if never. At equal times calls come first, so that the operations overlap.
        answer: what was heard.
    """

    client: str
    asked: Any
    called: int
    answered: int | None = None
    answer: Any = UNKNOWN


class Verdict(NamedTuple):
    """What was found.

    Attributes:
        linearizable: None is unknown: the effort allowed did not suffice.
        steps: placements tried.
        placed: of the part that is at fault, the longest sequence that explains all answers before the stuck one's.
        stuck: the one of the earliest answer that no sequence explains with all answers before it; operations that
            were answered later may take part, with the answers that they got.
        among: operations of that part.
    """

    linearizable: bool | None
    steps: int
    placed: tuple[Operation, ...] = ()
    stuck: Operation | None = None
    among: int = 0

    def __str__(self) -> str:
        if self.linearizable is None:
            return f"unknown after {self.steps} steps"
        if self.stuck is None:
            return "linearizable"
        client, asked, called, answered, answer = self.stuck
        return (
            f"not linearizable: {client}'s {asked} -> {answer!r}, called at {called} and answered at {answered}, "
            f"cannot be placed after {len(self.placed)} of {self.among} operations"
        )


def check(model: Model, history: Iterable[Operation], steps_max: int = STEPS_MAX) -> Verdict:
    """Return whether ``history`` is linearizable.

    Args:
        model: the object that the clients used.
        history: their operations, in any order.
        steps_max: placements tried at most, in each part.

    Raises:
        ValueError: an operation was answered before it was called.
    """
    parts: dict[Hashable, list[Operation]] = {}
    for one in history:
        if one.answered is not None and one.answered < one.called:
            raise ValueError(f"answered={one.answered}: {one.client}'s {one.asked} was called at {one.called}")
        parts.setdefault(model.part(one.asked), []).append(one)
    steps, unknown = 0, False
    for part in parts.values():
        verdict = _Search(model, sorted(part, key=lambda one: one.called)).run(steps_max)
        steps += verdict.steps
        if verdict.linearizable is False:
            return verdict._replace(steps=steps)
        unknown = unknown or verdict.linearizable is None
    return Verdict(None if unknown else True, steps)


class _Search:
    """The search of one part.

    Args:
        model: the object.
        operations: in the order of their calls.
    """

    def __init__(self, model: Model, operations: Sequence[Operation]) -> None:
        self.step, self.operations, self.line = model.step, operations, _Line(operations)
        self.pending = [number for number, one in enumerate(operations) if one.answered is None]
        self.lost_bits = sum(1 << number for number in self.pending)
        self.alike = _alike(operations)
        self.state: Any = model.initial
        self.done = self.steps = 0  # ``done`` has bit i where operation i is placed
        self.placed: list[tuple[int, Any, int]] = []  # operation, the state before it, and what had to be answered next
        self.tried: dict[tuple[int, Hashable], list[int]] = {(0, self.state): [0]}  # to the unanswered ones used up

    def run(self, steps_max: int) -> Verdict:
        """Place operations that were answered in the order of their calls; where none fits, one that was not."""
        line, operations = self.line, self.operations
        furthest, stuck = -1, -1
        best: tuple[int, ...] = ()
        event, lost = line.next[0], 0  # what to try next: from ``event`` on, then from ``lost`` on
        while line.unanswered:
            if self.steps > steps_max:
                return Verdict(None, self.steps)
            operation = line.operation[event]
            if line.is_call[event]:
                fits = self._place(operation, event)
                event = line.next[0] if fits else line.next[event]
                continue
            # The answer of an operation that is not placed yet: only what has no answer may still come before it.
            if event > furthest:
                furthest, best, stuck = event, tuple(number for number, _, _ in self.placed), operation
            while lost < len(self.pending) and line.call[self.pending[lost]] < event:
                lost += 1
                if self._place(self.pending[lost - 1], event):
                    event, lost = line.next[0], 0
                    break
            else:
                if not self.placed:
                    names = tuple(operations[number] for number in best)
                    return Verdict(False, self.steps, names, operations[stuck], len(operations))
                event, lost = self._take_back()
        return Verdict(True, self.steps)

    def _place(self, operation: int, event: int) -> bool:
        """Place an operation if it may come now and this has not been tried."""
        self.steps += 1
        one, before = self.operations[operation], self.alike[operation]
        pending = one.answered is None
        if pending and (self.done >> operation & 1 or (before >= 0 and not self.done >> before & 1)):
            return False
        after = self.step(self.state, one.asked, one.answer)
        if after is ILLEGAL or (pending and after == self.state):
            return False
        done = self.done | 1 << operation
        used = self.tried.setdefault((done & ~self.lost_bits, after), [])
        if any(other & done == other for other in used):
            return False
        used.append(done & self.lost_bits)
        self.placed.append((operation, self.state, event))
        self.done, self.state = done, after
        self.line.lift(operation)
        return True

    def _take_back(self) -> tuple[int, int]:
        """Take the last operation back; return what to try next."""
        operation, self.state, event = self.placed.pop()
        self.done ^= 1 << operation
        self.line.unlift(operation)
        if self.lost_bits >> operation & 1:
            return event, self.pending.index(operation) + 1
        return self.line.next[event], 0


def _alike(operations: Sequence[Operation]) -> list[int]:
    """Return for each operation without an answer the one called before it that asked the same, or -1."""
    last: dict[Hashable, int] = {}
    alike = [-1] * len(operations)
    for number, one in enumerate(operations):
        if one.answered is None:
            alike[number] = last.get(one.asked, -1)
            last[one.asked] = number
    return alike


class _Line:
    """Calls and answers in time as a doubly linked list, from which placed operations are lifted and put back.

    Events are numbered in their order from 1; 0 is the head. A call without an answer has a number and no place.

    Attributes:
        unanswered: answers in the list.
    """

    def __init__(self, operations: Sequence[Operation]) -> None:
        events = [(one.called, 0, number) for number, one in enumerate(operations)]
        events += [(one.answered, 1, number) for number, one in enumerate(operations) if one.answered is not None]
        events.sort()
        self.operation: list[int] = [-1, *(number for _, _, number in events)]
        self.is_call = [False, *(side == 0 for _, side, _ in events)]
        self.next, self.before = [0] * len(self.operation), [0] * len(self.operation)
        self.call, self.answer = [0] * len(operations), [0] * len(operations)
        self.unanswered = len(events) - len(operations)
        last = 0
        for event, (_, side, number) in enumerate(events, start=1):
            (self.answer if side else self.call)[number] = event
            if operations[number].answered is not None:
                self.next[last], self.before[event], last = event, last, event
        self.before[0] = last

    def lift(self, operation: int) -> None:
        """Take an operation's events out, if they are there."""
        if self.answer[operation]:
            for event in (self.call[operation], self.answer[operation]):
                self.next[self.before[event]], self.before[self.next[event]] = self.next[event], self.before[event]
            self.unanswered -= 1

    def unlift(self, operation: int) -> None:
        """Put back the operation that was lifted last."""
        if self.answer[operation]:
            for event in (self.answer[operation], self.call[operation]):
                self.next[self.before[event]] = self.before[self.next[event]] = event
            self.unanswered += 1
