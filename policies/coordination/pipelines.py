"""Workers and pipelines: leases, plans, placements, and what becomes of a pipeline whose worker is gone.

It stands on `policies.coordination.attempts`: a pipeline that comes up takes work, one that is lost gives it back.
"""

from __future__ import annotations

import msgspec

from policies.commands import Dissolve, Join, Place
from policies.coordination.attempts import TERM_SHIFT, Attempts
from policies.coordination.lines import DECLARED, Line, WorkerView, candidate
from policies.jobs import PlanJob
from policies.local import Seen
from policies.problem import Plan
from policies.wire import encode
from policies.work import Gone, Leased, Load, Placed, Renew


class Pipelines(Attempts):
    """Who serves what.

    Attributes:
        plan_job: the planner's job that runs, or 0.
        placing: workers of placements proposed but not committed.
        pool_changed: whether a plan is due.
        next_line: pipelines numbered so far in this term.
    """

    def _reset(self) -> None:
        super()._reset()
        self.plan_job = 0
        self.placing: set[str] = set()
        self.pool_changed = False
        self.next_line = 0

    # -- workers ----------------------------------------------------------------------------------------

    def _on_renew(self, node: str, renew: Renew) -> None:
        known = self.lines.workers.get(node)
        until = self.port.now + self.lease_ns
        had_bytes = known.capability.memory_bytes if known is not None and known.capability is not None else -1.0
        if node not in self.lines.of_node and renew.capability.memory_bytes > had_bytes:
            self.pool_changed = True  # also where an earlier leader placed it: it was not there to be planned with
        changed = known is None or known.capability != renew.capability or known.loaded != renew.loaded
        self.lines.workers[node] = WorkerView(renew.capability, until, renew.loaded)
        if changed:
            self.lines.heard(node)
        if node not in self.state.members:
            self._propose(Join(node))
        self.port.send(f"{node}/worker", Leased())
        number = self.lines.of_node.get(node, 0)
        if number != renew.loaded:
            if number:
                self._lose_attempts(self.lines.lines[number])  # none starts before all hold it, so it lost its memory
                self._dispatch()
            self._load(node, number)
        elif number and (known is None or known.loaded != number):
            self._dispatch()  # the last shard of a line may just have come up

    def _load(self, node: str, number: int) -> None:
        line = self.lines.lines.get(number)
        if line is None:
            self.port.send(f"{node}/worker", Load(0, "", 0, 0))
            return
        stage = next(s for s in line.stages if s.node == node)
        self.port.send(f"{node}/worker", Load(number, line.model, stage.first, stage.last))

    def _worker_gone(self, node: str, reason: str) -> None:
        if self.lines.workers.pop(node, None) is not None and node in self.lines.of_node:
            self._dissolve(self.lines.of_node[node], f"{node}: {reason}")

    def _on_seen(self, seen: Seen) -> None:
        """Act on a failure detector's word: no new work for whom it doubts, another pipeline in place of a dead one's.

        It may be wrong, so that work is lost; leases, terms and the log stay what an outcome rests on.
        """
        news = self.lines.take(seen.peer, seen.status)
        if self.leading and seen.status == "dead":
            self._worker_gone(seen.peer, DECLARED)
        elif self.leading and news and seen.status == "alive":
            self.pool_changed = True
            self._dispatch()

    # -- plans and placements ---------------------------------------------------------------------------

    def _ask_for_plan(self) -> None:
        if self.plan_job or not self.pool_changed:
            return
        self.pool_changed = False
        free = self.lines.free_workers(self.placing, self.state.members)
        if free:
            workers = tuple(candidate(node, c) for node, c in free.items())
            problem = msgspec.structs.replace(self.card, workers=workers)
            self.plan_job = self.port.submit(PlanJob(self.sharding.planner, encode(problem), len(free)))

    def _propose_plan(self, plan: Plan) -> None:
        free = self.lines.free_workers(self.placing, self.state.members)
        for stages, token_s in zip(plan.pipelines, plan.latency_s, strict=True):
            if all(stage.node in free for stage in stages):
                self.next_line += 1
                number = (self.term << TERM_SHIFT) + self.next_line  # unique: one leader a term
                self.placing.update(stage.node for stage in stages)
                self._propose(Place(number, self.card.model, stages, token_s))

    def _on_placed(self, command: Place, changed: bool) -> None:
        self.placing.difference_update(stage.node for stage in command.stages)
        if not changed:
            self.pool_changed = True
            return
        line = self.lines.place(command)
        self.port.decide("placed", Placed(line.number, line.stages))
        if command.pipeline >> TERM_SHIFT != self.term:
            self._expect(line)  # an earlier leader's, committed or replayed only now; its workers may hold it already
            return
        gone = [node for node in line.nodes if node not in self.lines.workers]
        if gone:
            self._dissolve(line.number, f"{gone[0]}: left before it was placed")
            return
        for node in line.nodes:
            self._load(node, line.number)

    def _expect(self, line: Line) -> None:
        """Give each worker that an earlier leader placed one lease to be heard of."""
        for node in line.nodes:
            self.lines.workers.setdefault(node, WorkerView(None, self.port.now + self.lease_ns))

    def _dissolve(self, number: int, reason: str) -> None:
        if number in self.lines.lines:
            self._propose(Dissolve(number, reason))

    def _on_dissolved(self, command: Dissolve) -> None:
        line = self.lines.dissolve(command.pipeline)
        if line is None:
            return
        self.pool_changed = True
        self.port.decide("gone", Gone(command.pipeline, command.reason))
        self._lose_attempts(line)
        if not set(self.lines.dead()).isdisjoint(line.nodes):
            self._ask_for_plan()  # else at the next tick, when more may have left
        self._dispatch()
