"""One Raft member alone: whatever the others say is written by the test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from policies import port as p
from policies.cell import Cell
from policies.consensus.messages import Chosen
from policies.consensus.raft import Raft
from policies.consensus.raft.messages import MESSAGES, Appended, Vote
from policies.local import Propose
from policies.port import NS_PER_S
from policies.wire import Codec, Message, encode
from sim.keys import KeyRing
from tests.policies.hand_cluster import PAPER, Machine, Member

decode = Codec(MESSAGES).decode
Entry = tuple[int, bytes]


def entries(*terms: int, first: int = 1) -> tuple[Entry, ...]:
    """Return entries of these terms; the command names term and index."""
    return tuple((term, b"%d.%d" % (term, index)) for index, term in enumerate(terms, start=first))


class One:
    """One member of ``size``, whose disk held these entries, term and vote when it started."""

    def __init__(self, size: int = 3, terms: Iterable[int] = (), term: int = 0, vote: str = "", me: str = "n1") -> None:
        names = tuple(f"n{i + 1}" for i in range(size))
        self.others = tuple(name for name in names if name != me)
        mounted = {"": Member(PAPER, names, "machine"), "machine": Machine()}
        self.cell = Cell(mounted, me, self.others, seed=1, keys=KeyRing(1).handle(me))
        self.sent: list[tuple[str, Message]] = []
        self.chosen: list[int] = []
        self.writing: list[int] = []
        self.timers: dict[str, int] = {}
        self.disk = {f"/{i:012d}": encode(entry) for i, entry in enumerate(entries(*terms), start=1)}
        self.disk["/meta"] = encode((term, vote))
        self.give((p.START, "", dict(self.disk), 0))

    @property
    def raft(self) -> Raft:
        """The member."""
        raft = self.cell.policy("")
        assert isinstance(raft, Raft)
        return raft

    @property
    def applied(self) -> list[bytes]:
        """What its state machine was told, in order."""
        machine = self.cell.policy("machine")
        assert isinstance(machine, Machine)
        return machine.commands

    def give(self, given: tuple[Any, ...]) -> None:
        """Feed one input and keep what leaves."""
        for effect in self.cell.step(NS_PER_S, NS_PER_S, given):
            if effect[0] == p.SEND:
                self.sent.append((effect[2], decode(effect[3])))
            elif effect[0] == p.SET_TIMER:
                self.timers[effect[2]] = effect[4]
            elif effect[0] == p.DECIDE and effect[2] == "commit":
                self.chosen.append(msgspec.msgpack.decode(effect[3], type=Chosen).index)
            elif effect[0] == p.SAVE:
                self.writing.append(effect[2])
                self.disk.update({key: value for key, value in effect[3] if value is not None})
                for key, value in effect[3]:
                    if value is None:
                        self.disk.pop(key, None)

    def sync(self) -> None:
        """Make durable what it wrote."""
        while self.writing:
            self.give((p.DURABLE, "", self.writing.pop(0)))

    def hear(self, sender: str, message: Message) -> list[Message]:
        """Deliver a message; return what is said to its sender once all is durable."""
        self.sent.clear()
        self.give((p.MESSAGE, "", sender, encode(message)))
        self.sync()
        return [said for to, said in self.sent if to == sender]

    def fire(self, timer: str) -> list[tuple[str, Message]]:
        """Fire a timer; return what is sent once all is durable."""
        self.sent.clear()
        self.give((p.TIMER, "", timer, self.timers[timer]))
        self.sync()
        return list(self.sent)

    def propose(self, command: bytes) -> None:
        """A client proposes; nothing is durable yet."""
        self.sent.clear()
        self.give((p.REQUEST, "", "c", "1", encode(Propose(command))))

    def lead(self) -> One:
        """Be elected by all, with the empty entry of the new term held by all."""
        self.fire("election")
        for other in self.others:
            self.hear(other, Vote(self.raft.term, True))
        for other in self.others:
            self.hear(other, Appended(self.raft.term, True, self.raft.log.last))
        assert (self.raft.role, self.raft.commit) == ("leader", self.raft.log.last)
        return self

    def saved_log(self) -> list[Entry]:
        """The entries on its disk."""
        keys = sorted(key for key in self.disk if key != "/meta")
        return [msgspec.msgpack.decode(self.disk[key], type=tuple[int, bytes]) for key in keys]
