"""Simulated compute: sessions, shard loads and plans, as fluid flows over executors.

An executor's law: all decode streams of a device advance together, one token per ``a + b n + c (sum of contexts)``; a
prefill takes an equal share beside them. A session runs through its stages one after another, so a token costs
the sum of its stages' steps and hops. Rates change only when the set of streams on a device or its speed
changes; between those events progress is linear, and the finish is one event. Messages are not simulated
per token; this fluid law is what the manifest calls ``compute: fluid``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import msgspec

from models import inference
from policies import port as p
from policies.jobs import Done, Job, LoadJob, Lost, Outcome, PlanJob, SessionJob
from policies.port import NS_PER_S
from policies.sharding import PLANNERS
from policies.wire import encode
from sim.laws import DecodeCost, Law, PrefillCost
from sim.network import Links
from sim.world import Node, World

LOAD_BYTES_PER_S = 1.0e9
"""Reading a shard that is already on flash: UFS 3.1 and consumer NVMe read 1-2 GB/s sequentially (JESD220E)."""
LOST_AFTER_S = 5.0
"""A head notices a dead stage when its link has been silent this long; the real executor uses the same time-out."""
PLAN_S = 0.5
"""Time of a planning job on a committee member (our assumption; the real one is measured)."""
TOKEN_BYTES = 4

_job: Any = msgspec.msgpack.Decoder(Job).decode  # type: ignore[arg-type]


@dataclass
class Executor:
    """One device's compute.

    Attributes:
        law: what its steps cost.
        speed: share of full speed it runs at now: lent share x throttle; 0 pauses it.
        sessions: sessions with a stage here.
        busy_share: share of full speed in use now, at most ``speed``; for the power law.
        busy_area: integral of ``busy_share`` since the fleet last asked, seconds.
    """

    law: Law
    speed: float = 1.0
    sessions: dict[int, Session] = field(default_factory=dict)
    busy_share: float = 0.0
    busy_area: float = 0.0
    busy_since_ns: int = 0


@dataclass
class StageCost:
    """What one stage of a session costs on its executor."""

    executor: Executor
    decode: DecodeCost
    prefill: PrefillCost


@dataclass
class Session:
    """One running session job."""

    number: int
    node: Node
    epoch: int
    path: str
    job_id: int
    job: SessionJob
    stages: list[StageCost]
    hops_s: float
    prefill_hops_s: float
    context: float
    started_ns: int
    decoding: bool = False
    progress: float = 0.0  # of the phase, 0..1
    rate: float = 0.0  # progress a second
    at_ns: int = 0
    generation: int = 0
    first_token_ns: int = 0
    lost: bool = False


class Compute:
    """Runs the world's jobs.

    Args:
        world: whose nodes submit.
        shape: the served model.
        laws: executor law by node name.
        links: access links by node number; what is between them is the network's.
        cores: CPU cores that all executors share, where they are processes of one host.
        hop_s: from one stage's step to the next one's, where it was measured as a whole; replaces the links' delay.
        session_s: opening a session, on top of its steps and hops.
    """

    def __init__(
        self,
        world: World,
        shape: inference.Shape,
        laws: dict[str, Law],
        links: Links,
        cores: int | None = None,
        hop_s: float | None = None,
        session_s: float = 0.0,
    ) -> None:
        self.world, self.shape, self.links = world, shape, links
        self.cores, self.hop_s, self.session_s = cores, hop_s, session_s
        self.executors = {name: Executor(law) for name, law in laws.items()}
        self.sessions: dict[tuple[str, int], Session] = {}
        self.liars: dict[str, range] = {}  # node to the times (ns) at which its activations are wrong
        self.tokens = 0
        self.plans = 0
        self._next = 0

    # -- what the world asks -------------------------------------------------------------------------

    def submit(self, node: Node, path: str, job_id: int, payload: bytes) -> None:
        """Start a job."""
        job = _job(payload)
        now = self.world.engine.now
        if isinstance(job, SessionJob):
            self._start_session(node, path, job_id, job)
        elif isinstance(job, LoadJob):
            size = (job.last - job.first) * self.shape.layer_bytes() + self.shape.head_bytes()
            self._tell(node, path, job_id, Done("", 0, 0), now + int(size / LOAD_BYTES_PER_S * NS_PER_S))
        elif isinstance(job, PlanJob):
            self.plans += 1
            result = PLANNERS[job.planner](job.problem, job.budget)
            self._tell(node, path, job_id, Done("", 0, 0, result), now + int(PLAN_S * NS_PER_S))

    def cancel(self, node: Node, job_id: int) -> None:
        """Stop a session; other jobs run out unheard (the Cell drops their outcome)."""
        session = self.sessions.get((node.name, job_id))
        if session is not None:
            self._end(session)

    def node_down(self, node: Node) -> None:
        """A node crashed: its own sessions vanish, those that pass through it are lost to their heads."""
        executor = self.executors.get(node.name)
        for session in list(executor.sessions.values()) if executor else ():
            if session.node is node:
                self._end(session)
            else:
                self._lose(session, "stage went down", node.name)

    def cut(self) -> None:
        """A partition began: sessions across it are lost."""
        for session in list(self.sessions.values()):
            if self.world.network.parted([self.world.by_name[stage.node].number for stage in session.job.stages]):
                self._lose(session, "link down", "")

    def leave(self, name: str) -> None:
        """A device is on another network: sessions through it are lost."""
        executor = self.executors.get(name)
        for session in list(executor.sessions.values()) if executor else ():
            self._lose(session, "link down", name)

    def set_speed(self, name: str, speed: float) -> None:
        """Change a device's speed; its sessions re-rate."""
        executor = self.executors[name]
        if executor.speed != speed:
            executor.speed = speed
            self._rerate(executor.sessions.values())

    def take_load(self, name: str, elapsed_s: float) -> float:
        """Return the mean busy share of a device since the last call."""
        executor = self.executors[name]
        self._account(executor)
        load, executor.busy_area = executor.busy_area / elapsed_s, 0.0
        return min(1.0, load)

    # -- sessions ------------------------------------------------------------------------------------

    def _start_session(self, node: Node, path: str, job_id: int, job: SessionJob) -> None:
        nodes = [self.world.by_name.get(stage.node) for stage in job.stages]
        now = self.world.engine.now
        dead = next((s.node for s, n in zip(job.stages, nodes, strict=True) if n is None or not n.up), None)
        if dead is not None:
            self._tell(node, path, job_id, Lost("stage is down", dead), now + int(LOST_AFTER_S * NS_PER_S))
            return
        numbers = [n.number for n in nodes if n is not None]
        if self.world.network.parted(numbers):
            self._tell(node, path, job_id, Lost("link down"), now + int(LOST_AFTER_S * NS_PER_S))
            return
        hops_s = self._hops_s(numbers, self.shape.activation_bytes())
        prefill_hops_s = self.session_s + self._hops_s(numbers, self.shape.activation_bytes() * job.prompt_tokens)
        source = self.world.by_name.get(job.source)
        if source is not None and source is not node:
            prefill_hops_s += self._link_s(source.number, node.number, TOKEN_BYTES * job.prompt_tokens)
        self._next += 1
        session = Session(
            self._next, node, node.epoch, path, job_id, job, self._stage_costs(job), hops_s, prefill_hops_s,
            job.prompt_tokens + job.new_tokens / 2, now, at_ns=now,
        )  # fmt: skip
        self.sessions[(node.name, job_id)] = session
        for stage in session.stages:
            stage.executor.sessions[session.number] = session
        self._rerate_neighbours(session)

    def _stage_costs(self, job: SessionJob) -> list[StageCost]:
        costs = []
        for k, stage in enumerate(job.stages):
            executor, layers, last = self.executors[stage.node], stage.last - stage.first, k == len(job.stages) - 1
            decode = executor.law.decode(layers, last)
            costs.append(StageCost(executor, decode, executor.law.prefill(layers, last, job.prompt_tokens)))
        return costs

    def _hops_s(self, numbers: list[int], size_bytes: float) -> float:
        """Stage to stage, and the token from the last stage back to the head."""
        if len(numbers) == 1:
            return 0.0
        forward = sum(self._hop_s(a, b, size_bytes) for a, b in pairwise(numbers))
        return forward + self._hop_s(numbers[-1], numbers[0], TOKEN_BYTES)

    def _hop_s(self, a: int, b: int, size_bytes: float) -> float:
        return self._link_s(a, b, size_bytes) if self.hop_s is None else self.hop_s

    def _link_s(self, a: int, b: int, size_bytes: float) -> float:
        links = self.links
        rate = min(links.up_bytes_per_s[a], links.down_bytes_per_s[b])
        between_s = self.world.network.backbone_s(a, b)
        return links.one_way_s[a] + between_s + links.one_way_s[b] + size_bytes / rate

    # -- fluid progress ------------------------------------------------------------------------------

    def _rerate_neighbours(self, session: Session) -> None:
        if self.cores:
            self._rerate(self.sessions.values())
            return
        touched: dict[int, Session] = {}
        for stage in session.stages:
            touched.update(stage.executor.sessions)
        self._rerate(touched.values())

    def _rerate(self, sessions: Any) -> None:
        """Recompute rates and finish events of these sessions; everything else is untouched."""
        now = self.world.engine.now
        executors: dict[int, Executor] = {}
        for session in list(sessions):
            session.progress += session.rate * (now - session.at_ns) / NS_PER_S
            session.at_ns = now
            seconds = self._phase_s(session)
            session.rate = 0.0 if seconds is None or session.lost else 1.0 / seconds
            session.generation += 1
            if session.rate > 0.0:
                left_s = max(0.0, 1.0 - session.progress) / session.rate
                self.world.engine.call_at(
                    now + int(left_s * NS_PER_S) + 1, self._phase_done, (session, session.generation)
                )
            for stage in session.stages:
                executors[id(stage.executor)] = stage.executor
        for executor in executors.values():
            self._account(executor)
            executor.busy_share = self._busy(executor)

    def _phase_s(self, session: Session) -> float | None:
        """Seconds the whole phase would take at the present rates; None while a stage is paused."""
        if any(stage.executor.speed <= 0.0 for stage in session.stages):
            return None
        hops_s = session.hops_s if session.decoding else session.prefill_hops_s
        if session.stages[0].executor.law.batching:
            step_s = sum(_shared_step_s(stage, session) for stage in session.stages)
        else:
            step_s = _queued_step_s(session, hops_s)
        return max((step_s + hops_s) * self._crowding() * _steps(session), 1e-9)

    def _crowding(self) -> float:
        """How much slower everything runs because more sessions want to run than their one host has cores.

        A session keeps one thread busy at a time, and a hop inside a host is work of its cores too. The host shares its
        cores equally (processor sharing), so ``n`` sessions on ``c`` cores each take ``max(1, n / c)`` times as long.
        Other work of the host is not modelled.
        """
        return max(1.0, len(self.sessions) / self.cores) if self.cores else 1.0

    def _busy(self, executor: Executor) -> float:
        """Share of full speed in use: a stage waits while others and links work.

        What takes turns adds up; decode streams of a batch step together, so the fullest stands for all.
        """
        turns, batch = 0.0, 0.0
        for session in executor.sessions.values():
            if session.rate <= 0.0:
                continue
            work_s = sum(_work_s(stage, session) for stage in session.stages if stage.executor is executor)
            share = session.rate * _steps(session) * work_s
            if session.decoding and executor.law.batching:
                batch = max(batch, share)
            else:
                turns += share
        return min(1.0, turns + batch) * executor.speed

    def _account(self, executor: Executor) -> None:
        now = self.world.engine.now
        executor.busy_area += executor.busy_share * (now - executor.busy_since_ns) / NS_PER_S
        executor.busy_since_ns = now

    def _phase_done(self, argument: tuple[Session, int]) -> None:
        session, generation = argument
        if session.generation != generation:
            return
        now = self.world.engine.now
        if not session.decoding:
            session.first_token_ns = now - session.started_ns
            session.decoding, session.progress, session.rate, session.at_ns = True, 0.0, 0.0, now
            self._rerate_neighbours(session)
            return
        self._end(session)
        self.tokens += session.job.new_tokens
        output = answer_digest(session.job.model, session.job.prompt, session.job.new_tokens)
        wrong = [s.node for s in session.job.stages if now in self.liars.get(s.node, ())]
        if wrong:
            output = blake2b(f"{output}{wrong}".encode(), digest_size=20).hexdigest()
        self._tell(
            session.node,
            session.path,
            session.job_id,
            Done(output, session.job.new_tokens, session.first_token_ns),
            now,
        )

    def _end(self, session: Session) -> None:
        session.generation += 1
        self.sessions.pop((session.node.name, session.job_id), None)
        for stage in session.stages:
            stage.executor.sessions.pop(session.number, None)
            self._account(stage.executor)
            stage.executor.busy_share = self._busy(stage.executor)
        self._rerate_neighbours(session)

    def _lose(self, session: Session, reason: str, node: str) -> None:
        self._end(session)
        at = self.world.engine.now + int(LOST_AFTER_S * NS_PER_S)
        self._tell(session.node, session.path, session.job_id, Lost(reason, node), at, session.epoch)

    def _tell(self, node: Node, path: str, job_id: int, outcome: Outcome, at_ns: int, epoch: int | None = None) -> None:
        if epoch is None or epoch == node.epoch:
            self.world.give_at(at_ns, node, (p.JOB, path, job_id, encode(outcome)))


def _steps(session: Session) -> int:
    """Steps of the present phase; the prefill speaks the first token."""
    return session.job.new_tokens - 1 if session.decoding else 1


def _work_s(stage: StageCost, session: Session) -> float:
    """What one step of a session keeps a stage's device at work, the other streams of its batch included."""
    executor = stage.executor
    if not session.decoding:
        return stage.prefill.scaled_s / executor.speed + stage.prefill.overhead_s
    cost = stage.decode
    streams = [s for s in executor.sessions.values() if s.decoding] if executor.law.batching else [session]
    contexts = sum(s.context for s in streams)
    scaled_s = cost.base_s + cost.per_stream_s * len(streams) + cost.per_context_s * contexts
    return scaled_s / executor.speed + cost.overhead_s


def _shared_step_s(stage: StageCost, session: Session) -> float:
    """One step of a batching executor: its decode streams advance together, a prefill takes an equal share."""
    sessions = stage.executor.sessions.values()
    prefilling = sum(not s.decoding for s in sessions)
    others = prefilling if session.decoding else prefilling - 1 + (prefilling < len(sessions))
    return _work_s(stage, session) * (1 + others)


def _queued_step_s(session: Session, hops_s: float) -> float:
    """One step through serial servers: at each stage it waits for the others that are there.

    The mean-value approximation for closed queueing networks (Schweitzer 1979): another session is at a stage with
    the share of its time that the stage takes, here taken equal for all sessions.
    """
    own = [_work_s(stage, session) for stage in session.stages]
    whole_s = sum(own) + hops_s
    return sum(
        t * (1.0 + (len(stage.executor.sessions) - 1) * t / whole_s)
        for t, stage in zip(own, session.stages, strict=True)
    )


def answer_digest(model: str, prompt: str, new_tokens: int) -> str:
    """Return what an honest pipeline answers: in the twin an answer is its name, a function of the question."""
    return blake2b(f"{model}\x00{prompt}\x00{new_tokens}".encode(), digest_size=20).hexdigest()
