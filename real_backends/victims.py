"""Who a fault strikes in a local run: names, indices, roles and groups, told as the twin tells them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from real_backends.processes import NodeDown, Processes
from scenarios import faults as f
from scenarios.victims import Roll


class Victims:
    """Resolves victims.

    Args:
        processes: the nodes.
        committee: members by index.
        workers: the other nodes, in the fleet's order.
        groups: members of each named group.
        leader: returns the leader's name at the moment, or "".
        seed: names the draws of random victims.
    """

    def __init__(
        self, processes: Processes, committee: Sequence[str], workers: Sequence[str],
        groups: Mapping[str, Sequence[str]], leader: Callable[[], str], seed: int,
    ) -> None:  # fmt: skip
        self.workers = tuple(workers)
        self._roll = Roll(tuple(committee), self.workers, groups, seed)
        self._processes, self._leader = processes, leader

    async def of(self, fault: Any) -> list[str]:
        """Return the names of a fault's victims, each once; nobody, if it names nobody who is there now."""
        if isinstance(fault, f.Cut):
            return list(dict.fromkeys(name for pair in await self.pairs(fault) for name in pair))
        if isinstance(fault, f.Churn):
            return self._roll.named(fault.group, 0) if fault.group else [*self.workers]
        named: Any = getattr(fault, fault.victims[0])
        if named == ():
            return list(self._processes.names)
        whos = named if isinstance(named, tuple) else (named,)
        found = [await self._resolve(who, fault.at_s) for who in whos]
        return list(dict.fromkeys(name for names in found for name in names))

    async def pairs(self, fault: f.Cut) -> list[tuple[str, str]]:
        """Return the pairs of nodes that a cut parts now; a role that nobody has parts nobody."""
        ends = [(await self._resolve(a, fault.at_s), await self._resolve(b, fault.at_s)) for a, b in fault.pairs]
        return [(a, b) for first, second in ends for a in first for b in second if a != b]

    async def _resolve(self, who: int | str, at_s: float) -> list[str]:
        if who == "leader":
            found = [self._leader()]
        elif who == "worker":
            found = [await self._busy_worker()]
        else:
            found = self._roll.named(who, int(at_s))
        return [name for name in found if name]

    async def _busy_worker(self) -> str:
        """Return the first worker that runs a session now, or else the first that answers.

        The twin strikes nobody where nobody is busy; here sessions of milliseconds pass unseen between two looks.
        """
        workers = sorted(name for name in self.workers if self._processes.answers(name))
        looks = await asyncio.gather(*(self._look(name) for name in workers))
        busy = [name for name, active in zip(workers, looks, strict=True) if active]
        return (busy or workers or [""])[0]

    async def _look(self, name: str) -> int:
        """Return how many sessions a node runs; none, if it falls before it answers."""
        try:
            return int((await self._processes.ask(name, "state"))["active"])
        except NodeDown:
            return 0
