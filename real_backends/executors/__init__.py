"""Executors: a real, small transformer, cut into contiguous layer shards that run in torch or in JAX.

numpy arrays at every edge. Importing this package imports neither torch nor jax; the first shard of a kind
does.

    weights = make_checkpoint(DESK_TINY, DEFAULT_SEED)
    shards = [make_shard("torch", DESK_TINY, weights, 0, 3), make_shard("jax", DESK_TINY, weights, 3, 8)]
    tokens = Pipeline(shards).generate(encode("Hello, village."), 32)
"""

from __future__ import annotations

from real_backends.executors.activation import pack_activation, unpack_activation
from real_backends.executors.calibration import Profile, calibrate
from real_backends.executors.certificate import DEFAULT_SEED, certify, read_certificate
from real_backends.executors.checkpoint import (
    Weights,
    checkpoint_digest,
    make_checkpoint,
    read_checkpoint,
    shard_weights,
    write_checkpoint,
)
from real_backends.executors.pipeline import Pipeline, make_shard
from real_backends.executors.shard import ExecutorUnavailable, SessionsFull, Shard
from real_backends.executors.spec import DESK_TINY, ModelSpec
from real_backends.executors.tokens import TEST_PROMPTS, decode, encode

__all__ = [
    "DEFAULT_SEED",
    "DESK_TINY",
    "TEST_PROMPTS",
    "ExecutorUnavailable",
    "ModelSpec",
    "Pipeline",
    "Profile",
    "SessionsFull",
    "Shard",
    "Weights",
    "calibrate",
    "certify",
    "checkpoint_digest",
    "decode",
    "encode",
    "make_checkpoint",
    "make_shard",
    "pack_activation",
    "read_certificate",
    "read_checkpoint",
    "shard_weights",
    "unpack_activation",
    "write_checkpoint",
]
