"""Goodput of a plan: requests served over its placement in virtual time, under the caches of all its nodes.

Requests are those of Azure's conversations (2023) that Helix serves: up to 2048 tokens in and 1024 out, 763 and 232 on
average. They come all at once (offline), as a Poisson process, or with the gaps of Azure's code assistant, whose
coefficient of variation is 13.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.compose import UsageError
from experiments.shard.testbeds import Bed
from models import draws
from models.arrays import FloatArray
from policies.jobs import Stage
from policies.problem import Plan
from policies.serving.batching import Request
from policies.serving.caches import node_blocks
from policies.sharding.flow import worker_rates
from policies.sharding.goodput import shortlist
from policies.sharding.links import Network
from policies.sharding.routes import Drawing, Fixed, Router, Shortest
from policies.sharding.swarm import Wiring
from sim.batches import Arrival
from sim.pipelines import SOURCE, Host, Outcome, Pipelines, Sizes

PROMPT_MAX, NEW_MAX = 2048, 1024
"""Longest prompt and answer of Helix's workload (Mei et al., section 6.1; the testbeds' max_input_tokens)."""
ROUTERS = ("own", "weighted")
"""``own``: Petals' client for its placement, SWARM's wiring for its own; else weighted round robin, as for all."""
OWN = ("petals", "swarm")
COMINGS = ("offline", "poisson", "azure_code")


@dataclass(frozen=True)
class Load:
    """What comes, and how long it is watched.

    Attributes:
        coming: one of `COMINGS`.
        rate_per_s: requests a second, unless all come at once.
        begin_s: what is emitted before is not counted.
        end_s: the end of the run.
        seed: of lengths and of a Poisson process.
    """

    coming: str
    rate_per_s: float = 0.0
    begin_s: float = 60.0
    end_s: float = 300.0
    seed: int = 1


class Limit(NamedTuple):
    """What a node takes into one iteration at most: requests that decode, and tokens, those and prompts' together."""

    requests: int
    tokens: int


USUAL = (Limit(256, 2048), Limit(256, 512), Limit(256, 256))
"""vLLM's default, what it was before, and half of that."""
SPLIT = (Limit(64, 256), Limit(96, 160), Limit(64, 128))
"""Limits of ours that split crowds, found on the testbeds: requests that wait together go on together, and a deep
pipeline computes on all stages only while there are as many crowds as stages (what micro-batches are for in training:
Huang et al., GPipe, NeurIPS 2019)."""
LIMITS = USUAL + SPLIT
TRIALS = ((12, 160.0, SPLIT[1:2]), (3, 240.0, SPLIT))
"""How many plans are tried, for how long, and under which limits: half of the time is counted, and who served most is
tried longer (successive halving: Jamieson and Talwalkar, AISTATS 2016). Numbers are ours, for a minute of one core at
24 nodes. A deep pipeline fills up first: one of 42 nodes served 690 tokens a second from the 60th second to the 120th,
and 1,101 from the 120th to the 240th, so that shorter trials put it behind those that serve less."""
TRIAL_SEED = 0
OFFLINE_REQUESTS = 8000
"""All that come at once; an assumption: more than any of the testbeds' plans serves in the time that is watched."""


@dataclass(frozen=True)
class Goodput:
    """What came of a load; seconds are those of requests that came and spoke, the tail beside the mean.

    Attributes:
        decode_tokens_per_s: of answers, first tokens not among them.
        requests_per_s: that ended.
        prompt_s, prompt_p99_s: from a request's admission to its first token.
        wait_s, wait_p99_s: from its coming to its admission.
        decode_s, decode_p99_s: a further token of requests that ended.
        preempted: how often a request lost its blocks.
        busiest: share of the time that the busiest node computes.
    """

    decode_tokens_per_s: float
    requests_per_s: float
    prompt_s: float
    prompt_p99_s: float
    wait_s: float
    wait_p99_s: float
    decode_s: float
    decode_p99_s: float
    preempted: int
    busiest: float


def lengths(traces: Path) -> list[tuple[int, int]]:
    """Return (prompt, answer) of the conversations.

    Raises:
        UsageError: the trace is missing.
    """
    rows = _rows(traces / "azure_llm_2023_conv.csv.gz")
    pairs = [(int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in rows]
    return [(prompt, new) for prompt, new in pairs if prompt <= PROMPT_MAX and new <= NEW_MAX]


def code_gaps_s(traces: Path) -> FloatArray:
    """Return the gaps between the code assistant's requests.

    Raises:
        UsageError: the trace is missing.
    """
    times = [datetime.fromisoformat(row["TIMESTAMP"]) for row in _rows(traces / "azure_llm_2023_code.csv.gz")]
    return np.diff([(time - times[0]).total_seconds() for time in times])


def arrivals(load: Load, pairs: Sequence[tuple[int, int]], gaps_s: FloatArray) -> list[Arrival]:
    """Return the requests of a load: lengths drawn by number, the same whatever plan is served.

    Args:
        pairs: (prompt, answer) to draw from.
        gaps_s: used in turn from a drawn place on, to the mean that the rate asks for, where `azure_code` is asked for.
    """
    count = OFFLINE_REQUESTS if load.coming == "offline" else max(1, int(load.rate_per_s * load.end_s * 2))
    numbers = np.arange(count)
    if load.coming == "offline":
        at_s = np.zeros(count)
    elif load.coming == "poisson":
        at_s = np.cumsum(draws.exponential(load.seed, "shard.gaps", numbers, 0)) / load.rate_per_s
    else:
        first = int(draws.integers(load.seed, "shard.gaps", 0, 0, len(gaps_s)))
        at_s = np.cumsum(np.roll(gaps_s, -first)[numbers % len(gaps_s)]) / gaps_s.mean() / load.rate_per_s
    drawn = draws.integers(load.seed, "shard.lengths", numbers, 0, len(pairs))
    return [
        Arrival(float(when), Request(f"r{number}", *pairs[int(pair)]))
        for number, (when, pair) in enumerate(zip(at_s, drawn, strict=True))
        if when < load.end_s
    ]


@dataclass(frozen=True)
class Shown:
    """One planner under one load, by one way to draw pipelines."""

    testbed: str
    model: str
    planner: str
    router: str
    coming: str
    limit: Limit
    result: Goodput


def compare(bed: Bed, plans: Mapping[str, Plan], traces: Path, load: float, end_s: float) -> list[Shown]:
    """Serve each plan: all requests at once, then as they come at ``load`` times what the best then served.

    All at once it is served under each of `LIMITS`; then under the one with which that plan served most.

    Args:
        plans: by planner; those without pipelines are left out.
        traces: the folder of Azure's traces.
        end_s: of each run; its first quarter is not counted.
    """
    ways = [
        (name, router)
        for name, plan in plans.items()
        if plan.pipelines
        for router in (ROUTERS if name in OWN else ("weighted",))
    ]
    if not ways:
        return []
    pairs, gaps_s = lengths(traces), code_gaps_s(traces)

    def shown(name: str, router: str, one: Load, limit: Limit) -> Shown:
        result = goodput(bed, plans[name], name, router, one, arrivals(one, pairs, gaps_s), limit)
        return Shown(bed.name, bed.model, name, router, one.coming, limit, result)

    offline = Load("offline", 0.0, end_s / 4, end_s)
    found = [shown(*way, offline, limit) for way in ways for limit in LIMITS]
    best = {
        way: max(
            (one for one in found if (one.planner, one.router) == way), key=lambda one: one.result.decode_tokens_per_s
        ).limit
        for way in ways
    }
    rate_per_s = load * max(one.result.requests_per_s for one in found)
    for coming in COMINGS[1:]:
        found += [shown(*way, Load(coming, rate_per_s, end_s / 4, end_s), best[way]) for way in ways]
    return found


def goodput(
    bed: Bed, plan: Plan, planner: str, router: str, load: Load, coming: Sequence[Arrival], limit: Limit = LIMITS[0]
) -> Goodput:
    """Serve a load over a plan."""
    outcome = pipelines(bed, plan, planner, router, limit).serve(coming, load.end_s)
    return _measured(outcome, load)


def chosen(bed: Bed, budget: int, pairs: Sequence[tuple[int, int]]) -> Plan:
    """Return the plan that serves most when simulated, of the first that the steady state names.

    It is chosen with requests of another seed than those it is shown with, all there at once.
    """
    plans = shortlist(bed.problem, budget, TRIALS[0][0])
    for count, end_s, limits in TRIALS:
        load = Load("offline", begin_s=end_s / 2, end_s=end_s, seed=TRIAL_SEED)
        values = [most(bed, plan, "", ("weighted",), load, pairs, limits) for plan in plans[:count]]
        plans = [plans[i] for i in sorted(range(len(values)), key=lambda i: -values[i])]
    return plans[0] if plans else Plan((), (), "nothing flows")


def most(
    bed: Bed, plan: Plan, planner: str, routers: Sequence[str], load: Load, pairs: Sequence[tuple[int, int]],
    limits: Sequence[Limit] = LIMITS,
) -> float:  # fmt: skip
    """Return the decode tokens a second of a plan by the way to draw and the limit that suit it, all there at once."""
    return max(
        goodput(bed, plan, planner, router, load, arrivals(load, pairs, np.zeros(0)), limit).decode_tokens_per_s
        for router in routers
        for limit in limits
    )


def pipelines(bed: Bed, plan: Plan, planner: str, router: str, limit: Limit = LIMITS[0]) -> Pipelines:
    """Return a testbed's nodes as engines over a plan, each with such a limit of its iterations."""
    problem = bed.problem
    workers = {worker.node: worker for worker in problem.workers}
    held = plan.placement or tuple(stage for stages in plan.pipelines for stage in stages)
    ends = 2 * problem.head_bytes
    hosts = {
        stage.node: Host(
            stage,
            bed.layers[stage.node],
            node_blocks(
                workers[stage.node].memory_bytes - ends - (stage.last - stage.first) * problem.layer_bytes,
                bed.kv_bytes_token_layer,
            ),
        )
        for stage in held
    }
    network = Network(problem)

    def link(sender: str, receiver: str) -> tuple[float, float]:
        if SOURCE in (sender, receiver):
            to_source = receiver == SOURCE
            worker = workers[sender if to_source else receiver]
            delay_s = network.to_source_s(worker, 0.0) if to_source else network.from_source_s(worker, 0.0)
            return network.source_bytes_per_s(worker, to_source=to_source), delay_s
        ends = workers[sender], workers[receiver]
        return network.bytes_per_s(*ends), network.hop_s(*ends, 0.0)

    sizes = Sizes(
        tokens_max=limit.tokens,
        requests_max=limit.requests,
        chunk_max=min(Sizes.chunk_max, limit.tokens),
        activation_bytes=problem.activation_bytes,
        expected_new=problem.new_tokens,
    )
    return Pipelines(hosts, link, _drawing(bed, plan, planner, router, held), sizes)


def _drawing(bed: Bed, plan: Plan, planner: str, router: str, held: Sequence[Stage]) -> Drawing:
    problem = bed.problem
    if router == "own" and planner == "petals":
        return Shortest(problem, held)
    if router == "own" and planner == "swarm":
        return Wiring(problem, held)
    if plan.flows:
        return Router(held, plan.flows)
    workers = {worker.node: worker for worker in problem.workers}
    slowest = [min(worker_rates(problem, workers[s.node])[s.last - s.first - 1] for s in way) for way in plan.pipelines]
    return Fixed(plan.pipelines, slowest)


def _measured(outcome: Outcome, load: Load) -> Goodput:
    seconds = load.end_s - load.begin_s
    tokens = sum(count for at_s, count in outcome.emitted if at_s >= load.begin_s)
    ended = [one for one in outcome.served if one.last_s is not None and one.last_s >= load.begin_s]
    spoke = [one for one in outcome.served if one.first_s is not None and one.first_s >= load.begin_s]
    admitted = outcome.admitted_s
    prompt = [one.first_s - admitted[one.request.key] for one in spoke if one.first_s is not None]
    wait = [admitted[one.request.key] - one.at_s for one in spoke]
    decode = [one.tpot_s for one in ended if one.tpot_s is not None]
    return Goodput(
        tokens / seconds, len(ended) / seconds, *_mean_p99(prompt), *_mean_p99(wait), *_mean_p99(decode),
        outcome.preempted, float(max(outcome.busy_s.values()) / load.end_s),
    )  # fmt: skip


def _mean_p99(values: Sequence[float]) -> tuple[float, float]:
    return (float(np.mean(values)), float(np.quantile(values, 0.99))) if values else (float("nan"), float("nan"))


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise UsageError(f"--goodput: the trace {path} is missing")
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.DictReader(file))
