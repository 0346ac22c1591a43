"""Whom a fault means, as far as both worlds answer alike: names, indices, groups and random victims.

Who leads and who is busy only the world knows, and each asks in its own way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models import draws


@dataclass(frozen=True)
class Roll:
    """The nodes of a run, as faults name them.

    Attributes:
        committee: members by index.
        workers: the other nodes, in the fleet's order.
        groups: members of each named group.
        seed: names the draws of random victims.
    """

    committee: Sequence[str]
    workers: Sequence[str]
    groups: Mapping[str, Sequence[str]]
    seed: int

    def named(self, who: int | str, second: int) -> list[str]:
        """Return the nodes that ``who``, if no role, is at a second of the run; nobody, if there is none."""
        if isinstance(who, int):
            return [self.committee[who]]
        role, _, name = who.partition(":")
        if role == "group":
            return list(self.groups.get(name, ()))
        if role == "committee" and name:
            return list(self.committee[int(name) : int(name) + 1])
        if who == "random":
            # Keyed by the second it strikes, not by how many crashes came before: policies stay comparable.
            return [self.workers[int(draws.integers(self.seed, "random victim", second, 0, len(self.workers)))]]
        return [who]
