"""Bus and breaker: the mesh when the internet is away, the internet when it is back, and every letter once."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import check_policy
from policies.config import BusConfig
from policies.port import NS_PER_S, Policy
from policies.transport import Bus
from policies.transport.breaker import CLOSED, HALF_OPEN, OPEN, Breaker
from policies.transport.messages import (
    Accepted,
    Acknowledged,
    Carried,
    Carry,
    Dead,
    Delivered,
    Handed,
    Post,
    Result,
    Routed,
    Took,
)
from policies.wire import Message
from scenarios.checks import transport as checks
from scenarios.schema import Network
from sim.cluster import Cluster
from tests.policies.transport import announced as announcements
from tests.policies.transport.announced import announced
from tests.policies.transport.nodes import node
from tests.policies.transport.storm import storm

CONFIG = BusConfig()
CLEAR = Network(backbone_s=0.01, loss=0.0, duplicate=0.0)
LOSSY = Network(backbone_s=0.01, loss=0.2, duplicate=0.2, jitter_sigma=1.0)
LINE = {"n0": ("n1",), "n1": ("n0", "n2"), "n2": ("n1",)}
NO_RADIO: dict[str, tuple[str, ...]] = {}
ALWAYS = (0.0, 1e9)


def seen(cluster: Cluster, kind: type[Message], path: str = "bus") -> list[Any]:
    """Return what the buses announced of one class."""
    return [value for _, value in announced(cluster, kind, path)]


def ways(cluster: Cluster) -> list[str]:
    """Return the transports that letters were given to, in order."""
    return [routed.transport for routed in seen(cluster, Routed)]


def broken(cluster: Cluster) -> dict[str, str]:
    """Return the promises of a bus that were broken so far."""
    return announcements.broken(cluster, *checks.bus("bus", CONFIG.failures, CONFIG.open_s))


# -- the breaker ---------------------------------------------------------------------------------------

TABLE = [
    # state, count, under way | event, s since it opened | state, count, under way
    ((CLOSED, 0, 0), ("ok", 0), (CLOSED, 0, 0)),
    ((CLOSED, 4, 0), ("ok", 0), (CLOSED, 0, 0)),
    ((CLOSED, 0, 0), ("no", 0), (CLOSED, 1, 0)),
    ((CLOSED, 3, 0), ("no", 0), (CLOSED, 4, 0)),
    ((CLOSED, 4, 0), ("no", 0), (OPEN, 0, 0)),
    ((CLOSED, 4, 0), ("call", 0), (CLOSED, 4, 0)),
    ((OPEN, 0, 0), ("ok", 30), (OPEN, 0, 0)),
    ((OPEN, 0, 0), ("no", 30), (OPEN, 0, 0)),
    ((OPEN, 0, 0), ("time", 59.9), (OPEN, 0, 0)),
    ((OPEN, 0, 0), ("time", 60), (HALF_OPEN, 0, 0)),
    ((HALF_OPEN, 0, 0), ("call", 60), (HALF_OPEN, 0, 1)),
    ((HALF_OPEN, 0, 1), ("ok", 60), (HALF_OPEN, 1, 0)),
    ((HALF_OPEN, 1, 2), ("ok", 60), (HALF_OPEN, 2, 1)),
    ((HALF_OPEN, 2, 1), ("ok", 60), (CLOSED, 0, 0)),
    ((HALF_OPEN, 0, 1), ("no", 60), (OPEN, 0, 0)),
    ((HALF_OPEN, 2, 5), ("no", 60), (OPEN, 0, 0)),
    ((HALF_OPEN, 2, 5), ("drop", 60), (HALF_OPEN, 2, 4)),
]


@pytest.mark.parametrize(("before", "event", "after"), TABLE)
def test_the_breaker_is_its_table(
    before: tuple[str, int, int], event: tuple[str, float], after: tuple[str, int, int]
) -> None:
    """Five failures open it, sixty seconds half-open it, three successes close it, one failure opens it again."""
    what, seconds = event
    now = int(seconds * NS_PER_S)
    breaker = Breaker(*before).at(now, CONFIG) if what == "time" else Breaker(*before)
    if what == "call":
        breaker = breaker.called()
    elif what == "drop":
        breaker = breaker.dropped()
    elif what in ("ok", "no"):
        breaker = breaker.heard(what == "ok", now, CONFIG)

    assert (breaker.state, breaker.count, breaker.under_way) == after


def test_what_each_state_lets_pass() -> None:
    """Closed everything, open nothing, half-open up to five calls at once."""
    assert Breaker(CLOSED, 4).allows(CONFIG)
    assert not Breaker(OPEN).allows(CONFIG)
    assert Breaker(HALF_OPEN, 0, 4).allows(CONFIG)
    assert not Breaker(HALF_OPEN, 0, 5).allows(CONFIG)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 40)), max_size=60))
def test_a_breaker_opens_exactly_when_the_last_results_say_so(results: list[tuple[bool, float]]) -> None:
    """Against a twin that looks at the whole history instead of counting."""
    breaker, now_s = Breaker(), 0.0
    state, since_s = CLOSED, 0.0
    window: deque[bool] = deque()  # results since the state was entered
    for ok, gap_s in results:
        now_s += gap_s
        now = int(now_s * NS_PER_S)
        breaker = breaker.at(now, CONFIG).heard(ok, now, CONFIG)
        if state == OPEN and now - int(since_s * NS_PER_S) >= 60 * NS_PER_S:
            state, window = HALF_OPEN, deque()
        if state != OPEN:
            window.append(ok)
            last = list(window)
            if (state == CLOSED and last[-5:] == [False] * 5) or (state == HALF_OPEN and not ok):
                state, since_s = OPEN, now_s
            elif state == HALF_OPEN and last[-3:] == [True] * 3:
                state, window = CLOSED, deque()
        assert breaker.state == state


# -- the bus -------------------------------------------------------------------------------------------


def test_it_is_a_policy(capsys: pytest.CaptureFixture[str]) -> None:
    """Its shape, text and behaviour pass the check that every policy may be given to."""
    check_policy(lambda: node(LINE))
    assert capsys.readouterr().out.startswith("ok: Bus and Offline and Mesh")


def test_long_range_comes_first() -> None:
    """With internet a letter goes that way, once, and the mesh hears nothing of it."""
    cluster = Cluster(lambda: node(LINE), n=3, network=CLEAR)
    cluster.request("n0", "client", "1", Post("n2", b"hello"), "bus")
    cluster.run(60)

    assert ways(cluster) == ["delivery"]
    assert [d.body for d in seen(cluster, Delivered)] == [b"hello"]
    assert len(seen(cluster, Acknowledged)) == 1
    assert all(not cluster.policy(n, path).inbox.waiting for n in cluster.names for path in ("bus", "delivery"))


def test_without_internet_the_mesh_carries() -> None:
    """Five letters fail on the long way first; the sixth goes by the mesh at once, since the breaker is open."""
    cluster = Cluster(lambda: node(LINE, ALWAYS), n=3, network=CLEAR)
    for number in range(5):
        cluster.request("n0", "client", str(number), Post("n2", b"early"), "bus")
    cluster.run(40)
    assert len(seen(cluster, Delivered)) == 5
    assert ways(cluster) == ["delivery"] * 5 + ["mesh"] * 5

    cluster.request("n0", "client", "5", Post("n2", b"late"), "bus")
    cluster.run(2)
    assert ways(cluster)[10:] == ["mesh"]
    assert len(seen(cluster, Delivered)) == 6
    assert broken(cluster) == {}


def test_a_failing_destination_closes_the_way_to_no_other() -> None:
    """One node is down and its breaker open; another, as far, is still reached by the long way."""
    cluster = Cluster(lambda: node(NO_RADIO), n=3, network=CLEAR)
    cluster.crash("n2")
    for number in range(5):
        cluster.request("n0", "client", str(number), Post("n2", b"x"), "bus")
    cluster.run(40)
    cluster.request("n0", "client", "other", Post("n1", b"hello"), "bus")
    cluster.run(2)

    assert cluster.policy("n0", "bus").breakers["delivery", "n2"].state == OPEN
    assert [d.body for d in seen(cluster, Delivered)] == [b"hello"]


def test_the_internet_returns_and_is_used_again() -> None:
    """While it is away the mesh carries; a pause after it is back letters try it, and three successes close it."""
    cluster = Cluster(lambda: node(LINE, (0, 100)), n=3, network=CLEAR)
    for number in range(30):
        cluster.request("n0", "client", str(number), Post("n2", b"x"), "bus")
        cluster.run(10)

    assert ways(cluster)[-5:] == ["delivery"] * 5
    assert "mesh" in ways(cluster)
    assert cluster.policy("n0", "bus").breakers["delivery", "n2"] == Breaker()
    assert len(seen(cluster, Delivered)) == 30
    assert broken(cluster) == {}


def test_what_no_transport_can_bring_waits_for_one() -> None:
    """No internet and no radio for an hour: the letter waits, durable, and arrives after the internet is back."""
    cluster = Cluster(lambda: node(NO_RADIO, (0, 3600)), n=3, network=CLEAR)
    cluster.request("n0", "client", "1", Post("n2", b"patient"), "bus")
    cluster.run(3600)
    assert seen(cluster, Delivered) == []

    cluster.run(700)
    assert [d.body for d in seen(cluster, Delivered)] == [b"patient"]
    assert seen(cluster, Dead) == []


def test_a_letter_ends_with_its_day() -> None:
    """With no way for 24 hours it is given up with its reason, within one patience and one pause."""
    cluster = Cluster(lambda: node(NO_RADIO, ALWAYS), n=2, network=CLEAR)
    cluster.request("n0", "client", "1", Post("n1", b"x"), "bus")
    cluster.run(24 * 3600 - 1)
    assert seen(cluster, Dead) == []
    cluster.run(CONFIG.patience_s + CONFIG.open_s)
    assert [dead.reason for dead in seen(cluster, Dead)] == ["expired"]


class Stubborn(Policy):
    """A transport that answers no to everything."""

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Carry):
            self.port.tell(sender, Carried(message.key, False, "no radio"))


class Mute(Policy):
    """A transport that never answers."""


def test_a_no_is_a_failure() -> None:
    """Five answers of False open the breaker; for a minute the transport is not asked again."""
    cluster = Cluster(lambda: {"bus": Bus(transports=("radio",)), "radio": Stubborn()}, n=2, network=CLEAR)
    for number in range(20):
        cluster.request("n0", "client", str(number), Post("n1", b"x"), "bus")
        cluster.run(1)

    assert len(ways(cluster)) == 5
    assert [result.ok for result in seen(cluster, Result)] == [False] * 5
    assert seen(cluster, Acknowledged) == []


def test_silence_is_a_failure() -> None:
    """A transport that does not answer within the patience costs its breaker as much as a no."""
    cluster = Cluster(lambda: {"bus": Bus(transports=("radio",)), "radio": Mute()}, n=2, network=CLEAR)
    for number in range(5):
        cluster.request("n0", "client", str(number), Post("n1", b"x"), "bus")
    cluster.run(CONFIG.patience_s - 1)
    assert seen(cluster, Result) == []
    cluster.run(2)

    assert [result.reason for result in seen(cluster, Result)] == ["no answer"] * 5
    assert cluster.policy("n0", "bus").breakers["radio", "n1"].state == OPEN


def test_the_queue_is_bounded() -> None:
    """The letter that does not fit is refused with a reason, and so is a body that fits no transport."""
    config = BusConfig(queue_max=2)
    cluster = Cluster(lambda: node(NO_RADIO, ALWAYS, config=config), n=2, network=CLEAR)
    for number in range(3):
        cluster.request("n0", "client", str(number), Post("n1", b"x"), "bus")
    cluster.request("n1", "client", "big", Post("n0", bytes(16_321)), "bus")
    cluster.run(1)

    refused = {r.op_id: r.value[1] for r in cluster.replies if r.value[0] == "refused"}
    assert refused == {"2": "2 letters are open already", "big": "a body of 16321 bytes, allowed are 16320"}


def test_the_largest_body_fits_every_transport() -> None:
    """What the bus takes at most, both transports take with its envelope."""
    for away_s in ((0.0, 0.0), ALWAYS):
        cluster = Cluster(lambda away_s=away_s: node(LINE, away_s), n=3, network=CLEAR)
        cluster.request("n0", "client", "1", Post("n2", bytes(16_320)), "bus")
        cluster.run(60)
        assert len(seen(cluster, Delivered)) == 1


class Shelf(Policy):
    """A consumer of the bus that keeps what it is handed and says so when that is durable."""

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.kept = dict(saved)
        self.owed: dict[int, list[Took]] = {}

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Handed):
            name, took = f"{message.stream}/{message.number}", Took(message.stream, message.number)
            if name in self.kept:
                assert message.again
                self.port.tell("bus", took)
            else:
                self.kept[name] = message.body
                self.owed.setdefault(self.port.save(name, message.body), []).append(took)

    def on_durable(self, token: int) -> None:
        for took in self.owed.pop(token, ()):
            self.port.tell("bus", took)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 32), away=st.floats(0, 60), until=st.floats(0, 60))
def test_no_weather_breaks_a_promise(seed: int, away: float, until: float) -> None:
    """Loss, copies, crashes, partitions, and the internet away for a while: nothing accepted is lost, nothing comes
    twice over two transports, the consumer has each letter once, breakers rest."""
    graph = nx.connected_watts_strogatz_graph(5, 2, 0.5, seed=seed % 1000)
    topology = {f"n{k}": tuple(f"n{other}" for other in graph[k]) for k in graph}

    def make() -> dict[str, Policy]:
        policies = node(topology, (min(away, until), max(away, until)))
        policies["bus"] = Bus(consumer="shelf")
        return policies | {"shelf": Shelf()}

    cluster = Cluster(make, n=5, seed=seed, network=LOSSY)
    storm(cluster, seed, 40, "bus")
    cluster.run(1200)
    delivered = {(e.node, v.letter): v.body for e, v in announced(cluster, Delivered, "bus")}
    kept = {(n, name): body for n in cluster.names for name, body in cluster.policy(n, "shelf").kept.items()}

    assert announcements.broken(cluster, checks.nothing_accepted_is_lost("bus")) == {}
    assert broken(cluster) == {}
    assert kept == delivered
    # A crash may come between the disk and the word: then a letter is delivered whose acceptance nobody was told.
    assert {accepted.letter for accepted in seen(cluster, Accepted)} <= {letter for _, letter in delivered}
    for name in cluster.names:
        for path in ("bus", "delivery", "mesh"):
            assert not cluster.policy(name, path).outbox.letters
            assert not cluster.policy(name, path).inbox.waiting
        assert len(cluster.policy(name, "mesh").buffer) == 0
