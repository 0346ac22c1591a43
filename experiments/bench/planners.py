"""What planners take, and how near they come: exact ones on pools of up to 8 devices, the search on a thousand.

The pools are `experiments.shard.instances`, all different. Seconds are of this process's CPU, loading of SciPy's
solvers left out. `exact` finds the pipeline of the fewest seconds a request; `exact_placement` the placement of the
largest flow under caches, which is the reference for `placement`; that no other is better, tests show
(tests/policies/test_exact_planner.py, test_goodput.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import process_time
from typing import TypeVar

import msgspec
import numpy as np

from experiments.bench.table import Line
from experiments.shard.instances import instance, pool
from policies.problem import Problem, State
from policies.sharding import exact, local_search
from policies.sharding.exact_placement import largest_placement
from policies.sharding.flow import max_flow
from policies.sharding.placement import best_placement, lone_rates

PIPELINES, POOLS = 200, 40
LARGE, LARGE_LAYERS = 1_000, 80
NODES_MAX, PROOF_MAX = 50, 10_000_000
"""Branch-and-bound nodes of the heuristic's programme, and partial placements of a proof, which none reaches."""
Made = TypeVar("Made")

TITLE = f"planners: {PIPELINES} pipelines and {POOLS} placements of up to 8 devices, and one pipeline of {LARGE:,}"
LINES = (
    Line("exact_median_s", "exact: CPU s, median", 4),
    Line("exact_worst_s", "exact: CPU s, worst", 4, at_most=1),
    Line("proof_median_s", "exact_placement: CPU s, median", 3),
    Line("proof_worst_s", "exact_placement: CPU s, worst", 3, at_most=1),
    Line("proof_share", "exact_placement: share within 1 CPU s", 3),
    Line("placement_worst_s", "placement: CPU s, worst", 3),
    Line("placement_gap_median", "placement: share of the largest flow missing", 4, at_most=0.03),
    Line("placement_gap_p95", "placement: the same, p95", 4, at_most=0.10),
    Line("placement_gap_worst", "placement: the same, worst", 4),
    Line("large_s", f"local_search, {LARGE:,} devices x {LARGE_LAYERS} layers: CPU s", 2, at_most=2),
)


def measure(
    pipelines: int = PIPELINES, pools: int = POOLS, large: int = LARGE, devices_max: int = 8
) -> dict[str, float]:
    """Plan so many pipelines and placements, and one pipeline of ``large`` devices; return the figures of `LINES`."""
    largest_placement(pool(1), lone_rates(pool(1)), PROOF_MAX)  # loads the solvers
    exact_s = [_timed(partial(exact.plan, instance(n, devices_max), State(), 1))[1] for n in range(pipelines)]
    proof_s, placement_s, gaps = [], [], []
    for number in range(pools):
        flows, took_s = _flows(pool(number, devices_max))
        proof_s.append(took_s[0])
        placement_s.append(took_s[1])
        if flows[0] > 0:
            gaps.append(1 - flows[1] / flows[0])
    many = msgspec.structs.replace(instance(0, large, large), layers=LARGE_LAYERS)
    plan, large_s = _timed(partial(local_search.plan, many, State(), 1))
    assert plan.pipelines, plan.infeasible
    return {
        "exact_median_s": float(np.median(exact_s)), "exact_worst_s": max(exact_s),
        "proof_median_s": float(np.median(proof_s)), "proof_worst_s": max(proof_s),
        "proof_share": float(np.mean(np.array(proof_s) <= 1.0)), "placement_worst_s": max(placement_s),
        "placement_gap_median": float(np.median(gaps)), "placement_gap_p95": float(np.quantile(gaps, 0.95)),
        "placement_gap_worst": max(gaps), "large_s": large_s,
    }  # fmt: skip


def _flows(given: Problem) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the flows of the proven placement and of the heuristic's, and the CPU seconds of both."""
    by_node = lone_rates(given)
    if not by_node:
        return (0.0, 0.0), (0.0, 0.0)
    proven, proof_s = _timed(partial(largest_placement, given, by_node, PROOF_MAX))
    found, found_s = _timed(partial(best_placement, given, by_node, NODES_MAX))
    return (max_flow(given, proven, by_node)[0], max_flow(given, found, by_node)[0]), (proof_s, found_s)


def _timed(make: Callable[[], Made]) -> tuple[Made, float]:
    begun_s = process_time()
    made = make()
    return made, process_time() - begun_s
