"""exo's two placements (exo-explore/exo), by the rules that its sources show.

- The ring, to 2025: every node is in it, from the most memory to the least, with layers in the share of its memory;
  a variant of that year takes the mean of the shares of memory and of operations/s. Neither sees the model's size,
  the links or the speed of decoding.
- Fewest nodes, 1.x: of the sets whose free memory holds the model the smallest; among these the one that has the most
  of its bytes already, then the most free memory. Layers by the largest remainder of the share of free memory, one at
  least; it fails if one node overflows.

Ideal inputs: the memory that is truly free, a live link between any two nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, islice
from math import comb

from policies.jobs import Stage
from policies.problem import Plan, Problem, State, Worker
from policies.sharding.answer import overflow, pipelines_plan, shortfall
from policies.sharding.memory_ring import by_memory, ring

SETS_MAX = 20_000
"""Sets that are compared by what they have already; exo walks all cycles, which ends only on few nodes."""


def ring_plan(problem: Problem, state: State, budget: int) -> Plan:
    """Cut the layers over one ring of all workers by memory."""
    return _one(problem, ring(problem, problem.workers))


def flops_ring_plan(problem: Problem, state: State, budget: int) -> Plan:
    """Cut the layers over one ring of all workers by the mean of memory's share and that of operations/s."""
    ordered = by_memory(problem.workers)
    memory = sum(worker.memory_bytes for worker in ordered)
    flops = sum(1.0 / worker.prefill_s_token_layer for worker in ordered if worker.prefill_s_token_layer > 0)
    stages, share, first = [], 0.0, 0
    for number, worker in enumerate(ordered):
        operations = 1.0 / (worker.prefill_s_token_layer * flops) if worker.prefill_s_token_layer > 0 else 0.0
        share += (worker.memory_bytes / memory + operations) / 2 if memory else 0.0
        last = problem.layers if number == len(ordered) - 1 else min(problem.layers, int(problem.layers * share))
        if last > first:
            stages.append(Stage(worker.node, first, last))
        first = last
    return _one(problem, tuple(stages))


def nodes_plan(problem: Problem, state: State, budget: int) -> Plan:
    """Take the fewest nodes that hold the model in sum, and share its layers by their free memory."""
    need = problem.layers * (problem.layer_bytes + problem.kv_bytes_layer) + 2 * problem.head_bytes
    ordered = by_memory(problem.workers)
    free, count = 0.0, 0
    while free < need and count < len(ordered):
        free, count = free + ordered[count].memory_bytes, count + 1
    if free < need:
        text = f"{len(ordered)} workers have {free:.0f} bytes for the {problem.layers} layers of {problem.model}"
        return pipelines_plan(problem, [], f"{text}: {need - free:.0f} bytes are missing")
    chosen = _most_held(state, ordered, count, need)
    if count > problem.layers:
        return pipelines_plan(
            problem, [], f"{count} nodes for {problem.layers} layers of {problem.model}: one each at least"
        )
    edges, stages = 0, []
    for worker, layers in zip(chosen, shares(problem.layers, [w.memory_bytes for w in chosen]), strict=True):
        stages.append(Stage(worker.node, edges, edges + layers))
        edges += layers
    return _one(problem, tuple(stages))


def _most_held(state: State, ordered: Sequence[Worker], count: int, need: float) -> Sequence[Worker]:
    """Return the set of ``count`` that fits and has the most layers already, then the most memory."""
    held: dict[str, int] = {}
    for one in state.held:
        held[one.node] = held.get(one.node, 0) + one.last - one.first
    if not held or comb(len(ordered), count) > SETS_MAX:
        return ordered[:count]
    sets = islice(combinations(ordered, count), SETS_MAX)  # the first has the most memory, so ties go to it
    fits = [chosen for chosen in sets if sum(worker.memory_bytes for worker in chosen) >= need]
    return max(fits, key=lambda chosen: (sum(held.get(w.node, 0) for w in chosen), sum(w.memory_bytes for w in chosen)))


def shares(layers: int, memory: Sequence[float]) -> list[int]:
    """Return whole layers by share of memory: the largest remainders are rounded up, and nobody gets none."""
    exact = [layers * own / sum(memory) for own in memory]
    given = [max(1, int(share)) for share in exact]
    by_remainder = sorted(range(len(memory)), key=lambda i: (int(exact[i]) - exact[i], i))
    for i in by_remainder[: max(0, layers - sum(given))]:
        given[i] += 1
    while sum(given) > layers:  # the ones that were lifted to one layer take it from the largest
        given[given.index(max(given))] -= 1
    return given


def _one(problem: Problem, stages: Sequence[Stage]) -> Plan:
    """Return the one pipeline, unless a node overflows; then by how many bytes."""
    if not stages:
        return pipelines_plan(problem, [], shortfall(problem, problem.workers))
    why = overflow(problem, stages)
    return pipelines_plan(problem, [] if why else [tuple(stages)], why)
