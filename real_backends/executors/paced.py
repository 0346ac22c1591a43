"""Workers that are slower than this machine, or that only hold their time: pacing, in the real world.

`Stretched` lets any shard's step take a factor longer: it computes, then sleeps. `PacedShard` computes nothing: a step
sleeps until the deadline that a profile's law gives, its blocks are as large as a real shard's, and its tokens are a
seeded stand-in, a function of the seed, the position and the token before. So protocol, queues and hops are real, and
no core is worked on. Both sleep in the node's compute thread, which serves one step at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from models import draws
from policies.serving.batching import BLOCK_TOKENS
from real_backends.executors.checkpoint import Weights
from real_backends.executors.pipeline import make_shard
from real_backends.executors.pool import SessionTable
from real_backends.executors.shard import Part, Shard, check_input
from real_backends.executors.spec import ModelSpec
from scenarios.hosts import StepLaw

Clock = Callable[[], float]
Sleep = Callable[[float], None]


class ShardMaker(Protocol):
    """Makes shards, as `make_shard` does."""

    def __call__(
        self, backend: str, spec: ModelSpec, weights: Weights, first: int, last: int, *, blocks: int | None = None
    ) -> Shard:
        """Return a shard of layers [first, last)."""
        ...


class PacedShard:
    """Layers [first, last) that hold the time of each step; see `Shard` for what it promises.

    Args:
        spec: the model.
        first, last: its layers.
        law: what a step takes.
        pacing: factor on it.
        seed: of the tokens.
        clock, sleep: seconds; without a sleep no time is held.
        blocks: of its pool, as of `make_shard`.
    """

    backend, device, threads, dtype = "paced", "none", 1, "fp32"

    def __init__(
        self, spec: ModelSpec, first: int, last: int, law: StepLaw, pacing: float = 1.0, seed: int = 0,
        clock: Clock = time.perf_counter, sleep: Sleep | None = time.sleep, blocks: int | None = None,
    ) -> None:  # fmt: skip
        spec.check_cut(first, last)
        self.spec, self.first, self.last = spec, first, last
        self._law, self._pacing, self._seed, self._clock, self._sleep = law, pacing, seed, clock, sleep
        self.table = SessionTable(spec, blocks)
        shape = (2, last - first, spec.kv_heads, len(self.table.blocks) * BLOCK_TOKENS, spec.head_dim)
        self._pool = np.zeros(shape, np.float32)

    def warm_up(self, sessions: int = 1) -> None:
        """See `Shard.warm_up`: there is nothing to compile."""

    def forward(self, session: str, x: npt.NDArray[Any], position: int) -> npt.NDArray[np.float32]:
        """See `Shard.forward`."""
        return self.step([Part(session, x, position)])[0]

    def step(self, parts: Sequence[Part]) -> list[npt.NDArray[np.float32]]:
        """See `Shard.step`."""
        begun_s = self._clock()
        for part in parts:
            check_input(self.spec, self.first, part.x)
        caches = self.table.claim(parts)
        results = [self._result(part) for part in parts]
        for part, cache in zip(parts, caches, strict=True):
            cache.length = part.position + len(part.x)
        layers, last = self.last - self.first, self.last == self.spec.layers
        step_s = self._law.batch_s(layers, last, [len(part.x) for part in parts])
        _sleep_until(begun_s + self._pacing * step_s, self._clock, self._sleep)
        return results

    def cached(self, session: str, begin: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """See `Shard.cached`."""
        cache = self.table.find(session)
        keys, values = self._pool[:, :, :, cache.places(begin, cache.length)].swapaxes(2, 3)
        return keys, values

    def restore(self, session: str, keys: npt.NDArray[Any], values: npt.NDArray[Any], position: int) -> None:
        """See `Shard.restore`; nothing that is in the pool is ever read."""
        part, cache = self.table.claim_rows(session, keys, position)
        cache.length = position + len(part.x)

    def rename(self, session: str, name: str) -> None:
        """See `Shard.rename`."""
        self.table.rename(session, name)

    def drop(self, session: str) -> None:
        """See `Shard.drop`."""
        self.table.drop(session)

    def sessions(self) -> int:
        """See `Shard.sessions`."""
        return len(self.table)

    def kv_bytes(self) -> int:
        """See `Shard.kv_bytes`."""
        return self.pool_bytes() // len(self.table.blocks) * self.table.held

    def pool_bytes(self) -> int:
        """See `Shard.pool_bytes`."""
        return self._pool.nbytes

    def _result(self, part: Part) -> npt.NDArray[np.float32]:
        """The first number of an activation is the token's id; the last shard's logits have one peak."""
        if self.first == 0:
            out = np.zeros((len(part.x), self.spec.hidden), np.float32)
            out[:, 0] = part.x
        else:
            out = part.x
        if self.last < self.spec.layers:
            return out
        token, position = int(out[-1, 0]), part.position + len(part.x)
        logits = np.zeros(self.spec.vocab, np.float32)
        logits[int(draws.integers(self._seed, "paced token", position, np.array([token]), self.spec.vocab)[0])] = 1.0
        return logits


class Stretched:
    """A shard whose steps take ``pacing`` times as long as they do; see `Shard` for what it promises."""

    def __init__(
        self, inner: Shard, pacing: float, clock: Clock = time.perf_counter, sleep: Sleep = time.sleep
    ) -> None:
        self.inner, self.spec, self.first, self.last = inner, inner.spec, inner.first, inner.last
        self.backend, self.device, self.threads, self.dtype = inner.backend, inner.device, inner.threads, inner.dtype
        self.warm_up, self.drop, self.table = inner.warm_up, inner.drop, inner.table
        self.cached, self.restore, self.rename = inner.cached, inner.restore, inner.rename
        self.sessions, self.kv_bytes, self.pool_bytes = inner.sessions, inner.kv_bytes, inner.pool_bytes
        self._pacing, self._clock, self._sleep = pacing, clock, sleep

    def step(self, parts: Sequence[Part]) -> list[npt.NDArray[np.float32]]:
        """See `Shard.step`."""
        begun_s = self._clock()
        results = self.inner.step(parts)
        _sleep_until(begun_s + self._pacing * (self._clock() - begun_s), self._clock, self._sleep)
        return results

    def forward(self, session: str, x: npt.NDArray[Any], position: int) -> npt.NDArray[np.float32]:
        """See `Shard.forward`."""
        return self.step([Part(session, x, position)])[0]


def maker(law: Callable[[str], StepLaw], *, paced: bool, pacing: float, seed: int) -> ShardMaker:
    """Return what makes a worker's shards: computing ones, stretched by pacing, or such as only hold their time.

    Args:
        law: a model's name to what its steps take.
    """

    def make(
        backend: str, spec: ModelSpec, weights: Weights, first: int, last: int, *, blocks: int | None = None
    ) -> Shard:
        if paced:
            return PacedShard(spec, first, last, law(spec.name), pacing, seed, blocks=blocks)
        shard = make_shard(backend, spec, weights, first, last, blocks=blocks)
        return shard if pacing == 1.0 else Stretched(shard, pacing)

    return make


def _sleep_until(deadline_s: float, clock: Clock, sleep: Sleep | None) -> None:
    left_s = deadline_s - clock()
    if sleep is not None and left_s > 0:
        sleep(left_s)
