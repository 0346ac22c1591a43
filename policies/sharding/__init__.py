"""Sharding: how a model is cut across workers.

`latency_dp` is exact over a handful of candidates, `memory_ring` is the baseline that shares by memory,
`cost` says what a pipeline takes, and `check` whether a plan may be used at all. Planners run as jobs, by
name: bytes in, bytes out, limited by a number of pipelines.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from policies.problem import Plan, Problem, State
from policies.sharding import (
    documented,
    edgeshard,
    exact,
    exo,
    latency_dp,
    local_search,
    memory_ring,
    petals,
    placement,
)
from policies.sharding.check import check_plan
from policies.sharding.cost import end_to_end_s, first_token_s, token_s
from policies.wire import WireError, encode

Plans = Callable[[Problem, State, int], Plan]
"""A planner: the problem, what is there already, and how many iterations it may take."""
Planner = Callable[[bytes, int], bytes]
"""The same as jobs run it."""

__all__ = ["PLANNERS", "Planner", "Plans", "check_plan", "end_to_end_s", "first_token_s", "over_bytes", "token_s"]

_decode = msgspec.msgpack.Decoder(Problem).decode


def over_bytes(plan: Plans) -> Planner:
    """Return a planner as jobs run it: bytes in, bytes out."""

    def planner(problem: bytes, budget: int) -> bytes:
        """Plan an encoded `Problem` with at most ``budget`` pipelines; returns an encoded `Plan`."""
        try:
            decoded = _decode(problem)
        except msgspec.MsgspecError as error:
            raise WireError(f"problem: {error}") from None
        if budget < 1:
            raise ValueError(f"budget is {budget}; allowed: from 1")
        nodes = [worker.node for worker in decoded.workers]
        if len(set(nodes)) < len(nodes):
            twice = next(node for node in sorted(nodes) if nodes.count(node) > 1)
            raise ValueError(f"workers: {twice} is there twice; allowed: once")
        return encode(plan(decoded, decoded.state, budget))

    return planner


PLANNERS: dict[str, Planner] = {
    "documented": over_bytes(documented.plan),
    "edgeshard": over_bytes(edgeshard.latency_plan),
    "edgeshard_throughput": over_bytes(edgeshard.throughput_plan),
    "exact": over_bytes(exact.plan),
    "exo_flops_ring": over_bytes(exo.flops_ring_plan),
    "exo_nodes": over_bytes(exo.nodes_plan),
    "exo_ring": over_bytes(exo.ring_plan),
    "helix": over_bytes(placement.helix),
    "latency_dp": over_bytes(latency_dp.plan),
    "local_search": over_bytes(local_search.plan),
    "memory_ring": over_bytes(memory_ring.plan),
    "petals": over_bytes(petals.plan),
    "placement": over_bytes(placement.plan),
}
"""Planner by the name used in `policies.config.ShardingConfig` and `policies.jobs.PlanJob`."""
