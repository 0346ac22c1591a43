"""A desk that does nodes' jobs in fixed times: what compute is where only its order matters, not its physics.

A session answers as every honest pipeline would (`sim.answers.answer_digest`), if all its stages stayed up, within
reach of one another and in possession of their layers from its start to its end; else its head hears that it is lost.
`sim.compute` is the same place with the physics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from policies import port as p
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
    SessionJob,
    Stage,
)
from policies.port import NS_PER_S
from policies.sharding import JOBS, Planner
from policies.wire import encode
from sim.answers import answer_digest
from sim.world import Node, World

_job: Any = msgspec.msgpack.Decoder(Job).decode  # type: ignore[arg-type]


@dataclass(frozen=True)
class Times:
    """How long jobs take, in seconds.

    Attributes:
        session_s: a session, whatever its length.
        load_s: bringing a shard into memory.
        plan_s: a plan.
        lost_s: until a head notices that a stage is gone.
    """

    session_s: float
    load_s: float
    plan_s: float
    lost_s: float


class Desk:
    """Does the world's jobs (`sim.world.Jobs`).

    Args:
        world: whose nodes submit.
        times: how long jobs take.
        planners: planner by name, where they are not the village's own.

    Attributes:
        sessions: (node, job id) to the path that submitted the session under way, and the session.
        held: node to the layers (first, last) that are in its memory.
        freed: (node, request) of what was to be forgotten.
        covered: (node, job) of standbys that were told later.
        admitted: node to the pipeline in whose sessions it takes part.
        expected: (node, job) of whose copies are to be taken.
    """

    def __init__(self, world: World, times: Times, planners: Mapping[str, Planner] = JOBS) -> None:
        self.world, self.times, self.planners = world, times, planners
        self.sessions: dict[tuple[str, int], tuple[str, SessionJob]] = {}
        self.held: dict[str, tuple[int, int]] = {}
        self.freed: list[tuple[str, str]] = []
        self.covered: list[tuple[str, CoverJob]] = []
        self.admitted: dict[str, tuple[Stage, ...]] = {}
        self.expected: list[tuple[str, ExpectJob]] = []

    def submit(self, node: Node, path: str, job_id: int, payload: bytes) -> None:
        """Take a job; its outcome comes when it is done, unless the node is down by then."""
        job = _job(payload)
        if isinstance(job, SessionJob):
            self.sessions[(node.name, job_id)] = (path, job)
            trouble = self._trouble(node, job)
            self._later(self.times.lost_s if trouble else self.times.session_s, node, path, job_id, job)
        elif isinstance(job, LoadJob):
            self.held.pop(node.name, None)  # the old shard makes room
            self._later(self.times.load_s, node, path, job_id, job)
        elif isinstance(job, FreeJob | CoverJob | AdmitJob | ExpectJob):
            if isinstance(job, FreeJob):
                self.freed.append((node.name, job.kept))
            elif isinstance(job, CoverJob):
                self.covered.append((node.name, job))
            elif isinstance(job, AdmitJob):
                self.admitted[node.name] = job.stages
            else:
                self.expected.append((node.name, job))
            self.world.give_at(int(self.world.engine.now), node, (p.JOB, path, job_id, encode(Done("", 0, 0))))
        else:
            self._later(self.times.plan_s, node, path, job_id, job)

    def answer(self, job: SessionJob) -> str:
        """Return what a session that went well answers."""
        return answer_digest(job.model, job.prompt, job.new_tokens)

    def cancel(self, node: Node, job_id: int) -> None:
        """Stop a session; other jobs run out, and the Cell drops their outcome."""
        self.sessions.pop((node.name, job_id), None)

    def node_down(self, node: Node) -> None:
        """A machine stopped: its memory is empty, its own sessions end unheard, those through it are lost."""
        self.held.pop(node.name, None)
        for (name, job_id), (path, job) in list(self.sessions.items()):
            if name == node.name:
                del self.sessions[(name, job_id)]
            elif any(stage.node == node.name for stage in job.stages):
                del self.sessions[(name, job_id)]
                head = self.world.by_name[name]
                at = self.world.engine.now + int(self.times.lost_s * NS_PER_S)
                lost = Lost("stage went down", node.name)
                self.world.give_at(at, head, (p.JOB, path, job_id, encode(lost)))

    def _later(self, after_s: float, node: Node, path: str, job_id: int, job: Any) -> None:
        at = self.world.engine.now + int(after_s * NS_PER_S)
        self.world.engine.call_at(at, self._end, (node, node.epoch, path, job_id, job))

    def _end(self, argument: tuple[Node, int, str, int, Any]) -> None:
        node, epoch, path, job_id, job = argument
        if node.epoch != epoch:
            return
        if isinstance(job, SessionJob):
            if self.sessions.pop((node.name, job_id), None) is None:
                return  # cancelled, or lost with one of its stages
            outcome: Outcome = self._trouble(node, job) or Done(
                self.answer(job),
                job.new_tokens,
                int(self.times.session_s * NS_PER_S),
            )
        elif isinstance(job, PlanJob):
            outcome = Done("", 0, 0, self.planners[job.planner](job.problem, job.budget))
        else:
            self.held[node.name] = (job.first, job.last)
            outcome = Done("", 0, 0)
        self.world.give(node, (p.JOB, path, job_id, encode(outcome)))

    def _trouble(self, head: Node, job: SessionJob) -> Lost | None:
        """Return why a session cannot run now, or None."""
        for stage in job.stages:
            node = self.world.by_name[stage.node]
            if not node.up:
                return Lost("stage is down", stage.node)
            if self.held.get(stage.node) != (stage.first, stage.last):
                return Lost("stage holds other layers", stage.node)
        numbers = [self.world.by_name[stage.node].number for stage in job.stages]
        return Lost("link down") if self.world.network.parted(numbers) else None
