"""Executors: a real, small transformer, cut into contiguous layer shards that run in torch or in JAX.

numpy arrays at every edge. Importing this package imports neither torch nor jax; the first shard of a kind
does.

    weights = make_checkpoint(DESK_TINY, DEFAULT_SEED)
    shards = [make_shard("torch", DESK_TINY, weights, 0, 3), make_shard("jax", DESK_TINY, weights, 3, 8)]
    tokens = Pipeline(shards).generate(encode("Hello, village."), 32)
"""

from __future__ import annotations

from real_backends.executors.activation import CODINGS, Activation, coding_error, pack_activation, unpack_activation
from real_backends.executors.calibration import Profile, calibrate
from real_backends.executors.certificate import DEFAULT_SEED, certify, read_certificate
from real_backends.executors.checkpoint import (
    Weights,
    checkpoint_digest,
    make_checkpoint,
    shard_weights,
)
from real_backends.executors.choice import choose, ends
from real_backends.executors.llama_layout import StoredWeights, open_checkpoint, save_checkpoint
from real_backends.executors.pipeline import Pipeline, make_shard
from real_backends.executors.precision import DTYPES
from real_backends.executors.shard import BlocksFull, ExecutorUnavailable, Part, PrefixGone, SessionsFull, Shard
from real_backends.executors.spec import DESK_MINI, DESK_TINY, ModelSpec, RopeScaling, cut_evenly, tensor_shapes
from real_backends.executors.tokens import TEST_PROMPTS, decode, encode

__all__ = [
    "CODINGS",
    "DEFAULT_SEED",
    "DESK_MINI",
    "DESK_TINY",
    "DTYPES",
    "TEST_PROMPTS",
    "Activation",
    "BlocksFull",
    "ExecutorUnavailable",
    "ModelSpec",
    "Part",
    "Pipeline",
    "PrefixGone",
    "Profile",
    "RopeScaling",
    "SessionsFull",
    "Shard",
    "StoredWeights",
    "Weights",
    "calibrate",
    "certify",
    "checkpoint_digest",
    "choose",
    "coding_error",
    "cut_evenly",
    "decode",
    "encode",
    "ends",
    "make_checkpoint",
    "make_shard",
    "open_checkpoint",
    "pack_activation",
    "read_certificate",
    "save_checkpoint",
    "shard_weights",
    "tensor_shapes",
    "unpack_activation",
]
