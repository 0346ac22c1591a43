"""The simulated network of messages: latency by access link and backbone, jitter, loss, duplicates, partitions.

Draws are keyed by (seed, sender, message number), so that another node's traffic changes nothing. They are made in
blocks with NumPy and handed out one by one: a message costs two list look-ups, not two generator calls.
"""

from __future__ import annotations

from collections.abc import Iterator

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
        # (uniform, jitter factor) of the messages to come, one block a sender; an exhausted one asks for the next.
        self._draws: list[Iterator[tuple[float, float]]] = [iter(()) for _ in range(count)]
        self._drawn = [0] * count
        self._last_uniform = [0.0] * count
        # What a message needs of its two access links, by sender and receiver: (latency s, bytes/s, loss).
        self._paths: list[dict[int, tuple[float, float, float]]] = [{} for _ in range(count)]

    def delay_ns(self, source: int, target: int, size_bytes: int) -> int:
        """Return the message's delay, or -1 if it is lost.

        Delay = access + backbone + access, times a log-normal jitter, plus the time on the slower access link.
        """
        self.sent += 1
        self.bytes += size_bytes
        uniform, factor = next(self._draws[source], None) or self._next_block(source)
        self._last_uniform[source] = uniform
        latency_s, bytes_per_s, loss = self._paths[source].get(target) or self._path(source, target)
        if uniform < loss + self.extra_loss or (self.island and self._cut(source, target)):
            self.lost += 1
            return -1
        return int((latency_s * factor + size_bytes / bytes_per_s) * NS_PER_S)

    def duplicated(self, source: int) -> bool:
        """Whether the message just asked about arrives twice (the upper tail of the same draw)."""
        return self._last_uniform[source] > 1.0 - self.config.duplicate

    def _cut(self, source: int, target: int) -> bool:
        crosses = (source in self.island) != (target in self.island)
        return crosses and not (self.one_way and source in self.island)

    def _path(self, source: int, target: int) -> tuple[float, float, float]:
        links, config = self.links, self.config
        path = (
            links.one_way_s[source] + config.backbone_s + links.one_way_s[target],
            min(links.up_bytes_per_s[source], links.down_bytes_per_s[target]),
            config.loss + links.loss[source] + links.loss[target],
        )
        self._paths[source][target] = path
        return path

    def _next_block(self, source: int) -> tuple[float, float]:
        first = self._drawn[source]
        index = np.arange(first, first + _BLOCK)
        self._drawn[source] = first + _BLOCK
        uniform = draws.uniform(self._seed, "message loss", source, index).tolist()
        sigma = self.config.jitter_sigma
        # Mean one, so that jitter does not shift the average latency.
        normal = draws.normal(self._seed, "message jitter", source, index)
        factor = np.exp(sigma * normal - sigma * sigma / 2).tolist() if sigma else [1.0] * _BLOCK
        block = self._draws[source] = iter(list(zip(uniform, factor, strict=True)))
        return next(block)
