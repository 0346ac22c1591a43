"""What a pipeline costs: memory of a stage, seconds of a hop, of a decoded token and of the first one.

The stage and hop terms are the additive model of sequential pipeline inference (EdgeShard, arXiv 2405.14371),
with a fixed time a step and device. Assumptions of ours, stated once:

- The output head is read like a layer: it takes its bytes' share of a layer's time. Looking up the embedding
  is free.
- A tied model on one device could share embedding and head; both are reserved, so that a plan never
  overflows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from policies.jobs import Stage
from policies.problem import Problem, Worker

TOKEN_BYTES = 4.0
"""What travels to the first stage and back from the last: one token as int32, the session's format."""


def layers_max(problem: Problem, worker: Worker, *, first: bool, last: bool) -> int:
    """Return how many layers fit in the worker's memory beside the embedding (first) and the head (last)."""
    free_bytes = worker.memory_bytes - problem.head_bytes * (first + last)
    return max(0, int(free_bytes // (problem.layer_bytes + problem.kv_bytes_layer)))


def head_s(problem: Problem, worker: Worker) -> float:
    """Return the seconds of the output head on ``worker``."""
    return worker.layer_s * problem.head_bytes / problem.layer_bytes


def hop_s(sender: Worker, receiver: Worker, size_bytes: float) -> float:
    """Return the seconds from one worker to another, 0 to itself."""
    if sender.node == receiver.node:
        return 0.0
    together = sender.site != "" and sender.site == receiver.site
    backbone_s = 0.0 if together else sender.backbone_s + receiver.backbone_s
    rate = min(sender.bytes_per_s, receiver.bytes_per_s)
    return sender.one_way_s + receiver.one_way_s + backbone_s + size_bytes / rate


def source_s(problem: Problem, first: Worker, last: Worker) -> float:
    """Return the seconds a token takes from ``last`` back to the source and from there to ``first``."""
    if not problem.source:
        return hop_s(last, first, TOKEN_BYTES)
    for worker in problem.workers:
        if worker.node == problem.source:
            return hop_s(last, worker, TOKEN_BYTES) + hop_s(worker, first, TOKEN_BYTES)
    return sum(w.one_way_s + w.backbone_s + TOKEN_BYTES / w.bytes_per_s for w in (last, first))


def token_s(problem: Problem, pipeline: Sequence[Stage]) -> float:
    """Return the seconds between two tokens of one decode stream through ``pipeline``."""
    workers = _workers(problem, pipeline)
    total = source_s(problem, workers[0], workers[-1]) + head_s(problem, workers[-1])
    for stage, worker in zip(pipeline, workers, strict=True):
        total += worker.step_s + (stage.last - stage.first) * worker.layer_s
    for sender, receiver in pairwise(workers):
        total += hop_s(sender, receiver, problem.activation_bytes)
    return total


def first_token_s(problem: Problem, pipeline: Sequence[Stage], prompt_tokens: int) -> float:
    """Return the seconds of an unqueued prefill of ``prompt_tokens`` up to the first token at the source."""
    workers = _workers(problem, pipeline)
    total = source_s(problem, workers[0], workers[-1]) + head_s(problem, workers[-1])
    for stage, worker in zip(pipeline, workers, strict=True):
        total += worker.step_s + (stage.last - stage.first) * worker.prefill_s_token_layer * prompt_tokens
    for sender, receiver in pairwise(workers):
        total += hop_s(sender, receiver, problem.activation_bytes * prompt_tokens)
    return total


def _workers(problem: Problem, pipeline: Sequence[Stage]) -> list[Worker]:
    by_node = {worker.node: worker for worker in problem.workers}
    return [by_node[stage.node] for stage in pipeline]
