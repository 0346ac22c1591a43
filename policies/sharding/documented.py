"""The village's documented sharder, by the numbers of its specification, without its defects.

Nodes with memory for 1.2 times an equal share of the model; of these the eight fittest (0.3 memory + 0.25 compute +
0.2 network, with reliability and idleness, which a problem does not tell, as equal). Equal shards, the largest first,
each to the node of least cost: 0.4 memory + 0.3 compute + 0.3 network. 15 % of a node's memory stays free, and a plan
needs two nodes. What the specification leaves open is filled in so that no layer is lost and no node overflows: a
remainder of layers goes to the first shards, each node takes one shard, and the network's cost counts from the shard
before.
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.jobs import Stage
from policies.problem import Plan, Problem, State, Worker
from policies.sharding.answer import pipelines_plan
from policies.sharding.links import Network

NODES_MIN, NODES_MAX = 2, 8
FOOTPRINT = 1.2
MARGIN = 0.15


def plan(problem: Problem, state: State, budget: int) -> Plan:
    """Cut equal shards over the fittest nodes."""
    for count in range(min(NODES_MAX, problem.layers, len(problem.workers)), NODES_MIN - 1, -1):
        chosen = _fittest(problem, count)
        if len(chosen) == count and (stages := _assigned(problem, chosen)):
            return pipelines_plan(problem, [stages], "")
    return pipelines_plan(problem, [], _why(problem))


def _footprint(problem: Problem) -> float:
    return problem.layers * (problem.layer_bytes + problem.kv_bytes_layer) + 2 * problem.head_bytes


def _fittest(problem: Problem, count: int) -> list[Worker]:
    """Return the ``count`` fittest of the nodes that hold 1.2 times an equal share."""
    share = FOOTPRINT * _footprint(problem) / count
    able = [worker for worker in problem.workers if worker.memory_bytes >= share]
    memory = max((worker.memory_bytes for worker in able), default=1.0)
    layer_s = min((worker.layer_s for worker in able), default=1.0)
    rate = max((worker.bytes_per_s for worker in able), default=1.0)

    def fitness(worker: Worker) -> float:
        network = worker.bytes_per_s / rate
        return 0.3 * worker.memory_bytes / memory + 0.25 * layer_s / worker.layer_s + 0.2 * network

    return sorted(able, key=lambda worker: (-fitness(worker), worker.node))[:count]


def _assigned(problem: Problem, chosen: Sequence[Worker]) -> tuple[Stage, ...]:
    """Give each shard to the free node of least cost that holds it; nothing if none does."""
    network, free, stages, first = Network(problem), list(chosen), list[Stage](), 0
    before: Worker | None = None
    slowest = max(worker.layer_s for worker in chosen)
    hops = [network.hop_s(a, b, problem.activation_bytes) for a in chosen for b in chosen]
    for number in range(len(chosen)):
        layers = problem.layers // len(chosen) + (number < problem.layers % len(chosen))
        ends = (number == 0) + (number == len(chosen) - 1)
        need = layers * (problem.layer_bytes + problem.kv_bytes_layer) + problem.head_bytes * ends
        fits = [worker for worker in free if need <= (1 - MARGIN) * worker.memory_bytes]
        if not fits:
            return ()
        costs = {
            worker.node: 0.4 * need / worker.memory_bytes
            + 0.3 * worker.layer_s / slowest
            + 0.3 * (network.hop_s(before, worker, problem.activation_bytes) / (max(hops) or 1.0) if before else 0.0)
            for worker in fits
        }
        before = min(fits, key=lambda worker: (costs[worker.node], worker.node))
        free.remove(before)
        stages.append(Stage(before.node, first, first + layers))
        first += layers
    return tuple(stages)


def _why(problem: Problem) -> str:
    """Return what the largest nodes lack for equal shares, or that there are too few of them."""
    largest = sorted((worker.memory_bytes for worker in problem.workers), reverse=True)[:NODES_MAX]
    if len(largest) < NODES_MIN or problem.layers < NODES_MIN:
        what = f"the {problem.layers} layers of {problem.model} on {len(largest)} nodes"
        return f"{what}: shards need {NODES_MIN} of both"
    lacking = max(
        FOOTPRINT * _footprint(problem) / len(largest) - largest[-1],
        _footprint(problem) / (1 - MARGIN) / len(largest) - largest[-1],
        1.0,
    )
    text = f"{len(largest)} nodes do not hold equal shards of the {problem.layers} layers of {problem.model}"
    return f"{text} with what is kept free: {lacking:.0f} bytes are missing"
