"""The head's side of batched serving: whose tokens go through a pipeline next is `policies.serving`'s to decide.

The head of a pipeline holds its lanes (`policies.serving.lanes`). A lane runs while it has sessions: it takes the next
batch from its batcher, runs stage 0, sends one frame through the other stages, and hears one token of each session that
speaks. What a stage fails is lost to all sessions that have a cache in that lane; those that wait there go on.

Nothing is under way in a lane when its caches are closed, so that no batch opens one again. A stage has as many blocks
as its lanes count; so it closes caches before it runs the batch that takes what they held.

Where equal beginnings are shared, the lane's batcher decides which blocks stages keep: they are told what is filled,
what a new cache begins with, and what is forgotten. A stage that has lost a block says so, and the lane begins again.

Who waits in a lane is admitted by class, and told when its deadline has passed instead; who runs loses its blocks to
those of lower ranks.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from policies.config import BatchedConfig, ShardingConfig
from policies.jobs import Sampling, SessionJob, Stage
from policies.serving.batching import Batcher, Piece, Request
from policies.serving.lanes import lane_count, lane_for, lane_rules
from policies.serving.prefixes import Chain
from real_backends.batch_frames import Batch, Slice, choices, join
from real_backends.executors import ModelSpec, PrefixGone, pack_activation
from real_backends.stages import Stages

GONE_MAX = 3
"""Times that a lane begins again before anybody in it has said a token (our choice): a stage that has lost its blocks
once more is taken for one that fails, or a liar would have the others compute for ever."""


class Late(Exception):
    """A session's deadline passed while it waited in its lane."""


class Head(Protocol):
    """What the node does for its lanes (`real_backends.executors_host`)."""

    stages: Stages

    def open(self, name: str, model: str, stages: tuple[Stage, ...]) -> None:
        """Tell the other stages that a lane begins, and expect their answers."""
        ...

    def close_at(self, name: str, stages: tuple[Stage, ...]) -> None:
        """Forget a session or a lane, here and at the other stages."""
        ...

    async def ask(self, frame: Batch, speak: int, may_lack: bool) -> tuple[int, ...]:
        """Send a batch to stage 1 until the last stage has answered; return the tokens of those that speak."""
        ...


@dataclass(eq=False)
class _Served:
    """A session: its prompt and what it has said, how it goes on, and where its head hears it."""

    request: Request
    ids: npt.NDArray[np.int64]
    known: int
    sampling: Sampling | None
    chain: Chain | None
    heard: asyncio.Queue[int | Exception] = field(default_factory=asyncio.Queue)

    def take(self, token: int) -> None:
        """One more token."""
        self.ids[self.known] = token
        self.known += 1
        if self.chain is not None:
            self.chain.take([token])
        self.heard.put_nowait(token)


class _Lane:
    """One lane: its batcher, its sessions, and the task that runs its batches while it has any.

    Attributes:
        scope: of its sessions' blocks: what another lane caches may be forgotten before a batch of this one arrives.
        broken: it met a fault of ours, and nobody knows what its batcher is at.
    """

    def __init__(
        self, head: Head, model: str, stages: tuple[Stage, ...], batcher: Batcher, scope: str, now: Callable[[], int]
    ) -> None:
        self.batcher, self.scope, self.broken = batcher, scope, False
        self.served: dict[str, _Served] = {}
        self.task: asyncio.Task[None] | None = None
        self._head, self._model, self._stages, self._now = head, model, stages, now
        self._caches: list[str] = []
        self._closing: list[str] = []  # caches of which not all stages have heard that they are closed
        self._told: dict[bytes, None] = {}  # names of blocks that stages may have, in order
        self._gone = 0  # times that a stage had lost blocks, since a token was said

    async def run(self, name: str) -> None:
        """Run batches until nobody is here.

        Args:
            name: a new one each time, so that no stage takes its batches for earlier ones.
        """
        self._head.open(name, self._model, self._stages)
        try:
            for number in itertools.count():
                found = self.batcher.next(self._now())
                self._tell_late()
                if found is None:
                    break
                await self._batch(name, number, self.batcher.pieces())
        except Exception as error:  # a fault of ours: nobody here waits for ever
            self.broken = True
            for served in self.served.values():
                served.heard.put_nowait(error)
            raise
        finally:
            self.task = None
            self._head.close_at(name, self._stages)

    def _tell_late(self) -> None:
        for served in self.served.values():
            if served.request.state == "expired":
                served.heard.put_nowait(Late())

    async def _batch(self, name: str, number: int, pieces: tuple[Piece, ...]) -> None:
        try:
            tokens = await self._compute(name, number, pieces)
            self._closing.clear()
        except PrefixGone:
            self._gone += 1
            self.batcher.begin_again()
        except Exception as error:
            for request in list(self.batcher.running.values()):
                self.batcher.cancel(request, "failed")
                if (served := self.served.get(request.key)) is not None:
                    served.heard.put_nowait(error)
            self.batcher.begin_again()  # nobody knows what stages have
        else:
            self._gone = 0 if tokens else self._gone
            for request, token in zip((piece.request for piece in pieces if piece.speaks), tokens, strict=True):
                if (served := self.served.get(request.key)) is not None:  # it was not given up meanwhile
                    served.take(token)
        self.batcher.end()

    async def _compute(self, name: str, number: int, pieces: tuple[Piece, ...]) -> tuple[int, ...]:
        served, known = [self.served[p.request.key] for p in pieces], set(self._caches)
        closed, forgotten = self._closed(), self._forgotten()
        slices = tuple(self._slice(p, one, known) for p, one in zip(pieces, served, strict=True))
        self._told.update((name, None) for one in slices for name in one.names)
        x = join([one.ids[p.position : p.position + p.tokens] for p, one in zip(pieces, served, strict=True)])
        stages = self._stages
        outputs = await self._head.stages.run_batch(name, self._model, stages[0], slices, x, closed, forgotten)
        if len(stages) == 1:
            return choices(slices, outputs)
        onward = pack_activation(join(outputs), self._head.stages.coding)
        batch = Batch(name, number, self._model, stages, 1, slices, onward, closed, forgotten)
        may_lack = self._gone < GONE_MAX and any(one.shared for one in slices)
        return await self._head.ask(batch, sum(one.speaks for one in slices), may_lack)

    def _slice(self, piece: Piece, served: _Served, known: set[str]) -> Slice:
        request, tokens, position, speaks = piece
        cache, chain = _cache(request), served.chain
        shared = chain.before(position) if chain is not None and cache not in known else ()
        names = chain.filled(position, tokens) if chain is not None else ()
        return Slice(cache, position, tokens, speaks, served.sampling, shared, names)

    def _forgotten(self) -> tuple[bytes, ...]:
        """Return the names that stages may have, and that neither the batcher's pool keeps nor a session will fill."""
        if not self._told:
            return ()
        pool = self.batcher.pool
        filling = {name for key in self.batcher.running for name in self.served[key].request.names}
        gone = [n for n in self._told if n not in pool.held and n not in pool.idle and n not in filling]
        for name in gone:
            del self._told[name]
        return tuple(gone)

    def _closed(self) -> tuple[str, ...]:
        """Return the caches of those who ended, left, failed or lost their blocks since the last batch that arrived."""
        before, self._caches = self._caches, [_cache(request) for request in self.batcher.running.values()]
        held = set(self._caches)
        self._closing += [cache for cache in before if cache not in held]
        return tuple(self._closing)


def _cache(request: Request) -> str:
    """The name of a request's cache: another one each time that it is admitted."""
    return f"{request.key}#{request.preempted}"


class BatchLines:
    """The pipelines that a node heads.

    Args:
        head: the node.
        serving: limits of a batch.
        sharding: what stages have reserved.
        now: the monotonic clock on which sessions have their deadlines.
    """

    def __init__(self, head: Head, serving: BatchedConfig, sharding: ShardingConfig, now: Callable[[], int]) -> None:
        self._head, self._serving, self._sharding, self._now = head, serving, sharding, now
        self._lanes: dict[tuple[str, tuple[Stage, ...]], list[_Lane]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = itertools.count()

    async def tokens(
        self, job: SessionJob, session: str, known: npt.NDArray[np.int64], left: int
    ) -> AsyncGenerator[int, None]:
        """Yield up to ``left`` tokens after the ``known`` ones of a session, as they come.

        Raises:
            ValueError: the session can never run.
            JobLost: a stage does not answer.
            Late: its deadline passed before it began.
        """
        spec = await self._head.stages.spec(job.model)
        _check(spec, known, left)
        lane, chain = self._lane(job, session, known)
        names = chain.names if chain is not None else ()
        request = Request(session, len(known), left, job.rank, job.deadline_ns, names)
        try:
            lane.batcher.offer(request)
        except ValueError:
            if not lane.batcher.rules.share:
                self._forget_idle()
            raise
        ids = np.concatenate((known, np.zeros(left, np.int64)))
        served = lane.served[session] = _Served(request, ids, len(known), job.sampling, chain)
        if lane.task is None:
            lane.task = asyncio.get_running_loop().create_task(lane.run(f"{session}/{next(self._count)}"))
            self._tasks.add(lane.task)
            lane.task.add_done_callback(self._tasks.discard)
        try:
            for _ in range(left):
                heard = await served.heard.get()
                if isinstance(heard, Exception):
                    raise heard
                yield heard
        finally:
            del lane.served[session]
            lane.batcher.cancel(request)
            if not lane.batcher.rules.share:
                self._forget_idle()

    def _lane(self, job: SessionJob, session: str, known: npt.NDArray[np.int64]) -> tuple[_Lane, Chain | None]:
        """Return the lane of a new session, and the names of its blocks where they are shared.

        What stages have kept for another pipeline, or an earlier life of this node, is named otherwise: who computed
        that is not known. A session's name is unique over restarts.
        """
        key = (job.model, job.stages)
        if key not in self._lanes:
            self._forget_idle()
            self._lanes[key] = [self._made(job, session) for _ in range(lane_count(self._sharding, len(job.stages)))]
        lanes = self._lanes[key] = [self._made(job, session) if lane.broken else lane for lane in self._lanes[key]]
        chains = [Chain(lane.scope) if lane.batcher.rules.share else None for lane in lanes]
        for chain in chains:
            if chain is not None:
                chain.take(known)
        picked = lane_for(
            [(lane.batcher, chain.names if chain else ()) for lane, chain in zip(lanes, chains, strict=True)]
        )
        return lanes[picked], chains[picked]

    def _made(self, job: SessionJob, session: str) -> _Lane:
        batcher = Batcher(lane_rules(self._serving, self._sharding, len(job.stages)))
        return _Lane(self._head, job.model, job.stages, batcher, f"{session}/{next(self._count)}", self._now)

    def _forget_idle(self) -> None:
        """Forget pipelines that serve nobody; one with shared blocks stays until another one begins."""
        for key, lanes in list(self._lanes.items()):
            if not any(lane.served for lane in lanes):
                del self._lanes[key]  # a lane's task ends by itself after the batch that is under way

    async def close(self) -> None:
        """Give everything up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _check(spec: ModelSpec, prompt: npt.NDArray[np.int64], new_tokens: int) -> None:
    """Refuse what a shard would refuse in the middle of a batch, to the harm of all others in it."""
    length = len(prompt) + new_tokens - 1  # the last token is not fed
    if length > spec.context:
        raise ValueError(f"session: {length} tokens are not allowed, at most {spec.context}")
    if prompt.min() < 0 or prompt.max() >= spec.vocab:
        raise ValueError(f"prompt: token {prompt.min()}..{prompt.max()} is not allowed, expected 0..{spec.vocab - 1}")
