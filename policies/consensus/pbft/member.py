"""PBFT: one member (Castro and Liskov, OSDI 1999; TOCS 20(4), 2002), the version with signatures.

This file routes; what may be signed is in `safety`, what proves what in `proofs`, what is agreed in `execution`, and
what keeps it going in `liveness` and `catch_up`. Where it differs from the paper: members stand for the clients;
commits are signed, so that a decided batch is proof in itself and one peer suffices to catch up; a view is left only by
a quorum that would leave it; and reads go through the log, because the paper's read-only shortcut lets a faulty primary
block a client for ever (arXiv 2107.11144). Membership is fixed: `Reconfigure` is refused with a note.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from zlib import crc32

import msgspec

from policies.config import PbftConfig
from policies.consensus.messages import Chosen, Elected, Follows, Restored
from policies.consensus.pbft import messages as m
from policies.consensus.pbft.catch_up import REPEAT_MAX, lacked
from policies.consensus.pbft.execution import Checkpoints, Execution
from policies.consensus.pbft.liveness import PRIMARY, Ahead, Doubts, Patience, Pool
from policies.consensus.pbft.proofs import Committee
from policies.consensus.pbft.safety import Voter
from policies.local import Committed, Leadership, Propose, Read, Readable, Restore, Snapshot
from policies.log import DamagedLog
from policies.port import NS_PER_S, Policy
from policies.wire import Message

APPLY_MAX = 20
"""Commands executed in one step: each may hold two signatures of 0.11 ms; a step stays below 5 ms."""
BATCH_BYTES = 256 * 1024
"""Commands of one batch, and what one answer to a member that is behind holds (our own bound)."""
COMMAND_BYTES = 1024 * 1024
"""The largest command; it gets a batch of its own (our own bound)."""


class Pbft(Policy):
    """One member. ``applier`` is the path of this node told of commits, ``watchers`` are told who leads."""

    messages = m.MESSAGES

    def __init__(
        self, config: PbftConfig, members: tuple[str, ...], applier: str = "", watchers: tuple[str, ...] = ()
    ) -> None:
        self.config, self.members, self.applier, self.watchers = config, members, applier, watchers
        self.window = 2 * config.checkpoint_every  # section 4.3: a small constant times the period of checkpoints
        self.period_ns = int(config.resend_s * NS_PER_S)
        self.committee = Committee(members)
        self.voter, self.execution = Voter(self.committee), Execution()
        self.checkpoints, self.ahead = Checkpoints(self.committee), Ahead()
        self.pool, self.patience = Pool(config.pool_max), Patience(int(config.timeout_s * NS_PER_S))
        self.doubts = Doubts()
        self.role, self.leader = "follower", ""
        self.number = 0  # of this member's last request
        self.reads: dict[int, list[int]] = {}  # number of a request to the reads that it orders
        self.asked: list[int] = []  # reads that came since
        self.turn = 0  # whom to ask for what is missing
        self.heard: dict[str, tuple[int, int]] = {}  # member to how far it was, and when it was answered
        self.dropped: dict[str, int] = {}  # reason to messages refused for it

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

    # -- life cycle ----------------------------------------------------------------------------------

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        me = self.port.me
        self.others = tuple(name for name in self.members if name != me)
        self.committee.begin(self.port, self.window)
        self.patience.begin(self.port)
        try:
            self.voter.begin(self.port, saved, self.window)
            self.execution.begin(self.port, saved)
        except msgspec.MsgspecError as error:
            raise DamagedLog(f"{me}: a saved record of consensus is not one ({error})") from None
        self.number = self.port.rng.bits64() >> 2  # numbers of another life are not used again
        if self.execution.base.state:
            self._tell_state(self.execution.applied, self.execution.base.state)
        self._follow()
        if not self.voter.active:
            self.ahead.change(self.voter.change())  # it counts for this member as well
        for seq in sorted(self.voter.slots):  # what was promised and perhaps not said
            self._vote(seq)
        self._execute()
        self._propose()
        self._tick()

    def on_timer(self, name: str) -> None:
        if name == "tick":
            self._tick()
        elif name == "apply":
            self._execute()
        elif not self.voter.active:
            self._leave(self.voter.view + 1)
        else:
            alone = self.pool.asked_alone(self.patience.awaited, self.port.me)
            self._ask_all()
            self.patience.again()
            if not alone:
                self._doubt()

    def on_durable(self, token: int) -> None:
        for seq in self.voter.durable(token):
            self._decide(seq)
        self._execute()

    def on_local(self, sender: str, message: Any) -> None:
        kind = type(message)
        if kind is Propose:
            self._submit(message.command)
        elif kind is Read:
            self._read(message.token)
        elif kind is Snapshot:
            if (point := self.execution.snapshot(message.index, message.state)) is not None:
                self._attest(point)
        else:  # the primary follows from the view, and members are fixed
            self.port.note("refused", message=kind.__name__, protocol="pbft")

    def on_message(self, sender: str, message: Any) -> None:
        if sender not in self.members:
            self._drop("stranger")
        else:
            _HANDLERS[type(message)](self, sender, message)

    def _drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        if self.dropped[reason] == 1:
            self.port.note("dropped", reason=reason)

    def _all(self, message: Message) -> None:
        for name in self.others:
            self.port.send(name, message)

    # -- requests ------------------------------------------------------------------------------------

    def _submit(self, command: bytes) -> int:
        """Take a request of this node; returns its number, 0 if there is no room."""
        request = m.Request(self.port.me, self.number + 1, command)
        if len(command) > COMMAND_BYTES or not self.pool.add(request, self.port.now):
            self._drop("request without room")
            return 0
        self.number += 1
        if self.role != "leader" and self.leader:
            self.port.send(self.leader, request)
        self._propose()
        return self.number

    def _on_request(self, sender: str, request: m.Request) -> None:
        if len(request.command) > COMMAND_BYTES:
            self._drop("request too large")
        elif not self._entitled(sender, request):
            self._drop("request unsigned")
        elif self.pool.add(request, self.port.now):
            if self.role != "leader" and self.leader:
                self.port.send(self.leader, request)
            self._propose()

    def _entitled(self, sender: str, r: m.Request) -> bool:
        """Return whether a request is its origin's. Only a signed one may wait at a backup, which may pass it on."""
        if not r.signature:
            return sender == r.origin and self.role == "leader"
        return self.committee.verify(r.origin, r.signature, "request", r.number, r.command)

    def _ask_all(self) -> None:
        """Sign what this member waits for, and ask everybody, so that all wait for it."""
        fresh = [r for r in self.pool.own(self.port.me, self.port.now) if not r.signature]
        for request in fresh[: self.config.max_batch]:
            signature = self.committee.sign("request", request.number, request.command)
            signed = m.Request(request.origin, request.number, request.command, signature)
            self.pool.add(signed, self.port.now)
            self._all(signed)

    def _read(self, token: int) -> None:
        """Order an empty request; what is applied when it comes by answers all reads that began before it was made."""
        if len(self.asked) >= self.config.pool_max:
            self._readable([token], -1)
            return
        self.asked.append(token)
        if not self.reads:
            self._order_reads()

    def _order_reads(self) -> None:
        tokens, self.asked = self.asked, []
        number = self._submit(b"") if tokens else 0
        if number:
            self.reads[number] = tokens
        else:
            self._readable(tokens, -1)

    def _readable(self, tokens: list[int], index: int) -> None:
        for token in tokens if self.applier else ():
            self.port.tell(self.applier, Readable(token, index))

    # -- normal operation ----------------------------------------------------------------------------

    def _propose(self) -> None:
        """As the primary: give waiting requests their places; anybody: expect that somebody does."""
        while self.role == "leader":
            seq = self.voter.next_seq()
            if not self.voter.inside(seq) or seq > self.execution.point.seq + self.config.in_flight:
                break
            if not (batch := self.pool.take(self.config.max_batch, BATCH_BYTES)):
                break
            self._all(self.voter.propose(batch))
        self._wait()

    def _wait(self) -> None:
        if self.voter.active:
            idle = b"" if self.role == "leader" else PRIMARY
            self.patience.wait_for(self.pool.oldest() or self._unfinished() or idle)

    def _unfinished(self) -> bytes:
        """Return the name of the next place if it was proposed and not executed, or nothing."""
        seq = self.execution.point.seq + 1
        slot = self.voter.slots.get(seq)
        return b"place %d" % seq if slot is not None and slot.accepted[0] == self.voter.view else b""

    def _on_pre_prepare(self, sender: str, proposal: m.PrePrepare) -> None:
        view, batch = self.voter.view, proposal.batch
        if sender != self.committee.primary(proposal.view) or not self._fits(batch):
            self._drop("pre-prepare")
        elif proposal.view > view or (proposal.view == view and not self.voter.active):
            self.ahead.propose(sender, proposal)
        elif self.voter.accept(sender, proposal):
            self._vote(proposal.seq)
            self._wait()

    def _fits(self, batch: m.Batch) -> bool:
        size = sum(len(command) for _, _, command in batch)
        return len(batch) <= self.config.max_batch and (size <= BATCH_BYTES or len(batch) == 1)

    def _on_vote(self, sender: str, vote: m.Prepare | m.Commit) -> None:
        if self.voter.hear(sender, vote):
            self._vote(vote.seq)

    def _vote(self, seq: int) -> None:
        for vote in self.voter.vote(seq):
            self._all(vote)
        self._decide(seq)
        self._execute()

    def _decide(self, seq: int) -> None:
        if (entry := self.voter.decide(seq)) is not None:
            self.execution.add(entry)

    def _execute(self) -> None:
        done, executed = 0, False
        while (entry := self.execution.ready()) is not None:
            if done >= APPLY_MAX:
                self.port.set_timer("apply", 0)
                break
            done, executed = done + len(entry.batch), True
            for index, command in self.execution.execute(entry):
                self.port.decide("commit", Chosen(index, 0, crc32(command)))
                if self.applier:
                    self.port.tell(self.applier, Committed(index, 0, command))
            self._executed(entry.batch)
        if executed:
            self.patience.failures, self.doubts.impatient = 0, False
            self._propose()

    def _executed(self, batch: m.Batch) -> None:
        for item in batch:
            self.pool.executed(item)
            if item[0] == self.port.me and item[1] in self.reads:
                self._readable(self.reads.pop(item[1]), self.execution.applied)
                if self.asked:
                    self._order_reads()
        point = self.execution.point
        if point.seq % self.config.checkpoint_every == 0 and point.seq > self.voter.stable.point.seq:
            self._attest(point)

    # -- checkpoints ---------------------------------------------------------------------------------

    def _attest(self, point: m.Point) -> None:
        said = m.Checkpoint(point, self.committee.sign("checkpoint", point))
        self._all(said)
        self._on_checkpoint(self.port.me, said)

    def _on_checkpoint(self, sender: str, said: m.Checkpoint) -> None:
        if (stable := self.checkpoints.add(sender, said)) is not None:
            self._stabilise(stable)

    def _on_stable(self, sender: str, stable: m.Stable) -> None:
        if stable.point.seq > self.voter.stable.point.seq:
            if self.committee.proves_stable(stable):
                self._stabilise(stable)
            else:
                self._drop("checkpoint without proof")

    def _stabilise(self, stable: m.Stable) -> None:
        self.execution.shared(stable)
        if self.voter.stabilise(stable):
            self._propose()

    # -- views (sections 4.4 and 4.5.2) --------------------------------------------------------------

    def _follow(self) -> None:
        view = self.voter.view
        self.leader = self.committee.primary(view) if self.voter.active else ""
        self.role = "leader" if self.leader == self.port.me else "follower"
        if self.role == "leader":
            self.port.decide("leader", Elected(view))
        if self.leader:
            self.port.decide("follows", Follows(view, self.leader))
        for path in self.watchers:
            self.port.tell(path, Leadership(view, self.leader))

    def _doubt(self) -> None:
        """This member waited in vain: it says so, and leaves the view if a quorum would."""
        self.doubts.impatient = True
        self._say_status()
        self._leave_together()

    def _leave_together(self) -> None:
        view, others = self.voter.view, self.doubts.others(self.voter.view)
        if not self.voter.active or others <= self.committee.faults:
            return
        if not self.doubts.impatient:  # one of them is correct, and may need the others to go on
            self.doubts.impatient = True
            self._say_status()
        if others + 1 >= self.committee.quorum:
            self._leave(view + 1)

    def _leave(self, view: int) -> None:
        change = self.voter.leave(view)
        self.doubts.impatient = False
        self.patience.failures += 1
        self.patience.wait_for(b"")
        self._follow()
        self.ahead.change(change)
        self._all(change)
        self._gather()

    def _on_view_change(self, sender: str, change: m.ViewChange) -> None:
        if change.view < self.voter.view + self.voter.active or not self.committee.signed(change):
            return
        if self.ahead.change(change):
            pulled = self.ahead.pulls_to(self.voter.view, self.committee.faults)
            if pulled > self.voter.view:
                self._leave(pulled)
            else:
                self._gather()

    def _gather(self) -> None:
        """While moving to a view: be patient once a quorum moves there or past it, and begin it as its primary."""
        view, changes = self.voter.view, self.ahead.for_view(self.voter.view)
        if self.voter.active or self.ahead.moving_to(view) < self.committee.quorum:
            return
        self.patience.wait_for(b"view %d" % view)
        if self.committee.primary(view) == self.port.me:
            proven = tuple(change for change in changes if self.committee.proves_change(change))
            if len(proven) >= self.committee.quorum:
                self._on_new_view(self.port.me, self.voter.new_view(proven[: self.committee.quorum]))

    def _on_new_view(self, sender: str, new: m.NewView) -> None:
        if not self.voter.enter(new):
            return
        self.patience.wait_for(b"")
        self.doubts.impatient = False
        self.pool.begin_view(self.port.me)
        self._follow()
        if self.role == "leader":
            self._all(new)
        else:
            self._repeat_requests(self.port.now)
        for proposal in self.ahead.proposals_of(self.leader, new.view):
            self.voter.accept(self.leader, proposal)
        for seq in sorted(self.voter.slots):
            self._vote(seq)
        for seq, digest in self.voter.lacking()[:REPEAT_MAX]:
            self._all(m.Missing(seq, digest))
        self._propose()

    # -- what was lost is said again -----------------------------------------------------------------

    def _tick(self) -> None:
        self.port.set_timer("tick", self.period_ns)
        self.turn = (self.turn + 1) % len(self.others)
        self._say_status()
        ask, voter = self.others[self.turn], self.voter
        for seq, digest in voter.lacking()[:REPEAT_MAX]:
            self.port.send(ask, m.Missing(seq, digest))
        if not voter.active:
            self._all(voter.change())
            self._ask_all()  # the others may go on without this member, and order what it asks
        self._repeat_requests(self.port.now - self.period_ns)

    def _say_status(self) -> None:
        voter, ask = self.voter, self.others[self.turn]
        done, low = self.execution.point.seq, voter.stable.point.seq
        self._all(m.Status(voter.view, voter.active, self.doubts.impatient, done, low, ask))

    def _repeat_requests(self, before: int) -> None:
        if self.role == "leader":
            return
        for _, request in zip(range(REPEAT_MAX), self.pool.own(self.port.me, before), strict=False):
            if request.signature:
                self._all(request)
            elif self.leader:
                self.port.send(self.leader, request)

    def _on_status(self, sender: str, status: m.Status) -> None:
        """Tell a peer what it lacks, at most twice in a period; votes only if it has not moved since it last spoke."""
        self.doubts.hear(sender, status.view, status.impatient)
        if sender == self.leader and status.view == self.voter.view and self.patience.awaited == PRIMARY:
            self.doubts.impatient = False
            self.patience.again()
        self._leave_together()
        seq, answered = self.heard.get(sender, (-1, -self.period_ns))
        if self.port.now - answered < self.period_ns // 2:
            return
        self.heard[sender] = (status.executed, self.port.now)
        stuck, said = status.executed == seq, self.checkpoints.said.get(self.port.me, ())
        lacking = lacked(self.voter, status, said, stuck)
        if status.ask == self.port.me:
            lacking += self.execution.lacked(status.executed, self.window, BATCH_BYTES)
        for answer in lacking:
            self.port.send(sender, answer)

    def _on_missing(self, sender: str, missing: m.Missing) -> None:
        slot = self.voter.slots.get(missing.seq)
        if slot is not None and missing.digest in slot.bodies:
            self.port.send(sender, m.Body(missing.seq, slot.bodies[missing.digest]))

    def _on_body(self, sender: str, body: m.Body) -> None:
        if self._fits(body.batch) and (body.seq, m.digest_of(body.batch)) in self.voter.lacking():
            self.voter.keep(body.seq, body.batch)
            self._vote(body.seq)

    def _on_decided(self, sender: str, entry: m.Decided) -> None:
        done = self.execution.point.seq
        if not done < entry.seq <= done + self.window or entry.seq in self.execution.decided:
            return
        if self.voter.proven(entry):
            self.execution.add(entry)
            self._execute()
        else:
            self._drop("decision without proof")

    def _on_transferred(self, sender: str, given: m.Transferred) -> None:
        if given.stable.point.applied <= self.execution.applied:
            return
        if not (self.committee.proves_stable(given.stable) and self.execution.restore(given)):
            self._drop("state without proof")
            return
        self._tell_state(given.stable.point.applied, given.state)
        self._stabilise(given.stable)
        self._execute()

    def _tell_state(self, index: int, state: bytes) -> None:
        """A state stands for all commands up to ``index``; its view is not one that all members share."""
        self.port.decide("restore", Restored(index, 0))
        if self.applier:
            self.port.tell(self.applier, Restore(index, state))


_HANDLERS: dict[type[Message], Callable[[Pbft, str, Any], None]] = {
    m.Request: Pbft._on_request,
    m.PrePrepare: Pbft._on_pre_prepare,
    m.Prepare: Pbft._on_vote,
    m.Commit: Pbft._on_vote,
    m.Checkpoint: Pbft._on_checkpoint,
    m.Stable: Pbft._on_stable,
    m.ViewChange: Pbft._on_view_change,
    m.NewView: Pbft._on_new_view,
    m.Status: Pbft._on_status,
    m.Missing: Pbft._on_missing,
    m.Body: Pbft._on_body,
    m.Decided: Pbft._on_decided,
    m.Transferred: Pbft._on_transferred,
}
