"""Who hangs where: devices on access links, access links on routers, routers on a backbone; a graph in, arrays inside.

A path is access, backbone, access. Devices may be many, so theirs are arrays, one row a device, and a path is found
when it is asked for; there is no table of pairs. Ethernet and cellular have a link up and a link down. Wi-Fi and BLE
have one medium at a router, which all its stations share in both directions: between two stations of one medium every
byte crosses it twice, by way of the router. Two devices behind NAT speak through a relay.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from sim.sharing.allowed import require_above_zero, require_at_least_zero

SHARED = ("wifi", "ble")
"""Technologies with one medium for both directions and all stations: IEEE 802.11's DCF, Bluetooth's advertising."""
SEPARATE = ("ethernet", "lte", "5g")
"""Technologies with a link up and a link down: full-duplex Ethernet; cellular, where each direction has its bands."""
TECHNOLOGIES = SEPARATE + SHARED
CACHED_ROUTES = 4096
"""Backbone routes kept, the last used ones: a bound on memory, not a matrix."""

Node = Hashable


@dataclass(frozen=True)
class Access:
    """One access link.

    Attributes:
        router: where it ends.
        technology: one of `TECHNOLOGIES`.
        up_bytes_per_s, down_bytes_per_s: its rates; equal on a shared medium, and there those of the medium.
        latency_s: one way.
        nat: others cannot open connections to it.
        metered: its bytes cost money.
    """

    router: Node
    technology: str
    up_bytes_per_s: float
    down_bytes_per_s: float
    latency_s: float
    nat: bool = False
    metered: bool = False


@dataclass(frozen=True)
class Link:
    """One resource on a path: its name, capacity (inf for none) and one-way latency."""

    name: str
    bytes_per_s: float
    latency_s: float


@dataclass(frozen=True)
class Route:
    """The way from one device to another.

    Attributes:
        links: each once, in the order of first use.
        crossings: how often the path crosses links that it crosses more than once, by name.
        latency_s: of the whole path, one way, a relay's detour included.
        relay: the device in between, or None.
    """

    links: tuple[Link, ...]
    crossings: dict[str, int]
    latency_s: float
    relay: Node | None


class Topology:
    """Devices, routers and the links between them.

    Args:
        graph: routers are nodes with `router=True`; edges between them carry `latency_s` and, if they can be full,
            `bytes_per_s` for each direction. Every other node is a device with one edge, to a router, that carries
            the fields of `Access`: `technology`, `up_bytes_per_s`, `down_bytes_per_s` (or `bytes_per_s` for both),
            `latency_s`, and where they hold `nat` and `metered`. Devices with `relay=True` relay; they must not be
            behind NAT. In a DiGraph an edge between routers is one direction; a device's edge may point either way.

    Raises:
        ValueError: a node is unreachable or a device has not just one access link, a rate or latency is missing or not
            allowed, a technology is unknown, stations of one medium disagree about its rate, or a relay is behind NAT.

    Example:
        >>> graph = nx.Graph()
        >>> graph.add_node("core", router=True)
        >>> line = {"technology": "ethernet", "bytes_per_s": 1e6, "latency_s": 0.01}
        >>> graph.add_edges_from([("a", "core", line), ("b", "core", line)])
        >>> [link.name for link in Topology(graph).route("a", "b").links]
        ['a up', 'b down']
    """

    def __init__(self, graph: nx.Graph) -> None:
        self._routers: dict[Node, int] = {
            node: k for k, node in enumerate(n for n, is_router in graph.nodes(data="router") if is_router)
        }
        self._router_names = list(self._routers)
        self.devices: list[Node] = [node for node in graph if node not in self._routers]
        self._rows = {node: row for row, node in enumerate(self.devices)}
        self._backbone = _backbone(graph, self._routers)
        count = len(self.devices)
        self.up_bytes_per_s: NDArray[np.float64] = np.zeros(count)
        self.down_bytes_per_s: NDArray[np.float64] = np.zeros(count)
        self.latency_s: NDArray[np.float64] = np.zeros(count)
        self.router: NDArray[np.int32] = np.zeros(count, np.int32)
        self.technology: NDArray[np.int8] = np.zeros(count, np.int8)
        self.nat: NDArray[np.bool_] = np.zeros(count, np.bool_)
        self.metered: NDArray[np.bool_] = np.zeros(count, np.bool_)
        self._media: dict[tuple[int, int], float] = {}
        directed = graph.is_directed()
        for row, device in enumerate(self.devices):
            edges = [(end, data) for end, data in graph.adj[device].items()]
            if directed:
                edges += [(end, data) for end, data in graph.pred[device].items() if end not in graph.adj[device]]
            if len(edges) != 1:
                raise ValueError(f"node {device}: has {len(edges)} access links; allowed: one, to a router")
            self._set(row, _access(device, *edges[0]))
        self.relays = [node for node, is_relay in graph.nodes(data="relay") if is_relay]
        for relay in self.relays:
            if relay not in self._rows or self.nat[self._rows[relay]]:
                raise ValueError(f"node {relay}: relay must be a device that is not behind NAT")
        self._hops = lru_cache(CACHED_ROUTES)(self._find_hops)

    def row(self, device: Node) -> int:
        """Return a device's row in the arrays.

        Raises:
            ValueError: no such device.
        """
        if device not in self._rows:
            raise ValueError(f"node {device}: unknown; allowed: a device of the topology")
        return self._rows[device]

    def access(self, device: Node) -> Access:
        """Return a device's access link."""
        row = self.row(device)
        return Access(
            self._router_names[self.router[row]], TECHNOLOGIES[self.technology[row]],
            float(self.up_bytes_per_s[row]), float(self.down_bytes_per_s[row]), float(self.latency_s[row]),
            bool(self.nat[row]), bool(self.metered[row]),
        )  # fmt: skip

    def switch(self, device: Node, access: Access) -> None:
        """Move a device to another access link; paths found from now on use it.

        Raises:
            ValueError: as for the graph; nothing has changed then.
        """
        row = self.row(device)
        if device in self.relays and access.nat:
            raise ValueError(f"node {device}: relay must be a device that is not behind NAT")
        self._set(row, _checked(device, access))

    def route(self, source: Node, target: Node, relay: Node | None = None) -> Route:
        """Return the way from one device to another, found now.

        Args:
            source, target: two different devices.
            relay: go through this device in any case; None goes through one only if both ends are behind NAT, and
                then through the one with the least latency there and on (of equals, the first of the graph).

        Raises:
            ValueError: a device is unknown, or they are one, or both are behind NAT and there is no relay.
        """
        a, b = self.row(source), self.row(target)
        if a == b:
            raise ValueError(f"route from {source} to {target}: allowed: two different devices")
        if relay is None and not (self.nat[a] and self.nat[b]):
            return _route(self._leg(a, b), None)
        relays = [self.row(node) for node in (self.relays if relay is None else [relay])]
        if not relays:
            raise ValueError(f"route from {source} to {target}: both are behind NAT; allowed: with a relay in between")
        ways = [(self._leg(a, r) + self._leg(r, b), self.devices[r]) for r in relays]
        return _route(*min(ways, key=lambda way: sum(link.latency_s for link in way[0])))

    # -- inside --------------------------------------------------------------------------------------

    def _set(self, row: int, access: Access) -> None:
        device = self.devices[row]
        if access.router not in self._routers:
            raise ValueError(f"edge {device}-{access.router}: access link must end at a router")
        router, technology = self._routers[access.router], TECHNOLOGIES.index(access.technology)
        if access.technology in SHARED:
            rate = self._media.setdefault((router, technology), access.up_bytes_per_s)
            if access.up_bytes_per_s != rate or access.down_bytes_per_s != rate:
                raise ValueError(
                    f"edge {device}-{access.router}: up and down bytes_per_s ({access.up_bytes_per_s}, "
                    f"{access.down_bytes_per_s}) must be those of the {access.technology} medium there ({rate})"
                )
        self.router[row], self.technology[row] = router, technology
        self.up_bytes_per_s[row], self.down_bytes_per_s[row] = access.up_bytes_per_s, access.down_bytes_per_s
        self.latency_s[row], self.nat[row], self.metered[row] = access.latency_s, access.nat, access.metered

    def _leg(self, a: int, b: int) -> list[Link]:
        """Return the links from one row's device to another's, no relay in between."""
        hops = self._hops(self._router_names[self.router[a]], self._router_names[self.router[b]])
        return [self._link(a, "up", self.up_bytes_per_s), *hops, self._link(b, "down", self.down_bytes_per_s)]

    def _link(self, row: int, direction: str, bytes_per_s: NDArray[np.float64]) -> Link:
        technology = TECHNOLOGIES[self.technology[row]]
        if technology in SHARED:
            name = f"{technology} of {self._router_names[self.router[row]]}"
        else:
            name = f"{self.devices[row]} {direction}"
        return Link(name, float(bytes_per_s[row]), float(self.latency_s[row]))

    def _find_hops(self, a: Node, b: Node) -> tuple[Link, ...]:
        """Return the backbone's links between two routers: the shortest in latency (Dijkstra)."""
        nodes = nx.dijkstra_path(self._backbone, a, b, weight="latency_s")
        data = self._backbone.edges
        return tuple(
            Link(f"{u} to {v}", data[u, v].get("bytes_per_s", math.inf), data[u, v]["latency_s"])
            for u, v in pairwise(nodes)
        )


def _route(links: Iterable[Link], relay: Node | None) -> Route:
    """Return a route, links that it crosses again counted instead of repeated."""
    links = list(links)
    counts = Counter(link.name for link in links)
    once = tuple({link.name: link for link in links}.values())
    again = {name: count for name, count in counts.items() if count > 1}
    return Route(once, again, math.fsum(link.latency_s for link in links), relay)


def _backbone(graph: nx.Graph, routers: dict[Node, int]) -> nx.DiGraph:
    """Return the routers and the edges between them, each direction apart, or say what is wrong with them."""
    backbone = nx.DiGraph()
    backbone.add_nodes_from(routers)
    for u in routers:
        for v, data in graph.adj[u].items():
            if v not in routers:
                continue
            if "bytes_per_s" in data:
                require_above_zero(f"edge {u}-{v}: bytes_per_s", data["bytes_per_s"])
            require_at_least_zero(f"edge {u}-{v}: latency_s", data.get("latency_s", math.nan))
            backbone.add_edge(u, v, **data)
    first = next(iter(routers), None)
    if first is None:
        raise ValueError("topology: has no router; allowed: at least one node with router=True")
    there, back = nx.descendants(backbone, first), nx.ancestors(backbone, first)
    for node in routers:
        if node != first and not (node in there and node in back):
            raise ValueError(
                f"node {node}: unreachable from {first} or back; allowed: routers that all reach one another"
            )
    return backbone


def _access(device: Node, router: Node, data: dict[str, Any]) -> Access:
    """Return the access link that a device's edge describes."""
    both = data.get("bytes_per_s", math.nan)
    up, down = data.get("up_bytes_per_s", both), data.get("down_bytes_per_s", both)
    return _checked(
        device,
        Access(
            router, data.get("technology", "none"), up, down, data.get("latency_s", math.nan),
            bool(data.get("nat", False)), bool(data.get("metered", False)),
        ),
    )  # fmt: skip


def _checked(device: Node, access: Access) -> Access:
    """Return an access link whose values are allowed."""
    edge = f"edge {device}-{access.router}"
    if access.technology not in TECHNOLOGIES:
        raise ValueError(f"{edge}: technology ({access.technology}) must be one of {', '.join(TECHNOLOGIES)}")
    require_above_zero(f"{edge}: up_bytes_per_s", access.up_bytes_per_s)
    require_above_zero(f"{edge}: down_bytes_per_s", access.down_bytes_per_s)
    require_at_least_zero(f"{edge}: latency_s", access.latency_s)
    return access
