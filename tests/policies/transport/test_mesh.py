"""Mesh: letters cross a chain of radios, wait for who is away, and go round no loop."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import check_policy
from policies import port as p
from policies.config import MeshConfig
from policies.transport import Mesh
from policies.transport.buffer import Buffer, Id, Packet
from policies.transport.messages import EVERYONE, Accepted, Acknowledged, Dead, Delivered, Heard, Post, Spread
from policies.wire import Message, encode
from scenarios.checks import transport as checks
from scenarios.schema import Network
from sim.cluster import Cluster
from sim.trace import Event
from tests.policies.transport import announced as announcements
from tests.policies.transport.announced import announced
from tests.policies.transport.storm import storm

Topology = Mapping[str, Collection[str]]
CLEAR = Network(backbone_s=0.01, loss=0.0, duplicate=0.0)
LOSSY = Network(backbone_s=0.01, loss=0.2, duplicate=0.2, jitter_sigma=1.0)


def radios(graph: Any) -> Topology:
    """Return a graph of numbers as the neighbours of nodes n0, n1, ..."""
    return {f"n{node}": tuple(f"n{other}" for other in graph[node]) for node in graph}


def line(count: int) -> Topology:
    """Nodes in a row, each in reach of the next."""
    return radios(nx.path_graph(count))


def village(topology: Topology, seed: int = 1, network: Network = CLEAR, **config: Any) -> Cluster:
    """Return a cluster on these radios."""
    return Cluster(lambda: Mesh(topology, MeshConfig(**config)), n=len(topology), seed=seed, network=network)


def post(cluster: Cluster, origin: str, to: str, op_id: str = "1") -> None:
    """Post a letter that says its own operation."""
    cluster.request(origin, "client", op_id, Post(to, op_id.encode()))


def seen(cluster: Cluster, kind: type[Message]) -> list[Any]:
    """Return what was announced of one class."""
    return [value for _, value in announced(cluster, kind)]


def broken(cluster: Cluster) -> dict[str, str]:
    """Return the promises of safety that were broken so far."""
    return announcements.broken(cluster, *checks.mesh("", 7))


def test_it_is_a_policy(capsys: pytest.CaptureFixture[str]) -> None:
    """Its shape, text and behaviour pass the check that every policy may be given to."""
    check_policy(lambda: Mesh(line(3)))
    assert capsys.readouterr().out.startswith("ok: Mesh")


@pytest.mark.parametrize("count", [2, 5, 8])
@pytest.mark.parametrize("network", [CLEAR, LOSSY])
def test_a_letter_crosses_a_line_of_up_to_eight(count: int, network: Network) -> None:
    """Eight nodes are seven hops: it arrives at the far end, and the origin knows, and nobody carries it any longer."""
    for seed in range(5):
        cluster = village(line(count), seed, network)
        post(cluster, "n0", f"n{count - 1}")
        cluster.run(300)

        assert len(seen(cluster, Heard)) == count - 1
        assert (len(seen(cluster, Delivered)), len(seen(cluster, Acknowledged))) == (1, 1)
        assert broken(cluster) == {}
        assert all(len(cluster.policy(n).buffer) == 0 for n in cluster.names)


def test_the_eighth_hop_is_not_made() -> None:
    """In a line of nine the letter is heard seven nodes far and no further, and expires with its reason."""
    cluster = village(line(9), network=LOSSY, ttl_s=600.0)
    post(cluster, "n0", "n8")
    cluster.run(700)

    heard = {event.node for event, _ in announced(cluster, Heard)}
    assert heard == {f"n{k}" for k in range(1, 7)}  # n7 would carry it for nobody
    assert [dead.reason for dead in seen(cluster, Dead)] == ["expired"]
    assert seen(cluster, Delivered) == []


def test_fifty_nodes_hear_a_broadcast() -> None:
    """On 20 random graphs of degree 8, under loss, everybody hears it, each once, within a minute."""
    for seed in range(20):
        topology = radios(nx.random_regular_graph(8, 50, seed))
        cluster = village(topology, seed, LOSSY)
        post(cluster, "n0", EVERYONE)
        cluster.run(60)

        assert announcements.broken(cluster, checks.EveryoneHears("", lambda origin, names=cluster.names: names)) == {}
        assert broken(cluster) == {}


def test_the_neighbours_are_not_always_the_same_three() -> None:
    """Over many letters each of eight neighbours is pushed to, none far more often than another."""
    pushed: dict[str, int] = {}

    def watch(event: Event) -> None:
        if event.node == "n0" and event.given[0] == p.DURABLE:
            for effect in event.effects:
                if effect[0] == p.SEND and len(effect[3]) > 40:
                    pushed[effect[2]] = pushed.get(effect[2], 0) + 1

    topology = radios(nx.star_graph(8))
    cluster = Cluster(lambda: Mesh(topology), n=9, network=CLEAR, watch=watch)
    for number in range(200):
        post(cluster, "n0", EVERYONE, str(number))
        cluster.run(0.01)

    assert len(pushed) == 8
    assert max(pushed.values()) < 2 * min(pushed.values())  # 75 each expected, standard deviation 7


def test_it_needs_only_neighbours() -> None:
    """Every frame of a run goes to a neighbour: no directory, no server, no internet."""
    topology = radios(nx.random_geometric_graph(12, 0.5, seed=3))
    frames: list[tuple[str, str]] = []

    def watch(event: Event) -> None:
        frames.extend((event.node, effect[2]) for effect in event.effects if effect[0] == p.SEND)

    cluster = Cluster(lambda: Mesh(topology), n=12, network=LOSSY, watch=watch)
    for number in range(11):
        post(cluster, "n0", f"n{number + 1}", str(number))
    cluster.run(60)

    assert len(frames) > 100
    assert all(to in topology[node] for node, to in frames)


def test_what_is_no_neighbour_is_not_heard() -> None:
    """A frame from a node out of reach is dropped, even where the network would carry it."""
    one_way = {"n0": ("n1",), "n1": ()}
    cluster = village(one_way)
    post(cluster, "n0", "n1")
    cluster.run(60)
    assert seen(cluster, Delivered) == []


def test_a_made_up_origin_takes_no_memory() -> None:
    """A packet whose origin is no node is dropped: neither delivered nor carried nor remembered."""
    cluster = village(line(3))
    cluster.run(1)
    node = cluster.world.by_name["n1"]
    for to in ("n1", EVERYONE, "n2"):
        forged = Packet(Id("ghost", to, 0, 1), 1, 1 << 62, 1, b"boo")
        cluster.world.give(node, (p.MESSAGE, "", "n0", encode(forged)))
    cluster.run(60)

    assert (seen(cluster, Heard), seen(cluster, Delivered)) == ([], [])
    assert len(cluster.policy("n1").buffer) == 0


def test_a_letter_waits_for_who_is_away() -> None:
    """The carrier keeps it while the destination is away, and brings it although the origin is gone by then."""
    cluster = village(line(3))
    cluster.crash("n2")
    post(cluster, "n0", "n2")
    cluster.run(3600)
    cluster.crash("n0")
    cluster.restart("n2")
    cluster.run(60)
    assert [d.body for d in seen(cluster, Delivered)] == [b"1"]

    cluster.restart("n0")
    cluster.run(60)
    assert len(seen(cluster, Acknowledged)) == 1
    assert broken(cluster) == {}


def test_waiting_is_quiet() -> None:
    """An hour's wait for an absent node costs each carrier a round in 15 to 30 s, not one a second."""
    cluster = village(line(3))
    cluster.crash("n2")
    post(cluster, "n0", "n2")
    cluster.run(60)
    before = cluster.messages
    cluster.run(3600)

    # n0 and n1 have 120 to 240 rounds each, of one and of two frames.
    assert cluster.messages - before <= 240 * 3


def test_a_letter_ends_with_its_day() -> None:
    """After 24 hours the origin gives an absent destination's letter up, and the carriers have dropped it."""
    cluster = village(line(3))
    cluster.crash("n2")
    post(cluster, "n0", "n2")
    cluster.run(24 * 3600 - 60)
    assert seen(cluster, Dead) == []
    cluster.run(120)
    cluster.restart("n2")
    cluster.run(120)

    assert [dead.reason for dead in seen(cluster, Dead)] == ["expired"]
    assert (seen(cluster, Delivered), len(cluster.policy("n1").buffer)) == ([], 0)


def test_a_broadcast_is_offered_for_its_life_and_then_over() -> None:
    """A node that comes late hears it within its life; afterwards the origin says that it was spread."""
    cluster = village(line(3), ttl_s=600.0)
    cluster.crash("n2")
    post(cluster, "n0", EVERYONE)
    cluster.run(500)
    cluster.restart("n2")
    cluster.run(200)

    assert {event.node for event, _ in announced(cluster, Delivered)} == {"n1", "n2"}
    assert len(seen(cluster, Spread)) == 1
    assert all(len(cluster.policy(n).buffer) == 0 for n in cluster.names)


def test_own_letters_survive_a_restart() -> None:
    """Accepted while nobody is near, then a power cut: offered and delivered all the same."""
    cluster = village(line(2))
    cluster.crash("n1")
    post(cluster, "n0", "n1")
    cluster.run(10)
    cluster.crash("n0")
    cluster.run(10)
    cluster.restart("n0")
    cluster.restart("n1")
    cluster.run(60)

    assert (len(seen(cluster, Accepted)), len(seen(cluster, Delivered))) == (1, 1)


def test_own_letters_are_bounded() -> None:
    """The letter that does not fit is refused with a reason; nothing accepted makes room for it."""
    cluster = village(line(2), pending_max=3)
    cluster.crash("n1")
    for number in range(4):
        post(cluster, "n0", "n1", str(number))
    cluster.run(1)

    assert len(seen(cluster, Accepted)) == 3
    assert [r.value for r in cluster.replies if r.op_id == "3"] == [["refused", "3 letters are open already"]]


def test_what_did_not_fit_the_carrier_arrives_later() -> None:
    """A carrier with room for two brings ten letters all the same, and never carries a third."""
    cluster = village(line(3), network=LOSSY, pending_max=10)
    carrier = cluster.policy("n1")
    carrier.buffer.size = 2
    for number in range(10):
        post(cluster, "n0", "n2", str(number))
    for _ in range(600):
        cluster.run(1)
        assert len(carrier.buffer) <= 2

    assert {d.body for d in seen(cluster, Delivered)} == {str(n).encode() for n in range(10)}
    assert broken(cluster) == {}


def test_an_origin_clears_its_letter_out_of_who_carries_it() -> None:
    """Between carrier and destination lies only the origin: it passes the acknowledgement on, and even after a restart
    it answers an offer of what it has not open any longer."""
    cluster = village({"n0": ("n1", "n2"), "n1": ("n0",), "n2": ("n0",)})
    cluster.crash("n2")
    post(cluster, "n0", "n2")
    cluster.run(60)
    cluster.crash("n1")  # it forgets what it carried, and is offered it again
    cluster.restart("n1")
    cluster.run(60)
    assert len(cluster.policy("n1").buffer) == 1
    cluster.partition(["n1"])
    cluster.restart("n2")
    cluster.run(60)
    assert len(seen(cluster, Acknowledged)) == 1
    cluster.crash("n0")
    cluster.restart("n0")
    cluster.heal()
    cluster.run(60)

    assert len(cluster.policy("n1").buffer) == 0


def packet(origin: str, number: int, expires: int = 100, hops: int = 1) -> Packet:
    """A packet to nobody."""
    return Packet(Id(origin, "n9", 0, number), 1, expires, hops, b"")


def test_who_floods_pushes_out_its_own() -> None:
    """Of a full buffer the origin with most packets loses the one nearest to its end, even the newcomer."""
    buffer = Buffer(3)
    for one in (packet("a", 1, 50), packet("b", 1, 10), packet("a", 2, 60)):
        assert buffer.put(one)

    assert buffer.put(packet("a", 3, 70))
    assert [(one.id.origin, one.id.number) for one in buffer] == [("b", 1), ("a", 2), ("a", 3)]
    assert not buffer.put(packet("a", 4, 40))
    buffer.expire(60)
    assert [one.id.number for one in buffer] == [3]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 50), st.booleans()), max_size=80))
def test_a_buffer_never_grows(steps: list[tuple[str, int, int, bool]]) -> None:
    """Whatever is put and dropped, it holds at most its size, and its counts are those of what it holds."""
    buffer = Buffer(4)
    for origin, number, expires, put in steps:
        one = packet(origin, number, expires)
        if put:
            assert buffer.put(one) == (buffer.get(one.id) == one)
        else:
            buffer.drop(one.id)
        assert len(buffer) <= 4
        counts = {o: sum(1 for x in buffer if x.id.origin == o) for o in "abc"}
        assert buffer._of == {o: n for o, n in counts.items() if n}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 32), loss=st.floats(0, 0.4), duplicate=st.floats(0, 0.4))
def test_no_weather_breaks_a_promise(seed: int, loss: float, duplicate: float) -> None:
    """On a random connected graph under loss, copies, crashes and partitions nothing accepted is lost, nothing comes
    twice, nothing goes too far; when it is calm every letter is known to have arrived."""
    graph = nx.connected_watts_strogatz_graph(7, 4, 0.5, seed=seed % 1000)
    network = Network(backbone_s=0.02, loss=loss, duplicate=duplicate, jitter_sigma=1.0)
    cluster = village(radios(graph), seed, network)
    storm(cluster, seed, 30)
    cluster.run(600)

    assert announcements.broken(cluster, checks.nothing_accepted_is_lost("")) == {}
    assert broken(cluster) == {}
    assert all(not cluster.policy(n).outbox.letters for n in cluster.names)
    assert all(len(cluster.policy(n).buffer) == 0 for n in cluster.names)
