"""Simulated compute: sessions, shard loads and plans, as fluid flows over executors and access links.

A session is a row of legs, one after another: the prompt's way to the head, the prompt through each stage and its
activations' way to the next one, then all further tokens. What a leg takes alone is the executors' own law
(`sim.sessions`): decode streams of a batch advance together, and a token costs the sum of its stages' steps and hops.
What legs share is `sim.sharing`'s: an executor is a resource of capacity 1, and a leg is a flow whose rate is at most 1
second of itself a second, and which takes of each resource the share of its time at which that works for it. So two
prompts on one device take half of it each, a batch as much as one prompt, and pipelined sessions run at
min(1 / slowest stage, sessions / round). Prompts and activations of prompts are
flows over access links (`sim.bulk`); a single token's are messages, which pay the link's rate and do not share it.

Executors that serve one step at a time (a profile's) have queues instead, and share the cores of their host: their
sessions go step by step (`sim.steps`), or batch by batch (`sim.rounds`).

When a batch changes, only its streams are renewed; when a speed does, only what runs there. Between such events
progress is linear, and an end is one event. This is what the manifest calls ``compute: fluid``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import msgspec

from models import inference
from policies import port as p
from policies.config import BatchedConfig, PolicyConfig
from policies.jobs import (
    AdmitJob,
    CoverJob,
    Done,
    ExpectJob,
    FreeJob,
    Job,
    LoadJob,
    Lost,
    Outcome,
    PlanJob,
    PreparedJob,
    Progress,
    SessionJob,
)
from policies.port import NS_PER_S
from policies.sharding import JOBS
from policies.sharding.links import TOKEN_BYTES
from policies.wire import encode
from scenarios.hosts import Ways
from scenarios.record import stages_text
from sim import answers
from sim.alike import Alike
from sim.bulk import ASK_BYTES, Bulk
from sim.copies import Copies
from sim.laws import Law
from sim.loads import LOAD_BYTES_PER_S, Loads
from sim.proofs import Proofs, Proving
from sim.rounds import Rounds
from sim.sessions import Carry, Decode, Executor, Prefill, Session, StageCost, Walking, alone, prefilled
from sim.sharing import Flow, Sharing
from sim.silence import Silence
from sim.steps import CORES, Host, Steps
from sim.world import Node, World

LOST_AFTER_S = 5.0
"""A head notices a dead stage after this: an assumption. A real one hears of a process that ended at once, as its link
closes; of one that is silent after 3 s (`real_backends.transports.tls`) to 9 s (`real_backends.executors_host`)."""
MARK_BYTES = 16
"""A stage tells what it has by a digest a token at most (`real_backends.copies.Marker`)."""
PLAN_S = 0.5
"""Time of a planning job on a committee member: an assumption; on a host with a profile it is measured."""

_job: Any = msgspec.msgpack.Decoder(Job).decode  # type: ignore[arg-type]


class Compute:
    """Runs the world's jobs.

    Args:
        world: whose nodes submit.
        shape: the served model.
        laws: executor law by node name.
        cores: CPU cores that serial executors share, which are processes of one host.
        hop_s: from one stage's step to the next one's, where it was measured as a whole; replaces the links' delay.
        session_s: opening a session, on top of its steps and hops.
        ways: what shaped links of one host add to a hop.
        plan_s: time of a planning job.
        blob_s: fetching a prompt from another node of a host, on top of its two messages.
        fetched: devices begin without the model (`sim.loads`).
        load_bytes_per_s: at which a shard is read into memory.
        launch_s: what a node's process takes until it is there, by name; none: it is there at once.
        shared_tokens: with which all prompts begin.
        pinned: serial executors keep to one core each, in turn.
        policy: how serial executors serve sessions; each one by itself without it.
        smaller: other models, by name: their shapes and their laws by node name.

    Serial executors (`sim.laws.Law.batching` is false) and others are not mixed.
    """

    def __init__(
        self,
        world: World,
        shape: inference.Shape,
        laws: dict[str, Law],
        cores: int | None = None,
        hop_s: float | None = None,
        session_s: float = 0.0,
        ways: Ways | None = None,
        plan_s: float = PLAN_S,
        *,
        blob_s: float = 0.0,
        fetched: bool = False,
        pinned: bool = False,
        policy: PolicyConfig | None = None,
        smaller: Mapping[str, tuple[inference.Shape, Mapping[str, Law]]] | None = None,
        load_bytes_per_s: float = LOAD_BYTES_PER_S,
        launch_s: Mapping[str, float] | None = None,
        shared_tokens: int = 0,
    ) -> None:
        self._launch_s = launch_s or {}
        self._smaller = smaller or {}
        self.world, self.shape = world, shape
        self.plan_s = plan_s
        self.executors = {name: Executor(name, law) for name, law in laws.items()}
        self.sharing = Sharing(world.engine)
        for name in self.executors:
            self.sharing.add(name, 1.0)
        if cores and pinned:
            for k in range(min(cores, len(laws))):
                self.sharing.add(f"{CORES} {k}", 1.0)
        elif cores:
            self.sharing.add(CORES, float(cores))
        core_of = {name: f"{CORES} {k % cores}" if pinned else CORES for k, name in enumerate(laws)} if cores else {}
        self.serial = not all(law.batching for law in laws.values())
        around = (
            world.engine, self.sharing, Host(core_of, hop_s or 0.0, session_s, blob_s, ways or Ways({})), self._way_s,
            lambda model: self._shape(model).activation_bytes(), self._speak, self._finish,
        )  # fmt: skip
        serving = policy.serving if policy else None
        self.alike = Alike(serving, policy.sharding if policy else None, shared_tokens)
        self.steps = Steps(*around)
        if policy and isinstance(serving, BatchedConfig):
            self.steps = Rounds(serving, policy.sharding, self.alike, self._lose, *around)
        self.bulk = Bulk(Sharing(world.engine, world.network.config.sharing), world.network)
        self.loads = Loads(world, self._shape, self.bulk, self._tell, fetched=fetched, bytes_per_s=load_bytes_per_s)
        self.proving: Proving | None = None
        self.copies = Copies(
            world, self._shape, self._law, self.executors, core_of, self.sharing, self.bulk, self._look, self._wrong
        )  # fmt: skip
        self.sessions: dict[tuple[str, int], Session] = {}
        self.liars: dict[str, range] = {}  # node to the times (ns) at which its activations are wrong
        self.ended: list[tuple[Any, ...]] = []  # rows of the table ``sessions``
        self.tokens = 0
        self.plans = 0
        self._next = 0
        self.silence = Silence(world, LOST_AFTER_S, self._through, lambda s, why, who: self._lose(s, why, who, 0.0))

    def mount_proofs(self, proofs: Proofs) -> None:
        """Do the jobs of checks as well."""
        self.proving = Proving(self.world, proofs, self._law, self.executors, self.sharing, self.bulk, self._tell)

    def launch(self, node: Node, begun: Callable[[], None]) -> None:
        """Let a node's process begin: work on a core, which it shares with what is served meanwhile."""
        seconds, core = self._launch_s.get(node.name, 0.0), self.steps.core(node.name)
        if seconds > 0 and core:
            self.sharing.start([core], seconds, cap_per_s=1.0, done=lambda _: begun())
        elif seconds > 0:
            self.world.engine.call_at(int(self.world.engine.now) + round(seconds * NS_PER_S), lambda _: begun(), None)
        else:
            begun()

    # -- what the world asks -------------------------------------------------------------------------

    def submit(self, node: Node, path: str, job_id: int, payload: bytes) -> None:
        """Start a job."""
        job = _job(payload)
        now = self.world.engine.now
        if isinstance(job, SessionJob):
            self._start_session(node, path, job_id, job)
        elif isinstance(job, LoadJob):
            self.loads.start(node, path, job_id, job)
        elif isinstance(job, CoverJob | FreeJob | AdmitJob | ExpectJob):
            if isinstance(job, FreeJob):
                self.copies.free(node, job.kept)
            elif isinstance(job, CoverJob) and (session := self.sessions.get((node.name, job.session))) is not None:
                self.copies.cover(session, job.standbys)  # the others: no executor lies here about what it may send
            self._tell(node, path, job_id, Done("", 0, 0), now)
        elif isinstance(job, PlanJob):
            self.plans += 1
            result = JOBS[job.planner](job.problem, job.budget)
            self._tell(node, path, job_id, Done("", 0, 0, result), now + int(self.plan_s * NS_PER_S))
        elif self.proving is not None:
            self.proving.start(node, path, job_id, job)

    def cancel(self, node: Node, job_id: int) -> None:
        """Stop a session or what a load fetches; other jobs run out unheard (the Cell drops their outcome)."""
        self._catch_up()
        self.loads.cancel(node, job_id)
        session = self.sessions.get((node.name, job_id))
        if session is not None:
            self._end(session)

    def node_down(self, node: Node) -> None:
        """A node crashed: its own sessions vanish, those that pass through it are lost to their heads."""
        self.silence.go_on(node)
        self.loads.node_down(node)
        if self.proving is not None:
            self.proving.proofs.forget(node)
        for session in self._through(node):
            if session.node is node:
                self._end(session)
            else:
                self._lose(session, "stage went down", node.name)
        self.copies.node_down(node)
        self.alike.node_down(node.name)
        self.steps.node_down(node.name)

    def cut(self) -> None:
        """A partition began: sessions across it are lost."""
        network = self.world.network
        self._catch_up()
        self.loads.cut()
        self.copies.cut()
        for session in list(self.sessions.values()):
            leg = session.legs[0]
            if network.parted(self._numbers(session.job)) or (
                isinstance(leg, Carry) and network.stopped(leg.source, leg.target)
            ):
                self._lose(session, "link down", "")

    def leave(self, name: str, offline: bool = False) -> None:
        """A device is on another network, or on none: what goes through it is lost, and its link has other rates."""
        node = self.world.by_name[name]
        for session in self._through(node):
            self._lose(session, "link down", name)
        self.loads.leave(node, offline)
        self.copies.leave(node)
        self.bulk.relink(node.number)

    def set_speed(self, name: str, speed: float) -> None:
        """Change a device's speed; what runs on it is renewed."""
        executor = self.executors[name]
        if executor.speed != speed:
            self._catch_up()
            for session in executor.sessions.values():
                self._look(session)
            executor.speed = speed
            self._renew([executor])
            self.steps.renew(executor)

    def take_load(self, name: str, elapsed_s: float) -> float:
        """Return the mean busy share of a device since the last call."""
        executor = self.executors[name]
        if executor.sessions:
            self._catch_up()
            for session in executor.sessions.values():
                self._look(session)
        load, executor.busy_s = executor.busy_s / elapsed_s, 0.0
        return min(1.0, load)

    # -- sessions ------------------------------------------------------------------------------------

    def _start_session(self, node: Node, path: str, job_id: int, job: SessionJob) -> None:
        nodes = [self.world.by_name.get(stage.node) for stage in job.stages]
        now = self.world.engine.now
        dead = next((s.node for s, n in zip(job.stages, nodes, strict=True) if n is None or not n.up), None)
        if dead is not None:
            self._tell(node, path, job_id, Lost("stage is down", dead), now + int(LOST_AFTER_S * NS_PER_S))
            return
        numbers = self._numbers(job)
        if self.world.network.parted(numbers):
            self._tell(node, path, job_id, Lost("link down"), now + int(LOST_AFTER_S * NS_PER_S))
            return
        self._next += 1
        begins = self.copies.begins(job)
        if not (self.serial and isinstance(self.steps, Rounds)):  # there batchers share blocks themselves
            begins = max(begins, self.alike.begin(self._next, job))
        session = Session(
            self._next, node, node.epoch, path, job_id, job, self._stage_costs(job, begins), self._hops_s(job, numbers),
            now, self._legs(node, job, numbers, begins), begins,
        )  # fmt: skip
        self.sessions[(node.name, job_id)] = session
        for executor in session.executors:
            executor.sessions[session.number] = session
        self._begin(session)
        if self.sessions.get((node.name, job_id)) is session:  # its first bytes meet no cut
            self.copies.start(session)
            self.silence.begins(session)

    def _numbers(self, job: SessionJob) -> list[int]:
        return [self.world.by_name[stage.node].number for stage in job.stages]

    def _through(self, node: Node) -> list[Session]:
        """Return the sessions with a stage at a node, and those that carry bytes from it or ask it for them."""
        self._catch_up()
        executor = self.executors.get(node.name)
        staged = list(executor.sessions.values()) if executor else []
        carrying = [
            session
            for session in self.sessions.values()
            if isinstance(session.legs[0], Carry) and node.number in session.legs[0][:2]
        ]
        return staged + [session for session in carrying if session not in staged]

    def _stage_costs(self, job: SessionJob, begins: int) -> list[StageCost]:
        costs = []
        for k, stage in enumerate(job.stages):
            executor, layers, last = self.executors[stage.node], stage.last - stage.first, k == len(job.stages) - 1
            law = self._law(job.model, stage.node)
            entering = law.prefill(layers, last, prefilled(job) - begins, begins)
            costs.append(StageCost(executor, law.decode(layers, last), entering, law))
        return costs

    def _shape(self, model: str) -> inference.Shape:
        return self._smaller[model][0] if model in self._smaller else self.shape

    def _law(self, model: str, node: str) -> Law:
        return self._smaller[model][1][node] if model in self._smaller else self.executors[node].law

    def _legs(
        self, node: Node, job: SessionJob, numbers: list[int], begins: int
    ) -> list[Carry | Prefill | Decode | Walking]:
        """Return what a session does from the prompt's blob to the last token."""
        legs: list[Carry | Prefill | Decode | Walking] = []
        if isinstance(job, PreparedJob) and job.resume and len(numbers) > 1:  # stages are asked what they have
            far = max(numbers[1:], key=lambda number: self._message_s(node.number, number, 0.0))
            legs += [Carry(node.number, far, TOKEN_BYTES), Carry(far, node.number, MARK_BYTES * prefilled(job))]
        source = self.world.by_name.get(job.source)
        if source is not None and source is not node:  # the head asks for the prompt's blob
            legs.append(Carry(node.number, source.number, ASK_BYTES))
            legs.append(Carry(source.number, node.number, TOKEN_BYTES * job.prompt_tokens))
        if self.serial:
            return [*legs, Walking()]
        apart, activation_bytes = len(numbers) > 1, self._shape(job.model).activation_bytes()
        for k, (a, b) in enumerate(zip(numbers, [*numbers[1:], numbers[0]], strict=True)):
            legs.append(Prefill(k))
            if apart:
                last = k == len(numbers) - 1
                entering = prefilled(job) - begins
                legs.append(Carry(a, b, TOKEN_BYTES if last else activation_bytes * entering))
        return [*legs, Decode()]

    def _hops_s(self, job: SessionJob, numbers: list[int]) -> float:
        """One token's activations from stage to stage, and the token from the last stage back to the head."""
        if len(numbers) == 1 or self.serial:
            return 0.0
        activation_bytes = self._shape(job.model).activation_bytes()
        forward_s = sum(self._message_s(a, b, activation_bytes) for a, b in pairwise(numbers))
        return forward_s + self._message_s(numbers[-1], numbers[0], TOKEN_BYTES)

    def _way_s(self, source: str, target: str, size_bytes: float) -> float:
        a, b = (self.world.by_name[name].number for name in (source, target))
        return self._message_s(a, b, size_bytes)

    def _message_s(self, a: int, b: int, size_bytes: float) -> float:
        latency_s, bytes_per_s, _ = self.world.network.path(a, b)
        return latency_s + size_bytes / bytes_per_s

    def _catch_up(self) -> None:
        """Hear of what has ended by now before anything else changes."""
        self.sharing.catch_up()
        self.bulk.sharing.catch_up()

    # -- running -------------------------------------------------------------------------------------

    def _begin(self, session: Session) -> None:
        """Begin a session's next leg."""
        leg = session.legs[0]
        session.alone, session.left, session.flow = None, 1.0, None
        if isinstance(leg, Carry) and self.world.network.stopped(leg.source, leg.target):
            self._lose(session, "link down", "")
        elif isinstance(leg, Carry):
            session.flow = self.bulk.send(
                leg.source, leg.target, leg.size_bytes, lambda flow: self._leg_done(session, flow)
            )
        elif isinstance(leg, Walking):
            self.steps.begin(session)
        elif isinstance(leg, Prefill):
            self._run(session)
        elif session.decided < 2:  # the prefill spoke the only token
            self._finish(session)
        else:
            session.join_batches()
            self._renew(session.executors)

    def _run(self, session: Session) -> None:
        """Let a leg on executors run, unless it is paused."""
        session.alone = alone(session)
        if session.alone is not None:
            session.flow = self.sharing.start(
                list(session.alone.work_s),
                session.left * session.alone.seconds,
                takes=session.alone.takes(),
                cap_per_s=1.0,
                done=lambda flow: self._leg_done(session, flow),
            )

    def _renew(self, executors: list[Executor]) -> None:
        """What runs on these executors goes on by their law of now; everything else is untouched."""
        if not any(executor.sessions for executor in executors):
            return
        self.sharing.catch_up()
        sessions = {number: session for executor in executors for number, session in executor.sessions.items()}
        changes = []
        for session in sessions.values():
            flow = session.flow
            if isinstance(session.legs[0], Carry | Walking) or (flow is not None and flow.finished_s is not None):
                continue
            if flow is None:
                self._run(session)
                continue
            now = alone(session)
            if now == session.alone:
                continue
            self._look(session)
            if now is None:
                self.sharing.cancel(flow)
                session.alone, session.flow = None, None
            elif session.left > 0.0:  # else it ends at this very moment
                session.alone = now
                changes.append((flow, session.left * now.seconds, now.takes()))
        if changes:
            self.sharing.renew(changes)

    def _look(self, session: Session) -> None:
        """Bring a leg's progress up to now, and charge its executors with what they did for it."""
        if session.alone is None or session.flow is None:
            return
        left = self.sharing.left(session.flow) / session.alone.seconds
        for executor in session.executors:
            if executor.name in session.alone.work_s:
                work_s = session.alone.work_s[executor.name]
                executor.busy_s += (session.left - left) * work_s * executor.speed
        session.left = left

    def _leg_done(self, session: Session, flow: Flow) -> None:
        if session.flow is not flow:
            return  # it ended at the very moment at which its session did
        self._look(session)
        if isinstance(session.legs[0], Decode):
            self._finish(session)
            return
        session.legs.pop(0)
        if isinstance(session.legs[0], Decode):
            self._speak(session)
        self._begin(session)
        self.copies.look(session)

    def _speak(self, session: Session) -> None:
        """The first token is with the head."""
        session.first_token_ns = int(self.world.engine.now) - session.started_ns

    def _finish(self, session: Session) -> None:
        """The last token is there: the head hears the answer."""
        now = int(self.world.engine.now)
        self._end(session)
        self.tokens += session.decided
        self.ended.append((
            session.job.op, session.node.name, session.started_ns / NS_PER_S, session.first_token_ns / NS_PER_S,
            now / NS_PER_S, session.job.new_tokens, stages_text(session.job.stages),
        ))  # fmt: skip
        output = answers.output(session.job, self._wrong(session.job))
        done = Done(output, session.job.new_tokens, session.first_token_ns)
        self._tell(session.node, session.path, session.job_id, done, now)

    def _end(self, session: Session) -> None:
        self._look(session)
        self.copies.end(session)
        self.alike.end(session.number, session.taken(0))
        self.steps.leave(session)
        flow, session.flow = session.flow, None
        if flow is not None:
            (self.bulk.sharing if isinstance(session.legs[0], Carry) else self.sharing).cancel(flow)
        self.sessions.pop((session.node.name, session.job_id), None)
        session.leave()
        if session.decoding:
            self._renew(session.executors)

    def _lose(self, session: Session, reason: str, node: str, after_s: float = LOST_AFTER_S) -> None:
        self._end(session)
        at = self.world.engine.now + int(after_s * NS_PER_S)
        job, now = session.job, self.world.engine.now
        said = answers.emitted(job, session.said, self._wrong(job))
        told = len(said) - len(said) % job.report_every
        if told > len(job.forced):  # what it would have told by now, told at once: nobody acts on it before the loss
            progress = Progress(told, said[len(job.forced) : told])
            self._tell(session.node, session.path, session.job_id, progress, now, session.epoch)
        lost = Lost(reason, node, said)
        self._tell(session.node, session.path, session.job_id, lost, at, session.epoch)

    def _wrong(self, job: SessionJob) -> list[str]:
        """Return the stages whose activations are wrong now."""
        now = self.world.engine.now
        return [stage.node for stage in job.stages if now in self.liars.get(stage.node, ())]

    def _tell(self, node: Node, path: str, job_id: int, outcome: Outcome, at_ns: int, epoch: int | None = None) -> None:
        if epoch is None or epoch == node.epoch:
            self.world.give_at(at_ns, node, (p.JOB, path, job_id, encode(outcome)))
