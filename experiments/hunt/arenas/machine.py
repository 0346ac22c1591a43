"""The smallest state machine above a replicated log, with its clients' door."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from policies.local import Committed, Propose, Restore, Snapshot
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

    Attributes:
        state: what was applied.
    """

    requests = (Propose,)

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.state = History()

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        self.port.tell("consensus", operation)

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Committed):
            self.state.add(message.command)
            if message.index % SNAPSHOT_EVERY == 0:
                held = encode((self.state.applied, self.state.chain))
                self.port.tell("consensus", Snapshot(message.index, held))
        elif isinstance(message, Restore):
            self.state = History(*msgspec.msgpack.decode(message.state, type=tuple[int, str]))
