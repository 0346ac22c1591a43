"""The member: it composes safety and liveness, and says in which order things are believed, promised and sent.

Everything from outside is verified before it changes anything; what is not believed is dropped, counted, and noted the
first time. A promise (`Safety`) is saved in the step that sends what depends on it, and the port holds that back until
the save is durable; the member's own vote counts only from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from policies.config import HotstuffConfig
from policies.consensus.chunks import Chunk, GetChunk
from policies.consensus.hotstuff import messages as m
from policies.consensus.hotstuff.alarm import Alarm
from policies.consensus.hotstuff.asking import Asking
from policies.consensus.hotstuff.catch_up import CatchUp
from policies.consensus.hotstuff.certificates import Verifier, Votes, block_digest, vote_bytes
from policies.consensus.hotstuff.epoch import Epoch, after, genesis
from policies.consensus.hotstuff.evidence import AHEAD_MAX, Witness
from policies.consensus.hotstuff.messages import Block, Certificate, TimeOutCertificate, Vote
from policies.consensus.hotstuff.pacemaker import Pacemaker
from policies.consensus.hotstuff.proposing import Proposing
from policies.consensus.hotstuff.safety import Safety
from policies.consensus.hotstuff.trunk import Trunk
from policies.consensus.hotstuff.validity import well_formed
from policies.consensus.hotstuff.view_change import ViewChange
from policies.consensus.hotstuff.vouching import Vouching
from policies.consensus.messages import Elected, Follows
from policies.consensus.reserved import Reserved, nothing
from policies.consensus.vouching import Vouch
from policies.local import Accused, Allow, GiveUp, Leadership, Propose, Read, Reconfigure, Snapshot
from policies.log import DamagedLog
from policies.port import Policy
from policies.wire import encode

Seen = tuple[int, bytes, bytes, bytes]
NOTHING_SEEN: Seen = (0, b"", b"", b"")

_saved = msgspec.msgpack.Decoder(tuple[int, bytes, bytes, Seen]).decode


class HotStuff(Policy):
    """One member of a log of the HotStuff family.

    Args:
        config: the protocol's parameters, the same at every member.
        members: those of the first epoch, in the order in which they lead.
        applier: path of the state machine on this node, "" for none.
        watchers: paths that are told who leads.
        reserved: which commands are the leader's alone.

    Attributes:
        log_name: what the log is called in all that is signed: the digest of its first epoch's block.
        epoch: the members, and since which block.
        role: "leader" of the present term, or "follower".
        leader: who leads it.
        refused: messages that were not believed, by reason.

    Raises:
        ValueError: no members, or one of them twice.
    """

    messages = (
        m.Proposal, m.Vote, m.TimeOut, m.Status, m.Forward, m.Fetch, m.Blocks, m.CheckpointVote, m.Handover,
        m.Transferred, GetChunk, Chunk, Vouch,
    )  # fmt: skip

    def __init__(
        self,
        config: HotstuffConfig,
        members: tuple[str, ...],
        applier: str = "",
        watchers: tuple[str, ...] = (),
        reserved: Reserved = nothing,
    ) -> None:
        if not members or len(set(members)) != len(members):
            raise ValueError(f"members={members}: expected at least one, and nobody twice")
        self.config, self.applier, self.watchers, self.reserved = config, applier, watchers, reserved
        block, self.epoch = genesis(members)
        self.log_name = self.epoch.root.block
        start = self.epoch.start_view(config.tenure)
        self.safety = Safety(config.chain, config.tenure, self.epoch.root, start)
        self.pace = Pacemaker(config, start)
        self.verifier, self.witness, self.votes = Verifier(self.log_name), Witness(self.log_name), Votes()
        self.trunk = Trunk(config, applier, self.epoch.root.block, block)
        self.proposing, self.asking = Proposing(self), Asking(self)
        self.view_change, self.catch_up, self.alarm = ViewChange(self), CatchUp(self), Alarm(self)
        self.vouching = Vouching(self)
        self.role, self.leader = "follower", ""
        self.parked: tuple[str, m.Proposal, bytes] | None = None  # the newest whose parent is being fetched; its digest
        self.taken = 0  # the last view of which it holds a block that it does not vote for
        self.own: dict[int, Vote] = {}  # own votes whose promise is being written, by token
        self.seen: Seen = NOTHING_SEEN  # as in `TimeOut`
        self.kept = b""  # the promises that were saved last
        self.refused: dict[str, int] = {}

    @property
    def term(self) -> int:
        """The present term."""
        return self.pace.term

    @property
    def commit(self) -> int:
        """Index of the last committed command."""
        return self.trunk.commit

    @property
    def applied(self) -> int:
        """Index of the last command told to the state machine."""
        return self.trunk.applied

    # -- life cycle ----------------------------------------------------------------------------------

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.trunk.port = self.port
        self._join(self.epoch)
        self.catch_up.recover(saved)
        if "safety" in saved:
            epoch, promises, root, self.seen = _saved(saved["safety"])
            if epoch != self.epoch.number:
                raise DamagedLog(
                    f"safety: promises of epoch {epoch}, but what is saved ends in epoch {self.epoch.number}; "
                    "restore this member's disk, or let it join anew under another name"
                )
            self.safety.restore(promises)
            if self.catch_up.start is not None:
                self.safety.start_above(self.catch_up.start.qc)
            if self.safety.high.block not in self.trunk.tree.blocks:
                raise DamagedLog(f"safety: block {self.safety.high.block.hex()} was promised and is not saved")
            if self.trunk.tree.path(root):  # else the checkpoint is above it
                self.commit_to(root, None)
        self.pace.restart(max(self.pace.view, self.safety.high.view + 1), self.port.now)
        self.trunk.tell()
        self.begin_term()
        self._take_up_vote()
        self._drive()

    def _take_up_vote(self) -> None:
        """Say again what an earlier life promised last: its words may be lost, and it may say nothing else."""
        view, digest, leaders, own = self.seen
        block = self.trunk.tree.blocks.get(digest)
        if block is None or view != self.pace.view or digest != self.safety.voted_block:
            return
        if self.leader_of(view + 1) == self.port.me:
            self.count(self.port.me, Vote(block.epoch, view, digest, own))
        if self.role == "leader" and self.safety.follows(block, None):
            self.proposing.proposal = m.Proposal(block, None, leaders)

    def on_timer(self, name: str) -> None:
        if name == "tick":
            self.alarm.tick()
        elif name == "apply":
            self.trunk.tell()
        elif name == "prove":
            self.catch_up.transfer.prove()
        self._drive()

    def on_durable(self, token: int) -> None:
        if self.own:
            for done in [t for t in self.own if t <= token]:
                self.count(self.port.me, self.own.pop(done))
        self._drive()

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Propose):
            self.asking.propose(message.command)
        elif isinstance(message, Read):
            self.asking.read(message.token)
        elif isinstance(message, Snapshot):
            self.catch_up.snapshot(message.index, message.state, message.place)
        elif isinstance(message, Reconfigure):
            self.asking.reconfigure(message.members, message.learners)
        elif isinstance(message, Allow):
            self.asking.allow(message.members, message.learners)
            self.take_up_parked()  # the change that waited for it
        elif isinstance(message, GiveUp) and self.member and message.term == self.term:
            self.view_change.give_up(self.term)
        # Nothing is done about `Transfer`: who leads follows from the view.
        self._drive()

    def on_message(self, sender: str, message: Any) -> None:
        kind = type(message)
        if kind in _OF_AN_EPOCH and message.epoch != self.epoch.number:
            self.catch_up.other_epoch(sender, message.epoch)
        elif kind is m.Vote:
            self._on_vote(sender, message)
        elif kind is m.Proposal:
            self._on_proposal(sender, message)
        elif kind is m.Forward:
            self.asking.on_forward(sender, message)
        elif kind is m.Status:
            self.view_change.on_status(sender, message)
        elif kind is m.TimeOut:
            self.view_change.on_time_out(sender, message)
        elif kind is m.CheckpointVote:
            self.catch_up.on_checkpoint_vote(sender, message)
        elif kind is m.Fetch:
            self.catch_up.on_fetch(sender, message)
        elif kind is m.Blocks:
            self.catch_up.on_blocks(sender, message)
        elif kind is m.Handover:
            self.catch_up.on_handover(sender, message)
        elif kind is m.Transferred:
            self.catch_up.transfer.on_transferred(sender, message)
        elif kind is Vouch:
            self.vouching.on_vouch(sender, message)
        elif kind is GetChunk:
            self.catch_up.transfer.on_get_chunk(sender, message)
        else:
            self.catch_up.transfer.on_chunk(sender, message)
        self._drive()

    def refuse(self, reason: str) -> None:
        """Drop something: count it, and note the first of its kind."""
        count = self.refused[reason] = self.refused.get(reason, 0) + 1
        if count == 1:
            self.port.note("refused", reason=reason)

    # -- who is who ----------------------------------------------------------------------------------

    def _join(self, epoch: Epoch) -> None:
        me = self.port.me
        self.epoch, self.member = epoch, me in epoch.members
        self.others = tuple(name for name in epoch.members if name != me)
        self.audience = (*self.others, *(name for name in epoch.learners if name != me))

    def leader_of(self, view: int) -> str:
        """Return who leads a view; who leads the next one collects its votes."""
        return self.epoch.leader(view, self.config.tenure)

    def begin_term(self) -> None:
        """A term has begun: tell who leads it, and hand its leader what waits."""
        led, self.leader = self.role == "leader", self.leader_of(self.pace.view)
        self.role = "leader" if self.leader == self.port.me else "follower"
        if self.role == "leader":
            self.port.decide("leader", Elected(self.term))
        self.port.decide("follows", Follows(self.term, self.leader))
        self.asking.new_leader(led)
        for path in self.watchers:
            self.port.tell(path, Leadership(self.term, self.leader))

    def begin_epoch(self, epoch: Epoch) -> None:
        """Begin an epoch: promises and votes of the one before mean nothing in it."""
        self._join(epoch)
        start = epoch.start_view(self.config.tenure)
        self.safety = Safety(self.config.chain, self.config.tenure, epoch.root, start)
        self.pace.restart(start, self.port.now)
        self.witness, self.votes = Witness(self.log_name), Votes()
        self.proposing.reset()
        self.vouching.begin_epoch()
        self.asking.changed()
        self.parked = None
        self.own.clear()
        self.seen = NOTHING_SEEN

    def hand_over(self, handover: m.Handover) -> None:
        """The block that changes the members is committed: the next epoch begins."""
        before = {*self.audience, self.port.me}
        self.trunk.forget(self.trunk.tree.prune())
        self.catch_up.keep(handover)
        self.begin_epoch(after(handover, self.epoch.number + 1))
        self.save()
        for name in self.audience:
            if name not in before:
                self.port.send(name, handover)  # it cannot know yet that it is one of us
        self.begin_term()

    def status(self) -> m.Status:
        """Return in which view we are, and why."""
        return m.Status(self.epoch.number, self.safety.high, self.pace.tc)

    def _drive(self) -> None:
        """As the leader, propose if there is a reason to; as anybody, see when we must look again."""
        if self.role == "leader" and self.member and self.pace.view > self.safety.voted:
            self.proposing.lead()
        self.alarm.arm()

    # -- voting --------------------------------------------------------------------------------------

    def _on_proposal(self, sender: str, proposal: m.Proposal) -> None:
        block = proposal.block
        if block.epoch != self.epoch.number:
            return self.catch_up.other_epoch(sender, block.epoch)
        if sender != self.leader_of(block.view):
            return self.refuse("a proposal of no leader")
        if block.view < self.pace.view:
            if block.view // self.config.tenure < self.term:
                self.catch_up.tell(sender)  # it does not know that it was given up
            return None
        digest = block_digest(block)
        signed = vote_bytes(self.log_name, block.epoch, block.view, digest)
        if not self.port.keys.verify(sender, signed, proposal.signature):
            return self.refuse("a proposal without its leader's signature")
        self.saw(sender, block.view, digest, proposal.signature)
        if not self.believe(block.qc) or not self.view_change.believe(proposal.tc):
            return self.refuse("a proposal with a false certificate")
        if not self.safety.follows(block, proposal.tc):
            return self.refuse("a proposal for a view that nothing enters")
        self.enter(block.view, proposal.tc)
        self.pace.heard_ns = self.port.now
        self.learn(block.qc, sender)
        if block.epoch == self.epoch.number:  # else its certificate ended the epoch
            self.parked = (sender, proposal, digest)
            self.take_up_parked()
        return None

    def take_up_parked(self) -> None:
        """Vote for the newest proposal, if its parent is here."""
        if self.parked is None or self.parked[1].block.qc.block not in self.trunk.tree.blocks:
            return
        (leader, proposal, digest), self.parked = self.parked, None
        block = proposal.block
        if block.view < self.pace.view:
            return
        if not well_formed(block, self.trunk.tree, self.config):
            return self.refuse("a malformed block")
        if self.member and not self.asking.allows(block):
            self.parked = (leader, proposal, digest)
            return self.refuse("a change of members that is not decided, or not yet")
        if self.leader_of(block.view + 1) == self.port.me:
            self.count(leader, Vote(block.epoch, block.view, digest, proposal.signature))
        if not self.member:
            if block.view > self.taken:  # one a view, as a member does: its leader may sign any number
                self.taken = block.view
                self.trunk.insert(digest, block)
        elif digest == self.safety.voted_block:
            self._send_vote(block.view, digest, self.seen[3])  # the first may be lost
        elif self.safety.may_vote(block, proposal.tc, self.trunk.tree):
            signature = self.port.keys.sign(vote_bytes(self.log_name, block.epoch, block.view, digest))
            self.promise(digest, block, proposal.signature, signature)
            self._send_vote(block.view, digest, signature)

    def promise(self, digest: bytes, block: Block, leaders: bytes, own: bytes) -> None:
        """Vote for a block: from here on for no other in its view, in this life or a later one."""
        self.safety.vote(block.view, digest)
        self.seen = (block.view, digest, leaders, own)
        self.trunk.insert(digest, block)
        token = self.save()
        if self.leader_of(block.view + 1) == self.port.me:
            self.own[token] = Vote(block.epoch, block.view, digest, own)

    def _send_vote(self, view: int, digest: bytes, signature: bytes) -> None:
        collector = self.leader_of(view + 1)
        if collector != self.port.me:
            self.port.send(collector, Vote(self.epoch.number, view, digest, signature))

    def save(self) -> int:
        """Make the promises durable; what this step sends waits for that."""
        return self._keep(self._promises())

    def save_changes(self) -> None:
        """Make the promises durable, unless these were saved before."""
        promises = self._promises()
        if promises != self.kept:
            self._keep(promises)

    def _promises(self) -> bytes:
        return encode((self.epoch.number, self.safety.saved(), self.trunk.tree.root, self.seen))

    def _keep(self, promises: bytes) -> int:
        self.kept = promises
        return self.port.save("safety", promises)

    def _on_vote(self, sender: str, vote: Vote) -> None:
        if sender not in self.epoch.members:
            return self.refuse("a vote of a stranger")
        if vote.view <= self.safety.high.view:
            return self.saw(sender, vote.view, vote.block, vote.signature)  # a quorum has spoken without it
        if self.votes.counted(sender, vote):
            return None
        signed = vote_bytes(self.log_name, vote.epoch, vote.view, vote.block)
        if not self.port.keys.verify(sender, signed, vote.signature):
            return self.refuse("a vote with a false signature")
        return self.count(sender, vote)

    def count(self, voter: str, vote: Vote) -> None:
        """Count a verified vote."""
        self.saw(voter, vote.view, vote.block, vote.signature)
        qc = self.votes.add(voter, vote, self.epoch.members)
        if qc is not None:
            self.verifier.remember(qc)
            self.learn(qc, voter)

    def saw(self, voter: str, view: int, block: bytes, signature: bytes) -> None:
        """Remember a member's vote, and announce it if it contradicts another; not one of a view far from ours."""
        if view <= self.pace.view + AHEAD_MAX:
            self._witness(voter, view, block, signature)

    def _witness(self, voter: str, view: int, block: bytes, signature: bytes) -> None:
        if voter not in self.epoch.members:
            return
        evidence = self.witness.saw(voter, self.epoch.number, view, block, signature, self.port.keys)
        if evidence is not None:
            self.port.decide("evidence", evidence)
            if self.applier:
                self.port.tell(self.applier, Accused(voter, encode(evidence)))

    # -- believing certificates ----------------------------------------------------------------------

    def believe(self, qc: Certificate) -> bool:
        """Whether a certificate is right; whoever signed twice in it and elsewhere is found out."""
        root = self.epoch.root
        if (qc.view, qc.block, qc.epoch) == (root.view, root.block, root.epoch):
            return True  # its block is committed, whoever signed it
        if qc.epoch != self.epoch.number:
            return False
        if qc in self.verifier.known:
            return True
        if not self.verifier.certificate(self.port.keys, self.epoch.members, qc):
            return False
        for name, signature in qc.votes:
            self._witness(name, qc.view, qc.block, signature)
        return True

    def learn(self, qc: Certificate, sender: str) -> None:
        """Take in a certificate that is believed: enter the next view, rise, lock, commit."""
        if qc.epoch != self.epoch.number:
            return  # the root's, or of an epoch that has just ended
        self.enter(qc.view + 1, None)
        if qc.view <= self.safety.high.view:
            return
        if qc.block not in self.trunk.tree.blocks:
            self.catch_up.want(qc, sender)
            return
        tree = self.trunk.tree
        if (arrived := self.trunk.arrived.get(qc.block)) is not None:
            self.pace.certified(self.port.now - arrived.since_ns)
        self.safety.observe(qc, tree)
        self.proposing.certified(qc)
        by = self.safety.committing(qc, tree)
        if by is not None:
            head, qc = by
            change = self.trunk.change_below(head)
            self.commit_to(change or head, self.catch_up.proof(change, qc) if change else None)
        elif forgotten := tree.thin(self.safety.high.block, self.safety.voted_block):
            self.trunk.forget(forgotten)
            self.save()

    def commit_to(self, head: bytes, handover: m.Handover | None) -> None:
        """Commit up to a block; ``handover`` proves that it ends the epoch, if it does."""
        now = self.port.now
        for _, keys in self.trunk.commit_to(head):
            self.asking.pool.commit(keys)
            self.pace.moved_ns, self.proposing.nudged_ns = now, None
        self.save()  # with the blocks that a commit forgets: what is saved must not name one of them
        self.trunk.tell()
        if handover is not None:
            self.hand_over(handover)
        elif not self.applier and self.catch_up.checkpoints.due(self.applied):
            self.catch_up.snapshot(self.applied, b"")  # without a state machine there is no state

    def enter(self, view: int, tc: TimeOutCertificate | None) -> None:
        """Enter a view by a certificate that is believed."""
        if view <= self.pace.view:
            return
        term = self.term
        if self.pace.enter(view, tc, self.port.now) and self.term != term:
            self.proposing.proposal = None
            self.begin_term()


_OF_AN_EPOCH = (m.Vote, m.TimeOut, m.Status, m.CheckpointVote)
