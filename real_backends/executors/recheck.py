"""The verifier's side: a second worker computes a challenged place of a session again.

It starts from the tokens with all layers up to the stage's last, or from the activations that the stage took, which
both neighbours had committed to, with the stage's layers alone. Either way it goes from position 0 to the end of the
challenged block in one pass: a prefill, which takes far less time than decoding did. Only where the logits of a block
are wanted it goes token by token, since a shard gives those of the newest token alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.verification import (
    Challenge,
    Commitment,
    Opening,
    Recomputed,
    Tolerance,
    Verdict,
    digest_of,
    hash_leaf,
    judge,
    root_of,
    tokens_digest,
)
from policies.verification.verdict import cache_block
from real_backends.executors.shard import Shard
from real_backends.executors.witness import blocks_of

SESSION = "recheck"

Rows = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int64]


def are_inputs_of(commitment: Commitment, came: Rows) -> bool:
    """Whether these numbers, in order of position, are what a stage committed to have taken."""
    if not commitment.positions or came.size % commitment.positions:
        return False
    rows = came.reshape(commitment.positions, -1)
    return root_of([hash_leaf(digest_of(block)) for block in blocks_of(rows)]) == commitment.inputs


def recompute(
    shards: Sequence[Shard], tokens: Tokens, commitment: Commitment, challenge: Challenge, came: Rows | None = None
) -> Recomputed:
    """Compute a challenged place again.

    Args:
        shards: neighbours in order, from layer 0, or from the stage's first where ``came`` is given, to its last.
        tokens: of the session, prompt and answer, one more than the cache has positions.
        commitment: what is checked.
        challenge: where.
        came: what the stage took, float32 [positions, hidden].

    Raises:
        ValueError: other layers, or tokens or activations that the commitment is not of.
    """
    _check_layers(shards, commitment, 0 if came is None else commitment.first)
    if tokens_digest(tokens) != commitment.tokens or len(tokens) != commitment.positions + 1:
        raise ValueError("recheck: these tokens are not those that the stage committed to")
    if came is not None and not are_inputs_of(commitment, came):
        raise ValueError("recheck: these activations are not those that the stage committed to")
    inputs: npt.NDArray[Any] = tokens if came is None else came
    span, block = commitment.span(challenge.block), cache_block(commitment, challenge.block)
    layer = commitment.first + challenge.layer
    try:
        if commitment.last < shards[-1].spec.layers:
            outputs, deficit = _run(shards, inputs[: block.stop], 0)[span.start :], 0.0
        else:
            rows = [_run(shards, inputs[: span.start + 1], 0)]
            rows += [_run(shards, inputs[at : at + 1], at) for at in span[1:]]
            outputs = np.stack(rows)
            deficit = deficit_of(outputs, tokens[span.start + 1 : span.stop + 1])
        holder = next(shard for shard in shards if shard.first <= layer < shard.last)
        keys, values = (
            part[layer - holder.first, block.start : block.stop].reshape(len(block), -1)
            for part in holder.cached(SESSION)
        )
    finally:
        for shard in shards:
            shard.drop(SESSION)
    return Recomputed(outputs, keys, values, deficit)


def deficit_of(logits: Rows, tokens: Tokens) -> float:
    """Return by how much tokens fall short of the best logits [n, vocab], over their length, at the worst position.

    Infinitely, where one is no token at all.
    """
    if not ((tokens >= 0) & (tokens < logits.shape[1])).all():
        return float("inf")
    chosen = np.take_along_axis(logits, tokens[:, None], axis=1)[:, 0]
    return float(np.max((logits.max(axis=1) - chosen) / np.linalg.norm(logits, axis=1)))


def recheck(
    shards: Sequence[Shard],
    tokens: Tokens,
    commitment: Commitment,
    challenge: Challenge,
    opening: Opening,
    tolerance: Tolerance,
    came: Rows | None = None,
) -> Verdict:
    """Compute a challenged place again and judge what the worker opened there; see `recompute`."""
    found = recompute(shards, tokens, commitment, challenge, came)
    return judge(commitment, challenge, opening, found, tolerance)


def _run(shards: Sequence[Shard], x: npt.NDArray[Any], position: int) -> Rows:
    for shard in shards:
        x = shard.forward(SESSION, x, position)
    return x


def _check_layers(shards: Sequence[Shard], commitment: Commitment, first: int) -> None:
    joined = all(left.last == right.first for left, right in itertools.pairwise(shards))
    if not shards or not joined or (shards[0].first, shards[-1].last) != (first, commitment.last):
        held = ", ".join(f"[{shard.first}, {shard.last})" for shard in shards) or "none"
        raise ValueError(f"recheck: layers {held} cannot check [{commitment.first}, {commitment.last}) from {first}")
