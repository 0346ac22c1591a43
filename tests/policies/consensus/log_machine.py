"""The smallest state machine above a replicated log, and the client that uses it: what the conformance tests mount."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from policies.local import (
    Committed,
    Configured,
    GiveUp,
    Leadership,
    Propose,
    Read,
    Readable,
    Reconfigure,
    Restore,
    Snapshot,
    SnapshotDue,
    Transfer,
)  # fmt: skip
from policies.port import Policy
from policies.wire import Message, encode


class Do(Message, frozen=True, tag="do"):
    """client to machine: see that this command is applied."""

    command: bytes


class Look(Message, frozen=True, tag="look"):
    """client to machine: what was applied so far?"""


class Seen(Message, frozen=True, tag="seen"):
    """machine to client: everything applied, or ``refused``."""

    commands: tuple[bytes, ...]
    refused: bool = False


class LogMachine(Policy):
    """Keeps every command, once; repeats are dropped, as client sessions would.

    Args:
        snapshot_every: commands after which it offers a snapshot; 0 never, unless it is asked for one.

    Attributes:
        index: the last index that it was told of.
        commands: what it applied, in order.
        told: indices in the order in which they were told in this life.
        restored: indices of the snapshots that it was given in this life.
        leader, term: who leads, as it was told last.
        members: the last configuration that it was told.
    """

    messages = (Seen,)
    requests = (Do, Look, Reconfigure, Transfer, GiveUp)

    def __init__(self, snapshot_every: int = 0) -> None:
        self.snapshot_every = snapshot_every

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.index, self.leader, self.term = 0, "", 0
        self.commands: list[bytes] = []
        self.told: list[int] = []
        self.restored: list[int] = []
        self.members: tuple[str, ...] = ()
        self.asking: list[tuple[str, str]] = []

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        if isinstance(operation, Do):
            self.port.tell("consensus", Propose(operation.command))
        elif isinstance(operation, Look):
            self.asking.append((client, op_id))
            self.port.tell("consensus", Read(len(self.asking) - 1))
        else:
            self.port.tell("consensus", operation)

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Committed):
            self.index = message.index
            self.told.append(message.index)
            if message.command not in self.commands:
                self.commands.append(message.command)
            if self.snapshot_every and len(self.told) % self.snapshot_every == 0:
                self.port.tell("consensus", Snapshot(self.index, encode(self.commands)))
        elif isinstance(message, SnapshotDue):
            assert message.index == self.index, "asked in order with what is told"
            self.port.tell("consensus", Snapshot(self.index, encode(self.commands), message.place))
        elif isinstance(message, Restore):
            self.index = message.index
            self.restored.append(message.index)
            self.commands = msgspec.msgpack.decode(message.state)
        elif isinstance(message, Readable):
            client, op_id = self.asking[message.token]
            refused = message.index < 0
            self.port.reply(client, op_id, Seen(() if refused else tuple(self.commands), refused))
        elif isinstance(message, Configured):
            self.members = message.members
        elif isinstance(message, Leadership):
            self.leader, self.term = message.leader, message.term
