"""Words for epochs: who slept through more epochs than anybody keeps proofs of is told by the committee it knew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.consensus import vouching
from policies.consensus.hotstuff.certificates import Verifier
from policies.consensus.hotstuff.epoch import ends, genesis
from policies.consensus.hotstuff.history import History
from policies.consensus.hotstuff.messages import Handover
from policies.consensus.hotstuff.vouching import DOMAIN
from policies.consensus.quorum import byzantine_quorum
from policies.consensus.vouching import Begun, Vouch, Words, vouch_bytes
from policies.log import recover
from policies.wire import encode
from sim.keys import KeyRing
from tests.policies.consensus.hotstuff.small_log import CALM, Members, SmallLog

CHAINS = pytest.mark.parametrize("chain", [2, 3])
FOUR = tuple(f"n{k}" for k in range(4))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    """Four ends of epochs are kept."""
    monkeypatch.setattr(vouching, "PROOFS_KEPT", 4)
    return 4


def log_of(n: int, chain: Literal[2, 3] = 2, **more: Any) -> SmallLog:
    """Return a log that takes a checkpoint every second command."""
    return SmallLog(n, chain, network=CALM, members=4, snapshot_every=2, checkpoint_every=2, **more)


def epochs(log: SmallLog, count: int, sits: Sequence[str], learns: Sequence[str] = ()) -> list[bytes]:
    """Let so many epochs pass, of the same members in another order each time; return what was asked in them."""
    asked = []
    for k in range(count):
        turn = (k + 1) % len(sits)
        members = (*sits[turn:], *sits[:turn])
        log.asked += 1
        log.cluster.request(sits[0], "client", str(log.asked), Members(members, tuple(learns)), "app")
        log.run(0.1)
        asked += log.run(0.2, every=0.05, at=sits)
        log.run(0.1)
    return asked


def kept(log: SmallLog, name: str) -> dict[str, bytes]:
    """Return what a node's member would find after a restart, but for its blocks."""
    saved = recover(log.cluster.world.by_name[name].disk)
    return {key: value for key, value in saved.items() if "handover" in key or "checkpoint" in key}


@CHAINS
def test_what_is_kept_and_written_of_epochs_does_not_grow(chain: Literal[2, 3], few: int) -> None:
    """After 12 epochs as after 40: the same ends in memory, as many bytes in a checkpoint and of an offered state."""
    log, sizes = log_of(4, chain), []
    for count in (12, 28):
        epochs(log, count, FOUR)
        member = log.member("n2")
        assert member.epoch.number == sum((12, 28)[: len(sizes) + 1])
        bare = msgspec.structs.replace(member.catch_up.start, state=b"")
        sizes.append(
            (len(member.catch_up.history.handovers), len(encode(bare)), sum(len(v) for v in kept(log, "n2").values()))
        )

    assert few <= sizes[1][0] <= few + 1
    assert set(kept(log, "n2")) <= {"consensus/checkpoint", "consensus/handover/000000039"}
    assert sizes[1][1] <= sizes[0][1] + 100
    assert sizes[1][2] <= 1.5 * sizes[0][2]


@CHAINS
@pytest.mark.parametrize("missed", [3, 9, 40])
def test_a_member_that_slept_through_more_epochs_than_are_kept_comes_back(
    chain: Literal[2, 3], missed: int, few: int
) -> None:
    """n3 sleeps through so many epochs in which n4 took its seat: it follows, and is as good as any when needed."""
    log = log_of(5, chain)
    log.run(0.2, every=0.05, at=FOUR)
    log.cluster.crash("n3")
    log.cluster.request("n1", "client", "change", Members(("n0", "n1", "n2", "n4"), ("n3",)), "app")
    log.run(0.5)
    asked = epochs(log, missed, ("n0", "n1", "n2", "n4"), ("n3",))
    log.cluster.restart("n3")
    log.run(4)
    assert log.member("n3").epoch.number == missed + 1
    log.cluster.request("n1", "client", "back", Members(("n0", "n1", "n2", "n3")), "app")
    log.run(1)
    log.cluster.crash("n2")
    asked += log.run(1, every=0.1, at=("n0", "n1", "n3"))
    log.run(4)

    log.require_safe()
    log.require_live(asked, ("n0", "n1", "n3"))


@CHAINS
def test_a_newcomer_that_knows_the_founders_only_is_told_by_them(chain: Literal[2, 3], few: int) -> None:
    """The founders sit no more and keep the log as learners; n8 is called, and trusts them and nobody else at first."""
    new = tuple(f"n{k}" for k in range(4, 8))
    log = log_of(9, chain)
    log.cluster.request("n1", "client", "change", Members(new, FOUR), "app")
    log.run(1)
    asked = epochs(log, 8, new, FOUR)
    log.cluster.request("n4", "client", "call", Members(new, (*FOUR, "n8")), "app")
    log.run(4)
    asked += log.run(0.5, every=0.1, at=("n8",))
    log.run(2)

    log.require_safe()
    log.require_live(asked, (*new, "n8"))


@CHAINS
def test_where_too_few_of_the_known_committee_keep_the_log_a_sleeper_says_so(chain: Literal[2, 3], few: int) -> None:
    """Two founders have left: the newcomer hears two where three are needed, notes that, and believes nothing."""
    new = tuple(f"n{k}" for k in range(4, 8))
    log = log_of(9, chain)
    log.cluster.request("n1", "client", "change", Members(new, ("n0", "n1")), "app")
    log.run(1)
    for name in ("n2", "n3"):
        log.cluster.crash(name)
    epochs(log, 8, new, ("n0", "n1"))
    log.cluster.request("n4", "client", "call", Members(new, ("n0", "n1", "n8")), "app")
    log.run(10)

    assert (log.member("n8").epoch.number, log.member("n8").commit) == (0, 0)
    notes = [note.fields for note in log.cluster.notes if note.name == "behind"]
    assert notes == [{"epoch": 0, "vouched": 2, "needed": 3}]


@CHAINS
def test_who_came_by_words_begins_its_next_life_where_it_was(chain: Literal[2, 3], few: int) -> None:
    """A power cut right after the leap, and one some epochs later: the same epoch, and nothing promised twice."""
    log = log_of(5, chain)
    log.cluster.crash("n3")
    log.cluster.request("n1", "client", "change", Members(("n0", "n1", "n2", "n4"), ("n3",)), "app")
    log.run(0.5)
    epochs(log, 12, ("n0", "n1", "n2", "n4"), ("n3",))
    log.cluster.restart("n3")
    log.run(4)
    for more in (0, 2, 6):
        asked = epochs(log, more, ("n0", "n1", "n2", "n4"), ("n3",))
        before, history = log.member("n3").epoch, log.member("n3").catch_up.history
        log.cluster.crash("n3")
        log.cluster.restart("n3")
        log.run(0.01)
        assert log.member("n3").epoch == before
        assert encode(log.member("n3").catch_up.history.handovers) == encode(history.handovers)
        log.run(2)
        log.require_safe()
        log.require_live(asked, ("n0", "n1", "n2", "n3", "n4"))


def behind(few: int) -> tuple[SmallLog, Any]:
    """Return a log twelve epochs on, and its n4, which knows the founders and has heard nothing."""
    log = log_of(5)
    epochs(log, 12, FOUR)
    assert log.member("n0").catch_up.history.since.number > few
    return log, log.member("n4")


def word(name: str, begun: Begun, by: str = "", log: bytes = b"") -> Vouch:
    """Return a word for an epoch of our log or another, signed by ``by`` or by the name itself."""
    return Vouch(
        begun, KeyRing(1).signature(by or name, vouch_bytes(DOMAIN, log or genesis(FOUR)[1].root.block, begun))
    )


FALSE = Begun(8, ("n4",), (), 1 << 40, b"x" * 32)


def test_fewer_than_a_quorum_of_liars_are_not_believed(few: int) -> None:
    """Two of four, whatever they repeat: others' signatures, strangers' words, and what is true in another log."""
    _, member = behind(few)
    for _ in range(3):
        for name in ("n0", "n1"):
            member.on_message(name, word(name, FALSE))
        member.on_message("n2", word("n2", FALSE, by="n0"))
        member.on_message("n2", word("n2", FALSE, log=b"another"))
        member.on_message("n9", word("n9", FALSE))

    assert member.vouching.believed is None
    assert sorted(member.vouching.words.newest) == ["n0", "n1"]
    assert member.refused == {"a word for an epoch with a false signature": 6}


def test_a_liar_changes_its_word_and_has_one_place(few: int) -> None:
    """A thousand words of one member are one word, the newest; what an honest quorum says is believed all the same."""
    log, member = behind(few)
    for k in range(1000):
        begun = msgspec.structs.replace(FALSE, number=8 + k)
        member.on_message("n0", word("n0", begun))
    assert len(member.vouching.words.newest) == 1
    for name in ("n1", "n2", "n3"):
        log.member(name).vouching.answer("n4")
        said = log.member(name).vouching.own
        assert member.vouching.believed is None
        member.on_message(name, said)

    assert member.vouching.believed is not None
    assert member.vouching.believed.number == 12
    assert member.vouching.believed.members == log.member("n1").catch_up.history.epoch(12).members


def test_words_for_members_that_cannot_be_are_refused(few: int) -> None:
    """Nobody, or somebody twice: counted and dropped, though a quorum say so."""
    _, member = behind(few)
    for members in ((), ("n0", "n0")):
        for name in FOUR:
            member.on_message(name, word(name, msgspec.structs.replace(FALSE, members=members)))

    assert member.vouching.believed is None
    assert member.refused == {"a word for an epoch of members that are none": 8}


def test_a_state_beyond_proofs_is_taken_from_no_epoch_that_is_not_vouched_for(few: int) -> None:
    """Shown a state whose proofs begin later, a newcomer asks for words and takes nothing, however it is numbered."""
    log, member = behind(few)
    offer = log.member("n0").catch_up.transfer.offer
    transfer = member.catch_up.transfer
    member.catch_up.sync.want(offer.qc)
    for handovers in (offer.handovers, offer.handovers[-1:], ()):
        transfer.on_transferred("n0", msgspec.structs.replace(offer, handovers=handovers))
        assert (transfer.proving, transfer.arriving) == ({}, None)
    assert member.vouching.asked == 1


def test_ends_that_nobody_verified_are_neither_kept_nor_begun_from() -> None:
    """A liar shows a true state of the taker's own epoch behind false ends: the next life knows the true members."""
    log = SmallLog(4, network=CALM, snapshot_every=5, checkpoint_every=5)
    epochs(log, 1, FOUR)
    log.cluster.partition(["n3"])
    log.run(1, every=0.05, at=FOUR[:3])
    offer, lagging = log.member("n0").catch_up.transfer.offer, log.member("n3")
    end = offer.handovers[0]
    stranger = msgspec.structs.replace(
        end.blocks[0], entries=(msgspec.structs.replace(end.blocks[0].entries[0], data=encode((("n9",), ()))),)
    )
    lagging.catch_up.sync.want(offer.qc)
    false = Handover((stranger, *end.blocks[1:]), end.qc)
    log.cluster.world.give(
        log.cluster.world.by_name["n3"],
        (1, "consensus", "n0", encode(msgspec.structs.replace(offer, handovers=(false,)))),
    )
    log.cluster.heal()
    log.run(1)
    assert log.app("n3").restored == 1
    log.cluster.crash("n3")
    log.cluster.restart("n3")
    log.run(0.01)

    assert log.member("n3").epoch.members == log.member("n0").epoch.members
    assert "n9" not in encode(log.app("n3").configured).decode("latin1")


@settings(max_examples=25, deadline=None)
@given(
    proofs=st.integers(1, 6),
    missed=st.integers(0, 14),
    away=st.sets(st.sampled_from(("n0", "n1", "n2", "n3")), max_size=3),
    chain=st.sampled_from((2, 3)),
)
def test_who_is_behind_by_any_number_of_epochs_follows_or_says_why_not(
    proofs: int, missed: int, away: set[str], chain: Literal[2, 3]
) -> None:
    """A newcomer, any of the founders away: it follows if proofs reach back or a quorum of founders is there."""
    before, vouching.PROOFS_KEPT = vouching.PROOFS_KEPT, proofs
    new = tuple(f"n{k}" for k in range(4, 8))
    try:
        log = log_of(9, chain)
        log.cluster.request("n1", "client", "change", Members(new, FOUR), "app")
        log.run(1)
        for name in away:
            log.cluster.crash(name)
        asked = epochs(log, missed, new, FOUR)
        log.cluster.request("n4", "client", "call", Members(new, (*FOUR, "n8")), "app")
        log.run(1)
        reached = max(log.member(name).catch_up.history.since.number for name in new) == 0
        log.run(10)
        asked += log.run(0.5, every=0.1, at=("n4", "n5"))
        log.run(3)
    finally:
        vouching.PROOFS_KEPT = before

    log.require_safe()
    newcomer = log.member("n8")
    if reached or len(away) <= 4 - byzantine_quorum(4):
        log.require_live(asked, (*new, "n8"))
        assert newcomer.epoch.number == missed + 2
    else:
        assert newcomer.commit == 0
        assert any(note.name == "behind" for note in log.cluster.notes)


def test_a_history_forgets_from_the_oldest_on_and_knows_what_is_left() -> None:
    """Epochs before the one asked for go; those from it on are the same, and an unknown one changes nothing."""
    log = log_of(4)
    epochs(log, 5, FOUR)
    history: History = log.member("n1").catch_up.history
    known = [history.epoch(k) for k in range(6)]
    assert None not in known
    history.forget_before(-3)
    history.forget_before(3)
    history.forget_before(1)

    assert [history.epoch(k) for k in range(6)] == [None, None, None, *known[3:]]
    assert (history.since.number, history.present, history.end_of(2)) == (3, 5, None)
    keys, verifier = KeyRing(1).handle("n0"), Verifier(log.member("n1").log_name)
    assert all(ends(history.end_of(k), known[k], 2, verifier, keys) for k in (3, 4))
    assert not ends(history.end_of(3), genesis(FOUR)[1], 2, verifier, keys)


def test_a_quorum_is_of_members_who_say_the_same() -> None:
    """Three of four; words that differ in anything, and words of no member, make none."""
    words, begun = Words(), Begun(8, FOUR, (), 7, b"x")
    assert not words.add("n0", Vouch(begun, b""), FOUR)
    assert not words.add("n7", Vouch(begun, b""), FOUR)
    for k, change in enumerate(({"number": 9}, {"place": 8}, {"block": b"y"}, {"learners": ("n5",)})):
        assert not words.add(f"n{1 + k % 3}", Vouch(msgspec.structs.replace(begun, **change), b""), FOUR)
    assert not words.add("n1", Vouch(begun, b""), FOUR)
    assert words.add("n2", Vouch(begun, b""), FOUR)
