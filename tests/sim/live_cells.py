"""Cells that a list of choices drives: the exploration's naive twin. Nothing here is copied, hashed or remembered.

Every sequence of choices begins with new Cells, with real random streams and a clock that moves at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from policies import port as p
from policies.cell import Cell
from policies.port import Input, Policy
from sim.choice import Choice
from sim.keys import KeyRing


class Budgets(NamedTuple):
    """What may still happen."""

    fires: int
    crashes: int = 0
    drops: int = 0
    duplicates: int = 0


class LiveCells:
    """``n`` nodes of one policy, started."""

    def __init__(self, factory: Callable[[], Policy], n: int) -> None:
        self.names = [f"n{i}" for i in range(n)]
        self.factory, self.ring, self.now = factory, KeyRing(1), 0
        self.post: list[tuple[str, Input]] = []
        self.cells: dict[str, Cell] = {}
        self.disk: dict[str, dict[str, Any]] = {name: {} for name in self.names}
        self.pending: dict[str, list[tuple[int, Any]]] = {}
        self.timers: dict[str, dict[str, int]] = {}
        self.life = dict.fromkeys(self.names, -1)
        self.decided: list[tuple[str, str, bytes]] = []
        for name in self.names:
            self.restart(name)

    def restart(self, name: str) -> None:
        """Start a new Cell with what the disk holds."""
        others = tuple(o for o in self.names if o != name)
        self.life[name] += 1
        self.cells[name] = Cell(self.factory(), name, others, seed=7, keys=self.ring.handle(name))
        self.pending[name], self.timers[name] = [], {}
        self.give(name, (p.START, "", dict(self.disk[name]), self.life[name]))

    def give(self, name: str, given: Input) -> None:
        """Step a Cell and carry out its effects."""
        self.now += 1_000_003
        for effect in self.cells[name].step(self.now, self.now, given):
            if effect[0] == p.SEND:
                self.post.append((effect[2], (p.MESSAGE, "", name, effect[3])))
            elif effect[0] == p.SET_TIMER:
                self.timers[name][effect[2]] = effect[4]
            elif effect[0] == p.CANCEL_TIMER:
                self.timers[name].pop(effect[2], None)
            elif effect[0] == p.SAVE:
                self.pending[name].append((effect[2], effect[3]))
            elif effect[0] == p.DECIDE:
                self.decided.append((name, effect[2], effect[3]))

    def policies(self) -> dict[str, Any]:
        """Return the policies of the nodes that are up."""
        return {name: cell.policy("") for name, cell in self.cells.items()}

    def take(self, choice: Choice) -> None:
        """Let one thing happen."""
        name = choice.node
        letter = (name, choice.given)
        if choice.kind == "deliver":
            self.post.remove(letter)
            self.give(name, choice.given)
        elif choice.kind == "drop":
            self.post.remove(letter)
        elif choice.kind == "duplicate":
            self.post.append(letter)
        elif choice.kind == "fire":
            timer = choice.given[2]
            self.give(name, (p.TIMER, "", timer, self.timers[name].pop(timer)))
        elif choice.kind == "durable":
            token, batch = self.pending[name].pop(0)
            self.disk[name].update(batch)
            self.give(name, (p.DURABLE, "", token))
        elif choice.kind == "crash":
            for _, batch in self.pending[name][: choice.kept]:
                self.disk[name].update(batch)
            del self.cells[name], self.pending[name], self.timers[name]
        elif choice.kind == "restart":
            self.restart(name)
        else:
            self.give(name, choice.given)

    def choices(self, left: Budgets) -> Iterator[tuple[Choice, Budgets]]:
        """Yield what may happen, with the budgets after it."""
        for name, given in sorted(set(self.post)):
            if name in self.cells:
                yield Choice("deliver", name, given), left
            if left.drops:
                yield Choice("drop", name, given), left._replace(drops=left.drops - 1)
            if left.duplicates:
                yield Choice("duplicate", name, given), left._replace(duplicates=left.duplicates - 1)
        for name in self.names:
            if name not in self.cells:
                yield Choice("restart", name), left
                continue
            if self.pending[name]:
                yield Choice("durable", name), left
            if left.fires:
                for timer in sorted(self.timers[name]):
                    yield Choice("fire", name, (p.TIMER, "", timer, 0)), left._replace(fires=left.fires - 1)
            if left.crashes:
                for kept in range(len(self.pending[name]) + 1):
                    yield Choice("crash", name, kept=kept), left._replace(crashes=left.crashes - 1)

    def fingerprint(self, see: Callable[[Any], object]) -> object:
        """Return what tells states apart, if ``see`` returns that of a policy."""
        up = [
            (name, see(cell.policy("")), repr([effects for _, effects in cell._held[""]]))
            for name, cell in self.cells.items()
        ]
        pending = [(name, repr([batch for _, batch in saves])) for name, saves in sorted(self.pending.items())]
        timers = [(name, tuple(sorted(armed))) for name, armed in sorted(self.timers.items())]
        disk = [tuple(sorted(self.disk[name].items())) for name in self.names]
        return (*sorted(up), *pending, *timers, *disk, *sorted(self.post))


def after(factory: Callable[[], Policy], n: int, choices: Sequence[Choice]) -> LiveCells:
    """Return new Cells after these choices."""
    live = LiveCells(factory, n)
    for choice in choices:
        live.take(choice)
    return live


def count(factory: Callable[[], Policy], n: int, budgets: Budgets, see: Callable[[Any], object]) -> tuple[int, int]:
    """Return the numbers of states and of transitions, taking every sequence from its beginning."""
    transitions = 0
    seen = {(after(factory, n, ()).fingerprint(see), budgets)}
    ways: list[tuple[tuple[Choice, ...], Budgets]] = [((), budgets)]
    for way, left in ways:  # it grows while it is read
        for choice, then in after(factory, n, way).choices(left):
            transitions += 1
            state = (after(factory, n, (*way, choice)).fingerprint(see), then)
            if state not in seen:
                seen.add(state)
                ways.append(((*way, choice), then))
    return len(seen), transitions
