"""Flow control: what a leader sends without an answer is bounded, and what is lost is found and sent again."""

from __future__ import annotations

import msgspec
import pytest

from policies.consensus.raft.messages import Append, Appended, AskRead, Forward, ForwardChange
from policies.consensus.raft.progress import PROBE, REPLICATE, SNAPSHOT, Progress
from tests.policies.consensus.one_member import One
from tests.policies.hand_cluster import CONFIG, HandCluster

NARROW = msgspec.structs.replace(CONFIG, max_batch=2, window=3, chunk_bytes=64)


def led() -> HandCluster:
    """Return a cluster that n1 leads, with its first entry committed everywhere."""
    cluster = HandCluster(3, config=NARROW)
    cluster.elect("n1")
    for _ in range(2):
        cluster.fire("n1", "heartbeat")
        cluster.settle()
    return cluster


def test_a_flood_of_commands_keeps_the_window_bounded() -> None:
    """While a follower is silent it is sent a window of batches and then heartbeats; and the leader takes in no more
    than a window's worth that is not committed."""
    cluster = led()
    for number in range(50):
        cluster.propose("n1", b"%02d" % number)
        cluster.fire("n1", "heartbeat")
    sent = [said for said in cluster.said("n1", "n2") if said.entries]
    raft = cluster.raft("n1")

    assert len(sent) == NARROW.window
    assert [said.entries for said in cluster.said("n1", "n2")[-5:]] == [()] * 5
    assert len(raft.progress["n2"].in_flight) == NARROW.window
    assert raft.log.last - raft.commit == NARROW.window * NARROW.max_batch
    assert raft.dropped == 50 - NARROW.window * NARROW.max_batch
    assert len(raft.noted) == 1

    for _ in range(3):
        cluster.fire("n1", "heartbeat")
        cluster.settle()
    assert cluster.machine("n2").commands == cluster.machine("n1").commands
    assert cluster.raft("n2").commit == raft.log.last == raft.commit


def test_what_is_not_committed_is_bounded_in_bytes() -> None:
    """A window of the longest commands is taken in, and of shorter ones as many bytes; one always, whatever waits no
    more; and a leader counts what an earlier one left it."""
    cluster, bound = led(), NARROW.window * NARROW.chunk_bytes
    raft = cluster.raft("n1")
    for number in range(5):
        cluster.propose("n1", bytes([number]) * NARROW.chunk_bytes)
    cluster.propose("n1", b"short")
    assert raft.log.last - raft.commit == NARROW.window
    assert (raft.uncommitted_bytes, raft.dropped, len(raft.noted)) == (bound, 3, 1)

    cluster.post.clear()
    cluster.fire("n1", "heartbeat")
    cluster.settle()
    cluster.fire("n1", "heartbeat")
    cluster.settle()
    assert (raft.uncommitted_bytes, raft.log.last) == (0, raft.commit)
    for _ in range(2):
        cluster.propose("n1", bytes(NARROW.chunk_bytes))
    cluster.sync("n1")
    for name in ("n1", "n2"):
        cluster.crash(name)
        cluster.restart(name)
    cluster.post.clear()
    cluster.ask_votes("n1", "n2")  # whether it would be elected
    cluster.sync("n1")
    cluster.pass_on("n1", "n2")
    cluster.pass_on("n2", "n1", sync=False)
    again = cluster.raft("n1")
    assert (again.role, again.commit) == ("leader", 0)
    assert again.uncommitted_bytes == again.log.bytes_after(0, again.log.last) > bound


def test_a_flood_does_not_silence_the_heartbeat() -> None:
    """A proposal that could not be sent to everybody puts the next heartbeat off for nobody."""
    cluster = led()
    for number in range(5):
        cluster.propose("n1", b"%d" % number)
    armed = cluster.timers["n1"]["heartbeat"]
    cluster.propose("n1", b"6")

    assert cluster.timers["n1"]["heartbeat"] == armed


def test_what_is_lost_is_found_by_the_next_heartbeat() -> None:
    """Its refusal says where the log may agree; from there entries are sent again, one message until it is answered."""
    cluster = led()
    for command in (b"a", b"b", b"c"):
        cluster.propose("n1", command)
    cluster.post.clear()
    cluster.fire("n1", "heartbeat")
    cluster.settle(rounds=1)
    cluster.settle(rounds=1)
    assert cluster.raft("n1").progress["n2"].state == PROBE
    assert [said.entries for said in cluster.said("n1", "n2")] == [((1, b"a"), (1, b"b"))]

    cluster.settle()
    assert cluster.raft("n1").progress["n2"].state == REPLICATE
    assert cluster.log("n2") == cluster.log("n1")


def test_a_probe_that_is_lost_is_not_waited_for() -> None:
    """While it is not answered heartbeats carry nothing; the answer to one of them resumes."""
    cluster = HandCluster(3, config=NARROW)
    cluster.elect("n1", "n1", "n2")
    cluster.propose("n1", b"a")
    cluster.post.clear()
    assert cluster.raft("n1").progress["n3"].state == PROBE
    cluster.fire("n1", "heartbeat")
    assert [said.entries for said in cluster.said("n1", "n3")] == [()]

    cluster.settle()
    assert cluster.log("n3") == cluster.log("n1")


def test_a_command_longer_than_a_message_may_be_is_refused_wherever_it_is_proposed() -> None:
    """One that just fits is sent alone."""
    cluster = led()
    last = cluster.raft("n1").log.last
    cluster.propose("n1", bytes(NARROW.chunk_bytes + 1))
    cluster.propose("n2", bytes(NARROW.chunk_bytes + 1))
    cluster.tell("n2", "n1", Forward(bytes(NARROW.chunk_bytes + 1)))
    assert (cluster.raft("n1").log.last, cluster.said("n2", "n1")) == (last, [])

    for _ in range(2):
        cluster.propose("n1", bytes(NARROW.chunk_bytes))
    assert [len(said.entries) for said in cluster.said("n1", "n2")] == [1, 1]


def test_who_is_no_member_proposes_and_reads_nothing() -> None:
    """A node of the network that is not in the committee is not served; one that no member was told of is not heard."""
    cluster = HandCluster(4, config=NARROW, voters=3)
    cluster.elect("n1")
    cluster.settle()
    last, term = cluster.raft("n1").log.last, cluster.raft("n1").term
    for ask in (Forward(b"a"), ForwardChange(("n4",), ()), AskRead(1)):
        cluster.tell("n4", "n1", ask)
    cluster.tell("stranger", "n1", Append(9, 0, 0, 0, ()))

    assert (cluster.raft("n1").log.last, cluster.raft("n1").term) == (last, term)
    assert cluster.said("n1", "n4") == []


@pytest.mark.parametrize("number", [-1, 2**62 + 1])
def test_numbers_out_of_range_are_malformed(number: int) -> None:
    """The Cell drops the message before Raft sees it."""
    cluster = led()
    log = list(cluster.log("n2"))
    for bad in (Append(1, number, 0, 0, ()), Append(number, 0, 0, 0, ()), Append(1, 0, 0, number, ((1, b"x"),))):
        cluster.tell("n1", "n2", bad)
    cluster.tell("n2", "n1", Appended(1, True, number))

    assert cluster.log("n2") == log
    assert cluster.watch.cells["n2"].cell.malformed == 3
    assert cluster.watch.cells["n1"].cell.malformed == 1


def test_progress_goes_from_probe_to_replicate_and_back() -> None:
    """An answer frees what it answers; a refusal throws the window away; a late one is no news."""
    progress = Progress(8)
    assert progress.may_send(2)
    progress.sent(9)
    assert (progress.state, progress.next, progress.may_send(2)) == (PROBE, 8, False)
    assert not progress.refused(9)
    assert progress.refused(4)
    assert (progress.next, progress.may_send(2)) == (5, True)

    assert progress.agreed(4)
    assert (progress.state, progress.match, progress.next) == (REPLICATE, 4, 5)
    progress.sent(6)
    progress.sent(9)
    assert (progress.next, progress.may_send(2)) == (10, False)
    assert progress.agreed(7)
    assert (progress.in_flight, progress.may_send(2)) == ([9], True)
    assert not progress.agreed(5)

    assert progress.refused(2)
    assert (progress.state, progress.next, progress.in_flight) == (PROBE, 8, [])


def test_progress_through_a_snapshot() -> None:
    """Only news of chunks sends the next; the end of it is an answer that covers it."""
    progress = Progress(8)
    progress.send_snapshot(20)
    assert progress.state == SNAPSHOT
    assert progress.received(100)
    assert not progress.received(100)
    assert not progress.received(50)
    assert not progress.refused(3)
    assert progress.received(0)  # it began anew

    assert progress.agreed(15)
    assert progress.state == SNAPSHOT
    assert progress.agreed(20)
    assert (progress.state, progress.next) == (REPLICATE, 21)


@pytest.mark.parametrize("commit", [0, 3])
def test_a_term_that_conflicts_costs_one_refusal(commit: int) -> None:
    """The hint lies below all that a leader that was cut off took in alone, and not below what is committed."""
    one = One(terms=(1, 2, 2, 2, 2, 2), term=2)
    one.hear("n2", Append(2, 6, 2, commit, ()))
    (refused,) = one.hear("n3", Append(3, 6, 3, 0, ()))

    assert (refused.ok, refused.index) == (False, max(1, commit))
