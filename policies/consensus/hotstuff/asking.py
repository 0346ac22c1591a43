"""Asking: how commands, reads and changes of members get into the pool, and to whoever leads. Liveness only.

A member sends its own entries to the leader, again to each new leader, and after half a time-out to all, who pass them
on: then every correct member waits for them, and a leader that orders none of them is given up. What is the leader's
alone (`policies.consensus.reserved`) goes into its own blocks, and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.consensus.hotstuff.messages import COMMAND, READ, RECONFIGURE, Block, Entry, Forward
from policies.consensus.hotstuff.pacemaker import NEVER
from policies.consensus.hotstuff.pool import Pool
from policies.consensus.hotstuff.validity import orderly
from policies.consensus.reserved import REFUSED
from policies.local import Readable
from policies.wire import encode

FOREIGN_TIMEOUTS = 8
"""Others' entries stay in the pool for so many time-outs: longer than it takes to give a leader up who ignores them."""

if TYPE_CHECKING:
    from policies.consensus.hotstuff.node import HotStuff


class Asking:
    """The pool of one member and its ways in."""

    def __init__(self, node: HotStuff) -> None:
        self.node, self.pool = node, Pool(node.config.pool_max)
        self.resent_ns = 0
        self.allowed: bytes | None = None  # the one change of members to vote for, b"" for none, None for any

    def propose(self, command: bytes) -> None:
        """Ask for a command; what is empty or begins with 0xC1 is a protocol's own (`policies.consensus`)."""
        if not command or command[0] == 0xC1:
            self.node.refuse("a command that is kept for protocols")
        elif self.node.role != "leader" and self.node.reserved(command):
            self.node.refuse(REFUSED)
        else:
            self._ask(COMMAND, command)

    def read(self, token: int) -> None:
        """Ask for a read's place in the log."""
        entry = self._ask(READ, b"")
        if entry is not None:
            self.node.trunk.reads[entry.number] = token
        elif self.node.applier:
            self.node.port.tell(self.node.applier, Readable(token, -1))

    def reconfigure(self, members: tuple[str, ...], learners: tuple[str, ...]) -> None:
        """Ask for other members."""
        self._ask(RECONFIGURE, encode((members, learners)))

    def allow(self, members: tuple[str, ...], learners: tuple[str, ...]) -> None:
        """Vote for no change of members but this one from now on, and forget others that wait."""
        self.allowed = encode((members, learners)) if members else b""
        waiting = self.pool.waiting.items()
        self.pool.commit([key for key, (entry, _, _) in waiting if not self._may_wait(entry)])

    def allows(self, block: Block) -> bool:
        """Whether a block changes no members, or as the state machine has decided."""
        return all(map(self._may_wait, block.entries[:1]))  # a change stands alone

    def _may_wait(self, entry: Entry) -> bool:
        return entry.kind != RECONFIGURE or self.allowed is None or entry.data == self.allowed

    def changed(self) -> None:
        """An epoch begins: what was allowed is done, whoever may still ask for it."""
        if self.allowed is not None:
            self.allow((), ())

    def _ask(self, kind: int, data: bytes) -> Entry | None:
        node, port = self.node, self.node.port
        # The number is drawn: who could guess it could have a read ordered before it was asked.
        entry = Entry(port.me, port.rng.bits64() >> 1, kind, data)
        if not orderly(entry, node.config):
            node.refuse("a command that is too large, or members that are none")
            return None
        if self.pool.add(entry, port.me, port.now) is None:
            node.refuse("a command for which the pool has no room")
            return None
        if node.role != "leader":
            self._send((entry,), (node.leader,), False)
        return entry

    def _send(self, entries: tuple[Entry, ...], to: tuple[str, ...], everybody: bool) -> None:
        if entries:
            message = Forward(entries, everybody)
            for name in to:
                self.node.port.send(name, message)

    def _reserved(self, entry: Entry) -> bool:
        return entry.kind == COMMAND and self.node.reserved(entry.data)

    def new_leader(self, led: bool) -> None:
        """Hand a new leader what we wait for; what was ours to ask while we ``led`` is no more."""
        if self.node.role != "leader":
            if led:
                self.pool.commit([key for key, w in self.pool.waiting.items() if self._reserved(w.entry)])
            self._send(self._own(self.node.port.now), (self.node.leader,), False)

    def on_forward(self, sender: str, forward: Forward) -> None:
        """Others ask."""
        node = self.node
        if sender not in node.audience or len(forward.entries) > node.config.batch_max:
            return node.refuse("entries of a stranger, or too many")
        now, pool = node.port.now, self.pool
        asked = [e for e in forward.entries if not self._reserved(e)]
        if len(asked) < len(forward.entries):
            node.refuse(REFUSED)
        lawful = (e for e in asked if orderly(e, node.config) and self._may_wait(e))
        fresh = tuple(e for e in lawful if pool.add(e, sender, now) is not None)
        if forward.all and node.role != "leader":
            self._send(fresh, (node.leader,), False)  # whoever asked may be unheard by the leader, or ignored
        return None

    def _own(self, before_ns: int) -> tuple[Entry, ...]:
        """Return own entries for others that came no later than ``before_ns``, as many as a message may hold."""
        me, config = self.node.port.me, self.node.config
        return self.pool.of(me, before_ns, config.batch_max, config.batch_max_bytes, self._reserved)

    def begin_anew(self) -> None:
        """A state came that may hold what waits here, and others may have forgotten it as committed.

        So nothing waits any more. Only the state machine sees what the state holds of what it proposed, and asks for
        the rest; asked for from here, all of it would be committed again with each state that is taken over, and make
        more states to take over. Whoever reads is told to ask again.
        """
        self.pool = Pool(self.node.config.pool_max)
        node, reads = self.node, self.node.trunk.reads
        for token in reads.values():
            if node.applier:
                node.port.tell(node.applier, Readable(token, -1))
        reads.clear()

    def forget_foreign(self) -> None:
        """Forget others' entries that wait too long: they may be committed, and we have forgotten that.

        Whoever still waits for one tells all again.
        """
        self.pool.expire(self.node.port.me, self.node.port.now - FOREIGN_TIMEOUTS * self.node.pace.timeout_ns)

    def deadline(self) -> int:
        """Return when to ask everybody."""
        oldest = self.pool.oldest_ns
        return NEVER if oldest is None else max(oldest, self.resent_ns) + self.node.pace.timeout_ns // 2

    def ask_all(self) -> None:
        """Tell everybody what has waited for half a time-out."""
        now = self.resent_ns = self.node.port.now
        self._send(self._own(now - self.node.pace.timeout_ns // 2), self.node.others, True)
