"""Seeded weights for a `ModelSpec`: making and hashing them, and what a shard takes of any weights. numpy only.

The weights are random, not trained: the text that comes out means nothing. What matters is that the
arithmetic is that of a real model, and that every machine makes the same bits from the same seed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from real_backends.executors.spec import ModelSpec, tensor_shapes


class Tensor(Protocol):
    """A float32 array, or what reads one when numpy asks for its values (`StoredTensor`)."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __array__(self) -> npt.NDArray[Any]: ...


Weights: TypeAlias = Mapping[str, Tensor]

# Gains multiply the usual 1 / sqrt(fan in). They are assumptions, chosen so that attention is peaked enough
# for positions and history to matter, and so that the two best logits are far apart compared with float32
# rounding.
SCORE_GAIN = 1.5  # on q and k: the standard deviation of an attention score is about its square
HEAD_GAIN = 4.0  # on the head: about the standard deviation of a logit
NORM_SPREAD = 0.25  # norm weights lie in 1 +- this, so that leaving them out is noticed
BIAS_SPREAD = 0.5  # biases lie in +- this, for the same reason


def _uniform(seed: int, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Values in [-1, 1) on a grid of 2^-23, keyed by (seed, name).

    Made from PCG64's raw words with exact operations only. numpy keeps a bit generator's raw stream fixed for
    ever but not its distributions (NEP 19), and a normal draw would call the platform's own exp and log.
    """
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    raw = np.random.PCG64(np.random.SeedSequence([seed, key])).random_raw(math.prod(shape))
    grid = (np.asarray(raw, dtype=np.uint64) >> np.uint64(40)).astype(np.float64)  # 24 bits, exact in float32
    return (grid * 2.0**-23 - 1.0).reshape(shape)


def _gain(spec: ModelSpec, part: str, head_gain: float) -> float:
    if part in ("q", "k"):
        return SCORE_GAIN
    if part == "head" or (part == "embed" and spec.tied_head):
        return head_gain
    return 1.0


def make_checkpoint(spec: ModelSpec, seed: int, head_gain: float = HEAD_GAIN) -> dict[str, npt.NDArray[np.float32]]:
    """All tensors of the model as float32, bit-identical on every machine.

    Each tensor has its own stream keyed by its name, so a layer keeps its weights when the model gets deeper.

    Args:
        spec: the shape of the model.
        seed: at least 0.
        head_gain: multiplies the head; about the standard deviation of a logit.
    """
    if seed < 0:
        raise ValueError(f"seed: {seed} is not allowed, expected an integer of at least 0")
    weights: dict[str, npt.NDArray[np.float32]] = {}
    for name, shape in tensor_shapes(spec, 0, spec.layers).items():
        part = name.rsplit(".", 1)[-1]
        draw = _uniform(seed, name, shape)
        if part.endswith("norm"):
            weights[name] = (1.0 + NORM_SPREAD * draw).astype(np.float32)
        elif part.endswith("bias"):
            weights[name] = (BIAS_SPREAD * draw).astype(np.float32)
        else:
            # An untied embedding row has unit variance by itself; every other matrix is scaled by its fan in.
            fan_in = 1 if part == "embed" and not spec.tied_head else shape[-1]
            # sqrt(3), because a uniform in [-1, 1) has variance 1/3.
            scale = _gain(spec, part, head_gain) * math.sqrt(3.0 / fan_in)
            weights[name] = (scale * draw).astype(np.float32)
    return weights


def shard_weights(spec: ModelSpec, weights: Weights, first: int, last: int) -> Weights:
    """The part of `weights` that layers [first, last) need, checked for presence, shape and type, but not read."""
    part: dict[str, Tensor] = {}
    for name, shape in tensor_shapes(spec, first, last).items():
        if name not in weights:
            raise ValueError(f"weights: tensor {name!r} is missing, layers [{first}, {last}) need it")
        tensor = weights[name]
        if tensor.shape != shape or tensor.dtype != np.float32:
            raise ValueError(f"weights: tensor {name!r} is {tensor.dtype} {tensor.shape}, expected float32 {shape}")
        part[name] = tensor
    return part


def checkpoint_digest(spec: ModelSpec, weights: Weights) -> str:
    """SHA-256, in hex, of the spec and of every tensor's name, shape and little-endian bytes in name order.

    The digest is of the content: it does not depend on the container, its compression or its time stamps.
    """
    state = hashlib.sha256(json.dumps(spec.as_dict(), sort_keys=True).encode())
    for name in sorted(weights):
        tensor = weights[name]
        state.update(f"\n{name} {list(tensor.shape)}\n".encode())
        state.update(np.ascontiguousarray(np.asarray(tensor), dtype="<f4").tobytes())
    return state.hexdigest()
