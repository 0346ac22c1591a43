"""PBFT's checkpoints, state transfer, and the bounds of all that others can fill."""

from __future__ import annotations

import pytest

from policies import port as p
from policies.consensus.pbft import Pbft
from policies.consensus.pbft import messages as m
from policies.consensus.pbft.liveness import SENDER_BYTES_MAX, Pool
from policies.consensus.pbft.proofs import GENESIS
from policies.jobs import NAME_MAX
from policies.local import Propose, Snapshot
from policies.log import DamagedLog
from policies.port import NS_PER_S
from policies.wire import encode
from tests.policies.consensus.pbft_hand import (
    BATCH,
    CONFIG,
    NAMES,
    SIGN,
    One,
    change,
    chunks_of,
    commit,
    point_of,
    pre_prepare,
    prepare,
    shown,
    signer,
    stable_at,
)

# -- checkpoints and state transfer -------------------------------------------------------------------


def test_a_state_is_taken_only_with_a_quorums_word_for_its_digest() -> None:
    """A wrong state, a word of two, and a state behind what is applied change nothing."""
    state = b"state"
    point = point_of(state)
    member = One()
    member.hear("n0", shown(point, b"lie"), *chunks_of(b"lie"))
    member.hear("n0", shown(point, state, NAMES[:2]), *chunks_of(state))
    assert (member.pbft.applied, member.pbft.arriving) == (0, None)

    member.hear("n0", shown(point, state), *chunks_of(state))
    assert (member.pbft.applied, member.pbft.execution.point.seq, member.pbft.voter.stable.point.seq) == (20, 8, 8)
    assert member.again().pbft.applied == 20
    member.hear("n0", shown(point_of(state, 4, 10, 10), state), *chunks_of(state))
    assert member.pbft.applied == 20


def test_a_state_within_a_batch_is_gone_on_from_within_it() -> None:
    """A snapshot may fall between two commands of a batch: the next member told is the one after it, once."""
    batch = (("n0", 1, b"a"), ("n0", 2, b""), ("n1", 1, b"b"), ("n2", 1, b"c"))
    point = point_of(b"state", applied=22)
    member = One()
    member.hear("n0", shown(point, b"state"), *chunks_of(b"state"))
    votes = tuple((name, commit(name, 0, 9, batch).signature) for name in NAMES[:3])
    decided = [e for e in member.step((p.MESSAGE, "", "n1", encode(m.Decided(0, 9, batch, votes)))) if e == "commit"]
    assert (member.pbft.applied, decided) == (23, ["commit"])


def test_a_command_that_waits_is_asked_for_once_however_often_it_is_proposed() -> None:
    """Once it is executed the same bytes are another command."""
    member = One()
    for command in (b"a", b"a", b"b", b"a"):
        member.tell(Propose(command))
    asked = [message for to, message in member.sent if to == "n0" and isinstance(message, m.Request)]
    assert [(r.origin, r.command) for r in asked] == [("n3", b"a"), ("n3", b"b")]

    batch = (("n3", asked[0].number, b"a"),)
    votes = tuple((name, commit(name, 0, 1, batch).signature) for name in NAMES[:3])
    member.hear("n1", m.Decided(0, 1, batch, votes))
    member.tell(Propose(b"a"))
    assert [r.command for to, r in member.sent if to == "n0" and isinstance(r, m.Request)] == [b"a", b"b", b"a"]


def test_with_a_state_that_is_taken_over_nothing_waits_any_more() -> None:
    """The state machine alone sees what of it was done: else all of it would come again with each state."""
    member = One()
    for command in (b"a", b"b"):
        member.tell(Propose(command))
    member.sent.clear()
    member.hear("n0", shown(point_of(b"state"), b"state"), *chunks_of(b"state"))

    assert member.pbft.applied == 20
    assert not member.pbft.pool.waiting
    assert not [message for _, message in member.sent if isinstance(message, m.Request)]
    member.tell(Propose(b"b"))
    assert [message.command for to, message in member.sent if to == "n0" and isinstance(message, m.Request)] == [b"b"]


def test_a_checkpoint_that_a_quorum_did_not_sign_moves_no_window() -> None:
    """Whoever shows it; and one with its proof does."""
    point = m.Point(8, 8, b"chain")
    member = One()
    member.hear("n0", stable_at(point, NAMES[:2]))
    assert member.pbft.voter.stable == GENESIS

    member.hear("n0", stable_at(point))
    assert member.pbft.voter.stable.point == point


def test_a_view_change_that_its_member_did_not_sign_pulls_nobody() -> None:
    """One liar cannot speak for others, and so cannot be f + 1 members."""
    member = One()
    for name in ("n0", "n1", "n2"):
        member.hear("n0", m.ViewChange(name, 5, GENESIS, (), change("n0", 5).signature))

    assert member.pbft.term == 0


def test_a_decided_batch_is_taken_from_one_peer_with_its_proof_and_not_without() -> None:
    """A quorum's commits are proof whoever shows them; two of them, or one three times, are none."""

    def decided(*names: str) -> m.Decided:
        return m.Decided(3, 1, BATCH, tuple((name, commit(name, 3, 1, BATCH).signature) for name in names))

    member = One()
    member.hear("n0", decided("n0", "n1"), decided("n0", "n1", "n1"), decided("n1", "n1", "n1"))
    assert member.pbft.applied == 0

    member.hear("n0", decided("n0", "n1", "n2"))
    assert member.pbft.applied == 1


def test_a_window_moves_with_a_quorum_at_one_point_and_forgets_what_is_below() -> None:
    """Three equal checkpoints move it; three that differ do not."""
    member = One()
    member.hear("n0", pre_prepare(0, 1, BATCH))
    for i, name in enumerate(("n0", "n1", "n2")):
        point = m.Point(4, i, b"chain")
        member.hear(name, m.Checkpoint(point, SIGN[name]("checkpoint", point)))
    assert member.pbft.voter.stable == GENESIS

    point = m.Point(8, 8, b"chain")
    for name in ("n0", "n1", "n2"):
        member.hear(name, m.Checkpoint(point, SIGN[name]("checkpoint", point)))
    assert member.pbft.voter.stable.point == member.again().pbft.voter.stable.point == point
    assert not member.pbft.voter.slots
    assert not [key for key in member.disk if key[0] in "abp"]


def test_a_saved_record_that_is_none_stops_the_member_with_one_clear_line() -> None:
    """It stays down; it does not go on without what it may have promised."""
    with pytest.raises(DamagedLog, match="n3: a saved record of consensus is not one"):
        One("n3", {"/stable": b"\xc1"})


# -- patience -----------------------------------------------------------------------------------------


def test_each_view_that_fails_doubles_the_time_given_to_the_next() -> None:
    """The clock runs once a quorum has left, and progress makes it short again (section 4.4)."""
    member, waits = One(), list[int]()
    for view in (1, 2):
        for name in ("n0", "n1"):
            member.hear(name, change(name, view))
        assert (member.pbft.term, member.pbft.role) == (view, "follower")
        waits.append(member.timers["patience"][0] - member.now)
        member.fire("patience")
    assert waits == [2 * member.pbft.patience.timeout_ns, 4 * member.pbft.patience.timeout_ns]

    votes = tuple((name, commit(name, 0, 1, BATCH).signature) for name in NAMES[:3])
    member.hear("n0", m.Decided(0, 1, BATCH, votes))
    assert member.pbft.patience.failures == 0


def test_without_a_quorum_that_leaves_a_member_waits_for_ever() -> None:
    """So that one that is cut off does not run through the views."""
    member = One()
    for name in ("n0", "n1"):
        member.hear(name, change(name, 4))
    member = member.again()

    assert (member.pbft.term, "patience" in member.timers) == (4, False)


def test_a_view_that_never_begins_is_given_up_with_those_who_gave_it_up_before() -> None:
    """Who rises while it moves to a view counts itself, and who moves past the view counts as well: otherwise members
    that have restarted, or lost one another's words, wait for a quorum that will not come together again."""
    member = One()
    for name in ("n0", "n1"):
        member.hear(name, change(name, 1))
    member = member.again()
    assert "patience" not in member.timers
    member.hear("n1", change("n1", 1))
    member.hear("n0", change("n0", 2))
    member.fire("patience")

    assert member.pbft.term == 2


def test_a_silent_primary_is_given_up_and_one_that_is_heard_is_not() -> None:
    """While nothing is to be done the primary's status is awaited; f + 1 impatient members make the others so."""
    member = One()
    for _ in range(5):
        member.now = member.timers["patience"][0] - 1
        member.hear("n0", m.Status(0, True, False, 0, 0, "n0"))
    assert not member.pbft.doubts.impatient
    member.fire("patience")
    assert member.pbft.doubts.impatient
    member.hear("n0", m.Status(0, True, False, 0, 0, "n0"))
    assert not member.pbft.doubts.impatient

    member.hear("n1", m.Status(0, True, True, 0, 0, "n0"))
    assert (member.pbft.term, member.pbft.doubts.impatient) == (0, False)
    member.hear("n2", m.Status(0, True, True, 0, 0, "n0"))
    assert member.pbft.term == 1


def test_a_request_is_sent_to_the_primary_then_to_all_and_then_the_view_is_left() -> None:
    """Each step takes one time-out; a signed request may be passed on by those who hear it."""
    member = One()
    member.tell(Propose(b"x"))
    assert [to for to, message in member.sent if isinstance(message, m.Request)] == ["n0"]
    member.fire("patience")
    (asked,) = member.said(m.Request)
    member.fire("patience")
    assert member.said(m.Status)[-1].impatient
    assert member.pbft.term == 0
    for name, term in (("n1", 0), ("n2", 1)):
        member.hear(name, m.Status(0, True, True, 0, 0, "n0"))
        assert member.pbft.term == term

    other = One("n2")
    other.hear("n3", asked)
    assert [to for to, message in other.sent if isinstance(message, m.Request)] == ["n0"]
    other.hear("n0", m.Request("n1", 1, b"y"))
    other.hear("n1", m.Request("n1", 1, b"y"))
    assert len(other.pbft.pool.waiting) == 1


def test_numbers_of_requests_are_not_used_again_in_another_life() -> None:
    """Else a request could be taken for one that was executed before the crash."""
    member = One()
    numbers = {life.pbft.number for life in (member, One("n3", {"/view": encode((0, True))}), One("n2"))}

    assert len(numbers) == 3


# -- bounds -------------------------------------------------------------------------------------------


def test_a_flood_of_what_is_ahead_takes_bounded_memory() -> None:
    """View changes, pre-prepares, votes, checkpoints and requests of one liar displace only one another."""
    member = One()
    for i in range(1, 400):
        view = 1 + 4 * i  # n1 leads
        point = m.Point(i, i, b"c")
        member.hear(
            "n1", change("n1", view), pre_prepare(view, 1, BATCH), prepare("n1", view, 1 + i % 8, BATCH),
            m.Checkpoint(point, SIGN["n1"]("checkpoint", point)),
            m.Request("n1", i, b"x", signer("n1").sign_request(i, b"x")),
        )  # fmt: skip
    pbft = member.pbft

    assert pbft.term == 0
    assert len(pbft.ahead.changes) == 1
    assert len(pbft.ahead.proposals["n1"]) == 64
    assert all(set(slot.prepares) <= {"n1"} for slot in pbft.voter.slots.values())
    assert len(pbft.voter.slots) <= 8
    assert len(pbft.checkpoints.said["n1"]) == 8
    assert len(pbft.pool.waiting) == CONFIG.pool_max


def test_a_flood_of_questions_for_a_batch_gets_so_many_bytes_in_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a member; whoever is none gets nothing. The next second is another."""
    ask, each = m.Missing(1, m.digest_of(BATCH)), len(encode(m.Body(1, BATCH)))
    monkeypatch.setattr("policies.consensus.pbft.repeating.BYTES_PER_S", 10 * each)
    member = One()
    member.hear("n0", pre_prepare(0, 1, BATCH))
    for sender in ("n1", "n2", "m9"):
        member.hear(sender, *[ask] * 100)
    bodies = [to for to, said in member.sent if isinstance(said, m.Body)]
    assert bodies == ["n1"] * 10 + ["n2"] * 10
    assert member.pbft.dropped == {"batch asked too often": 180, "stranger": 100}

    member.now += NS_PER_S
    member.hear("n1", ask)
    assert isinstance(member.sent[-1][1], m.Body)


def test_strangers_and_nonsense_are_dropped_and_noted_once() -> None:
    """Whoever is no member is not heard, and a log full of notes is no defence."""
    member = One()
    for _ in range(3):
        member.hear("n9", pre_prepare(0, 1, BATCH))
        member.step((p.MESSAGE, "", "n0", b"\xff"))

    assert member.pbft.dropped == {"stranger": 3}
    assert member.cell.malformed == 3


def test_a_member_has_room_for_so_many_requests_of_its_own() -> None:
    """Beyond the bound a request is refused and noted; the state machine proposes again."""
    member = One()
    for i in range(30):
        member.pbft.on_local("app", Propose(b"%d" % i))

    assert len(member.pbft.pool.waiting) == CONFIG.pool_max
    assert member.pbft.dropped == {"request without room": 10}


def test_snapshots_that_nobody_shares_are_bounded() -> None:
    """Of own snapshots without a quorum only the newest few are kept."""
    member = One()
    for seq in range(1, 9):
        batch = (("n0", seq, b"c%d" % seq),)
        votes = tuple((name, commit(name, 0, seq, batch).signature) for name in NAMES[:3])
        member.hear("n0", m.Decided(0, seq, batch, votes))
        member.pbft.on_local("app", Snapshot(seq, b"s"))

    assert sorted(member.pbft.execution.pending) == [(5, 5), (6, 6), (7, 7), (8, 8)]


@pytest.mark.parametrize("first", [0, 1, 2])
def test_members_take_a_snapshot_at_one_place_whenever_they_take_it(first: int) -> None:
    """Reads that were ordered behind the command, executed before the state machine spoke or not, move it nowhere."""
    member = One()
    for seq, command in enumerate((b"x", b"", b""), 1):
        batch = (("n0", seq, command),)
        votes = tuple((name, commit(name, 0, seq, batch).signature) for name in NAMES[:3])
        member.hear("n0", m.Decided(0, seq, batch, votes))
        if seq == 1 + first:
            member.pbft.on_local("app", Snapshot(1, b"s"))

    ((point, _),) = member.pbft.execution.pending.values()
    assert (point.seq, point.index, point.applied) == (1, 1, 1)


@pytest.mark.parametrize("kept_from", [0, 1, 2])
def test_a_snapshot_within_a_batch_stands_on_the_one_before_whatever_is_kept_below(kept_from: int) -> None:
    """One member stands on a snapshot that reads follow, another on what was asked for behind them: they agree."""
    member = One()
    for seq, commands in enumerate(((b"x",), (b"",), (b"y", b"z")), 1):
        batch = tuple(("n0", 10 * seq + at, command) for at, command in enumerate(commands))
        votes = tuple((name, commit(name, 0, seq, batch).signature) for name in NAMES[:3])
        member.hear("n0", m.Decided(0, seq, batch, votes))
        if seq == kept_from:
            member.pbft.on_local("app", Snapshot(1, b"s", seq))
            ((point, _),) = member.pbft.execution.pending.values()
            assert member.pbft.execution.shared(m.Stable(point, ()), set())
    member.pbft.on_local("app", Snapshot(2, b"s"))

    ((point, _),) = member.pbft.execution.pending.values()
    assert (point.seq, point.index, point.applied) == (2, 1, 2)


@pytest.mark.parametrize(
    ("members", "says"), [(("a", "b", "c"), "PBFT needs 4 or more"), (("a", "b", "c", "a"), "named twice")]
)
def test_a_committee_that_cannot_outvote_a_liar_is_refused(members: tuple[str, ...], says: str) -> None:
    """Fewer than four members, or one named twice."""
    with pytest.raises(ValueError, match=says):
        Pbft(CONFIG, members)


def test_an_origin_fills_no_more_than_so_many_bytes_of_the_pool() -> None:
    """However few its requests are; what is executed makes room again."""
    pool, largest = Pool(100), bytes(SENDER_BYTES_MAX // 8)
    assert [pool.add(m.Request("n0", k, largest), 0) for k in range(10)] == [True] * 8 + [False] * 2
    assert pool.add(m.Request("n1", 1, largest), 0)
    pool.executed(("n0", 0, largest))

    assert [pool.add(m.Request("n0", 20 + k, largest), 0) for k in range(2)] == [True, False]


def test_what_nobody_verifies_is_no_larger_than_what_is_true() -> None:
    """A witness remembers unverified votes, and a primary writes what it likes where an origin stands."""
    member, long = One(), "n" * (NAME_MAX + 1)
    member.hear("n0", pre_prepare(0, 1, ((long, 1, b"a"),)))
    member.hear("n0", m.Prepare(0, 1, bytes(33), b""), m.Commit(0, 1, b"", bytes(65)))

    assert (member.pbft.voter.slots, member.pbft.witness.seen, member.cell.malformed) == ({}, {}, 3)
