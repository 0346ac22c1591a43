"""Bulk bytes between a world's nodes: fluid flows over the sender's link up and the receiver's link down.

What a node sends and receives in bulk shares its access link with whatever else crosses that link at the time; what
lies between the links adds its delay and is never full. Messages are too small to fill a link, and pay its rate one by
one (`sim.network`). As options, a transfer waits for TCP's slow start and is bounded by its path's loss
(`sim.tcp`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from policies.wire import FRAME_OVERHEAD_BYTES
from sim.network import MessageNetwork
from sim.sharing import Flow, Sharing
from sim.tcp import Tcp

Done = Callable[[Flow], object]
ASK_BYTES = FRAME_OVERHEAD_BYTES + 40
"""A frame that asks for a blob by its digest of 40 digits: whoever wants one asks for it first."""


class Bulk:
    """Transfers between the nodes of a message network, over its links as they are at that moment.

    Args:
        sharing: whose flows they are; its resources are the links, each from its first use on.
        network: paths, links and the options `slow_start` and `loss_bound`.
    """

    def __init__(self, sharing: Sharing, network: MessageNetwork) -> None:
        self.sharing, self.network = sharing, network

    def send(self, source: int, target: int, size_bytes: float, done: Done) -> Flow:
        """Start a transfer; ``done`` is called when its last byte has arrived."""
        latency_s, bytes_per_s, loss = self.network.path(source, target)
        links, config = self.network.links, self.network.config
        up, down = f"{source} up", f"{target} down"
        for name, rate in ((up, links.up_bytes_per_s[source]), (down, links.down_bytes_per_s[target])):
            if name not in self.sharing:
                self.sharing.add(name, rate)
        cap_bytes_per_s, wait_s = math.inf, 0.0
        if config.slow_start or config.loss_bound:
            tcp = Tcp(
                loss=loss if config.loss_bound else 0.0, initial_window=Tcp.initial_window if config.slow_start else 0.0
            )
            cap_bytes_per_s, wait_s = tcp.terms(size_bytes, 2.0 * latency_s, bytes_per_s)
        return self.sharing.start(
            (up, down), size_bytes, cap_per_s=cap_bytes_per_s, latency_s=latency_s, after_s=wait_s, done=done
        )

    def bring(self, target: int, size_bytes: float, done: Done) -> Flow:
        """Start a transfer from beyond the backbone, where no link is ever full: only the receiver's link down is."""
        links, down = self.network.links, f"{target} down"
        if down not in self.sharing:
            self.sharing.add(down, links.down_bytes_per_s[target])
        latency_s = links.one_way_s[target] + self.network.config.backbone_s
        return self.sharing.start((down,), size_bytes, latency_s=latency_s, done=done)

    def play(self, node: int, down_bytes_per_s: float) -> None:
        """Let a node's link carry so much down from now on, and up its usual share of that."""
        links = self.network.links
        up_share = links.up_bytes_per_s[node] / links.down_bytes_per_s[node]
        for name, rate in ((f"{node} up", down_bytes_per_s * up_share), (f"{node} down", down_bytes_per_s)):
            if name in self.sharing:
                self.sharing.set_capacity(name, rate)
            else:
                self.sharing.add(name, rate)

    def relink(self, node: int) -> None:
        """A node is on another link: from now on its flows share that one's rates."""
        links = self.network.links
        for name, rate in ((f"{node} up", links.up_bytes_per_s[node]), (f"{node} down", links.down_bytes_per_s[node])):
            if name in self.sharing:
                self.sharing.set_capacity(name, rate)
