"""The tree of blocks above the last stable checkpoint: committed ones along its trunk, others above the root.

Neither safety nor liveness: it only holds what `safety` decides on. It holds committed blocks since the stable
checkpoint, for those who lag behind, and at most `PENDING_MAX` others and what leads to the highest certificate.
"""

from __future__ import annotations

from collections.abc import Iterator

from policies.consensus.hotstuff.messages import Block

PENDING_MAX = 64
"""Blocks that are not committed; above it those that no certificate leads to are forgotten and, if wanted, fetched."""


class Tree:
    """Blocks by digest.

    Attributes:
        blocks: all that is held.
        root: digest of the last committed block.
        height: its height.
        pending: digests of blocks that are not committed, oldest first.
    """

    def __init__(self, root: bytes, block: Block) -> None:
        self.blocks = {root: block}
        self.root, self.height = root, block.height
        self.pending: dict[bytes, None] = {}

    def add(self, digest: bytes, block: Block) -> None:
        """Hold a block whose parent is held."""
        self.blocks[digest] = block
        self.pending[digest] = None

    def path(self, digest: bytes) -> list[bytes]:
        """Return the digests from above the root up to ``digest``; empty if it does not descend from the root."""
        path, at, height = [], digest, self.height
        while at != self.root:
            block = self.blocks.get(at)
            if block is None or block.height <= height:
                return []
            path.append(at)
            at = block.qc.block
        return path[::-1]

    def extends(self, digest: bytes, ancestor: bytes, view: int) -> bool:
        """Whether ``digest`` is ``ancestor``, a block of ``view``, or descends from it."""
        while digest != ancestor:
            block = self.blocks.get(digest)
            if block is None or block.view <= view:
                return False
            digest = block.qc.block
        return True

    def commit(self, head: bytes) -> tuple[list[bytes], list[bytes]]:
        """Move the root up to ``head``; return what became committed, in order, and what was forgotten."""
        path = self.path(head)
        self.root, self.height = head, self.blocks[head].height
        for digest in path:
            self.pending.pop(digest, None)
        return path, self._forget([d for d in self.pending if self.blocks[d].height <= self.height])

    def thin(self, high: bytes, voted: bytes) -> list[bytes]:
        """Forget blocks that lead neither to the highest certificate nor to the last vote, if there are too many."""
        if len(self.pending) <= PENDING_MAX:
            return []
        kept = {*self.path(high), *self.path(voted)}
        return self._forget([d for d in self.pending if d not in kept])

    def prune(self) -> list[bytes]:
        """Forget all that is not committed."""
        return self._forget(list(self.pending))

    def drop_below(self, height: int) -> list[bytes]:
        """Forget blocks below a stable checkpoint."""
        return self._forget([d for d, block in self.blocks.items() if block.height < height and d != self.root])

    def down(self, digest: bytes, height: int) -> Iterator[Block]:
        """Yield ``digest`` and its ancestors above ``height``, as far as they are held."""
        while (block := self.blocks.get(digest)) is not None and block.height > height:
            yield block
            digest = block.qc.block

    def _forget(self, digests: list[bytes]) -> list[bytes]:
        for digest in digests:
            self.pending.pop(digest, None)
            del self.blocks[digest]
        return digests
