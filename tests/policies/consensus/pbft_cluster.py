"""Clusters of PBFT with a small state machine, and the promises every one of them is held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import msgspec

from policies.config import PbftConfig
from policies.consensus.messages import Chosen
from policies.consensus.pbft import Pbft
from policies.local import Committed, Propose, Read, Readable, Restore, Snapshot, SnapshotDue
from policies.port import Policy
from policies.wire import Message, encode
from scenarios.adversaries.behaviours import Behaves
from scenarios.schema import Network
from sim.cluster import Cluster
from sim.guard import Guards

CONFIG = PbftConfig(timeout_s=0.5, resend_s=0.1, checkpoint_every=4, in_flight=4, max_batch=8, pool_max=50)


class Put(Message, frozen=True, tag="put"):
    """A client's command."""

    command: bytes


class Ask(Message, frozen=True, tag="ask"):
    """A client's read: how many commands are there?"""

    token: int


class Told(Message, frozen=True, tag="told"):
    """Answer to `Ask`."""

    count: int


class CommandList(Policy):
    """A state machine whose state is the list of commands; it takes a snapshot at every so-manieth index.

    Given a state in place of commands, it proposes again what that does not hold of what it proposed.
    """

    requests = (Put, Ask)

    def __init__(self, snapshot_every: int = 0) -> None:
        self.snapshot_every = snapshot_every
        self.commands: list[bytes] = []
        self.proposed: list[bytes] = []
        self.restored = 0

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        if isinstance(operation, Put):
            self.proposed.append(operation.command)
            self.port.tell("consensus", Propose(operation.command))
        else:
            self.port.tell("consensus", Read(operation.token))

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Committed):
            self.commands.append(message.command)
            assert message.index == len(self.commands), "told in order, without gaps"
            if self.snapshot_every and message.index % self.snapshot_every == 0:
                self.port.tell("consensus", Snapshot(message.index, encode(self.commands)))
        elif isinstance(message, SnapshotDue):
            assert message.index == len(self.commands), "asked in order with what is told"
            self.port.tell("consensus", Snapshot(message.index, encode(self.commands), message.place))
        elif isinstance(message, Restore):
            self.commands = msgspec.msgpack.decode(message.state, type=list[bytes])
            self.restored += 1
            assert message.index == len(self.commands)
            for command in self.proposed:
                if command not in self.commands:
                    self.port.tell("consensus", Propose(command))
        elif isinstance(message, Readable):
            self.port.reply("reader", str(message.token), Told(message.index))


class Committee:
    """``n`` members named as a `Cluster` names them; liars are left out of every promise."""

    def __init__(
        self,
        n: int = 4,
        seed: int = 1,
        config: PbftConfig = CONFIG,
        snapshot_every: int = 0,
        network: Network | None = None,
        adversaries: Mapping[str, Sequence[Behaves]] | None = None,
        guards: Guards | None = None,
        kind: type[Pbft] = Pbft,
    ) -> None:
        names = tuple(f"n{i}" for i in range(n))
        self.honest = tuple(name for name in names if name not in (adversaries or {}))
        self.up = set(names)
        self.count = 0

        def member() -> Mapping[str, Policy]:
            return {"app": CommandList(snapshot_every), "consensus": kind(config, names, "app", ("app",))}

        self.cluster = Cluster(member, n, seed, network, adversaries=adversaries, guards=guards)
        self.run = self.cluster.run

    def put(self, name: str, times: int = 1, every_s: float = 0.0) -> list[bytes]:
        """Propose fresh commands at a member."""
        made = []
        for _ in range(times):
            self.count += 1
            made.append(b"command %d" % self.count)
            if name in self.up:
                self.cluster.request(name, "writer", str(self.count), Put(made[-1]), path="app")
            if every_s:
                self.run(every_s)
        return made

    def ask(self, name: str, token: int) -> None:
        """Read at a member."""
        self.cluster.request(name, "reader", str(token), Ask(token), path="app")

    def answers(self) -> dict[int, int]:
        """Return token to the index that answers it."""
        return {int(r.op_id): msgspec.convert(r.value, Told).count for r in self.cluster.replies}

    def crash(self, name: str, torn: float = 0.0) -> None:
        self.cluster.crash(name, torn)
        self.up.discard(name)

    def restart(self, name: str) -> None:
        self.cluster.restart(name)
        self.up.add(name)

    def pbft(self, name: str) -> Any:
        return self.cluster.policy(name, "consensus")

    def commands(self, name: str) -> list[bytes]:
        found: list[bytes] = self.cluster.policy(name, "app").commands
        return found

    @property
    def views(self) -> list[int]:
        return [self.pbft(name).term for name in self.honest if name in self.up]

    def require_agreement(self) -> None:
        """Honest members chose one command for each index, and what they hold is a prefix of what the others hold."""
        chosen: dict[int, int] = {}
        for d in self.cluster.decisions:
            if d.kind == "commit" and d.node in self.honest:
                entry = msgspec.convert(d.value, Chosen)
                assert chosen.setdefault(entry.index, entry.checksum) == entry.checksum, d
        for name in self.up & set(self.honest):
            for index, command in enumerate(self.commands(name), start=1):
                assert chosen.setdefault(index, crc32(command)) == crc32(command), (name, index)

    def require_live(self, seconds: float = 10.0) -> None:
        """A command proposed now at every honest member that is up is committed at all of them."""
        fresh = [self.put(name)[0] for name in self.honest if name in self.up]
        for _ in range(int(seconds / 0.25)):
            self.run(0.25)
            if all(set(fresh) <= set(self.commands(name)) for name in self.honest if name in self.up):
                break
        for name in self.honest:
            if name in self.up:
                assert not set(fresh) - set(self.commands(name)), (name, self.views, self.cluster.now_s)
        self.require_agreement()
