"""Placements by the goodput of a steady state: requests a second that a pool serves at once, caches and queues counted.

The maximum flow prefers deep pipelines of full batches, whose tokens then take so long that caches hold too few
requests to fill them. Here a placement is worth what it serves when (ours; the terms are those of `models.inference`)

- an iteration of a node over n decodes and its share of prompts takes its layers' time, and n is what comes in it;
- a token's round is the sum of those, of the rest of an iteration that it finds under way, and of the hops;
- by Little's law, requests a second times their time hold no more than each cache.

All grow with the rate, so the rate is found by halving. Flows are maximal under caches for that time (`flow`), found
again after it. Candidates are SWARM's stages and Petals' joins, each with all memory or less of it for weights, one way
through all nodes for few or many requests (`deep`), and Helix's (`placement`).

What it leaves out: requests that wait together go on together, so that deep pipelines run in a few crowds and stages
idle in between, the more so the longer an iteration may be. Its best candidate is therefore not always the best;
`shortlist` is for whoever can simulate the first ones (`experiments.shard.goodput`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from policies.jobs import Stage
from policies.problem import Flow, Plan, Problem
from policies.sharding import placement
from policies.sharding.answer import pipelines_plan
from policies.sharding.cost import passes
from policies.sharding.deep import law, one_way
from policies.sharding.flow import cached_rates, max_flow, rates, span_max
from policies.sharding.links import Network
from policies.sharding.petals import joined, rebalanced
from policies.sharding.routes import disjoint
from policies.sharding.swarm import staged

SHARES = (1.0, 0.8, 0.65, 0.5, 0.35)
"""Shares of the layers that fit, of which candidates are made (our choice): what is left is for caches."""
STREAMS = tuple(50 * 2 ** (k / 2) for k in range(14))
"""Requests in flight that one way through all nodes is cut for: 50 to 4,525, each 1.4 times the one before (ours)."""
PIECE = 512
"""Tokens of a prompt that go through together: chunked prefill (Agrawal et al., Sarathi-Serve, OSDI 2024)."""
HALVINGS, REFLOWS = 30, 1
"""Halvings of the rate, which leave 1e-9 of it (of one a second, below that), and times that flows are found again."""


@dataclass(frozen=True)
class Worth:
    """A placement, what it serves, and how its tokens flow."""

    requests_per_s: float
    placement: tuple[Stage, ...]
    flows: tuple[Flow, ...]


def shortlist(problem: Problem, budget: int, count: int) -> list[Plan]:
    """Return the plans of the best candidates, the best first; empty if nothing flows.

    Args:
        budget: of branch-and-bound nodes (`placement`).
        count: most plans.
    """
    worths = [worth(problem, candidate) for candidate in dict.fromkeys(candidates(problem, budget))]
    best = sorted((one for one in worths if one.flows), key=lambda one: -one.requests_per_s)[:count]
    return [_plan(problem, one) for one in best]


def _plan(problem: Problem, one: Worth) -> Plan:
    made = pipelines_plan(problem, disjoint(one.placement, one.flows, len(problem.workers)), "")
    return msgspec.structs.replace(made, placement=one.placement, flows=one.flows)


def candidates(problem: Problem, budget: int) -> list[tuple[Stage, ...]]:
    """Return placements that may be good; some of them twice."""
    found: list[tuple[Stage, ...]] = []
    for share in SHARES:
        part = _with_less(problem, share)
        found += [staged(part, stages) for stages in range(1, min(problem.layers, len(problem.workers)) + 1)]
        found += [rebalanced(part, joined(part, divisor)) for divisor in (1, 2)]
    found += [one_way(problem, int(streams)) for streams in STREAMS]
    found.append(placement.best_placement(problem, rates(problem), budget))
    return [held for held in found if held]


def _with_less(problem: Problem, share: float) -> Problem:
    """Return the problem with workers that hold only a share of their layers."""
    each = problem.layer_bytes + problem.kv_bytes_layer
    workers = []
    for worker in problem.workers:
        layers = int(span_max(problem, worker) * share)
        room = 2 * problem.head_bytes + layers * each
        workers.append(msgspec.structs.replace(worker, memory_bytes=min(worker.memory_bytes, room + 0.5 * each)))
    return msgspec.structs.replace(problem, workers=tuple(workers))


def worth(problem: Problem, held: tuple[Stage, ...]) -> Worth:
    """Return what a placement serves in a steady state, and the flows of it."""
    request_s, best = 0.0, Worth(0.0, held, ())
    for _ in range(1 + REFLOWS):
        total, flows = max_flow(problem, held, cached_rates(problem, max(request_s, 1e-9)))
        if not total:
            break
        steady = _Steady(problem, held, flows, total)
        rate = steady.rate()
        if rate > best.requests_per_s:
            best = Worth(rate, held, flows)
        request_s = steady.request_s(rate)
    return best


class _Steady:
    """The steady state of a placement whose flows keep their proportions."""

    def __init__(self, problem: Problem, held: Sequence[Stage], flows: Sequence[Flow], total: float) -> None:
        network, workers = Network(problem), {worker.node: worker for worker in problem.workers}
        last = {stage.node: stage.last for stage in held} | {"": 0}
        self.decodes, self.prompt = max(1, passes(problem)[1]), problem.prompt_tokens
        self.hops_s = self.hops_prompt_s = 0.0
        layers: dict[str, float] = {}
        self.visits: dict[str, float] = {}
        for flow in flows:
            share = flow.tokens_per_s / total
            if flow.sender and flow.receiver:
                ends = workers[flow.sender], workers[flow.receiver]
                self.hops_s += share * network.hop_s(*ends, problem.activation_bytes)
                self.hops_prompt_s += share * network.hop_s(*ends, problem.activation_bytes * self.prompt)
            elif flow.receiver and problem.source:
                self.hops_s += share * network.from_source_s(workers[flow.receiver], 0.0)
            elif flow.sender and problem.source:
                self.hops_s += share * network.to_source_s(workers[flow.sender], 0.0)
            if flow.receiver:
                self.visits[flow.receiver] = self.visits.get(flow.receiver, 0.0) + share
                used = last[flow.receiver] - last[flow.sender]
                layers[flow.receiver] = layers.get(flow.receiver, 0.0) + share * used
        own = {stage.node: stage.last - stage.first for stage in held}
        self.layers = {node: layers[node] / visits for node, visits in self.visits.items()}
        self.laws = {node: law(problem, workers[node]) for node in self.visits}
        self.streams = {
            node: (workers[node].memory_bytes - 2 * problem.head_bytes - own[node] * problem.layer_bytes)
            / (self.layers[node] * problem.kv_bytes_layer)
            if problem.kv_bytes_layer
            else float("inf")
            for node in self.visits
        }

    def rate(self) -> float:
        """Return the most requests a second."""
        low, high = 0.0, 1.0
        while self._serves(high) and high < 1e9:
            low, high = high, 2 * high
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._serves(middle) else (low, middle)
        return low

    def request_s(self, rate: float) -> float:
        """Return the seconds of a request at a rate; infinite beyond what nodes compute."""
        iterations = self._iterations_s(rate)
        if not iterations:
            return float("inf")
        round_s, prompt_s = self.hops_s, self.hops_prompt_s
        for node, visits in self.visits.items():
            alone_s = iterations[node]
            busy = min(1.0, rate * visits * (self.decodes + 1) * alone_s)
            piece_s = self.layers[node] * self.laws[node][2] * min(PIECE, self.prompt)
            prompts = rate * visits * self.layers[node] * self.laws[node][2] * self.prompt  # share of the time
            # Whoever comes finds an iteration under way, and rather one with a piece of a prompt: those are longer.
            round_s += visits * (alone_s * (1.0 + 0.5 * busy) + prompts * piece_s)
            prompt_s += visits * (self.layers[node] * self.laws[node][2] * self.prompt + alone_s)
        return self.decodes * round_s + prompt_s

    def _iterations_s(self, rate: float) -> Mapping[str, float]:
        """Return what an iteration of each node takes; nothing where a node does not compute as much."""
        found: dict[str, float] = {}
        for node, visits in self.visits.items():
            base_s, decode_s, token_s = self.laws[node]
            layers, each = self.layers[node], rate * visits
            idle = 1.0 - layers * each * (self.decodes * decode_s + self.prompt * token_s)
            if idle <= 0.0:
                return {}
            found[node] = layers * max(base_s / idle, base_s + decode_s)
        return found

    def _serves(self, rate: float) -> bool:
        request_s = self.request_s(rate)
        return all(rate * visits * request_s <= self.streams[node] for node, visits in self.visits.items())
