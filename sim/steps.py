"""Sessions on serial servers, step by step: what a profile describes serves one session's step at a time, in order.

A token goes through its stages; each stage is a queue, first come first served, as the compute thread of a real node
is. A step is a flow over its executor and, for the share of its time at which it works there, over a core of the host;
so is a hop, whose work is hand-overs between threads and sockets, on a core of the process it goes to. Then what
crossed waits for its shaped link.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from policies.port import NS_PER_S
from policies.sharding.links import TOKEN_BYTES
from scenarios.hosts import Ways
from sim.engine import Engine
from sim.sessions import Executor, Session, StageCost
from sim.sharing import Flow, Sharing

CORES = "cores of the host"
"""Name of the resource that executors of one host share; no node's name has a blank."""


class Host(NamedTuple):
    """The host around its executors: who works on which cores, a hop, opening a session, keeping a blob, shaped links.

    ``cores`` is executor to the resource of its core or cores; empty: as many as wanted.
    """

    cores: Mapping[str, str]
    hop_s: float
    session_s: float
    blob_s: float
    ways: Ways

    def opening_s(self, session: Session) -> float:
        """Return the work of opening a session, whose prompt is a blob that its head may have had to fetch."""
        return self.session_s + (self.blob_s if session.job.source not in ("", session.node.name) else 0.0)


@dataclass(eq=False)
class Walk:
    """Where a session is: in which stage of its pass.

    Attributes:
        stages: its way.
        stage: which of them it is at, or before.
        flow: of the step or hop under way; None while it queues or crosses a link.
        left_s: of a step that has begun, what there was to do when its executor last changed its speed.
    """

    session: Session
    stage: int = 0
    flow: Flow | None = None
    left_s: float | None = None

    @property
    def stages(self) -> list[StageCost]:
        return self.session.stages

    def step_s(self) -> float:
        """Return what its step at this stage takes."""
        stage = self.stages[self.stage]
        return stage.decode.per_stream_s if self.session.passes else stage.prefill.scaled_s

    def tokens(self) -> int:
        """Return the tokens that go on from this stage: one from the last."""
        return 1 if self.session.passes or self.stage == len(self.stages) - 1 else self.session.entering


class Steps:
    """All sessions of one host's serial executors.

    Args:
        engine: the world's.
        sharing: holds the executors and the cores as resources.
        host: what is around them.
        way_s: (source, target, bytes) to the seconds of a message where no hop was measured.
        activation_bytes: model to what one token carries from stage to stage.
        spoke: called when a session has its first token.
        done: called when it has its last one.
    """

    def __init__(
        self, engine: Engine, sharing: Sharing, host: Host, way_s: Callable[[str, str, float], float],
        activation_bytes: Callable[[str], float], spoke: Callable[[Session], None], done: Callable[[Session], None],
    ) -> None:  # fmt: skip
        self._engine, self._sharing, self._host, self._way_s = engine, sharing, host, way_s
        self._activation_bytes, self._spoke, self._done = activation_bytes, spoke, done
        self._walks: dict[int, Walk] = {}
        self._queues: dict[str, deque[Walk]] = {}  # by executor; the first one is served

    def begin(self, session: Session) -> None:
        """Open a session: its prompt is with its head."""
        walk = self._walks[session.number] = Walk(session)
        self._work(walk, 0, self._host.opening_s(session), self._enqueue)

    def core(self, name: str) -> str:
        """Return the resource on which an executor's process works; empty where cores are as many as wanted."""
        return self._host.cores.get(name, "")

    def leave(self, session: Session) -> None:
        """Forget a session, wherever it is."""
        walk = self._walks.pop(session.number, None)
        if walk is not None:
            self._stop(walk)

    def _stop(self, walk: Walk) -> None:
        if walk.flow is not None:
            self._sharing.cancel(walk.flow)
        for executor in dict.fromkeys(stage.executor for stage in walk.stages):
            queue = self._queues.get(executor.name)
            if queue and walk in queue:
                served = queue[0] is walk
                queue.remove(walk)
                if served:
                    self._serve(executor)

    def renew(self, executor: Executor) -> None:
        """An executor runs at another speed: its step under way goes on at that one."""
        queue = self._queues.get(executor.name)
        if not queue:
            return
        walk = queue[0]
        if walk.flow is not None:
            left_s = self._sharing.cancel(walk.flow)
            executor.busy_s += walk.flow.size - left_s
            walk.flow, walk.left_s = None, left_s
        self._serve(executor)

    def node_down(self, name: str) -> None:
        """A node lost what it kept; here nothing is kept for nobody."""

    # -- inside --------------------------------------------------------------------------------------

    def _there(self, walk: Walk) -> bool:
        return self._walks.get(walk.session.number) is walk

    def _work(self, walk: Walk, stage: int, seconds: float, then: Callable[[Walk], None]) -> None:
        """Let a core of a stage's process do something for a session, and go on."""

        def after(_: object) -> None:
            if self._there(walk):
                walk.flow = None
                then(walk)

        core = self._host.cores.get(walk.stages[stage].executor.name)
        if seconds > 0 and core:
            walk.flow = self._sharing.start([core], seconds, cap_per_s=1.0, done=after)
        else:
            self._later(walk, seconds, then)

    def _later(self, walk: Walk, seconds: float, then: Callable[[Walk], None]) -> None:
        """Go on after a time in which nothing works for the session."""
        if seconds <= 0:
            then(walk)
            return
        at_ns = int(self._engine.now) + round(seconds * NS_PER_S)
        self._engine.call_at(at_ns, lambda _: then(walk) if self._there(walk) else None, None)

    def _enqueue(self, walk: Walk) -> None:
        executor = walk.stages[walk.stage].executor
        queue = self._queues.setdefault(executor.name, deque())
        queue.append(walk)
        if queue[0] is walk:
            self._serve(executor)

    def _serve(self, executor: Executor) -> None:
        """Begin, or go on with, the step of the first in an executor's queue, unless the executor is paused."""
        queue = self._queues[executor.name]
        if not queue or executor.speed <= 0:
            return
        walk = queue[0]
        step_s = walk.step_s() if walk.left_s is None else walk.left_s
        path, takes = [executor.name], {}
        core = self._host.cores.get(executor.name)
        if core and executor.law.cores_share > 0:
            path, takes = [executor.name, core], {core: executor.law.cores_share}

        def served(_: object) -> None:
            if self._there(walk):
                walk.flow = walk.left_s = None
                executor.busy_s += step_s
                queue.popleft()
                self._serve(executor)
                self._onward(walk)

        walk.flow = self._sharing.start(path, step_s, takes=takes, cap_per_s=executor.speed, done=served)

    def _onward(self, walk: Walk) -> None:
        """A stage is done: its activations, or the token, go on."""
        stages = walk.stages
        if len(stages) == 1:
            self._arrived(walk)
        else:
            self._work(walk, (walk.stage + 1) % len(stages), self._host.hop_s, self._cross)

    def _cross(self, walk: Walk) -> None:
        stages = walk.stages
        last = walk.stage == len(stages) - 1
        token_bytes = TOKEN_BYTES if last else self._activation_bytes(walk.session.job.model)
        size_bytes = token_bytes * walk.tokens()
        source, target = (stages[k % len(stages)].executor.name for k in (walk.stage, walk.stage + 1))
        delay_s = self._host.ways.delay_s(int(self._engine.now) / NS_PER_S, source, target, size_bytes)
        if not self._host.hop_s:
            delay_s += self._way_s(source, target, size_bytes)
        self._later(walk, delay_s, self._arrived)

    def _arrived(self, walk: Walk) -> None:
        """Stand before the next stage, or with the head after the last one."""
        walk.stage += 1
        if walk.stage < len(walk.stages):
            self._enqueue(walk)
        else:
            walk.stage = 0
            self._passed(walk)

    def _passed(self, walk: Walk) -> None:
        """The head has what a pass decided."""
        session = walk.session
        if not self._says(session):
            self._enqueue(walk)

    def _says(self, session: Session) -> bool:
        """Count a session's token; return whether it was its last."""
        session.passes += 1
        if session.passes == 1:
            self._spoke(session)
        over = session.passes == session.decided
        if over:
            self._done(session)
        return over
