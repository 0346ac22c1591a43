"""What every executor promises, and the checks and session table they share. Imports no framework."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from real_backends.executors.spec import ModelSpec

# Assumption: a desk machine serves at most this many sessions at once; a limit keeps a flood from eating the
# memory.
SESSIONS_MAX = 64

Cache = TypeVar("Cache")
Vector = TypeVar("Vector")
Matrix = TypeVar("Matrix")
Layer = TypeVar("Layer")


class ExecutorUnavailable(RuntimeError):
    """The framework or the device asked for is not on this machine."""


class SessionsFull(RuntimeError):
    """The shard already holds `SESSIONS_MAX` sessions; drop one first."""


class Part(NamedTuple):
    """What one session contributes to a step: `x` as in `Shard.forward`, the first token of it at `position`."""

    session: str
    x: npt.NDArray[Any]
    position: int


class Shard(Protocol):
    """Layers [first, last) of a model with the KV cache of each session. Used by one thread at a time.

    Whatever the format of its weights, float32 goes in and comes out: it holds every value of the narrower formats.
    """

    spec: ModelSpec
    first: int
    last: int
    backend: str
    device: str
    threads: int
    dtype: str

    def warm_up(self, sessions: int = 1) -> None:
        """Run one step of every size that may come, with up to so many sessions, so that none waits for a compiler.

        The shard's sessions are not touched.
        """
        ...

    def step(self, parts: Sequence[Part]) -> list[npt.NDArray[np.float32]]:
        """Run new tokens of several sessions at once, each from its own position; results in the same order.

        All parts are checked before any is run: a step that is refused has changed no session.
        """
        ...

    def forward(self, session: str, x: npt.NDArray[Any], position: int) -> npt.NDArray[np.float32]:
        """Run n new tokens that start at `position` of a session.

        A position before the end of the session forgets everything from there on, so that a step whose answer
        was lost can be sent again, and position 0 starts over. A position past the end is an error.

        Args:
            session: any name; a new one starts at position 0.
            x: int64 token ids [n] for the first shard, else float32 activations [n, hidden].
            position: index of the first new token.

        Returns:
            float32 activations [n, hidden], or, from the last shard, float32 logits [vocab] of the last
            token.
        """
        ...

    def cached(self, session: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Copy a session's keys and values, each float32 [layers, positions, kv_heads, head_dim].

        Raises:
            ValueError: no such session.
        """
        ...

    def drop(self, session: str) -> None:
        """Free a session; one that is not there is no error."""
        ...

    def sessions(self) -> int:
        """How many sessions hold a cache."""
        ...

    def kv_bytes(self) -> int:
        """How many bytes the caches of all sessions take, filled or not."""
        ...


def build_layer(
    index: int,
    vector: Callable[..., Vector],
    matrix: Callable[..., Matrix],
    make: Callable[[Vector, Matrix, Matrix, Vector, Matrix, Matrix], Layer],
) -> Layer:
    """Make one layer of its tensors, by name; those that meet the same input are joined into one matrix."""
    at = f"layers.{index}."
    return make(
        vector(at + "attn_norm"), matrix(at + "q", at + "k", at + "v"), matrix(at + "o"),
        vector(at + "ffn_norm"), matrix(at + "gate", at + "up"), matrix(at + "down"),
    )  # fmt: skip


class SessionTable(Generic[Cache]):
    """Caches by session name, each with the number of positions that are filled."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self._entries: dict[str, tuple[Cache, int]] = {}

    def claim(self, parts: Sequence[Part], make: Callable[[], Cache]) -> list[Cache]:
        """The cache that each part extends, made where its session is new.

        Raises:
            ValueError: a position or length that does not fit, or a session named twice.
            SessionsFull: there is no room for the new ones.
        """
        fresh = 0
        for session, x, position in parts:
            _, length = self._entries.get(session, (None, 0))
            if not 0 <= position <= length:
                raise ValueError(f"position: {position} is not allowed, session {session!r} holds {length} tokens")
            if position + len(x) > self.spec.context:
                raise ValueError(
                    f"session {session!r}: {position + len(x)} tokens are not allowed, at most {self.spec.context}"
                )
            fresh += session not in self._entries
            if len(self._entries) + fresh > SESSIONS_MAX:
                raise SessionsFull(f"session {session!r}: refused, all {SESSIONS_MAX} sessions are taken")
        if len({part.session for part in parts}) < len(parts):
            raise ValueError("parts: a session is named twice, allowed is once a step")
        return [self._entries[p.session][0] if p.session in self._entries else make() for p in parts]

    def store(self, session: str, cache: Cache, length: int) -> None:
        """Keep a cache of which the first `length` positions are filled."""
        self._entries[session] = (cache, length)

    def find(self, session: str) -> tuple[Cache, int]:
        """Return a session's cache and how many positions of it are filled.

        Raises:
            ValueError: no such session.
        """
        if session not in self._entries:
            raise ValueError(f"session {session!r}: there is none")
        return self._entries[session]

    def drop(self, session: str) -> None:
        """Forget a session, if there is one."""
        self._entries.pop(session, None)

    def allocated_bytes(self) -> int:
        """Bytes of all caches, as their arrays say; one cache is an array, or any nesting of sequences of them."""
        return sum(_array_bytes(cache) for cache, _ in self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)


def _array_bytes(cache: Any) -> int:
    size = getattr(cache, "nbytes", None)
    return int(size) if size is not None else sum(_array_bytes(part) for part in cache)


def check_input(spec: ModelSpec, first: int, x: npt.NDArray[Any]) -> None:
    """Refuse anything but token ids [n] for the first shard, float32 activations [n, hidden] for others."""
    if first == 0:
        if x.dtype != np.int64 or x.ndim != 1 or not x.size:
            raise ValueError(f"x: {x.dtype} {x.shape} is not allowed, expected int64 token ids [n], n >= 1")
        if x.min() < 0 or x.max() >= spec.vocab:
            raise ValueError(f"x: token {x.min()}..{x.max()} is not allowed, expected 0..{spec.vocab - 1}")
    elif x.dtype != np.float32 or x.ndim != 2 or x.shape[1] != spec.hidden or not x.size:
        raise ValueError(f"x: {x.dtype} {x.shape} is not allowed, expected float32 [n, {spec.hidden}], n >= 1")
