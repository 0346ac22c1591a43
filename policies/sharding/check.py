"""Whether a plan may be used at all, asked of the plan alone: no planner is trusted with its own answer."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from policies.problem import Plan, Problem
from policies.sharding.tensor import folded


def check_plan(problem: Problem, plan: Plan) -> list[str]:
    """Return one line for everything that is wrong with ``plan``; an empty list is good.

    Every pipeline covers every layer once and in order, each stage fits its worker's memory (layers, their
    cache, embedding on the first, head on the last), and no worker is used twice. A placement gives a worker one
    range that it holds with both ends, and flows only go between its workers and the source. A group's devices have
    no other part, and divide the heads evenly.
    """
    wrong_groups = _wrong_in_groups(problem, plan)
    if wrong_groups:
        return wrong_groups
    if plan.groups:
        problem = folded(problem, plan.groups)
    memory = {worker.node: worker.memory_bytes for worker in problem.workers}
    wrong: list[str] = []
    used: set[str] = set()
    if len(plan.latency_s) != len(plan.pipelines):
        wrong.append(f"{len(plan.pipelines)} pipelines have {len(plan.latency_s)} latencies")
    if bool(plan.infeasible) == bool(plan.pipelines):
        wrong.append("a plan has pipelines, or says why it has none")
    wrong += [f"latency is {s}" for s in plan.latency_s if not (s > 0 and math.isfinite(s))]
    for number, stages in enumerate(plan.pipelines):
        at = 0
        for index, stage in enumerate(stages):
            where = f"pipeline {number} stage {index} on {stage.node}"
            if stage.first != at or stage.last <= stage.first:
                wrong.append(f"{where}: layers {stage.first}-{stage.last}, expected to go on from {at}")
            at = stage.last
            if stage.node in used:
                wrong.append(f"{where}: the worker is used twice")
            used.add(stage.node)
            need = (stage.last - stage.first) * (problem.layer_bytes + problem.kv_bytes_layer)
            need += problem.head_bytes * ((index == 0) + (index == len(stages) - 1))
            if stage.node not in memory:
                wrong.append(f"{where}: no such worker")
            elif need > memory[stage.node] + 1:  # a byte for rounding
                wrong.append(f"{where}: needs {need:.0f} bytes, has {memory[stage.node]:.0f}")
        if at != problem.layers:
            wrong.append(f"pipeline {number}: ends at layer {at} of {problem.layers}")
    return wrong + _wrong_in_placement(problem, plan, memory) + _wrong_in_replicas(plan, used, memory)


def _wrong_in_groups(problem: Problem, plan: Plan) -> list[str]:
    known = {worker.node for worker in problem.workers}
    serving = {stage.node for stages in plan.pipelines for stage in stages}
    busy, wrong = set(serving), []
    for group in plan.groups:
        name, size = "+".join(group.nodes), len(group.nodes)
        if size < 2 or problem.heads % size:
            wrong.append(f"group {name}: {size} devices do not divide {problem.heads} heads evenly")
        if not set(group.nodes) <= known or len(set(group.nodes)) < size:
            wrong.append(f"group {name}: not devices of the pool, each once")
        if not serving.intersection(group.nodes[:1]) or busy.intersection(group.nodes[1:]):
            wrong.append(f"group {name}: its first is no stage, or another has a part elsewhere")
        busy.update(group.nodes)
    return wrong


def _wrong_in_replicas(plan: Plan, used: Collection[str], memory: Mapping[str, float]) -> list[str]:
    """A copy is one of a stage, on a worker that has no other part."""
    busy, wrong = set(used) | {stage.node for stage in plan.placement}, []
    ranges = {(stage.first, stage.last) for stages in plan.pipelines for stage in stages}
    for stage in plan.replicas:
        if stage.node in busy or stage.node not in memory:
            wrong.append(f"replica on {stage.node}: not a worker without another part")
        if (stage.first, stage.last) not in ranges:
            wrong.append(f"replica on {stage.node}: layers {stage.first}-{stage.last} are no stage")
        busy.add(stage.node)
    return wrong


def _wrong_in_placement(problem: Problem, plan: Plan, memory: Mapping[str, float]) -> list[str]:
    wrong = []
    held = [stage.node for stage in plan.placement]
    wrong += [f"placement on {node}: two ranges" for node in sorted(set(held)) if held.count(node) > 1]
    for stage in plan.placement:
        need = (stage.last - stage.first) * (problem.layer_bytes + problem.kv_bytes_layer) + 2 * problem.head_bytes
        if not 0 <= stage.first < stage.last <= problem.layers:
            wrong.append(f"placement on {stage.node}: layers {stage.first}-{stage.last} of {problem.layers}")
        elif need > memory.get(stage.node, 0.0) + 1:
            wrong.append(f"placement on {stage.node}: needs {need:.0f} bytes, has {memory.get(stage.node, 0.0):.0f}")
    known = {"", *held}
    strays = [flow for flow in plan.flows if not {flow.sender, flow.receiver} <= known]
    return wrong + [f"flow {flow.sender}-{flow.receiver}: no such worker" for flow in strays]
