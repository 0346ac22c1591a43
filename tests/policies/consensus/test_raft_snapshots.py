"""Snapshots: the log is cut at the front, and who lacks what was cut is sent the state (section 7 of the paper)."""

from __future__ import annotations

import msgspec
import pytest

from policies.consensus.changes import Membership
from policies.consensus.chunks import STATE_BYTES_MAX
from policies.consensus.quorum import Voters
from policies.consensus.raft.log import Log
from policies.consensus.raft.messages import Append, Appended, InstallSnapshot, Received
from policies.local import Reconfigure, Snapshot
from policies.log import DamagedLog
from policies.wire import encode
from tests.policies.hand_cluster import CONFIG, HandCluster

SMALL = msgspec.structs.replace(CONFIG, chunk_bytes=16)
THREE = ("n1", "n2", "n3")
MEMBERS = encode(Membership(Voters(THREE)))


def cluster_with(commands: int, *among: str, size: int = 3) -> HandCluster:
    """Return a cluster in which n1 leads and has committed so many commands with these members."""
    cluster = HandCluster(size, config=SMALL, voters=3)
    cluster.elect("n1", *among)
    for number in range(commands):
        cluster.propose("n1", b"%04d" % number)
        cluster.settle(*among)
    beat(cluster, *among)
    assert cluster.raft("n1").applied == commands + 1
    return cluster


def beat(cluster: HandCluster, *among: str, times: int = 3) -> None:
    """Let heartbeats go round until all is told."""
    for _ in range(times):
        cluster.fire("n1", "heartbeat")
        cluster.settle(*among)


def test_a_snapshot_takes_the_place_of_the_entries_it_holds() -> None:
    """In memory and on disk, at once; commits go on after it."""
    cluster = cluster_with(5)
    cluster.compact("n1")
    cluster.sync("n1")
    log = cluster.raft("n1").log
    assert (log.start, log.start_term, log.last, log.entries) == (6, 1, 6, [])
    assert sorted(cluster.saved["n1"]) == ["/meta", "/snapshot"]

    cluster.propose("n1", b"more")
    beat(cluster)
    assert cluster.machine("n2").commands[-1] == b"more"
    assert "/000000000007" in cluster.saved["n1"]


def test_a_restart_tells_the_snapshot_and_what_came_after_it() -> None:
    """The state machine starts empty in every life, and ends with the same state."""
    cluster = cluster_with(5)
    cluster.compact("n2")
    cluster.propose("n1", b"more")
    beat(cluster)
    before = list(cluster.machine("n2").commands)
    cluster.crash("n2")
    cluster.restart("n2")
    assert (cluster.machine("n2").index, len(cluster.machine("n2").commands)) == (6, 5)
    assert (cluster.raft("n2").commit, cluster.raft("n2").log.last) == (6, 7)

    beat(cluster)
    assert cluster.machine("n2").commands == before


@pytest.mark.parametrize("synced", [True, False])
def test_a_crash_leaves_the_entries_or_the_snapshot_of_them(synced: bool) -> None:
    """Both change in one batch: whichever is there after the crash, nothing is missing."""
    cluster = cluster_with(5)
    cluster.compact("n2")
    if synced:
        cluster.sync("n2")
    cluster.crash("n2")
    cluster.restart("n2")

    assert cluster.raft("n2").log.start == (6 if synced else 0)
    assert cluster.raft("n2").log.last == 6
    beat(cluster)
    assert len(cluster.machine("n2").commands) == 5


def test_who_lacks_what_is_compacted_is_sent_the_state_in_chunks() -> None:
    """No message carries more than the bound, one chunk at a time is under way, and the member then commits on."""
    cluster = cluster_with(12, "n1", "n2")
    cluster.compact("n1")
    cluster.sync("n1")
    assert len(cluster.raft("n1").snapshot.state) > 3 * SMALL.chunk_bytes  # type: ignore[union-attr]
    chunks = []
    for _ in range(12):
        cluster.fire("n1", "heartbeat")
        while cluster.post:
            sent = [said for said in cluster.said("n1", "n3") if isinstance(said, InstallSnapshot)]
            assert len(sent) <= 1
            chunks += [chunk for chunk in sent if chunk not in chunks]
            cluster.settle(rounds=1)
            for name in cluster.names:
                cluster.sync(name)
    assert max(len(chunk.data) for chunk in chunks) == SMALL.chunk_bytes
    assert b"".join(chunk.data for chunk in chunks) == cluster.raft("n1").snapshot.state  # type: ignore[union-attr]
    assert cluster.machine("n3").commands == cluster.machine("n1").commands

    cluster.propose("n1", b"more")
    beat(cluster)
    assert cluster.machine("n3").commands[-1] == b"more"
    assert cluster.raft("n1").progress["n3"].state == "replicate"


def test_a_new_learner_catches_up_by_the_snapshot() -> None:
    """It was made with the members of the beginning, and learns the configuration with the state."""
    cluster = cluster_with(8, *THREE, size=4)
    cluster.compact("n1")
    cluster.ask("n1", Reconfigure(THREE, ("n4",)))
    beat(cluster, times=12)

    assert cluster.machine("n4").commands == cluster.machine("n1").commands
    assert cluster.machine("n4").members == (THREE, ("n4",))
    assert "snapshot installed" in cluster.watch.seen


def test_a_chunk_that_is_lost_is_sent_again() -> None:
    """After an election time-out of heartbeats that the member refuses; not at each of them, for chunks are long."""
    cluster = cluster_with(12, "n1", "n2")
    cluster.compact("n1")
    cluster.fire("n1", "heartbeat")
    cluster.settle(rounds=1)  # n3 refuses, n1 answers with the first chunk
    sent = 0
    for _ in range(25):
        lost = [letter for letter in cluster.post if b"install_snapshot" in letter[2]]
        sent += len(lost)
        cluster.post = [letter for letter in cluster.post if letter not in lost]
        cluster.settle(rounds=1)
        cluster.fire("n1", "heartbeat")

    assert 1 <= sent <= 25 // cluster.raft("n1").patience + 1


def chunk(offset: int, data: bytes, index: int = 5, size: int = 6, term: int = 1) -> InstallSnapshot:
    """Return a chunk of a state of six bytes that holds five entries."""
    return InstallSnapshot(term, index, 1, MEMBERS, size, offset, data)


STATE = encode([b"abc"])
"""Six bytes: a list, a header of two, and three more."""


def test_chunks_are_taken_in_order_whatever_comes_twice() -> None:
    """An answer says how much is here; the last one is an Appended, and leaves when the state is durable."""
    cluster = HandCluster(3, config=SMALL)
    cluster.watch.chosen.update(dict.fromkeys(range(1, 6), (1, b"x")))
    for offset, data in ((3, STATE[3:]), (0, STATE[:3]), (0, STATE[:3])):
        cluster.tell("n2", "n1", chunk(offset, data))
    cluster.sync("n1")  # the term
    assert cluster.said("n1", "n2") == [Received(1, 5, 0), Received(1, 5, 3), Received(1, 5, 3)]

    cluster.post.clear()
    cluster.tell("n2", "n1", chunk(3, STATE[3:]))
    assert (cluster.post, cluster.raft("n1").durable) == ([], 0)
    cluster.sync("n1")
    assert cluster.said("n1", "n2") == [Appended(1, True, 5)]
    assert cluster.raft("n1").durable == 5
    assert (cluster.machine("n1").commands, cluster.machine("n1").index) == ([b"abc"], 5)


def test_a_snapshot_of_less_than_is_committed_changes_nothing() -> None:
    """A late one is answered with what is here."""
    cluster = cluster_with(5)
    before = list(cluster.log("n2"))
    cluster.tell("n1", "n2", chunk(0, STATE))
    cluster.sync("n2")

    assert cluster.log("n2") == before
    assert cluster.said("n2", "n1") == [Appended(1, True, 6)]


def test_a_snapshot_of_what_the_log_holds_leaves_the_log_alone() -> None:
    """Entries after it were answered for and may be counted: to drop them would lose what is committed (openraft
    cecb5de8). The member only learns that so much is committed."""
    cluster = cluster_with(3)
    index = cluster.raft("n3").commit + 1
    for command in (b"later", b"last"):
        cluster.propose("n1", command)
    cluster.settle("n1", "n3")
    assert (cluster.raft("n1").commit, cluster.raft("n3").commit) == (index + 1, index - 1)
    before = list(cluster.log("n3"))
    cluster.tell("n1", "n3", InstallSnapshot(1, index, 1, MEMBERS, 6, 0, STATE))
    cluster.sync("n3")

    assert cluster.log("n3") == before
    assert (cluster.raft("n3").log.start, cluster.raft("n3").commit) == (0, index)
    assert cluster.said("n3", "n1")[-1] == Appended(1, True, index)


@pytest.mark.parametrize(
    "bad",
    [chunk(0, STATE, size=STATE_BYTES_MAX + 1), chunk(4, STATE), InstallSnapshot(1, 5, 1, b"\x00", 6, 0, STATE)],
    ids=["too long", "beyond its end", "no membership"],
)
def test_an_impossible_snapshot_is_dropped(bad: InstallSnapshot) -> None:
    """It is counted and noted, and nothing changes."""
    cluster = HandCluster(3, config=SMALL)
    cluster.tell("n2", "n1", bad)

    assert (cluster.raft("n1").log.last, cluster.raft("n1").dropped) == (0, 1)
    assert cluster.machine("n1").index == 0


def test_a_snapshot_that_the_machine_cannot_have_is_refused() -> None:
    """Of what it has not applied, of what is compacted already, or of too many bytes."""
    cluster = cluster_with(2)
    cluster.compact("n1")
    for index, state in ((4, b""), (3, b""), (0, b"")):
        cluster.ask("n1", Snapshot(index, state))
    cluster.propose("n1", b"more")
    beat(cluster)
    cluster.ask("n1", Snapshot(4, bytes(STATE_BYTES_MAX + 1)))

    assert cluster.raft("n1").log.start == 3
    assert cluster.raft("n1").dropped == 4


def test_an_append_that_reaches_below_the_snapshot_agrees_there() -> None:
    """What a snapshot holds is committed; only what is beyond it is looked at."""
    cluster = cluster_with(3)
    entries = tuple(cluster.log("n2"))
    cluster.compact("n2")
    cluster.sync("n2")
    for prev in range(4):
        cluster.tell("n1", "n2", Append(1, prev, 1 if prev else 0, 4, entries[prev : prev + 2]))
        cluster.sync("n2")

    assert cluster.said("n2", "n1") == [Appended(1, True, 4)] * 4
    assert cluster.raft("n2").log.last == 4


@pytest.mark.parametrize("lost", ["/000000000003", "/000000000001"])
def test_a_gap_in_what_was_saved_is_one_clear_error(lost: str) -> None:
    """The member does not start: it would promise what it has not got."""
    cluster = cluster_with(5)
    cluster.crash("n2")
    del cluster.saved["n2"][lost]

    with pytest.raises(DamagedLog, match=rf"^log entry {int(lost[1:])}: missing, and 00000000000\d is there"):
        cluster.restart("n2")


def test_a_log_is_read_by_index_before_and_after_it_is_compacted() -> None:
    """Terms are known from the snapshot's last entry on; slices are bounded by number and by size."""
    log = Log()
    for index, term in enumerate((1, 1, 2, 3), start=1):
        assert log.append(term, b"x" * index) == index
    assert [log.term_at(index) for index in range(6)] == [0, 1, 1, 2, 3, 0]
    assert log.slice(2, 10, 100) == ((1, b"xx"), (2, b"xxx"), (3, b"xxxx"))
    assert log.slice(2, 2, 100) == log.slice(2, 10, 5) == ((1, b"xx"), (2, b"xxx"))
    assert log.slice(4, 10, 1) == ((3, b"xxxx"),)  # one at least, or nothing would ever be sent

    log.compact(2)
    assert [log.term_at(index) for index in range(6)] == [0, 0, 1, 2, 3, 0]
    assert (log.entry(3), log.last_term) == ((2, b"xxx"), 3)
    log.truncate(2)
    assert (log.last, log.last_term) == (2, 1)
    log.reset(9, 4)
    assert (log.start, log.last, log.term_at(9), log.append(5, b"")) == (9, 9, 4, 10)
