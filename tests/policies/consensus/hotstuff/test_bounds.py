"""Bounds: floods of any kind cost their sender's own place, and malformed things are counted and dropped."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

from policies import port as p
from policies.cell import Cell
from policies.config import HotstuffConfig
from policies.consensus.chunks import BYTES_PER_S
from policies.consensus.fields import MEMBERS_MAX
from policies.consensus.hotstuff import HotStuff
from policies.consensus.hotstuff import messages as m
from policies.consensus.hotstuff.certificates import block_digest, time_out_bytes, vote_bytes
from policies.consensus.hotstuff.evidence import VIEWS_MAX
from policies.consensus.hotstuff.messages import Entry, Forward, Vote
from policies.consensus.hotstuff.pool import DONE_MAX, SENDER_BYTES_MAX, Pool
from policies.consensus.hotstuff.sync import BLOCKS_MAX, Sync
from policies.jobs import NAME_MAX
from policies.wire import Message, encode
from scenarios.adversaries import behaviours as b
from sim.keys import KeyRing
from tests.policies.consensus.hotstuff.small_log import CALM, Put, SmallLog


def size_of(member: Any) -> int:
    """Return how many things a member remembers, of all kinds that others can make it remember."""
    catch_up, trunk = member.catch_up, member.trunk
    return sum(
        map(
            len,
            (
                member.votes.latest, member.pace.time_outs, member.verifier.known, member.own, trunk.tree.blocks,
                trunk.arrived, trunk.told, trunk.reads, member.asking.pool.waiting, catch_up.sync.parts,
                catch_up.checkpoints.votes, catch_up.checkpoints.mine, member.refused,
            ),
        )
    )  # fmt: skip


def is_status(payload: bytes) -> bool:
    """Whether a message says where its sender is."""
    return msgspec.msgpack.decode(payload)[0] == "status"


@pytest.mark.parametrize("chain", [2, 3])
@pytest.mark.parametrize(
    "flood",
    [
        b.Flood(path="consensus", tags=("vote",), field=(1,), every_s=0.005),
        b.Flood(path="consensus", tags=("time_out",), field=(1,), every_s=0.005),
        b.Flood(path="consensus", tags=("proposal",), field=(0, 2), every_s=0.005),
        b.Flood(path="consensus", tags=("status",), field=(1, 2), every_s=0.005),
    ],
)
def test_memory_does_not_grow_with_a_flood_of_views_to_come(flood: Any, chain: Literal[2, 3]) -> None:
    """After one second of two hundred messages a second as after three: the same; and the log goes on."""
    log = SmallLog(4, chain, network=CALM, adversaries={"n3": [flood]}, snapshot_every=5, checkpoint_every=5)
    honest = log.members[:3]
    asked = log.run(1, every=0.1, at=honest)
    sizes = []
    for _ in range(2):
        log.run(1)
        sizes.append(max(size_of(log.member(name)) for name in honest))

    assert sizes[1] <= sizes[0] + 10
    log.require_safe()
    log.run(4)
    log.require_live(asked, honest)


def test_who_speaks_of_a_later_epoch_is_told_where_we_are_once_a_heartbeat() -> None:
    """Two hundred votes a second of epochs to come draw five answers a second, not two hundred."""
    flood = b.Flood(path="consensus", tags=("vote",), field=(0,), every_s=0.005)
    log = SmallLog(4, network=CALM, adversaries={"n3": [flood]})
    said: list[str] = []
    log.cluster.world.on_send.append(
        lambda now, node, effect: said.append(node.name) if effect[2] == "n3" and is_status(effect[3]) else None
    )
    log.run(1, every=0.1, at=log.members[:3])
    said.clear()
    log.run(4)

    compared = 4 / (4 * 0.2)  # what all tell one another in turn, a third of it to n3
    heartbeats = 4 / 0.2  # a leader's own, and as many answers
    assert heartbeats <= said.count("n0") <= 2 * heartbeats + compared


def test_a_flood_of_time_outs_of_the_past_is_answered_once_a_heartbeat() -> None:
    """A hundred that know an old certificate draw one word, and another once there is news, or a heartbeat later."""
    log = SmallLog(4, network=CALM)
    log.run(1, every=0.1, at=log.members)
    member = log.member("n0")
    port, unsent = member.port, Unsent(member.port)
    old = m.TimeOut(0, member.term, member.epoch.root, (0, b"", b"", b""), b"")

    def flood() -> int:
        member.port = unsent
        unsent.sent.clear()
        for _ in range(100):
            member.view_change.on_time_out("n3", old)
        member.port = port
        return [to for to, _ in unsent.sent].count("n3")

    assert (flood(), flood()) == (1, 0)
    view, begun_ns = member.safety.high.view, port.now
    log.put("n0", b"news")
    while member.safety.high.view == view:
        log.cluster.run(0.01)
    assert port.now < begun_ns + member.pace.heartbeat_ns
    assert flood() == 1
    log.cluster.run(2 * member.pace.heartbeat_ns / 1e9)
    assert flood() == 1


class Unsent:
    """A port that keeps what is sent through it: to whom, and how many bytes."""

    def __init__(self, port: Any) -> None:
        self.port, self.sent = port, list[tuple[str, int]]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.port, name)

    def send(self, to: str, message: Message) -> None:
        self.sent.append((to, len(encode(message))))


def test_a_flood_of_questions_for_blocks_gets_so_many_bytes_in_a_second() -> None:
    """A hundred times a mebibyte in no time draw no more than the bound; others, and the next second, are answered."""
    log = SmallLog(5, network=CALM, members=4)
    for k in range(6):
        log.put("n0", b"%d" % k + bytes(200_000))
    log.run(0.9)
    member = log.member("n0")
    member.port, sent = (port := Unsent(member.port)), port.sent
    ask = m.Fetch(member.trunk.tree.root, 0)
    for name in ("n3", "n4"):  # a member, and whoever is none
        for _ in range(100):
            member.catch_up.on_fetch(name, ask)
        to_it = [size for to, size in sent if to == name]
        assert BYTES_PER_S - max(to_it) < sum(to_it) - to_it[-1] <= BYTES_PER_S
    assert member.refused == {"blocks that are asked for too often": 200 - len(sent)}

    log.cluster.run(1)
    sent.clear()
    member.catch_up.on_fetch("n3", ask)
    assert len(sent) == 1


def test_signed_votes_for_far_views_take_one_place_and_move_nothing() -> None:
    """A member may sign any view it likes: ten thousand such votes are one place and no later view."""
    log = SmallLog(4, network=CALM)
    log.run(0.1)
    member, ring = log.member("n0"), KeyRing(1)
    view = member.pace.view
    for k in range(10_000):
        data = vote_bytes(member.log_name, 0, view + k, b"x" * 32)
        member.on_message("n3", Vote(0, view + k, b"x" * 32, ring.signature("n3", data)))

    assert member.pace.view == view
    assert len(member.votes.latest) == 1


def test_a_sender_fills_its_own_quota_of_the_pool_and_no_other() -> None:
    """``pool_max`` entries of one sender; another's still find room."""
    pool = Pool(100)
    for k in range(1000):
        pool.add(Entry("b", k, 0, b"x"), "b", 0)
    assert len(pool.waiting) == 100
    assert pool.add(Entry("c", 1, 0, b"x"), "c", 0) is not None

    for k in range(2 * DONE_MAX):
        pool.commit([b"%d" % k])
    assert len(pool.done) == DONE_MAX


def test_a_sender_fills_no_more_than_so_many_bytes_of_the_pool() -> None:
    """However few its entries are; what is committed, or has waited too long, makes room again."""
    pool, largest = Pool(100), bytes(SENDER_BYTES_MAX // 8)
    keys = [pool.add(Entry("b", k, 0, largest), "b", k) for k in range(20)]
    assert [key is not None for key in keys] == [True] * 8 + [False] * 12
    assert pool.add(Entry("c", 1, 0, largest), "c", 0) is not None

    pool.commit([key for key in keys[:1] if key is not None])
    pool.expire("c", 2)
    again = [pool.add(Entry("b", 50 + k, 0, largest), "b", 9) for k in range(20)]
    assert [key is not None for key in again] == [True] * 2 + [False] * 18


class Alone:
    """One node that hears what a test writes."""

    def __init__(self, me: str) -> None:
        self.log, self.ring = HotStuff(HotstuffConfig(), ("n0", "n1", "n2", "n3")), KeyRing(1)
        self.cell = Cell(self.log, me, (), seed=1, keys=self.ring.handle(me))
        self.cell.step(0, 0, (p.START, "", {}, 0))

    def hear(self, sender: str, message: Message) -> list[str]:
        """Return the kinds of what it decides."""
        effects = self.cell.step(0, 0, (p.MESSAGE, "", sender, encode(message)))
        return [effect[2] for effect in effects if effect[0] == p.DECIDE]

    def vote(self, name: str, view: int, block: bytes) -> Vote:
        """Return a vote as ``name`` signs it."""
        return Vote(0, view, block, self.ring.signature(name, vote_bytes(self.log.log_name, 0, view, block)))


def test_what_nobody_verifies_is_no_larger_than_what_is_true() -> None:
    """Who asks, what was seen, who signed the epoch's root: of more than that no block, time-out or proof is made."""
    alone, root = Alone("n3"), Alone("n3").log.epoch.root
    many, long = tuple((f"n{k}", b"") for k in range(MEMBERS_MAX + 1)), "n" * (NAME_MAX + 1)
    for message in (
        Forward((Entry(long, 1, m.COMMAND, b"x"),), False),
        m.TimeOut(0, 0, root, b"", (1, bytes(33), b"", b"")),
        m.TimeOut(0, 0, root, b"", (1, b"", bytes(65), b"")),
        m.Status(0, msgspec.structs.replace(root, votes=many), None),
        m.Status(0, msgspec.structs.replace(root, votes=(("n0", bytes(65)),)), None),
        m.Status(0, msgspec.structs.replace(root, votes=((long, b""),)), None),
    ):
        assert alone.hear("n1", message) == []
    assert (alone.cell.malformed, alone.log.refused) == (6, {})

    alone.hear("n1", Forward((Entry("n" * NAME_MAX, 1, m.COMMAND, b"x"),), False))
    assert (alone.cell.malformed, len(alone.log.asking.pool.waiting)) == (6, 1)


def test_a_leader_that_signs_many_blocks_in_a_view_fills_no_learners_memory() -> None:
    """Who does not vote holds one a view, as a member does; another that is certified it fetches."""
    alone = Alone("n4")
    root = alone.log.epoch.root
    for k in range(100):
        block = m.Block(0, 1, 1, root, (Entry("n0", k, m.COMMAND, b"x"),))
        signed = alone.vote("n0", 1, block_digest(block)).signature
        alone.hear("n0", m.Proposal(block, None, signed))

    assert len(alone.log.trunk.tree.blocks) == 2
    assert len(alone.log.trunk.tree.pending) == 1


@pytest.mark.parametrize("culprit", ["n1", "n0"])
def test_a_flood_of_views_to_come_hides_no_contradiction(culprit: str) -> None:
    """A liar fills its own memory with votes of far views, or that of a leader whose votes it says it saw."""
    alone, found = Alone("n3"), list[str]()
    high = alone.log.safety.high
    for k in range(2 * VIEWS_MAX):
        far = 1000 + k if culprit == "n1" else 4 * 256 * (1000 + k)  # n0 leads the term
        if culprit == "n1":
            alone.hear("n1", alone.vote("n1", far, b"far"))
        seen = (far, b"far", b"false", alone.vote("n1", far, b"far").signature)
        signed = alone.ring.signature("n1", time_out_bytes(alone.log.log_name, 0, k, high.view))
        alone.hear("n1", m.TimeOut(0, k, high, signed, seen))
    for block in (b"one", b"other"):
        found += alone.hear(culprit, alone.vote(culprit, 1, block))

    assert found == ["evidence"]


def test_a_pool_hands_out_what_came_first_within_count_and_bytes() -> None:
    """Oldest first; not what is ordered already; a change of members alone; one larger than a batch alone."""
    pool = Pool(100)
    keys = [pool.add(Entry("b", k, 0, b"x" * 10), "b", k) for k in range(6)]
    assert keys[0] is not None

    assert [e.number for e in pool.take([keys[0]], 3, 1000)] == [1, 2, 3]
    assert [e.number for e in pool.take([], 6, 35)] == [0, 1, 2]
    assert [e.number for e in pool.take([], 6, 5)] == [0]
    pool.commit([key for key in keys[:4] if key is not None])
    pool.add(Entry("b", 9, m.RECONFIGURE, b""), "b", 9)
    assert [e.number for e in pool.take([], 6, 1000)] == [4, 5]


def test_blocks_that_no_certificate_leads_to_are_not_held() -> None:
    """Nobody can make a chain of digests up: the first block must be the certified one."""
    sync = Sync()
    qc = m.Certificate(0, 9, b"x", ())
    sync.want(qc)

    assert not sync.take((m.Block(0, 9, 1, qc, ()),))
    assert not sync.parts


def chained(count: int, data: bytes = b"") -> list[tuple[m.Certificate, m.Block]]:
    """Return blocks, each the child of the one before, with certificates of them."""
    made, qc = [], m.Certificate(0, 0, b"root", ())
    for view in range(1, count + 1):
        block = m.Block(0, view, view, qc, (Entry("n1", view, 0, data),))
        qc = m.Certificate(0, view, block_digest(block), ())
        made.append((qc, block))
    return made


def test_a_block_that_came_sooner_does_not_spoil_the_answer_that_begins_with_it() -> None:
    """The answer is taken from what is missing on; what does not hold that, or is no chain from there, is refused."""
    chain, sync = chained(9), Sync()
    sync.want(chain[8][0])
    assert sync.take((chain[8][1],))
    assert not sync.take((chain[8][1], chain[6][1]))
    assert not sync.take((chain[8][1], chain[7][1], chain[5][1]))
    assert sync.take(tuple(block for _, block in chain[8:4:-1]))
    assert [digest for digest, _ in sync.parts] == [qc.block for qc, _ in chain[8:4:-1]]


def test_a_newer_certificate_keeps_what_was_fetched_below_it() -> None:
    """Of a child that is here it is wanted at once; another waits until the fetch ends, or all were asked in vain."""
    chain, sync = chained(9), Sync()
    assert sync.want(chain[5][0])
    assert sync.take((chain[5][1], chain[4][1]))
    assert not sync.want(*chain[6])
    assert (sync.wanted, sync.missing) == (chain[6][0], chain[3][0].block)

    assert not sync.want(chain[8][0])
    assert (sync.wanted, sync.newest, sync.missing) == (chain[6][0], chain[8][0], chain[3][0].block)
    assert sync.take(tuple(block for _, block in chain[3::-1]))
    assert sync.missing == b"root"
    parts, later = sync.finish()
    assert [block for _, block in parts] == [block for _, block in chain[:7]]
    assert (later, sync.newest) == (chain[8][0], None)

    sync.want(chain[1][0])
    sync.want(chain[8][0])
    wanted = [(sync.ask(("n1", "n2", "n3"), 0), sync.wanted)[1] for _ in range(4)]
    assert wanted == [chain[1][0]] * 3 + [chain[8][0]]


def test_blocks_that_never_link_are_held_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one block more than may be held, fetched or proposed, all is fetched anew, for the newest certificate."""
    monkeypatch.setattr("policies.consensus.hotstuff.sync.HELD_MAX", 3)
    chain = chained(9)
    down = tuple(block for _, block in chain[7::-1])
    for proposed in (False, True):
        sync = Sync()
        sync.want(chain[7][0])
        assert sync.take(down[:3])
        assert [block for _, block in sync.parts] == list(down[:3])

        assert sync.want(*chain[8]) is False if proposed else sync.take(down[3:4])
        assert (sync.wanted, len(sync.parts)) == (chain[8 if proposed else 7][0], 0)


def test_blocks_that_are_fetched_are_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it all is fetched anew, for the newest certificate."""
    monkeypatch.setattr("policies.consensus.hotstuff.sync.HELD_BYTES_MAX", 30)
    chain, sync = chained(5, bytes(10)), Sync()
    sync.want(chain[3][0])
    assert sync.take(tuple(block for _, block in chain[3:0:-1]))
    assert (len(sync.parts), sync.size) == (3, 30)

    assert not sync.want(*chain[4])
    assert (sync.wanted, len(sync.parts), sync.size) == (chain[4][0], 0, 0)


def test_who_answers_with_less_than_it_may_hold_and_not_with_all_is_not_asked_on() -> None:
    """A liar that gives one block at a time would keep a member behind for as long as it likes."""
    log = SmallLog(4, network=CALM, checkpoint_every=1000)
    log.run(0.1)
    log.cluster.partition(["n3"])
    log.run(2, every=0.02, at=log.members[:3])
    near, far, asked = log.member("n0"), log.member("n3"), list[str]()
    far.catch_up._fetch = asked.append
    far.catch_up.want(near.safety.high, "n1")
    down = list(near.trunk.tree.down(near.safety.high.block, far.trunk.tree.height))
    assert len(down) > BLOCKS_MAX + 2
    far.catch_up.on_blocks("n1", m.Blocks((down[0],)))
    assert (asked[0], asked[1] != "n1") == ("n1", True)

    full = m.Blocks(tuple(down[1 : BLOCKS_MAX + 1]))
    far.catch_up.on_blocks(asked[1], full)
    assert asked[2:] == [asked[1]]


STRANGE: dict[str, Any] = {
    "entries of a stranger, or too many": Forward(tuple(Entry("n1", k, 0, b"") for k in range(500)), False),
    "a proposal of no leader": m.Proposal(m.Block(0, 1, 1, m.Certificate(0, 0, b"", ()), ()), None, b""),
    "a vote with a false signature": Vote(0, 99, b"x", b""),
    "a false time-out": m.TimeOut(0, 0, m.Certificate(0, 0, b"", ()), b"", (0, b"", b"", b"")),
    "a status with a false certificate": m.Status(0, m.Certificate(0, 1 << 60, b"x", ()), None),
    "blocks that were not asked for": m.Blocks((m.Block(0, 9, 1, m.Certificate(0, 0, b"", ()), ()),)),
    "a checkpoint with a false signature": m.CheckpointVote(0, 1, 1, 1, b"", b"", b""),
    "a handover that proves nothing": m.Handover((), m.Certificate(0, 1, b"x", ())),
}


@pytest.mark.parametrize("reason", STRANGE)
def test_what_is_not_believed_is_counted_and_noted_once(reason: str) -> None:
    """A hundred of one kind: a hundred counted, one note, nothing raised, nothing changed."""
    log = SmallLog(4, network=CALM)
    log.put("n1")
    log.run(0.5)
    member = log.member("n0")
    before = (member.pace.view, member.commit, size_of(member))
    payload = encode(STRANGE[reason])
    for _ in range(100):
        log.cluster.world.give(log.cluster.world.by_name["n0"], (1, "consensus", "n2", payload))
        log.run(0.001)

    assert member.refused == {reason: 100}
    assert [note.fields for note in log.cluster.notes if note.name == "refused"] == [{"reason": reason}]
    assert (member.pace.view, member.commit, size_of(member)) == (*before[:2], before[2] + 1)


def test_a_command_larger_than_a_batch_and_an_empty_one_are_refused_where_they_are_asked() -> None:
    """Noted and dropped: they reach no block."""
    log = SmallLog(4, network=CALM, batch_max_bytes=100)
    log.put("n1", b"x" * 101)
    log.cluster.request("n1", "client", "empty", Put(b""), "app")
    log.run(1)

    assert log.app("n2").state == []
    assert set(log.member("n1").refused) == {
        "a command that is too large, or members that are none", "a command that is kept for protocols",
    }  # fmt: skip


def test_batches_stay_within_count_and_bytes() -> None:
    """A burst of 100 commands of 10 bytes is cut into blocks of at most 7, or of 50 bytes."""
    for config, most in (({"batch_max": 7}, 7), ({"batch_max_bytes": 50}, 5)):
        log = SmallLog(4, network=CALM, **config)
        asked = [log.put("n0", b"%010d" % k) for k in range(100)]
        log.run(3)
        sizes = [len(block.entries) for block in log.member("n2").trunk.tree.blocks.values() if block.view]

        assert max(sizes) == most
        log.require_live(asked, log.members)
