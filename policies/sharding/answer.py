"""Answers: pipelines with their seconds a token, or the bytes that are missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies.jobs import Stage
from policies.problem import Plan, Problem, Worker
from policies.sharding.cost import layers_max, token_s


def pipelines_plan(problem: Problem, pipelines: Sequence[tuple[Stage, ...]], why: str) -> Plan:
    """Return a plan of these pipelines, or one that says ``why`` there are none."""
    latency_s = tuple(token_s(problem, stages) for stages in pipelines)
    return Plan(tuple(pipelines), latency_s, "" if pipelines else why)


def shortfall(problem: Problem, workers: Sequence[Worker], whose: str = "") -> str:
    """Return one line on the bytes that ``workers`` lack for one pipeline; or that they lack none.

    Args:
        whose: what they are called, if they are not the whole pool.
    """
    missing = problem.layers - capacity(problem, workers)
    if missing <= 0:
        return f"{whose or f'{len(workers)} workers'} hold the {problem.layers} layers of {problem.model}"
    each = problem.layer_bytes + problem.kv_bytes_layer
    ends = f", and {problem.head_bytes:.0f} at each end" if problem.head_bytes else ""
    text = f"{whose or f'{len(workers)} workers'} do not hold the {problem.layers} layers of {problem.model}"
    return f"{text}: {missing * each:.0f} bytes are missing ({missing} layers of {each:.0f}{ends})"


def unheld(problem: Problem, layers: int, rule: str) -> str:
    """Return one line on the layers that a planner's rule leaves to nobody; or on what the workers lack for any rule.

    Args:
        layers: so many; from 0 down, the rule leaves none.
        rule: what the planner did, in words.
    """
    if layers <= 0 or capacity(problem, problem.workers) < problem.layers:
        return shortfall(problem, problem.workers)
    each = problem.layer_bytes + problem.kv_bytes_layer
    text = f"{rule} leave {layers} of the {problem.layers} layers of {problem.model} to nobody"
    return f"{text}: {layers * each:.0f} bytes are missing ({layers} layers of {each:.0f})"


def overflow(problem: Problem, stages: Sequence[Stage]) -> str:
    """Return one line on the first stage that its worker cannot hold, and by how many bytes; "" if all fit."""
    by_node = {worker.node: worker for worker in problem.workers}
    for i, stage in enumerate(stages):
        first, last = i == 0, i == len(stages) - 1
        worker, layers = by_node[stage.node], stage.last - stage.first
        if layers > layers_max(problem, worker, first=first, last=last):
            need = layers * (problem.layer_bytes + problem.kv_bytes_layer) + problem.head_bytes * (first + last)
            text = f"{stage.node} gets {layers} of the {problem.layers} layers of {problem.model}"
            return f"{text}: {need - worker.memory_bytes:.0f} bytes too many"
    return ""


def capacity(problem: Problem, workers: Sequence[Worker]) -> int:
    """Return the most layers that one pipeline over ``workers`` can hold, up to all of them.

    Every worker is in it; the two ends are those that lose the fewest layers to embedding and head.
    """
    room = np.array(
        [
            [layers_max(problem, w, first=a, last=z) for a, z in ((False, False), (True, False), (True, True))]
            for w in workers
        ],
        dtype=np.int64,
    ).reshape(-1, 3)
    alone = int(room[:, 2].max(initial=0))
    lost = np.sort((room[:, 0] - room[:, 1])[room[:, 1] > 0])
    many = int(room[:, 0].sum() - lost[:2].sum()) if len(lost) > 1 and problem.layers > 1 else 0
    return min(problem.layers, max(alone, many))
