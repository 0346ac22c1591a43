"""The project's own checkpoints, made from a seed, and how clearly their greedy tokens are decided.

`tiny` is for correctness, `small` for speed. The weights are random: what they say means nothing, but the arithmetic is
a real model's, and every machine writes the same bytes. Their head is scaled so that a tie between the two best tokens,
which rounding could turn, is rare: `top_two_gaps` measures how rare.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from policies.serving.batching import BLOCK_TOKENS
from real_backends.executors.agreement import GAP_MIN, draw_streams, force, gaps_of
from real_backends.executors.checkpoint import Weights
from real_backends.executors.pipeline import Pipeline, make_shard
from real_backends.executors.shard import SESSIONS_MAX
from real_backends.executors.spec import ModelSpec

HEAD_GAIN = 8.0
"""About the standard deviation of a logit. With it the gap between the best two of `vocab` logits is about exponential
with mean 8 / sqrt(2 ln vocab) (extreme values of normal draws: Leadbetter et al. 1983, theorem 1.5.3), so a share of
4e-4 to 6e-4 of the gaps lies below 1e-3."""
SHARE_MIN = 0.999  # of the gaps that must exceed `GAP_MIN`


class Recipe(NamedTuple):
    """A model of ours and what it is for."""

    spec: ModelSpec
    purpose: str


RECIPES = {
    "tiny": Recipe(
        ModelSpec("tiny", layers=4, hidden=64, heads=4, kv_heads=2, head_dim=16, ffn=192, vocab=512, context=512),
        "correctness",
    ),
    "small": Recipe(
        ModelSpec(
            "small", layers=12, hidden=768, heads=12, kv_heads=4, head_dim=64, ffn=2304, vocab=16384, context=1024
        ),
        "speed",
    ),
}
"""Sizes are assumptions: 0.25 and 107.8 million parameters, grouped queries and a feed-forward ratio of 3 in both."""


def top_two_gaps(backend: str, spec: ModelSpec, weights: Weights, positions: int) -> npt.NDArray[np.float32]:
    """The lead of the best logit over the second after each of so many random tokens, in batches of `SESSIONS_MAX`.

    Raises:
        ExecutorUnavailable: the backend is not installed.
    """
    length = -(-positions // SESSIONS_MAX)
    short, blocks = replace(spec, context=length), SESSIONS_MAX * -(-length // BLOCK_TOKENS)  # all sessions at once
    line = Pipeline([make_shard(backend, short, weights, 0, spec.layers, device="cpu", blocks=blocks)])
    streams = draw_streams(spec.vocab, SESSIONS_MAX, length, 0)
    return gaps_of(force(line, streams, together=SESSIONS_MAX)).ravel()[:positions]


def decided(gaps: npt.NDArray[np.float32]) -> float:
    """The share of gaps above `GAP_MIN`."""
    return float(np.mean(gaps > GAP_MIN))
