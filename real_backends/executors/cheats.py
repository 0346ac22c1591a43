"""What a lazy worker would compute instead of its layers: the weights it would use, for the checks that must find it.

Each takes right weights and returns the cheat's; the shard that runs them is the ordinary one, so that its cache, its
digests and its commitment fit together. A cache of another history needs no weights: `stale_inputs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from real_backends.executors.checkpoint import Tensor, Weights
from real_backends.executors.paced import ShardMaker
from real_backends.executors.shard import Part, Shard
from real_backends.executors.spec import ModelSpec, layer_parts

GROUP = 32
"""Numbers that share a scale in four bits, as in llama.cpp's Q4_0: finer than a row, so harder to notice."""


def wrong_layer(spec: ModelSpec, weights: Weights, layer: int, other: int) -> Weights:
    """Return weights in which ``layer`` is ``other``."""
    parts = layer_parts(spec)
    return {**weights, **{f"layers.{layer}.{part}": weights[f"layers.{other}.{part}"] for part in parts}}


def skipped_layer(weights: Weights, layer: int) -> Weights:
    """Return weights with which a layer hands on what it got; its keys and values are right, so only outputs tell."""
    silent = {name: np.zeros(weights[name].shape, np.float32) for name in (f"layers.{layer}.o", f"layers.{layer}.down")}
    return {**weights, **silent}


def four_bits(weights: Weights) -> Weights:
    """Return weights whose layers' matrices are rounded to 16 levels, a scale for each `GROUP` numbers of a row."""
    rounded: dict[str, Tensor] = dict(weights)
    for name, tensor in weights.items():
        if name.startswith("layers.") and len(tensor.shape) == 2:
            rounded[name] = _round(np.asarray(tensor))
    return rounded


def _round(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Round as Q4_0 does: the number that is largest in magnitude becomes level -8 of -8 .. 7.

    The rule is that of llama.cpp (ggml-quants.c, quantize_row_q4_0_ref), with scales in float32, which is finer.
    """
    groups = matrix.reshape(-1, GROUP)
    largest = np.take_along_axis(groups, np.abs(groups).argmax(axis=1)[:, None], axis=1)
    scales = np.where(largest == 0, 1, largest / -8)
    levels = np.clip(np.rint(groups / scales), -8, 7)
    return (levels * scales).astype(np.float32).reshape(matrix.shape)


def stale_inputs(right: npt.NDArray[np.float32], other: npt.NDArray[np.float32], until: int) -> npt.NDArray[np.float32]:
    """Return inputs [n, ...] with which a cache holds another history's keys and values before position ``until``."""
    return np.concatenate((other[:until], right[until:]))


STALE = 16
"""Positions whose keys and values are another session's: a block (`policies.verification.BLOCK`)."""


class Stale:
    """A shard whose caches begin with a block of another session's; see `Shard` for the rest."""

    def __init__(self, inner: Shard) -> None:
        self.inner, self.spec, self.first, self.last = inner, inner.spec, inner.first, inner.last
        self.backend, self.device, self.threads, self.dtype = inner.backend, inner.device, inner.threads, inner.dtype
        self.warm_up, self.drop, self.cached, self.sessions = inner.warm_up, inner.drop, inner.cached, inner.sessions
        self.kv_bytes, self.pool_bytes = inner.kv_bytes, inner.pool_bytes
        self.restore, self.rename, self.table = inner.restore, inner.rename, inner.table

    def forward(self, session: str, x: npt.NDArray[Any], position: int) -> npt.NDArray[np.float32]:
        """See `Shard.forward`."""
        return self.step([Part(session, x, position)])[0]

    def step(self, parts: Sequence[Part]) -> list[npt.NDArray[np.float32]]:
        """See `Shard.step`."""
        return self.inner.step([part._replace(x=self._other(part)) for part in parts])

    def _other(self, part: Part) -> npt.NDArray[Any]:
        """Return what came in, with another session's in place of the first block."""
        until = min(max(STALE - part.position, 0), len(part.x))
        other = self.spec.vocab - 1 - part.x if self.first == 0 else part.x[:, ::-1]
        return stale_inputs(part.x, other, until)


def cheating(make: ShardMaker, cheat: str) -> ShardMaker:
    """Return what makes the shards of a worker that shirks (`scenarios.adversaries.behaviours.Shirk`)."""

    def made(
        backend: str, spec: ModelSpec, weights: Weights, first: int, last: int, *, blocks: int | None = None
    ) -> Shard:
        layer = last - 1
        if cheat == "wrong_layer":
            weights = wrong_layer(spec, weights, layer, layer - 1 if layer else min(1, spec.layers - 1))
        elif cheat == "skipped_layer":
            weights = skipped_layer(weights, layer)
        elif cheat == "four_bits":
            weights = four_bits(weights)
        shard = make(backend, spec, weights, first, last, blocks=blocks)
        return Stale(shard) if cheat == "stale_cache" else shard

    return made
