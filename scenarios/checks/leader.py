"""Promises about the leader of a village's work: what it knows of workers and pipelines, and whom it serves first.

All look at states; those of a leader that a partition has cut off are looked at as well, so they promise only what a
leader can keep alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import msgspec

from policies.problem import Problem, State
from policies.sharding import latency_dp, token_s
from scenarios.checks.language import Look, StateCheck


def leaders(nodes: Collection[str], policy: Look) -> Iterator[tuple[str, Any, Any]]:
    """Yield (node, consensus, coordination) of every node that takes itself for the leader."""
    for node in nodes:
        work: Any = policy(node, "coordination")
        if work is not None and work.leading:
            yield node, policy(node, "consensus"), work


class LeasesEnd(StateCheck):
    """A worker whose lease has run out is given up at the leader's next tick, whatever it was doing.

    Args:
        slack_s: for a tick that waits behind other inputs.
    """

    def __init__(self, slack_s: float) -> None:
        super().__init__("leases_end")
        self.slack_ns = int(slack_s * 1e9)

    def look(self, nodes: Collection[str], policy: Look) -> str:
        for node, _, work in leaders(nodes, policy):
            latest = work.port.now - work.tick_ns - self.slack_ns
            for name, view in work.lines.workers.items():
                if view.lease_until_ns < latest:
                    late_s = (work.port.now - view.lease_until_ns) / 1e9
                    return f"{node} still counts on {name}, whose lease ended {late_s:.2f} s ago"
        return ""


class PipelinesHaveWorkers(StateCheck):
    """A leader that has applied its whole log has no pipeline with a worker whose lease it gave up."""

    def __init__(self) -> None:
        super().__init__("pipelines_have_their_workers")

    def look(self, nodes: Collection[str], policy: Look) -> str:
        for node, raft, work in leaders(nodes, policy):
            if raft.applied < raft.log.last:
                continue  # that the pipeline is dissolved may be in there
            for line in work.lines.lines.values():
                gone = [name for name in line.nodes if name not in work.lines.workers]
                if gone:
                    return f"{node} keeps pipeline {line.number}, whose worker {gone[0]} is gone"
        return ""


class PlannedLatency(StateCheck):
    """A placed pipeline's planned seconds a token are those of its stages and of the links between them.

    Args:
        problem: the model, and every worker with all it can do.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__("planned_latency_counts_all")
        self.problem = problem
        self.seen: set[int] = set()

    def look(self, nodes: Collection[str], policy: Look) -> str:
        for node, _, work in leaders(nodes, policy):
            for number, placed in work.state.placements.items():
                if number in self.seen:
                    continue
                self.seen.add(number)
                expected_s = token_s(self.problem, placed.stages)
                if abs(placed.token_s - expected_s) > 1e-9 * expected_s:
                    return f"{node} plans {placed.token_s:g} s a token on {placed.stages}, it takes {expected_s:g} s"
        return ""


class FreeSlotsAreUsed(StateCheck):
    """No request waits for a pipeline while a loaded one has a free slot."""

    def __init__(self) -> None:
        super().__init__("free_slots_are_used")

    def look(self, nodes: Collection[str], policy: Look) -> str:
        for node, _, work in leaders(nodes, policy):
            waiting = [effort for effort in work.efforts.all.values() if _waits(effort)]
            free = [
                line
                for line in work.lines.lines.values()
                if line.running < work.sharding.slots and work.lines.ready(line)
            ]
            if waiting and free:
                return f"{node} lets {len(waiting)} requests wait while pipeline {free[0].number} has a free slot"
        return ""


class NobodyIsOvertaken(StateCheck):
    """A request that waits is not overtaken by one behind it: less urgent by class, waiting time counted in.

    Args:
        ageing_s: the wait that lifts a request by one class.
    """

    def __init__(self, ageing_s: float) -> None:
        super().__init__("nobody_is_overtaken")
        self.ageing_ns = int(ageing_s * 1e9)
        self.before: dict[tuple[str, int], dict[Any, int]] = {}  # (leader, term) to who waited at what attempt

    def look(self, nodes: Collection[str], policy: Look) -> str:
        waited, self.before = self.before, {}
        for node, _, work in leaders(nodes, policy):
            efforts = work.efforts.all
            waiting = {key: effort.tries for key, effort in efforts.items() if _waits(effort)}
            self.before[(node, work.term)] = waiting
            earlier = waited.get((node, work.term), {})
            still = [key for key, tries in waiting.items() if earlier.get(key) == tries]
            begun = [key for key, effort in efforts.items() if effort.tries > earlier.get(key, 0) and key in earlier]
            if not still or not begun:
                continue
            first = min(still, key=lambda key: self._place(efforts[key]))
            last = max(begun, key=lambda key: self._place(efforts[key]))
            if self._place(efforts[first]) < self._place(efforts[last]):
                return f"{node} starts {'/'.join(last)} while {'/'.join(first)}, which is before it, waits"
        return ""

    def _place(self, effort: Any) -> int:
        asked = effort.accepted
        return int(asked.priority * self.ageing_ns + asked.accepted_wall_ns)


class QueuesAreBounded(StateCheck):
    """A leader owes no more requests than its queue and its slots hold, and what was admitted before it could refuse.

    Args:
        queue_max: the queue's bound.
        slots: that all pipelines together can have.
        in_flight: requests that may be on their way through consensus when the queue fills.
    """

    def __init__(self, queue_max: int, slots: int, in_flight: int) -> None:
        super().__init__("queues_are_bounded")
        self.most = queue_max + slots + in_flight

    def look(self, nodes: Collection[str], policy: Look) -> str:
        for node, _, work in leaders(nodes, policy):
            if len(work.state.requests) > self.most:
                return f"{node} owes {len(work.state.requests)} requests, at most {self.most}"
        return ""


class CapacityRecovers(StateCheck):
    """In the end the leader knows every worker that is up, and those without a pipeline could not hold the model.

    A lost message may cost a pipeline even when all is calm, so it may be otherwise for a while.

    Args:
        problem: the model, and every worker with all it can do; all of them are lent.
        within_s: for how long: a lease, and the ticks that notice its end and plan anew.
    """

    family = "liveness"

    def __init__(self, problem: Problem, within_s: float) -> None:
        super().__init__("capacity_recovers")
        self.problem, self.within_ns = problem, int(within_s * 1e9)
        self.whole_ns = self.now_ns = 0  # when it was last otherwise than missing, and when last looked at
        self.missing = ""
        self.judged: tuple[frozenset[str], frozenset[str]] | None = None

    def look(self, nodes: Collection[str], policy: Look) -> str:
        for node, _, work in leaders(nodes, policy):
            serving = {name for line in work.lines.lines.values() if work.lines.ready(line) for name in line.nodes}
            idle = frozenset(name for name in nodes if policy(name, "worker") is not None) - serving
            state = (idle, frozenset(work.lines.workers))
            if state != self.judged:
                self.judged, self.missing = state, self._missing(node, *state)
            self.now_ns = work.port.now
            if not self.missing:
                self.whole_ns = self.now_ns
        return ""

    def _missing(self, node: str, without: frozenset[str], known: frozenset[str]) -> str:
        unknown = sorted(without - known)
        if unknown:
            return f"{node} does not know worker {unknown[0]}"
        idle = tuple(worker for worker in self.problem.workers if worker.node in without)
        if latency_dp.plan(msgspec.structs.replace(self.problem, workers=idle), State(), 1).pipelines:
            return f"{node} leaves {', '.join(worker.node for worker in idle)} idle, which could hold the model"
        return ""

    def end(self) -> str:
        return self.missing if self.now_ns - self.whole_ns > self.within_ns else ""


def _waits(effort: Any) -> bool:
    return not effort.settling and not effort.running and not effort.votes
