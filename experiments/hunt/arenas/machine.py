"""The smallest state machine above a replicated log, with its clients' door."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from policies.local import Committed, Propose, Restore, Snapshot, SnapshotDue
from policies.port import Policy
from policies.wire import digest, encode

SNAPSHOT_EVERY = 16
"""Commands between two snapshots: a storm sees some of them."""


class History:
    """What was applied, in short: how many commands, and the digest of their order."""

    def __init__(self, applied: int = 0, chain: str = "") -> None:
        self.applied, self.chain = applied, chain

    def add(self, command: bytes) -> None:
        """Apply a command."""
        self.applied, self.chain = self.applied + 1, digest(encode((self.chain, command)))

    def digest(self) -> str:
        """Return what two members that applied the same have in common."""
        return self.chain


class Machine(Policy):
    """Proposes what clients say, remembers what was agreed, and offers snapshots of it.

    A state that stands for commands may or may not hold what was asked for here, so that is proposed again then, as
    the contract of logs asks; at no other time, as a log may lose nothing else in one life.

    Attributes:
        state: what was applied.
        asked: commands of this life's clients that were not seen agreed.
    """

    requests = (Propose,)

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.state = History()
        self.asked: dict[bytes, None] = {}

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        self.asked[operation.command] = None
        self.port.tell("consensus", operation)

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Committed):
            self.state.add(message.command)
            self.asked.pop(message.command, None)
            if message.index % SNAPSHOT_EVERY == 0:
                self._snapshot(message.index)
        elif isinstance(message, SnapshotDue):
            self._snapshot(message.index, message.place)
        elif isinstance(message, Restore):
            self.state = History(*msgspec.msgpack.decode(message.state, type=tuple[int, str]))
            for command in self.asked:
                self.port.tell("consensus", Propose(command))

    def _snapshot(self, index: int, place: int = 0) -> None:
        self.port.tell("consensus", Snapshot(index, encode((self.state.applied, self.state.chain)), place))
