"""The tokens a second of a placement: the maximum flow from the source through nodes and links and back.

Helix's law (Mei et al., ASPLOS 2025): a node holds a range of layers and passes at most what it computes at that many;
a link passes its bytes over those of an activation; v follows u where v holds the layer after u's last, and computes
only what u has not. Caches bound it as well (ours, by Little's law): a stream keeps its cache for at least as long as
its request takes alone, so that caches for n streams pass at most n requests in that time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from policies.jobs import Stage
from policies.problem import Flow, Problem, Worker
from policies.sharding.cost import layers_max
from policies.sharding.links import TOKEN_BYTES, Network

Rates = Mapping[str, Sequence[float]]
"""Tokens a second of a node by the number of layers that it holds, from 1."""


def span_max(problem: Problem, worker: Worker) -> int:
    """Return the layers a worker may hold in a placement, where each may be a way's first and last node."""
    return min(problem.layers, layers_max(problem, worker, first=True, last=True))


def rates(problem: Problem) -> dict[str, list[float]]:
    """Return what each worker computes, by name."""
    return {worker.node: worker_rates(problem, worker) for worker in problem.workers}


def worker_rates(problem: Problem, worker: Worker) -> list[float]:
    """Return tokens a second by layers held: the worker's table, or what one stream gets.

    A pipeline's middle stage may hold more than the table says; more layers take longer in proportion.
    """
    most = min(problem.layers, layers_max(problem, worker, first=False, last=False))
    told = list(worker.tokens_per_s[:most])
    if not told:
        return [1.0 / (worker.step_s + layers * worker.layer_s) for layers in range(1, most + 1)]
    return told + [told[-1] * len(told) / layers for layers in range(len(told) + 1, most + 1)]


def cached_rates(problem: Problem, request_s: float) -> dict[str, list[float]]:
    """Return `rates`, bounded by the streams whose caches fit when none takes less than ``request_s``."""
    tokens = problem.prompt_tokens + problem.new_tokens
    bounded: dict[str, list[float]] = {}
    for worker, (node, computed) in zip(problem.workers, rates(problem).items(), strict=True):
        free_bytes = worker.memory_bytes - 2 * problem.head_bytes
        streams = [
            max(1.0, (free_bytes - layers * problem.layer_bytes) // (layers * problem.kv_bytes_layer))
            if problem.kv_bytes_layer
            else np.inf
            for layers in range(1, len(computed) + 1)
        ]
        bounded[node] = [min(rate, n * tokens / request_s) for rate, n in zip(computed, streams, strict=True)]
    return bounded


def max_flow(problem: Problem, placement: Sequence[Stage], by_node: Rates) -> tuple[float, tuple[Flow, ...]]:
    """Return the tokens a second of a placement and what each link carries of them, by a linear programme."""
    from scipy.optimize import linprog  # a second to load, which only planners of flows should take

    arcs = _arcs(problem, placement)
    if not arcs:
        return 0.0, ()
    number = {stage.node: i for i, stage in enumerate(placement)}
    balance = np.zeros((len(placement), len(arcs)))
    passing = np.zeros((len(placement), len(arcs)))
    for column, (sender, receiver, _) in enumerate(arcs):
        if receiver:
            balance[number[receiver], column] += 1
            passing[number[receiver], column] = 1
        if sender:
            balance[number[sender], column] -= 1
    most = [by_node[stage.node][stage.last - stage.first - 1] for stage in placement]
    gain = [-1.0 if not sender else 0.0 for sender, _, _ in arcs]
    solved = linprog(
        gain, A_ub=passing, b_ub=most, A_eq=balance, b_eq=np.zeros(len(placement)),
        bounds=[(0.0, capacity) for _, _, capacity in arcs],
    )  # fmt: skip
    assert solved.status == 0, solved.message  # no flow at all is always one
    flows = tuple(
        Flow(sender, receiver, float(rate))
        for (sender, receiver, _), rate in zip(arcs, solved.x, strict=True)
        if rate > 1e-9 * max(most)
    )
    return float(-solved.fun), flows


def _arcs(problem: Problem, placement: Sequence[Stage]) -> list[tuple[str, str, float]]:
    """Return (sender, receiver, tokens a second) of every link that a token may take; "" is the source."""
    network, by_node = Network(problem), {worker.node: worker for worker in problem.workers}
    arcs: list[tuple[str, str, float]] = []
    for stage in placement:
        worker = by_node[stage.node]
        if stage.first == 0:
            arcs.append(("", stage.node, network.source_bytes_per_s(worker, to_source=False) / TOKEN_BYTES))
        if stage.last == problem.layers:
            arcs.append((stage.node, "", network.source_bytes_per_s(worker, to_source=True) / TOKEN_BYTES))
        arcs += [
            (stage.node, after.node, network.bytes_per_s(worker, by_node[after.node]) / problem.activation_bytes)
            for after in placement
            if after.first <= stage.last < after.last and after.node != stage.node
        ]
    return arcs
