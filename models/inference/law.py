"""Inference law: seconds of a decoder-only language model, from bytes moved and operations done.

Terms are added, not maximised: on per-layer profiles of vLLM (Helix, ASPLOS'25) the sum carries over to a model that
was not used in the fit with 16 % error in batched decode, the maximum with 46 %. Two operations a parameter and token;
of a mixture of experts the weights that the batch touches are read, and those that a token uses are computed with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.arrays import ArrayLike, FloatArray, spread
from models.inference.shapes import Shape


@dataclass(frozen=True)
class Device:
    """What the law needs of a device; scalars, or arrays with one value a device.

    Attributes:
        mem_bytes_per_s: memory bandwidth, data sheet.
        flops: dense FP16 peak, operations/s.
        eta: share of the bandwidth reached when reading weights.
        eta_kv: share reached when reading the cache.
        mu: share of the peak reached by matrix products.
        overhead_s_layer: launch and engine time a layer and step, s.
        overhead_s_step: engine time a step, s.
    """

    mem_bytes_per_s: ArrayLike
    flops: ArrayLike
    eta: ArrayLike
    eta_kv: ArrayLike
    mu: ArrayLike
    overhead_s_layer: ArrayLike
    overhead_s_step: ArrayLike


def decode_step_s(
    shape: Shape,
    layers: ArrayLike,
    device: Device,
    batch: ArrayLike,
    sum_context: ArrayLike,
    head: bool = False,
    speed: ArrayLike = 1.0,
) -> FloatArray:
    """Return the time of one decode step: one new token for every stream of a batch.

    Args:
        layers: how many layers this device holds.
        batch: streams, at least 1.
        sum_context: cached tokens over all streams.
        head: this device also holds the language-model head.
        speed: factor on compute and bandwidth, above 0 up to 1; overheads are the host's and keep their
            length.
    """
    return step_s(shape, layers, device, batch, sum_context, sum_context, batch if head else 0.0, speed)


def prefill_s(
    shape: Shape,
    layers: ArrayLike,
    device: Device,
    tokens: ArrayLike,
    context: ArrayLike = 0,
    head: bool = False,
    speed: ArrayLike = 1.0,
) -> FloatArray:
    """Return the time to take in a prompt (or a chunk of one) of one stream.

    Args:
        layers: how many layers this device holds.
        tokens: tokens of the chunk, at least 1.
        context: tokens already cached before it.
        head: this device also holds the language-model head, asked for the last token only.
        speed: factor on compute and bandwidth, above 0 up to 1.
    """
    new, before = spread(tokens, context)
    # A token attends to those before it: half of the chunk on average.
    attended = new * before + 0.5 * new**2
    return step_s(shape, layers, device, new, before, attended, 1.0 if head else 0.0, speed)


def hop_s(one_way_s: ArrayLike, bytes_per_s: ArrayLike, size_bytes: ArrayLike, serialise_s: ArrayLike) -> FloatArray:
    """Return the time from one stage of a pipeline to the next, s: serialise, travel, arrive in full."""
    delay_s, rate, size, pack_s = spread(one_way_s, bytes_per_s, size_bytes, serialise_s)
    return np.asarray(pack_s + delay_s + size / rate)


def step_s(
    shape: Shape,
    layers: ArrayLike,
    device: Device,
    tokens: ArrayLike,
    cached: ArrayLike,
    attended: ArrayLike,
    head_tokens: ArrayLike,
    speed: ArrayLike,
) -> FloatArray:
    """Add up one pass of anything: weights and cache read, matrix products, attention, overhead.

    A sum in which each of tokens, cached, attended and head tokens is linear, but for the weights that a mixture of
    experts reads.

    Args:
        tokens: new tokens.
        cached: tokens whose cache is read.
        attended: pairs of new token and attended token.
        head_tokens: tokens for which the head is evaluated; 0 leaves it out.
    """
    depth, new, read, pairs, spoken, pace, bandwidth, peak = spread(
        layers, tokens, cached, attended, head_tokens, speed, device.mem_bytes_per_s, device.flops
    )
    eta, eta_kv, mu, per_layer_s, per_step_s = spread(
        device.eta, device.eta_kv, device.mu, device.overhead_s_layer, device.overhead_s_step
    )
    layer_s: Any = shape.touched_bytes(new) / (eta * bandwidth) + 2.0 * shape.active_params() * new / (mu * peak)
    layer_s = layer_s + shape.kv_bytes_per_token_layer() * read / (eta_kv * bandwidth)
    layer_s = layer_s + 4.0 * shape.heads * shape.head_dim * pairs / (mu * peak)
    head_s = np.where(spoken > 0.0, shape.head_bytes() / (eta * bandwidth), 0.0)
    head_s = head_s + 2.0 * shape.vocab * shape.hidden * spoken / (mu * peak)
    return np.asarray((depth * layer_s + head_s) / pace + depth * per_layer_s + per_step_s)
