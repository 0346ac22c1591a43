"""SWARM parallelism (Ryabinin et al., ICML 2023): equal stages with many peers each, wired anew for every request.

Every stage holds equally many layers, so that its peers stand in for one another. Peers are spread so that stages
compute alike, and one at a time moves from the stage with the most throughput to that with the least while this helps
(section 3.3). Who sends picks the next stage's peer by what each has been given: the one with the least work so far,
over its throughput (section 3.2, interleaved weighted round robin over observed throughputs).

Ideal inputs: true throughputs; the number of stages, which SWARM leaves to its operator, is the one that passes most.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

from policies.jobs import Stage
from policies.problem import Plan, Problem, State, Worker
from policies.sharding.answer import pipelines_plan, unheld
from policies.sharding.flow import Rates, max_flow, rates, span_max, worker_rates
from policies.sharding.routes import disjoint


def plan(problem: Problem, state: State, budget: int) -> Plan:
    """Place every worker that holds a stage, then draw ways that share none, ``budget`` at most."""
    by_node = rates(problem)
    placement = most(problem, by_node)
    tokens_per_s, links = max_flow(problem, placement, by_node) if placement else (0.0, ())
    ways = disjoint(placement, links, budget) if tokens_per_s > 0 else []
    if ways:
        made = pipelines_plan(problem, ways, "")
        return Plan(made.pipelines, made.latency_s, "", placement, links)
    return pipelines_plan(problem, [], _why(problem))


def _why(problem: Problem) -> str:
    """Return why there is no way: no number of equal stages can be manned, and the best one leaves so many layers."""
    lacking: list[tuple[int, int]] = []
    for stages in range(1, min(problem.layers, len(problem.workers)) + 1):
        longest = -(-problem.layers // stages)
        able = sum(span_max(problem, worker) >= longest for worker in problem.workers)
        lacking.append(((stages - able) * longest, stages))
    layers, stages = min(lacking, default=(0, 0))
    return unheld(problem, layers, f"{len(problem.workers)} workers in {stages} stages of equal length")


def most(problem: Problem, by_node: Rates) -> tuple[Stage, ...]:
    """Return the placement of that number of stages which passes most; empty if none can be manned."""
    counts = range(1, min(problem.layers, len(problem.workers)) + 1)
    manned = (placement for stages in counts if (placement := staged(problem, stages)))
    return max(manned, key=lambda placement: max_flow(problem, placement, by_node)[0], default=())


def staged(problem: Problem, stages: int) -> tuple[Stage, ...]:
    """Return who holds which of so many equal stages; empty where a stage has nobody."""
    edges = [problem.layers * i // stages for i in range(stages + 1)]
    longest = max(b - a for a, b in pairwise(edges))
    able = [worker for worker in problem.workers if span_max(problem, worker) >= longest]
    able.sort(key=lambda worker: (-worker_rates(problem, worker)[longest - 1], worker.node))
    peers: list[list[Worker]] = [[] for _ in range(stages)]
    passed = [0.0] * stages
    for worker in able:
        weakest = min(range(stages), key=lambda i: passed[i])
        peers[weakest].append(worker)
        passed[weakest] += worker_rates(problem, worker)[longest - 1]
    while _move(problem, peers, passed, longest):
        pass
    if not all(peers):
        return ()
    held = [Stage(worker.node, edges[i], edges[i + 1]) for i, own in enumerate(peers) for worker in own]
    return tuple(sorted(held, key=lambda stage: stage.node))


def _move(problem: Problem, peers: list[list[Worker]], passed: list[float], layers: int) -> bool:
    """Move one peer from the strongest stage to the weakest if the weaker of both is then stronger; say whether."""
    weak, strong = min(range(len(passed)), key=passed.__getitem__), max(range(len(passed)), key=passed.__getitem__)
    for worker in reversed(peers[strong]):
        rate = worker_rates(problem, worker)[layers - 1]
        if min(passed[weak] + rate, passed[strong] - rate) > passed[weak] * (1 + 1e-9):
            peers[strong].remove(worker)
            peers[weak].append(worker)
            passed[strong] -= rate
            passed[weak] += rate
            return True
    return False


class Wiring:
    """Draws pipelines: at each boundary the peer with the least work so far over its throughput."""

    def __init__(self, problem: Problem, placement: Sequence[Stage]) -> None:
        workers = {worker.node: worker for worker in problem.workers}
        self._layers = problem.layers
        self._begins: dict[int, list[Stage]] = {}
        for stage in placement:
            self._begins.setdefault(stage.first, []).append(stage)
        self._request_s = {
            stage.node: 1.0 / worker_rates(problem, workers[stage.node])[stage.last - stage.first - 1]
            for stage in placement
        }
        self._given_s = dict.fromkeys(self._request_s, 0.0)

    def pipeline(self, masked: Collection[str] = ()) -> tuple[Stage, ...]:
        """Return the next request's pipeline; nothing if a stage has only masked peers."""
        stages: list[Stage] = []
        while not stages or stages[-1].last < self._layers:
            peers = [s for s in self._begins.get(stages[-1].last if stages else 0, ()) if s.node not in masked]
            if not peers:
                return ()
            stages.append(min(peers, key=lambda s: (self._given_s[s.node] + self._request_s[s.node], s.node)))
        for stage in stages:
            self._given_s[stage.node] += self._request_s[stage.node]
        return tuple(stages)
