"""The simulated network of messages: latency by access link and backbone, jitter, loss, duplicates, faults.

Draws are keyed by (seed, sender, message number), so that another node's traffic changes nothing. They are made in
blocks with NumPy and handed out one by one: a message costs two list look-ups, not two generator calls. A fault uses
no draws of its own: it reads further digits of the same ones, so that beginning and ending it moves nobody's luck.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models import draws
from models.links import backbone
from models.links.loss import CHANNELS, Channel
from policies.port import NS_PER_S
from policies.rng import Rng
from scenarios.disturbed import stops, touches
from scenarios.schema import Network

_BLOCK, _NEXT_BLOCK = 256, 768
"""Messages whose draws are made at once, by sender: the first time, and for one that goes on and on."""
_TOGETHER = 16
"""Up to so many nodes draw their first blocks together; most of a larger world's never need one soon."""


class Access(NamedTuple):
    """One node's link: one-way delay, rates up and down, share of messages lost."""

    one_way_s: float
    up_bytes_per_s: float
    down_bytes_per_s: float
    loss: float


class _Spells:
    """The good and bad spells of one access link (`models.links.loss`), advanced exactly between messages."""

    def __init__(self, channel: Channel, seed: int, node: int) -> None:
        self.channel, self._rng = channel, Rng(seed, str(node), "bad spells", 0)
        self._bad, self._at_s = self._rng.random() < channel.bad_share, 0.0

    def loss(self, now_s: float) -> float:
        """Return the chance to lose a message now, above what a good link loses."""
        chance = float(self.channel.bad_after(self._bad, now_s - self._at_s))
        self._bad, self._at_s = self._rng.random() < chance, now_s
        return self.channel.loss_bad - self.channel.loss_good if self._bad else 0.0


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


@dataclass(frozen=True, eq=False)
class Cut:
    """Messages from ``sources`` to ``targets`` do not arrive; None is everybody who is not on the other side."""

    sources: frozenset[int] | None
    targets: frozenset[int] | None

    stops = stops


@dataclass(frozen=True, eq=False)
class Disturbance:
    """What is wrong with the links of ``nodes`` (None: all) for a while; a message suffers if an end is one of them.

    What is sent while it lasts arrives later by ``delay_s``, and not before ``held_until_s``.
    """

    nodes: frozenset[int] | None = None
    loss: float = 0.0
    delay_s: float = 0.0
    held_until_s: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_s: float = 0.0

    touches = touches


class MessageNetwork:
    """Answers, for one message: after how many nanoseconds it arrives, if at all, and whether twice.

    Attributes:
        twice: whether the message that was asked about last, if it was not lost, arrives twice.
    """

    def __init__(self, seed: int, links: Links, config: Network) -> None:
        self.links, self._seed = links, seed
        count = len(links.one_way_s)
        self.cuts: list[Cut] = []
        self.disturbances: list[Disturbance] = []
        self.sent = self.lost = self.bytes = 0
        # (uniform, jitter factor) of the messages to come, one block a sender; an exhausted one asks for the next.
        self._draws: list[Iterator[tuple[float, float]]] = [iter(()) for _ in range(count)]
        self._drawn = [0] * count
        self.clock: Callable[[], int] = lambda: 0  # ns; the world's
        cities = len(backbone.CITIES.heights)
        self._near = backbone.draw_nodes(seed, np.arange(count), cities) if config.backbone == "cities" else None
        channel = CHANNELS[config.bursts] if config.bursts else None
        self._spells = [_Spells(channel, seed, node) for node in range(count)] if channel else []
        self.twice = False
        self.config = config

    @property
    def config(self) -> Network:
        """What all messages meet beside their access links; another one counts from the next message on."""
        return self._config

    @config.setter
    def config(self, config: Network) -> None:
        self._config = config
        self._rare = 1.0 - config.duplicate  # draws above it are of messages that come twice
        # What a message needs of its two access links, by sender and receiver: (latency s, bytes/s, loss).
        self._paths: list[dict[int, tuple[float, float, float]]] = [{} for _ in self._drawn]

    def delay_ns(self, source: int, target: int, size_bytes: int) -> int:
        """Return the message's delay, or -1 if it is lost.

        Delay = access + backbone + access, times a log-normal jitter, plus the time on the slower access link. Whether
        it arrives twice, by the upper tail of the same draw, is then in `twice`.
        """
        self.sent += 1
        self.bytes += size_bytes
        uniform, factor = next(self._draws[source], None) or self._next_block(source)
        latency_s, bytes_per_s, loss = self._paths[source].get(target) or self._path(source, target)
        seconds = latency_s * factor + size_bytes / bytes_per_s
        if self._spells:
            now_s = self.clock() / NS_PER_S
            loss += self._spells[source].loss(now_s) + self._spells[target].loss(now_s)
        if self.cuts or self.disturbances:
            more_loss, more_s = self._disturbed(source, target, uniform)
            if uniform < loss + more_loss or self.stopped(source, target):
                self.lost += 1
                self.twice = False
                return -1
            return int((seconds + more_s) * NS_PER_S)
        if uniform < loss:
            self.lost += 1
            self.twice = False
            return -1
        self.twice = uniform > self._rare
        return int(seconds * NS_PER_S)

    def access(self, node: int) -> Access:
        """Return a node's link."""
        links = self.links
        return Access(links.one_way_s[node], links.up_bytes_per_s[node], links.down_bytes_per_s[node], links.loss[node])

    def relink(self, node: int, access: Access) -> None:
        """Put a node on another link; messages on their way still arrive over the old one."""
        links = self.links
        links.one_way_s[node], links.up_bytes_per_s[node], links.down_bytes_per_s[node], links.loss[node] = access
        self._paths[node].clear()
        for paths in self._paths:
            paths.pop(node, None)

    def path(self, source: int, target: int) -> tuple[float, float, float]:
        """Return a path's one-way latency (s), its access links' rate (bytes/s) and its share of messages lost."""
        return self._paths[source].get(target) or self._path(source, target)

    def backbone_s(self, source: int, target: int) -> float:
        """Return the one-way delay between two nodes' ends of the backbone."""
        if self._near is None:
            return self.config.backbone_s
        a, b = (backbone.CITIES.at(self._near[node]) for node in (source, target))
        return float(backbone.delay(a, b)) if self._near[source] != self._near[target] else 0.0

    # -- faults --------------------------------------------------------------------------------------

    def cut_off(self, group: Sequence[int], *, one_way: bool = False) -> list[Cut]:
        """Part ``group`` from all others; ``one_way`` lets its own messages out. Return what `heal` takes."""
        island = frozenset(group)
        cuts = [Cut(None, island)] if one_way else [Cut(None, island), Cut(island, None)]
        self.cuts += cuts
        return cuts

    def sever(self, a: int, b: int, *, one_way: bool = False) -> list[Cut]:
        """Part two nodes; ``one_way``: only what ``a`` sends is lost. Return what `heal` takes."""
        one, other = frozenset((a,)), frozenset((b,))
        cuts = [Cut(one, other)] if one_way else [Cut(one, other), Cut(other, one)]
        self.cuts += cuts
        return cuts

    def heal(self, cuts: Sequence[Cut]) -> None:
        """End these cuts."""
        self.cuts = [cut for cut in self.cuts if cut not in cuts]

    def disturb(self, disturbance: Disturbance) -> None:
        """Begin a disturbance; several add up."""
        self.disturbances.append(disturbance)

    def calm(self, disturbance: Disturbance) -> None:
        """End it."""
        self.disturbances.remove(disturbance)

    def stopped(self, source: int, target: int) -> bool:
        """Whether a cut is between these two, in this direction."""
        return any(cut.stops(source, target) for cut in self.cuts)

    def parted(self, numbers: Sequence[int]) -> bool:
        """Whether a round through these nodes, and back to the first, meets a cut."""
        return bool(self.cuts) and any(
            self.stopped(a, b) for a, b in zip(numbers, [*numbers[1:], numbers[0]], strict=True) if a != b
        )

    def _disturbed(self, source: int, target: int, uniform: float) -> tuple[float, float]:
        """Return the further loss and delay (s) of a message, and note whether it comes twice."""
        loss = delay_s = duplicate = 0.0
        # The draw's lower 26 bits tell nothing about its size: they are a second draw. Reordering reads its low end,
        # duplication its high end.
        second = uniform * 2.0**27 % 1.0
        for one in self.disturbances:
            if one.touches(source, target):
                loss += one.loss
                delay_s += one.delay_s
                if one.held_until_s:
                    delay_s += max(0.0, one.held_until_s - self.clock() / NS_PER_S)
                duplicate += one.duplicate
                if second < one.reorder:
                    delay_s += one.reorder_s * (second / one.reorder)
        self.twice = uniform > self._rare or second > 1.0 - duplicate
        return loss, delay_s

    def _path(self, source: int, target: int) -> tuple[float, float, float]:
        links, config = self.links, self.config
        path = (
            links.one_way_s[source] + self.backbone_s(source, target) + links.one_way_s[target],
            min(links.up_bytes_per_s[source], links.down_bytes_per_s[target]),
            config.loss + links.loss[source] + links.loss[target],
        )
        self._paths[source][target] = path
        return path

    def _next_block(self, source: int) -> tuple[float, float]:
        """Draw a sender's next block; a small world's first blocks come at once, as it is calls that cost."""
        first = self._drawn[source]
        small = first == 0 and len(self._drawn) <= _TOGETHER
        sources = [node for node, drawn in enumerate(self._drawn) if drawn == 0] if small else [source]
        after = first + (_NEXT_BLOCK if first else _BLOCK)
        entity, index = np.array(sources)[:, None], np.arange(first, after)
        uniform = draws.uniform(self._seed, "message loss", entity, index)
        sigma = self.config.jitter_sigma
        # Mean one, so that jitter does not shift the average latency.
        normal = draws.normal(self._seed, "message jitter", entity, index) if sigma else np.zeros(uniform.shape)
        factor = np.exp(sigma * normal - sigma * sigma / 2)
        for node, uniforms, factors in zip(sources, uniform.tolist(), factor.tolist(), strict=True):
            self._drawn[node] = after
            self._draws[node] = iter(list(zip(uniforms, factors, strict=True)))
        return next(self._draws[source])
