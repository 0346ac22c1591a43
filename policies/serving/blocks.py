"""Blocks of a KV cache: who holds them, what they keep, and which is given up first.

A block keeps the keys and values of a fixed number of tokens in every layer of a stage (vLLM's PagedAttention: Kwon et
al., SOSP 2023). A full block has a name that stands for all tokens up to its end, so that equal names mean equal
content; requests that begin alike share it. A block that nobody holds stays until its place is needed, the longest
unheld first, and of one request's blocks the later first: a prefix is worth more than what follows it.

Blocks are counted, not placed: where a block lies is the executor's affair.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence

Name = Hashable
"""What a full block keeps: equal names, equal tokens from the very first on."""


class BlockPool:
    """The blocks of one cache.

    Args:
        blocks: how many there are, at least 1.

    Attributes:
        held: holders of each named block.
        idle: named blocks that nobody holds, the first to go first.
        blank: blocks that keep nothing.

    Raises:
        ValueError: ``blocks`` is below 1.
    """

    def __init__(self, blocks: int) -> None:
        if blocks < 1:
            raise ValueError(f"blocks is {blocks}; allowed: from 1")
        self.blocks = self.blank = blocks
        self.held: dict[Name, int] = {}
        self.idle: OrderedDict[Name, None] = OrderedDict()  # a dict would walk over all it has lost to find its first

    @property
    def room(self) -> int:
        """Blocks that can be taken now."""
        return self.blank + len(self.idle)

    def known(self, names: Sequence[Name]) -> int:
        """Return how many of the first ``names`` are here, without a gap."""
        for count, name in enumerate(names):
            if name not in self.held and name not in self.idle:
                return count
        return len(names)

    def idle_among(self, names: Iterable[Name]) -> int:
        """Return how many of ``names`` nobody holds: to hold them takes as much of `room`."""
        return sum(name in self.idle for name in names)

    def hold(self, names: Iterable[Name]) -> None:
        """Hold blocks that are here."""
        for name in names:
            if name in self.idle:
                del self.idle[name]
                self.held[name] = 1
            else:
                self.held[name] += 1

    def forget(self, name: Name) -> None:
        """Let a block that nobody holds keep nothing any more."""
        del self.idle[name]
        self.blank += 1

    def unname(self, name: Name) -> None:
        """A block's only holder writes to it again: it is held as one without a name."""
        if self.held[name] > 1:
            raise ValueError(f"block {name!r} has {self.held[name]} holders; allowed: one, who writes to it")
        del self.held[name]

    def take(self, count: int) -> bool:
        """Take blocks without a name yet; False, and nothing is taken, where there is no room."""
        if count > self.room:
            return False
        while self.blank < count:
            self.forget(next(iter(self.idle)))
        self.blank -= count
        return True

    def fill(self, name: Name) -> None:
        """A block that was taken is full and keeps ``name``; where another keeps it already, that one is shared."""
        if name in self.held:
            self.held[name] += 1
            self.blank += 1
        elif name in self.idle:
            del self.idle[name]
            self.held[name] = 1
            self.blank += 1
        else:
            self.held[name] = 1

    def release(self, names: Sequence[Name], unnamed: int) -> None:
        """Give up a request's blocks: its named ones, in the order of its tokens, and as many without a name."""
        self.blank += unnamed
        for name in reversed(names):
            holders = self.held[name] - 1
            if holders:
                self.held[name] = holders
            else:
                del self.held[name]
                self.idle[name] = None
