"""The member: it composes safety and liveness, and says in which order things are believed, promised and sent.

Everything from outside is verified before it changes anything; what is not believed is dropped, counted, and noted the
first time. A promise (`Safety`) is saved in the step that sends what depends on it, and the port holds that back until
the save is durable; the member's own vote counts only from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from policies.config import HotstuffConfig
from policies.consensus.hotstuff import messages as m
from policies.consensus.hotstuff.certificates import (
    Verifier,
    Votes,
    block_digest,
    time_out_bytes,
    time_out_certificate,
    vote_bytes,
)
from policies.consensus.hotstuff.epoch import Epoch, change_in, change_of, genesis
from policies.consensus.hotstuff.evidence import Witness
from policies.consensus.hotstuff.messages import Block, Certificate, Entry, TimeOutCertificate, Vote
from policies.consensus.hotstuff.pacemaker import NEVER, Pacemaker
from policies.consensus.hotstuff.pool import Pool
from policies.consensus.hotstuff.safety import Safety
from policies.consensus.hotstuff.sync import BLOCKS_MAX, BYTES_MAX, Sync
from policies.consensus.hotstuff.trunk import Trunk
from policies.consensus.messages import Elected
from policies.local import Leadership, Propose, Read, Readable
from policies.port import NS_PER_S, Policy
from policies.wire import encode

_promises = msgspec.msgpack.Decoder(tuple[bytes, bytes, bytes]).decode


class HotStuff(Policy):
    """One member of a log of the HotStuff family.

    Attributes:
        epoch: the members, and since which block.
        role: "leader" of the present view's term, or "follower".
        leader: who leads it.
        refused: messages that were not believed, by reason.
    """

    messages = (m.Proposal, m.Vote, m.TimeOut, m.Status, m.Forward, m.Fetch, m.Blocks)

    def __init__(
        self,
        config: HotstuffConfig,
        members: tuple[str, ...],
        applier: str = "",
        watchers: tuple[str, ...] = (),
    ) -> None:
        if not members or len(set(members)) != len(members):
            raise ValueError(f"members={members}: expected at least one, and nobody twice")
        self.config, self.applier, self.watchers = config, applier, watchers
        block, self.epoch = genesis(members)
        start = self.epoch.start_view(config.tenure)
        self.safety = Safety(config.chain, config.tenure, self.epoch.root, start)
        self.pace = Pacemaker(config, start)
        self.pool, self.sync = Pool(config.pool_max), Sync()
        self.verifier, self.witness, self.votes = Verifier(), Witness(), Votes()
        self.trunk = Trunk(config.tenure, applier, self.epoch.root.block, block)
        self.role, self.leader = "follower", ""
        self.proposal: m.Proposal | None = None  # ours, not certified yet
        self.parked: tuple[str, m.Proposal] | None = None  # the newest whose parent is being fetched
        self.own: dict[int, Vote] = {}  # own votes whose promise is being written, by token
        self.seen = (0, b"", b"", b"")  # as in `TimeOut`
        self.announced, self.spoke_ns = -1, 0  # last view told without a proposal; when we last spoke as the leader
        self.resent_ns = 0
        self.armed_ns = NEVER
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
        self.trunk.recover(saved)
        if "safety" in saved:
            promises, root, seen = _promises(saved["safety"])
            self.safety.restore(promises)
            self.seen = _seen(seen)
            if self.trunk.tree.path(root):
                self._commit(root)
        self._join_epoch(self.epoch)
        self.pace.restart(max(self.pace.view, self.safety.high.view + 1), self.port.now)
        self._begin_term()
        self._take_up_vote()
        self._drive()

    def _take_up_vote(self) -> None:
        """Say again what an earlier life promised last: its words may be lost, and it may say nothing else."""
        view, digest, leaders, own = self.seen
        block = self.trunk.tree.blocks.get(digest)
        if block is None or view != self.pace.view or digest != self.safety.voted_block:
            return
        if self._leads(view + 1) == self.port.me:
            self._count(self.port.me, Vote(block.epoch, view, digest, own))
        if self.role == "leader" and self.safety.follows(block, None):
            self.proposal = m.Proposal(block, None, leaders)

    def on_timer(self, name: str) -> None:
        if name == "tick":
            self.armed_ns = NEVER
            self._tick()
        elif name == "apply":
            self.trunk.tell()
        self._drive()

    def on_durable(self, token: int) -> None:
        for done in [t for t in self.own if t <= token]:
            self._count(self.port.me, self.own.pop(done))
        self._drive()

    def on_local(self, sender: str, message: Any) -> None:
        kind = type(message)
        if kind is Propose and message.command:
            self._ask(m.COMMAND, message.command)
        elif kind is Read:
            self._read(message.token)
        self._drive()

    def on_message(self, sender: str, message: Any) -> None:
        self._HANDLERS[type(message)](self, sender, message)
        self._drive()

    def _refuse(self, reason: str) -> None:
        count = self.refused[reason] = self.refused.get(reason, 0) + 1
        if count == 1:
            self.port.note("refused", reason=reason)

    # -- who is who ----------------------------------------------------------------------------------

    def _join_epoch(self, epoch: Epoch) -> None:
        me = self.port.me
        self.epoch, self.member = epoch, me in epoch.members
        self.others = tuple(name for name in epoch.members if name != me)
        self.audience = (*self.others, *(name for name in epoch.learners if name != me))

    def _leads(self, view: int) -> str:
        return self.epoch.leader(view, self.config.tenure)

    def _begin_term(self) -> None:
        """A term has begun: tell who leads it, and hand its leader what waits."""
        self.leader = self._leads(self.pace.view)
        self.role = "leader" if self.leader == self.port.me else "follower"
        if self.role == "leader":
            self.port.decide("leader", Elected(self.term))
        else:
            self._forward(self.pool.of(self.port.me, self.port.now, self.config.batch_max), (self.leader,), False)
        for path in self.watchers:
            self.port.tell(path, Leadership(self.term, self.leader))

    def _say(self, message: Any) -> None:
        """Speak as the leader, to all who listen, itself among them."""
        self.spoke_ns = self.pace.heard_ns = self.port.now
        for name in self.audience:
            self.port.send(name, message)

    # -- asking --------------------------------------------------------------------------------------

    def _read(self, token: int) -> None:
        entry = self._ask(m.READ, b"")
        if entry is not None:
            self.trunk.reads[entry.number] = token
        elif self.applier:
            self.port.tell(self.applier, Readable(token, -1))

    def _ask(self, kind: int, data: bytes) -> Entry | None:
        """Put something of our own into the pool and before the leader; None if there is no room."""
        # The number is drawn: who could guess it could have a read ordered before it was asked.
        entry = Entry(self.port.me, self.port.rng.bits64() >> 1, kind, data)
        if len(data) > self.config.batch_max_bytes or self.pool.add(entry, self.port.me, self.port.now) is None:
            self._refuse("no room for a command of our own")
            return None
        if self.role != "leader":
            self._forward((entry,), (self.leader,), False)
        return entry

    def _forward(self, entries: tuple[Entry, ...], to: tuple[str, ...], everybody: bool) -> None:
        if entries:
            message = m.Forward(entries, everybody)
            for name in to:
                self.port.send(name, message)

    def _on_forward(self, sender: str, forward: m.Forward) -> None:
        if sender not in self.audience or len(forward.entries) > self.config.batch_max:
            return self._refuse("entries of a stranger, or too many")
        fresh = tuple(e for e in forward.entries if self._orderly(e) and self.pool.add(e, sender, self.port.now))
        if forward.all and self.role != "leader":
            self._forward(fresh, (self.leader,), False)  # whoever asked may be unheard by the leader, or ignored

    def _orderly(self, entry: Entry) -> bool:
        if len(entry.data) > self.config.batch_max_bytes or not 0 <= entry.kind <= m.RECONFIGURE:
            return False
        return entry.kind != m.RECONFIGURE or change_of(entry.data) is not None

    # -- proposing -----------------------------------------------------------------------------------

    def _drive(self) -> None:
        """As the leader, propose if there is a reason to; as anybody, see when we must look again."""
        if self.role == "leader" and self.member and self.pace.view > self.safety.voted:
            self._lead()
        self._arm()

    def _lead(self) -> None:
        safety, view, tc = self.safety, self.pace.view, self.pace.tc
        high = safety.high
        block = Block(self.epoch.number, view, self.trunk.tree.blocks[high.block].height + 1, high, ())
        if not safety.may_vote(block, tc, self.trunk.tree):
            return  # what entered the view is a certificate whose block is still being fetched
        path = self.trunk.tree.path(high.block)
        blocks = self.trunk.tree.blocks
        entries: tuple[Entry, ...] = ()
        if not any(change_in(blocks[digest]) for digest in path):
            ordered = {key for digest in path for key in self.trunk.arrived[digest].keys}
            entries = self.pool.take(ordered, self.config.batch_max, self.config.batch_max_bytes)
        idle = not any(blocks[digest].entries for digest in path)
        if idle and not self._worth_a_block(entries):
            return
        block = msgspec.structs.replace(block, entries=entries)
        digest = block_digest(block)
        signature = self.port.keys.sign(vote_bytes(block.epoch, view, digest))
        self.proposal = m.Proposal(block, None if safety.follows(block, None) else tc, signature)
        self._promise(digest, block, signature, signature)
        self._say(self.proposal)

    def _worth_a_block(self, entries: tuple[Entry, ...]) -> bool:
        """Whether an idle leader begins a block now: not without entries, nor before it has waited for company."""
        now, wait_ns = self.port.now, int(self.config.batch_wait_s * NS_PER_S)
        if entries:
            ripe_ns = (self.pool.oldest_ns or 0) + wait_ns
            if len(entries) == self.config.batch_max or now >= ripe_ns:
                return True
            self.port.set_timer("batch", ripe_ns - now)
        if self.announced != self.pace.view:
            self.announced = self.pace.view  # else nobody would hear of the last certificate
            self._say(self._status())
        return False

    def _status(self) -> m.Status:
        return m.Status(self.epoch.number, self.safety.high, self.pace.tc)

    # -- voting --------------------------------------------------------------------------------------

    def _on_proposal(self, sender: str, proposal: m.Proposal) -> None:
        block = proposal.block
        if block.epoch != self.epoch.number:
            return self._refuse("a proposal of another epoch")
        if sender != self._leads(block.view):
            return self._refuse("a proposal of no leader")
        if block.view < self.pace.view:
            if block.view // self.config.tenure < self.term:
                self.port.send(sender, self._status())  # it does not know that it was given up
            return None
        digest = block_digest(block)
        if not self.port.keys.verify(sender, vote_bytes(block.epoch, block.view, digest), proposal.signature):
            return self._refuse("a proposal without its leader's signature")
        self._witness(sender, block.view, digest, proposal.signature)
        if not self._believe(block.qc) or not self._believe_time_outs(proposal.tc):
            return self._refuse("a proposal with a false certificate")
        if not self.safety.follows(block, proposal.tc):
            return self._refuse("a proposal for a view that nothing enters")
        self._enter(block.view, proposal.tc)
        self.pace.heard_ns = self.port.now
        self._learn(block.qc, sender)
        if block.qc.block not in self.trunk.tree.blocks:
            self.parked = (sender, proposal)
            return None
        return self._vote(sender, digest, proposal)

    def _vote(self, leader: str, digest: bytes, proposal: m.Proposal) -> None:
        block = proposal.block
        if not self._well_formed(block):
            return self._refuse("a malformed block")
        if self._leads(block.view + 1) == self.port.me:
            self._count(leader, Vote(block.epoch, block.view, digest, proposal.signature))
        if not self.member:
            self.trunk.insert(digest, block)
        elif digest == self.safety.voted_block:
            self._send_vote(block.view, digest, self.seen[3])  # the first may be lost
        elif self.safety.may_vote(block, proposal.tc, self.trunk.tree):
            signature = self.port.keys.sign(vote_bytes(block.epoch, block.view, digest))
            self._promise(digest, block, proposal.signature, signature)
            self._send_vote(block.view, digest, signature)
        return None

    def _well_formed(self, block: Block) -> bool:
        """Whether a block keeps the rules that do not depend on what this member has voted for."""
        entries, tree = block.entries, self.trunk.tree
        if block.height != tree.blocks[block.qc.block].height + 1 or len(entries) > self.config.batch_max:
            return False
        size = sum(len(entry.data) for entry in entries)
        if not all(map(self._orderly, entries)) or (len(entries) > 1 and size > self.config.batch_max_bytes):
            return False
        if len(entries) > 1 and any(entry.alone for entry in entries):
            return False
        return not (entries and any(change_in(tree.blocks[digest]) for digest in tree.path(block.qc.block)))

    def _promise(self, digest: bytes, block: Block, leaders: bytes, own: bytes) -> None:
        """Vote for a block: from here on for no other in its view, in this life or a later one."""
        self.safety.vote(block.view, digest)
        self.seen = (block.view, digest, leaders, own)
        self.trunk.insert(digest, block)
        token = self._save()
        if self._leads(block.view + 1) == self.port.me:
            self.own[token] = Vote(block.epoch, block.view, digest, own)

    def _send_vote(self, view: int, digest: bytes, signature: bytes) -> None:
        collector = self._leads(view + 1)
        if collector != self.port.me:
            self.port.send(collector, Vote(self.epoch.number, view, digest, signature))

    def _save(self) -> int:
        return self.port.save("safety", encode((self.safety.saved(), self.trunk.tree.root, encode(self.seen))))

    def _on_vote(self, sender: str, vote: Vote) -> None:
        if sender not in self.epoch.members or vote.epoch != self.epoch.number or vote.view < self.safety.high.view:
            return self._refuse("a vote of a stranger, or for another time")
        if not self.port.keys.verify(sender, vote_bytes(vote.epoch, vote.view, vote.block), vote.signature):
            return self._refuse("a vote with a false signature")
        return self._count(sender, vote)

    def _count(self, voter: str, vote: Vote) -> None:
        self._witness(voter, vote.view, vote.block, vote.signature)
        qc = self.votes.add(voter, vote, self.epoch.members)
        if qc is not None:
            self.verifier.remember(qc)
            self._learn(qc, voter)

    def _witness(self, voter: str, view: int, block: bytes, signature: bytes) -> None:
        evidence = self.witness.saw(voter, self.epoch.number, view, block, signature)
        if evidence is not None:
            self.port.decide("evidence", evidence)

    # -- believing certificates ----------------------------------------------------------------------

    def _believe(self, qc: Certificate) -> bool:
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

    def _believe_time_outs(self, tc: TimeOutCertificate | None) -> bool:
        if tc is None:
            return True
        right = tc.epoch == self.epoch.number and self._believe(tc.high)
        return right and self.verifier.time_outs(self.port.keys, self.epoch.members, tc)

    def _learn(self, qc: Certificate, sender: str) -> None:
        """Take in a certificate that is believed: enter the next view, rise, lock, commit."""
        self._enter(qc.view + 1, None)
        if qc.view <= self.safety.high.view:
            return
        if qc.block not in self.trunk.tree.blocks:
            if self.sync.want(qc):
                self._fetch(sender)
            return
        self.safety.observe(qc, self.trunk.tree)
        if self.proposal is not None and self.proposal.block.view <= qc.view:
            self.proposal = None
        head = self.safety.commits(qc, self.trunk.tree)
        if head is not None:
            self._commit(head)
        self.trunk.forget(self.trunk.tree.thin(self.safety.high.block, self.safety.voted_block))

    def _commit(self, head: bytes) -> None:
        now = self.port.now
        for since_ns, keys in self.trunk.commit_to(head):
            self.pool.commit(keys)
            if keys:
                self.pace.committed(now - since_ns, now)
        self.trunk.tell()

    def _enter(self, view: int, tc: TimeOutCertificate | None) -> None:
        term = self.term
        if self.pace.enter(view, tc, self.port.now) and self.term != term:
            self.proposal = None
            self._begin_term()

    # -- giving a leader up --------------------------------------------------------------------------

    def _give_up(self, term: int) -> None:
        self.safety.give_up(term)
        self.pace.give_up(term, self.port.now)
        self._save()
        high = self.safety.high
        signature = self.port.keys.sign(time_out_bytes(self.epoch.number, term, high.view))
        time_out = m.TimeOut(self.epoch.number, term, high, signature, self.seen)
        for name in self.others:
            self.port.send(name, time_out)
        self.pace.add(self.port.me, time_out)
        self._look_at(self.port.me, self.seen)
        self._gather(term)

    def _on_time_out(self, sender: str, time_out: m.TimeOut) -> None:
        if sender not in self.epoch.members or time_out.epoch != self.epoch.number:
            return self._refuse("a time-out of a stranger, or of another epoch")
        if time_out.term < self.term:
            self.port.send(sender, self._status())
            return None
        before = self.pace.time_outs.get(sender)
        if before is not None and before.term >= time_out.term:
            return None  # said again
        data = time_out_bytes(time_out.epoch, time_out.term, time_out.high.view)
        if not self.port.keys.verify(sender, data, time_out.signature) or not self._believe(time_out.high):
            return self._refuse("a false time-out")
        self.pace.add(sender, time_out)
        self._learn(time_out.high, sender)
        self._look_at(sender, time_out.seen)
        self._gather(time_out.term)
        term = self.pace.to_join(self.epoch.members)
        if term is not None and self.member:
            self._give_up(term)
        return None

    def _look_at(self, sender: str, seen: tuple[int, bytes, bytes, bytes]) -> None:
        """Take in the last vote of who gave up: it may complete a certificate, or show a leader's two blocks."""
        view, block, leaders, own = seen
        verify, data = self.port.keys.verify, vote_bytes(self.epoch.number, view, block)
        leader = self._leads(view)
        if self.witness.contradicts(leader, view, block) and verify(leader, data, leaders):
            self._witness(leader, view, block, leaders)
        if view > self.safety.high.view and (sender == self.port.me or verify(sender, data, own)):
            self._count(sender, Vote(self.epoch.number, view, block, own))

    def _gather(self, term: int) -> None:
        """Enter the next term if a quorum has given this one up."""
        tc = time_out_certificate(self.pace.time_outs, term, self.epoch.members)
        if tc is not None and term >= self.term:
            self.verifier.remember(tc)
            self._enter(self.pace.entered_by(tc), tc)

    def _on_status(self, sender: str, status: m.Status) -> None:
        if status.epoch != self.epoch.number:
            return self._refuse("a status of another epoch")
        if not self._believe(status.high) or not self._believe_time_outs(status.tc):
            return self._refuse("a status with a false certificate")
        entered = max(status.high.view + 1, 0 if status.tc is None else self.pace.entered_by(status.tc))
        if entered // self.config.tenure < self.term:
            self.port.send(sender, self._status())
            return None
        self._enter(entered, status.tc if entered > status.high.view + 1 else None)
        self._learn(status.high, sender)
        if sender == self.leader:
            self.pace.heard_ns = self.port.now
        return None

    # -- fetching ------------------------------------------------------------------------------------

    def _fetch(self, whom: str) -> None:
        missing = self.sync.missing
        if missing is not None:
            self.port.send(whom, m.Fetch(missing, self.trunk.tree.height))
            self.sync.asked_ns = self.port.now

    def _on_fetch(self, sender: str, fetch: m.Fetch) -> None:
        blocks: list[Block] = []
        size = 0
        for block in self.trunk.tree.down(fetch.block, fetch.height):
            size += sum(len(entry.data) for entry in block.entries)
            blocks.append(block)
            if len(blocks) == BLOCKS_MAX or size > BYTES_MAX:
                break
        if blocks:
            self.port.send(sender, m.Blocks(tuple(blocks)))

    def _on_blocks(self, sender: str, answer: m.Blocks) -> None:
        if not self.sync.take(answer.blocks):
            return self._refuse("blocks that were not asked for")
        missing = self.sync.missing
        if missing not in self.trunk.tree.blocks:
            return self._fetch(sender)
        wanted = self.sync.wanted
        for digest, block in self.sync.finish():
            self.trunk.insert(digest, block)
        assert wanted is not None
        self._learn(wanted, sender)
        if self.parked is not None:
            (leader, proposal), self.parked = self.parked, None
            self._on_proposal(leader, proposal)
        return None

    # -- time ----------------------------------------------------------------------------------------

    def _deadlines(self) -> tuple[int, int, int, int]:
        """Return when to give up, to speak as the leader, to ask all about our own entries, and to fetch again."""
        pace, quarter = self.pace, self.pace.timeout_ns // 4
        give_up = speak = resend = fetch = NEVER
        oldest = self.pool.oldest_ns
        if self.member:
            give_up = pace.deadline(oldest, self._unfinished_ns())
        if self.role == "leader" and self.member:
            speak = self.spoke_ns + (quarter if self.proposal is not None else pace.heartbeat_ns)
        if oldest is not None:
            resend = max(oldest, self.resent_ns) + 2 * quarter
        if self.sync.wanted is not None:
            fetch = self.sync.asked_ns + quarter
        return give_up, speak, resend, fetch

    def _unfinished_ns(self) -> int | None:
        """Return since when there is a block with entries that is certified, or may be, and not committed."""
        safety = self.safety
        tip = safety.voted_block if safety.voted == self.pace.view and safety.voted_block else safety.high.block
        blocks = self.trunk.unfinished(tip)
        return self.trunk.arrived[blocks[0]].since_ns if blocks else None

    def _arm(self) -> None:
        at = min(self._deadlines())
        if at < self.armed_ns:
            self.armed_ns = at
            self.port.set_timer("tick", at - self.port.now)

    def _tick(self) -> None:
        now = self.port.now
        give_up, speak, resend, fetch = self._deadlines()
        if now >= fetch and self.others:
            self._fetch(self.sync.ask(self.others, now))
        if now >= resend:
            self.resent_ns = now
            late = self.pool.of(self.port.me, now - self.pace.timeout_ns // 2, self.config.batch_max)
            self._forward(late, self.others, True)
        if now >= speak:
            self._say(self.proposal if self.proposal is not None else self._status())
        if now >= give_up:
            self._give_up(max(self.term, self.pace.given_up))

    _HANDLERS: ClassVar[Any] = {
        m.Proposal: _on_proposal, m.Vote: _on_vote, m.TimeOut: _on_time_out, m.Status: _on_status,
        m.Forward: _on_forward, m.Fetch: _on_fetch, m.Blocks: _on_blocks,
    }  # fmt: skip


def _seen(data: bytes) -> tuple[int, bytes, bytes, bytes]:
    view, block, leaders, own = msgspec.msgpack.decode(data)
    return view, block, leaders, own
