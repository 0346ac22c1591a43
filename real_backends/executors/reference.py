"""The answer the executors are measured against: the same model the plain way, on torch's own functions.

No cache, no shards: every step runs the whole sequence through torch's RMSNorm and scaled dot-product
attention, and turns positions as complex numbers. One process, one sequence, one thread. Imports torch at its
top.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from real_backends.executors.checkpoint import Weights, shard_weights
from real_backends.executors.spec import ModelSpec, layer_parts


def _frequencies(spec: ModelSpec) -> torch.Tensor:
    """Radians a position turns each pair by, [head_dim / 2]; slowed wave by wave where the model asks so."""
    frequency = 1 / spec.rope_theta ** (torch.arange(0, spec.head_dim, 2, dtype=torch.float32) / spec.head_dim)
    if (rule := spec.rope_scaling) is not None:
        for index, turned in enumerate(frequency.tolist()):
            wavelength = 2 * math.pi / turned
            if wavelength > rule.original_context / rule.low:
                frequency[index] = turned / rule.factor
            elif wavelength >= rule.original_context / rule.high:
                kept = (rule.original_context / wavelength - rule.low) / (rule.high - rule.low)
                frequency[index] = kept * turned + (1 - kept) * turned / rule.factor
    return frequency


def _turn(x: torch.Tensor, frequency: torch.Tensor) -> torch.Tensor:
    """Rotary positions on x [heads, n, head_dim]: pair i is one complex number, turned by its angle."""
    _, count, width = x.shape
    angle = torch.outer(torch.arange(count, dtype=torch.float32), frequency)
    turn = torch.polar(torch.ones_like(angle), angle)
    turned = torch.complex(x[..., : width // 2], x[..., width // 2 :]) * turn
    return torch.cat((turned.real, turned.imag), dim=-1)


def _layer(spec: ModelSpec, w: dict[str, torch.Tensor], h: torch.Tensor) -> torch.Tensor:
    x = F.rms_norm(h, (spec.hidden,), w["attn_norm"], spec.norm_eps)
    heads = (F.linear(x, w[part], w.get(f"{part}_bias")).view(len(h), -1, spec.head_dim) for part in ("q", "k", "v"))
    q, k, v = (part.transpose(0, 1) for part in heads)
    frequency = _frequencies(spec)
    q, k = _turn(q, frequency), _turn(k, frequency)
    mixed = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, enable_gqa=True)[0]
    h = h + F.linear(mixed.transpose(0, 1).flatten(1), w["o"])
    x = F.rms_norm(h, (spec.hidden,), w["ffn_norm"], spec.norm_eps)
    return h + F.linear(F.silu(F.linear(x, w["gate"])) * F.linear(x, w["up"]), w["down"])


def reference_steps(
    spec: ModelSpec, weights: Weights, prompt: Sequence[int], new_tokens: int
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Greedy decoding: pairs of the chosen token and the float32 logits [vocab] it was chosen from.

    Args:
        prompt: token ids, at least one.
        new_tokens: how many to generate; prompt and new tokens together fit the context.
    """
    if not prompt:
        raise ValueError("prompt: an empty prompt is not allowed, expected at least one token")
    if len(prompt) + new_tokens > spec.context:
        raise ValueError(f"new_tokens: {new_tokens} after {len(prompt)} exceed the context, {spec.context}")
    part = shard_weights(spec, weights, 0, spec.layers)
    tensors = {name: torch.tensor(np.asarray(tensor)) for name, tensor in part.items()}
    tokens = list(prompt)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(new_tokens):
            with torch.inference_mode():
                h = tensors["embed"][torch.tensor(tokens)]
                for index in range(spec.layers):
                    h = _layer(spec, {part: tensors[f"layers.{index}.{part}"] for part in layer_parts(spec)}, h)
                last = F.rms_norm(h[-1], (spec.hidden,), tensors["norm"], spec.norm_eps)
                logits = F.linear(last, tensors["embed" if spec.tied_head else "head"]).numpy()
            tokens.append(int(np.argmax(logits)))
            yield tokens[-1], logits
    finally:
        torch.set_num_threads(threads)


def reference_generate(spec: ModelSpec, weights: Weights, prompt: Sequence[int], new_tokens: int) -> list[int]:
    """The `new_tokens` greedy tokens after `prompt`; see `reference_steps`."""
    return [token for token, _ in reference_steps(spec, weights, prompt, new_tokens)]
