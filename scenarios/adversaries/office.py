"""Office: a member that says it leads when it does not, or has the log do what a leader would ask of it."""

from __future__ import annotations

from collections.abc import Iterable

from policies import port as p
from policies.commands import Accept, Command, Complete, Dissolve, Evict, Place, Receipt, Refuse, decode
from policies.consensus.hotstuff.messages import COMMAND, Entry, Forward
from policies.consensus.pbft.messages import Request
from policies.jobs import Stage
from policies.port import NS_PER_S, Effect, Input
from policies.wire import WireError, encode
from policies.work import Leased
from scenarios.adversaries.behaviours import Meddle, Usurp
from scenarios.adversaries.payload import leaves, plain, tag_of
from scenarios.adversaries.timing import TickingCell
from scenarios.adversaries.wrapped import MEMORY_MAX, Steps, with_payload
from scenarios.adversaries.wrapped import Place as Stands

COORDINATION, WORKER, CONSENSUS = "coordination", "worker", "consensus"
"""Paths of who leads, of whom it leads, and of the log."""
HEARD_MAX = 8
"""Requests, and pipelines, that a meddler heard of last and meddles with."""


class UsurpingCell(TickingCell[Usurp]):
    """Gives leases that are not its own to give."""

    def __init__(self, cell: Steps, behaviour: Usurp, place: Stands, index: int) -> None:
        super().__init__(cell, behaviour, place, index)
        self.every_ns = int(behaviour.every_s * NS_PER_S)
        self._workers = dict.fromkeys(peer for peer in place.peers if peer != place.me)

    def hear(self, given: Input) -> Input | None:
        if given[:2] == (p.MESSAGE, COORDINATION) and len(self._workers) < MEMORY_MAX:
            self._workers[given[2]] = None
        return given

    def say(self, effect: Effect) -> Iterable[Effect]:
        points = effect[0] == p.SEND and tag_of(effect[3]) == "not_leader"
        yield with_payload(effect, encode(Leased())) if points else effect

    def tick(self) -> Iterable[Effect]:
        others = (node for node in self._workers if not self.place.mate(node))
        yield from ((p.SEND, COORDINATION, f"{node}/{WORKER}", encode(Leased())) for node in others)


class MeddlingCell(TickingCell[Meddle]):
    """Asks members of a log for commands of its own making; what there is to meddle with it hears in the log's talk."""

    def __init__(self, cell: Steps, behaviour: Meddle, place: Stands, index: int) -> None:
        super().__init__(cell, behaviour, place, index)
        self.every_ns = int(behaviour.every_s * NS_PER_S)
        self._heard: dict[type[Command], dict[Command, None]] = {Accept: {}, Place: {}}
        self._pbft = False

    def heard(self, path: str, payload: bytes) -> None:
        if path != CONSENSUS:
            return
        self._pbft = self._pbft or tag_of(payload) == "pre_prepare"
        for leaf in leaves(plain(payload)):
            if isinstance(leaf, bytes):
                self._learn(leaf)

    def _learn(self, data: bytes) -> None:
        try:
            command = decode(data)
        except WireError:
            return
        known = self._heard.get(type(command))
        if known is not None:
            known[command] = None
            if len(known) > HEARD_MAX:
                del known[next(iter(known))]

    def tick(self) -> Iterable[Effect]:
        for command in self._wishes():
            asked = self._asked(self.rng.bits64() >> 2, encode(command))
            yield from ((p.SEND, CONSENSUS, peer, asked) for peer in self.place.peers if not self.place.mate(peer))

    def _asked(self, number: int, command: bytes) -> bytes:
        if self._pbft:
            return encode(Request(self.place.me, number, command))
        return encode(Forward((Entry(self.place.me, number, COMMAND, command),), all=True))

    def _wishes(self) -> Iterable[Command]:
        yield from (Evict(node, "meddled with") for node in self.place.peers if not self.place.mate(node))
        for command in [*self._heard[Place], *self._heard[Accept]]:
            if isinstance(command, Place):
                yield Dissolve(command.pipeline, "meddled with")
            elif isinstance(command, Accept):
                yield self._answer(command) if self.rng.below(2) else Refuse(command.client, command.op_id, "no")

    def _answer(self, accepted: Accept) -> Complete:
        stages = (Stage(self.place.me, 0, 1),)
        receipt = Receipt(accepted.client, accepted.op_id, "made up", accepted.new_tokens, stages)
        return Complete(receipt, 1, self.sign(encode(receipt)))
