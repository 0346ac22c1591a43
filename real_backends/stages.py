"""The stage side of a pipeline: layers of a model on this node, serving sessions whose head is any node.

Steps of one session come in order of position, and batches of one lane in order of number, but the links under them
may lose, repeat or reorder: a stage answers a repeated step with the answer it gave, ignores an older one, and refuses
one that leaves a gap.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Union

import msgspec

from policies.jobs import Sampling, Stage
from policies.wire import Message, WireError, encode
from real_backends.batch_frames import Batch, Slice, Tokens, choices, join, parts_of
from real_backends.clock import Clock
from real_backends.compute import Compute
from real_backends.executors import (
    Activation,
    ModelSpec,
    Part,
    Shard,
    Weights,
    choose,
    make_shard,
    pack_activation,
    unpack_activation,
)
from real_backends.executors.paced import ShardMaker
from real_backends.transports.frames import STAGE, STAGE_RESULT, Transport

SHARDS_MAX = 4  # assumption: after a new plan the old one still drains; more than that is a mistake
SESSION_IDLE_NS = 120_000_000_000  # assumption: a head that was silent this long is gone


class Open(Message, frozen=True, tag="open"):
    """STAGE: have these layers in memory; a session is about to begin."""

    session: str
    model: str
    stages: tuple[Stage, ...]
    index: int


class Step(Message, frozen=True, tag="step"):
    """STAGE: run new tokens at ``position``."""

    session: str
    model: str
    stages: tuple[Stage, ...]
    index: int
    position: int
    x: Activation
    sampling: Sampling | None = None  # for the last stage, which chooses


class Close(Message, frozen=True, tag="close"):
    """STAGE: forget the session."""

    session: str


class Token(Message, frozen=True, tag="token"):
    """STAGE_RESULT: the last stage's choice for the step at ``position``."""

    session: str
    position: int
    token: int


class Failed(Message, frozen=True, tag="failed"):
    """STAGE_RESULT: a stage cannot go on."""

    session: str
    reason: str
    node: str


StageFrame = Union[Open, Step, Batch, Close]  # noqa: UP007
_decode: Any = msgspec.msgpack.Decoder(StageFrame).decode

Models = dict[str, Callable[[], tuple[ModelSpec, Weights]]]
"""Model name to a function that loads it."""


@dataclass
class _Session:
    """A session, or a lane of batches, which holds no cache itself."""

    used_ns: int
    shard: Shard | None = None  # None until its first step ran
    position: int = -1  # of the newest step; of a lane, its number
    answer: tuple[str, int, bytes] | None = None  # the frame that answered it, None while it runs


@dataclass
class Stages:
    """This node's shards and sessions.

    Args:
        transport: the node's links.
        compute: where the model runs.
        models: what can be loaded.
        backend: "torch" or "jax".
        clock: to find sessions whose head is gone.
        coding: how activations are sent on, one of `executors.CODINGS`.
        make: makes shards (`executors.paced`).
        together: sessions that a step may run at once.
    """

    transport: Transport
    compute: Compute
    models: Models
    backend: str
    clock: Clock
    coding: str = "f32"
    make: ShardMaker = make_shard
    together: int = 1
    kv_peak_bytes: int = 0  # the most that caches of one moment took
    _loaded: dict[str, tuple[ModelSpec, Weights]] = field(default_factory=dict)
    _shards: OrderedDict[tuple[str, int, int], Shard] = field(default_factory=OrderedDict)
    _sessions: dict[str, _Session] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def sessions(self) -> int:
        """How many sessions and lanes are open here."""
        return len(self._sessions)

    async def warm_up(self) -> None:
        """Load every model's weights and the framework, and run one token: a first session must not wait for it."""
        for model in self.models:
            await self.compute.run(self._try_out, model)

    async def load(self, model: str, first: int, last: int) -> None:
        """Bring layers [first, last) into memory.

        Raises:
            ValueError: unknown model or layers.
            ExecutorUnavailable: the framework is not installed.
        """
        await self.compute.run(self._shard, model, first, last)

    async def forward(self, session: str, model: str, stage: Stage, x: Any, position: int) -> Any:
        """Run one step of a session on this node's layers; see `real_backends.executors.Shard.forward`."""
        entry = self._session(session)
        return await self.compute.run(self._forward, entry, session, model, stage, x, position)

    async def run_batch(self, lane: str, model: str, stage: Stage, slices: tuple[Slice, ...], x: Any) -> Any:
        """Run a batch on this node's layers; return what `real_backends.executors.Shard.step` does.

        Raises:
            ValueError: the slices do not fit ``x``, or what the shard holds.
        """
        parts = parts_of(slices, x)
        entries = [self._session(one.session) for one in slices]
        return await self.compute.run(self._run_batch, self._session(lane), entries, model, stage, parts)

    async def spec(self, model: str) -> ModelSpec:
        """Return the shape of a model.

        Raises:
            ValueError: unknown model.
        """
        spec, _ = await self.compute.run(self._weights, model)
        return spec

    async def drop(self, session: str) -> None:
        """Forget a session; unknown ones are ignored."""
        entry = self._sessions.pop(session, None)
        if entry is not None:
            await self.compute.run(_drop, entry, session)

    def _session(self, session: str) -> _Session:
        now_ns = self.clock.now()
        if session not in self._sessions:
            for name, entry in list(self._sessions.items()):
                if now_ns - entry.used_ns > SESSION_IDLE_NS:
                    self._spawn(self.drop(name))
        entry = self._sessions.setdefault(session, _Session(now_ns))
        entry.used_ns = now_ns
        return entry

    def on_frame(self, sender: str, body: bytes) -> None:
        """Take a STAGE frame.

        Raises:
            WireError: malformed, or not meant for this node.
        """
        try:
            frame = _decode(body)
        except msgspec.MsgspecError as error:
            raise WireError(f"stage frame: {error}") from None
        if isinstance(frame, Close):
            work = self.drop(frame.session)
        elif not 0 < frame.index < len(frame.stages) or frame.stages[frame.index].node != self.transport.me:
            raise WireError(f"stage frame for stage {frame.index}: that is not {self.transport.me}")
        else:
            work = {Open: self._open, Step: self._step, Batch: self._batch}[type(frame)](frame)
        self._spawn(work)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Give up what runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _open(self, frame: Open) -> None:
        stage = frame.stages[frame.index]
        try:
            await self.load(frame.model, stage.first, stage.last)
        except Exception as error:
            self._fail(frame, error)

    async def _step(self, step: Step) -> None:
        entry = self._session(step.session)
        if self._was_heard(entry, step.position):
            return
        said: Token | None = None
        try:
            x = unpack_activation(step.x)
            out = await self.forward(step.session, step.model, step.stages[step.index], x, step.position)
            if step.index == len(step.stages) - 1:
                chosen = choose(out, step.position + len(x), step.sampling)
                said = Token(session=step.session, position=step.position, token=chosen)
        except Exception as error:  # whatever went wrong here is the head's to report
            self._fail(step, error)
            await self.drop(step.session)
            return
        self._go_on(entry, step, out, said)

    async def _batch(self, batch: Batch) -> None:
        lane = self._session(batch.lane)
        if self._was_heard(lane, batch.number):
            return
        stage = batch.stages[batch.index]
        said: Tokens | None = None
        try:
            outputs = await self.run_batch(batch.lane, batch.model, stage, batch.slices, unpack_activation(batch.x))
            if batch.index == len(batch.stages) - 1:
                said = Tokens(lane=batch.lane, number=batch.number, tokens=choices(batch.slices, outputs))
        except Exception as error:
            self._fail(batch, error)
            for one in batch.slices:
                await self.drop(one.session)
            return
        self._go_on(lane, batch, None if said else join(outputs), said)

    def _was_heard(self, entry: _Session, position: int) -> bool:
        """Whether a step came before; if it is the newest, and done, its answer goes out again."""
        if position <= entry.position:
            if position == entry.position and entry.answer is not None:
                self.transport.send(*entry.answer)
            return True
        entry.position, entry.answer = position, None
        return False

    def _go_on(self, entry: _Session, frame: Step | Batch, out: Any, said: Token | Tokens | None) -> None:
        """Tell the head what the last stage chose, or send the activations to the next stage."""
        if said is not None:
            entry.answer = (frame.stages[0].node, STAGE_RESULT, encode(said))
        else:
            onward = msgspec.structs.replace(frame, index=frame.index + 1, x=pack_activation(out, self.coding))
            entry.answer = (onward.stages[onward.index].node, STAGE, encode(onward))
        self.transport.send(*entry.answer)

    def _fail(self, frame: Open | Step | Batch, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"
        name = frame.lane if isinstance(frame, Batch) else frame.session
        failed = Failed(session=name, reason=reason, node=self.transport.me)
        self.transport.send(frame.stages[0].node, STAGE_RESULT, encode(failed))

    # In the compute thread.

    def _forward(self, entry: _Session, session: str, model: str, stage: Stage, x: Any, position: int) -> Any:
        fresh = entry.shard is None
        if entry.shard is None:
            entry.shard = self._shard(model, stage.first, stage.last)
        out = entry.shard.forward(session, x, position)
        if fresh:
            self._note_kv()
        return out

    def _note_kv(self) -> None:
        """Caches are allocated whole: there are more after a session's first step, and at no other time."""
        shards = {id(one.shard): one.shard for one in list(self._sessions.values()) if one.shard is not None}
        self.kv_peak_bytes = max(self.kv_peak_bytes, sum(shard.kv_bytes() for shard in shards.values()))

    def _run_batch(self, lane: _Session, entries: list[_Session], model: str, stage: Stage, parts: list[Part]) -> Any:
        if lane.shard is None:
            lane.shard = self._shard(model, stage.first, stage.last)
        fresh = any(entry.shard is None for entry in entries)
        for entry in entries:
            entry.shard = lane.shard  # where its cache is, from now on
        outputs = lane.shard.step(parts)
        if fresh:
            self._note_kv()
        return outputs

    def _try_out(self, model: str) -> None:
        spec, weights = self._weights(model)
        self.make(self.backend, spec, weights, 0, 1).warm_up(self.together)

    def _shard(self, model: str, first: int, last: int) -> Shard:
        key = (model, first, last)
        if key in self._shards:
            self._shards.move_to_end(key)
            return self._shards[key]
        spec, weights = self._weights(model)
        shard = self.make(self.backend, spec, weights, first, last)
        shard.warm_up(self.together)
        self._shards[key] = shard
        while len(self._shards) > SHARDS_MAX:
            self._shards.popitem(last=False)  # sessions on it keep it alive until they end
        return shard

    def vocab(self, model: str) -> int:
        """Return how many token ids a model has.

        Raises:
            ValueError: unknown model.
        """
        return self._weights(model)[0].vocab

    def _weights(self, model: str) -> tuple[ModelSpec, Weights]:
        if model not in self.models:
            raise ValueError(f"model={model!r}: allowed are {', '.join(sorted(self.models)) or 'none'}")
        if model not in self._loaded:
            self._loaded[model] = self.models[model]()
        return self._loaded[model]


def _drop(entry: _Session, session: str) -> None:
    if entry.shard is not None:
        entry.shard.drop(session)
