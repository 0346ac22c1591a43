"""The pool of a shard's KV cache: blocks of 16 tokens in each of its layers, and which session holds which.

How many there are is fixed when the shard is made; a session takes blocks as it grows and gives them back when it is
dropped or starts over (PagedAttention: Kwon et al., SOSP 2023). Whose turn it is to hold blocks is `policies.serving`'s
to decide; here they have places. A session whose blocks lie one behind another is read in place, one whose blocks do
not is gathered in every step, at the price of a copy. So a session grows into the block behind its last one, and one
that begins does so where it and the one before it have most room to grow. Imports no framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.serving.batching import BLOCK_TOKENS
from real_backends.executors.shard import SESSIONS_MAX, BlocksFull, Part, SessionsFull
from real_backends.executors.spec import ModelSpec

CONTEXTS = 4
"""Whole contexts that fit into a pool that nobody gave a size: as many as ``sharding.slots`` has by default."""

Places = npt.NDArray[np.int64]


class Blocks:
    """Which blocks of a pool are free.

    Args:
        count: how many there are, at least 1.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"blocks: {count} is not allowed, expected an integer of at least 1")
        self._free = np.ones(count, dtype=bool)
        self.room = count

    def __len__(self) -> int:
        return len(self._free)

    def take(self, count: int, last: int | None) -> list[int]:
        """Take blocks, behind block ``last`` where they are free; there must be room for them."""
        taken: list[int] = []
        self.room -= count
        while len(taken) < count:
            at = len(self._free) if last is None else last + 1
            if at >= len(self._free) or not self._free[at]:
                at = self._begin(count - len(taken))
            while len(taken) < count and at < len(self._free) and self._free[at]:
                self._free[at] = False
                taken.append(at)
                at += 1
            last = taken[-1]
        return taken

    def give_back(self, blocks: Sequence[int]) -> None:
        """Free blocks."""
        self._free[list(blocks)] = True
        self.room += len(blocks)

    def _begin(self, count: int) -> int:
        """Return where a run of ``count`` blocks begins: as far from its neighbours as the longest free run lets it."""
        edges = np.flatnonzero(np.diff(np.concatenate(([False], self._free, [False])).astype(np.int8)))
        begins, ends = edges[::2], edges[1::2]
        longest = int(np.argmax(ends - begins))
        begin, spare = int(begins[longest]), max(0, int(ends[longest] - begins[longest]) - count)
        return begin + spare // 2 if begin else 0  # nobody grows into the pool's first block


class Cache:
    """What one session holds.

    Attributes:
        blocks: in the order of its tokens.
        length: tokens whose keys and values are there.
    """

    __slots__ = ("blocks", "length")

    def __init__(self) -> None:
        self.blocks: list[int] = []
        self.length = 0

    def span(self, end: int) -> slice | None:
        """Return the places of tokens [0, end) where they lie one behind another; None where they do not."""
        first, count = self.blocks[0], -(-end // BLOCK_TOKENS)
        if self.blocks[count - 1] - first != count - 1 or self.blocks[:count] != list(range(first, first + count)):
            return None
        return slice(first * BLOCK_TOKENS, first * BLOCK_TOKENS + end)

    def places(self, begin: int, end: int) -> Places:
        """Return the place in the pool, in tokens, of each token of [begin, end)."""
        tokens = np.arange(begin, end)
        return np.asarray(self.blocks, np.int64)[tokens // BLOCK_TOKENS] * BLOCK_TOKENS + tokens % BLOCK_TOKENS


class SessionTable:
    """Sessions by name, each with its blocks.

    Args:
        spec: the model.
        blocks: of the pool; None: enough for `CONTEXTS` sessions of the full context.
    """

    def __init__(self, spec: ModelSpec, blocks: int | None) -> None:
        self.spec = spec
        self.blocks = Blocks(
            max(SESSIONS_MAX, CONTEXTS * -(-spec.context // BLOCK_TOKENS)) if blocks is None else blocks
        )
        self._caches: dict[str, Cache] = {}

    def claim(self, parts: Sequence[Part]) -> list[Cache]:
        """Return what each part extends, with blocks for its tokens; nothing is changed where one part does not fit.

        Raises:
            ValueError: a position or length that does not fit, or a session named twice.
            SessionsFull, BlocksFull: there is no room for the new ones.
        """
        fresh = needed = 0
        for session, x, position in parts:
            cache = self._caches.get(session)
            length, held = (cache.length, len(cache.blocks)) if cache else (0, 0)
            end = position + len(x)
            if not 0 <= position <= length:
                raise ValueError(f"position: {position} is not allowed, session {session!r} holds {length} tokens")
            if end > self.spec.context:
                raise ValueError(f"session {session!r}: {end} tokens are not allowed, at most {self.spec.context}")
            fresh += cache is None
            needed += -(-end // BLOCK_TOKENS) - held
            if len(self._caches) + fresh > SESSIONS_MAX:
                raise SessionsFull(f"session {session!r}: refused, all {SESSIONS_MAX} sessions are taken")
        if len({part.session for part in parts}) < len(parts):
            raise ValueError("parts: a session is named twice, allowed is once a step")
        if needed > self.blocks.room:
            raise BlocksFull(f"{needed} blocks: refused, {self.blocks.room} of {len(self.blocks)} are free")
        for part in parts:  # first those that start over: others may need what they give back
            if (cache := self._caches.get(part.session)) is not None:
                self._cut(cache, part.position + len(part.x))
        return [self._extend(part) for part in parts]

    def _cut(self, cache: Cache, end: int) -> None:
        keep = -(-end // BLOCK_TOKENS)
        if keep < len(cache.blocks):
            self.blocks.give_back(cache.blocks[keep:])
            del cache.blocks[keep:]

    def _extend(self, part: Part) -> Cache:
        cache = self._caches.setdefault(part.session, Cache())
        cache.length = part.position
        missing = -(-(part.position + len(part.x)) // BLOCK_TOKENS) - len(cache.blocks)
        if missing > 0:
            cache.blocks += self.blocks.take(missing, cache.blocks[-1] if cache.blocks else None)
        return cache

    def find(self, session: str) -> Cache:
        """Return what a session holds.

        Raises:
            ValueError: no such session.
        """
        if session not in self._caches:
            raise ValueError(f"session {session!r}: there is none")
        return self._caches[session]

    def rename(self, session: str, name: str) -> None:
        """Let a session be called otherwise; who was called so before loses what it holds.

        Raises:
            ValueError: no such session.
        """
        cache = self.find(session)
        del self._caches[session]
        self.drop(name)
        self._caches[name] = cache

    def claim_rows(self, session: str, rows: npt.NDArray[Any], position: int) -> tuple[Part, Cache]:
        """Return what takes keys, or values, from a position on: as of `claim`.

        Raises:
            ValueError: they are not [layers, positions, kv_heads, head_dim], or as there.
            SessionsFull, BlocksFull: as there.
        """
        heads = (self.spec.kv_heads, self.spec.head_dim)
        if rows.ndim != 4 or rows.shape[2:] != heads or not rows.shape[1]:
            raise ValueError(
                f"cache: {rows.shape} is not allowed, expected [layers, n, {heads[0]}, {heads[1]}], n >= 1"
            )
        part = Part(session, rows[0, :, 0, 0], position)
        return part, self.claim([part])[0]

    def drop(self, session: str) -> None:
        """Take back what a session holds, if there is one."""
        if (cache := self._caches.pop(session, None)) is not None:
            self.blocks.give_back(cache.blocks)

    def clear(self) -> None:
        """Take back what all sessions hold."""
        for session in list(self._caches):
            self.drop(session)

    @property
    def held(self) -> int:
        """Blocks that sessions hold."""
        return len(self.blocks) - self.blocks.room

    def __len__(self) -> int:
        return len(self._caches)
