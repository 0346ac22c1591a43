"""PBFT's words for epochs: who slept through more epochs than proofs are kept of is told by the committee it knew."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.consensus import vouching
from policies.consensus.pbft import messages as m
from policies.consensus.pbft.epochs import VIEWS
from policies.consensus.pbft.proofs import statement
from policies.consensus.pbft.vouching import DOMAIN
from policies.consensus.vouching import Begun, Vouch, vouch_bytes
from policies.log import recover
from policies.wire import encode
from tests.policies.consensus.pbft_hand import RING, One, chunks_of, point_of, shown
from tests.policies.consensus.test_pbft_epochs import NEW, OLD, Village, decided, move

FALSE = Begun(8, ("m0", "m1", "m2", "m3"), (), 1 << 20, b"")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Four ends of epochs are kept."""
    monkeypatch.setattr(vouching, "PROOFS_KEPT", 4)
    return 4


def epochs(village: Village, count: int, sits: Sequence[str], learns: Sequence[str] = ()) -> list[bytes]:
    """Let so many epochs pass, of the same members in another order each time; return what was asked in them."""
    asked = []
    for k in range(count):
        turn = (k + 1) % len(sits)
        village.become(sits[0], (*sits[turn:], *sits[:turn]), tuple(learns))
        village.run(0.2)
        for name in sits:
            asked += village.put(name, 1, every_s=0.05)
        village.run(0.2)
    return asked


def saved(village: Village, name: str) -> dict[str, bytes]:
    """Return what a node's member would find of epochs after a restart."""
    kept = recover(village.cluster.world.by_name[name].disk)
    return {key: value for key, value in kept.items() if key.startswith(("consensus/e", "consensus/base"))}


def test_what_is_kept_and_written_of_epochs_does_not_grow(few: int) -> None:
    """After 12 epochs as after 40: as many ends, and as many bytes of them in the snapshot and in what is shown."""
    village, sizes = Village(4, 2), []
    for count in (12, 28):
        epochs(village, count, OLD)
        execution = village.pbft("n2").execution
        bare = len(encode(msgspec.structs.replace(execution.base, state=b"")))
        sizes.append((len(execution.ends), bare, len(saved(village, "n2"))))

    assert village.pbft("n2").committee.number == 40
    assert all(few <= ends <= few + 1 and few < keys <= few + 2 for ends, _, keys in sizes)  # and the snapshot
    assert sizes[1][1] <= sizes[0][1] + 100


@pytest.mark.parametrize("missed", [2, 9, 40])
def test_a_member_that_slept_through_more_epochs_than_are_kept_comes_back(missed: int, few: int) -> None:
    """n3 sleeps through so many epochs in which n4 took its seat: it follows, and serves when it is needed again."""
    sits = ("n0", "n1", "n2", "n4")
    village = Village(5, 2)
    village.run(0.2)
    village.crash("n3")
    village.become("n1", sits, ("n3",))
    village.run(1)
    asked = epochs(village, missed, sits, ("n3",))
    village.restart("n3")
    village.run(4)
    assert village.pbft("n3").committee.number == missed + 1
    village.become("n1", ("n0", "n1", "n2", "n3"))
    village.run(1)
    village.crash("n2")
    for name in ("n0", "n1", "n3"):
        asked += village.put(name, 2, every_s=0.1)
    village.run(4)

    village.require_agreement()
    assert {name: set(asked) <= set(village.commands(name)) for name in ("n0", "n1", "n3")} == dict.fromkeys(
        ("n0", "n1", "n3"), True
    )


def test_who_came_by_words_begins_its_next_life_where_it_was(few: int) -> None:
    """A power cut right after the leap, and some epochs later: the same committee, and the same ends."""
    sits = ("n0", "n1", "n2", "n4")
    village = Village(5, 2)
    village.crash("n3")
    village.become("n1", sits, ("n3",))
    village.run(1)
    epochs(village, 12, sits, ("n3",))
    village.restart("n3")
    village.run(4)
    for more in (0, 2, 6):
        asked = epochs(village, more, sits, ("n3",))
        before = village.pbft("n3")
        village.crash("n3")
        village.restart("n3")
        village.run(0.01)
        after = village.pbft("n3")
        assert (after.committee.number, after.committee.members) == (before.committee.number, before.committee.members)
        assert (after.execution.since, after.execution.ends) == (before.execution.since, before.execution.ends)
        village.run(2)
        village.require_agreement()
        assert set(asked) <= set(village.commands("n3"))


def test_who_was_a_member_long_ago_is_known_to_who_restarts(few: int) -> None:
    """n4 sat for one epoch that is forgotten since, and all others restart: it is told all the same."""
    village = Village(5, 2)
    village.become("n1", ("n0", "n1", "n2", "n4"), ("n3",))
    village.run(1)
    village.crash("n4")
    village.become("n1", OLD)
    village.run(1)
    asked = epochs(village, 10, OLD)
    for name in OLD:
        village.crash(name)
        village.restart(name)
    village.run(1)
    village.restart("n4")
    village.run(6)

    assert village.pbft("n4").committee.members == village.pbft("n0").committee.members
    assert set(asked) <= set(village.commands("n4"))


# -- by hand -----------------------------------------------------------------------------------------------------------


def word(name: str, begun: Begun, by: str = "", log: bytes = b"") -> Vouch:
    """Return a word for an epoch, signed by ``by`` or by the name itself."""
    log = log or One().pbft.committee.log
    return Vouch(begun, RING.handle(by or name).sign(vouch_bytes(DOMAIN, log, begun)))


def test_a_quorum_is_believed_and_fewer_are_not() -> None:
    """Two of four, whatever they repeat; others' signatures, strangers and another log's words; then a third."""
    member = One()
    for _ in range(3):
        member.hear("n0", word("n0", FALSE))
        member.hear("n1", word("n1", FALSE))
        member.hear("n2", word("n2", FALSE, by="n0"), word("n2", FALSE, log=b"other"))
        member.hear("m0", word("m0", FALSE))
    assert member.pbft.believed is None
    assert sorted(member.pbft.words.newest) == ["n0", "n1"]
    assert member.pbft.dropped == {"word with a false signature": 6}

    member.hear("n2", word("n2", FALSE))
    believed = member.pbft.believed
    assert (believed.number, believed.members, believed.root.point.seq) == (8, FALSE.members, FALSE.place)
    assert believed.log == member.pbft.committee.log


def test_a_liar_changes_its_word_and_has_one_place() -> None:
    """A thousand words of one member are one; members that cannot be are none, though a quorum say so."""
    member = One()
    for k in range(1000):
        member.hear("n0", word("n0", msgspec.structs.replace(FALSE, number=8 + k)))
    assert len(member.pbft.words.newest) == 1

    other = One()
    for name in ("n0", "n1", "n2"):
        other.hear(name, word(name, msgspec.structs.replace(FALSE, members=("m0", "m1", "m1", "m2"))))
    assert other.pbft.believed is None
    assert other.pbft.dropped == {"word for members that are none": 3}


def test_a_flood_of_words_is_no_flood_of_questions() -> None:
    """All others are asked once in half a period, whoever vouches; who hears nothing then says so once."""
    member = One()
    asked = []
    for _ in range(20):
        member.sent.clear()
        for _ in range(50):
            member.hear("m0", word("m0", FALSE))
        asked.append(len(member.said(m.Status)))
        member.now += member.pbft.period_ns // 2
    assert asked == [1] * 20


def test_a_state_beyond_proofs_is_taken_from_no_epoch_that_is_not_vouched_for() -> None:
    """Its first proof is of epoch 3, and ours is 0: it is asked about, and nothing is taken."""
    member = One()
    point = point_of(b"state")
    end = m.Decided(3 * VIEWS, 7, move(3), ())
    member.hear("n0", msgspec.structs.replace(shown(point, b"state"), ends=(end,)), *chunks_of(b"state"))

    assert (member.pbft.applied, member.pbft.arriving) == (0, None)
    assert member.pbft.times_asked == 1
    assert member.pbft.dropped == {}


def test_ends_that_nobody_verified_are_neither_kept_nor_told() -> None:
    """A liar shows a true state of the taker's own epoch behind a false end: only what was verified is kept."""
    member = One("n1")
    true = decided(1, move())
    member.hear("n0", true)
    assert member.pbft.committee.number == 1
    name, mixed = member.pbft.committee.name, ("n1", "n2", "n3")
    point = point_of(b"state")
    votes = tuple((who, RING.handle(who).sign(statement("checkpoint", name, point))) for who in mixed)
    false = m.Decided(0, 1, move(members=("m0", "m1", "m2", "m3")), ())
    given = msgspec.structs.replace(shown(point, b"state"), stable=m.Stable(point, votes), ends=(false,))
    member.hear("n2", given, *chunks_of(b"state"))

    assert member.pbft.applied == point.applied
    assert member.pbft.execution.base.ends == (true,)
    assert member.again().pbft.committee.members == member.pbft.committee.members


def test_a_state_of_ones_own_epoch_is_taken_without_the_ends_before_it() -> None:
    """Whoever came to its epoch by words has none to show; that epoch's members signed the state, or they did not."""
    member = One("n1")
    member.hear("n0", decided(1, move()))
    number, name, point = member.pbft.committee.number, member.pbft.committee.name, point_of(b"state")
    for committee, applied in ((name[::-1], 0), (name, point.applied)):
        signed = statement("checkpoint", committee, point)
        votes = tuple((who, RING.handle(who).sign(signed)) for who in ("n1", "n2", "n3"))
        given = msgspec.structs.replace(shown(point, b"state"), stable=m.Stable(point, votes))
        member.hear("n2", given, *chunks_of(b"state"))
        assert (number, given.ends, member.pbft.applied) == (1, (), applied)


@settings(max_examples=15, deadline=None)
@given(
    proofs=st.integers(1, 6),
    missed=st.integers(0, 14),
    away=st.sets(st.sampled_from(OLD), max_size=3),
)
def test_who_is_behind_by_any_number_of_epochs_follows_or_says_why_not(
    proofs: int, missed: int, away: set[str]
) -> None:
    """A newcomer, any of the founders away: it follows if proofs reach back or a quorum of founders is there."""
    before, vouching.PROOFS_KEPT = vouching.PROOFS_KEPT, proofs
    try:
        village = Village(9, 2)
        village.become("n1", NEW, OLD)
        village.run(2)
        for name in away:
            village.crash(name)
        asked = epochs(village, missed, NEW, OLD)
        village.become("n4", NEW, (*OLD, "n8"))
        village.run(1)
        reached = max(village.pbft(name).execution.first for name in NEW) == 0
        village.run(6)
        asked += village.put("n4", 2, every_s=0.1)
        village.run(4)
    finally:
        vouching.PROOFS_KEPT = before

    village.require_agreement()
    if reached or len(away) <= 1:
        assert village.pbft("n8").committee.number == missed + 2
        assert set(asked) <= set(village.commands("n8"))
    else:
        assert village.pbft("n8").committee.number == 0
        assert any(note.name == "behind" for note in village.cluster.notes)
