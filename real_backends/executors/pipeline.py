"""Making shards by name, and running a chain of them in one process."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from policies.jobs import Sampling
from real_backends.executors.checkpoint import Weights
from real_backends.executors.choice import choose, ends
from real_backends.executors.shard import ExecutorUnavailable, Part, Shard
from real_backends.executors.spec import ModelSpec
from scenarios.extras import why_lacking


def make_shard(
    backend: str,
    spec: ModelSpec,
    weights: Weights,
    first: int,
    last: int,
    *,
    threads: int = 1,
    device: str = "auto",
    dtype: str = "fp32",
    blocks: int | None = None,
) -> Shard:
    """A shard of layers [first, last).

    Args:
        backend: "torch" or "jax".
        spec: the shape of the model.
        weights: at least the tensors of these layers.
        first: first layer.
        last: layer after the last.
        threads: CPU threads. JAX fixes its pool once per process, when it first computes: the first JAX shard decides
            unless something did before, and `Shard.threads` says what is in force.
        device: "cpu", "cuda", or "auto" for an accelerator when present.
        dtype: one of `precision.DTYPES`.
        blocks: of its pool, each of 16 tokens in all of its layers; None: `pool.CONTEXTS` full contexts.

    Raises:
        ExecutorUnavailable: the framework or the device is not on this machine, or does not load.
    """
    if threads < 1:
        raise ValueError(f"threads: {threads} is not allowed, expected an integer of at least 1")
    if backend == "jax" and "real_backends.executors.jax_shard" not in sys.modules:
        # XLA reads the size of its pool from here when it starts; jax itself has no such option.
        os.environ["NPROC"] = str(threads)
    if backend in ("torch", "jax") and (why := why_lacking([backend])):
        raise ExecutorUnavailable(why)
    if backend == "torch":
        from real_backends.executors.torch_shard import TorchShard

        return TorchShard(spec, weights, first, last, threads=threads, device=device, dtype=dtype, blocks=blocks)
    if backend == "jax":
        from real_backends.executors.jax_shard import JaxShard

        return JaxShard(spec, weights, first, last, device=device, dtype=dtype, blocks=blocks)
    raise ValueError(f"backend: {backend!r} is not allowed, expected 'torch' or 'jax'")


class Pipeline:
    """Shards that together hold a whole model, in order; each feeds the next."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        if not shards or shards[0].first != 0 or shards[-1].last != shards[-1].spec.layers:
            raise ValueError("shards: they must start at layer 0 and end at the last layer")
        for left, right in itertools.pairwise(shards):
            if left.last != right.first or left.spec != right.spec:
                raise ValueError(
                    f"shards: layers [{left.first}, {left.last}) of {left.spec.name!r} cannot be followed by "
                    f"[{right.first}, {right.last}) of {right.spec.name!r}"
                )
        self.shards = tuple(shards)
        self._names = itertools.count()

    def logits(self, session: str, tokens: Sequence[int], position: int) -> npt.NDArray[np.float32]:
        """Logits [vocab] after `tokens`, the first of which is at `position` of the session."""
        return self.step([Part(session, np.asarray(tokens, dtype=np.int64), position)])[0]

    def step(self, parts: Sequence[Part]) -> list[npt.NDArray[np.float32]]:
        """Logits [vocab] of each session after its new tokens; see `Shard.step`."""
        for shard in self.shards:
            results = shard.step(parts)
            parts = [part._replace(x=x) for part, x in zip(parts, results, strict=True)]
        return results

    def drop(self, session: str) -> None:
        """Free the session on every shard."""
        for shard in self.shards:
            shard.drop(session)

    def generate(self, prompt_tokens: Sequence[int], new_tokens: int, sampling: Sampling | None = None) -> list[int]:
        """At most `new_tokens` tokens after the prompt, by `choose`, in a session of its own, freed at the end."""
        session = f"generate-{next(self._names)}"
        answer: list[int] = []
        chunk, position = list(prompt_tokens), 0
        try:
            for _ in range(new_tokens):
                token = choose(self.logits(session, chunk, position), position + len(chunk), sampling)
                answer.append(token)
                if ends(token, sampling):
                    break
                chunk, position = [token], position + len(chunk)
        finally:
            self.drop(session)
        return answer
