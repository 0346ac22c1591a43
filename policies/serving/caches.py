"""Caches of a pool's nodes, as the one who admits requests counts them: blocks of 16 tokens in each layer of a node.

A request holds, on every stage of its pipeline, its blocks times the layers that it uses there, so that the tightest
stage decides. It is admitted where its prompt and what an answer takes on average fit under a high-water mark (Helix,
section 5: the coordinator estimates caches with the mean length of answers, and masks nodes above the mark). What it
really holds is its prompt and a block more; a node that runs out takes back what its latest request holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policies.jobs import Stage
from policies.serving.batching import BLOCK_TOKENS

HIGH_WATER = 0.95
"""Share of a cache above which nobody is admitted. An assumption: Helix names the mark, not its height."""


@dataclass(eq=False)
class Holder:
    """A request that holds blocks.

    Attributes:
        key: names it.
        stages: its pipeline.
        tokens: in its cache.
        expected: tokens that it is counted with until it has more.
        blocks: of each layer that it holds.
        counted: blocks that it is counted with.
    """

    key: str
    stages: tuple[Stage, ...]
    tokens: int
    expected: int
    blocks: int = 0
    counted: int = 0


class Caches:
    """Who holds what on each node.

    Args:
        blocks: of a node, in layers times blocks of `BLOCK_TOKENS`.

    Attributes:
        free: blocks of a node that nobody holds.
        counted: blocks of a node that those admitted are expected to hold.
    """

    def __init__(self, blocks: Mapping[str, int]) -> None:
        self.blocks = dict(blocks)
        self.free = dict(blocks)
        self.counted = dict.fromkeys(blocks, 0)
        self._holders: dict[str, dict[str, Holder]] = {node: {} for node in blocks}  # in order of admission

    def full(self, layers: Mapping[str, int], tokens: int, expected: int) -> set[str]:
        """Return the nodes on which a request of so many tokens may not be begun.

        Args:
            layers: that it would use on each node.
            tokens: in its cache at once: its prompt and what it emitted before.
            expected: tokens in the end.
        """
        now, later = _blocks(tokens) + 1, _blocks(expected)
        return {
            node
            for node, held in layers.items()
            if now * held > self.free[node]
            or (self._holders[node] and self.counted[node] + max(now, later) * held > HIGH_WATER * self.blocks[node])
        }

    def hold(self, holder: Holder) -> bool:
        """Give a request its first blocks on all its stages; False, and nothing is held, where they do not fit."""
        blocks = _blocks(holder.tokens) + 1
        if any(blocks * (stage.last - stage.first) > self.free[stage.node] for stage in holder.stages):
            return False
        self._take(holder, blocks)
        self._count(holder, max(blocks, _blocks(holder.expected)))
        for stage in holder.stages:
            self._holders[stage.node][holder.key] = holder
        return True

    def grow(self, holder: Holder) -> Stage | None:
        """Let a request's cache grow by a token; return the stage that has no block for it, if one has none."""
        holder.tokens += 1
        if holder.tokens <= holder.blocks * BLOCK_TOKENS:
            return None
        for stage in holder.stages:
            if stage.last - stage.first > self.free[stage.node]:
                holder.tokens -= 1
                return stage
        self._take(holder, 1)
        self._count(holder, max(0, holder.blocks - holder.counted))
        return None

    def latest(self, node: str) -> Holder:
        """Return the request that was last admitted of those that hold blocks of a node."""
        return next(reversed(self._holders[node].values()))

    def release(self, holder: Holder) -> None:
        """Take back all that a request holds."""
        self._take(holder, -holder.blocks)
        self._count(holder, -holder.counted)
        for stage in holder.stages:
            del self._holders[stage.node][holder.key]

    def _take(self, holder: Holder, blocks: int) -> None:
        holder.blocks += blocks
        for stage in holder.stages:
            self.free[stage.node] -= blocks * (stage.last - stage.first)

    def _count(self, holder: Holder, blocks: int) -> None:
        holder.counted += blocks
        for stage in holder.stages:
            self.counted[stage.node] += blocks * (stage.last - stage.first)


def node_blocks(free_bytes: float, kv_bytes_token_layer: float) -> int:
    """Return the blocks, each of one layer, of a node with so many bytes beside its weights."""
    return max(0, int(free_bytes // (kv_bytes_token_layer * BLOCK_TOKENS)))


def fits(blocks: Mapping[str, int], stages: Sequence[Stage], tokens: int) -> bool:
    """Whether a request of so many tokens could ever run on a pipeline."""
    return all((_blocks(tokens) + 1) * (stage.last - stage.first) <= blocks[stage.node] for stage in stages)


def _blocks(tokens: int) -> int:
    return -(-tokens // BLOCK_TOKENS)
