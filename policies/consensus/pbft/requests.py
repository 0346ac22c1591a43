"""Requests: how commands, reads and changes of members get to the primary, and to all if it ignores them. Liveness.

What is the primary's alone to ask (`policies.consensus.reserved`) gets to nobody but into its own batches.
"""

from __future__ import annotations

from policies.consensus.pbft import messages as m
from policies.consensus.pbft.catch_up import REPEAT_MAX
from policies.consensus.pbft.core import Core
from policies.consensus.pbft.epochs import MARK, Members, change_in, change_of, command_of, problem
from policies.consensus.reserved import REFUSED
from policies.local import Readable

BATCH_BYTES = 256 * 1024
"""Commands of one batch, and what one answer to a member that is behind holds (our own bound)."""
SIGN_MAX = 16
"""Requests signed in one step: 1.9 ms at 0.12 ms each (our own bound)."""
COMMAND_BYTES = 1024 * 1024
"""The largest command; it gets a batch of its own (our own bound)."""


class Requests(Core):
    """A member that asks, and takes what others ask.

    Attributes:
        number: of this member's last request.
        reads: number of a request to the reads that it orders.
        asked: reads that came since.
        permitted: the one change of members to vote for, ``((), ())`` for none, None for any.
    """

    def _nothing_yet(self) -> None:
        super()._nothing_yet()
        self.number = 0
        self.reads: dict[int, list[int]] = {}
        self.asked: list[int] = []
        self.permitted: Members | None = None

    # -- commands ------------------------------------------------------------------------------------

    def _ask(self, command: bytes) -> None:
        """Take a command of the state machine, once while it waits; what begins as a change of members is refused."""
        if command.startswith(MARK):
            self._drop("command that is kept for protocols")
        elif self.role != "leader" and self.reserved(command):
            self._drop(REFUSED)
        elif (self.port.me, command) not in self.pool.asked:
            self._submit(command)

    def _submit(self, command: bytes) -> int:
        """Take a request of this node; returns its number, 0 if there is no room."""
        request = m.Request(self.port.me, self.number + 1, command)
        if not (self.member or self.learner):
            self._drop("request of no member")
            return 0
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
        elif self.reserved(request.command):
            self._drop(REFUSED)
        elif not self._entitled(sender, request):
            self._drop("request unsigned")
        elif request.command.startswith(MARK) and not self._may_wait(request.command):
            self._drop("change of members refused")
        elif self.pool.add(request, self.port.now):
            if self.role != "leader" and self.leader:
                self.port.send(self.leader, request)
            self._propose()

    def _entitled(self, sender: str, r: m.Request) -> bool:
        """Return whether a request is its origin's. Only a signed one may wait at a backup, which may pass it on."""
        if not r.signature:
            return sender == r.origin and self.role == "leader"
        return self.committee.asked(r)

    def _ask_all(self) -> None:
        """Sign what this member waits for, unless that is the primary's alone, and ask everybody, so that all wait."""
        own = self.pool.own(self.port.me, self.port.now)
        fresh = [r for r in own if not r.signature and not self.reserved(r.command)]
        if len(fresh) > SIGN_MAX:
            self.port.set_timer("ask", 0)
        for request in fresh[:SIGN_MAX]:
            signature = self.committee.sign_request(request.number, request.command)
            signed = m.Request(request.origin, request.number, request.command, signature)
            self.pool.add(signed, self.port.now)
            self._all(signed)

    def _repeat_requests(self, before: int) -> None:
        if self.role == "leader":
            return
        for _, request in zip(range(REPEAT_MAX), self.pool.own(self.port.me, before), strict=False):
            if request.signature:
                self._all(request)
            elif self.leader:
                self.port.send(self.leader, request)

    def _begin_anew(self) -> None:
        """A state came that may hold what waits here, and others, who executed it, answer no question about it.

        So nothing waits any more. Only the state machine sees what the state holds of what it proposed, and asks for
        the rest; asked for from here, all of it would come again with each state that is taken over, and what is
        committed so makes more states to take over. Whoever reads is told to ask again, and what others asked they
        ask again if they still wait for it.
        """
        self.pool.forget()
        self._refuse_reads()

    # -- changes of members --------------------------------------------------------------------------

    def _reconfigure(self, members: tuple[str, ...], learners: tuple[str, ...]) -> None:
        """Ask for other members, unless a change is under way."""
        committee = self.committee
        if wrong := problem(members, learners):
            self.port.note("refused", reason=wrong)
        elif (members, learners) != (committee.members, committee.learners):
            if self.pool.changing() or self.voter.changing():
                self._drop("change of members refused for now")
            else:
                self._submit(command_of(committee.number, members, learners))

    def _allow(self, members: tuple[str, ...], learners: tuple[str, ...]) -> None:
        """Vote for no change of members but this one from now on, and forget others that wait."""
        self.permitted = (members, learners)
        epoch = self.committee.number
        self.pool.forget_if(lambda c: c.startswith(MARK) and change_of(c, epoch) != self.permitted)

    def _may_wait(self, command: bytes) -> bool:
        """Whether a change that somebody asks is one of this epoch, the permitted one, and no other waits."""
        change = change_of(command, self.committee.number)
        return change is not None and self.permitted in (None, change) and not self.pool.changing(command)

    def _permits(self, batch: m.Batch) -> bool:
        """Whether a batch changes no members, or as the state machine has decided."""
        change = change_in(batch, self.committee.number)
        return change is None or self.permitted in (None, change)

    # -- reads ---------------------------------------------------------------------------------------

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

    def _refuse_reads(self) -> None:
        """Nothing orders what this node asked any more: whoever reads here must ask again, here or elsewhere."""
        waiting = [token for tokens in self.reads.values() for token in tokens]
        self._readable([*waiting, *self.asked], -1)
        self.reads, self.asked = {}, []

    def _readable(self, tokens: list[int], index: int) -> None:
        for token in tokens if self.applier else ():
            self.port.tell(self.applier, Readable(token, index))
