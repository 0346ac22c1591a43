"""What a pipeline costs, and so what planners make small: the seconds of a request from its source and back.

`end_to_end_s` is the objective: a prompt of s tokens in one pass, then a pass for each further one of g tokens,
every token back at the source. Each device holds one contiguous range of layers and reserves the cache of s + g
tokens. The stage and hop terms are the additive model of sequential pipeline inference (EdgeShard, arXiv
2405.14371), with a fixed time a step and device. Assumptions of ours, stated once:

- The output head is read like a layer: it takes its bytes' share of a layer's time. Looking up the embedding
  is free.
- A tied model on one device could share embedding and head; both are reserved, so that a plan never
  overflows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from models.arrays import FloatArray
from policies.jobs import Stage
from policies.problem import Problem, Worker
from policies.sharding.links import Network


def layers_max(problem: Problem, worker: Worker, *, first: bool, last: bool) -> int:
    """Return how many layers fit in the worker's memory beside the embedding (first) and the head (last)."""
    free_bytes = worker.memory_bytes - problem.head_bytes * (first + last)
    return max(0, int(free_bytes // (problem.layer_bytes + problem.kv_bytes_layer)))


def joining_s(problem: Problem, worker: Worker) -> float:
    """Return the seconds a layer costs on ``worker`` filled to its memory, with its step and two hops.

    This ranks candidates: a fast device that holds one layer behind a slow link is not a useful one.
    """
    layers = min(problem.layers, max(1, layers_max(problem, worker, first=False, last=False)))
    hops_s = 2 * (worker.one_way_s + worker.backbone_s) + problem.activation_bytes / worker.bytes_per_s
    return worker.layer_s + (worker.step_s + hops_s) / layers


def head_s(problem: Problem, worker: Worker) -> float:
    """Return the seconds of the output head on ``worker``."""
    return worker.layer_s * problem.head_bytes / problem.layer_bytes


def end_to_end_s(problem: Problem, pipeline: Sequence[Stage]) -> float:
    """Return the seconds of the problem's request through ``pipeline``, unqueued: the planners' objective."""
    prefills, decodes = passes(problem)
    total = decodes * token_s(problem, pipeline) if decodes else 0.0
    return total + first_token_s(problem, pipeline, problem.prompt_tokens) if prefills else total


def passes(problem: Problem) -> tuple[int, int]:
    """Return how many prefill and decode passes a request takes."""
    prefills = int(problem.prompt_tokens > 0)
    return prefills, problem.new_tokens - prefills


def token_s(problem: Problem, pipeline: Sequence[Stage]) -> float:
    """Return the seconds between two tokens of one decode stream through ``pipeline``."""
    workers, network = _workers(problem, pipeline), Network(problem)
    total = network.around_s(workers[0], workers[-1]) + head_s(problem, workers[-1])
    for stage, worker in zip(pipeline, workers, strict=True):
        total += worker.step_s + (stage.last - stage.first) * worker.layer_s
    for sender, receiver in pairwise(workers):
        total += network.hop_s(sender, receiver, problem.activation_bytes)
    return total


def first_token_s(problem: Problem, pipeline: Sequence[Stage], prompt_tokens: int) -> float:
    """Return the seconds of an unqueued prefill of ``prompt_tokens`` up to the first token at the source."""
    workers, network = _workers(problem, pipeline), Network(problem)
    total = network.around_s(workers[0], workers[-1], prompt_tokens) + head_s(problem, workers[-1])
    for stage, worker in zip(pipeline, workers, strict=True):
        layer_s = worker.prefill_s_layer + worker.prefill_s_token_layer * prompt_tokens
        total += worker.step_s + worker.prefill_s_token * prompt_tokens + (stage.last - stage.first) * layer_s
    for sender, receiver in pairwise(workers):
        total += network.hop_s(sender, receiver, problem.activation_bytes * prompt_tokens)
    return total


@dataclass(frozen=True)
class Terms:
    """The objective taken apart, over k devices: the sum over a pipeline's stages, hops and two ends is its cost.

    Attributes:
        layer_s: [k], of one layer, over all passes of the request.
        step_s: [k], of being a stage at all.
        hop_s: [k, k], from sender to receiver.
        ends_s: [first, last], round the source, with the output head.
        room: [k, 4], layers that fit on a middle stage, a first one, a last one, and one that is both.
    """

    layer_s: FloatArray
    step_s: FloatArray
    hop_s: FloatArray
    ends_s: FloatArray
    room: FloatArray


def terms(problem: Problem, devices: Sequence[Worker]) -> Terms:
    """Return the terms of the problem's objective over ``devices``."""
    network = Network(problem)
    prefills, decodes = passes(problem)
    tokens = problem.prompt_tokens
    layer, step, prompt_step, prompt_layer, head = (
        np.array(values, dtype=np.float64)
        for values in (
            [w.layer_s for w in devices],
            [w.step_s for w in devices],
            [w.prefill_s_token * tokens for w in devices],
            [w.prefill_s_layer + w.prefill_s_token_layer * tokens for w in devices],
            [head_s(problem, w) for w in devices],
        )
    )
    hops = decodes * network.hops_s(devices, problem.activation_bytes)
    ends = decodes * (network.arounds_s(devices) + head)
    if prefills:
        hops = hops + network.hops_s(devices, problem.activation_bytes * tokens)
        ends = ends + (network.arounds_s(devices, tokens) + head)
    roles = ((False, False), (True, False), (False, True), (True, True))
    room = [[min(layers_max(problem, w, first=a, last=z), problem.layers) for a, z in roles] for w in devices]
    return Terms(
        decodes * layer + prefills * prompt_layer,
        (decodes + prefills) * step + prefills * prompt_step,
        hops,
        ends,
        np.array(room, dtype=np.float64).reshape(-1, 4),
    )


def _workers(problem: Problem, pipeline: Sequence[Stage]) -> list[Worker]:
    by_node = {worker.node: worker for worker in problem.workers}
    return [by_node[stage.node] for stage in pipeline]
