"""What clients asked of the endpoint and what became of it: the table of a local run, written while it serves."""

from __future__ import annotations

import time
from collections.abc import Sequence

from policies.coordination.efforts import WITHDRAWN
from policies.jobs import Sampling
from real_backends.clients import Asked
from scenarios.clients import Attempt, Finish
from scenarios.workload import Request

COMPARED_MAX = 32  # answers kept to be compared with one process alone, which computes each again at the end


class Book:
    """All requests of one endpoint since it was ready.

    Attributes:
        asked: each from its client's side, in the order of arrival.
        begun_ns: from when times count, monotonic.
    """

    def __init__(self) -> None:
        self.begin(time.monotonic_ns())

    def begin(self, begun_ns: int) -> None:
        """Begin anew: what was asked before belongs to making ready."""
        self.asked: list[Asked] = []
        self.begun_ns = begun_ns
        self._answers = 0

    def enter(
        self, op_id: str, client: str, priority: int, deadline_s: float, prompt: Sequence[int], new_tokens: int,
        sampling: Sampling | None,
    ) -> Asked:  # fmt: skip
        """Return the entry of a request that comes now."""
        request = Request(op_id, client, priority, self._now_s(), deadline_s, len(prompt), new_tokens)
        self.asked.append(Asked(request, prompt, sampling))
        return self.asked[-1]

    def end(self, entry: Asked, then: Attempt | Finish, outcome_s: float | None, output: bytes | None) -> None:
        """Note how a request ended, one that nobody wanted to the end as the village's log has it.

        Args:
            entry: the request's.
            then: its end; an attempt is one that its client did not wait for.
            outcome_s: when the village's outcome came, on the monotonic clock; None where none came: it ends now.
            output: the answer's blob.
        """
        given_up = Finish("refused", WITHDRAWN, "", 0, 0, then.number) if isinstance(then, Attempt) else then
        entry.finish = given_up
        entry.ended_s = self._now_s() if outcome_s is None else outcome_s - self.begun_ns / 1e9
        self._answers += output is not None
        if output is not None and self._answers <= COMPARED_MAX:
            entry.output = output
        else:
            entry.prompt = ()  # nothing more is done with it, and an endpoint may serve for long

    def _now_s(self) -> float:
        return (time.monotonic_ns() - self.begun_ns) / 1e9
