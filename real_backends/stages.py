"""The stage side of a pipeline: layers of a model on this node, serving sessions whose head is any node.

Steps of one session come in order of position, and batches of one lane in order of number, but the links under them
may lose, repeat or reorder: a stage answers a repeated step with the answer it gave, ignores an older one, and refuses
one that leaves a gap. Who may send what is the gate's to say (`real_backends.stage_gate`).

Layers come into memory by this node's load jobs alone (`real_backends.held_shards`); no frame or session brings any.

Sessions share the blocks of equal beginnings (`real_backends.executors.pool`) with those of the same head alone: names
are its word, and a head that lies about its tokens spoils only its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import InitVar, dataclass, field
from typing import Any, NamedTuple, Union

import msgspec

from policies.jobs import Stage
from policies.serving.batching import BLOCK_TOKENS
from policies.wire import WireError, encode
from real_backends.batch_frames import Batch, Slice, Tokens, choices, join, parts_of
from real_backends.clock import Clock
from real_backends.compute import Compute
from real_backends.copies import Copied, Copies, Copy, Guard
from real_backends.executors import (
    BlocksFull,
    ModelSpec,
    Part,
    PrefixGone,
    SessionsFull,
    Shard,
    choose,
    make_shard,
    pack_activation,
    unpack_activation,
)
from real_backends.executors.paced import ShardMaker
from real_backends.held_shards import HeldShards, Models
from real_backends.lent_memory import LentMemory
from real_backends.stage_gate import Gate
from real_backends.step_frames import Close, Failed, MarkedStep, Open, Step, Token
from real_backends.transports.frames import STAGE, STAGE_RESULT, Transport

SESSION_IDLE_NS = 120_000_000_000  # assumption: a head that was silent this long is gone
GIVEN_UP_NS = 9_000_000_000
"""A head gives a step up after this (`real_backends.executors_host`). Where there are too few blocks, a session that
had no step for as long gives its own back: most likely nobody heard that it ended. One that goes on is lost."""

StageFrame = Union[Open, Step, MarkedStep, Batch, Close, Guard, Copy, Copied]  # noqa: UP007
_decode: Any = msgspec.msgpack.Decoder(StageFrame).decode

KEPT = ""  # the head of a session that outlives its own


@dataclass
class _Session:
    """A session, or a lane of batches, which holds no cache itself.

    Attributes:
        head: the node that can end it.
        asks: whose word it rests on: its head's, or another one's where it outlives that; or while the head has not
            spoken itself, the stage before's.
        lane: whose cache it is; empty for a session that steps by itself, and for a lane.
    """

    used_ns: int
    head: str
    lane: str = ""
    asks: str = ""
    shard: Shard | None = None  # None until its first step ran
    position: int = -1  # of the newest step; of a lane, its number
    answer: tuple[str, int, bytes] | None = None  # the frame that answered it, None while it runs


_Gone = list[tuple[_Session, str]]  # with their names


class _Named(NamedTuple):
    """A session's part of a step, the blocks that it begins with, the names of those that it fills, and the blocks
    that it may begin with in place of rows."""

    part: Part
    shared: tuple[bytes, ...]
    names: tuple[bytes, ...]
    alike: tuple[bytes, ...] = ()


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
        memory: what shards may take; none: as much as there is.

    Attributes:
        shards: those in memory.
        on_drop: told of a session, and on whose word it ran, before its shard drops it.
        kv_peak_bytes: the most that sessions held at one moment.
    """

    transport: Transport
    compute: Compute
    models: InitVar[Models]
    backend: InitVar[str]
    clock: Clock
    coding: str = "f32"
    make: InitVar[ShardMaker] = make_shard
    memory: InitVar[LentMemory | None] = None
    on_drop: Callable[[Shard, str, str], None] = lambda shard, session, head: None
    kv_peak_bytes: int = 0
    _sessions: dict[str, _Session] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self, models: Models, backend: str, make: ShardMaker, memory: LentMemory | None) -> None:
        self.copies, self.gate = Copies(self, self._spawn), Gate()
        self.gate.on_forgotten = self._on_forgotten
        self.shards = HeldShards(self.compute, models, backend, self._used, self._empty, make, memory=memory)

    @property
    def sessions(self) -> int:
        """How many sessions and lanes are open here."""
        return len(self._sessions)

    async def warm_up(self) -> None:
        """Load every model's weights and the framework, and run one token: a first session must not wait for it."""
        for model in self.shards.models:
            await self.compute.run(self.shards.try_out, model)

    async def load(self, model: str, first: int, last: int) -> None:
        """Bring layers [first, last) into memory.

        Raises:
            ValueError: unknown model or layers, or more than this node lends.
            ExecutorUnavailable: the framework is not installed.
        """
        await self.compute.run(self.shards.load, model, first, last)

    async def forward(
        self, session: str, model: str, stage: Stage, x: Any, position: int, names: tuple[bytes, ...] = (),
        alike: tuple[bytes, ...] = (),
    ) -> Any:  # fmt: skip
        """Run one step of a session on this node's layers; see `real_backends.executors.Shard.forward`.

        Args:
            session, model, stage, x, position: of the step.
            names: of the blocks that it fills.
            alike: of its first blocks: as many as are here are taken, and not computed, so that results are fewer.
        """
        step, entry = _Named(Part(session, x, position), (), names, alike), self._session(session, self.transport.me)
        entry.asks = self.transport.me
        return await self._run_alone(entry, model, stage, step)

    async def _run_alone(self, entry: _Session, model: str, stage: Stage, step: _Named) -> Any:
        return (await self._with_room(self._run, entry, [entry], model, stage, [step], [], ()))[0]

    def ran(self, session: str, model: str, stage: Stage, position: int, x: Any, mark: bytes) -> None:
        """A step of a prepared session ran here (`real_backends.copies`)."""
        if session in self._sessions:  # it was not forgotten or renamed meanwhile
            self.copies.ran(session, model, stage, position, x, mark)

    async def run_batch(
        self, lane: str, model: str, stage: Stage, slices: tuple[Slice, ...], x: Any, closed: tuple[str, ...] = (),
        forgotten: tuple[bytes, ...] = (), head: str = "",
    ) -> Any:  # fmt: skip
        """Run a batch on this node's layers; return what `real_backends.executors.Shard.step` does.

        Args:
            lane: its name.
            model, stage: what runs.
            slices, x, closed, forgotten: as of a `Batch`.
            head: whose lane it is; "" where this node heads it.

        Raises:
            ValueError: the slices do not fit ``x``, or what the shard holds.
            PrefixGone: a block that was to be shared is not here.
        """
        asks = self.gate.speaker(lane) if head else self.transport.me
        parts, head = parts_of(slices, x), head or self.transport.me
        steps = [_Named(part, one.shared, one.names) for part, one in zip(parts, slices, strict=True)]
        own = [name for name in closed if (entry := self._sessions.get(name)) is not None and entry.lane == lane]
        gone = [(self._sessions.pop(name), name) for name in own]
        entries = [self._session(one.session, head, lane) for one in slices]
        for entry in entries:
            entry.asks = asks
        holder = self._session(lane, head)
        return await self._with_room(self._run, holder, entries, model, stage, steps, gone, forgotten)

    async def _with_room(self, run: Callable[..., Any], *arguments: Any) -> Any:
        """Run a step; where it finds no blocks, once more without the sessions that their heads have given up."""
        try:
            return await self.compute.run(run, *arguments)
        except BlocksFull:
            since_ns = self.clock.now() - GIVEN_UP_NS
            for name in [name for name, entry in self._sessions.items() if entry.used_ns < since_ns]:
                await self.drop(name)
            return await self.compute.run(run, *arguments)

    async def spec(self, model: str) -> ModelSpec:
        """Return the shape of a model.

        Raises:
            ValueError: unknown model.
        """
        spec, _ = await self.compute.run(self.shards.weights, model)
        return spec

    async def drop(self, session: str) -> None:
        """Forget a session, or a lane with its caches; unknown ones are ignored."""
        names = [session, *(name for name, entry in self._sessions.items() if entry.lane == session)]
        gone = [(entry, name) for name in names if (entry := self._sessions.pop(name, None)) is not None]
        self.copies.forget(session)
        if gone:
            await self.compute.run(self._drop, gone)  # after what runs: that may open a cache

    def head_of(self, session: str) -> str:
        """Return on whose word a session runs that is held here, "" if none is."""
        entry = self._sessions.get(session)
        return "" if entry is None else entry.asks

    def on_peer_down(self, peer: str) -> None:
        """Forget what a peer heads that went down: it loses its sessions as well, and nobody else can end them."""
        for name, entry in list(self._sessions.items()):
            if entry.head == peer:
                self._spawn(self.drop(name))
            elif entry.asks == peer:
                entry.asks = ""  # what outlives it may go on for another

    def _on_forgotten(self, name: str) -> None:
        """A peer has begun too many sessions and lost this one; what goes by the same name here is not its own."""
        entry = self._sessions.get(name)
        if entry is None or self.transport.me not in (entry.head, entry.asks):
            self._spawn(self.drop(name))

    async def rename(self, session: str, name: str) -> None:
        """Let a session go on under another name, with its cache."""
        entry = self._sessions.pop(session, None)
        if entry is not None:
            self._sessions[name] = _Session(self.clock.now(), KEPT, asks=entry.asks, shard=entry.shard)
            if entry.shard is not None:
                await self.compute.run(entry.shard.rename, session, name)

    async def shard_of(self, session: str, model: str, first: int, last: int) -> Shard:
        """Return the shard of a session, which is this one if the session is new.

        Raises:
            ValueError: the layers are not in memory.
        """
        entry = self._session(session, self.transport.me)
        if entry.shard is None:
            entry.shard = await self.compute.run(self.shards.placed, model, first, last)
        return entry.shard

    def _session(self, session: str, head: str, lane: str = "") -> _Session:
        now_ns = self.clock.now()
        if session not in self._sessions:
            for name, entry in list(self._sessions.items()):
                if now_ns - entry.used_ns > SESSION_IDLE_NS:
                    self._spawn(self.drop(name))
        entry = self._sessions.setdefault(session, _Session(now_ns, head, lane, head))
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
            entry = self._sessions.get(frame.session)
            if not self.gate.end(sender, frame.session, entry.head if entry is not None else ""):
                return
            work = self.drop(frame.session)
        elif isinstance(frame, Copied):
            self.copies.on_copied(sender, frame)
            return
        elif isinstance(frame, Copy):
            if not self.gate.expects(sender, frame.kept):
                return
            work = self._copy(sender, frame)
        elif not 0 < frame.index < len(frame.stages) or frame.stages[frame.index].node != self.transport.me:
            raise WireError(f"stage frame for stage {frame.index}: that is not {self.transport.me}")
        elif not self._admits(sender, frame):
            return
        else:
            works: dict[type, Callable[[Any], Coroutine[Any, Any, None]]] = {
                Open: self._open, Guard: self._guard, Step: self._step, MarkedStep: self._step, Batch: self._batch,
            }  # fmt: skip
            work = works[type(frame)](frame)
        self._spawn(work)

    def _admits(self, sender: str, frame: Open | Guard | Step | Batch) -> bool:
        """Whether a frame comes from where its session's frames come from, and touches no session but its own."""
        kind, stages = type(frame).__name__.lower(), frame.stages
        name = frame.lane if isinstance(frame, Batch) else frame.session
        entry = self._sessions.get(name)
        head = entry.head if entry is not None else ""
        if not self.gate.serves(kind, sender, frame.model, stages):
            return False
        if isinstance(frame, Open | Guard):
            return self.gate.from_head(kind, sender, name, stages, head)
        if not self.gate.from_stage_before(kind, sender, name, stages, frame.index, head):
            return False
        if isinstance(frame, Batch):
            for one in frame.slices:
                entry = self._sessions.get(one.session)
                if entry is not None and (entry.lane, entry.head) != (frame.lane, stages[0].node):
                    self.gate.refuse(kind, sender)
                    return False
        return True

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
            await self.compute.run(self.shards.placed, frame.model, stage.first, stage.last)
        except ValueError as error:
            self._fail(frame, error)

    async def _guard(self, guard: Guard) -> None:
        if not self.gate.ended(guard.stages[0].node, guard.session):  # else nothing would end it a second time
            await self.copies.on_guard(guard)

    async def _copy(self, sender: str, copy: Copy) -> None:
        try:
            await self.copies.on_copy(sender, copy)
        except (ValueError, SessionsFull, BlocksFull):  # it is the session's loss alone: its stage has no standby here
            await self.copies.free(copy.kept)

    async def _step(self, step: Step) -> None:
        if self.gate.ended(step.stages[0].node, step.session):
            return
        entry = self._session(step.session, KEPT if isinstance(step, MarkedStep) else step.stages[0].node)
        entry.asks = self.gate.speaker(step.session)
        if self._was_heard(entry, step.position):
            return
        said: Token | None = None
        try:
            x = unpack_activation(step.x)
            stage = step.stages[step.index]
            part = Part(step.session, x, step.position)
            out = await self._run_alone(entry, step.model, stage, _Named(part, step.shared, step.names))
            if isinstance(step, MarkedStep):
                self.ran(step.session, step.model, stage, step.position, x, step.mark)
            if step.index == len(step.stages) - 1:
                chosen = choose(out, step.position + len(x), step.sampling)
                said = Token(session=step.session, position=step.position, token=chosen)
        except Exception as error:  # whatever went wrong here is the head's to report
            self._fail(step, error)
            await self.drop(step.session)
            return
        self._go_on(entry, step, out, said)

    async def _batch(self, batch: Batch) -> None:
        head = batch.stages[0].node
        if self.gate.ended(head, batch.lane):
            return
        lane = self._session(batch.lane, head)
        if self._was_heard(lane, batch.number):
            return
        stage = batch.stages[batch.index]
        said: Tokens | None = None
        try:
            x = unpack_activation(batch.x)
            outputs = await self.run_batch(
                batch.lane, batch.model, stage, batch.slices, x, batch.closed, batch.forgotten, head
            )
            if batch.index == len(batch.stages) - 1:
                said = Tokens(lane=batch.lane, number=batch.number, tokens=choices(batch.slices, outputs))
        except Exception as error:
            lane.answer = self._fail(batch, error)
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

    def _fail(self, frame: Open | Step | Batch, error: Exception) -> tuple[str, int, bytes]:
        """Tell the head why there is no more of a session, or of a batch; return what was sent."""
        reason = f"{type(error).__name__}: {error}"
        name = frame.lane if isinstance(frame, Batch) else frame.session
        failed = Failed(session=name, reason=reason, node=self.transport.me, gone=isinstance(error, PrefixGone))
        said = (frame.stages[0].node, STAGE_RESULT, encode(failed))
        self.transport.send(*said)
        return said

    # In the compute thread.

    def _run(
        self, holder: _Session, entries: list[_Session], model: str, stage: Stage, steps: list[_Named], gone: _Gone,
        forgotten: tuple[bytes, ...],
    ) -> list[Any]:  # fmt: skip
        """Run a step of a session, or of all sessions of a batch, which have their caches where the holder has it."""
        self._drop(gone)
        shard = holder.shard = holder.shard or self.shards.placed(model, stage.first, stage.last)
        shard.table.forget(_of(holder.head, forgotten))
        for entry in entries:
            entry.shard = shard  # where its cache is, from now on
        before, begun = shard.kv_bytes(), [step.part.session for step in steps if step.shared or step.alike]
        try:
            parts = [_part(shard, entry.head, step) for step, entry in zip(steps, entries, strict=True)]
            outputs = shard.step(parts)
        except (BlocksFull, PrefixGone):
            for session in begun:
                shard.drop(session)
            raise
        for (part, _, names, _), entry in zip(steps, entries, strict=True):
            if names:
                shard.table.label(part.session, part.position // BLOCK_TOKENS, _of(entry.head, names))
        if shard.kv_bytes() > before:
            shards = {id(one): one for one in self._used()}
            self.kv_peak_bytes = max(self.kv_peak_bytes, sum(one.kv_bytes() for one in shards.values()))
        return outputs

    def _drop(self, gone: _Gone) -> None:
        for entry, session in gone:
            if entry.shard is not None:
                self.on_drop(entry.shard, session, entry.asks)
                entry.shard.drop(session)

    def _used(self) -> list[Shard]:
        return [one.shard for one in list(self._sessions.values()) if one.shard is not None]

    def _empty(self) -> None:
        """Take their caches from all sessions: their next steps fail, if their layers are not in memory again."""
        for name, entry in list(self._sessions.items()):
            self._drop([(entry, name)])
            entry.shard = None


def _part(shard: Shard, head: str, step: _Named) -> Part:
    """Return what is to be computed of a step, behind the blocks that its session begins with.

    Raises:
        PrefixGone: one of those that it must begin with is not here.
    """
    part = step.part
    if not step.shared and not step.alike:
        return part
    found = shard.table.adopt(part.session, _of(head, step.shared or step.alike))
    if step.shared and found != part.position:
        raise PrefixGone(f"session {part.session!r}: {found} of {part.position} tokens are here")
    return part if step.shared else part._replace(x=part.x[found:], position=found)


def _of(head: str, names: tuple[bytes, ...]) -> list[tuple[str, bytes]]:
    """Return a head's names of blocks, as they are kept."""
    return [(head, name) for name in names]
