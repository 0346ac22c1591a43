"""Office: a member that says it leads when it does not."""

from __future__ import annotations

from collections.abc import Iterable

from policies import port as p
from policies.port import NS_PER_S, Effect, Input
from policies.wire import encode
from policies.work import Leased
from scenarios.adversaries.behaviours import Usurp
from scenarios.adversaries.payload import tag_of
from scenarios.adversaries.timing import TickingCell
from scenarios.adversaries.wrapped import MEMORY_MAX, Place, Steps, with_payload

COORDINATION, WORKER = "coordination", "worker"
"""Paths of who leads, and of whom it leads."""


class UsurpingCell(TickingCell[Usurp]):
    """Gives leases that are not its own to give."""

    def __init__(self, cell: Steps, behaviour: Usurp, place: Place, index: int) -> None:
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
