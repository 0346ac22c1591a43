"""The simulated network of messages: latency by access link and backbone, jitter, loss, duplicates, partitions.

Draws are keyed by (seed, sender, message number), so that another node's traffic changes nothing. They are made in
blocks with NumPy and handed out one by one: a message costs two list look-ups, not two generator calls.
"""

from __future__ import annotations

import numpy as np

from models import draws
from policies.port import NS_PER_S
from scenarios.schema import Network

_BLOCK = 1024


class Links:
    """Access links of all nodes, as plain lists by node number.

    Args:
        one_way_s: each node's one-way delay to the backbone.
        up_bytes_per_s, down_bytes_per_s: each node's access rates.
        loss: each node's share of messages lost on its access link.
    """

    def __init__(
        self,
        one_way_s: list[float],
        up_bytes_per_s: list[float],
        down_bytes_per_s: list[float],
        loss: list[float],
    ) -> None:
        self.one_way_s, self.loss = one_way_s, loss
        self.up_bytes_per_s, self.down_bytes_per_s = up_bytes_per_s, down_bytes_per_s

    @classmethod
    def alike(cls, count: int, one_way_s: float, bytes_per_s: float) -> Links:
        """Return ``count`` equal links without loss of their own."""
        return cls([one_way_s] * count, [bytes_per_s] * count, [bytes_per_s] * count, [0.0] * count)


class MessageNetwork:
    """Answers, for one message: after how many nanoseconds it arrives, if at all, and whether twice."""

    def __init__(self, seed: int, links: Links, config: Network) -> None:
        self.links, self.config, self._seed = links, config, seed
        count = len(links.one_way_s)
        self.extra_loss = 0.0  # a Loss fault adds to it
        self.island: set[int] = set()  # nodes cut off from the others by a Partition
        self.one_way = False  # the island's own messages still leave
        self.sent = self.lost = self.bytes = 0
        self._uniform: list[list[float]] = [[] for _ in range(count)]
        self._factor: list[list[float]] = [[] for _ in range(count)]
        self._at = [_BLOCK] * count  # next draw of the block; a full one asks for the next block
        self._drawn = [0] * count

    def delay_ns(self, source: int, target: int, size_bytes: int) -> int:
        """Return the message's delay, or -1 if it is lost.

        Delay = access + backbone + access, times a log-normal jitter, plus the time on the slower access link.
        """
        self.sent += 1
        self.bytes += size_bytes
        at = self._at[source]
        if at == _BLOCK:
            self._refill(source)
            at = 0
        self._at[source] = at + 1
        links, config = self.links, self.config
        crosses = self.island and (source in self.island) != (target in self.island)
        if crosses and not (self.one_way and source in self.island):
            self.lost += 1
            return -1
        loss = config.loss + self.extra_loss + links.loss[source] + links.loss[target]
        if self._uniform[source][at] < loss:
            self.lost += 1
            return -1
        latency_s = (links.one_way_s[source] + config.backbone_s + links.one_way_s[target]) * self._factor[source][at]
        rate = min(links.up_bytes_per_s[source], links.down_bytes_per_s[target])
        return int((latency_s + size_bytes / rate) * NS_PER_S)

    def duplicated(self, source: int) -> bool:
        """Whether the message just asked about arrives twice (the upper tail of the same draw)."""
        return self._uniform[source][self._at[source] - 1] > 1.0 - self.config.duplicate

    def _refill(self, source: int) -> None:
        first = self._drawn[source]
        index = np.arange(first, first + _BLOCK)
        self._drawn[source] = first + _BLOCK
        self._uniform[source] = draws.uniform(self._seed, "message loss", source, index).tolist()
        sigma = self.config.jitter_sigma
        # Mean one, so that jitter does not shift the average latency.
        normal = draws.normal(self._seed, "message jitter", source, index)
        self._factor[source] = np.exp(sigma * normal - sigma * sigma / 2).tolist() if sigma else [1.0] * _BLOCK
        self._at[source] = 0
