"""A state in chunks: what is believed of it, whoever sends it, and what it costs to be lied to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import port as p
from policies.consensus import chunks
from policies.consensus.chunks import (
    CHUNKS_MAX,
    CHUNKS_PER_S,
    ROUNDS,
    STATE_BYTES_MAX,
    Arriving,
    Chunk,
    Manifest,
    Serving,
    fits,
    manifest_of,
    piece,
    state_digest,
)
from policies.port import NS_PER_S
from scenarios.adversaries import behaviours as b
from scenarios.schema import Network
from tests.policies.consensus.hotstuff.small_log import CALM, SmallLog
from tests.policies.consensus.pbft_cluster import CONFIG, Committee
from tests.policies.consensus.pbft_hand import NAMES, One, chunks_of, point_of, shown

STATES = st.binary(max_size=200)
SIZES = st.integers(1, 40)


def arriving(state: bytes, each: int, holders: tuple[str, ...] = ("a", "b", "c")) -> Arriving[None]:
    """Return a state of which nothing is here yet."""
    made = Arriving(None, manifest_of(state, each), each)
    made.begin(holders, None)
    return made


def chunk(state: bytes, number: int, each: int) -> Chunk:
    return Chunk(state_digest(state, each), number, piece(state, number, each))


# -- the parts ---------------------------------------------------------------------------------------------------------


@given(STATES, SIZES)
def test_a_state_is_put_together_from_its_chunks(state: bytes, each: int) -> None:
    """One after another, the last may be shorter, and an empty state has none."""
    it = arriving(state, each)
    assert it.possible
    asked = 0
    while (due := it.due) is not None:
        assert it.asks(chunk(state, due, each))
        assert it.take("a", chunk(state, due, each))
        asked += 1

    assert (it.state(), asked) == (state, len({piece(state, k, each) for k in range(len(it.manifest.chunks))}))


@given(STATES, STATES, SIZES)
def test_equal_digests_are_of_equal_states(one: bytes, other: bytes, each: int) -> None:
    """What members sign tells states apart, and is the same at whoever has the same state."""
    assert (state_digest(one, each) == state_digest(other, each)) == (one == other)


@given(STATES.filter(bool), SIZES, st.data())
def test_any_other_chunk_than_the_right_one_is_refused(state: bytes, each: int, data: st.DataObject) -> None:
    """Changed, of another place, longer or shorter: its sender is asked no more, and nothing of it is kept."""
    it = arriving(state, each)
    wrong = data.draw(st.binary(max_size=each + 3).filter(lambda d: d != piece(state, 0, each)))

    assert not it.take("b", Chunk(it.digest, 0, wrong))
    assert (it.holders, it.parts, it.due) == (("a", "c"), {}, 0)


@pytest.mark.parametrize(
    "manifest", [Manifest(-1, ()), Manifest(10, (b"x",)), Manifest(3, ()), Manifest(STATE_BYTES_MAX + 4, (b"",) * 9)]
)
def test_a_manifest_that_cannot_be_is_none(manifest: Manifest) -> None:
    """A size beyond the bounds, or another number of chunks than the size takes."""
    assert not Arriving(None, manifest, 4).possible


def test_a_state_has_bounds() -> None:
    """In bytes, and in chunks."""
    assert [fits(n, 1 << 20) for n in (-1, 0, STATE_BYTES_MAX, STATE_BYTES_MAX + 1)] == [False, True, True, False]
    assert [fits(n, 64) for n in (64 * CHUNKS_MAX, 64 * CHUNKS_MAX + 1)] == [True, False]


def test_what_a_newer_state_shares_with_the_one_before_need_not_come_again() -> None:
    """Equal chunks are kept, others are dropped: no more than one state is held."""
    old, new = b"aaaabbbbcccc", b"aaaaxxxxcccc"
    before = arriving(old, 4)
    for number in range(3):
        before.take("a", chunk(old, number, 4))
    after = Arriving(None, manifest_of(new, 4), 4)
    after.begin(("a",), before)
    assert (after.due, len(after.parts)) == (1, 2)

    after.take("a", chunk(new, 1, 4))
    assert after.state() == new


def test_all_who_may_have_it_are_asked_in_turn_and_so_often() -> None:
    """Whoever is silent is passed over; after some rounds in vain the state is given up, and one chunk counts anew."""
    it = arriving(b"aaaabbbb", 4)
    assert [it.another() for _ in range(4)] == ["b", "c", "a", "b"]
    it.take("b", chunk(b"aaaabbbb", 0, 4))
    asked = [it.another() for _ in range(3 * ROUNDS + 1)]
    assert asked.index(None) == len(asked) - 1


def test_so_many_chunks_are_sent_to_one_node_in_a_second() -> None:
    """A flood of questions gets bounded answers; others, and the next second, are not concerned."""
    serving, answered = Serving(CHUNKS_PER_S), 0
    for k in range(10 * CHUNKS_PER_S):
        if serving.allows("liar", 5 * NS_PER_S + k):
            serving.count("liar", 5 * NS_PER_S + k)
            answered += 1
    assert answered == CHUNKS_PER_S
    assert serving.allows("honest", 5 * NS_PER_S)
    assert serving.allows("liar", 6 * NS_PER_S)
    assert len(serving.sent) == 1


# -- PBFT by hand ------------------------------------------------------------------------------------------------------

STATE = b"a state of six chunks."


def asked(member: One) -> list[tuple[str, int]]:
    """Return whom it asked for which chunk, in order."""
    return [(to, q.number) for to, q in member.sent if isinstance(q, chunks.GetChunk)]


def test_a_wrong_chunk_is_noticed_at_once_and_another_goes_on_where_it_was() -> None:
    """What is here stays; the liar is not asked again; nothing is taken over before all is here."""
    member, right = One(), chunks_of(STATE)
    member.hear("n0", shown(point_of(STATE), STATE), *right[:2])
    member.hear("n0", msgspec.structs.replace(right[2], data=b"lie!"))
    assert asked(member) == [("n0", 0), ("n0", 1), ("n0", 2), ("n2", 2)]
    assert (member.pbft.applied, member.pbft.dropped) == (0, {"wrong chunk": 1})

    member.hear("n2", *right[2:])
    assert (member.pbft.applied, member.pbft.arriving) == (20, None)
    assert member.pbft.execution.base.state == STATE
    assert "n0" not in dict(asked(member)[3:])


def test_a_silent_sender_is_passed_over_after_a_period() -> None:
    """The next one is asked for the chunk that did not come; while chunks come, nobody else is."""
    member, right = One(), chunks_of(STATE)
    member.hear("n0", shown(point_of(STATE), STATE), right[0])
    member.fire("tick")
    member.hear("n0", right[1])
    member.fire("tick")
    assert asked(member) == [("n0", 0), ("n0", 1), ("n0", 2)]
    member.fire("tick")
    assert asked(member)[3:] == [("n1", 2)]
    for _ in range(ROUNDS * len(NAMES)):
        member.fire("tick")

    assert member.pbft.arriving is None


def test_a_flood_of_chunks_and_of_old_states_changes_nothing() -> None:
    """Nobody asked: of other states, of other places, twice; an older state does not displace the one that arrives."""
    member, right = One(), chunks_of(STATE)
    member.hear("n1", *right)
    assert member.pbft.arriving is None

    member.hear("n0", shown(point_of(STATE), STATE), right[0])
    for k in range(50):
        member.hear("n1", right[0], right[4], Chunk(b"other", 1, b"x" * 4), Chunk(right[0].state, -k, b""))
        member.hear("n1", shown(point_of(b"older", 4, 10, 10), b"older"))
    assert len(member.pbft.arriving.parts) == 1
    assert asked(member) == [("n0", 0), ("n0", 1)]
    assert member.pbft.dropped == {}


def test_a_flood_of_wrong_chunks_ends_no_transfer() -> None:
    """Its sender is found out by the first one; who is asked instead is not passed over for all that follow."""
    member, right = One(), chunks_of(STATE)
    member.hear("n0", shown(point_of(STATE), STATE))
    wrong = msgspec.structs.replace(right[0], data=b"lie!")
    for sender in ("n0", "m9"):
        member.hear(sender, *[wrong] * 3 * ROUNDS * len(NAMES))
    assert asked(member) == [("n0", 0), ("n2", 0)]

    member.hear("n2", *right)
    assert (member.pbft.applied, member.pbft.arriving) == (20, None)


def test_a_flood_of_questions_gets_so_many_chunks() -> None:
    """From one who asks; whoever is no member gets none."""
    member, right = One(), chunks_of(STATE)
    member.hear("n0", shown(point_of(STATE), STATE), *right)
    for k in range(3 * CHUNKS_PER_S):
        member.hear("n1", chunks.GetChunk(right[0].state, k % 6))
        member.hear("m9", chunks.GetChunk(right[0].state, k % 6))
    sent = [to for to, q in member.sent if isinstance(q, Chunk)]

    assert sent == ["n1"] * CHUNKS_PER_S
    assert member.pbft.dropped == {"chunk asked too often": 2 * CHUNKS_PER_S, "stranger": 3 * CHUNKS_PER_S}


def test_a_newer_state_is_fetched_in_its_place() -> None:
    """Whoever is asked for chunks of a state that it has no more shows a newer one."""
    member, newer = One(), STATE[:8] + b"other than before"
    member.hear("n0", shown(point_of(STATE), STATE), *chunks_of(STATE)[:2])
    member.hear("n1", shown(point_of(newer, 12, 30, 30), newer))
    assert asked(member)[-1] == ("n1", 2)  # the first two are the same

    member.hear("n1", *chunks_of(newer)[2:])
    assert member.pbft.execution.base.state == newer
    member.hear("n2", chunks.GetChunk(state_digest(STATE, 4), 0))
    assert isinstance(member.sent[-1][1], type(shown(point_of(STATE), STATE)))


# -- in virtual time ---------------------------------------------------------------------------------------------------

LIES: dict[str, Callable[[], list[b.Behaves]]] = {
    "wrong chunks": lambda: [b.Corrupt(path="consensus", tags=("chunk",), field=(2,), change="set", to=b"lie")],
    "no chunks": lambda: [b.Silent(path="consensus", tags=("chunk",))],
    "other states": lambda: [b.Corrupt(path="consensus", tags=("chunk",), field=(0,), change="set", to=b"lie")],
    "half of them": lambda: [b.Silent(path="consensus", tags=("chunk",), share=0.5)],
}


def largest(cluster: Any, tag: str) -> int:
    """Return the most bytes that a message of this kind had."""
    sent = [e[3] for event in cluster.events for e in event.effects if e[0] == p.SEND]
    return max((len(data) for data in sent if msgspec.msgpack.decode(data)[0] == tag), default=0)


@pytest.mark.parametrize("lie", LIES)
def test_pbft_takes_a_state_over_although_one_of_three_lies_about_it(lie: str) -> None:
    """n3 was away; n1, whom it asks first, answers wrongly or not; the state comes whole, in bounded messages."""
    small = msgspec.structs.replace(CONFIG, chunk_bytes=64)
    lies = {"n1": LIES[lie]()}
    committee = Committee(4, config=small, snapshot_every=8, network=Network(loss=0.0, duplicate=0.0), adversaries=lies)
    committee.cluster.partition(["n3"])
    for _ in range(41):
        committee.put("n2", 1, every_s=0.05)
    committee.cluster.heal()
    committee.require_live()

    assert committee.cluster.policy("n3", "app").restored >= 1
    assert committee.commands("n3") == committee.commands("n2")
    assert ("wrong chunk" in committee.pbft("n3").dropped) == (lie == "wrong chunks")
    assert 0 < largest(committee.cluster, "chunk") < 64 + 60


@pytest.mark.parametrize("lie", LIES)
def test_hotstuff_takes_a_state_over_although_one_of_three_lies_about_it(lie: str) -> None:
    """The same for the other protocol, with the same module."""
    bounds = {"snapshot_every": 10, "checkpoint_every": 10, "chunk_bytes": 64}
    log = SmallLog(4, network=CALM, adversaries={"n1": LIES[lie]()}, **bounds)
    log.run(0.5, every=0.05, at=("n0", "n2", "n3"))
    log.cluster.crash("n3")
    wanted = log.run(3, every=0.05, at=("n0", "n2"))
    log.cluster.restart("n3")
    log.run(4)

    log.require_safe()
    log.require_live(wanted, ("n0", "n2", "n3"))
    assert log.app("n3").restored >= 1
    assert ("a wrong chunk" in log.member("n3").refused) == (lie == "wrong chunks")
    assert 0 < largest(log.cluster, "chunk") < 64 + 60
