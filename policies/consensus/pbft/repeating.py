"""What was lost is said again: by the status that everybody tells in each period. Liveness."""

from __future__ import annotations

from policies.consensus.chunks import BYTES_PER_S, Serving
from policies.consensus.pbft import messages as m
from policies.consensus.pbft.catch_up import REPEAT_MAX, lacked
from policies.consensus.pbft.epochs import epoch_of
from policies.consensus.pbft.liveness import PRIMARY
from policies.consensus.pbft.requests import BATCH_BYTES
from policies.consensus.pbft.views import Views
from policies.wire import encode


class Repeating(Views):
    """A member that repeats itself, and helps others on.

    Attributes:
        turn: whom to ask for what is missing.
        heard: node to how far it was, and when it was answered.
        callers: nodes that called from a later epoch and were not asked since, in the order in which they called.
        called_ns: when this node last answered a call.
        bodies: who was sent batches that it asked for, and how many bytes of them.
        arrived: members of this epoch that are known to be in it, while this node is none of them.
    """

    def _nothing_yet(self) -> None:
        super()._nothing_yet()
        self.turn = 0
        self.heard: dict[str, tuple[int, int]] = {}
        self.callers: dict[str, None] = {}
        self.called_ns = -self.period_ns
        self.bodies = Serving(BYTES_PER_S)
        self.arrived: set[str] = set()

    # -- in each period ------------------------------------------------------------------------------

    def _tick(self) -> None:
        self.port.set_timer("tick", self.period_ns)
        self.turn = (self.turn + 1) % len(self.others)
        if not self.member:
            self._look_on()
            return
        self._say_status()
        ask, voter = self.others[self.turn], self.voter
        for seq, digest in voter.lacking()[:REPEAT_MAX]:
            self.port.send(ask, m.Missing(seq, digest))
        if not voter.active:
            self._all(voter.change())
            self._ask_all()  # the others may go on without this member, and order what it asks
        self._repeat_requests(self.port.now - self.period_ns)

    def _look_on(self) -> None:
        """What who does not vote does in each period. A learner asks on, and asks all for what it wants ordered.

        Who was a member calls the new ones until a quorum of them has come, for it may be alone to know of them; then
        it is silent. So is who is to be a member one day, until it is called.
        """
        if self.learner:
            self._say_status()
            self._ask_all()
            self._repeat_requests(self.port.now - self.period_ns)
        elif self.committee.number and self.port.me in self.known and len(self.arrived) < self.committee.quorum:
            self._say_status()

    def _status(self, ask: str) -> m.Status:
        voter = self.voter
        done, low = self.execution.point.seq, voter.stable.point.seq
        return m.Status(voter.view, voter.active, self.doubts.impatient, done, low, ask)

    def _say_status(self) -> None:
        status = self._status(self.others[self.turn])
        for name in self.audience:
            self.port.send(name, status)

    # -- what others say of themselves ---------------------------------------------------------------

    def _on_status(self, sender: str, status: m.Status) -> None:
        epoch, mine = epoch_of(status.view), self.committee.number
        if epoch > mine:
            self._on_call(sender)
        elif sender not in self.known:
            self._drop("stranger")
        elif epoch < mine or not self.member:
            if epoch == mine and sender in self.others:
                self.arrived.add(sender)
            self._help(sender, status)
        elif sender in self.others:
            self._on_member(sender, status)
        else:
            self._help(sender, status)
            if sender not in self.audience:
                self.port.send(sender, self._status(""))  # it calls us, and we are here

    def _on_call(self, sender: str) -> None:
        """Somebody is in a later epoch: ask one for the proof, and for what leads there.

        One in half a period, and all who call in turn, so that a liar's flood of calls keeps nobody from being asked.
        """
        self.callers.setdefault(sender)
        if self.port.now - self.called_ns >= self.period_ns // 2:
            self.called_ns, whom = self.port.now, next(iter(self.callers))
            del self.callers[whom]
            self.port.send(whom, self._status(whom))

    def _on_member(self, sender: str, status: m.Status) -> None:
        self.doubts.hear(sender, status.view, status.impatient)
        if sender == self.leader and status.view == self.voter.view and self.patience.awaited == PRIMARY:
            self.doubts.calm(status.view)
            self.patience.again()
        self._leave_together()
        self._help(sender, status)

    def _help(self, sender: str, status: m.Status) -> None:
        """Tell a peer what it lacks, at most twice in a period; votes only if it has not moved since it last spoke."""
        seq, answered = self.heard.get(sender, (-1, -self.period_ns))
        if self.port.now - answered < self.period_ns // 2:
            return
        self.heard[sender] = (status.executed, self.port.now)
        if 0 <= epoch_of(status.view) < self.execution.first:
            self._vouch(sender)
        stuck, said = status.executed == seq, self.checkpoints.said.get(self.port.me, ())
        lacking = lacked(self.voter, status, said, stuck) if sender in self.audience else []
        if status.ask == self.port.me:
            lacking += self.execution.lacked(status.executed, self.window, BATCH_BYTES)
        for answer in lacking:
            self.port.send(sender, answer)

    # -- batches -------------------------------------------------------------------------------------

    def _on_missing(self, sender: str, missing: m.Missing) -> None:
        slot = self.voter.slots.get(missing.seq)
        if not self.bodies.allows(sender, self.port.now):
            self._drop("batch asked too often")
        elif slot is not None and missing.digest in slot.bodies:
            body = m.Body(missing.seq, slot.bodies[missing.digest])
            self.bodies.count(sender, self.port.now, len(encode(body)))
            self.port.send(sender, body)

    def _on_body(self, sender: str, body: m.Body) -> None:
        if self._fits(body.batch) and (body.seq, m.digest_of(body.batch)) in self.voter.lacking():
            self.voter.keep(body.seq, body.batch)
            self._vote(body.seq)

    def _on_decided(self, sender: str, entry: m.Decided) -> None:
        done, mine = self.execution.point.seq, self.committee.number
        if not done < entry.seq <= done + self.window or entry.seq in self.execution.decided:
            return
        if epoch_of(entry.view) != mine:
            return  # of the next epoch: this one's end is on its way; or void
        if self.committee.decided(entry):
            self.execution.add(entry)
            self._execute()
        else:
            self._drop("decision without proof")
