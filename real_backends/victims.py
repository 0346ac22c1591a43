"""Who a fault strikes in a local run: names, indices, roles and groups, told as the twin tells them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from models import draws
from real_backends.processes import NodeDown, Processes
from scenarios import faults as f


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
        self._processes, self._committee, self._groups = processes, tuple(committee), groups
        self._leader, self._seed = leader, seed

    async def of(self, fault: Any) -> list[str]:
        """Return the names of a fault's victims, each once; nobody, if it names nobody who is there now."""
        if isinstance(fault, f.Cut):
            return list(dict.fromkeys(name for pair in fault.pairs for name in pair))
        if isinstance(fault, f.Churn):
            return list(self._groups.get(fault.group.removeprefix("group:"), ())) if fault.group else [*self.workers]
        named: Any = getattr(fault, fault.victims[0])
        if named == ():
            return list(self._processes.names)
        whos = named if isinstance(named, tuple) else (named,)
        found = [await self._resolve(who, fault.at_s) for who in whos]
        return list(dict.fromkeys(name for names in found for name in names))

    async def _resolve(self, who: int | str, at_s: float) -> list[str]:
        if isinstance(who, int):
            return [self._committee[who]]
        role, _, name = who.partition(":")
        found = who
        if role == "group":
            return list(self._groups.get(name, ()))
        if role == "committee" and name:
            found = self._committee[int(name)]
        elif who == "leader":
            found = self._leader()
        elif who == "worker":
            found = await self._busy_worker()
        elif who == "random":
            # Keyed by the second it strikes, as in the twin.
            found = self.workers[int(draws.integers(self._seed, "random victim", int(at_s), 0, len(self.workers)))]
        return [found] if found else []

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
