"""Block sync: fetching what a certificate names and this member lacks. Liveness only.

One fetch is under way at a time. An answer is believed as far as digests reach: the first block must be the one that a
verified certificate names, and every next one the parent of the one before. So a liar can only be slow, and the next
member is asked after a while.
"""

from __future__ import annotations

from policies.consensus.hotstuff.certificates import block_digest
from policies.consensus.hotstuff.messages import Block, Certificate

BLOCKS_MAX = 64
"""Blocks in one answer."""
BYTES_MAX = 1 << 20
"""Bytes of entries in one answer, after which it ends."""
HELD_MAX = 8192
"""Blocks held that are not linked to the tree yet; beyond it fetching begins anew, from a checkpoint one hopes."""


class Sync:
    """What is fetched, and what has come of it.

    Attributes:
        wanted: the verified certificate whose block is fetched.
        parts: (digest, block) fetched so far, newest block first; the last one's parent is asked for next.
        asked_ns: when it was asked for last.
    """

    def __init__(self) -> None:
        self.wanted: Certificate | None = None
        self.parts: list[tuple[bytes, Block]] = []
        self.asked_ns = 0
        self.tries = 0

    def want(self, qc: Certificate) -> bool:
        """Begin to fetch a verified certificate's block; return whether that is news."""
        if self.wanted is not None and self.wanted.view >= qc.view:
            return False
        self.wanted, self.parts, self.tries = qc, [], 0
        return True

    @property
    def missing(self) -> bytes | None:
        """The block to ask for next."""
        if self.wanted is None:
            return None
        return self.parts[-1][1].qc.block if self.parts else self.wanted.block

    def take(self, blocks: tuple[Block, ...]) -> bool:
        """Take an answer in; return whether it was what we asked for."""
        missing = self.missing
        fresh: list[tuple[bytes, Block]] = []
        for block in blocks[:BLOCKS_MAX]:
            digest = block_digest(block)
            if digest != missing:
                return False
            fresh.append((digest, block))
            missing = block.qc.block
        self.parts += fresh
        if len(self.parts) > HELD_MAX:
            self.parts.clear()
        return bool(fresh)

    def ask(self, others: tuple[str, ...], now_ns: int) -> str:
        """Return whom to ask now, one after another."""
        self.asked_ns, self.tries = now_ns, self.tries + 1
        return others[self.tries % len(others)]

    def finish(self) -> list[tuple[bytes, Block]]:
        """End the fetch; return its blocks, oldest first."""
        parts, self.wanted, self.parts = self.parts[::-1], None, []
        return parts
