"""Topologies: paths, what they refuse, and how little memory they take."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import networkx as nx
import pytest

from sim.topology import Access, Topology

LINE = {"technology": "ethernet", "bytes_per_s": 1e6, "latency_s": 0.01}


def town(**changes: Any) -> nx.Graph:
    """Three routers in a row with a detour; a wired device, two Wi-Fi stations, a phone, a relay."""
    graph = nx.Graph()
    graph.add_nodes_from(["west", "mid", "east"], router=True)
    graph.add_edge("west", "mid", latency_s=0.005, bytes_per_s=1e7)
    graph.add_edge("mid", "east", latency_s=0.005)
    graph.add_edge("west", "east", latency_s=0.1)
    wifi = {"technology": "wifi", "bytes_per_s": 4e6, "latency_s": 0.002, "nat": True}
    cell = {"technology": "lte", "up_bytes_per_s": 1e6, "down_bytes_per_s": 3e6, "latency_s": 0.02}
    graph.add_edge("desk", "east", **LINE)
    graph.add_edge("laptop", "west", **wifi)
    graph.add_edge("tablet", "west", **wifi)
    graph.add_edge("phone", "east", **cell, nat=True, metered=True)
    graph.add_node("relay", relay=True)
    graph.add_edge("relay", "mid", **LINE)
    return graph


def names(topology: Topology, source: str, target: str) -> list[str]:
    """Return the names of a route's links."""
    return [link.name for link in topology.route(source, target).links]


def test_a_path_is_access_backbone_access_by_the_least_latency() -> None:
    """The direct but slow backbone edge is not taken; up and down have rates of their own."""
    route = Topology(town()).route("laptop", "desk")

    assert [link.name for link in route.links] == ["wifi of west", "west to mid", "mid to east", "desk down"]
    assert [link.bytes_per_s for link in route.links] == [4e6, 1e7, math.inf, 1e6]
    assert route.latency_s == pytest.approx(0.002 + 0.005 + 0.005 + 0.01)
    assert (route.relay, route.crossings) == (None, {})
    assert [link.bytes_per_s for link in Topology(town()).route("desk", "phone").links] == [1e6, 3e6]


def test_two_devices_behind_nat_speak_through_the_relay() -> None:
    """The relay's links are on the path, and its detour in the latency."""
    route = Topology(town()).route("laptop", "phone")

    assert [link.name for link in route.links] == [
        "wifi of west", "west to mid", "relay down", "relay up", "mid to east", "phone down",
    ]  # fmt: skip
    assert route.latency_s == pytest.approx(0.002 + 0.005 + 0.01 + 0.01 + 0.005 + 0.02)
    assert route.relay == "relay"


def test_the_relay_with_the_shortest_detour_is_taken() -> None:
    """Of a near and a far relay it is the near one."""
    graph = town()
    graph.add_node("far relay", relay=True)
    graph.add_edge("far relay", "mid", **{**LINE, "latency_s": 0.5})

    assert Topology(graph).route("phone", "tablet").relay == "relay"


def test_stations_of_one_medium_cross_it_twice() -> None:
    """Between two open stations each byte is on the air twice, and takes twice the access delay."""
    graph = town()
    graph.edges["laptop", "west"]["nat"] = False
    route = Topology(graph).route("laptop", "tablet")

    assert [link.name for link in route.links] == ["wifi of west"]
    assert route.crossings == {"wifi of west": 2}
    assert route.latency_s == pytest.approx(0.004)


def test_a_directed_backbone_has_its_own_way_back() -> None:
    """Each direction of a DiGraph has its own latency, so ways there and back may differ."""
    graph = nx.DiGraph()
    graph.add_nodes_from("abc", router=True)
    graph.add_edges_from([("a", "b", {"latency_s": 0.1}), ("b", "a", {"latency_s": 0.9})])
    graph.add_edges_from([("b", "c", {"latency_s": 0.1}), ("c", "a", {"latency_s": 0.1})])
    graph.add_edges_from([("x", "a", LINE), ("b", "y", LINE)])
    topology = Topology(graph)

    assert names(topology, "x", "y") == ["x up", "a to b", "y down"]
    assert names(topology, "y", "x") == ["y up", "b to c", "c to a", "x down"]


def test_a_switch_changes_the_paths_found_afterwards() -> None:
    """A laptop that leaves its Wi-Fi for the cell is reached over the cell."""
    topology = Topology(town())
    topology.switch("laptop", Access("east", "5g", 1e6, 2e6, 0.03, metered=True))

    assert names(topology, "laptop", "desk") == ["laptop up", "desk down"]
    assert topology.metered[topology.row("laptop")]
    assert topology.access("laptop") == Access("east", "5g", 1e6, 2e6, 0.03, metered=True)


def _edge(u: str, v: str, **data: Any) -> nx.Graph:
    graph = town()
    graph.add_edge(u, v, **data)
    return graph


def _node(name: str, **data: Any) -> nx.Graph:
    graph = town()
    graph.add_node(name, **data)
    return graph


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (_node("island", router=True), r"node island: unreachable from west or back; allowed: routers that all reach"),
        (_node("lost"), r"node lost: has 0 access links; allowed: one, to a router"),
        (_edge("desk", "west", **LINE), r"node desk: has 2 access links; allowed: one, to a router"),
        (
            _edge("new", "west", **{**LINE, "bytes_per_s": 0.0}),
            r"edge new-west: up_bytes_per_s \(0.0\) must be above 0",
        ),
        (_edge("new", "west", technology="lte", latency_s=0.1), r"edge new-west: up_bytes_per_s \(nan\) must be above"),
        (_edge("new", "west", **{**LINE, "latency_s": -1.0}), r"edge new-west: latency_s \(-1.0\) must be at least 0"),
        (
            _edge("new", "west", **{**LINE, "technology": "dsl"}),
            r"edge new-west: technology \(dsl\) must be one of eth",
        ),
        (
            _edge("new", "west", **{**LINE, "technology": "wifi"}),
            r"edge new-west: up and down .* of the wifi medium .*4",
        ),
        (_edge("west", "mid", bytes_per_s=-5.0), r"edge west-mid: bytes_per_s \(-5.0\) must be above 0 and finite"),
        (_edge("mid", "east", latency_s=math.nan), r"edge mid-east: latency_s \(nan\) must be at least 0 and finite"),
        (_node("phone", relay=True), r"node phone: relay must be a device that is not behind NAT"),
        (nx.Graph(), r"topology: has no router; allowed: at least one node with router=True"),
    ],
)
def test_a_bad_topology_is_refused_in_one_line(graph: nx.Graph, message: str) -> None:
    """The error names the node or the edge, the value, and what is allowed."""
    with pytest.raises(ValueError, match=message) as refusal:
        Topology(graph)

    assert "\n" not in str(refusal.value)


def test_a_route_that_cannot_be_is_refused() -> None:
    """Unknown devices, a device to itself, and two behind NAT without a relay."""
    graph = town()
    graph.remove_node("relay")
    topology = Topology(graph)
    with pytest.raises(ValueError, match=r"node nobody: unknown; allowed: a device"):
        topology.route("desk", "nobody")
    with pytest.raises(ValueError, match=r"route from desk to desk: allowed: two different devices"):
        topology.route("desk", "desk")
    with pytest.raises(ValueError, match=r"route from phone to laptop: both are behind NAT; allowed: with a relay"):
        topology.route("phone", "laptop")


@pytest.mark.slow
def test_a_hundred_thousand_devices_take_less_than_500_mb() -> None:
    """The graph, the topology made of it and some routes stay below 500 MB together; the topology alone below 50."""
    tracemalloc.start()
    graph = nx.Graph()
    graph.add_nodes_from((f"r{k}" for k in range(100)), router=True)
    graph.add_edges_from((f"r{k}", f"r{(k + 1) % 100}", {"latency_s": 0.001}) for k in range(100))
    for k in range(100_000):
        graph.add_edge(
            f"d{k}", f"r{k % 100}", technology="lte", up_bytes_per_s=1e6, down_bytes_per_s=1e7, latency_s=0.02
        )
    topology = Topology(graph)
    for k in range(1_000):
        topology.route(f"d{k}", f"d{99_999 - k}")
    together = tracemalloc.get_traced_memory()[1]
    graph.clear()
    del graph
    alone = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert together < 500e6
    assert alone < 50e6
