"""What is kept of sessions in the twin, and the copies that their stages send to standbys, as `real_backends.copies`.

A stage has a request's tokens beyond the attempt that put them through it, until the request is over; a standby has
those that were copied to it. One copy of a stage is under way at a time: a bulk transfer over the links, and where what
entered the stage is sent, the standby's pass behind it, which takes its executor's time. The next one goes when its
interval is full. An attempt that resumes begins where all its stages have the same tokens.

ASSUMPTION: what is kept takes no room that others would need. What entered a stage before it took the dead one's place
is with nobody, so that the new one's standby gets keys and values of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from models.inference import Shape
from policies.jobs import PreparedJob, SessionJob, Standby
from policies.port import NS_PER_S, Effect
from policies.sharding.links import TOKEN_BYTES
from sim import answers
from sim.bulk import Bulk
from sim.laws import Law
from sim.sessions import Executor, Session, prefilled
from sim.sharing import Flow, Sharing
from sim.world import Node, World

COPY_TOKENS = 512
"""Most tokens in one copy, as in the real world; of a node whose pieces are held to a share, that share of them."""
LAPSE_S = 120.0
"""What nobody has used for so long is forgotten (`real_backends.stages.SESSION_IDLE_NS`)."""
LOOK_S = 0.001
"""The soonest that a stage is looked at again: an assumption, below any token's time."""
PAUSED_S = 1.0
"""It is looked at again after this if it, or its standby, is paused or out of reach: an assumption."""


class Kept(NamedTuple):
    """What a node has of a request: ``tokens`` of it, for a stage's layers, as a session put them there."""

    job: SessionJob
    first: int
    last: int
    tokens: int
    wrong: tuple[str, ...]
    at_s: float

    def shared(self, job: SessionJob) -> int:
        """Return how many of another attempt's tokens these are, at least one of which has to go in."""
        if (self.job.model, self.job.prompt) != (job.model, job.prompt):
            return 0
        said = max(0, self.tokens - prefilled(self.job))
        before = answers.emitted(self.job, said, self.wrong)
        same = next((k for k, pair in enumerate(zip(before, job.forced, strict=False)) if pair[0] != pair[1]), None)
        known = min(len(before), len(job.forced)) if same is None else same
        return max(0, min(self.tokens, job.prompt_tokens + known, prefilled(job) - 1))


@dataclass(eq=False)
class _Stream:
    """Copies of one stage of a session to its standby, of which ``copied`` tokens have arrived."""

    session: Session
    standby: Standby
    copied: int
    since: int  # what entered the stage from this token on is still there; before it, keys and values alone
    flow: Flow | None = None
    links: bool = True  # the flow is over links; else it is the standby's pass
    waits: int = 0  # counts its timers; only the newest one counts


class Copies:
    """All that is kept in a world.

    Args:
        world: whose nodes keep it.
        shape: a model's, by name.
        law: of a model on a node.
        executors: by node.
        cores: executor to the resource of its core, where executors share a host.
        sharing: holds the executors.
        bulk: carries the copies.
        look: brings a session's progress up to now.
        wrong: stages of a job whose activations are wrong now.

    Attributes:
        copied_bytes: that were sent to standbys.
        counts: as of `scenarios.summary.recovery_summary`.
    """

    def __init__(
        self, world: World, shape: Callable[[str], Shape], law: Callable[[str, str], Law],
        executors: Mapping[str, Executor], cores: Mapping[str, str], sharing: Sharing, bulk: Bulk,
        look: Callable[[Session], None], wrong: Callable[[SessionJob], list[str]],
    ) -> None:  # fmt: skip
        self._world, self._shape, self._law, self._executors, self._cores = world, shape, law, executors, cores
        self._sharing, self._bulk, self._look, self._wrong = sharing, bulk, look, wrong
        self._kept: dict[str, dict[str, Kept]] = {}  # by node and request
        self._streams: dict[int, list[_Stream]] = {}  # by session
        self._chunk_share: dict[str, float] = {}  # by node, where a policy limits it
        self.copied_bytes = 0.0
        self.counts: Counter[str] = Counter()
        world.on_limit.append(self._on_limit)

    @property
    def now_s(self) -> float:
        """Virtual time."""
        return self._world.engine.now / NS_PER_S

    # -- sessions ------------------------------------------------------------------------------------

    def begins(self, job: SessionJob) -> int:
        """Return the position at which an attempt begins: up to there all its stages have the request's tokens."""
        if not isinstance(job, PreparedJob) or not job.resume:
            return 0
        begins = min(self._has(stage.node, stage.first, stage.last, job) for stage in job.stages)
        self.counts.update(resumed=1, known=prefilled(job), again=prefilled(job) - begins)
        return begins

    def _has(self, node: str, first: int, last: int, job: PreparedJob) -> int:
        kept = self._kept.get(node, {}).get(job.kept)
        if kept is None or (kept.first, kept.last) != (first, last) or self.now_s - kept.at_s > LAPSE_S:
            return 0
        return kept.shared(job)

    def start(self, session: Session) -> None:
        """A session begins: its stages have standbys, which may have something already."""
        job = session.job
        if not isinstance(job, PreparedJob):
            return
        self._streams[session.number] = [self._stream(session, job, each, session.begins) for each in job.standbys]
        self.look(session)

    def cover(self, session: Session, standbys: tuple[Standby, ...]) -> None:
        """These stand by as well from now on, each in place of whoever did so for its stage."""
        job = session.job
        if not isinstance(job, PreparedJob):
            return
        self._look(session)
        streams = self._streams[session.number]
        for standby in standbys:
            for stream in [each for each in streams if each.standby.index == standby.index]:
                self._stop(stream)
                streams.remove(stream)
            streams.append(self._stream(session, job, standby, session.taken(standby.index)))
        self.look(session)

    def _stream(self, session: Session, job: PreparedJob, standby: Standby, since: int) -> _Stream:
        stage = job.stages[standby.index]
        return _Stream(session, standby, self._has(standby.node, stage.first, stage.last, job), since)

    def look(self, session: Session) -> None:
        """See what of a session is to be copied now."""
        for stream in self._streams.get(session.number, ()):
            if stream.flow is None:
                self._next(stream)

    def end(self, session: Session) -> None:
        """An attempt is over, however it ended: its stages keep what they have."""
        job = session.job
        if not isinstance(job, PreparedJob):
            return
        for stream in self._streams.pop(session.number, ()):
            self._stop(stream)
        for index, stage in enumerate(job.stages):
            self._keep(stage.node, session, index, session.taken(index))

    def _keep(self, node: str, session: Session, index: int, tokens: int) -> None:
        job = session.job
        assert isinstance(job, PreparedJob)
        stage, wrong = job.stages[index], tuple(self._wrong(job))
        self._kept.setdefault(node, {})[job.kept] = Kept(job, stage.first, stage.last, tokens, wrong, self.now_s)

    # -- copies --------------------------------------------------------------------------------------

    def _next(self, stream: _Stream) -> None:
        """Send what is due, or look again when it will be."""
        session, standby = stream.session, stream.standby
        self._look(session)
        source, target = session.job.stages[standby.index].node, standby.node
        until = min(session.taken(standby.index), standby.until)
        due = until - stream.copied
        if stream.copied >= standby.until:
            return
        if due < standby.every and until < standby.until:
            round_s = session.round_s()
            self._later(stream, max(LOOK_S, round_s * (standby.every - due)) if round_s else PAUSED_S)
            return
        a, b = (self._world.by_name[name] for name in (source, target))
        if not b.up or self._world.network.parted([a.number, b.number]):
            self._later(stream, PAUSED_S)
            return
        tokens = min(due, max(1, int(COPY_TOKENS * self._chunk_share.get(source, 1.0))))
        size_bytes = tokens * self._token_bytes(stream)
        self.copied_bytes += size_bytes
        self.counts["copied"] += tokens
        stream.links = True
        stream.flow = self._bulk.send(
            a.number, b.number, size_bytes, lambda flow: self._came(stream, flow, tokens)
        )  # fmt: skip

    def _on_limit(self, now_ns: int, node: Node, effect: Effect) -> None:
        if effect[2] == "chunk":
            self._chunk_share[node.name] = effect[3]

    def _token_bytes(self, stream: _Stream) -> float:
        session, standby = stream.session, stream.standby
        shape = self._shape(session.job.model)
        if self._as_entered(stream):
            return shape.activation_bytes() if standby.index else TOKEN_BYTES
        stage = session.job.stages[standby.index]
        return (stage.last - stage.first) * shape.kv_bytes_per_token_layer()

    def _as_entered(self, stream: _Stream) -> bool:
        return stream.standby.way == "checkpoint" and stream.copied >= stream.since

    def _came(self, stream: _Stream, flow: Flow, tokens: int) -> None:
        if stream.flow is not flow:
            return
        stream.flow = None
        if not self._as_entered(stream):
            self._taken(stream, tokens)
        else:
            self._compute(stream, tokens)

    def _compute(self, stream: _Stream, tokens: int) -> None:
        """The standby computes keys and values of what came."""
        executor = self._executors[stream.standby.node]
        if executor.speed <= 0.0:
            self._later(stream, PAUSED_S, lambda: self._compute(stream, tokens))
            return
        job, index = stream.session.job, stream.standby.index
        stage = job.stages[index]
        law = self._law(job.model, executor.name)
        cost = law.prefill(stage.last - stage.first, index == len(job.stages) - 1, tokens, stream.copied)
        seconds = cost.scaled_s / executor.speed + cost.overhead_s
        path, takes = [executor.name], {executor.name: 1.0}
        if core := self._cores.get(executor.name):
            path, takes = [*path, core], takes | {core: law.cores_share}

        def done(flow: Flow) -> None:
            if stream.flow is flow:
                stream.flow = None
                executor.busy_s += seconds * executor.speed
                self._taken(stream, tokens)

        stream.links = False
        stream.flow = self._sharing.start(path, seconds, takes=takes, cap_per_s=1.0, done=done)

    def _taken(self, stream: _Stream, tokens: int) -> None:
        stream.copied += tokens
        self._keep(stream.standby.node, stream.session, stream.standby.index, stream.copied)
        self._next(stream)

    def _later(self, stream: _Stream, seconds: float, then: Callable[[], None] | None = None) -> None:
        stream.waits = waits = stream.waits + 1

        def again(_: Any) -> None:
            streams = self._streams.get(stream.session.number, ())
            if stream in streams and stream.flow is None and stream.waits == waits:
                (then or (lambda: self._next(stream)))()

        at_ns = int(self._world.engine.now) + int(seconds * NS_PER_S)
        self._world.engine.call_at(at_ns, again, None)

    def _stop(self, stream: _Stream) -> None:
        flow, stream.flow = stream.flow, None
        if flow is not None and flow.finished_s is None:
            (self._bulk.sharing if stream.links else self._sharing).cancel(flow)

    # -- what ends ------------------------------------------------------------------------------------

    def free(self, node: Node, kept: str) -> None:
        """Forget a request at a node; "" is every one of them."""
        if kept:
            self._kept.get(node.name, {}).pop(kept, None)
        else:
            self.node_down(node)

    def node_down(self, node: Node) -> None:
        """A node has nothing, and what was on its way to it is lost; its streams begin anew when it is back."""
        self._kept.pop(node.name, None)
        for streams in self._streams.values():
            for stream in streams:
                if stream.standby.node == node.name:
                    self._stop(stream)
                    stream.copied = 0
                    self._later(stream, PAUSED_S)

    def cut(self) -> None:
        """A partition began: copies across it are broken off, and go again when it is over."""
        self._break_off(lambda ends: self._world.network.parted([node.number for node in ends]))

    def leave(self, node: Node) -> None:
        """A node is on another network: copies from and to it are broken off, and go again over that."""
        self._break_off(lambda ends: node in ends)

    def _break_off(self, broken: Callable[[tuple[Node, Node]], bool]) -> None:
        for streams in self._streams.values():
            for stream in streams:
                names = stream.session.job.stages[stream.standby.index].node, stream.standby.node
                source, target = (self._world.by_name[name] for name in names)
                if broken((source, target)):
                    self._stop(stream)
                    self._later(stream, PAUSED_S)
