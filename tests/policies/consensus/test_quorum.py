"""Quorum mathematics against naive twins that count by the definition, and against published verdicts (transcripts)."""

from __future__ import annotations

from itertools import combinations, product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.consensus.quorum import (
    INDEX_MAX,
    Voters,
    byzantine_quorum,
    committed_index,
    faults,
    majority,
    quorum_index,
    vote_result,
)
from tests.policies.consensus.transcripts import FOLDER, play

NAMES = ("a", "b", "c", "d", "e", "f")
HALF = st.lists(st.sampled_from(NAMES), unique=True, max_size=5).map(tuple)
VOTERS = st.builds(Voters, HALF, HALF)
ACKED = st.dictionaries(st.sampled_from((*NAMES, "stranger")), st.integers(0, 12))
VOTES = st.dictionaries(st.sampled_from((*NAMES, "stranger")), st.booleans())


def agree(voters: Voters, yes: set[str]) -> bool:
    """Say whether in each half the members in ``yes`` outnumber the others."""
    return all(not half or 2 * len(yes & set(half)) > len(half) for half in (voters.incoming, voters.outgoing))


def naive_commit(voters: Voters, acked: dict[str, int]) -> int:
    """Try every index that anybody has."""
    if not voters.incoming and not voters.outgoing:
        return INDEX_MAX
    tried = (i for i in acked.values() if agree(voters, {name for name, index in acked.items() if index >= i}))
    return max(tried, default=0)


def naive_result(voters: Voters, votes: dict[str, bool]) -> str:
    """Try every way in which those who have not answered may still answer."""
    everybody = {*voters.incoming, *voters.outgoing}
    yes = {name for name in everybody if votes.get(name)}
    silent = sorted(everybody - votes.keys())
    ends = {agree(voters, yes | set(more)) for k in range(len(silent) + 1) for more in combinations(silent, k)}
    return "pending" if len(ends) == 2 else "won" if ends == {True} else "lost"


@given(VOTERS, ACKED)
def test_the_committed_index_is_the_highest_that_each_half_has(voters: Voters, acked: dict[str, int]) -> None:
    """It is what trying every index finds, and a stranger's word counts for nothing."""
    assert committed_index(voters, acked) == naive_commit(voters, acked)


@given(VOTERS, VOTES)
def test_a_vote_is_decided_when_no_further_answer_can_change_it(voters: Voters, votes: dict[str, bool]) -> None:
    """It is won if every way to go on wins, lost if every way loses, and pending otherwise."""
    assert vote_result(voters, votes) == naive_result(voters, votes)


def test_every_vote_among_three_in_every_configuration_is_counted_right() -> None:
    """Nothing is left to chance where everything can be tried: 8 by 8 halves, each member says yes, no or nothing."""
    halves = [half for k in range(4) for half in combinations("abc", k)]

    for left, right, answers in product(halves, halves, product((True, False, None), repeat=3)):
        voters = Voters(left, right)
        votes = {name: answer for name, answer in zip("abc", answers, strict=True) if answer is not None}
        assert vote_result(voters, votes) == naive_result(voters, votes), (voters, votes)


@given(VOTERS, ACKED)
def test_an_index_is_committed_if_the_vote_on_it_is_won(voters: Voters, acked: dict[str, int]) -> None:
    """Commitment and election are one mathematics: an index is committed exactly if its holders would elect."""
    index = committed_index(voters, acked)

    for i in range(1, 14):
        holders = {name: acked.get(name, 0) >= i for name in NAMES}
        assert (vote_result(voters, holders) == "won") == (i <= index)


@given(VOTERS, ACKED, st.sampled_from(NAMES), st.integers(1, 12))
def test_more_acknowledged_never_commits_less(voters: Voters, acked: dict[str, int], name: str, more: int) -> None:
    """The committed index never falls while members only acknowledge more."""
    later = {**acked, name: acked.get(name, 0) + more}

    assert committed_index(voters, later) >= committed_index(voters, acked)


@given(HALF, HALF, ACKED)
def test_a_joint_configuration_commits_what_both_halves_commit(
    left: tuple[str, ...], right: tuple[str, ...], acked: dict[str, int]
) -> None:
    """Order and repetition of the halves change nothing: it is the smaller of the two, also of one and itself."""
    alone = [committed_index(Voters(half), acked) for half in (left, right)]

    assert committed_index(Voters(left, right), acked) == min(alone)
    assert committed_index(Voters(right, left), acked) == min(alone)
    assert committed_index(Voters(left, left), acked) == alone[0]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=9))
def test_the_quorum_index_is_what_a_naive_count_says(match: list[int]) -> None:
    """It is the highest index that more than half of the members reached."""
    assert quorum_index(match) == max(i for i in range(21) if 2 * sum(m >= i for m in match) > len(match))


@pytest.mark.parametrize("n", range(1, 12))
def test_any_two_majorities_share_a_member(n: int) -> None:
    """A majority is the smallest size of which every two sets meet (all pairs of sets tried)."""
    sets = [set(s) for s in combinations(range(n), majority(n))]
    assert all(sets[0] & other for other in sets)  # by symmetry one of the sets is enough

    smaller = [set(s) for s in combinations(range(n), majority(n) - 1)]
    assert not all(smaller[0] & other for other in smaller)


@pytest.mark.parametrize("n", range(1, 14))
def test_byzantine_quorums_meet_in_a_correct_member_and_never_wait_for_a_liar(n: int) -> None:
    """f liars fit into 3f+1, one more does not; two quorums share more than f; a quorum exists without the liars."""
    f, quorum = faults(n), byzantine_quorum(n)
    assert 3 * f + 1 <= n < 3 * (f + 1) + 1
    assert quorum <= n - f

    first = set(range(quorum))
    assert min(len(first & set(other)) for other in combinations(range(n), quorum)) > f


def test_four_members_bear_one_liar() -> None:
    """The published sizes: 3 of 4, 5 of 7, 7 of 10, 67 of 100 (2f+1 of 3f+1, Castro and Liskov 1999)."""
    assert [(faults(n), byzantine_quorum(n)) for n in (4, 7, 10, 100)] == [(1, 3), (2, 5), (3, 7), (33, 67)]


def test_nobody_is_no_quorum() -> None:
    """No members bear no liars: refused in one line."""
    with pytest.raises(ValueError, match="members: 0"):
        byzantine_quorum(0)


def test_a_member_named_twice_is_refused() -> None:
    """Who stands twice in a half would count twice."""
    with pytest.raises(ValueError, match=r"voters\.outgoing.*twice"):
        Voters(("a",), ("b", "b"))


# -- transcripts -------------------------------------------------------------------------------------


def names(joined: str) -> tuple[str, ...]:
    """Return the names in ``a,b,c``."""
    return tuple(joined.split(",")) if joined else ()


def committed(incoming: str = "", outgoing: str = "", acked: str = "") -> str:
    """Directive: the committed index, on which the naive twin must agree."""
    voters = Voters(names(incoming), names(outgoing))
    indices = {name: int(index) for name, index in (pair.split(":") for pair in names(acked))}
    index = committed_index(voters, indices)

    assert index == naive_commit(voters, indices)
    return "everything" if index == INDEX_MAX else str(index)


def vote(incoming: str = "", outgoing: str = "", yes: str = "", no: str = "") -> str:
    """Directive: the result of a vote, on which the naive twin must agree."""
    voters = Voters(names(incoming), names(outgoing))
    votes = {**dict.fromkeys(names(yes), True), **dict.fromkeys(names(no), False)}
    result = vote_result(voters, votes)

    assert result == naive_result(voters, votes)
    return result


@pytest.mark.parametrize("path", sorted((FOLDER / "quorum").glob("*.txt")), ids=lambda path: path.stem)
def test_the_published_cases_come_out_as_published(path: Path) -> None:
    """Majorities and joint majorities, for indices and for votes: 127 cases of etcd-io/raft."""
    play(path, {"committed": committed, "vote": vote})
