"""Sharding: how a model is cut across workers.

`cost` says what a pipeline takes and what is made small, `check` whether a plan may be used at all. Planners:

- exact: `exact` over a pool of few kinds of device, `latency_dp` over a handful of candidates (`subsets`, `kinds`);
- for thousands of devices: `local_search` (`moves`);
- for the tokens a second of a whole pool: `placement` (`programme`, `polish`, `flow`, `routes`), and `exact_placement`,
  which proves that there is none better for a few nodes and layers; `goodput` counts queues as well;
- baselines by their published rules: `memory_ring`, `exo`, `petals`, `swarm`, `edgeshard`, `documented`, and
  `helix` in `placement`;
- with cuts within layers, which nothing runs yet: `tensor`.

`replan` keeps what serves unless moving pays, `replicas` gives stages copies by class of service, `mixer` cuts several
models over the same workers. Planners run as jobs, by name: bytes in, bytes out, limited by iterations: one a pipeline,
or one a branch-and-bound node of `placement`.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from policies.mixing import MIXER
from policies.problem import Problem
from policies.sharding import (
    documented,
    edgeshard,
    exact,
    exact_placement,
    exo,
    latency_dp,
    local_search,
    memory_ring,
    petals,
    placement,
    swarm,
    tensor,
)
from policies.sharding.check import check_plan
from policies.sharding.cost import end_to_end_s, first_token_s, token_s
from policies.sharding.mixer import mixer
from policies.sharding.replan import Plans, steady
from policies.wire import WireError, encode

Planner = Callable[[bytes, int], bytes]
"""The same as jobs run it."""

__all__ = [
    "CUTTING",
    "JOBS",
    "PLANNERS",
    "PROVING",
    "Planner",
    "Plans",
    "check_plan",
    "end_to_end_s",
    "first_token_s",
    "over_bytes",
    "token_s",
]

_decode = msgspec.msgpack.Decoder(Problem).decode


def over_bytes(plan: Plans) -> Planner:
    """Return a planner as jobs run it: bytes in, bytes out, and steady where something serves already."""
    steadied = steady(plan)

    def planner(problem: bytes, budget: int) -> bytes:
        """Plan an encoded `Problem` with at most ``budget`` pipelines; returns an encoded `Plan`."""
        try:
            decoded = _decode(problem)
        except msgspec.MsgspecError as error:
            raise WireError(f"problem: {error}") from None
        if budget < 1:
            raise ValueError(f"budget is {budget}; allowed: from 1")
        _require_whole(decoded)
        return encode(steadied(decoded, decoded.state, budget))

    return planner


def _require_whole(problem: Problem) -> None:
    """Raise a ValueError, one line, if a worker is there twice, a link leads nowhere or what serves is no pipeline."""
    nodes = [worker.node for worker in problem.workers]
    if len(set(nodes)) < len(nodes):
        twice = next(node for node in sorted(nodes) if nodes.count(node) > 1)
        raise ValueError(f"workers: {twice} is there twice; allowed: once")
    places = {*nodes, problem.source}
    for link in problem.links:
        if not {link.sender, link.receiver} <= places:
            raise ValueError(f"links: {link.sender}-{link.receiver}; allowed: between workers and the source")
    for stages in problem.state.in_force:
        edges = [0, *(stage.last for stage in stages)]
        if [s.first for s in stages] != edges[:-1] or edges[-1] != problem.layers or edges != sorted(set(edges)):
            raise ValueError(
                f"state: in_force {edges}; allowed: stages that cover layers 0 to {problem.layers} in order"
            )


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
    "swarm": over_bytes(swarm.plan),
}
"""Planner by the name used in `policies.config.ShardingConfig` and `policies.jobs.PlanJob`."""

JOBS: dict[str, Planner] = {**PLANNERS, MIXER: mixer(PLANNERS)}
"""What a `policies.jobs.PlanJob` may name: a planner, or the mixer of several models."""

CUTTING: dict[str, Planner] = {"tensor": over_bytes(tensor.plan), "tensor_search": over_bytes(tensor.search)}
"""Planners that also cut within layers, for `twin shard` alone: no executor runs such a plan."""

PROVING: dict[str, Planner] = {"exact_placement": over_bytes(exact_placement.plan)}
"""Planners that take seconds for a proof, for `twin shard` alone: what a village needs is a good plan, soon."""
