"""Transfers over a topology: closed forms for what they share, wait for, and lose."""

from __future__ import annotations

import networkx as nx
import pytest

from models.links import mathis_bytes_per_s
from sim.engine import NS_PER_S, Engine
from sim.sharing import MODES
from sim.tcp import Tcp
from sim.topology import Access, Topology
from sim.transfers import SWITCHED, Transfer, Transfers


def street(mode: str = "max_min") -> tuple[Engine, Transfers]:
    """Two wired devices, two stations on one Wi-Fi behind NAT, a phone behind NAT on a meter, and a relay."""
    graph = nx.Graph()
    graph.add_node("hub", router=True)
    wire = {"technology": "ethernet", "bytes_per_s": 1000.0, "latency_s": 0.1}
    air = {"technology": "wifi", "bytes_per_s": 600.0, "latency_s": 0.1}
    graph.add_edges_from([("a", "hub", wire), ("b", "hub", wire), ("relay", "hub", {**wire, "metered": True})])
    graph.add_edges_from([("w", "hub", air), ("v", "hub", air)])
    graph.add_edge("phone", "hub", **wire | {"technology": "lte", "nat": True, "metered": True})
    graph.add_edge("tablet", "hub", **wire | {"technology": "lte", "nat": True})
    graph.nodes["relay"]["relay"] = True
    engine = Engine()
    return engine, Transfers(engine, Topology(graph), mode)


def test_a_transfer_takes_its_latency_and_its_bytes() -> None:
    """1000 bytes at 1000 bytes/s after two access delays of 0.1 s."""
    engine, transfers = street()
    ended: list[Transfer] = []
    transfer = transfers.send("a", "b", 1000.0, done=ended.append)
    engine.run()

    assert transfer.finished_s == pytest.approx(1.2)
    assert (ended, transfer.carried_bytes, transfer.cut, transfer.mode) == ([transfer], 1000.0, "", "max_min")
    assert transfers.in_flight("a") == transfers.in_flight("b") == []


def test_directions_of_a_wire_do_not_disturb_each_other_and_those_of_a_medium_do() -> None:
    """Both ways at once: at full rate on Ethernet, at half the medium's each on Wi-Fi."""
    engine, transfers = street()
    wired = [transfers.send("a", "b", 1000.0), transfers.send("b", "a", 1000.0)]
    engine.run()
    start_s = engine.now / NS_PER_S
    aired = [transfers.send("w", "a", 300.0), transfers.send("b", "v", 300.0)]
    engine.run()

    assert [transfer.finished_s for transfer in wired] == pytest.approx([1.2, 1.2])
    assert [(transfer.finished_s or 0.0) - start_s for transfer in aired] == pytest.approx([1.2, 1.2])


def test_between_two_stations_the_medium_carries_every_byte_twice() -> None:
    """300 bytes over a medium of 600 bytes/s take a second."""
    engine, transfers = street()
    transfer = transfers.send("w", "v", 300.0)
    engine.run()

    assert transfer.finished_s == pytest.approx(1.2)


def test_a_relayed_transfer_loads_the_relay_and_counts_on_its_meter_twice() -> None:
    """What the relay receives itself shares its link with what it passes on; meters see what crosses them."""
    engine, transfers = street()
    relayed = transfers.send("phone", "tablet", 1000.0)
    own = transfers.send("a", "relay", 1000.0)
    engine.run()
    metered = dict(zip(transfers.topology.devices, transfers.metered_bytes.tolist(), strict=True))

    # From 0.2 s on `own` has the relay's link; from 0.4 s both share it, 800 bytes against 1000.
    assert own.finished_s == pytest.approx(2.0)
    assert relayed.finished_s == pytest.approx(2.2)
    assert {name: count for name, count in metered.items() if count} == {"phone": 1000.0, "relay": 3000.0}


@pytest.mark.parametrize("mover", ["phone", "relay"])
def test_a_network_switch_cuts_what_is_in_flight_and_says_why(mover: str) -> None:
    """After 0.6 s of carrying, 600 bytes have arrived and are on the old link's meter; the other transfer goes on."""
    engine, transfers = street()
    heard: list[tuple[str, str]] = []
    relayed = transfers.send(
        "phone", "tablet", 1000.0, done=lambda t: heard.append((t.cut, transfers.topology.access(mover).technology))
    )
    other = transfers.send("a", "b", 1000.0)
    engine.run(until=NS_PER_S)
    cut = transfers.switch(mover, Access("hub", "5g", 5000.0, 5000.0, 0.05))
    engine.run()

    assert cut == [relayed]
    assert heard == [(SWITCHED, "5g")]
    assert relayed.finished_s is None
    assert relayed.carried_bytes == pytest.approx(600.0)
    assert transfers.metered_bytes[transfers.topology.row("phone")] == pytest.approx(600.0)
    assert other.finished_s == pytest.approx(1.2)


def test_what_is_sent_after_a_switch_uses_the_new_link() -> None:
    """The rest is sent again at the new link's rate, started by whoever heard of the cut."""
    engine, transfers = street()
    rest: list[Transfer] = []
    transfers.send("a", "b", 1000.0, done=lambda t: rest.append(transfers.send("a", "b", 1000.0 - t.carried_bytes)))
    engine.run(until=NS_PER_S * 7 // 10)
    transfers.switch("a", Access("hub", "lte", 100.0, 100.0, 0.3))
    engine.run()

    assert rest[0].finished_s == pytest.approx(0.7 + 0.4 + 500.0 / 100.0)


def test_a_refused_switch_cuts_nothing() -> None:
    """The error names the edge, and what is in flight goes on."""
    engine, transfers = street()
    transfer = transfers.send("a", "b", 1000.0)
    with pytest.raises(ValueError, match=r"edge a-hub: up_bytes_per_s \(0.0\) must be above 0 and finite"):
        transfers.switch("a", Access("hub", "lte", 0.0, 1.0, 0.1))
    engine.run()

    assert transfer.finished_s == pytest.approx(1.2)


def test_loss_bounds_the_rate_by_mathis() -> None:
    """With the loss that allows 100 bytes/s over this RTT, 1000 bytes take 10 s."""
    engine, transfers = street()
    mss_bytes, rtt_s = 10.0, 0.4
    loss = 1.5 * (mss_bytes / rtt_s / 100.0) ** 2
    assert float(mathis_bytes_per_s(mss_bytes, rtt_s, loss)) == pytest.approx(100.0)
    transfer = transfers.send("a", "b", 1000.0, tcp=Tcp(mss_bytes, loss, initial_window=0.0))
    engine.run()

    assert transfer.finished_s == pytest.approx(10.2)


@pytest.mark.parametrize(("size", "rounds"), [(10, 1), (30, 2), (31, 3), (70, 3), (10_000, 6)])
def test_slow_start_doubles_its_window_each_round_trip(size: int, rounds: int) -> None:
    """10, 30, 70 segments take 1, 2, 3 round trips, the last of them the transfer's own; a full path ends it."""
    rtt_s, segment = 0.1, 1460.0
    fills_at_63 = 63 * 10 * segment / rtt_s

    assert Tcp().slow_start_s(size * segment, rtt_s, fills_at_63) == pytest.approx((rounds - 1) * rtt_s)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_names_itself_on_the_transfer(mode: str) -> None:
    """A result says which sharing was in force."""
    engine, transfers = street(mode)
    transfer = transfers.send("a", "b", 100.0)
    engine.run()

    assert (transfer.mode, transfer.flow.mode) == (mode, mode)


def test_what_a_transfer_refuses() -> None:
    """Sizes, TCP's fields, and slow start on top of a mode that has it."""
    _, transfers = street("lv08")
    with pytest.raises(ValueError, match=r"transfer: size_bytes \(-1.0\) must be at least 0 and finite"):
        transfers.send("a", "b", -1.0)
    with pytest.raises(ValueError, match=r"tcp: initial_window \(10.0\) must be 0 in mode lv08"):
        transfers.send("a", "b", 1.0, tcp=Tcp())
    with pytest.raises(ValueError, match=r"tcp: loss \(1.0\) must be at least 0 and below 1"):
        Tcp(loss=1.0)
    with pytest.raises(ValueError, match=r"tcp: mss_bytes \(0.0\) must be above 0 and finite"):
        Tcp(mss_bytes=0.0)
