"""Delivery: what it accepts arrives once or is given up with a reason, whatever the network and the nodes do."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import check_policy
from policies.config import DeliveryConfig
from policies.port import Policy
from policies.transport import Delivery
from policies.transport.messages import (
    ANNOUNCED,
    Accepted,
    Acknowledged,
    Carried,
    Carry,
    Dead,
    Delivered,
    Handed,
    Known,
    Post,
    Refused,
    Taken,
    Took,
    Tried,
)
from policies.wire import Message, encode
from scenarios.checks import transport as checks
from scenarios.schema import Network
from sim.cluster import Cluster
from tests.policies.transport import announced as announcements
from tests.policies.transport.announced import announced
from tests.policies.transport.storm import storm

CLEAR = Network(backbone_s=0.002, loss=0.0, duplicate=0.0)
LOSSY = Network(backbone_s=0.02, loss=0.3, duplicate=0.3, jitter_sigma=1.0)
ALL_TRIES_S = 35.0
"""Waits of 1 + 2 + 4 + 8 + 16 s, a tenth of jitter, and the disk: after this every letter has ended."""


def seen(cluster: Cluster, kind: type[Message], path: str = "") -> list[Any]:
    """Return what was announced of one class."""
    return [value for _, value in announced(cluster, kind, path)]


def broken(cluster: Cluster, path: str = "") -> dict[str, str]:
    """Return the promises of a delivery that were broken by the end of a run."""
    kept = checks.nothing_accepted_is_lost(path), *checks.delivery(path, 1.0, 300.0, 5)
    return announcements.broken(cluster, *kept)


def replies(cluster: Cluster, op_id: str) -> list[Any]:
    """Return the answers to one operation, typed."""
    answers = Taken | Known | Refused
    return [msgspec.convert(r.value, answers) for r in cluster.replies if r.op_id == op_id]


def test_it_is_a_policy(capsys: pytest.CaptureFixture[str]) -> None:
    """Its shape, text and behaviour pass the check that every policy may be given to."""
    check_policy(Delivery)
    assert capsys.readouterr().out.startswith("ok: Delivery")


def test_a_letter_is_durable_before_its_acceptance_is_told_and_before_it_leaves() -> None:
    """A power cut before the disk has it leaves no acceptance, no copy and no letter."""
    cluster = Cluster(Delivery, n=2, network=CLEAR)
    cluster.run(1)
    cluster.request("n0", "client", "1", Post("n1", b"early"))
    cluster.run(0.001)  # an fsync takes two
    cluster.crash("n0")
    cluster.restart("n0")
    cluster.run(60)

    assert (seen(cluster, Accepted), seen(cluster, Delivered), cluster.replies) == ([], [], [])


def test_a_letter_crosses_and_both_ends_know() -> None:
    """Accepted, tried once, delivered, acknowledged; then nothing of it is open anywhere."""
    cluster = Cluster(Delivery, n=2, network=CLEAR)
    cluster.request("n0", "client", "1", Post("n1", b"hello"))
    cluster.run(5)
    kinds = [type(msgspec.convert(d.value, ANNOUNCED)) for d in cluster.decisions]

    assert kinds == [Accepted, Tried, Delivered, Acknowledged]
    assert seen(cluster, Delivered)[0].body == b"hello"
    assert cluster.policy("n0").outbox.letters == {}
    assert cluster.policy("n1").inbox.waiting == {}


def test_the_waits_are_the_documented_ones() -> None:
    """To a node that is away: five tries, 1, 2, 4, 8 s apart and up to a tenth more; after 16 s it is dead."""
    cluster = Cluster(Delivery, n=2, network=CLEAR)
    cluster.crash("n1")
    cluster.request("n0", "client", "1", Post("n1", b"hello"))
    cluster.run(60)
    times = [event.time_s for event, _ in announced(cluster, Tried)]
    times += [event.time_s for event, _ in announced(cluster, Dead)]
    gaps = [b - a for a, b in pairwise(times)]

    assert len(gaps) == 5
    for gap, wait in zip(gaps, (1.0, 2.0, 4.0, 8.0, 16.0), strict=True):
        assert wait <= gap <= wait * 1.1 + 0.01
    assert seen(cluster, Dead)[0].reason == "no acknowledgement after 5 tries"


def test_no_wait_is_longer_than_the_cap() -> None:
    """The 10th to 14th waits are 300 s where their doubling would be 512 s and more."""
    policy = Delivery()
    assert [policy.backoff_s(n) for n in (1, 2, 9, 10, 14)] == [1.0, 2.0, 256.0, 300.0, 300.0]


def test_a_letter_dies_with_its_day() -> None:
    """One whose life ends before its tries do is given up as expired."""
    cluster = Cluster(lambda: Delivery(DeliveryConfig(ttl_s=5.0)), n=2, network=CLEAR)
    cluster.crash("n1")
    cluster.request("n0", "client", "1", Post("n1", b"hello"))
    cluster.run(60)

    assert [(d.reason) for d in seen(cluster, Dead)] == ["expired"]
    assert len(seen(cluster, Tried)) == 3  # at 0, 1 and 3 s; the next would be at 7 s


def test_the_same_operation_is_the_same_letter() -> None:
    """A client that asks again hears that it is taken, later how it ended; nothing is sent for it again."""
    cluster = Cluster(Delivery, n=2, network=CLEAR)
    for _ in range(2):
        cluster.request("n0", "client", "1", Post("n1", b"hello"))
    cluster.run(5)
    cluster.crash("n0")
    cluster.restart("n0")
    cluster.request("n0", "client", "1", Post("n1", b"hello"))
    cluster.run(5)

    assert len(seen(cluster, Delivered)) == 1
    assert replies(cluster, "1") == [Taken("client/1"), Taken("client/1"), Known("client/1", "acknowledged", "")]


@pytest.mark.parametrize(
    ("post", "reason"),
    [
        (Post("n9", b""), "no node 'n9' is known here"),
        (Post("*", b""), "no node '*' is known here"),
        (Post("n1", bytes(16_385)), "a body of 16385 bytes, allowed are 16384"),
    ],
)
def test_what_cannot_be_carried_is_refused_with_a_reason(post: Post, reason: str) -> None:
    """The reason names the value and what is allowed, and nothing is taken."""
    cluster = Cluster(Delivery, n=2, network=CLEAR)
    cluster.request("n0", "client", "1", post)
    cluster.run(1)

    assert replies(cluster, "1") == [Refused(reason)]
    assert seen(cluster, Accepted) == []


def test_the_queue_is_bounded_and_what_is_remembered_too() -> None:
    """The letter after the last one that fits is refused; afterwards only as many ends are kept, the newest."""
    cluster = Cluster(lambda: Delivery(DeliveryConfig(queue_max=3)), n=2, network=CLEAR)
    cluster.crash("n1")
    for op in range(5):
        cluster.request("n0", "client", str(op), Post("n1", b"x"))
    cluster.run(ALL_TRIES_S)
    cluster.request("n0", "client", "5", Post("n1", b"x"))
    cluster.run(ALL_TRIES_S)

    assert replies(cluster, "4") == [Refused("3 letters are open already")]
    assert len(seen(cluster, Dead)) == 4
    assert list(cluster.policy("n0").outbox.ended) == ["client/1", "client/2", "client/5"]
    assert seen(cluster, Accepted)[-1].letter.endswith("/4")


def test_a_receiver_remembers_no_more_than_what_may_still_come() -> None:
    """A thousand letters one after the other leave a handful of marks on the receiver, and its disk's keys as few."""
    cluster = Cluster(Delivery, n=2, network=LOSSY)
    for op in range(1000):
        cluster.request("n0", "client", str(op), Post("n1", b"x"))
        cluster.run(0.1)
    cluster.run(ALL_TRIES_S)
    cluster.request("n0", "client", "last", Post("n1", b"x"))
    cluster.run(ALL_TRIES_S)

    assert len(seen(cluster, Delivered)) >= 990  # five tries under 30 % loss each way, some are given up
    assert sum(len(numbers) for numbers in cluster.policy("n1").inbox._seen.values()) == 1
    assert broken(cluster) == {}


def test_an_origin_that_lost_its_disk_is_not_taken_for_its_old_self() -> None:
    """Its numbers begin again at 1 and its letters are delivered all the same."""
    cluster = Cluster(Delivery, n=2, network=CLEAR)
    for op in range(2):
        cluster.request("n0", "client", f"{op}", Post("n1", b"old"))
        cluster.run(2)
    cluster.crash("n0")
    cluster.world.by_name["n0"].disk.truncate(0)
    cluster.restart("n0")
    cluster.request("n0", "client", "0", Post("n1", b"new"))
    cluster.run(2)

    assert [d.body for d in seen(cluster, Delivered)] == [b"old", b"old", b"new"]


class Shelf(Policy):
    """A consumer that keeps what it is handed, by name, and says so when that is durable."""

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.kept = dict(saved)
        self.owed: dict[int, list[Took]] = {}

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Handed):
            name = f"{message.stream}/{message.number}"
            if name in self.kept and message.again:
                self.port.tell("delivery", Took(message.stream, message.number))
                return
            assert name not in self.kept
            self.kept[name] = message.body
            token = self.port.save(name, message.body)
            self.owed.setdefault(token, []).append(Took(message.stream, message.number))

    def on_durable(self, token: int) -> None:
        for took in self.owed.pop(token, ()):
            self.port.tell("delivery", took)


def shelves() -> dict[str, Policy]:
    """A node whose letters go to a shelf."""
    return {"delivery": Delivery(consumer="shelf"), "shelf": Shelf()}


@pytest.mark.parametrize("seed", range(10))
def test_a_consumer_has_every_letter_once_through_its_own_crashes(seed: int) -> None:
    """What was delivered is on the shelf, and a letter is never handed as new twice (the shelf would object)."""
    cluster = Cluster(shelves, n=3, seed=seed, network=LOSSY)
    storm(cluster, seed, 40, "delivery")
    cluster.run(2 * ALL_TRIES_S)
    delivered = {(e.node, v.letter): v.body for e, v in announced(cluster, Delivered, "delivery")}
    kept = {(n, name): body for n in cluster.names for name, body in cluster.policy(n, "shelf").kept.items()}

    assert broken(cluster, "delivery") == {}
    assert kept == delivered
    assert all(cluster.policy(n, "delivery").inbox.waiting == {} for n in cluster.names)


class Asker(Policy):
    """A local user that posts one letter under the same key twice and keeps what it hears."""

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.heard: list[Any] = []
        self.port.set_timer("ask", 0)

    def on_timer(self, name: str) -> None:
        for to in ("n1", "n1", "n9"):
            self.port.tell("delivery", Carry(to, to, b"hello"))

    def on_local(self, sender: str, message: Any) -> None:
        self.heard.append(message)


def test_a_local_user_hears_of_the_end_and_of_a_refusal() -> None:
    """One word for one letter, and False with a reason for what was not taken."""
    cluster = Cluster(lambda: {"delivery": Delivery(), "asker": Asker()}, n=2, network=CLEAR)
    cluster.run(5)

    assert cluster.policy("n0", "asker").heard == [
        Carried("n9", False, "no node 'n9' is known here"),
        Carried("n1", True, ""),
    ]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    loss=st.floats(0, 0.5),
    duplicate=st.floats(0, 0.5),
    jitter=st.floats(0, 2),
)
def test_no_weather_breaks_a_promise(seed: int, loss: float, duplicate: float, jitter: float) -> None:
    """Loss, copies, disorder, crashes with torn disks, partitions: every promise holds, and nothing stays open."""
    network = Network(backbone_s=0.05, loss=loss, duplicate=duplicate, jitter_sigma=jitter)
    cluster = Cluster(Delivery, n=3, seed=seed, network=network)
    posted = storm(cluster, seed, 30)
    cluster.run(2 * ALL_TRIES_S)

    assert broken(cluster) == {}
    assert len(seen(cluster, Accepted)) <= posted
    assert all(cluster.policy(name).outbox.letters == {} for name in cluster.names)


def test_one_seed_is_one_history() -> None:
    """The same storm twice gives the same digest."""
    digests = []
    for _ in range(2):
        cluster = Cluster(Delivery, n=3, seed=4, network=LOSSY)
        storm(cluster, 4, 20)
        digests.append(cluster.digest)

    assert digests[0] == digests[1]


def test_a_copy_that_is_not_durable_is_not_acknowledged() -> None:
    """The receiver's acknowledgement waits for its disk: cut its power before and the letter is not there, nor is it
    acknowledged; it comes with the next try."""
    cluster = Cluster(Delivery, n=2, network=CLEAR)
    cluster.request("n0", "client", "1", Post("n1", b"hello"))
    while not cluster.policy("n1").inbox.waiting:
        cluster.run(0.0001)
    cluster.crash("n1")
    cluster.restart("n1")
    cluster.run(0.5)
    assert (seen(cluster, Delivered), seen(cluster, Acknowledged)) == ([], [])

    cluster.run(5)
    assert (len(seen(cluster, Delivered)), len(seen(cluster, Acknowledged))) == (1, 1)
    assert encode(seen(cluster, Delivered)[0].body) == encode(b"hello")


class Burst(Policy):
    """A local user that posts three letters in one step."""

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.port.set_timer("ask", 0)

    def on_timer(self, name: str) -> None:
        for key in ("a", "b", "c"):
            self.port.tell("delivery", Carry(key, "n1", b"hello"))

    def on_local(self, sender: str, message: Any) -> None:
        """Nothing to do."""


def test_letters_of_one_step_are_each_tried_again() -> None:
    """They share one save, and yet each has its own wait and its own end."""
    cluster = Cluster(lambda: {"delivery": Delivery(), "burst": Burst()}, n=2, network=CLEAR)
    cluster.crash("n1")
    cluster.run(60)

    assert len(seen(cluster, Tried, "delivery")) == 15
    assert len(seen(cluster, Dead, "delivery")) == 3
