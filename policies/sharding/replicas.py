"""Replicas of a pipeline's stages, by class of service: how many, and on which spare workers.

A class promises an availability (`policies.promises`); the fewest copies that reach it are taken.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from policies.jobs import Stage
from policies.problem import Problem
from policies.promises import AVAILABILITY, availability
from policies.sharding.cost import layers_max

COPIES_MAX = 4


def copies(service: str, stages: int, away: float) -> int:
    """Return the fewest copies of each stage that reach the class's availability, at most `COPIES_MAX`.

    Args:
        away: chance that a worker is away when it is needed, 0 up to 1.

    Raises:
        ValueError: no such class, or a chance that is none.
    """
    if service not in AVAILABILITY:
        raise ValueError(f"service is {service!r}; allowed: {', '.join(AVAILABILITY)}")
    if not 0.0 <= away < 1.0:
        raise ValueError(f"away is {away}; allowed: from 0, below 1")
    enough = (k for k in range(1, COPIES_MAX) if availability(k, stages, away) >= AVAILABILITY[service])
    return next(enough, COPIES_MAX)


def replicas(problem: Problem, pipeline: Sequence[Stage], count: int, taken: Collection[str]) -> tuple[Stage, ...]:
    """Return ``count - 1`` copies of each stage on workers that are not ``taken``, as far as there are any.

    A stage's copies go to the fastest that hold it, one at another site first; the stage that the fewest could take
    over chooses first.
    """
    by_node = {worker.node: worker for worker in problem.workers}
    busy = {stage.node for stage in pipeline} | set(taken)
    found: list[Stage] = []
    for _ in range(count - 1):
        fits = {stage: _able(problem, pipeline, stage, busy) for stage in pipeline}
        for stage in sorted(pipeline, key=lambda stage: (len(fits[stage]), stage.first)):
            sites = {by_node[stage.node].site} | {by_node[f.node].site for f in found if f.first == stage.first}
            able = [node for node in fits[stage] if node not in busy]
            if able:
                node = min(able, key=lambda n: (by_node[n].site in sites, by_node[n].layer_s, n))
                busy.add(node)
                found.append(Stage(node, stage.first, stage.last))
    return tuple(found)


def _able(problem: Problem, pipeline: Sequence[Stage], stage: Stage, busy: Collection[str]) -> list[str]:
    first, last = stage == pipeline[0], stage == pipeline[-1]
    need = stage.last - stage.first
    return [
        worker.node
        for worker in problem.workers
        if worker.node not in busy and layers_max(problem, worker, first=first, last=last) >= need
    ]
