"""The Raft paper, sentence by sentence: the 26 questions of etcd-io/raft's ``raft_paper_test.go``, asked of one member.

Sections are those of Ongaro and Ousterhout, ATC 2014. The member is `n1`; what the others say is written by the test.
Elections are those of the paper's figure 2, without PreVote and CheckQuorum.
"""

from __future__ import annotations

import pytest

from policies.consensus.raft.messages import Append, Appended, RequestVote, Vote
from policies.port import NS_PER_S
from tests.policies.consensus.one_member import One, entries
from tests.policies.consensus.raft_story import Story

# -- section 5.1: terms ----------------------------------------------------------------------------------------------


def test_01_a_follower_takes_over_a_higher_term() -> None:
    """5.1: if a server's current term is smaller than another's, it takes over the larger one."""
    one = One(term=1)
    one.hear("n2", Append(2, 0, 0, 0, ()))
    assert (one.raft.role, one.raft.term) == ("follower", 2)


def test_02_a_candidate_that_is_out_of_date_becomes_a_follower() -> None:
    """5.1: a candidate that learns of a higher term follows at once."""
    one = One()
    one.fire("election")
    one.hear("n2", Append(2, 0, 0, 0, ()))
    assert (one.raft.role, one.raft.term) == ("follower", 2)


def test_03_a_leader_that_is_out_of_date_becomes_a_follower() -> None:
    """5.1: and so does a leader."""
    one = One().lead()
    one.hear("n2", Append(2, 0, 0, 0, ()))
    assert (one.raft.role, one.raft.term) == ("follower", 2)


def test_04_a_request_of_an_old_term_is_rejected() -> None:
    """5.1: its sender hears the newer term, and nothing else comes of it."""
    one = One(term=2)
    assert one.hear("n2", Append(1, 0, 0, 0, entries(1))) == [Appended(2, False, 0)]
    assert (one.raft.leader, one.raft.log.last) == ("", 0)


# -- section 5.2: elections ------------------------------------------------------------------------------------------


def test_05_a_member_starts_as_a_follower() -> None:
    """5.2: whatever it was in its last life."""
    assert One().raft.role == "follower"
    assert One(terms=(1, 2), term=5, vote="n1").raft.role == "follower"


def test_06_a_leader_sends_heartbeats_to_all() -> None:
    """5.2: AppendEntries without entries, to each follower, again and again."""
    one = One().lead()
    for _ in range(3):
        assert one.fire("heartbeat") == [(other, Append(1, 1, 1, 1, ())) for other in ("n2", "n3")]


def test_07_a_follower_that_hears_nothing_begins_an_election() -> None:
    """5.2: it raises its term, votes for itself, and asks all others at once."""
    one = One(term=1)
    one.hear("n2", Append(1, 0, 0, 0, ()))
    assert one.fire("election") == [(other, RequestVote(2, 0, 0)) for other in ("n2", "n3")]
    assert (one.raft.role, one.raft.term, one.raft.voted_for) == ("candidate", 2, "n1")


def test_08_a_candidate_that_hears_nothing_begins_another() -> None:
    """5.2: in the next term, with a new round of votes."""
    one = One()
    one.fire("election")
    assert one.fire("election") == [(other, RequestVote(2, 0, 0)) for other in ("n2", "n3")]
    assert (one.raft.role, one.raft.term, one.raft.voted_for) == ("candidate", 2, "n1")


@pytest.mark.parametrize(
    ("size", "answers", "role"),
    [
        (1, "", "leader"),
        (3, "yy", "leader"),
        (3, "y", "leader"),
        (5, "yyyy", "leader"),
        (5, "yyy", "leader"),
        (5, "yy", "leader"),
        (3, "nn", "follower"),
        (5, "nnnn", "follower"),
        (5, "ynnn", "follower"),
        (3, "", "candidate"),
        (5, "y", "candidate"),
        (5, "nn", "candidate"),
        (5, "", "candidate"),
    ],
)
def test_09_one_round_of_votes_is_won_lost_or_open(size: int, answers: str, role: str) -> None:
    """5.2: a majority of yes elects, a majority of no does not, and anything less decides nothing."""
    one = One(size)
    one.fire("election")
    for other, answer in zip(one.others, answers, strict=False):
        one.hear(other, Vote(1, answer == "y"))
    assert (one.raft.role, one.raft.term) == (role, 1)


@pytest.mark.parametrize(
    ("vote", "asks", "granted"),
    [
        ("", "n2", True),
        ("", "n3", True),
        ("n2", "n2", True),
        ("n3", "n3", True),
        ("n2", "n3", False),
        ("n3", "n2", False),
    ],
)
def test_10_a_member_votes_for_one_candidate_a_term(vote: str, asks: str, granted: bool) -> None:
    """5.2: first come, first served; the same one may ask again."""
    one = One(term=1, vote=vote)
    assert one.hear(asks, RequestVote(1, 0, 0)) == [Vote(1, granted)]


@pytest.mark.parametrize("term", [1, 2])
def test_11_a_candidate_follows_a_leader_of_its_term_or_a_later_one(term: int) -> None:
    """5.2: the leader is legitimate if its term is at least the candidate's."""
    one = One()
    one.fire("election")
    one.hear("n2", Append(term, 0, 0, 0, ()))
    assert (one.raft.role, one.raft.term, one.raft.leader) == ("follower", term, "n2")


def drawn(one: One, how: str, rounds: int) -> list[int]:
    """Return the time-out of each of many terms, in tenths of the shortest one."""
    tenths = []
    for _ in range(rounds):
        if how == "follower":
            one.hear(one.others[0], Append(one.raft.term + 1, 0, 0, 0, ()))
        else:
            one.fire("election")
        tenths.append(int(one.raft.election_ns * 10 / NS_PER_S))
    return tenths


def test_12_a_follower_draws_its_time_out_from_the_whole_range() -> None:
    """5.2: time-outs are chosen at random from a fixed interval, every tenth of which comes up."""
    assert set(drawn(One(), "follower", 500)) == set(range(10, 20))


def test_13_a_candidate_draws_its_time_out_from_the_whole_range() -> None:
    """5.2: and anew for each election."""
    assert set(drawn(One(), "candidate", 500)) == set(range(10, 20))


def conflicts(how: str) -> float:
    """Return the share of 1000 terms in which two of five members time out first, in the same tenth."""
    members = [One(5, me=f"n{i + 1}") for i in range(5)]
    tenths = [drawn(one, how, 1000) for one in members]
    first_two = [sorted(of_all)[:2] for of_all in zip(*tenths, strict=True)]
    return [a == b for a, b in first_two].count(True) / 1000


FIRST_TOGETHER = 1 - 5 * sum((k / 10) ** 4 for k in range(10)) / 10
"""Chance that of five uniform draws from ten slots the lowest is shared: 1 - 5/10 sum of (k/10)^4, or 0.233."""


def test_14_followers_rarely_time_out_together() -> None:
    """5.2: in most cases only one server times out: as often as chance has it, within three sigma of 1000 terms."""
    assert conflicts("follower") == pytest.approx(FIRST_TOGETHER, abs=0.04)


def test_15_candidates_rarely_time_out_together() -> None:
    """5.2: so that a split vote is unlikely to be followed by another."""
    assert conflicts("candidate") == pytest.approx(FIRST_TOGETHER, abs=0.04)


# -- section 5.3: replication ----------------------------------------------------------------------------------------


def test_16_a_leader_replicates_what_a_client_proposes() -> None:
    """5.3: it appends and writes the entry, and sends it to all others with index and term of the one before it."""
    one = One().lead()
    one.propose(b"x")
    assert one.sent == [(other, Append(1, 1, 1, 1, ((1, b"x"),))) for other in ("n2", "n3")]
    assert (one.raft.log.last, one.raft.commit) == (2, 1)
    assert one.saved_log() == [(1, b""), (1, b"x")]


def test_17_a_leader_commits_applies_and_tells() -> None:
    """5.3: once replicated the entry is applied, and later AppendEntries carry the highest committed index."""
    one = One().lead()
    one.propose(b"x")
    one.sync()
    for other in one.others:
        one.hear(other, Appended(1, True, 2))
    assert (one.raft.commit, one.applied) == (2, [b"x"])
    assert one.fire("heartbeat") == [(other, Append(1, 2, 1, 2, ())) for other in ("n2", "n3")]


@pytest.mark.parametrize(
    ("size", "answers", "committed"),
    [
        (1, 0, True),
        (3, 0, False),
        (3, 1, True),
        (3, 2, True),
        (5, 0, False),
        (5, 1, False),
        (5, 2, True),
        (5, 3, True),
        (5, 4, True),
    ],
)
def test_18_an_entry_is_committed_when_a_majority_has_it(size: int, answers: int, committed: bool) -> None:
    """5.3: the leader that created it counts itself."""
    one = One(size).lead()
    one.propose(b"x")
    one.sync()
    for other in one.others[:answers]:
        one.hear(other, Appended(1, True, 2))
    assert (one.raft.commit == 2) == committed


@pytest.mark.parametrize("terms", [(), (2,), (1, 2), (1,)])
def test_19_a_commit_commits_all_before_it(terms: tuple[int, ...]) -> None:
    """5.3: also entries of earlier leaders; they are applied in the order of the log."""
    one = One(terms=terms, term=2)
    one.fire("election")
    one.hear("n2", Vote(3, True))
    one.propose(b"x")
    one.sync()
    one.hear("n2", Appended(3, True, len(terms) + 2))
    assert one.chosen == list(range(1, len(terms) + 3))
    assert one.applied == [command for _, command in entries(*terms)] + [b"x"]


@pytest.mark.parametrize(
    ("commands", "commit"), [((b"x",), 1), ((b"x", b"y"), 2), ((b"y", b"x"), 2), ((b"x", b"y"), 1)]
)
def test_20_a_follower_applies_what_it_learns_is_committed(commands: tuple[bytes, ...], commit: int) -> None:
    """5.3: in log order, and no further."""
    one = One()
    one.hear("n2", Append(1, 0, 0, commit, tuple((1, command) for command in commands)))
    assert (one.raft.commit, one.applied) == (commit, list(commands[:commit]))


@pytest.mark.parametrize(
    ("prev_index", "prev_term", "answer"),
    [
        (0, 0, Appended(2, True, 0)),
        (1, 1, Appended(2, True, 1)),
        (2, 2, Appended(2, True, 2)),
        (2, 1, Appended(2, False, 1)),
        (3, 3, Appended(2, False, 2)),
    ],
)
def test_21_a_follower_takes_entries_only_after_one_it_has(prev_index: int, prev_term: int, answer: Appended) -> None:
    """5.3: if it has no entry with that index and term it refuses, and says up to where it may agree."""
    one = One(terms=(1, 2), term=2)
    one.hear("n2", Append(2, 1, 1, 1, ()))
    assert one.hear("n2", Append(2, prev_index, prev_term, 1, ())) == [answer]


@pytest.mark.parametrize(
    ("prev", "sent", "after"),
    [((2, 2), (3,), (1, 2, 3)), ((1, 1), (3, 4), (1, 3, 4)), ((0, 0), (1,), (1, 2)), ((0, 0), (3,), (3,))],
)
def test_22_a_follower_replaces_what_conflicts(
    prev: tuple[int, int], sent: tuple[int, ...], after: tuple[int, ...]
) -> None:
    """5.3: the conflicting entry and all after it go, what it lacks is appended, and its disk holds the same."""
    one = One(terms=(1, 2), term=4)
    one.hear("n2", Append(4, *prev, 0, entries(*sent, first=prev[0] + 1)))
    assert [term for term, _ in one.raft.log.entries] == list(after)
    assert one.saved_log() == list(entries(*after))


@pytest.mark.parametrize(
    "log",
    [
        "1,1,1,4,4,5,5,6,6",
        "1,1,1,4",
        "1,1,1,4,4,5,5,6,6,6,6",
        "1,1,1,4,4,5,5,6,6,6,7,7",
        "1,1,1,4,4,4,4",
        "1,1,1,2,2,2,3,3,3,3,3",
    ],
    ids="abcdef",
)
def test_23_a_leader_brings_a_followers_log_into_line(log: str) -> None:
    """5.3, figure 7: each of the six followers ends with the leader's log."""
    story = Story()
    story.add_nodes("3")
    story.restart("n1", "1,1,1,4,4,5,5,6,6,6", "8")
    story.restart("n2", log, "7")
    story.campaign("n1")
    story.stabilize()  # n3, whose log is empty, votes for n1 whatever n2 thinks
    assert story.raft_log("n1", "n2", form="terms") == "n1 1 1 1 4 4 5 5 6 6 6 9\nn2 1 1 1 4 4 5 5 6 6 6 9"


# -- section 5.4: safety ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("terms", [(1,), (1, 2)])
def test_24_a_candidate_says_how_complete_its_log_is(terms: tuple[int, ...]) -> None:
    """5.4.1: RequestVote names index and term of the last entry, and goes to all others."""
    one = One()
    one.hear("n2", Append(terms[-1], 0, 0, 0, entries(*terms)))
    ballot = RequestVote(terms[-1] + 1, len(terms), terms[-1])
    assert one.fire("election") == [(other, ballot) for other in ("n2", "n3")]


@pytest.mark.parametrize(
    ("mine", "last_term", "last_index", "granted"),
    [
        ((1,), 1, 1, True),
        ((1,), 1, 2, True),
        ((1, 1), 1, 1, False),
        ((1,), 2, 1, True),
        ((1,), 2, 2, True),
        ((1, 1), 2, 1, True),
        ((2,), 1, 1, False),
        ((2,), 1, 2, False),
        ((2, 2), 1, 1, False),
        ((1, 2), 1, 9, False),
    ],
)
def test_25_a_vote_is_denied_to_a_log_that_is_less_complete(
    mine: tuple[int, ...], last_term: int, last_index: int, granted: bool
) -> None:
    """5.4.1: the later last term is the more complete, among equal ones the longer log."""
    one = One(2, terms=mine, term=2)
    assert one.hear("n2", RequestVote(3, last_index, last_term)) == [Vote(3, granted)]


@pytest.mark.parametrize(("held", "commit"), [(1, 0), (2, 0), (3, 3)])
def test_26_only_entries_of_the_own_term_are_committed_by_counting(held: int, commit: int) -> None:
    """5.4.2, figure 8: earlier ones are committed with them, never alone."""
    one = One(2, terms=(1, 2), term=2)
    one.fire("election")
    one.hear("n2", Vote(3, True))
    one.propose(b"x")
    one.sync()
    one.hear("n2", Appended(3, True, held))
    assert one.raft.commit == commit
