"""Paired errors of requests: predicted against measured, request by request, and totals of a Run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from experiments.statistics import CONFIDENCE, DONE
from policies.serving.batching import BLOCK_TOKENS

if TYPE_CHECKING:
    import pandas as pd

    from experiments.results import Run
    from scenarios.schema import Scenario

Array = npt.NDArray[np.float64]
PER_REQUEST = {"ttft_s": "time to first token", "tpot_s": "time per token after it", "latency_s": "end to end"}
"""What each request has. The first two are of the session that answered; queueing is in the last one alone."""
TOTALS = {
    "throughput_tokens_per_s": "throughput (tokens/s)",
    "kv_pool_bytes": "KV bytes, reserved",
    "kv_bytes": "KV bytes, worst moment of each node",
    "ready_s": "launched until warm, all nodes (s)",
    "first_ready_s": "first session begins (s)",
}


def request_times(run: Run) -> pd.DataFrame:
    """Return `PER_REQUEST` by ``op_id`` of all answered requests, in seconds.

    Without a table of sessions, the time per token is what is left of the whole after the first token, a token; it then
    holds the request's queueing as well.
    """
    done = run.requests[run.requests["status"].isin(DONE)].set_index("op_id")
    tokens = done["tokens"].astype(float).where(lambda count: count > 1)
    found = done[["latency_s"]].astype(float)
    found["ttft_s"] = done["first_token_s"].astype(float)
    found["tpot_s"] = (found["latency_s"] - found["ttft_s"]) / (tokens - 1)
    sessions = run.sessions
    if len(sessions):
        last = sessions.assign(op_id=sessions["op"].str.split("/").str[1]).groupby("op_id").last()
        decoding_s = last["ended_s"] - last["begun_s"] - last["first_token_s"]
        found["tpot_s"] = decoding_s.reindex(found.index) / (tokens - 1)
    return found


def totals(run: Run, among: Collection[str] | None = None, nodes: Collection[str] | None = None) -> dict[str, float]:
    """Return `TOTALS` of a Run; NaN for what it does not have.

    A gateway's own session, that of no request, is not its first.

    Args:
        run: either world's.
        among: requests, by ``op_id``, whose tokens are throughput; None is all. What a client left in mid-stream was
            withdrawn here and is served to its end by the twin, whose clients never leave.
        nodes: whose caches are summed (`that_counted`); None is all.
    """
    sessions, requests = run.sessions, run.requests
    if len(sessions):
        sessions = sessions[sessions["op"].str.split("/").str[1].isin(requests["op_id"])]
    throughput = float(run.summary["throughput_tokens_per_s"])
    if among is not None and (whole := float(run.summary["tokens_total"])):
        counted = requests["status"].isin(DONE) & requests["op_id"].isin(list(among))
        throughput *= float(requests.loc[counted, "tokens"].sum()) / whole
    ready_s = float(sessions["begun_s"].min()) if len(sessions) else float("nan")
    return {
        "throughput_tokens_per_s": throughput,
        "kv_pool_bytes": _counted(run, "kv_pool_bytes", kv_pool_bytes, nodes),
        "kv_bytes": _counted(run, "kv_peak_bytes", kv_peak_bytes, nodes),
        "ready_s": float(run.manifest.get("ready_s") or "nan"),
        "first_ready_s": ready_s,
    }


def that_counted(run: Run) -> frozenset[str] | None:
    """Return the nodes of a local Run that know what they held; None of a Run in which nobody counts.

    A process that was killed took what it had counted with it: the one that came after it counts from nothing.
    """
    counted = frozenset(node for node, told in run.manifest.get("nodes", {}).items() if told.get("kv_pool_bytes"))
    return counted or None


def _counted(
    run: Run, field: str, law: Callable[[Run, Collection[str] | None], float], nodes: Collection[str] | None
) -> float:
    """Return what real nodes counted, over those that served; what the law says of a Run without any."""
    told = run.manifest.get("nodes", {})
    served = [told.get(node, {}).get(field) for node in _stages(run, nodes)]
    measured = bool(served) and all(one is not None for one in served)
    return float(sum(served)) if measured else law(run, nodes)


def mean_totals(pairs: Sequence[tuple[dict[str, float], dict[str, float]]]) -> dict[str, tuple[float, float]]:
    """Return (measured, predicted) of each total, means over pairs of Runs; nothing without any."""
    if not pairs:
        return {}
    return {
        name: (sum(real[name] for real, _ in pairs) / len(pairs), sum(twin[name] for _, twin in pairs) / len(pairs))
        for name in TOTALS
    }


def kv_pool_bytes(run: Run, nodes: Collection[str] | None = None) -> float:
    """Return the bytes of the blocks that ``nodes`` with sessions have reserved: those that the planner counted."""
    from policies.serving.lanes import reserved_blocks
    from scenarios.schema import build

    scenario = build(run.config)
    a_layer = scenario.served.kv_bytes_per_token_layer() * BLOCK_TOKENS * reserved_blocks(scenario.policy.sharding)
    pools = [{(first, last) for _, first, last in uses} for uses in _stages(run, nodes).values()]
    return a_layer * sum(max(last - first for first, last in pool) for pool in pools) if pools else float("nan")


def kv_peak_bytes(run: Run, nodes: Collection[str] | None = None) -> float:
    """Return the bytes of the blocks that sessions hold by the law, each of ``nodes`` at its worst moment, summed.

    A session takes the blocks of its prompt when it begins, and more as it grows: evenly, from its first token to its
    last one, which is not kept. Each is in all layers of a stage. Blocks of an equal beginning, where they are shared,
    are held once in each lane of a pipeline that has a session.
    """
    from scenarios.schema import build

    scenario = build(run.config)
    a_block = scenario.served.kv_bytes_per_token_layer() * BLOCK_TOKENS
    held = [moments for node, moments in _moments(run, scenario).items() if nodes is None or node in nodes]
    peaks = (max(np.cumsum([blocks for _, blocks in sorted(moments)])) for moments in held)
    return float(sum(peaks)) * a_block if len(run.sessions) else float("nan")


def _moments(run: Run, scenario: Scenario) -> dict[str, list[tuple[float, int]]]:
    """Return when each node's blocks, times layers, become more or fewer."""
    prompts = dict(zip(run.requests["op_id"], run.requests["prompt_tokens"], strict=True))
    common = scenario.workload.shared_tokens if scenario.policy.serving.share_prefixes else 0
    moments: dict[str, list[tuple[float, int]]] = {}
    alike: dict[tuple[str, int, int], list[tuple[float, float, int]]] = {}
    for session in run.sessions.itertuples():
        prompt, said = int(prompts.get(session.op.split("/")[1], 0)), int(session.tokens)
        first_s = session.begun_s + session.first_token_s
        a_token_s = (session.ended_s - first_s) / max(1, said - 1)
        now, shared = -(-prompt // BLOCK_TOKENS), min(common, prompt) // BLOCK_TOKENS
        ends = range(now * BLOCK_TOKENS, prompt + said - 1, BLOCK_TOKENS)  # tokens in the cache when a block is full
        taken = [(session.begun_s, now - shared), *((first_s + a_token_s * (tokens - prompt), 1) for tokens in ends)]
        taken.append((session.ended_s, shared - now - len(ends)))
        stages = _parsed(session.stages)
        for node, first, last in stages:
            moments.setdefault(node, []).extend((at_s, (last - first) * blocks) for at_s, blocks in taken)
            if shared:
                times = alike.setdefault((node, last - first, len(stages)), [])
                times.append((session.begun_s, session.ended_s, shared))
    for (node, layers, stages), times in alike.items():
        moments[node] += [(at_s, layers * blocks) for at_s, blocks in _held_once(times, _lanes(scenario, stages))]
    return moments


def _held_once(times: Sequence[tuple[float, float, int]], copies: int) -> list[tuple[float, int]]:
    """Return when the blocks that sessions share become more or fewer.

    Args:
        times: when each begins and ends, and how many of the blocks it has.
        copies: how often they are held at most, each by other sessions.
    """
    found, before, here = [], 0, list[int]()
    edges = [(begun_s, 1, blocks) for begun_s, _, blocks in times] + [
        (ended_s, 0, blocks) for _, ended_s, blocks in times
    ]
    for at_s, comes, blocks in sorted(edges):
        (here.append if comes else here.remove)(blocks)
        now = sum(sorted(here)[-copies:])
        found.append((at_s, now - before))
        before = now
    return found


def _lanes(scenario: Scenario, stages: int) -> int:
    """Return how many lanes a pipeline of so many stages has, within each of which blocks are shared."""
    from policies.config import BatchedConfig
    from policies.serving.lanes import lane_count

    policy = scenario.policy
    return lane_count(policy.sharding, stages) if isinstance(policy.serving, BatchedConfig) else 1


def _stages(run: Run, nodes: Collection[str] | None) -> dict[str, list[tuple[str, int, int]]]:
    """Return the stages of all sessions by node, of ``nodes`` or of all."""
    found: dict[str, list[tuple[str, int, int]]] = {}
    for stages in set(run.sessions["stages"]) if len(run.sessions) else ():
        for stage in _parsed(stages):
            if nodes is None or stage[0] in nodes:
                found.setdefault(stage[0], []).append(stage)
    return found


def _parsed(stages: str) -> list[tuple[str, int, int]]:
    """Return (node, first layer, last) of each stage of a session, as `scenarios.record.stages_text` writes them."""
    parts = [stage.partition(":") for stage in stages.split(",")]
    return [(node, *(int(edge) for edge in layers.split("-"))) for node, _, layers in parts]  # type: ignore[misc]


@dataclass(frozen=True)
class Errors:
    """Relative errors of one quantity over requests: (predicted - measured) / measured.

    Attributes:
        values: signed, one a request.
        measured, predicted: medians, seconds.
    """

    values: Array
    measured: float
    predicted: float

    @property
    def bias(self) -> float:
        """Median signed error."""
        return float(np.median(self.values))

    def size(self, share: float) -> float:
        """Return the quantile of the absolute error."""
        return float(np.quantile(np.abs(self.values), share))

    def interval(self, share: float) -> tuple[float, float]:
        """Return a 95 % interval of a quantile of the absolute error, free of any distribution.

        Between the order statistics that a binomial count of smaller errors leaves possible (David and Nagaraja, Order
        Statistics, 7.1); requests count as independent. Infinite above where too few lie beyond the quantile.
        """
        from scipy.stats import binom

        sizes, n = np.sort(np.abs(self.values)), len(self.values)
        low, high = (int(binom.ppf(p, n, share)) for p in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
        return float(sizes[max(0, low - 1)]), float(sizes[high]) if high < n else float("inf")


def paired(measured: pd.DataFrame, predicted: pd.DataFrame) -> dict[str, Errors]:
    """Return the errors of each quantity over the requests that both sides answered; without any, nothing."""
    return pooled([(measured, predicted)])


def pooled(pairs: list[tuple[Any, Any]]) -> dict[str, Errors]:
    """Return the errors over the requests of several pairs of (measured, predicted)."""
    import pandas as pd

    joined = [m.join(p.add_suffix("_twin"), how="inner") for m, p in pairs]
    rows = pd.concat(joined) if joined else pd.DataFrame()
    found = {}
    for name in PER_REQUEST:
        both = rows[[name, f"{name}_twin"]].dropna() if len(rows) else rows
        both = both[both[name] > 0] if len(both) else both
        if len(both):
            real, twin = both[name].to_numpy(float), both[f"{name}_twin"].to_numpy(float)
            found[name] = Errors(twin / real - 1, float(np.median(real)), float(np.median(twin)))
    return found
