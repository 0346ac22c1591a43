"""A serving engine in virtual time: one pipeline's batcher over a law of iterations, request by request.

Two ways to the same schedule. Iteration by iteration is the reference. In *leaps*, iterations in which nothing happens
but that every stream emits one token are taken many at a time, up to the next end, arrival that may be admitted, or
shortage of blocks; a leap costs the law at its mean context times its length, which is exact where the law is linear
in the context (`models.engines.linear`) and differs by the tables' curvature where it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from models.engines import Law
from policies.port import NS_PER_S
from policies.serving.batching import Batcher, BatchRules, Chunk, Iteration, Request

Watch = Callable[[float, Batcher], None]


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
        events: how often the engine was asked: the same, but for leaps.
    """

    served: tuple[Served, ...]
    iterations: int
    events: int


class Engine:
    """Serves requests with one batcher.

    Args:
        law: what an iteration takes.
        rules: the batch's limits.
        leaps: take iterations in which nothing happens many at a time.
        watch: told the time and the batcher before each event.
    """

    def __init__(
        self, law: Law, rules: BatchRules, *, leaps: bool = False, watch: Watch = lambda now_s, batcher: None
    ) -> None:
        self.law, self.leaps, self.watch = law, leaps, watch
        self.batcher = Batcher(rules)
        self.now_s = 0.0
        self._first_s: dict[str, float] = {}
        self._last_s: dict[str, float] = {}

    def serve(self, arrivals: Iterable[Arrival]) -> Outcome:
        """Serve all requests to their end.

        Raises:
            ValueError: a request can never run, or has the key of another.
        """
        batcher = self.batcher
        coming = sorted(arrivals, key=lambda one: one.at_s)
        if len({one.request.key for one in coming}) < len(coming):
            raise ValueError("requests: two have the same key; allowed: one each")
        at = events = 0
        while True:
            while at < len(coming) and coming[at].at_s <= self.now_s:
                batcher.offer(coming[at].request)
                at += 1
            self.watch(self.now_s, batcher)
            iteration = batcher.next(int(self.now_s * NS_PER_S))
            if iteration is None:
                if at == len(coming):
                    break
                self.now_s = coming[at].at_s
                continue
            events += 1
            self._pass(iteration, coming[at] if at < len(coming) else None)
        served = tuple(
            Served(one.request, one.at_s, self._first_s.get(one.request.key), self._last_s.get(one.request.key))
            for one in coming
        )
        return Outcome(served, batcher.step, events)

    def _pass(self, iteration: Iteration, arrival: Arrival | None) -> None:
        """Let an iteration pass, or a leap of them, and note who spoke."""
        batcher = self.batcher
        most = batcher.leap() if self.leaps and not iteration.chunks else 1
        if most > 1:
            # Whoever comes may join the iteration after, unless others wait for room before it.
            stops = arrival is not None and batcher.overtakes(arrival.request)
            most, spent_s = self._leap(iteration, most, arrival.at_s if arrival and stops else None)
        else:
            spent_s = self.law.iteration_s(_plain(iteration.chunks), *iteration[1:])
        self.now_s += spent_s
        spoken = batcher.end(most)
        for request in spoken.first:
            self._first_s.setdefault(request.key, self.now_s)
        for request in spoken.done:
            self._last_s[request.key] = self.now_s

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
