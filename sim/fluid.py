"""A serving engine as a fluid: many iterations at a time, also those with prompts in them, in closed form.

One event is one *window*: up to some iterations of which the limits of the batch are held as they are at its start, and
after which the state moves once. Inside it

- all streams advance one token an iteration; an iteration takes t = a + b n + c (sum of contexts), of which the law is
  asked once, for the window's mean iteration; its iterations take equally long;
- prompts come in one after another, as many tokens an iteration as the decodes of the window's start leave, so that a
  prompt ends in the iteration in which the sum of tokens up to its last one is reached;
- all ends and all first tokens of the window are taken at once, each at its own iteration.

A window with prompts is of full iterations, at most `MIXED` of them, or is the single one that the rest of the prompts
does not fill. One without prompts lasts until the next arrival, or until `ENDING` of the streams have ended. Either
lasts until the first end where somebody waits for room, and no longer than the cache has blocks.

Against iteration-level batching it differs in this: the budget of prompts is that of the window's start; iterations of
a window are equally long, and their prompts' chunks alike; blocks are counted as a mean (a stream's last block is half
full), also those that are found again by whoever lost them; who comes waits for the window's end, also a request of a
class that goes first.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable
from heapq import heappop, heappush

from models.engines import Law
from policies.port import NS_PER_S
from policies.serving.batching import BatchRules, Request
from sim.batches import Arrival, Outcome, Watch, replay

MIXED = 8
"""Iterations of a window with prompts, at most. `twin bench batches` shows what others cost and save."""
ENDING = 0.25
"""Share of the streams that may end within a window without prompts."""


class Fluid:
    """Serves requests with one batch.

    Args:
        law: what an iteration takes.
        rules: the batch's limits.
        mixed: iterations of a window with prompts, at most.
        watch: told the time and the iterations so far before each event.

    Raises:
        ValueError: ``mixed`` is below 1.
    """

    def __init__(
        self, law: Law, rules: BatchRules, *, mixed: int = MIXED, watch: Watch = lambda now_s, iterations: None
    ) -> None:
        if mixed < 1:
            raise ValueError(f"mixed is {mixed}; allowed: from 1")
        self.law, self.rules, self.mixed, self.watch = law, rules, mixed, watch
        self.now_s = 0.0
        self.iterations = 0
        self.first_s: dict[str, float] = {}
        self.last_s: dict[str, float] = {}
        self._orders = 0
        self._queue: list[tuple[int, int, Request]] = []
        self._begun: Request | None = None  # its prompt is partly in: of those that run, at most one
        self._ends: list[tuple[int, int, Request]] = []  # who decodes, by the iteration of the last token
        self._context = 0  # cached tokens of those
        self._taken = 0.0  # blocks that were taken so far
        self._lost: dict[str, tuple[int, float]] = {}  # full blocks given up; so many taken, and they begin to go

    def serve(self, arrivals: Iterable[Arrival]) -> Outcome:
        """Serve all requests to their end.

        Raises:
            ValueError: a request can never run, has the key of another, or names blocks to share.
        """
        return replay(self, arrivals, "fluid", self.watch)

    def offer(self, request: Request) -> None:
        """Let a request wait for its turn.

        Raises:
            ValueError: it is too long for the cache, of no tokens, or names blocks, which a fluid has not.
        """
        self.rules.require(request)
        if self.rules.share and request.names:
            raise ValueError(
                f"request {request.key} shares its beginning; allowed in a fluid: requests that share none"
            )
        self._orders += 1
        request.order = self._orders
        self._wait(request)

    def advance(self, coming: Arrival | None) -> bool:
        """Let one window pass, if there is anything to do; ``coming`` is who comes next."""
        crowded = self._make_room()
        decodes = len(self._ends)
        budget = max(1, self.rules.tokens_max - decodes)
        prompts, room, enough = self._prompts(0 if crowded else self.mixed * budget)
        if not prompts and not decodes:
            return False
        blocked = bool(self._queue) and not enough  # the head of the queue found no room
        if prompts:
            count = min(self.mixed, max(1, sum(_target(one) - one.computed for one in prompts) // budget))
        else:
            count = self._ends[int(decodes * ENDING)][0] - self.iterations
            if coming is not None and not (blocked and coming.request.rank >= self._queue[0][0]):
                count = self._until(coming.at_s, count)
        if decodes:
            if blocked:
                count = min(count, self._ends[0][0] - self.iterations)
            count = min(count, max(1, int(room * self.rules.block_tokens / decodes)))
        self._pass(1 if crowded else count, budget, prompts)
        return True

    # -- who takes part --------------------------------------------------------------------------------------------

    def _wait(self, request: Request) -> None:
        request.state = "queued"
        heappush(self._queue, (request.rank, request.order, request))

    def _room(self) -> float:
        """Return how many blocks are free."""
        held = self._context + (_target(self._begun) if self._begun else 0)
        return self.rules.blocks - held / self.rules.block_tokens - 0.5 * self._running()

    def _running(self) -> int:
        return len(self._ends) + (self._begun is not None)

    def _make_room(self) -> bool:
        """Take the blocks of the last admitted of the lowest class while those left do not last for one iteration."""
        crowded = False
        while self._running() > 1 and (room := self._room()) < len(self._ends) / self.rules.block_tokens:
            last = max((one for _, _, one in self._ends), key=lambda one: (one.rank, one.order), default=None)
            if self._begun is not None and (last is None or self._begun.rank >= last.rank):
                last, self._begun = self._begun, None
            elif last is not None:
                self._ends.remove((_due(last), last.order, last))
                last.emitted += self.iterations - last.since
                last.computed += self.iterations - last.since
                self._context -= last.computed
            assert last is not None
            self._lost[last.key] = last.computed // self.rules.block_tokens, self._taken + max(0.0, room)
            last.preempted += 1
            self._wait(last)
            crowded = True
        return crowded

    def _prompts(self, tokens: int) -> tuple[list[Request], float, bool]:
        """Return whose prompts are next, the blocks that are left beside them, and whether they make ``tokens``."""
        found = [self._begun] if self._begun else []
        tokens -= sum(_target(one) - one.computed for one in found)
        room, running, size = self._room(), self._running(), self.rules.block_tokens
        while self._queue and tokens > 0 and running < self.rules.requests_max:
            request = self._queue[0][2]
            if request.late(int(self.now_s * NS_PER_S)):
                request.state = "expired"
                heappop(self._queue)
                continue
            needed = min(_target(request) / size + 1.5, (request.prompt + request.wanted) / size + 0.5)
            if running and needed > room:
                break
            heappop(self._queue)
            request.computed = self._kept(request)
            found.append(request)
            tokens -= _target(request) - request.computed
            room -= needed
            running += 1
        return found, room, tokens <= 0

    def _kept(self, request: Request) -> int:
        """Return how many of its tokens are still in the cache since it lost its blocks, of which the last go first."""
        full, begins = self._lost.get(request.key, (0, 0.0))
        if not full or not self.rules.share:
            return 0
        size = self.rules.block_tokens
        gone = max(0, math.ceil(self._taken - begins))
        return max(0, min(full - gone, (_target(request) - 1) // size)) * size

    # -- a window --------------------------------------------------------------------------------------------------

    def _until(self, at_s: float, most: int) -> int:
        """Return after how many iterations without prompts, one to ``most``, it is ``at_s``: by the mean of as many."""
        decodes, count = len(self._ends), 1
        for _ in range(2):  # the second time with contexts that have grown by as many tokens as the first time found
            mean = self._context + decodes * (count + 1) / 2
            count = min(most, max(1, -int((self.now_s - at_s) // self.law.iteration_s((), decodes, mean, decodes))))
        return count

    def _pass(self, count: int, budget: int, prompts: list[Request]) -> None:
        """Let ``count`` iterations pass, of ``budget`` tokens of prompts each, and note who spoke."""
        begun, old = self.iterations, len(self._ends)
        steps, context = count * old, _behind(self._context, count, old)
        over = [one for one in self._ends if one[0] <= begun + count]
        del self._ends[: len(over)]
        last: list[tuple[int, Request]] = []
        self._context += count * old
        for due, _, request in over:
            cached, ran = request.computed + begun - request.since, due - begun
            steps -= count - ran
            context -= _behind(cached, count) - _behind(cached, ran)
            self._context -= cached + count
            last.append((ran, request))
        pieces, first = self._fill(count, budget, prompts)
        for at, request in first:
            request.emitted += 1
            request.since, request.state = begun + at, "decode"
            ran = min(count - at, request.wanted - request.emitted)
            steps += ran
            context += _behind(request.computed, ran)
            if request.emitted + ran == request.wanted:
                last.append((at + ran, request))
            else:
                self._context += request.computed + ran
                insort(self._ends, (_due(request), request.order, request))
        chunks = pieces if count == 1 else _alike(pieces, count)
        mean_s = self.law.iteration_s(chunks, steps / count, context / count, (steps + len(first)) / count)
        for at, request in first:
            self.first_s.setdefault(request.key, self.now_s + at * mean_s)
        for at, request in last:
            self.last_s[request.key] = self.now_s + at * mean_s
            request.emitted, request.state = request.wanted, "done"
        self._taken += steps / self.rules.block_tokens
        self.iterations += count
        self.now_s += count * mean_s

    def _fill(
        self, count: int, budget: int, prompts: list[Request]
    ) -> tuple[list[tuple[int, int]], list[tuple[int, Request]]]:
        """Compute prompts; return their tokens, with those before them, and who ends in which iteration."""
        pieces: list[tuple[int, int]] = []
        first: list[tuple[int, Request]] = []
        tokens, self._begun = 0, None
        for request in prompts:
            taken = min(_target(request) - request.computed, count * budget - tokens)
            if not taken:
                self._wait(request)
                continue
            if request.state == "queued":
                request.shared += request.computed
                self._taken += (_target(request) - request.computed) / self.rules.block_tokens + 0.5
            pieces.append((taken, request.computed))
            tokens += taken
            request.computed += taken
            request.state = "prefill"
            if request.computed == _target(request):
                first.append((-(-tokens // budget), request))
            else:
                self._begun = request
        return pieces, first


def _alike(pieces: list[tuple[int, int]], count: int) -> list[tuple[float, float]]:
    """Return the chunks of the mean one of ``count`` iterations that take these pieces in turn.

    They have an iteration's tokens, and its pairs of a token and one that it attends to: in equal chunks behind equal
    contexts, and so few of them that those contexts are not below none.
    """
    tokens = sum(new for new, _ in pieces)
    if not tokens:
        return []
    attended = sum(new * before + 0.5 * new * new for new, before in pieces) / tokens  # a token, in the mean
    size = tokens / count
    number = math.ceil(0.5 * size / attended)
    return [(size / number, attended - 0.5 * size / number)] * number


def _target(request: Request) -> int:
    """Tokens that must be in the cache before it emits the next one."""
    return request.prompt + request.emitted


def _due(request: Request) -> int:
    """The iteration that emits its last token."""
    return request.since + request.wanted - request.emitted


def _behind(cached: int, count: int, streams: int = 1) -> int:
    """Return what ``streams`` of ``cached`` tokens together have read after ``count`` iterations."""
    return count * cached + streams * count * (count + 1) // 2
