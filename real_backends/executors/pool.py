"""The pool of a shard's KV cache: blocks of 16 tokens in each of its layers, and which session holds which.

How many there are is fixed when the shard is made; a session takes blocks as it grows and gives them back when it is
dropped or starts over (PagedAttention: Kwon et al., SOSP 2023). Whose turn it is to hold blocks is `policies.serving`'s
to decide; here they have places. A session whose blocks lie one behind another is read in place, one whose blocks do
not is gathered in every step, at the price of a copy. So a session grows into the block behind its last one, and one
that begins does so where it and the one before it have most room to grow. Imports no framework.

A full block may have a name, which stands for all tokens up to its end. Sessions that begin with the same names share
the blocks; who holds which, and which of those that nobody holds goes first, is `policies.serving.blocks`'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.serving.batching import BLOCK_TOKENS
from policies.serving.blocks import BlockPool, Name
from real_backends.executors.shard import SESSIONS_MAX, BlocksFull, Part, SessionsFull
from real_backends.executors.spec import ModelSpec

CONTEXTS = 4
"""Whole contexts that fit into a pool that nobody gave a size: as many as ``sharding.slots`` has by default."""

Places = npt.NDArray[np.int64]


class Blocks:
    """Which blocks of a pool keep nothing.

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
        names: of the first of them; others may hold those as well, and nobody writes to them.
        length: tokens whose keys and values are there.
    """

    __slots__ = ("blocks", "length", "names")

    def __init__(self) -> None:
        self.blocks: list[int] = []
        self.names: list[Name] = []
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
        self._pool = BlockPool(len(self.blocks))
        self._named: dict[Name, int] = {}
        self._caches: dict[str, Cache] = {}

    # -- steps -----------------------------------------------------------------------------------------------------

    def claim(self, parts: Sequence[Part]) -> list[Cache]:
        """Return what each part extends, with blocks for its tokens; nothing is changed where one part does not fit.

        Raises:
            ValueError: a position or length that does not fit, within a block that others hold too, or a session named
                twice.
            SessionsFull, BlocksFull: there is no room for the new ones.
        """
        fresh = needed = 0
        for session, x, position in parts:
            cache = self._caches.get(session)
            length, end = cache.length if cache else 0, position + len(x)
            if not 0 <= position <= length:
                raise ValueError(f"position: {position} is not allowed, session {session!r} holds {length} tokens")
            if end > self.spec.context:
                raise ValueError(f"session {session!r}: {end} tokens are not allowed, at most {self.spec.context}")
            fresh += cache is None
            needed += -(-end // BLOCK_TOKENS) - (self._left(cache, position) if cache else 0)
            if len(self._caches) + fresh > SESSIONS_MAX:
                raise SessionsFull(f"session {session!r}: refused, all {SESSIONS_MAX} sessions are taken")
        if len({part.session for part in parts}) < len(parts):
            raise ValueError("parts: a session is named twice, allowed is once a step")
        if needed > self._pool.room:
            raise BlocksFull(f"{needed} blocks: refused, {self._pool.room} of {len(self.blocks)} are free")
        for part in parts:  # first those that start over: others may need what they give back
            if (cache := self._caches.get(part.session)) is not None:
                self._cut(cache, part.position, part.position + len(part.x))
        return [self._extend(part) for part in parts]

    def _left(self, cache: Cache, position: int) -> int:
        """Return how many blocks a session goes on with, or gives to whoever needs them, if it writes from there on."""
        begin, inside = divmod(position, BLOCK_TOKENS)
        if inside and begin < len(cache.names) and self._pool.held[cache.names[begin]] > 1:
            raise ValueError(f"position: {position} is not allowed, others hold the block that it is in")
        return len(cache.blocks) - sum(self._pool.held[name] > 1 for name in cache.names[begin:])

    def _cut(self, cache: Cache, position: int, end: int) -> None:
        """Let a session have no blocks behind ``end``, and none with a name from ``position`` on."""
        begin, inside = divmod(position, BLOCK_TOKENS)
        if inside and begin < len(cache.names):
            self._release(cache, begin + 1)
            name = cache.names.pop()
            self._pool.unname(name)
            del self._named[name]
        elif begin < len(cache.names):
            self._release(cache, begin)
        self._release(cache, min(len(cache.blocks), -(-end // BLOCK_TOKENS)))

    def _release(self, cache: Cache, begin: int) -> None:
        """Let go of a session's blocks from number ``begin`` on; those with a name stay for who may want them."""
        own = cache.blocks[max(begin, len(cache.names)) :]
        self._pool.release(cache.names[begin:], len(own))
        self.blocks.give_back(own)
        del cache.blocks[begin:], cache.names[begin:]

    def _extend(self, part: Part) -> Cache:
        cache = self._caches.setdefault(part.session, Cache())
        cache.length = part.position
        missing = -(-(part.position + len(part.x)) // BLOCK_TOKENS) - len(cache.blocks)
        if missing > 0:
            while self._pool.blank < missing:
                self._forget(next(iter(self._pool.idle)))
            self._pool.take(missing)
            cache.blocks += self.blocks.take(missing, cache.blocks[-1] if cache.blocks else None)
        return cache

    # -- equal beginnings ------------------------------------------------------------------------------------------

    def adopt(self, session: str, names: Sequence[Name]) -> int:
        """Let a new session begin with the blocks of these names, as far as they are here without a gap.

        Returns:
            Tokens that it has then; without any there is no session.

        Raises:
            ValueError: the session is here already.
            SessionsFull: there is no room for it.
        """
        if session in self._caches:
            raise ValueError(f"session {session!r}: it has begun, and can share no beginning any more")
        known = names[: self._pool.known(names)]
        if not known:
            return 0
        if len(self._caches) >= SESSIONS_MAX:
            raise SessionsFull(f"session {session!r}: refused, all {SESSIONS_MAX} sessions are taken")
        self._pool.hold(known)
        cache = self._caches[session] = Cache()
        cache.names, cache.blocks = list(known), [self._named[name] for name in known]
        cache.length = len(known) * BLOCK_TOKENS
        return cache.length

    def label(self, session: str, begin: int, names: Sequence[Name]) -> None:
        """Name a session's full blocks, from number ``begin`` on; of two with one name a single one is kept.

        Raises:
            ValueError: no such session, or a block that is not full.
        """
        cache = self.find(session)
        if (begin + len(names)) * BLOCK_TOKENS > cache.length:
            raise ValueError(f"session {session!r}: {cache.length} tokens do not fill {begin + len(names)} blocks")
        for number, name in enumerate(names, begin):
            if number != len(cache.names):
                continue  # it is named, or one before it is not
            own = cache.blocks[number]
            cache.blocks[number] = kept = self._named.setdefault(name, own)
            if kept != own:
                self.blocks.give_back([own])
            self._pool.fill(name)
            cache.names.append(name)

    def forget(self, names: Sequence[Name]) -> None:
        """Keep blocks of these names no longer, as far as nobody holds them."""
        for name in names:
            if name in self._pool.idle:
                self._forget(name)

    def _forget(self, name: Name) -> None:
        self._pool.forget(name)
        self.blocks.give_back([self._named.pop(name)])

    # -- sessions --------------------------------------------------------------------------------------------------

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
            self._release(cache, 0)

    def clear(self) -> None:
        """Take back what all sessions hold, and keep nothing of it."""
        for session in list(self._caches):
            self.drop(session)
        self.forget(list(self._pool.idle))

    @property
    def held(self) -> int:
        """Blocks that sessions hold; one that several share counts once."""
        return len(self.blocks) - self._pool.room

    def __len__(self) -> int:
        return len(self._caches)
