"""One way through all nodes, cut so that so many requests fit at once: the deepest pipeline, and the largest batches.

A node that holds fewer layers has more of its memory for caches, and less of a request to cache. With n requests in
flight over k nodes each iteration is of n / k of them; every node gets the layers that its cache and the slowest
iteration allow. Ours; what is balanced is the busiest stage, as in pipeline training (Narayanan et al., PipeDream,
SOSP 2019). It serves well only where prompts go through in small pieces: a long iteration stops all that is behind it.
"""

from __future__ import annotations

from policies.jobs import Stage
from policies.problem import Problem, Worker
from policies.sharding.cost import passes
from policies.sharding.flow import span_max, worker_rates

BATCH = 256
"""Requests of the batch that a worker's table is of: vLLM's default max_num_seqs."""


def law(problem: Problem, worker: Worker) -> tuple[float, float, float]:
    """Return seconds of a layer: of an iteration, of each request that decodes, of each token of a prompt.

    The second is what the table's largest batch takes beyond one request; without a table, requests do not share.
    """
    token_s, (prefills, decodes) = worker.prefill_s_token_layer, passes(problem)
    if not worker.tokens_per_s or not decodes:
        return 0.0, worker.layer_s, token_s
    request_s = (problem.prompt_tokens + problem.new_tokens) / worker_rates(problem, worker)[0]
    full_s = max(0.0, request_s - prefills * problem.prompt_tokens * token_s) / decodes
    decode_s = max(0.0, full_s * BATCH - worker.layer_s) / (BATCH - 1)
    return max(0.0, worker.layer_s - decode_s), decode_s, token_s


def one_way(problem: Problem, streams: int) -> tuple[Stage, ...]:
    """Return a way on which ``streams`` requests fit at once, site after site; empty if there is none."""
    workers = sorted(problem.workers, key=lambda worker: (worker.site, worker.node))
    decodes = max(1, passes(problem)[1])
    each = problem.layer_bytes + streams * problem.kv_bytes_layer
    layer_s, most = [], []
    for worker in workers:
        base_s, decode_s, token_s = law(problem, worker)
        layer_s.append(decodes * (base_s * len(workers) / streams + decode_s) + problem.prompt_tokens * token_s)
        room = int(max(0.0, worker.memory_bytes - 2 * problem.head_bytes) // each)
        most.append(min(room, span_max(problem, worker)))
    if sum(most) < problem.layers:
        return ()
    held = [0] * len(workers)
    for _ in range(problem.layers):  # the next layer to whom it leaves least busy
        able = [i for i in range(len(workers)) if held[i] < most[i]]
        held[min(able, key=lambda i: ((held[i] + 1) * layer_s[i], i))] += 1
    stages, first = [], 0
    for worker, layers in zip(workers, held, strict=True):
        if layers:
            stages.append(Stage(worker.node, first, first + layers))
            first += layers
    return tuple(sorted(stages, key=lambda stage: stage.node))
