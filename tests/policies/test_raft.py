"""Raft member by member, each rule of the paper on its own (sections of Ongaro and Ousterhout, ATC 2014).

The questions are those of etcd-io/raft's ``raft_paper_test.go``, asked anew of one Cell at a time.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import port as p
from policies.consensus.quorum import majority, quorum_index
from policies.consensus.raft.messages import Append, Appended, Forward, RequestVote, Vote
from policies.wire import encode
from tests.policies.hand_cluster import HandCluster

A, B, C = b"a", b"b", b"c"


def follower(*terms: int, size: int = 3) -> HandCluster:
    """Return a cluster whose n1 holds entries of these terms, durably, with nothing on its way."""
    cluster = HandCluster(size)
    entries = tuple((term, b"%d" % index) for index, term in enumerate(terms, start=1))
    cluster.watch.proposed |= {command for _, command in entries}
    if entries:
        cluster.tell("n2", "n1", Append(terms[-1], 0, 0, 0, entries))
        cluster.sync("n1")
    cluster.post.clear()
    return cluster


def leader(size: int = 3) -> HandCluster:
    """Return a cluster that n1 leads in term 1; its empty entry is committed and known to be."""
    cluster = HandCluster(size)
    cluster.elect("n1")
    cluster.fire("n1", "heartbeat")
    cluster.settle()
    return cluster


@given(st.lists(st.integers(0, 20), min_size=1, max_size=9))
def test_the_quorum_index_is_what_a_naive_count_says(match: list[int]) -> None:
    """It is the highest index that more than half of the members reached."""
    naive = max(i for i in range(21) if 2 * sum(m >= i for m in match) > len(match))

    assert quorum_index(match) == naive


@given(st.integers(1, 50))
def test_two_majorities_always_meet(n: int) -> None:
    """A majority is the smallest number of which two share a member."""
    assert 2 * majority(n) > n
    assert 2 * (majority(n) - 1) <= n


# -- section 5.1: terms ------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["follower", "candidate", "leader"])
@pytest.mark.parametrize(
    "news",
    [RequestVote(7, 0, 0), Vote(7, False), Append(7, 0, 0, 0, ()), Appended(7, False, 0)],
    ids=lambda m: type(m).__name__,
)
def test_a_higher_term_makes_anybody_a_follower_of_that_term(role: str, news: Any) -> None:
    """Whatever carries it, a higher term is adopted, saved, and ends a candidacy or leadership."""
    cluster = leader() if role == "leader" else HandCluster(3)
    if role == "candidate":
        cluster.fire("n1", "election")
    cluster.tell("n2", "n1", news)
    cluster.sync("n1")

    raft = cluster.raft("n1")
    assert (raft.role, raft.term) == ("follower", 7)
    cluster.crash("n1")
    cluster.restart("n1")
    assert cluster.raft("n1").term == 7


def test_an_append_of_an_old_term_is_refused_and_changes_nothing() -> None:
    """A deposed leader hears the new term and cannot write."""
    cluster = follower(1, 1)
    cluster.tell("n3", "n1", RequestVote(5, 0, 0))
    cluster.sync("n1")
    cluster.post.clear()
    cluster.tell("n2", "n1", Append(1, 2, 1, 2, ((1, A),)))

    assert cluster.said("n1", "n2") == [Appended(5, False, 2)]
    assert len(cluster.log("n1")) == 2
    assert cluster.raft("n1").commit == 0


# -- section 5.2: election ---------------------------------------------------------------------------


def test_a_member_votes_once_a_term_also_after_a_crash() -> None:
    """First come, first served; the same candidate hears the same answer again, another never hears yes."""
    cluster = HandCluster(3)
    cluster.tell("n2", "n1", RequestVote(3, 0, 0))
    cluster.sync("n1")
    cluster.crash("n1")
    cluster.restart("n1")
    cluster.post.clear()
    cluster.tell("n3", "n1", RequestVote(3, 0, 0))
    cluster.tell("n2", "n1", RequestVote(3, 0, 0))
    cluster.sync("n1")

    assert cluster.said("n1", "n3") == [Vote(3, False)]
    assert cluster.said("n1", "n2") == [Vote(3, True)]


def test_a_vote_leaves_only_when_it_is_durable() -> None:
    """A candidate cannot hear of a vote that a crash would undo."""
    cluster = HandCluster(3)
    cluster.tell("n2", "n1", RequestVote(3, 0, 0))
    assert cluster.said("n1", "n2") == []

    cluster.sync("n1")
    assert cluster.said("n1", "n2") == [Vote(3, True)]


def test_a_ballot_leaves_only_when_the_vote_for_oneself_is_durable() -> None:
    """A candidate that crashes has either asked nobody or remembers that it voted."""
    cluster = HandCluster(3)
    cluster.fire("n1", "election")
    assert cluster.post == []

    cluster.sync("n1")
    assert cluster.said("n1", "n2") == [RequestVote(1, 0, 0)]


def test_a_candidate_needs_a_majority_of_different_members() -> None:
    """In five members two votes, one heard twice, do not elect; the third does, and it is announced at once."""
    cluster = HandCluster(5)
    cluster.fire("n1", "election")
    cluster.sync("n1")
    cluster.post.clear()
    for _ in range(2):
        cluster.tell("n2", "n1", Vote(1, True))
    assert cluster.raft("n1").role == "candidate"

    cluster.tell("n3", "n1", Vote(0, True))  # of an old term
    cluster.tell("n4", "n1", Vote(1, False))
    cluster.tell("stranger", "n1", Vote(1, True))
    assert cluster.raft("n1").role == "candidate"

    cluster.tell("n3", "n1", Vote(1, True))
    assert cluster.raft("n1").role == "leader"
    assert [m.entries for m in cluster.said("n1", "n5")] == [((1, b""),)]


def test_a_single_member_elects_itself() -> None:
    """One is a majority of one: it leads when its own disk has its vote, and its entry commits when it has that."""
    cluster = HandCluster(1)
    cluster.fire("n1", "election")
    seen = [(cluster.raft("n1").role, cluster.raft("n1").commit)]
    for _ in range(2):
        cluster.sync("n1")
        seen.append((cluster.raft("n1").role, cluster.raft("n1").commit))

    assert seen == [("candidate", 0), ("leader", 0), ("leader", 1)]


def test_a_candidate_follows_the_leader_of_its_own_term() -> None:
    """An Append of the same term ends a candidacy; the vote stays given."""
    cluster = HandCluster(3)
    cluster.fire("n1", "election")
    cluster.sync("n1")
    cluster.tell("n2", "n1", Append(1, 0, 0, 0, ()))

    raft = cluster.raft("n1")
    assert (raft.role, raft.leader, raft.voted_for) == ("follower", "n2", "n1")


def test_a_split_vote_is_tried_again_in_a_new_term_with_a_new_time_out() -> None:
    """Time-outs lie within their range and differ between members and terms."""
    cluster = HandCluster(5)
    drawn = []
    for name in cluster.names:
        for _ in range(20):
            drawn.append(cluster.raft(name).election_ns)
            cluster.fire(name, "election")

    low, high = cluster.config.election_min_s, cluster.config.election_max_s
    assert all(low * 1e9 <= ns < high * 1e9 for ns in drawn)
    assert len(set(drawn)) == len(drawn)
    assert cluster.raft("n1").term == 20


def test_a_heartbeat_puts_the_election_off() -> None:
    """A follower's timer is set anew by an Append and by a vote it gives, not by one it refuses."""
    cluster = follower(2)
    armed = cluster.timers["n1"]["election"]
    cluster.tell("n3", "n1", RequestVote(2, 0, 0))
    assert cluster.timers["n1"]["election"] == armed

    cluster.tell("n2", "n1", Append(2, 1, 2, 0, ()))
    assert cluster.timers["n1"]["election"] > armed
    armed = cluster.timers["n1"]["election"]
    cluster.tell("n3", "n1", RequestVote(3, 1, 2))
    assert cluster.timers["n1"]["election"] > armed


# -- section 5.4.1: who may lead ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "last_term", "last_index", "granted"),
    [
        ((), 0, 0, True),
        ((1,), 1, 1, True),
        ((1,), 1, 2, True),
        ((1, 1), 1, 1, False),
        ((1, 1), 2, 1, True),
        ((1, 2), 1, 9, False),
        ((2,), 1, 2, False),
        ((1,), 0, 0, False),
    ],
)
def test_a_vote_goes_only_to_a_log_that_is_as_complete(
    mine: tuple[int, ...], last_term: int, last_index: int, granted: bool
) -> None:
    """The later last term wins; with equal terms the longer log."""
    cluster = follower(*mine)
    cluster.tell("n3", "n1", RequestVote(9, last_index, last_term))
    cluster.sync("n1")

    assert cluster.said("n1", "n3") == [Vote(9, granted)]


# -- section 5.3: replication ------------------------------------------------------------------------


def test_the_leader_sends_while_it_writes_and_counts_itself_when_written() -> None:
    """Entries leave before the leader's own sync; one follower's answer and the own disk make a commit of three."""
    cluster = leader()
    cluster.propose("n1", A)
    assert [m.entries for m in cluster.said("n1", "n2")] == [((1, A),)]

    cluster.tell("n2", "n1", Appended(1, True, 2))
    assert cluster.raft("n1").commit == 1  # the own write is not durable: one of three

    cluster.crash("n2")
    cluster.watch.cells["n2"].durable["/000000000002"] = encode((1, A))  # n2 holds it, as its answer said
    cluster.sync("n1")
    assert cluster.raft("n1").commit == 2


def test_a_driver_that_names_only_the_last_of_many_syncs_is_understood() -> None:
    """DURABLE means this batch and all before it, also where the last batch held no entry."""
    cluster = HandCluster(1)
    cluster.fire("n1", "election")
    cluster.sync("n1")
    cluster.propose("n1", A)
    cluster.propose("n1", B)
    tokens = [token for token, _ in cluster.disk["n1"]]
    cluster.give("n1", (p.DURABLE, "", tokens[-1]))
    assert cluster.raft("n1").commit == 3
    assert cluster.raft("n1").writing == {}

    cluster.propose("n1", C)
    cluster.give("n1", (p.DURABLE, "", cluster.disk["n1"][-1][0] + 1))
    assert cluster.raft("n1").commit == 4


def test_an_answer_leaves_only_when_the_entries_are_durable() -> None:
    """A follower that crashes before its sync has promised nothing."""
    cluster = HandCluster(3)
    cluster.tell("n2", "n1", Append(1, 0, 0, 0, ((1, A),)))
    assert cluster.said("n1", "n2") == []

    cluster.crash("n1")
    cluster.restart("n1")
    assert cluster.log("n1") == []
    cluster.tell("n2", "n1", Append(1, 0, 0, 0, ((1, A),)))
    cluster.sync("n1")
    assert cluster.said("n1", "n2") == [Appended(1, True, 1)]


def test_an_answer_promises_what_was_sent_not_what_the_log_holds() -> None:
    """A follower with a longer, doubtful tail confirms only up to the entries of this Append."""
    cluster = follower(1, 1, 1)
    cluster.tell("n3", "n1", Append(2, 1, 1, 0, ()))
    cluster.sync("n1")

    assert cluster.said("n1", "n3") == [Appended(2, True, 1)]


def test_a_gap_or_another_term_before_the_entries_is_refused() -> None:
    """The entry before must agree, and the answer says from where it may."""
    cluster = follower(1, 1, 2)
    cluster.tell("n2", "n1", Append(3, 5, 3, 0, ((3, A),)))
    cluster.tell("n2", "n1", Append(3, 3, 3, 0, ((3, A),)))
    cluster.tell("n2", "n1", Append(3, 3, 1, 0, ((3, A),)))
    cluster.sync("n1")

    assert cluster.said("n1", "n2") == [Appended(3, False, 3), Appended(3, False, 2), Appended(3, False, 2)]
    assert [term for term, _ in cluster.log("n1")] == [1, 1, 2]


def test_only_a_conflict_cuts_the_log() -> None:
    """An entry of another term and all after it go; durable state follows."""
    cluster = follower(1, 1, 1)
    cluster.tell("n3", "n1", Append(2, 1, 1, 0, ((2, A),)))
    cluster.sync("n1")

    assert [term for term, _ in cluster.log("n1")] == [1, 2]
    cluster.crash("n1")
    cluster.restart("n1")
    assert [term for term, _ in cluster.log("n1")] == [1, 2]


@pytest.mark.parametrize("prev", [0, 1, 2])
def test_an_old_append_that_agrees_never_cuts(prev: int) -> None:
    """A late copy of an earlier Append leaves the entries after it alone."""
    cluster = follower(1, 1, 1)
    before = list(cluster.log("n1"))
    cluster.tell("n2", "n1", Append(1, prev, 1 if prev else 0, 0, tuple(before[prev : prev + 1])))
    cluster.tell("n2", "n1", Append(1, prev, 1 if prev else 0, 0, ()))

    assert cluster.log("n1") == before
    assert cluster.disk["n1"] == []


def test_a_write_in_flight_does_not_prove_what_replaced_it() -> None:
    """A leader's entry at the index of an overwritten one waits for its own sync (the append ABA race of etcd)."""
    cluster = HandCluster(3)
    cluster.watch.proposed |= {A, B, C}
    cluster.tell("n2", "n1", Append(1, 0, 0, 0, ((1, A), (1, B), (1, C))))
    cluster.tell("n3", "n1", Append(2, 1, 1, 0, ((2, B),)))
    raft = cluster.raft("n1")
    assert max(raft.writing.values()) == 2

    cluster.sync("n1", 1)
    assert raft.durable == 1  # of the first write only entry 1 still stands
    cluster.sync("n1", 1)
    assert raft.durable == 2


@pytest.mark.parametrize(
    "terms",
    [
        (1, 1, 1, 4, 4, 5, 5, 6, 6),
        (1, 1, 1, 4),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
        (1, 1, 1, 4, 4, 4, 4),
        (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
    ],
    ids="abcdef",
)
def test_a_leader_brings_every_log_of_figure_7_into_line(terms: tuple[int, ...]) -> None:
    """The six followers of the paper's figure 7 end with the leader's log."""
    leaders = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)
    cluster = HandCluster(3)
    for name, log in (("n1", leaders), ("n2", terms)):
        cluster.crash(name)
        entries = {f"/{i:012d}": encode((term, b"%d.%d" % (term, i))) for i, term in enumerate(log, start=1)}
        cluster.watch.proposed |= {b"%d.%d" % (term, i) for i, term in enumerate(log, start=1)}
        cluster.saved[name] = {"/meta": encode((7, "")), **entries}
        cluster.restart(name)
    cluster.post.clear()
    cluster.elect("n1", "n1", "n2", "n3") if terms[-1] < 7 else cluster.elect("n1", "n1", "n3")
    for _ in range(3):
        cluster.fire("n1", "heartbeat")
        cluster.now += 200_000_000
        cluster.settle()

    assert cluster.raft("n1").role == "leader"
    assert cluster.log("n2") == cluster.log("n1") == cluster.log("n3")
    assert cluster.raft("n2").commit == 11


# -- sections 5.3 and 5.4.2: commitment --------------------------------------------------------------


def test_a_follower_commits_no_further_than_what_this_append_proved() -> None:
    """The smaller of the leader's commit and the last entry that is known to agree."""
    cluster = follower(1, 1, 1)
    for index, command in enumerate((b"1", b"2", b"3"), start=1):
        for other in ("n2", "n3"):
            cluster.watch.cells[other].durable[f"/{index:012d}"] = encode((1, command))
    cluster.tell("n2", "n1", Append(1, 1, 1, 3, ()))
    assert cluster.raft("n1").commit == 1

    cluster.tell("n2", "n1", Append(1, 2, 1, 2, ((1, b"3"),)))
    assert cluster.raft("n1").commit == 2

    cluster.tell("n2", "n1", Append(1, 3, 1, 1, ()))
    assert cluster.raft("n1").commit == 2  # an older message does not take it back


def test_only_an_entry_of_its_own_term_is_committed_by_counting() -> None:
    """A new leader's count of an old term's entry waits for an entry of its own term (figure 8)."""
    cluster = follower(2, 2)
    cluster.fire("n1", "election")
    cluster.sync("n1")
    cluster.tell("n3", "n1", Vote(3, True))
    cluster.sync("n1")
    on_n3 = cluster.watch.cells["n3"].durable
    on_n3 |= {"/000000000001": encode((2, b"1")), "/000000000002": encode((2, b"2"))}
    cluster.tell("n3", "n1", Appended(3, True, 2))
    assert cluster.raft("n1").commit == 0

    on_n3["/000000000003"] = encode((3, b""))
    cluster.tell("n3", "n1", Appended(3, True, 3))
    assert cluster.raft("n1").commit == 3


def test_late_and_double_answers_move_nothing_back() -> None:
    """Answers of old terms are ignored; an older index or a late refusal never lowers what a follower has."""
    cluster = leader()
    cluster.propose("n1", A)
    cluster.settle()
    raft = cluster.raft("n1")
    assert {peer: progress.match for peer, progress in raft.progress.items()} == {"n2": 2, "n3": 2}

    for stale in (Appended(1, True, 1), Appended(0, True, 9), Appended(1, False, 0), Appended(0, False, 0)):
        cluster.tell("n2", "n1", stale)
    assert (raft.progress["n2"].match, raft.progress["n2"].next) == (2, 3)
    assert raft.commit == 2


def test_a_proposal_to_a_follower_goes_to_the_leader() -> None:
    """Only a leader appends; who follows passes it on, and who knows of no leader, or hears it passed on, drops it."""
    cluster = leader()
    cluster.propose("n2", A)

    assert len(cluster.log("n2")) == 1
    assert cluster.said("n2", "n1") == [Forward(A)]
    cluster.deliver()
    assert cluster.log("n1")[-1] == (1, A)

    cluster.post.clear()
    cluster.tell("n2", "n3", Forward(B))
    cluster.crash("n3")
    cluster.restart("n3")
    cluster.propose("n3", B)
    assert cluster.post == []


def test_a_deposed_leader_stops_its_heartbeat_and_waits_for_an_election() -> None:
    """After a step down there is one timer, the election's."""
    cluster = leader()
    cluster.tell("n2", "n1", RequestVote(5, 9, 9))

    assert set(cluster.timers["n1"]) == {"election"}
