"""Continuous batching: which requests take part in the next iteration of a pipeline, and with how many tokens.

An iteration runs the model once over the next token of every decoding request and over chunks of prompts, as many as a
budget of tokens leaves (iteration-level scheduling: Yu et al., Orca, OSDI 2022; chunked prefill beside decodes:
Agrawal et al., Sarathi-Serve, OSDI 2024; the order of vLLM's scheduler: whoever runs comes before whoever waits).

- A request is admitted when its prompt and one block more fit into the cache beside what is held. Blocks that are
  there already, of an equal beginning, are shared and not computed again; its last token is always computed.
- Where a running request needs a block and there is none, the last admitted of the lowest class gives up its blocks and
  waits at the head of its class; it computes again what it had, the tokens that it has emitted included, and emits none
  twice.
- The tightest stage of a pipeline decides how many blocks there are (`pool_blocks`).

A decoding request takes part in every iteration, so that the state of all of them moves by one count: an iteration
costs what happens in it, not what takes part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Literal, NamedTuple

from policies.serving.blocks import BlockPool, Name

State = Literal["queued", "prefill", "decode", "done", "cancelled", "expired", "failed"]
BLOCK_TOKENS = 16
"""Tokens of a block: vLLM's default."""


@dataclass(frozen=True)
class BatchRules:
    """Limits of a batch.

    Attributes:
        blocks: of the cache, as the tightest stage has them.
        tokens_max: tokens of one iteration, of prompts and decodes together.
        requests_max: requests that run at a time.
        block_tokens: tokens of a block.
        share: whether equal beginnings share blocks.
    """

    blocks: int
    tokens_max: int = 2048
    requests_max: int = 256
    block_tokens: int = BLOCK_TOKENS
    share: bool = True

    def __post_init__(self) -> None:
        for name in ("blocks", "tokens_max", "requests_max", "block_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: from 1")
        if self.requests_max > self.tokens_max:
            raise ValueError(f"requests_max is {self.requests_max}; allowed: up to tokens_max ({self.tokens_max})")

    def fits(self, prompt: int, wanted: int) -> bool:
        """Whether a request could ever run: its last token needs all tokens before it in the cache."""
        return prompt + wanted <= self.blocks * self.block_tokens

    def require(self, request: Request) -> None:
        """Refuse what can never run.

        Raises:
            ValueError: the request is too long for the cache, or of no tokens.
        """
        prompt, wanted = request.prompt, request.wanted
        if prompt < 1 or wanted < 1:
            raise ValueError(f"request {request.key}: {prompt} tokens in, {wanted} out; allowed: from 1")
        if not self.fits(prompt, wanted):
            most = self.blocks * self.block_tokens
            raise ValueError(f"request {request.key}: {prompt} + {wanted} tokens; allowed: up to {most}")


@dataclass(eq=False)
class Request:
    """One request, as the batcher knows it.

    Attributes:
        key: names it.
        prompt: tokens of its prompt, at least 1.
        wanted: tokens it will emit, at least 1.
        rank: its class; lower ones come first.
        deadline_ns: while it waits beyond this it is not begun any more; None: it waits for ever.
        names: of its prompt's full blocks, as far as others may share them.
        state: where it is.
        emitted: tokens it has emitted.
        computed: tokens whose keys and values are in the cache; of a decoding one, when it began to decode.
        shared: tokens that it found in the cache, over all its admissions.
        preempted: how often it lost its blocks.
    """

    key: str
    prompt: int
    wanted: int
    rank: int = 0
    deadline_ns: int | None = None
    names: Sequence[Name] = ()
    state: State = "queued"
    emitted: int = 0
    computed: int = 0
    shared: int = 0
    preempted: int = 0
    order: int = 0
    since: int = 0  # the iteration in which it began to decode
    own: list[Name] = field(default_factory=list)  # named blocks it holds, in the order of its tokens
    unnamed: int = 0  # further blocks it holds

    def late(self, now_ns: int) -> bool:
        """Whether it is not begun any more: it waited beyond its deadline, and has emitted nothing yet."""
        return self.deadline_ns is not None and now_ns > self.deadline_ns and not self.emitted


class Chunk(NamedTuple):
    """A piece of one request's tokens to compute: ``tokens`` of them behind ``context`` that are in the cache."""

    request: Request
    tokens: int
    context: int


class Iteration(NamedTuple):
    """What the model is run over once.

    Attributes:
        chunks: pieces of prompts.
        decodes: requests that decode a token.
        context: cached tokens of those, the new ones included, all together.
        speaks: requests that emit a token: the decodes and the prompts that end.
    """

    chunks: tuple[Chunk, ...]
    decodes: int
    context: int
    speaks: int


class Piece(NamedTuple):
    """What one request contributes to an iteration: ``tokens`` from ``position`` on; whether it emits one then."""

    request: Request
    tokens: int
    position: int
    speaks: bool


class Spoken(NamedTuple):
    """What an iteration brought about: prompts that ended, each with a token, and requests that are over."""

    first: tuple[Request, ...]
    done: tuple[Request, ...]


class Batcher:
    """The batch of one pipeline. Call `next` and `end` in turns; `offer` and `cancel` in between.

    Attributes:
        rules: its limits.
        pool: its cache.
        running: requests with blocks, in the order of their admission.
        waiting: how many wait.
        step: iterations that have ended.
    """

    def __init__(self, rules: BatchRules) -> None:
        self.rules, self.pool = rules, BlockPool(rules.blocks)
        self.running: dict[str, Request] = {}
        self.waiting = 0
        self.step = 0
        self._queue: list[tuple[int, int, Request]] = []
        self._orders = 0
        self._decodes = self._context = 0
        self._crowded = False  # whether somebody lost blocks for the coming iteration
        self._ends: dict[int, list[Request]] = {}  # iteration to those that emit their last token in it
        self._blocks: dict[int, list[Request]] = {}  # iteration to those that need a block for it
        self._now: Iteration | None = None

    # -- requests --------------------------------------------------------------------------------------------------

    def fits(self, prompt: int, wanted: int) -> bool:
        """Whether a request could ever run: its last token needs all tokens before it in the cache."""
        return self.rules.fits(prompt, wanted)

    def offer(self, request: Request) -> None:
        """Let a request wait for its turn.

        Raises:
            ValueError: it is too long for the cache, or of no tokens.
        """
        self.rules.require(request)
        self._orders += 1
        request.order = self._orders
        self._wait(request)

    def cancel(self, request: Request, state: State = "cancelled") -> None:
        """Forget a request; its blocks are free at once. One that is over stays as it is."""
        if request.state == "queued":
            request.state = state
            self.waiting -= 1
        elif request.state in ("prefill", "decode"):
            if request.state == "decode":
                self._catch_up(request)
            self._leave(request)
            request.state = state

    def begin_again(self) -> None:
        """What the cache kept is lost: all that run wait again, in their order, and nothing is there to be shared."""
        while self.running:
            self._preempt()
        for name in list(self.pool.idle):
            self.pool.forget(name)

    def _wait(self, request: Request) -> None:
        request.state = "queued"
        self.waiting += 1
        heappush(self._queue, (request.rank, request.order, request))

    def overtakes(self, request: Request) -> bool:
        """Whether a request that came now would be at the head of those who wait."""
        self._drop_over()
        return not self._queue or request.rank < self._queue[0][0]

    def _drop_over(self) -> None:
        while self._queue and self._queue[0][2].state != "queued":
            heappop(self._queue)

    @property
    def under_way(self) -> bool:
        """Whether an iteration has not ended."""
        return self._now is not None

    # -- one iteration ---------------------------------------------------------------------------------------------

    def next(self, now_ns: int = 0) -> Iteration | None:
        """Return what to compute next, or None while there is nothing.

        Raises:
            RuntimeError: the iteration before has not ended.
        """
        if self._now is not None:
            raise RuntimeError("an iteration is under way; end it first")
        crowded = self._crowded = self._grow()
        budget = self.rules.tokens_max - self._decodes
        chunks: list[Chunk] = []
        for request in self._unfinished():
            if budget > 0:
                budget -= self._chunk(request, budget, chunks)
        while not crowded and budget > 0 and len(self.running) < self.rules.requests_max:
            admitted = self._admit(now_ns)
            if admitted is None:
                break
            budget -= self._chunk(admitted, budget, chunks)
        if not chunks and not self._decodes:
            return None
        speaks = self._decodes + sum(one.tokens + one.context == _target(one.request) for one in chunks)
        self._now = Iteration(tuple(chunks), self._decodes, self._context + self._decodes, speaks)
        return self._now

    def pieces(self) -> tuple[Piece, ...]:
        """Return all that takes part in the iteration under way, one by one: for whoever computes it for real.

        Raises:
            RuntimeError: none is under way.
        """
        if self._now is None:
            raise RuntimeError("no iteration is under way")
        decodes = (
            Piece(one, 1, one.computed + self.step - one.since, True)
            for one in self.running.values()
            if one.state == "decode"
        )
        chunks = (
            Piece(one, tokens, context, context + tokens == _target(one)) for one, tokens, context in self._now.chunks
        )
        return (*decodes, *chunks)

    def leap(self) -> int:
        """Return how many iterations like the one under way can follow in a row, itself included.

        In all of them the same requests decode, none ends before the last, and there are blocks for all; who waits now
        cannot be admitted before. An iteration with chunks is followed by another one: 1. So is one in whose wake the
        head of the queue may be told that it waited too long, and whoever is behind it may fit.
        """
        if self._now is None or self._now.chunks or (self._crowded and self.waiting) or self._may_expire():
            return 1
        few, many = 1, min(self._due(one) for one in self.running.values()) - self.step + 1
        while many - few > 1:  # `few` are known to have their blocks, `many` would go beyond the first end
            middle = (few + many) // 2
            if self._needed(self.step + middle) <= self.pool.room:
                few = middle
            else:
                many = middle
        return few

    def _may_expire(self) -> bool:
        """Whether the head of those who wait may give way to the next one while it waits."""
        self._drop_over()
        head = self._queue[0][2] if self._queue else None
        return head is not None and head.deadline_ns is not None and not head.emitted

    def _needed(self, step: int) -> int:
        """Blocks that are taken for iterations up to this one, while nobody ends."""
        size = self.rules.block_tokens
        return sum(
            len(requests) * (1 + (step - first) // size) for first, requests in self._blocks.items() if first <= step
        )

    def end(self, iterations: int = 1) -> Spoken:
        """The iteration is computed: its tokens are emitted, and requests that are done give up their blocks.

        Args:
            iterations: so many like it were computed in a row, at most `leap`.

        Raises:
            RuntimeError: none is under way.
        """
        iteration, self._now = self._now, None
        if iteration is None:
            raise RuntimeError("no iteration is under way")
        for _ in range(iterations - 1):
            self.step += 1
            self._context += self._decodes
            self._ends.pop(self.step, None)  # of requests that had to begin again
            self._grow()
        self.step += 1
        self._context += self._decodes
        done: list[Request] = []
        for request in self._ends.pop(self.step, ()):  # twice where it began again and lost no iteration by it
            if request.state == "decode" and self._due(request) == self.step:
                self._finish(request)
                done.append(request)
        first: list[Request] = []
        for request, tokens, context in iteration.chunks:
            if request.state != "prefill":
                continue  # cancelled meanwhile
            request.computed = context + tokens
            self._name(request)
            if request.computed == _target(request):
                first.append(request)
                self._decode(request, done)
        return Spoken(tuple(first), tuple(done))

    # -- admission -------------------------------------------------------------------------------------------------

    def _admit(self, now_ns: int) -> Request | None:
        """Admit the head of the queue if it fits; nobody overtakes it, or long requests would wait for ever."""
        while self.waiting:
            self._drop_over()
            request = self._queue[0][2]
            if request.late(now_ns):
                self.cancel(request, "expired")
                continue
            names = self._names(request) if self.rules.share else ()
            # The last token is computed whatever is cached: its logits are what is asked for.
            shared = names[: min(self.pool.known(names), (_target(request) - 1) // self.rules.block_tokens)]
            needed = min(self._count(_target(request)) + 1, self._count(request.prompt + request.wanted)) - len(shared)
            if needed > self.pool.room - self.pool.idle_among(shared):
                return None
            heappop(self._queue)
            self.waiting -= 1
            self.pool.hold(shared)
            self.pool.take(needed)
            request.own, request.unnamed = list(shared), needed
            request.computed = len(shared) * self.rules.block_tokens
            request.shared += request.computed
            request.state = "prefill"
            self.running[request.key] = request
            return request
        return None

    def _unfinished(self) -> Iterable[Request]:
        """Admitted requests whose prompt is not all in: the last admitted ones, since nobody is behind them."""
        found = []
        for request in reversed(self.running.values()):
            if request.state != "prefill":
                break
            found.append(request)
        return reversed(found)

    def _chunk(self, request: Request, budget: int, chunks: list[Chunk]) -> int:
        tokens = min(_target(request) - request.computed, budget)
        chunks.append(Chunk(request, tokens, request.computed))
        return tokens

    # -- decoding --------------------------------------------------------------------------------------------------

    def _decode(self, request: Request, done: list[Request]) -> None:
        """Its prompt is in and it emits a token; the rest come one an iteration."""
        request.emitted += 1
        request.since = self.step
        request.state = "decode"
        self._decodes += 1
        self._context += request.computed
        if request.emitted == request.wanted:
            done.append(request)
            self._finish(request)
            return
        self._ends.setdefault(self._due(request), []).append(request)
        self._need(request)

    def _due(self, request: Request) -> int:
        """The iteration that emits its last token."""
        return request.since + request.wanted - request.emitted

    def _need(self, request: Request) -> None:
        """Note the iteration for which its blocks no longer suffice."""
        step = self.step + 1 + self._spare(request)
        if step <= self._due(request):
            self._blocks.setdefault(step, []).append(request)

    def _spare(self, request: Request) -> int:
        """Tokens for which it has room in its blocks."""
        cached = request.computed + self.step - request.since
        return (len(request.own) + request.unnamed) * self.rules.block_tokens - cached

    def _grow(self) -> bool:
        """Take the blocks that the coming iteration needs; return whether somebody had to give up theirs."""
        step, crowded = self.step + 1, False
        for request in sorted(self._blocks.pop(step, ()), key=lambda one: (one.rank, one.order)):
            if request.state != "decode" or self._spare(request) > 0:
                continue  # it lost its blocks since, and has others now
            while request.state == "decode" and not self.pool.take(1):
                self._preempt()
                crowded = True
            if request.state == "decode":
                request.unnamed += 1
                self._need(request)
        return crowded

    def _preempt(self) -> None:
        last = max(self.running.values(), key=lambda one: (one.rank, one.order))
        if last.state == "decode":
            self._catch_up(last)
        self._leave(last)
        last.preempted += 1
        self._wait(last)

    def _catch_up(self, request: Request) -> None:
        """Bring up to date what moves by one count while it decodes."""
        passed = self.step - request.since
        request.emitted += passed
        request.computed += passed
        request.since = self.step
        self._name(request)

    def _finish(self, request: Request) -> None:
        self._catch_up(request)
        self._leave(request)
        request.state = "done"

    def _leave(self, request: Request) -> None:
        if request.state == "decode":
            self._decodes -= 1
            self._context -= request.computed + self.step - request.since
        del self.running[request.key]
        self.pool.release(request.own, request.unnamed)
        request.own, request.unnamed, request.computed = [], 0, 0

    # -- blocks ----------------------------------------------------------------------------------------------------

    def _count(self, tokens: int) -> int:
        return -(-tokens // self.rules.block_tokens)

    def _names(self, request: Request) -> Sequence[Name]:
        """Return the names of the full blocks of all it must compute: those it was given, then its own."""
        full = _target(request) // self.rules.block_tokens
        given = request.names[:full]
        return [*given, *((request.key, number) for number in range(len(given), full))]

    def _name(self, request: Request) -> None:
        """Name the blocks that have become full."""
        full = request.computed // self.rules.block_tokens
        if not self.rules.share or full <= len(request.own):
            return
        for number in range(len(request.own), full):
            name = request.names[number] if number < len(request.names) else (request.key, number)
            self.pool.fill(name)
            request.own.append(name)
            request.unnamed -= 1


def _target(request: Request) -> int:
    """Tokens that must be in the cache before it emits the next one: its prompt, and all it has emitted."""
    return request.prompt + request.emitted


def pool_blocks(
    free_bytes: Sequence[float], layers: Sequence[int], kv_bytes_token_layer: float, block_tokens: int
) -> int:
    """Return the blocks of a pipeline: each takes its share of every stage, so the tightest stage decides.

    Args:
        free_bytes: memory of each stage beside its weights and its runtime.
        layers: layers of each stage.
        kv_bytes_token_layer: what a token leaves in a layer's cache.
        block_tokens: tokens of a block.
    """
    return min(
        int(free // (held * kv_bytes_token_layer * block_tokens)) for free, held in zip(free_bytes, layers, strict=True)
    )
