"""Block sync: fetching what a certificate names and this member lacks. Liveness only.

One fetch is under way at a time. An answer is believed as far as digests reach: it must hold the block that a verified
certificate names, and from there on every next one is the parent of the one before. So a liar can only be slow, and the
next member is asked after a while.

Certificates go on coming meanwhile, one in each view. One of the wanted block's child is wanted in its place where that
child is here, as it is once it was proposed to us: what is fetched leads up to it, too. Another one waits until the
fetch has ended, or all were asked in vain: to begin anew with each would never reach down to who is far behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import dropwhile, pairwise

from policies.consensus.hotstuff.certificates import block_digest
from policies.consensus.hotstuff.messages import Block, Certificate

BLOCKS_MAX = 64
"""Blocks in one answer."""
BYTES_MAX = 1 << 20
"""Bytes of entries in one answer, after which it ends."""
HELD_MAX = 8192
"""Blocks held that are not linked to the tree yet; beyond it fetching begins anew, from a checkpoint one hopes."""
HELD_BYTES_MAX = 256 << 20
"""Bytes of their entries, likewise: 1,024 blocks as large as may be, from which a village takes its snapshots (our own
bound)."""


def bytes_of(blocks: Iterable[Block]) -> int:
    """Return how many bytes the entries of blocks have."""
    return sum(len(entry.data) for block in blocks for entry in block.entries)


def as_many_as_fit(blocks: Iterable[Block]) -> tuple[Block, ...]:
    """Return the first of ``blocks``, as many as one answer may hold."""
    held: list[Block] = []
    size = 0
    for block in blocks:
        size += bytes_of((block,))
        held.append(block)
        if len(held) == BLOCKS_MAX or size > BYTES_MAX:
            break
    return tuple(held)


def is_full(blocks: tuple[Block, ...]) -> bool:
    """Return whether an answer holds as many blocks as it may: else an honest one has all that was asked for."""
    return len(blocks) >= BLOCKS_MAX or bytes_of(blocks) > BYTES_MAX


class Sync:
    """What is fetched, and what has come of it.

    Attributes:
        wanted: the verified certificate whose block is fetched.
        later: the newest one that waits until that is done.
        parts: (digest, block) fetched so far, newest block first; the last one's parent is asked for next.
        size: bytes of their entries.
        asked_ns: when it was asked for last.
        turn: how often it was another's turn to be asked.
        tries: the same, since an answer came.
    """

    def __init__(self) -> None:
        self.wanted: Certificate | None = None
        self.later: Certificate | None = None
        self.parts: deque[tuple[bytes, Block]] = deque()
        self.size = 0
        self.asked_ns = 0
        self.turn = self.tries = 0

    @property
    def newest(self) -> Certificate | None:
        """The newest certificate whose block is wanted."""
        return self.later or self.wanted

    def want(self, qc: Certificate, block: Block | None = None) -> bool:
        """Want a verified certificate's block; return whether to begin to fetch it.

        Args:
            qc: the certificate.
            block: the block that it names, if that was proposed to us.
        """
        newest = self.newest
        if newest is None:
            self._begin(qc)
            return True
        if qc.view > newest.view:
            if block is not None and newest is self.wanted and block.qc.block == newest.block:
                self.wanted = qc
                self.parts.appendleft((qc.block, block))
                self._count((block,))
            else:
                self.later = qc
        return False

    def _begin(self, qc: Certificate) -> None:
        self.wanted, self.later, self.size, self.tries = qc, None, 0, 0
        self.parts.clear()

    @property
    def missing(self) -> bytes | None:
        """The block to ask for next."""
        if self.wanted is None:
            return None
        return self.parts[-1][1].qc.block if self.parts else self.wanted.block

    def take(self, blocks: tuple[Block, ...]) -> bool:
        """Take an answer in, from what is still missing on; return whether it holds what we asked for.

        What it begins with may have come meanwhile: a liar that sends its first block sooner, unasked, would else have
        the rest refused.
        """
        known = [(block_digest(block), block) for block in blocks[:BLOCKS_MAX]]
        fresh = list(dropwhile(lambda part: part[0] != self.missing, known))
        if not fresh or any(child.qc.block != parent for (_, child), (parent, _) in pairwise(fresh)):
            return False
        self.parts += fresh
        self.tries = 0
        self._count(block for _, block in fresh)
        return True

    def _count(self, blocks: Iterable[Block]) -> None:
        """More is held; begin anew if it is too much."""
        self.size += bytes_of(blocks)
        if (newest := self.newest) is not None and (len(self.parts) > HELD_MAX or self.size > HELD_BYTES_MAX):
            self._begin(newest)

    def ask(self, others: tuple[str, ...], now_ns: int) -> str:
        """Return whom to ask now, one after another; once all were asked in vain, for what is wanted later.

        Nobody may hold a block that was certified and given up; all that came below it is given up with it.
        """
        if self.later is not None and self.tries >= len(others):
            self._begin(self.later)
        self.asked_ns, self.turn, self.tries = now_ns, self.turn + 1, self.tries + 1
        return others[self.turn % len(others)]

    def finish(self) -> tuple[list[tuple[bytes, Block]], Certificate | None]:
        """End the fetch; return its blocks, oldest first, and the certificate that waited for that."""
        parts, later = [*reversed(self.parts)], self.later
        self.wanted = self.later = None
        self.parts.clear()
        self.size = 0
        return parts, later
