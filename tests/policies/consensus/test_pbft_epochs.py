"""PBFT's changes of members: other members take over, votes of another epoch count for nothing, newcomers come in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from policies import port as p
from policies.consensus.pbft import Pbft
from policies.consensus.pbft import messages as m
from policies.consensus.pbft.epochs import MARK, MEMBERS_MAX, VIEWS, change_of, command_of
from policies.consensus.pbft.proofs import Committee as Members
from policies.local import Allow, Configured, Propose, Reconfigure
from policies.port import Policy
from policies.wire import Message
from scenarios.adversaries import behaviours as b
from scenarios.checks import Checks, consensus
from scenarios.schema import Network
from sim.cluster import Cluster
from sim.guard import Guards
from tests.policies.consensus.pbft_cluster import CONFIG, CommandList, Committee
from tests.policies.consensus.pbft_hand import (
    BATCH,
    NAMES,
    One,
    change,
    commit,
    new_view,
    pre_prepare,
    prepare,
    prepared,
    signer,
)

OLD, NEW = ("n0", "n1", "n2", "n3"), ("n4", "n5", "n6", "n7")
MIXED = ("n1", "n2", "n3", "n4")
SEVEN = tuple(f"n{k}" for k in range(7))


class Become(Message, frozen=True, tag="become"):
    """A client's wish for other members."""

    members: tuple[str, ...]
    learners: tuple[str, ...] = ()


class Permit(Message, frozen=True, tag="permit"):
    """A client's word on which change of members to vote for."""

    members: tuple[str, ...] = ()


class Machine(CommandList):
    """A state machine that may ask for other members, and remembers who they are."""

    requests = (*CommandList.requests, Become, Permit)

    def __init__(self, snapshot_every: int = 0) -> None:
        super().__init__(snapshot_every)
        self.configured: list[Configured] = []

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        if isinstance(operation, Become):
            self.port.tell("consensus", Reconfigure(operation.members, operation.learners))
        elif isinstance(operation, Permit):
            self.port.tell("consensus", Allow(operation.members))
        else:
            super().on_request(client, op_id, operation)

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Configured):
            self.configured.append(message)
        super().on_local(sender, message)


class Village(Committee):
    """``n`` nodes, the first four of which are the members at first."""

    def __init__(self, n: int, snapshot_every: int = 0, first: tuple[str, ...] = OLD, **more: Any) -> None:
        self.honest = tuple(f"n{k}" for k in range(n) if f"n{k}" not in more.get("adversaries", {}))
        self.up = {f"n{k}" for k in range(n)}
        self.count = 0

        def node() -> Mapping[str, Policy]:
            return {"app": Machine(snapshot_every), "consensus": Pbft(CONFIG, first, "app", ("app",))}

        self.cluster = Cluster(node, n, **more)
        self.run = self.cluster.run

    def become(self, at: str, members: tuple[str, ...], learners: tuple[str, ...] = ()) -> None:
        """Ask for other members at a node."""
        self.count += 1
        self.cluster.request(at, "admin", str(self.count), Become(members, learners), path="app")

    def permit(self, members: tuple[str, ...] = (), at: tuple[str, ...] = OLD) -> None:
        """Let nodes vote for no change of members but this one."""
        for name in at:
            self.count += 1
            self.cluster.request(name, "admin", str(self.count), Permit(members), path="app")

    def configured(self, name: str) -> list[Configured]:
        found: list[Configured] = self.cluster.policy(name, "app").configured
        return found

    def require(self, members: tuple[str, ...], proposed: list[bytes]) -> None:
        """These are the members, at each of them, and they have all that was proposed in one order."""
        self.require_agreement()
        for name in members:
            assert self.pbft(name).committee.members == members, name
            assert set(proposed) <= set(self.commands(name)), name
        assert len({tuple(self.commands(name)) for name in members}) == 1


def changed(members: tuple[str, ...], n: int = 8, **more: Any) -> tuple[Village, list[bytes]]:
    """Return nodes whose first four have handed over to ``members``, and what was proposed before."""
    village = Village(n, **more)
    proposed = [c for k in range(12) for c in village.put(f"n{k % 4}", every_s=0.05)]
    village.become("n2", members)
    village.run(3)
    return village, proposed


@pytest.mark.parametrize("snapshot_every", [0, 5])
def test_four_hand_over_to_four_others_with_all_that_was_agreed(snapshot_every: int) -> None:
    """By batches or by a state: the new four have everything and go on, the old ones stop and say nothing any more."""
    village, proposed = changed(NEW, snapshot_every=snapshot_every)
    proposed += [c for k in range(8) for c in village.put(NEW[k % 4], every_s=0.05)]
    village.run(2)

    village.require(NEW, proposed)
    assert [c.members for c in village.configured("n0")] == [NEW]
    assert village.configured("n4")[-1].members == NEW
    assert {village.commands(name) == village.commands("n0") for name in OLD} == {True}
    assert set(proposed[:12]) <= set(village.commands("n0"))
    assert [village.pbft(name).member for name in (*OLD, *NEW)] == [False] * 4 + [True] * 4
    begun = village.cluster.now_s
    village.run(2)
    talk = {e.node for e in village.cluster.events if e.now_ns > begun * 1e9 and any(f[0] == p.SEND for f in e.effects)}
    assert talk == set(NEW)


def test_the_quorum_is_that_of_the_new_members() -> None:
    """Seven bear two crashes, where four would not; back at four, one."""
    village, proposed = changed(SEVEN)
    assert (village.pbft("n5").committee.faults, village.pbft("n5").committee.quorum) == (2, 5)
    village.crash("n0")
    village.crash("n5")
    proposed += village.put("n6", 5)
    village.run(4)
    for name in ("n0", "n5"):
        village.restart(name)
    village.run(2)
    village.require(SEVEN, proposed)

    village.become("n6", MIXED)
    village.run(3)
    assert (village.pbft("n4").committee.faults, village.pbft("n4").committee.quorum) == (1, 3)
    village.crash("n1")
    village.crash("n2")
    lost = village.put("n3", 1)
    village.run(3)
    assert lost[0] not in village.commands("n3")


def test_a_view_has_one_primary_across_epochs() -> None:
    """Views of the next epoch begin where none of the one before can reach."""
    village, proposed = changed(NEW)
    leads: dict[int, set[str]] = {}
    for decision in village.cluster.decisions:
        if decision.kind == "leader":
            leads.setdefault(decision.value[1], set()).add(decision.node)

    assert all(len(names) == 1 for names in leads.values())
    assert leads[VIEWS] == {"n4"}
    village.require(NEW, proposed)


def test_commands_under_way_while_members_change_are_not_lost() -> None:
    """What the old members ordered after the change is void, and is ordered again by the new ones; each once."""
    village = Village(5)
    proposed = []
    for k in range(60):
        proposed += village.put(f"n{1 + k % 3}", 2, every_s=0.01)
        if k == 20:
            village.become("n3", MIXED)
    village.run(4)

    village.require(MIXED, proposed)
    assert len(village.commands("n4")) == len(set(village.commands("n4")))


def test_both_epochs_survive_a_power_cut_of_everybody() -> None:
    """All restart: members of the new epoch know that they are, and all are told everything again."""
    village, proposed = changed(MIXED, 5, snapshot_every=5)
    proposed += village.put("n4", 7, every_s=0.05)
    for name in village.honest:
        village.crash(name, torn=0.5)
    for name in village.honest:
        village.restart(name)
    assert [village.pbft(name).committee.number for name in village.honest] == [1] * 5
    village.run(1)
    proposed += village.put("n2", 5, every_s=0.05)
    village.run(3)

    village.require(MIXED, proposed)
    assert village.configured("n4")[-1].members == MIXED


@pytest.mark.parametrize("snapshot_every", [0, 5])
def test_who_slept_through_two_changes_is_told_whether_a_member_or_not(snapshot_every: int) -> None:
    """n3 stays a member, n0 does not; both were down while the members changed twice."""
    village = Village(6, snapshot_every)
    proposed = village.put("n1", 5, every_s=0.05)
    village.crash("n3")
    village.become("n1", ("n1", "n2", "n3", "n4", "n0"))
    village.run(2)
    village.crash("n0")
    village.become("n1", ("n1", "n2", "n3", "n4"))
    village.run(2)
    proposed += village.put("n1", 20, every_s=0.05)
    village.restart("n3")
    village.run(3)
    village.require(("n1", "n2", "n3", "n4"), proposed)

    village.restart("n0")
    village.run(3)
    assert not village.pbft("n0").member
    assert village.configured("n0")[-1].members == ("n1", "n2", "n3", "n4")


def test_a_learner_hears_everything_asks_and_does_not_vote() -> None:
    """n4 learns; its commands are ordered; and with two of four members down it does not make up a quorum."""
    village, proposed = changed(OLD, 5)
    village.become("n1", OLD, ("n4",))
    village.run(1)
    proposed += village.put("n4", 3, every_s=0.1) + village.put("n1", 20, every_s=0.05)
    village.run(2)
    assert set(village.commands("n4")) == set(proposed)
    village.ask("n4", 7)
    village.run(2)
    assert village.answers() == {7: len(proposed)}

    village.crash("n2")
    village.crash("n3")
    lost = village.put("n1", 1)
    village.run(3)
    assert lost[0] not in village.commands("n1")


@pytest.mark.parametrize("lie", ["silent", "twins", "withholds proposals", "double votes"])
def test_one_liar_of_four_cannot_stop_or_split_a_change(lie: str) -> None:
    """The primary lies while three others are told to let a fifth in and put it out."""
    lies: dict[str, b.Behaves] = {
        "silent": b.Silent(),
        "twins": b.Twins(peers=("n1",)),
        "withholds proposals": b.Withhold(tags=("pre_prepare",)),
        "double votes": b.DoubleVote(tags=("prepare", "commit"), field=(2,), resign=True),
    }
    village = Village(5, adversaries={"n0": [lies[lie]]})
    proposed = village.put("n1", 5, every_s=0.05)
    village.run(2)
    for _ in range(5):
        village.become("n2", MIXED)
        village.run(2)
    proposed += village.put("n4", 5, every_s=0.05)
    village.run(4)

    village.require(MIXED, proposed)


def test_a_committee_that_changes_again_and_again_keeps_one_order() -> None:
    """Members go round while commands are asked and messages are lost; all checks and nets hold."""
    rough = Network(backbone_s=0.005, jitter_sigma=1.0, loss=0.05, duplicate=0.05)
    village = Village(6, 7, network=rough, guards=Guards(copy_every=64))
    checks = Checks(*consensus.safety())
    village.cluster.world.on_decide.append(
        lambda now, node, e: checks.decided(now, node.name, e[1], e[2], e[3])  # type: ignore[arg-type, return-value]
    )
    proposed, members = [], OLD
    for turn in range(6):
        after = tuple(f"n{(turn + k + 1) % 6}" for k in range(4))
        village.become(members[2], after)
        for _ in range(12):
            proposed += village.put(members[1], 1, every_s=0.1)
            if village.pbft(after[3]).committee.members == after:
                break
        village.run(2)
        members = after
    village.run(4)

    assert [check.broken for check in checks.all if check.broken] == []
    village.require_agreement()
    assert village.pbft(members[0]).committee.number == 6
    assert len({tuple(village.commands(name)) for name in members}) == 1


# -- by hand -----------------------------------------------------------------------------------------------------------


def move(epoch: int = 0, members: tuple[str, ...] = MIXED) -> m.Batch:
    """Return a batch that changes the members."""
    return (("n0", 9, command_of(epoch, members, ())),)


def decided(seq: int, batch: m.Batch, view: int = 0, names: tuple[str, ...] = NAMES[:3]) -> m.Decided:
    return m.Decided(view, seq, batch, tuple((name, commit(name, view, seq, batch).signature) for name in names))


def test_a_change_is_prepared_only_when_all_below_it_is_executed() -> None:
    """Else two changes could end one epoch: the vote comes as soon as the place before it is executed."""
    member = One()
    member.hear("n0", pre_prepare(0, 2, move()))
    assert member.said(m.Prepare) == []

    member.hear("n0", decided(1, BATCH))
    assert [vote.seq for vote in member.said(m.Prepare)] == [2]


def test_what_was_decided_after_a_change_is_void() -> None:
    """Batches of the old epoch beyond its end are forgotten, on disk too; the next place is the new members'."""
    member = One()
    member.hear("n0", decided(2, BATCH), decided(3, BATCH))
    assert {"d000000000002", "d000000000003"} <= set(member.disk)
    member.hear("n0", decided(1, move()))

    assert (member.pbft.applied, member.pbft.committee.members) == (0, MIXED)
    assert [key for key in member.disk if key[0] == "d"] == ["d000000000001"]
    member.hear("n0", decided(2, BATCH))  # with the old members' votes
    assert member.pbft.applied == 0
    assert member.again().pbft.committee.members == MIXED


def test_signatures_of_another_epoch_mean_nothing() -> None:
    """Votes, certificates, view changes and new views of epoch 0 are not counted in epoch 1."""
    member = One()
    member.hear("n0", decided(1, move()))
    sent = len(member.sent)
    held = (prepared(0, 2, BATCH),)
    for name in ("n1", "n2"):
        member.hear(name, prepare(name, 0, 2, BATCH), commit(name, 0, 2, BATCH), change(name, VIEWS + 1, held))
    member.hear("n1", pre_prepare(0, 2, BATCH), new_view((change("n1", 1), change("n2", 1), change("n0", 1))))

    assert (member.pbft.term, member.pbft.applied, len(member.sent)) == (VIEWS, 0, sent)
    assert member.pbft.ahead.changes == {}


def test_an_end_is_believed_only_from_a_quorum_of_its_epoch() -> None:
    """Two signers, one three times, and a change of another epoch prove nothing."""
    committee = signer("n3")
    assert isinstance(committee, Members)
    assert committee.ends(decided(1, move()))
    assert not committee.ends(decided(1, move(), names=("n0", "n1")))
    assert not committee.ends(decided(1, move(), names=("n0", "n0", "n0")))
    assert not committee.ends(decided(1, BATCH))
    assert not committee.ends(decided(1, move(1)))
    after = committee.after(decided(1, move()))
    assert (after.number, after.members, after.root.point.seq) == (1, MIXED, 1)
    assert not after.ends(decided(1, move()))


WRONG = {
    "three": ("n0", "n1", "n2"),
    "twice": ("n0", "n1", "n2", "n0"),
    "too many": tuple(f"m{k}" for k in range(MEMBERS_MAX + 1)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_members_that_cannot_be_are_refused_and_never_ordered(wrong: str) -> None:
    """Where they are asked, in a primary's batch, and in a request that somebody passes on."""
    member = One()
    command = command_of(0, WRONG[wrong], ())
    member.tell(Reconfigure(WRONG[wrong]))
    assert member.pbft.pool.waiting == {}

    batch = (("n0", 1, command),)
    member.hear("n0", pre_prepare(0, 1, batch), m.Request("n0", 1, command, signer("n0").sign_request(1, command)))
    assert (member.said(m.Prepare), member.pbft.pool.waiting) == ([], {})
    assert member.pbft.dropped == {"pre-prepare": 1, "change of members refused": 1}


@pytest.mark.parametrize("command", [MARK, MARK + b"\x00", command_of(1, MIXED, ()), command_of(0, MIXED, ())[:-1]])
def test_a_change_that_cannot_be_read_or_is_of_another_epoch_is_none(command: bytes) -> None:
    """It is proposed in vain, and a client cannot smuggle one in."""
    assert change_of(command, 0) is None
    member = One()
    member.hear("n0", pre_prepare(0, 1, (("n0", 1, command),)))
    member.tell(Propose(command_of(0, MIXED, ())))

    assert (member.said(m.Prepare), member.pbft.pool.waiting) == ([], {})


def test_a_change_beside_another_command_is_refused() -> None:
    """It stands alone in its batch."""
    member = One()
    member.hear("n0", pre_prepare(0, 1, (*move(), *BATCH)))

    assert member.said(m.Prepare) == []


def test_one_change_at_a_time() -> None:
    """While one waits or is proposed the next is refused with a note; so is one that changes nothing, without."""
    member = One()
    member.tell(Reconfigure(MIXED))
    member.tell(Reconfigure(SEVEN))
    assert len(member.pbft.pool.waiting) == 1
    assert member.pbft.dropped == {"change of members refused for now": 1}

    other = One("n2")
    other.hear("n0", pre_prepare(0, 1, move()))
    other.tell(Reconfigure(SEVEN))
    other.tell(Reconfigure(NAMES))
    assert other.pbft.pool.waiting == {}
    assert other.pbft.dropped == {"change of members refused for now": 1}


def test_the_primary_proposes_a_change_alone_and_nothing_until_it_is_executed() -> None:
    """It waits until nothing else is under way, and what waits behind it goes to the new members."""
    member = One("n0")
    member.tell(Propose(b"x"))
    member.tell(Reconfigure(MIXED))
    member.tell(Propose(b"y"))
    assert [q.batch[0][2] for q in member.said(m.PrePrepare)] == [b"x"]

    batch = member.said(m.PrePrepare)[0].batch
    for name in ("n1", "n2"):
        member.hear(name, commit(name, 0, 1, batch))
        member.hear(name, prepare(name, 0, 1, batch))
    assert [q.batch[0][2] for q in member.said(m.PrePrepare)] == [b"x", command_of(0, MIXED, ())]


def test_whoever_calls_from_a_later_epoch_is_asked_and_a_flood_of_calls_is_not() -> None:
    """One question in half a period, whoever calls; nothing is believed of what a call says."""
    member = One()
    for k in range(50):
        member.hear(f"m{k % 9}", m.Status(5 * VIEWS, True, False, 10**9, 10**9, ""))
    asked = [q.ask for to, q in member.sent if isinstance(q, m.Status) and to.startswith("m")]

    assert asked == ["m0"]
    assert (member.pbft.term, member.pbft.heard) == (0, {})


def test_a_flood_of_calls_keeps_nobody_from_being_asked() -> None:
    """m1 calls once, while a liar calls all the time: both are asked in turn."""
    member, call = One(), m.Status(5 * VIEWS, True, False, 10**9, 10**9, "")
    for k in range(4):
        member.hear("liar", *[call] * 5)
        if k == 1:
            member.hear("m1", call)
        member.hear("liar", *[call] * 5)
        member.now += member.pbft.period_ns // 2
    asked = [to for to, q in member.sent if isinstance(q, m.Status) and to in ("liar", "m1")]

    assert sorted(asked) == ["liar", "liar", "liar", "m1"]


def test_a_stranger_is_told_nothing() -> None:
    """Neither batches nor chunks; who was a member once is."""
    member = One()
    member.hear("n0", decided(1, move()), decided(2, BATCH))
    member.sent.clear()
    for name in ("m1", "n0"):
        member.now += member.pbft.period_ns
        member.hear(name, m.Status(0, True, False, 0, 0, "n3"), m.Status(VIEWS, True, False, 0, 0, "n3"))
    told = {to for to, q in member.sent if isinstance(q, m.Decided)}

    assert told == {"n0"}
    assert member.pbft.dropped["stranger"] == 2
