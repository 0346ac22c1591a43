"""What a member of PBFT is made of, and who is who: the part that does not depend on what is said."""

from __future__ import annotations

from policies.config import PbftConfig
from policies.consensus.messages import Elected, Follows
from policies.consensus.pbft import messages as m
from policies.consensus.pbft.evidence import Statement, Witness
from policies.consensus.pbft.execution import Checkpoints, Execution
from policies.consensus.pbft.liveness import Ahead, Doubts, Patience, Pool
from policies.consensus.pbft.proofs import Committee
from policies.consensus.pbft.safety import Voter
from policies.consensus.pbft.vetting import Vetting
from policies.consensus.reserved import Reserved, nothing
from policies.local import Accused, Leadership
from policies.port import NS_PER_S, Policy
from policies.wire import Message, encode


class Core(Policy):
    """The parts of a member, and what all layers above use.

    Attributes:
        committee: the members of the present epoch, and their quorums.
        member: whether this node is one of them; ``learner``: whether it hears and does not vote.
        others: the other members; ``audience``: and the learners.
        known: everybody who was a member or a learner in any epoch so far: who may ask for what it missed.
        role: ``leader`` for the primary of an active view, else ``follower``; ``leader`` names it.
        dropped: reason to messages refused for it.
    """

    def __init__(
        self,
        config: PbftConfig,
        members: tuple[str, ...],
        applier: str = "",
        watchers: tuple[str, ...] = (),
        reserved: Reserved = nothing,
    ) -> None:
        self.config, self.applier, self.watchers, self.reserved = config, applier, watchers, reserved
        self.window = 2 * config.checkpoint_every  # section 4.3: a small constant times the period of checkpoints
        self.period_ns = int(config.resend_s * NS_PER_S)
        self.committee = Committee(members)
        self.voter, self.execution = Voter(self.committee), Execution(config.chunk_bytes)
        self.checkpoints, self.ahead, self.vetting = Checkpoints(self.committee), Ahead(), Vetting()
        self.pool, self.patience = Pool(config.pool_max), Patience(int(config.timeout_s * NS_PER_S))
        self.doubts, self.witness = Doubts(), Witness(self.committee, self.window)
        self.role, self.leader = "follower", ""
        self.member = self.learner = False
        self.others: tuple[str, ...] = ()
        self.audience: tuple[str, ...] = ()
        self.known: set[str] = set(members)
        self.dropped: dict[str, int] = {}
        self._nothing_yet()

    def _nothing_yet(self) -> None:
        """Begin with nothing asked, said or heard; each layer above adds its own."""

    @property
    def term(self) -> int:
        """The view."""
        return self.voter.view

    @property
    def commit(self) -> int:
        """The last index known decided."""
        return self.execution.applied

    @property
    def applied(self) -> int:
        """The last index told to the state machine, or held by the state it was given."""
        return self.execution.applied

    # -- what layers above add -----------------------------------------------------------------------

    def _propose(self) -> None:
        """As the primary: give waiting requests their places; anybody: expect that somebody does."""

    def _end_epoch(self, end: m.Decided) -> None:
        """A batch that is executed changes the members."""

    def _vouch(self, whom: str) -> None:
        """Vouch for an epoch, to whom no proof can be shown."""

    # -- who is who ----------------------------------------------------------------------------------

    def _join(self, committee: Committee) -> None:
        """Know the members of an epoch."""
        me, self.committee, self.witness = self.port.me, committee, Witness(committee, self.window)
        self.member, self.learner = me in committee.members, me in committee.learners
        self.others = tuple(name for name in committee.members if name != me)
        self.audience = (*self.others, *(name for name in committee.learners if name != me))
        self.known |= {*committee.members, *committee.learners}

    def _follow(self) -> None:
        """A view begins or is left: tell who leads it."""
        view = self.voter.view
        self.leader = self.committee.primary(view) if self.voter.active else ""
        self.role = "leader" if self.leader == self.port.me else "follower"
        if self.role != "leader":
            self.pool.forget_if(self.reserved)  # it was asked as the leader of a view that is over
        if self.role == "leader":
            self.port.decide("leader", Elected(view))
        if self.leader:
            self.port.decide("follows", Follows(view, self.leader))
        for path in self.watchers:
            self.port.tell(path, Leadership(view, self.leader))

    def _drop(self, reason: str) -> None:
        """Refuse something: count it, and note the first of its kind."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        if self.dropped[reason] == 1:
            self.port.note("dropped", reason=reason)

    def _saw(self, *heard: *Statement) -> None:
        """Remember what a member signed, and announce it if it contradicts what it signed before."""
        _, _, view, seq, *_ = heard
        if not (view <= self.voter.view and self.voter.inside(seq)):
            return
        evidence = self.witness.saw(heard)
        if evidence is not None:
            self.port.decide("evidence", evidence)
            if self.applier:
                self.port.tell(self.applier, Accused(evidence.culprit, encode(evidence)))

    def _all(self, message: Message) -> None:
        """Tell all other members."""
        for name in self.others:
            self.port.send(name, message)
