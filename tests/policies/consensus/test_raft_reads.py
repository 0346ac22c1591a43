"""Linearizable reads by ReadIndex (Ongaro's dissertation, section 6.4)."""

from __future__ import annotations

import pytest

from policies.consensus.raft.messages import AskRead, ReadAt
from policies.consensus.raft.reads import READS_MAX
from policies.local import Read
from policies.port import NS_PER_S
from tests.policies.hand_cluster import CONFIG, HandCluster


def led(size: int = 3) -> HandCluster:
    """Return a cluster that n1 leads, with its first entry committed everywhere."""
    cluster = HandCluster(size, config=CONFIG)
    cluster.elect("n1")
    beat(cluster)
    return cluster


def beat(cluster: HandCluster, leader: str = "n1", times: int = 2) -> None:
    """Let heartbeats go round until all is told."""
    for _ in range(times):
        cluster.fire(leader, "heartbeat")
        cluster.settle()


@pytest.mark.parametrize("reader", ["n1", "n2"])
def test_a_read_is_served_once_a_quorum_says_who_leads(reader: str) -> None:
    """At the leader and at a follower, which asks the leader; the index is that of the last write."""
    cluster = led()
    cluster.propose("n1", b"a")
    beat(cluster)
    token = cluster.read(reader)
    assert cluster.machine(reader).readable == {}

    cluster.settle()
    assert cluster.machine(reader).readable == {token: 2}


def test_a_heartbeat_that_was_answered_before_proves_nothing() -> None:
    """Only answers to what was sent after the read began count."""
    cluster = led()
    cluster.fire("n1", "heartbeat")
    early = [letter for letter in cluster.post if letter[1] in ("n2", "n3")]
    cluster.post.clear()
    token = cluster.read("n1")
    cluster.post = early
    cluster.settle()
    assert token not in cluster.machine("n1").readable

    cluster.fire("n1", "heartbeat")
    cluster.settle()
    assert cluster.machine("n1").readable == {token: 1}


def test_a_leader_without_a_commit_of_its_term_refuses() -> None:
    """It cannot know yet what its predecessor has confirmed."""
    cluster = HandCluster(3, config=CONFIG)
    cluster.elect("n1")
    cluster.propose("n1", b"a")
    cluster.settle()
    cluster.now += 3 * NS_PER_S
    cluster.fire("n2", "election")
    cluster.settle(rounds=4)
    assert (cluster.raft("n2").role, cluster.raft("n2").commit) == ("leader", 1)
    token = cluster.read("n2")
    assert cluster.machine("n2").readable == {token: -1}

    beat(cluster, "n2")
    token = cluster.read("n2")
    cluster.settle()
    assert cluster.machine("n2").readable[token] == 3


def test_without_a_leader_a_read_is_refused_at_once() -> None:
    """Whoever asked may ask elsewhere."""
    cluster = HandCluster(3, config=CONFIG)
    token = cluster.read("n1")

    assert cluster.machine("n1").readable == {token: -1}


def test_a_leader_that_steps_down_refuses_what_it_had_open() -> None:
    """Its own reads and those of others."""
    cluster = led()
    own = cluster.read("n1")
    other = cluster.read("n3")
    cluster.pass_on("n3", "n1")
    cluster.post.clear()
    cluster.fire("n1", "quorum")
    cluster.fire("n1", "quorum")
    assert cluster.machine("n1").readable == {own: -1}
    assert cluster.raft("n1").open == cluster.raft("n1").queued == []

    cluster.settle()
    assert cluster.machine("n3").readable == {other: -1}


def test_a_follower_refuses_what_is_not_answered() -> None:
    """The question or its answer may be lost: after two time-outs the read is over; a late answer changes nothing."""
    cluster = led()
    token = cluster.read("n2")
    (asked,) = cluster.said("n2", "n1")
    cluster.post.clear()
    cluster.fire("n2", "reads")
    assert cluster.machine("n2").readable == {}
    cluster.fire("n2", "reads")
    assert cluster.machine("n2").readable == {token: -1}

    cluster.tell("n1", "n2", ReadAt(asked.read, 9))
    assert cluster.machine("n2").readable == {token: -1}
    assert "reads" not in cluster.timers["n2"]


def test_another_leader_ends_the_reads_that_the_last_was_asked_for() -> None:
    """A follower refuses them when it hears of the other."""
    cluster = led()
    token = cluster.read("n2")
    cluster.post.clear()
    cluster.now += 3 * NS_PER_S
    cluster.elect("n3")

    assert cluster.machine("n2").readable == {token: -1}


def test_an_answer_for_an_earlier_life_fits_no_read_of_this_one() -> None:
    """The state machine may use its tokens again after a restart; what the leader is asked by is another number."""
    cluster = led()
    cluster.read("n2")
    (asked,) = cluster.said("n2", "n1")
    cluster.post.clear()
    cluster.crash("n2")
    cluster.restart("n2")
    beat(cluster)
    cluster.propose("n1", b"a")
    cluster.settle()
    token = cluster.read("n2")
    cluster.tell("n1", "n2", ReadAt(asked.read, 1))
    assert cluster.machine("n2").readable == {}

    cluster.settle()
    assert cluster.machine("n2").readable == {token: 2}


def test_who_does_not_lead_answers_no() -> None:
    """A question that comes to a former leader is refused, not passed on."""
    cluster = led()
    cluster.tell("n3", "n2", AskRead(7))

    assert cluster.said("n2", "n3") == [ReadAt(7, -1)]


def test_a_read_is_told_after_what_it_must_see() -> None:
    """A follower that has not applied as much waits until it has."""
    cluster = led()
    cluster.propose("n1", b"a")
    cluster.settle("n1", "n2")  # n3 hears nothing of it
    token = cluster.read("n3")
    cluster.pass_on("n3", "n1")
    for name in ("n2", "n1"):
        cluster.sync(name)
    cluster.pass_on("n1", "n2")
    cluster.pass_on("n2", "n1")
    answer = next(letter for letter in cluster.post if b"read_at" in letter[2])
    cluster.post = [answer]
    cluster.deliver()
    assert cluster.machine("n3").readable == {}

    beat(cluster)
    assert cluster.machine("n3").commands == [b"a"]
    assert cluster.machine("n3").readable == {token: 2}


def test_alone_a_member_reads_at_once() -> None:
    """One is a quorum of one."""
    cluster = HandCluster(1, config=CONFIG)
    cluster.elect("n1")
    token = cluster.read("n1")

    assert cluster.machine("n1").readable == {token: 1}


def test_many_reads_share_a_round_and_too_many_are_refused() -> None:
    """However many come while a round is open, the next serves them all; beyond the bound they are refused."""
    cluster = led()
    first = cluster.raft("n1").round
    for _ in range(READS_MAX + 5):
        cluster.read("n1")
    assert (cluster.raft("n1").round, len(cluster.raft("n1").queued)) == (first + 1, READS_MAX - 1)
    assert list(cluster.machine("n1").readable.values()) == [-1] * 5

    cluster.settle()
    assert cluster.raft("n1").round == first + 2
    assert list(cluster.machine("n1").readable.values()).count(1) == READS_MAX

    for _ in range(READS_MAX + 5):
        cluster.read("n2")
    assert len(cluster.raft("n2").asked) == READS_MAX


def test_a_read_without_a_state_machine_is_no_error() -> None:
    """Nobody is told."""
    cluster = led()
    raft = cluster.raft("n1")
    raft.applier = ""
    cluster.ask("n1", Read(1))
    cluster.settle()

    assert cluster.machine("n1").readable == {}


def test_who_is_cut_off_before_it_has_applied_as_much_refuses_what_it_may_read() -> None:
    """The leader has said at which index; nothing more comes: within two time-outs whoever asked may ask elsewhere."""
    cluster = led()
    cluster.propose("n1", b"a")
    cluster.settle("n1", "n3")
    token = cluster.read("n2")
    cluster.pass_on("n2", "n1")
    cluster.pass_on("n1", "n3")
    cluster.pass_on("n3", "n1")
    (said,) = [what for what in cluster.said("n1", "n2") if isinstance(what, ReadAt)]
    cluster.post.clear()
    cluster.tell("n1", "n2", said)
    assert (said.index, len(cluster.raft("n2").ready)) == (2, 1)
    for _ in range(2):
        cluster.now += cluster.raft("n2").election_ns
        cluster.fire("n2", "reads")

    assert (cluster.machine("n2").readable, cluster.raft("n2").ready) == ({token: -1}, [])
    assert "reads" not in cluster.timers["n2"]
