"""What clients saw was linearizable (S17): their calls and answers, judged when the run is over."""

from __future__ import annotations

from scenarios.checks.language import Check, Event, told
from scenarios.checks.linear import STEPS_MAX, Model, Operation, check

CALLED, ANSWERED = told("called"), told("answered_with")
"""A client called an operation, the value is (client, op_id, asked); it was answered: (client, op_id, answer).

A client that asks again, here or elsewhere, says so once: it is one operation, with one op_id.
"""


class Linearizable(Check):
    """The clients' history is linearizable; one that cannot be judged is no breach, and says so in ``unknown``.

    Args:
        model: what they used.
        steps_max: effort allowed, in each part.
    """

    def __init__(self, model: Model, steps_max: int = STEPS_MAX) -> None:
        super().__init__("linearizable", CALLED, ANSWERED)
        self.model, self.steps_max = model, steps_max
        self.history: dict[tuple[str, str], Operation] = {}
        self.unknown = False

    def take(self, event: Event) -> str:
        client, op_id, value = event.value
        if event.kind == CALLED.kind:
            self.history.setdefault((client, op_id), Operation(client, value, event.now_ns))
            return ""
        called = self.history[client, op_id]
        if called.answered is None:
            self.history[client, op_id] = called._replace(answered=event.now_ns, answer=value)
        elif called.answer != value:
            return f"{client}/{op_id} was answered {called.answer!r}, and now {value!r}"
        return ""

    def end(self) -> str:
        verdict = check(self.model, self.history.values(), self.steps_max)
        self.unknown = verdict.linearizable is None
        return "" if verdict.linearizable is not False else str(verdict)
