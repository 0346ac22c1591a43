"""A worker is put out by f + 1 of those who sit: no f liars put out an honest one, whoever of them leads, and when."""

from __future__ import annotations

from hashlib import blake2b

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import port as p
from policies.cell import Cell
from policies.commands import Command, Dissolve, Evict, Join, Place, decode, unsigned
from policies.config import ShardingConfig
from policies.coordination import Coordination
from policies.coordination.trust import PRIOR
from policies.jobs import Stage
from policies.local import Committed, Leadership, Propose
from policies.port import Policy
from policies.state import SnapshotError, VillageState, snapshot
from policies.state.members import Members
from policies.wire import encode
from policies.work import Capability, Renew
from sim.keys import KeyRing
from tests.policies.small_village import CARD, ONE_HOLDS_ALL, RULES
from tests.policies.state.test_in_the_village import Log

NAMES = ("k1", "k2", "k3", "k4", "k5", "k6", "k7", "stranger")
SEATS = NAMES[:4]
ring = KeyRing(1)


def accusation(by: str, signer: str = "", node: str = "w1") -> Evict:
    """Return a member's word, signed by itself or by somebody else."""
    wish = Evict(node, "false", by)
    return msgspec.structs.replace(wish, signature=ring.handle(signer or by).sign(unsigned(wish)))


def after(history: tuple[Command, ...], seats: tuple[str, ...]) -> VillageState:
    """Return the state after these commands."""
    state = VillageState(seats=seats)
    for command in history:
        state.apply(command, ring.handle("k1").verify)
    return state


words = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(("", "", "", "k1", "stranger"))), max_size=20)


@given(st.integers(1, 7), words)
def test_it_takes_f_and_one_members_whose_signatures_hold(count: int, said: list[tuple[str, str]]) -> None:
    """Strangers, forged words and the same member again count for nothing; one more than f put the worker out."""
    seats = NAMES[:count]
    state = after((Join("w1"), *(accusation(*word) for word in said)), seats)
    heard = {by for by, signer in said if by in seats and signer in ("", by)}

    assert state.members["w1"] == (len(heard) <= (count - 1) // 3)
    assert VillageState.restore(state.snapshot(), seats=seats).digest() == state.digest()
    assert all(len(accusers) <= (count - 1) // 3 for accusers in state.registry.accused.values())


def test_one_word_is_enough_where_members_are_believed() -> None:
    """Over a log whose members do not lie nobody has to sign, and nothing waits for another one."""
    assert after((Join("w1"), Evict("w1", "false")), ()).members == {"w1": False}


def test_who_sits_no_more_counts_no_more() -> None:
    """f of each committee may lie: liars of two of them must not add up."""
    members = Members()
    members.join("w1")
    assert members.accuse("w1", "k1", SEATS)
    assert members.accuse("w1", "k2", (*SEATS[1:], "k5"))
    assert (members.standing, members.accused) == ({"w1": True}, {"w1": ("k2",)})
    assert members.accuse("w1", "k5", (*SEATS[1:], "k5"))
    assert (members.standing, members.accused) == ({"w1": False}, {})


@pytest.mark.parametrize("accused", [(("w1", ("k1",)), ("w1", ("k2",))), (("w2", ("k1",)),)])
def test_a_snapshot_accuses_members_in_good_standing_and_each_once(accused: tuple[object, ...]) -> None:
    """Anything else is no state that commands can have led to."""
    state = after((Join("w1"),), SEATS)
    bodies = [encode(part.saved()) for part in state.parts]
    bodies[0] = encode(((("w1", True),), accused))
    with pytest.raises(SnapshotError, match="members: a node"):
        snapshot.unpack(_packed(state.applied, bodies), VillageState().parts)


def _packed(applied: int, bodies: list[bytes]) -> bytes:
    body = encode((snapshot.VERSION, applied, tuple(bodies)))
    return snapshot.MAGIC + blake2b(body, digest_size=20).digest() + body


class Member:
    """A member of four, whose log a test writes."""

    def __init__(self, name: str) -> None:
        self.log, self.coordination = Log(), Coordination(RULES, ShardingConfig(), CARD, seats=SEATS)
        policies: dict[str, Policy] = {"consensus": self.log, "coordination": self.coordination}
        peers = tuple(other for other in SEATS if other != name)
        self.cell = Cell(policies, name, peers, seed=1, keys=ring.handle(name))
        self.cell.step(0, 0, (p.START, "", {}, 0))
        self.index = 0

    def hears(self, *commands: Command) -> None:
        """These are committed."""
        for command in commands:
            self.index += 1
            self._told(Committed(self.index, 1, encode(command)))

    def leads(self, term: int, leader: str) -> None:
        """That one leads now."""
        self._told(Leadership(term, leader))

    def renews(self, node: str) -> None:
        """A worker lends enough for the whole model."""
        renew = Renew(Capability(ONE_HOLDS_ALL, 0.01, 0.001, 0.001, 1e7, 0.01), 0)
        self.cell.step(1, 1, (p.MESSAGE, "coordination", node, encode(renew)))

    def _told(self, message: Committed | Leadership) -> None:
        self.cell.step(1, 1, (p.REQUEST, "consensus", "test", "1", encode(message)))

    @property
    def proposed(self) -> list[Command]:
        """What it has asked the log for."""
        return [decode(said.command) for said in self.log.told if isinstance(said, Propose)]


PLACED: tuple[Command, ...] = (Join("w1"), Join("w2"), Place(5, "m", (Stage("w1", 0, 4),), 0.1))


def test_a_leader_gives_no_work_to_whom_it_has_found_false_itself() -> None:
    """One word puts nobody out, but its own leader holds to it: now, and when it leads again."""
    member = Member("k1")
    member.leads(1, "k1")
    member.hears(*PLACED, accusation("k1"))

    assert member.coordination.state.members["w1"]
    assert member.coordination.standing == {"w1": False, "w2": True}
    assert member.proposed == [Dissolve(5, "w1 evicted")]
    member.leads(2, "k2")
    member.hears(Dissolve(5, "w1 evicted"), Place(6, "m", (Stage("w1", 0, 4),), 0.1))
    member.leads(3, "k1")
    assert member.proposed[1:] == [Dissolve(6, "w1 evicted")]


def test_a_pipeline_of_several_that_a_leader_has_found_false_is_dissolved_once() -> None:
    """Its numbers and reasons stand in the log for all to read: one line for one pipeline."""
    member = Member("k1")
    stages = (Stage("w1", 0, 2), Stage("w2", 2, 4))
    member.hears(Join("w1"), Join("w2"), accusation("k1"), accusation("k1", node="w2"), Place(5, "m", stages, 0.1))
    member.leads(1, "k1")

    assert member.proposed == [Dissolve(5, "w1 evicted")]


FALSE = (
    Place(0, "m", (Stage("w1", 0, 4),), 0.1),  # the number of what stands in no pipeline
    Place(7, "m", (), 0.1),
    Place(7, "m", (Stage("w1", 0, 2), Stage("w2", 3, 4)), 0.1),
    Place(7, "m", (Stage("w1", 0, 4),), float("nan")),
)
UNUSABLE = (
    Place(7, "another", (Stage("w1", 0, 4),), 0.1),
    Place(7, "m", (Stage("w1", 0, 3),), 0.1),
    Place(7, "m", (Stage("w1", 1, 4),), 0.1),
    Place(7, "m", (Stage("w1", 0, 9),), 0.1),
)


@pytest.mark.parametrize("placed", FALSE)
def test_what_is_no_pipeline_is_not_placed(placed: Place) -> None:
    """Whoever led next would look for its head, or take every idle worker for one of it."""
    member = Member("k1")
    member.hears(Join("w1"), Join("w2"), placed)

    assert member.coordination.state.placements == {}


@pytest.mark.parametrize("placed", UNUSABLE)
@pytest.mark.parametrize("leads_first", [False, True])
def test_what_a_liar_has_placed_that_is_not_served_stands_nowhere(placed: Place, leads_first: bool) -> None:
    """No member knows such a model, or such a part of it: the next leader does not stop at it, nor are workers lost."""
    member = Member("k1")
    if leads_first:
        member.leads(2, "k1")
    member.hears(Join("w1"), placed)
    if not leads_first:
        member.leads(2, "k1")
    member.renews("w1")

    assert member.proposed == []
    assert (member.coordination.state.placements, member.coordination.lines.lines) == ({}, {})


def test_another_leader_looks_closer_at_whom_one_has_accused() -> None:
    """A liar's word costs an honest worker no work; a true one is borne out the sooner, and then it is out."""
    member = Member("k2")
    member.hears(*PLACED, accusation("k1"))
    member.leads(2, "k2")

    assert member.coordination.standing == {"w1": True, "w2": True}
    assert member.coordination.trust.lies("w2") == pytest.approx(PRIOR)
    assert member.coordination.trust.lies("w1") > 2 * PRIOR
    member.hears(accusation("k2"))
    assert not member.coordination.state.members["w1"]
    assert member.proposed == [Dissolve(5, "w1 evicted")]
