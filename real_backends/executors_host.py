"""Runs the jobs of one node's Cell: sessions through a pipeline, loads and plans.

The head of a session is the node that submitted it. It fetches the prompt's blob, runs stage 0 itself, sends
activations to stage 1 and waits for the token that the last stage chose. A step without an answer is sent
again; a peer that goes down, refuses or stays silent ends the job as Lost, with the node where it is known.
Where the village serves in batches, steps are those of `real_backends.batch_line`.
Prompts and outputs are blobs of little-endian int32 tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, NamedTuple, Union

import msgspec
import numpy as np

from policies.config import BatchedConfig, PolicyConfig
from policies.jobs import (
    EXPIRED,
    AdmitJob,
    CoverJob,
    Done,
    ExpectJob,
    FreeJob,
    Job,
    LoadJob,
    Lost,
    PlanJob,
    PreparedJob,
    Progress,
    SessionJob,
    Stage,
    Standby,
)
from policies.serving.lanes import reserved_blocks, sessions_max
from policies.serving.prefixes import Chain
from policies.wire import Message, WireError, encode
from real_backends.batch_frames import Batch, Tokens
from real_backends.batch_line import BatchLines, Late
from real_backends.blob_exchange import BlobExchange, WrongSize
from real_backends.clock import Clock
from real_backends.compute import Compute
from real_backends.copies import Holds, Marker
from real_backends.executors import PrefixGone, choose, ends, make_shard, pack_activation
from real_backends.executors.paced import ShardMaker
from real_backends.held_shards import Models
from real_backends.lent_memory import LentMemory
from real_backends.proofs import Proof, Proofs
from real_backends.resuming import Resuming
from real_backends.serve import Report
from real_backends.stages import Stages
from real_backends.step_frames import Close, Failed, MarkedStep, Open, Step, Token
from real_backends.transports.frames import STAGE, STAGE_RESULT, Transport
from scenarios.record import stages_text

STEP_TRIES = 3
STEP_TRY_S = 3.0  # assumption: ten times the slowest step of desk-tiny on a busy core, loading included

DONE = Done(output="", tokens=0, first_token_ns=0)
"""Of a job that has nothing to tell."""
Planner = Callable[[bytes, int], bytes]
_decode_job: Any = msgspec.msgpack.Decoder(Job).decode
_decode_result: Any = msgspec.msgpack.Decoder(Union[Token, Tokens, Failed, Holds]).decode  # noqa: UP007


class JobLost(Exception):
    """A job cannot end; carries the Lost outcome."""

    def __init__(self, reason: str, node: str = "") -> None:
        super().__init__(reason)
        self.outcome = Lost(reason=reason, node=node)


class _Awaited(NamedTuple):
    """A step, or a batch: its position or number, whether stages may lack what it shares, and what comes of it."""

    number: int
    may_lack: bool
    future: asyncio.Future[tuple[int, ...]]


class ExecutorHost:
    """Implements `real_backends.serve.JobRunner` on real executors.

    Args:
        transport: the node's links.
        blobs: the node's blobs and the way to others'.
        models: what can be loaded.
        backend: "torch" or "jax".
        planners: planner name to function.
        clock: for the time to the first token, counted from the job's submission.
        coding: how activations are sent, one of `executors.CODINGS`.
        make: makes shards (`executors.paced`).
        policy: how sessions are served, and what stages have reserved; each one by itself without it.
        memory: what this node may lend; none: shards take what there is.

    Attributes:
        proofs: does the jobs of checks, where the policy has them.
        on_session: told (path, job, tokens, begun ns, ns to the first one, ended ns) of each session that was answered.
    """

    def __init__(
        self,
        transport: Transport,
        blobs: BlobExchange,
        models: Models,
        backend: str,
        planners: Mapping[str, Planner],
        clock: Clock,
        coding: str = "f32",
        make: ShardMaker = make_shard,
        policy: PolicyConfig | None = None,
        memory: LentMemory | None = None,
    ) -> None:
        self.compute = Compute()
        self.on_session: Callable[[str, SessionJob, int, int, int, int], None] = lambda *session: None
        if policy is not None:
            make = partial(make, blocks=reserved_blocks(policy.sharding))
        self.stages = Stages(transport, self.compute, models, backend, clock, coding, make, memory=memory)
        self.resuming = Resuming(transport, self.stages.copies)
        self._lines: BatchLines | None = None
        self._shares = policy is not None and policy.serving.share_prefixes
        if policy is not None and isinstance(policy.serving, BatchedConfig):
            self.stages.shards.together = sessions_max(policy.serving, policy.sharding)
            self._lines = BatchLines(self, policy.serving, policy.sharding, clock.now)
        checked = policy is not None and policy.coordination.spot_checks is not None
        self.proofs = Proofs(self.stages, blobs) if checked else None
        self._transport, self._blobs, self._clock, self._planners = transport, blobs, clock, planners
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._covers: dict[tuple[str, int], tuple[Standby, ...]] = {}  # what a session has to tell its stages
        self._closing: set[asyncio.Task[None]] = set()
        self._waiting: dict[str, _Awaited] = {}  # by session or lane
        self._nodes: dict[str, tuple[str, ...]] = {}  # session or lane to the nodes it needs, the last stage's last

    @property
    def active(self) -> int:
        """Jobs and sessions at work on this node."""
        return len(self._tasks) + self.stages.sessions

    def start(self, report: Report) -> None:
        """Say where outcomes go."""
        self._report = report

    def submit(self, path: str, job_id: int, payload: bytes) -> None:
        """Begin a job."""
        job = _decode_job(payload)
        task = asyncio.get_running_loop().create_task(self._run(path, job_id, job))
        self._tasks[(path, job_id)] = task

    def cancel(self, path: str, job_id: int) -> None:
        """Give a job up; nothing more is reported about it."""
        self._covers.pop((path, job_id), None)
        if (task := self._tasks.pop((path, job_id), None)) is not None:
            task.cancel()
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def limit(self, resource: str, share: float) -> None:
        """Hold compute, memory or pieces to a share. Bandwidth is a limit that policies keep themselves."""
        if resource == "compute":
            self.compute.limit(share)
        elif resource == "memory":
            self.stages.shards.lend(share)
        elif resource == "chunk":
            self._blobs.chunk_share = self.stages.copies.chunk_share = share

    def on_frame(self, sender: str, kind: int, body: bytes) -> None:
        """Take a STAGE or STAGE_RESULT frame.

        Raises:
            WireError: malformed.
        """
        if kind != STAGE_RESULT:
            self.stages.on_frame(sender, body)
            return
        try:
            result = _decode_result(body)
        except msgspec.MsgspecError as error:
            raise WireError(f"stage result frame: {error}") from None
        name = result.lane if isinstance(result, Tokens) else result.session
        if sender not in self._nodes.get(name, ()):
            return  # the session has ended, or was never this node's business
        if isinstance(result, Token | Tokens) and sender != self._nodes[name][-1]:
            self.stages.gate.refuse("token", sender)  # the last stage alone chooses, and answers for what it chose
            return
        if isinstance(result, Holds):
            self.resuming.on_holds(sender, result)
            return
        awaited = self._waiting.get(name)
        if awaited is None or awaited.future.done():
            return
        if isinstance(result, Failed):
            gone = result.gone and awaited.may_lack
            awaited.future.set_exception(PrefixGone(result.reason) if gone else JobLost(result.reason, sender))
        elif isinstance(result, Tokens):
            if result.number == awaited.number:
                awaited.future.set_result(result.tokens)
        elif result.position == awaited.number:
            awaited.future.set_result((result.token,))

    def on_peer(self, peer: str, hint: str) -> None:
        """End the sessions that need a peer which went down, and forget those that it heads."""
        if hint != "down":
            return
        self.stages.on_peer_down(peer)
        for session, nodes in self._nodes.items():
            awaited = self._waiting.get(session)
            if peer in nodes and awaited is not None and not awaited.future.done():
                awaited.future.set_exception(JobLost(f"{peer} went down", peer))

    async def close(self) -> None:
        """Give everything up."""
        tasks = [*self._tasks.values(), *self._closing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._lines is not None:
            await self._lines.close()
        await self.stages.close()
        self.compute.close()

    async def _run(self, path: str, job_id: int, job: Job) -> None:
        work: Coroutine[Any, Any, Message]
        if isinstance(job, SessionJob):
            work = self._session(path, job_id, job)
        elif isinstance(job, LoadJob):
            work = self._load(job)
        elif isinstance(job, CoverJob):
            work = self._cover(path, job)
        elif isinstance(job, FreeJob):
            work = self._free(job)
        elif isinstance(job, AdmitJob | ExpectJob):
            work = self._believe(job)
        elif isinstance(job, PlanJob):
            work = self._plan(job)
        else:
            work = self._prove(job)
        outcome: Message
        try:
            outcome = await work
        except JobLost as lost:
            outcome = lost.outcome
        except Exception as error:  # an executor's or planner's fault ends the job, not the node
            outcome = Lost(reason=f"{type(error).__name__}: {error}", node=self._transport.me)
        self._tasks.pop((path, job_id), None)
        self._covers.pop((path, job_id), None)
        self._report(path, job_id, encode(outcome))

    async def _load(self, job: LoadJob) -> Done:
        await self.stages.load(job.model, job.first, job.last)
        return DONE

    async def _cover(self, path: str, job: CoverJob) -> Done:
        if (path, job.session) in self._tasks:
            self._covers[(path, job.session)] = (*self._covers.get((path, job.session), ()), *job.standbys)
        return DONE

    async def _free(self, job: FreeJob) -> Done:
        self.stages.gate.expect_no_more(job.kept)
        await self.stages.copies.free(job.kept)
        return DONE

    async def _believe(self, job: AdmitJob | ExpectJob) -> Done:
        if isinstance(job, AdmitJob):
            self.stages.gate.admit(job.model, job.stages)
        else:
            self.stages.gate.expect(job.kept, job.attempt, job.sender)
        return DONE

    async def _plan(self, job: PlanJob) -> Done:
        planner = self._planners.get(job.planner)
        if planner is None:
            raise JobLost(f"planner={job.planner!r}: known are {', '.join(sorted(self._planners)) or 'none'}")
        result = await asyncio.to_thread(planner, job.problem, job.budget)
        return Done(output="", tokens=0, first_token_ns=0, result=result)

    async def _prove(self, job: Proof) -> Message:
        if self.proofs is None:
            raise JobLost("this node commits to nothing", self._transport.me)
        return await self.proofs.run(job)

    async def _session(self, path: str, job_id: int, job: SessionJob) -> Done:
        me, begun_ns = self._transport.me, self._clock.now()
        if not job.stages or job.stages[0].node != me:
            raise JobLost(f"stage 0 is not on {me}, which submitted the job", me)
        # Unique over restarts too: a monotonic reading is never given twice.
        session = f"{job.op}@{me}.{job_id}.{begun_ns}"
        output: list[int] = []
        first_token_ns = 0
        prompt = await self._prompt(job)
        output += await self._forced(job)
        known, left = np.concatenate((prompt, np.array(output, dtype=np.int64))), job.new_tokens - len(output)
        serve = self._tokens if self._lines is None else self._lines.tokens
        try:
            async with aclosing(serve(job, session, known, left)) as tokens:
                async for token in tokens:
                    output.append(token)
                    if isinstance(job, PreparedJob) and (late := self._covers.pop((path, job_id), ())):
                        await self.resuming.cover(job, session, late)
                    if not first_token_ns:
                        first_token_ns = self._clock.now() - begun_ns
                    ended = len(output) == job.new_tokens or ends(token, job.sampling)
                    if len(output) % job.report_every == 0 and not ended:
                        emitted = tuple(output[-job.report_every :])
                        self._report(path, job_id, encode(Progress(tokens=len(output), emitted=emitted)))
                    if ended:
                        break
        except Late:
            raise JobLost(EXPIRED) from None
        except JobLost as lost:
            lost.outcome = msgspec.structs.replace(lost.outcome, emitted=tuple(output))
            raise
        self.on_session(path, job, len(output), begun_ns, first_token_ns, self._clock.now())
        name = self._blobs.store.put(np.array(output, dtype="<i4").tobytes())
        return Done(output=name, tokens=len(output), first_token_ns=first_token_ns)

    async def _forced(self, job: SessionJob) -> list[int]:
        """Return what the answer begins with; where the model cannot have said it, all is decided anew."""
        if not job.forced:
            return []
        vocab = await self.compute.run(self._vocab, job.model)
        sound = len(job.forced) < job.new_tokens and 0 <= min(job.forced) <= max(job.forced) < vocab
        return list(job.forced) if sound else []

    async def _prompt(self, job: SessionJob) -> Any:
        try:
            data = await self._blobs.get(job.prompt, job.source, 4 * job.prompt_tokens)
        except WrongSize as error:  # else stages would be held to fewer positions, or more, than they worked on
            raise JobLost(f"prompt of {job.prompt_tokens} tokens: {error}") from None
        if data is None:
            raise JobLost(f"prompt {job.prompt} cannot be had from {job.source}", job.source)
        if not data:
            raise JobLost(f"prompt {job.prompt} has 0 tokens, expected 1 or more")
        return np.frombuffer(data, dtype="<i4").astype(np.int64)

    async def _tokens(self, job: SessionJob, session: str, known: Any, left: int) -> AsyncGenerator[int, None]:
        """Yield up to ``left`` tokens after the ``known`` ones, of a session that steps by itself."""
        self.open(session, job.model, job.stages)
        prepared, position, marker, chain = isinstance(job, PreparedJob), 0, None, None
        alike: tuple[bytes, ...] = ()
        try:
            if isinstance(job, PreparedJob):  # it shares nothing: its cache outlives it, goes back and is copied
                marker = Marker(job.kept, job.model)
                position = await self.resuming.begin(job, session, known)
                marker.take(known[:position])
            elif self._shares:
                # A stage's blocks follow from what those before it computed: no other pipeline's are shared.
                chain = Chain(f"{job.model} {stages_text(job.stages)}")
                chain.take(known)
                alike = chain.before(len(known) - 1)  # the last one is computed in any case: it decides the next
            x = known[position:]
            for _ in range(left):
                mark = marker.take(x) if marker is not None else b""
                try:
                    token = await self._step(job, session, x, position, mark, chain, alike)
                except PrefixGone:  # in the first step: the session begins anew, as if nothing was alike
                    self.close_at(session, job.stages)
                    session = f"{session}/whole"
                    self.open(session, job.model, job.stages)
                    token = await self._step(job, session, x, position, mark, chain)
                position, alike = position + len(x), ()
                x = np.array([token], dtype=np.int64)
                if chain is not None:
                    chain.take(x)
                yield token
        finally:
            self.close_at(session, () if prepared else job.stages)

    async def _step(
        self, job: SessionJob, session: str, x: Any, position: int, mark: bytes = b"", chain: Chain | None = None,
        alike: tuple[bytes, ...] = (),
    ) -> int:  # fmt: skip
        """Return the token after ``x``; what is ``alike`` in a chain of blocks need not be computed.

        Raises:
            PrefixGone: a stage has not all blocks with which this node began.
        """
        end = position + len(x)
        names = chain.filled(position, len(x)) if chain is not None else ()
        out = await self.stages.forward(session, job.model, job.stages[0], x, position, names, alike)
        if mark:
            self.stages.ran(session, job.model, job.stages[0], position, x, mark)
        if len(job.stages) == 1:
            return choose(out, end, job.sampling)
        begin, shared = position, tuple[bytes, ...]()
        if chain is not None and alike:
            begin = end - len(out)
            shared, names = chain.before(begin), chain.filled(begin, len(out))
        step = Step(
            session=session, model=job.model, stages=job.stages, index=1, position=begin,
            x=pack_activation(out, self.stages.coding), sampling=job.sampling, shared=shared, names=names,
        )  # fmt: skip
        if mark:
            step = MarkedStep(**msgspec.structs.asdict(step), mark=mark)
        (token,) = await self.ask(step, 1, bool(shared))
        return token

    # -- the other stages ----------------------------------------------------------------------------

    async def ask(self, frame: Step | Batch, speak: int, may_lack: bool) -> tuple[int, ...]:
        """Send a step, or a batch, to stage 1 until the last stage has answered; return what was chosen.

        Args:
            frame: what stage 1 gets.
            speak: how many tokens it asks for.
            may_lack: whether it shares what a stage may have lost; only then is it believed of one.

        Raises:
            JobLost: a stage failed, went down or stayed silent, or the last one chose what is no token.
            PrefixGone: a stage has lost what is shared.
        """
        name, number = (frame.lane, frame.number) if isinstance(frame, Batch) else (frame.session, frame.position)
        awaited = self._waiting[name] = _Awaited(number, may_lack, asyncio.get_running_loop().create_future())
        body = encode(frame)
        for _ in range(STEP_TRIES):
            self._transport.send(frame.stages[1].node, STAGE, body)
            done, _ = await asyncio.wait((awaited.future,), timeout=STEP_TRY_S)
            if done:
                return self._chosen(frame, awaited.future.result(), speak)
        node = frame.stages[1].node if len(frame.stages) == 2 else ""
        raise JobLost(f"no token at position {number} within {STEP_TRIES * STEP_TRY_S:g} s", node)

    def _chosen(self, frame: Step | Batch, tokens: tuple[int, ...], speak: int) -> tuple[int, ...]:
        """Return the last stage's tokens, which could not be worked with if they were others."""
        vocab = self._vocab(frame.model)  # which is loaded: stage 0 ran
        if len(tokens) != speak or not all(0 <= token < vocab for token in tokens):
            many = f"{speak} tokens of 0..{vocab - 1}"
            raise JobLost(f"tokens: {str(tokens)[:80]} are not allowed, expected {many}", frame.stages[-1].node)
        return tokens

    def _vocab(self, model: str) -> int:
        return self.stages.shards.weights(model)[0].vocab

    def open(self, name: str, model: str, stages: tuple[Stage, ...]) -> None:
        """Tell the other stages that a session or a lane begins, and expect their answers."""
        self._nodes[name] = tuple(stage.node for stage in stages[1:])
        for index, stage in enumerate(stages[1:], start=1):
            opening = Open(session=name, model=model, stages=stages, index=index)
            self._transport.send(stage.node, STAGE, encode(opening))

    def close_at(self, name: str, stages: tuple[Stage, ...]) -> None:
        """Forget a session or a lane, here and at the other stages; without stages their caches stay."""
        self._nodes.pop(name, None)
        self._waiting.pop(name, None)
        if not stages:
            return
        for stage in stages[1:]:
            self._transport.send(stage.node, STAGE, encode(Close(session=name)))
        drop = asyncio.get_running_loop().create_task(self.stages.drop(name))
        self._closing.add(drop)
        drop.add_done_callback(self._closing.discard)
