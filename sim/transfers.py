"""Bytes from one device to another: a transfer is a fluid flow over the path that the topology finds for it.

A device that changes networks cuts its transfers: a TCP connection is the pair of its ends' addresses (RFC 9293,
section 3.3), and the new network gives another. What was carried counts; whoever wants the rest sends again, over the
new path. Resources come into being with the first transfer over them, so idle devices cost nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sim.engine import Engine
from sim.sharing import Flow, Sharing
from sim.sharing.allowed import require_at_least_zero
from sim.tcp import Tcp
from sim.topology import Access, Node, Route, Topology

SWITCHED = "network switch"
"""Why transfers are cut when an end or their relay changes networks."""


class Transfer:
    """One transfer, from `Transfers.send` on.

    Attributes:
        source, target: the devices at its ends.
        size_bytes: what it is to carry.
        route: its path.
        mode: the name of the sharing mode in force.
        cut: why it ended early, or "".
        carried_bytes: what had arrived when it ended; 0 before.
    """

    __slots__ = ("carried_bytes", "cut", "flow", "mode", "route", "size_bytes", "source", "target")

    def __init__(self, source: Node, target: Node, size_bytes: float, route: Route, mode: str) -> None:
        self.source, self.target, self.size_bytes, self.route, self.mode = source, target, size_bytes, route, mode
        self.cut, self.carried_bytes = "", 0.0
        self.flow: Flow

    @property
    def finished_s(self) -> float | None:
        """When its last byte arrived, in the engine's seconds; None before, and if it was cut."""
        return self.flow.finished_s


class Transfers:
    """Transfers over a topology.

    Args:
        engine: counts int nanoseconds.
        topology: whose paths are used; it is changed by `switch` only.
        mode: how links are shared: `max_min`, `rtt_weighted` or `lv08`.

    Attributes:
        metered_bytes: by row of the topology, what crossed the device's link while it was metered, up and down.
    """

    def __init__(self, engine: Engine, topology: Topology, mode: str = "max_min") -> None:
        self.topology = topology
        self.sharing = Sharing(engine, mode)
        self.metered_bytes: NDArray[np.float64] = np.zeros(len(topology.devices))
        self._of: dict[Node, dict[Transfer, None]] = {}  # those in flight, by end and relay
        self._done: dict[Transfer, Callable[[Transfer], object]] = {}

    def send(
        self,
        source: Node,
        target: Node,
        size_bytes: float,
        *,
        tcp: Tcp | None = None,
        done: Callable[[Transfer], object] | None = None,
    ) -> Transfer:
        """Start a transfer over the path of this moment.

        Args:
            source, target: two different devices.
            size_bytes: at least 0.
            tcp: adds its loss bound and its slow start; None leaves both out.
            done: called when it ended, or was cut.

        Raises:
            ValueError: no path, a size that is not allowed, or slow start where the mode has it already.
        """
        require_at_least_zero("transfer: size_bytes", size_bytes)
        mode = self.sharing.mode
        if mode == "lv08" and tcp is not None and tcp.initial_window > 0.0:
            raise ValueError(f"tcp: initial_window ({tcp.initial_window}) must be 0 in mode lv08, which has slow start")
        route = self.topology.route(source, target)
        cap_bytes_per_s, wait_s = math.inf, 0.0
        if tcp is not None:
            rate = min(link.bytes_per_s / route.crossings.get(link.name, 1) for link in route.links)
            cap_bytes_per_s, wait_s = tcp.terms(size_bytes, 2.0 * route.latency_s, rate)
        path = self._resources(route)
        back = self._resources(self.topology.route(target, source, relay=route.relay))
        transfer = Transfer(source, target, size_bytes, route, mode)
        transfer.flow = self.sharing.start(
            path,
            size_bytes,
            back=back,
            takes={name: float(count) for name, count in route.crossings.items() if name in path},
            cap_per_s=cap_bytes_per_s,
            latency_s=route.latency_s,
            after_s=wait_s,
            done=lambda _: self._end(transfer),
        )
        for node in _touched(transfer):
            self._of.setdefault(node, {})[transfer] = None
        if done is not None:
            self._done[transfer] = done
        return transfer

    def in_flight(self, device: Node) -> list[Transfer]:
        """Return the transfers that begin, end or are relayed at a device, oldest first."""
        return list(self._of.get(device, ()))

    def cut(self, transfer: Transfer, reason: str) -> None:
        """End a transfer in flight early; one that has ended stays as it is."""
        if self._stop(transfer, reason):
            self._tell(transfer)

    def switch(self, device: Node, access: Access) -> list[Transfer]:
        """Move a device to another network, and cut what is in flight over its old link; return those.

        Whoever hears of a cut already sends over the new link.

        Raises:
            ValueError: the new link is not allowed; nothing has changed then.
        """
        before = self.topology.access(device)
        self.topology.switch(device, access)  # refuses before anything is cut; what is cut still goes over the old link
        self.topology.switch(device, before)
        cut = []
        while self._of.get(device):
            transfer = next(iter(self._of[device]))
            if self._stop(transfer, SWITCHED):
                cut.append(transfer)
        self.topology.switch(device, access)
        for link, bytes_per_s in ((f"{device} up", access.up_bytes_per_s), (f"{device} down", access.down_bytes_per_s)):
            if link in self.sharing:
                self.sharing.set_capacity(link, bytes_per_s)
        for transfer in cut:
            self._tell(transfer)
        return cut

    # -- inside --------------------------------------------------------------------------------------

    def _resources(self, route: Route) -> list[str]:
        """Return the names of a route's links that can be full, each a resource from its first use on."""
        names = []
        for link in route.links:
            if link.bytes_per_s < math.inf:
                if link.name not in self.sharing:
                    self.sharing.add(link.name, link.bytes_per_s)
                names.append(link.name)
        return names

    def _stop(self, transfer: Transfer, reason: str) -> bool:
        """Cut a transfer; False if it has ended, be it at this very moment."""
        left_bytes = self.sharing.cancel(transfer.flow)
        if transfer not in self._of[transfer.source]:
            return False
        transfer.cut = reason
        self._book(transfer, transfer.size_bytes - left_bytes)
        return True

    def _end(self, transfer: Transfer) -> None:
        self._book(transfer, transfer.size_bytes)
        self._tell(transfer)

    def _book(self, transfer: Transfer, carried_bytes: float) -> None:
        """Note what was carried, and over whose metered links."""
        transfer.carried_bytes = carried_bytes
        for node in _touched(transfer):
            del self._of[node][transfer]
            row = self.topology.row(node)
            if self.topology.metered[row]:  # a relay's link carries each byte in and out
                self.metered_bytes[row] += carried_bytes * (2.0 if node == transfer.route.relay else 1.0)

    def _tell(self, transfer: Transfer) -> None:
        done = self._done.pop(transfer, None)
        if done is not None:
            done(transfer)


def _touched(transfer: Transfer) -> list[Node]:
    """Return the devices whose links a transfer crosses."""
    relay = transfer.route.relay
    return [transfer.source, transfer.target] + ([] if relay is None else [relay])
