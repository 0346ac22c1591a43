"""Published bugs of Byzantine protocols in our PBFT: members driven by hand, or a few seconds of a small cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from policies.config import PbftConfig
from policies.consensus.pbft import Pbft, evidence, proofs, safety, views
from policies.consensus.pbft import messages as m
from policies.consensus.pbft.liveness import AHEAD_MAX, Ahead
from policies.consensus.pbft.proofs import again
from policies.consensus.pbft.safety import Voter
from policies.local import Propose, Readable
from policies.wire import Message, encode
from scenarios.adversaries import behaviours as b
from scenarios.checks import Checks
from scenarios.checks.byzantine import NoDoubleVote
from scenarios.checks.votes import PBFT
from scenarios.schema import Network
from tests.mutants.record import Mutant, Patch, require
from tests.policies.consensus.pbft_cluster import Committee
from tests.policies.consensus.pbft_hand import BATCH, NAMES, OTHER, One, pre_prepare

Kind = type[Pbft]


# -- B5: reads outside the log ---------------------------------------------------------------------------------------


class Peek(Message, frozen=True, tag="peek"):
    """How far are you?"""

    token: int


class Peeked(Message, frozen=True, tag="peeked"):
    """So far."""

    token: int
    index: int


class ReadsOutsideTheLog(Pbft):
    """B5: a read is answered once a quorum says to stand at one index, and asked again until it does."""

    messages = (*m.MESSAGES, Peek, Peeked)

    def __init__(self, config: PbftConfig, members: tuple[str, ...], *paths: Any) -> None:
        super().__init__(config, members, *paths)
        self.peeks: dict[int, dict[str, int]] = {}

    def _read(self, token: int) -> None:
        self.peeks[token] = {self.port.me: self.applied}
        self._all(Peek(token))

    def _tick(self) -> None:
        super()._tick()
        for token in self.peeks:
            self._read(token)

    def on_message(self, sender: str, message: Any) -> None:
        if isinstance(message, Peek):
            self.port.send(sender, Peeked(message.token, self.applied))
        elif not isinstance(message, Peeked):
            super().on_message(sender, message)
        elif message.token in self.peeks:
            peek = self.peeks[message.token]
            peek[sender] = message.index
            if list(peek.values()).count(message.index) >= self.committee.quorum:
                del self.peeks[message.token]
                self.port.tell(self.applier, Readable(message.token, message.index))


def members_kept_apart(kind: Kind) -> None:
    """The primary tells n3 of no batch, so that it lags while clients write, and answers nobody's question."""
    lies = [
        b.Silent(path="consensus", tags=("pre_prepare",), peers=("n3",)),
        b.Silent(path="consensus", tags=("peeked",)),
    ]
    calm = Network(backbone_s=0.002, loss=0.0, duplicate=0.0)
    committee = Committee(adversaries={"n0": lies}, kind=kind, network=calm)
    committee.put("n1", 20, every_s=0.005)
    committee.ask("n1", 1)
    committee.put("n1", 100, every_s=0.005)
    committee.require_agreement()
    require(
        1 in committee.answers(),
        "L6: a read at n1 is not answered in half a second, although three of four are correct",
    )


# -- B7: two batches at one place ------------------------------------------------------------------------------------


class LatestStands(Voter):
    """B7: of two pre-prepares at one place of a view the latest stands."""

    def accept(self, sender: str, m: m.PrePrepare) -> bool:
        if self.inside(m.seq):
            slot = self._slot(m.seq)
            slot.accepted = (-1, b"", b"")
            slot.prepares.pop(self.port.me, None)
        return super().accept(sender, m)


class AcceptsTheLatest(Pbft):
    """A member with such a voter."""

    def __init__(self, config: PbftConfig, members: tuple[str, ...], *paths: Any) -> None:
        super().__init__(config, members, *paths)
        self.voter = LatestStands(self.committee)


def one_sequence_number_on(kind: Kind) -> None:
    """The primary gives two batches their places, and then the first one the place of the second."""
    member = One(kind=kind)
    member.hear("n0", pre_prepare(0, 1, BATCH), pre_prepare(0, 2, OTHER), pre_prepare(0, 2, BATCH))
    checks = Checks(NoDoubleVote(PBFT))
    for to, message in member.sent:
        checks.said(0, member.name, "consensus", to, encode(message))
    require(checks.first_broken is None, f"S14: {checks.checks[0].broken}")


# -- B8: the new view, and what is ahead -----------------------------------------------------------------------------


def begins_empty(changes: tuple[m.ViewChange, ...]) -> tuple[m.Stable, list[tuple[int, bytes]]]:
    """Return the stable checkpoint alone: nothing that was prepared is proposed again."""
    return again(changes)[0], []


Lost = Callable[[str, str, Any], bool]
"""Whether a message from one to another is lost."""


def pass_on(members: dict[str, One], lost: Lost) -> None:
    """Deliver what members have said, and what they say to that, but for what is lost."""
    for _ in range(40):
        letters = []
        for name, member in members.items():
            letters += [(name, to, message) for to, message in member.sent if not lost(name, to, message)]
            member.sent.clear()
        for sender, to, message in letters:
            members[to].hear(sender, message)


def decided_by_one_alone(kind: Kind) -> None:
    """n1 alone hears the commits of a batch; then the primary is given up, and a client asks for something else."""
    members = {name: One(name, kind=kind) for name in NAMES}
    members["n0"].tell(Propose(b"first"))
    pass_on(members, lambda _, to, message: isinstance(message, m.Decided | m.Commit) and to != "n1")
    assert [name for name in NAMES if members[name].pbft.applied] == ["n1"]
    for _ in range(3):
        for member in members.values():
            if member.pbft.voter.active and member.pbft.term == 0:
                member.fire("patience")
        pass_on(members, lambda _, to, message: isinstance(message, m.Decided | m.Commit))
    assert {member.pbft.leader for member in members.values()} == {"n1"}
    members["n2"].tell(Propose(b"second"))
    pass_on(members, lambda _, to, message: isinstance(message, m.Decided))
    for seq in (1, 2):
        batches = {
            member.pbft.execution.decided[seq].batch
            for member in members.values()
            if seq in member.pbft.execution.decided
        }
        require(len(batches) <= 1, f"S1: {len(batches)} different batches are decided at place {seq}")


class AheadWithoutBound(Ahead):
    """B8: every pre-prepare of a view to come is kept."""

    def propose(self, sender: str, m: m.PrePrepare) -> None:
        self.proposals.setdefault(sender, deque()).append(m)


class KeepsAll(Pbft):
    """A member with such a memory."""

    def __init__(self, config: PbftConfig, members: tuple[str, ...], *paths: Any) -> None:
        super().__init__(config, members, *paths)
        self.ahead = AheadWithoutBound()


def flood_of_views_to_come(kind: Kind) -> None:
    """n1 proposes in a thousand views that it will lead."""
    member = One(kind=kind)
    for k in range(4 * AHEAD_MAX):
        member.hear("n1", pre_prepare(4 * k + 1, 1, BATCH))
    held = sum(map(len, member.pbft.ahead.proposals.values()))
    require(held <= AHEAD_MAX, f"L5: {held} proposals of views to come are held, at most {AHEAD_MAX}")


def _pbft(
    id: str, what: str, source: str, property: str, scenario: Callable[[Kind], None], broken: str,
    *patches: Patch, wrong: Kind = Pbft,
) -> Mutant:  # fmt: skip
    return Mutant(id, what, source, property, scenario, Pbft, wrong, broken, patches)


MUTANTS = (
    _pbft(
        "B5", "reads outside the log, by equal answers of a quorum", "arXiv 2107.11144", "L6", members_kept_apart, "L6",
        wrong=ReadsOutsideTheLog,
    ),
    _pbft(
        "B7", "a pre-prepare takes the place of another", "byzzbench, schedules of PBFT: sequence number + 1",
        "S14", one_sequence_number_on, "S14", wrong=AcceptsTheLatest,
    ),
    _pbft(
        "B8", "a new view drops what was prepared", "mutation", "S1", decided_by_one_alone, "S1",
        *((module, "again", begins_empty) for module in (safety, proofs, views, evidence)),
    ),
    _pbft(
        "B8", "what is said of views to come is kept without bound", "mutation", "L5", flood_of_views_to_come, "L5",
        wrong=KeepsAll,
    ),
)  # fmt: skip
