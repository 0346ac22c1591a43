"""What is wrong with the links of a local run now, and telling it to the nodes' transports."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

from real_backends.processes import NodeDown, Processes
from real_backends.transports.faulty import Cut, Disturbance, LinkFaults
from scenarios import faults as f
from scenarios.disturbed import added


class Links:
    """Keeps the faults that last and tells them to every node that answers; who was away is told when it is back.

    Args:
        processes: the nodes.
    """

    def __init__(self, processes: Processes) -> None:
        self.now = LinkFaults()
        self._processes = processes
        self._telling: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def begin(self, more: LinkFaults) -> None:
        """Add faults to those that last."""
        self.now = LinkFaults(self.now.disturbances + more.disturbances, self.now.cuts + more.cuts)

    def end(self, these: LinkFaults) -> None:
        """Take faults away, once each: an equal one of another spell stays."""
        disturbances, cuts = list(self.now.disturbances), list(self.now.cuts)
        for disturbance in these.disturbances:
            disturbances.remove(disturbance)
        for cut in these.cuts:
            cuts.remove(cut)
        self.now = LinkFaults(tuple(disturbances), tuple(cuts))

    async def tell_all(self) -> None:
        """Tell every node that answers; return when all of them know."""
        await asyncio.gather(*(self.tell(name) for name in self._processes.names))

    async def tell(self, name: str) -> None:
        """Tell one node what is wrong now, one after another, so that it never hears an older state last."""
        async with self._telling[name]:
            if self._processes.answers(name):
                try:
                    await self._processes.ask(name, "faults", msgspec.to_builtins(self.now))
                except NodeDown:
                    return  # it is told when it is back


def parted(fault: f.Partition | f.Cut, victims: Sequence[str], names: Sequence[str]) -> set[tuple[str, str]]:
    """Return the pairs of nodes that a fault keeps from talking to each other, each pair once."""
    if isinstance(fault, f.Cut):
        return {(min(pair), max(pair)) for pair in fault.pairs}
    return {(min(a, b), max(a, b)) for a in victims for b in names if b not in victims}


def link_faults(fault: Any, victims: Sequence[str]) -> LinkFaults:
    """Return what a fault of the network does to links."""
    touched = tuple(victims) if isinstance(fault, f.Partition | f.Cut) or fault.nodes else None
    if isinstance(fault, f.Partition):
        inwards, outwards = Cut(targets=touched), Cut(sources=touched)
        return LinkFaults(cuts=(inwards,) if fault.one_way else (inwards, outwards))
    if isinstance(fault, f.Cut):
        pairs = fault.pairs if fault.one_way else [*fault.pairs, *((b, a) for a, b in fault.pairs)]
        return LinkFaults(cuts=tuple(Cut(sources=(a,), targets=(b,)) for a, b in pairs))
    return LinkFaults((Disturbance(nodes=touched, **added(fault)),))
