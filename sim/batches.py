"""A serving engine in virtual time: one pipeline's batcher over a law of iterations, request by request.

Two ways to the same schedule; `sim.fluid` is a third, to nearly the same. Iteration by iteration is the reference. In
*leaps*, iterations in which nothing happens but that every stream emits one token are taken many at a time, up to the
next end, arrival that may be admitted, or shortage of blocks; a leap costs the law at its mean context times its
length, which is exact where the law is linear in the context (`models.engines.linear`) and differs by the tables'
curvature where it is not.

An *event* is one advance of the engine's state: an iteration, a leap of them, or a fluid's window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from models.engines import Law
from policies.port import NS_PER_S
from policies.serving.batching import Batcher, BatchRules, Chunk, Iteration, Request

Fidelity = Literal["iterations", "leaps", "fluid"]
Watch = Callable[[float, int], None]


class Arrival(NamedTuple):
    """A request and when it comes."""

    at_s: float
    request: Request


@dataclass(frozen=True)
class Served:
    """What became of one request.

    Attributes:
        request: as the batcher left it.
        at_s: when it came.
        first_s: when its first token was out; None if it never was.
        last_s: when its last one was; None if it was not served to its end.
    """

    request: Request
    at_s: float
    first_s: float | None
    last_s: float | None

    @property
    def ttft_s(self) -> float | None:
        """Time to the first token."""
        return None if self.first_s is None else self.first_s - self.at_s

    @property
    def tpot_s(self) -> float | None:
        """Mean time of a token after the first; None where there is no other."""
        if self.first_s is None or self.last_s is None or self.request.wanted < 2:
            return None
        return (self.last_s - self.first_s) / (self.request.wanted - 1)

    @property
    def end_to_end_s(self) -> float | None:
        """Time to the last token."""
        return None if self.last_s is None else self.last_s - self.at_s


@dataclass(frozen=True)
class Outcome:
    """A whole run.

    Attributes:
        served: what became of each request, in order of arrival.
        iterations: how often the model was run over a batch.
        events: how often the state advanced, many iterations at a time but in the reference.
        fidelity: which way it was computed.
    """

    served: tuple[Served, ...]
    iterations: int
    events: int
    fidelity: Fidelity

    @property
    def token_steps(self) -> int:
        """Tokens that were emitted: what a simulator pays for that keeps a record a request and iteration."""
        return sum(one.request.emitted for one in self.served)


class Machine(Protocol):
    """What serves requests in virtual time, event by event.

    Attributes:
        now_s: the time.
        iterations: that have ended.
        first_s: key to the time of the first token.
        last_s: key to the time of the last one.
    """

    now_s: float
    first_s: dict[str, float]
    last_s: dict[str, float]

    @property
    def iterations(self) -> int: ...

    def offer(self, request: Request) -> None:
        """Let a request wait for its turn."""
        ...

    def advance(self, coming: Arrival | None) -> bool:
        """Let one event pass; ``coming`` is who comes next. Return False where there was nothing to do."""
        ...


def replay(machine: Machine, arrivals: Iterable[Arrival], fidelity: Fidelity, watch: Watch) -> Outcome:
    """Let a machine serve all requests to their end.

    Raises:
        ValueError: a request can never run, or has the key of another.
    """
    coming = sorted(arrivals, key=lambda one: one.at_s)
    if len({one.request.key for one in coming}) < len(coming):
        raise ValueError("requests: two have the same key; allowed: one each")
    at = events = 0
    while True:
        while at < len(coming) and coming[at].at_s <= machine.now_s:
            machine.offer(coming[at].request)
            at += 1
        watch(machine.now_s, machine.iterations)
        if machine.advance(coming[at] if at < len(coming) else None):
            events += 1
        elif at < len(coming):
            machine.now_s = coming[at].at_s
        else:
            break
    served = tuple(
        Served(one.request, one.at_s, machine.first_s.get(one.request.key), machine.last_s.get(one.request.key))
        for one in coming
    )
    return Outcome(served, machine.iterations, events, fidelity)


class Engine:
    """Serves requests with one batcher.

    Args:
        law: what an iteration takes.
        rules: the batch's limits.
        leaps: take iterations in which nothing happens many at a time.
        watch: told the time and the iterations so far before each event.
    """

    def __init__(
        self, law: Law, rules: BatchRules, *, leaps: bool = False, watch: Watch = lambda now_s, iterations: None
    ) -> None:
        self.law, self.leaps, self.watch = law, leaps, watch
        self.batcher = Batcher(rules)
        self.now_s = 0.0
        self.first_s: dict[str, float] = {}
        self.last_s: dict[str, float] = {}

    @property
    def iterations(self) -> int:
        """How many have ended."""
        return self.batcher.step

    def serve(self, arrivals: Iterable[Arrival]) -> Outcome:
        """Serve all requests to their end.

        Raises:
            ValueError: a request can never run, or has the key of another.
        """
        return replay(self, arrivals, "leaps" if self.leaps else "iterations", self.watch)

    def offer(self, request: Request) -> None:
        """Let a request wait for its turn.

        Raises:
            ValueError: it is too long for the cache, or of no tokens.
        """
        self.batcher.offer(request)

    def advance(self, coming: Arrival | None) -> bool:
        """Let an iteration pass, or a leap of them, if there is anything to do; ``coming`` is who comes next."""
        iteration = self.batcher.next(int(self.now_s * NS_PER_S))
        if iteration is None:
            return False
        batcher = self.batcher
        most = batcher.leap() if self.leaps and not iteration.chunks else 1
        if most > 1:
            # Whoever comes may join the iteration after, unless others wait for room before it.
            stops = coming is not None and batcher.overtakes(coming.request)
            most, spent_s = self._leap(iteration, most, coming.at_s if coming and stops else None)
        else:
            spent_s = self.law.iteration_s(_plain(iteration.chunks), *iteration[1:])
        self.now_s += spent_s
        spoken = batcher.end(most)
        for request in spoken.first:
            self.first_s.setdefault(request.key, self.now_s)
        for request in spoken.done:
            self.last_s[request.key] = self.now_s
        return True

    def _leap(self, iteration: Iteration, most: int, until_s: float | None) -> tuple[int, float]:
        """Return how many iterations pass, at least one, and what they take: none begins after ``until_s``."""
        spent_s = self._spent_s(iteration, most)
        if until_s is None or self.now_s + spent_s <= until_s:
            return most, spent_s
        few, many = 0, most  # `few` end before it, `many` do not
        while many - few > 1:
            middle = (few + many) // 2
            if self.now_s + self._spent_s(iteration, middle) < until_s:
                few = middle
            else:
                many = middle
        return many, self._spent_s(iteration, many)

    def _spent_s(self, iteration: Iteration, count: int) -> float:
        """Return what ``count`` iterations take, whose contexts grow by a token a stream each."""
        mean = iteration.context + iteration.decodes * (count - 1) / 2.0
        return count * self.law.iteration_s((), iteration.decodes, mean, iteration.speaks)


def _plain(chunks: Iterable[Chunk]) -> list[tuple[int, int]]:
    return [(chunk.tokens, chunk.context) for chunk in chunks]
