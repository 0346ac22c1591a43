"""What every executor promises, and the checks that all share. Imports no framework."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from real_backends.executors.spec import ModelSpec

if TYPE_CHECKING:
    from real_backends.executors.pool import SessionTable

# Assumption: a desk machine serves at most this many sessions at once; a limit keeps a flood from eating the
# memory.
SESSIONS_MAX = 64

Vector = TypeVar("Vector")
Matrix = TypeVar("Matrix")
Layer = TypeVar("Layer")


class ExecutorUnavailable(RuntimeError):
    """The framework or the device asked for is not on this machine."""


class SessionsFull(RuntimeError):
    """The shard already holds `SESSIONS_MAX` sessions; drop one first."""


class BlocksFull(RuntimeError):
    """The shard's pool has no block for a session that grows; drop one first."""


class PrefixGone(RuntimeError):
    """A session was to begin with shared blocks, and they are not here (any more); it can begin without them."""


class Part(NamedTuple):
    """What one session contributes to a step: `x` as in `Shard.forward`, the first token of it at `position`."""

    session: str
    x: npt.NDArray[Any]
    position: int


class Shard(Protocol):
    """Layers [first, last) of a model with the KV cache of each session. Used by one thread at a time.

    Caches are blocks of one pool, which has its size from the beginning (`real_backends.executors.pool`). Whatever the
    format of its weights, float32 goes in and comes out: it holds every value of the narrower formats.

    Attributes:
        table: whose blocks are whose; there sessions share equal beginnings.
    """

    spec: ModelSpec
    first: int
    last: int
    backend: str
    device: str
    threads: int
    dtype: str
    table: SessionTable

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
        was lost can be sent again, and position 0 starts over. A position past the end is an error. Blocks that are
        no longer needed are free at once.

        Args:
            session: any name; a new one starts at position 0.
            x: int64 token ids [n] for the first shard, else float32 activations [n, hidden].
            position: index of the first new token.

        Returns:
            float32 activations [n, hidden], or, from the last shard, float32 logits [vocab] of the last
            token.
        """
        ...

    def cached(self, session: str, begin: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Copy a session's keys and values from a position on, each float32 [layers, positions, kv_heads, head_dim].

        Raises:
            ValueError: no such session.
        """
        ...

    def restore(self, session: str, keys: npt.NDArray[Any], values: npt.NDArray[Any], position: int) -> None:
        """Put what `cached` gave, from ``position`` on, into a session; what it had from there on is forgotten.

        Raises:
            ValueError, SessionsFull, BlocksFull: as a step does, and for another shape.
        """
        ...

    def rename(self, session: str, name: str) -> None:
        """Let a session's cache be another's, which loses its own.

        Raises:
            ValueError: no such session.
        """
        ...

    def drop(self, session: str) -> None:
        """Free a session and its blocks; one that is not there is no error."""
        ...

    def sessions(self) -> int:
        """How many sessions hold a cache."""
        ...

    def kv_bytes(self) -> int:
        """How many bytes the blocks take that sessions hold, filled or not."""
        ...

    def pool_bytes(self) -> int:
        """How many bytes all blocks take, held or not: what was allocated, as its arrays say."""
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


def check_input(spec: ModelSpec, first: int, x: npt.NDArray[Any]) -> None:
    """Refuse anything but token ids [n] for the first shard, float32 activations [n, hidden] for others."""
    if first == 0:
        if x.dtype != np.int64 or x.ndim != 1 or not x.size:
            raise ValueError(f"x: {x.dtype} {x.shape} is not allowed, expected int64 token ids [n], n >= 1")
        if x.min() < 0 or x.max() >= spec.vocab:
            raise ValueError(f"x: token {x.min()}..{x.max()} is not allowed, expected 0..{spec.vocab - 1}")
    elif x.dtype != np.float32 or x.ndim != 2 or x.shape[1] != spec.hidden or not x.size:
        raise ValueError(f"x: {x.dtype} {x.shape} is not allowed, expected float32 [n, {spec.hidden}], n >= 1")
