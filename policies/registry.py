"""Replicated registers for clients: the village's configuration, served by every member beside any replicated log.

A client sends `Put`, `CompareAndSet`, `Add`, `Configure` or `Get` to any member and hears one `Result`, or one
`Refused` that says whether the operation may have happened. Its operations that write are numbered: ``op_id`` is "1",
then "2" and so on, one at a time, and one that is asked again, here or elsewhere, happens once
(`policies.state.sessions`). A ``Get`` may have any ``op_id``. What a client hears is linearizable: a write is answered
when it is agreed and applied, a read when everything is applied that was agreed before it began.

Safety rests on the log and the state machine alone; this policy adds patience. It proposes a write again until it sees
it applied or has tried often enough, since a proposal may be lost. A read is answered by the first of its tries that
the log answers: a leader that is slow, or lies and is slow on purpose, may take longer for each than a try waits.
"""

from __future__ import annotations

from typing import Any, ClassVar

from policies.commands import Add, CompareAndSet, Configure, InSession, Operation, Put
from policies.local import Committed, Propose, Read, Readable, Restore, Snapshot, SnapshotDue
from policies.port import NS_PER_S, Policy
from policies.state import VillageState
from policies.state.configuration import Result
from policies.wire import Message, encode

LOG = "consensus"
"""Path of the log beside which it is mounted."""
WAITING_MAX = 1024
"""Operations that a member has under way; more are refused at once (our bound)."""

Op = tuple[str, str]  # (client, op_id)


class Get(Message, frozen=True, tag="get"):
    """What does a register hold?"""

    key: str


class Refused(Message, frozen=True, tag="refused"):
    """No result; ``definite``: the operation has not happened here and will not."""

    reason: str
    definite: bool


class Done(Message, frozen=True, tag="done"):
    """Announced by every member: as its ``command``-th command it did this operation, and this came of it."""

    client: str
    sequence: int
    command: int
    result: Result


class Registry(Policy):
    """One member's registers.

    Args:
        retry_s: an operation is proposed, or a read asked for, again after this (default: twice an election's length
            at Raft's shortest, 0.3 s; an assumption for committees near one another).
        tries: this often, then the client is told to ask again.
        snapshot_every: commands between two snapshots.

    Attributes:
        state: the replicated state.
    """

    requests: ClassVar[tuple[type[Message], ...]] = (Get, Put, CompareAndSet, Add, Configure)

    def __init__(self, retry_s: float = 0.6, tries: int = 20, snapshot_every: int = 1000) -> None:
        for name, given in (("retry_s", retry_s), ("tries", tries), ("snapshot_every", snapshot_every)):
            if not given > 0:
                raise ValueError(f"{name}={given}: allowed are values above 0")
        self.retry_ns, self.tries, self.snapshot_every = int(retry_s * NS_PER_S), tries, snapshot_every
        self.state = self._new_state()
        self.writes: dict[Op, tuple[Operation, int]] = {}  # what to propose, and tries so far
        self.reads: dict[Op, tuple[str, tuple[int, ...]]] = {}  # key, and the token of each try so far
        self.asked: dict[int, Op] = {}  # token of a read that waits for an answer
        self.token = 0

    def _new_state(self, snapshot: bytes = b"") -> VillageState:
        return VillageState.restore(snapshot) if snapshot else VillageState()

    # -- clients -------------------------------------------------------------------------------------

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        op = (client, op_id)
        if op in self.writes or op in self.reads:
            return  # asked again while it is under way: it has one answer
        if len(self.writes) + len(self.reads) >= WAITING_MAX:
            self._refuse(op, "busy", definite=True)
        elif isinstance(operation, Get):
            self.reads[op] = (operation.key, ())
            self._ask(op)
        elif not _is_number(op_id):
            self._refuse(op, "op_id: expected the operation's number, from 1", definite=True)
        else:
            self.writes[op] = (operation, 0)
            if not self._answered(op):
                self._propose(op)
        if len(self.writes) + len(self.reads) == 1:
            self.port.set_timer("retry", self.retry_ns)  # it fires again as long as anything waits

    def on_timer(self, name: str) -> None:
        for op in list(self.writes):
            self._propose(op)
        for op in list(self.reads):
            self._ask(op)
        if self.writes or self.reads:
            self.port.set_timer("retry", self.retry_ns)

    def _propose(self, op: Op) -> None:
        operation, tried = self.writes[op]
        if tried >= self.tries:
            del self.writes[op]
            self._refuse(op, "no agreement in time: it may still happen", definite=False)
            return
        self.writes[op] = (operation, tried + 1)
        self.port.tell(LOG, Propose(encode(InSession(op[0], int(op[1]), self.state.applied, operation))))

    def _ask(self, op: Op) -> None:
        key, tokens = self.reads[op]
        if len(tokens) >= self.tries:
            self._end_read(op)
            self._refuse(op, "no agreement in time", definite=True)
            return
        self.token += 1
        self.reads[op] = (key, (*tokens, self.token))
        self.asked[self.token] = op
        self.port.tell(LOG, Read(self.token))

    def _answered(self, op: Op) -> bool:
        """Answer a write if it was done, or cannot be any more; return whether it was answered."""
        client, sequence = op[0], int(op[1])
        last, reply = self.state.sessions.last(client), self.state.sessions.reply(client, sequence)
        if reply is not None:
            self.port.reply(*op, reply)
        elif sequence < last:
            self._refuse(op, f"the client has gone on to operation {last}: this one was answered", definite=False)
        else:
            return False
        self.writes.pop(op, None)
        return True

    def _refuse(self, op: Op, reason: str, *, definite: bool) -> None:
        self.port.reply(*op, Refused(reason, definite))

    # -- the log -------------------------------------------------------------------------------------

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Committed):
            self._on_committed(message)
        elif isinstance(message, SnapshotDue):
            self.port.tell(LOG, Snapshot(message.index, self.state.snapshot(), message.place))
        elif isinstance(message, Readable):
            self._on_readable(message)
        elif isinstance(message, Restore):
            self.state = self._new_state(message.state)
            for op in list(self.writes):
                self._answered(op)

    def _on_committed(self, message: Committed) -> None:
        command, changed = self.state.apply_encoded(message.command, self.port.keys.verify)
        if self.state.applied % self.snapshot_every == 0:
            self.port.tell(LOG, Snapshot(message.index, self.state.snapshot()))
        if not isinstance(command, InSession):
            return
        op = (command.client, str(command.sequence))
        if changed:
            reply = self.state.sessions.reply(command.client, command.sequence)
            assert reply is not None
            self.port.decide("done", Done(command.client, command.sequence, self.state.applied, reply))
        if op in self.writes and not self._answered(op):
            self._out_of_turn(op)

    def _out_of_turn(self, op: Op) -> None:
        """A write was agreed on, and the state would not have it: its turn has not come, or its session is gone.

        Operation 1 is proposed again: it may have been held against it that this member was far behind.
        """
        if op[1] != "1":
            last = self.state.sessions.last(op[0])
            why = f"expected operation {last + 1}" if last else "the session has expired, or never began"
            del self.writes[op]
            self._refuse(op, why, definite=False)

    def _on_readable(self, message: Readable) -> None:
        op = self.asked.get(message.token)
        if op is None or message.index < 0:
            return  # answered, given up, or asked again when the timer fires
        key = self._end_read(op)  # whatever was committed up to that index has been told and applied
        self.port.reply(*op, self.state.configuration.get(key))

    def _end_read(self, op: Op) -> str:
        """Forget a read, and every try of it: a late answer to one is older than a read that is called the same."""
        key, tokens = self.reads.pop(op)
        for token in tokens:
            self.asked.pop(token, None)
        return key


def _is_number(op_id: str) -> bool:
    return op_id.isascii() and op_id.isdecimal() and op_id[0] != "0" and len(op_id) <= 18  # a 64-bit integer
