"""Exhaustive exploration of a small scope: every order of a few nodes' messages, timers, saves and crashes.

    >>> from policies.election import Election
    >>> from sim.explore import Safety, explore
    >>> def campaigns(nodes, memory):
    ...     return "two are candidates" if sum(node.term > 0 for node in nodes.values()) > 1 else ""
    >>> result = explore(Election, n=2, fires=2, safety=[Safety(campaigns)])
    >>> print(result)
    broken after 2 choices: two are candidates
    n0 timer campaign
    n1 timer campaign

The search is breadth-first, so a counterexample is a shortest one. States are compared by a 128-bit digest: among a
hundred million, two different ones share a digest with a probability below 1e-22. What is modelled, and what not, is
said in `sim.small_scope` and `sim.logical_cell`. A search without a counterexample shows that the properties hold
within the scope, which is the nodes, the budgets and the depth that were given; most defects of protocols show in a
small one (the small-scope hypothesis: Jackson, Software Abstractions, MIT Press 2006).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from sim.choice import Choice, Decision, Request, Safety
from sim.logical_cell import ScopeError
from sim.small_scope import UNLIMITED, Factory, SmallScope, State

__all__ = ["Choice", "Decision", "Request", "Result", "Safety", "ScopeError", "explore"]

PROGRESS_EVERY = 10_000
"""States between two calls of ``progress``."""
REQUESTS_MAX = 32
"""Which requests are left is one number of 32 bits in a state."""


@dataclass(frozen=True, repr=False)
class Result:
    """What an exploration found.

    Attributes:
        states: different states seen, the first included.
        transitions: choices tried, from any state to any other.
        depth: every state within so many choices of the start was seen.
        complete: nothing was left to try: within the budgets no other state exists at any depth.
        broken: what the first broken property says, or which exception a policy raised; "" if all held.
        counterexample: a shortest sequence of choices that leads there.
    """

    states: int
    transitions: int
    depth: int
    complete: bool
    broken: str = ""
    counterexample: tuple[Choice, ...] = ()

    def __repr__(self) -> str:
        if self.broken:
            head = f"broken after {len(self.counterexample)} choices: {self.broken}"
            return "\n".join([head, *map(str, self.counterexample)])
        reach = "complete" if self.complete else f"not complete: every state within {self.depth} choices"
        return f"all hold in {self.states} states, {self.transitions} transitions ({reach})"


def explore(
    factory: Factory,
    n: int,
    *,
    safety: Sequence[Safety] = (),
    depth: int = 100,
    states: int = 1_000_000,
    crashes: int = 0,
    drops: int = 0,
    duplicates: int = 0,
    fires: int | None = None,
    requests: Sequence[Request] = (),
    clock: bool = False,
    progress: Callable[[Result], None] = lambda so_far: None,
) -> Result:
    """Visit every state that ``n`` nodes can reach, until a property is broken.

    Args:
        factory: makes a node's policy, or its policies by path; a class will do.
        n: number of nodes, named ``n0`` and so on.
        safety: properties of every state.
        depth: choices from the start beyond which nothing is tried.
        states: stop after so many (measured: 150 to 360 bytes each, the frontier included).
        crashes, drops, duplicates: how many there may be in a run.
        fires: how many timers may fire in a run; None is no limit.
        requests: what clients may ask, each once, at any time; at most `REQUESTS_MAX`.
        clock: whether policies may read time, which then is part of a state.
        progress: called every `PROGRESS_EVERY` states with the result so far.

    Raises:
        ScopeError: the scope is none, or the policies cannot be explored.
    """
    _check(n=(n, 1), depth=(depth, 0), states=(states, 1), crashes=(crashes, 0), drops=(drops, 0))
    _check(duplicates=(duplicates, 0), fires=(0 if fires is None else fires, 0))
    if unknown := sorted({request.node for request in requests} - {f"n{i}" for i in range(n)}):
        raise ScopeError(f"requests to {unknown}: allowed are n0 to n{n - 1}")
    if len(requests) > REQUESTS_MAX:
        raise ScopeError(f"requests={len(requests)} of them: allowed are at most {REQUESTS_MAX}")
    budgets = (crashes, drops, duplicates, UNLIMITED if fires is None else fires)
    scope = SmallScope(factory, n, budgets, requests, safety, clock)
    return _Search(scope, states, progress).run(depth)


def _check(**given: tuple[int, int]) -> None:
    for name, (value, least) in given.items():
        if not least <= value < UNLIMITED:
            raise ScopeError(f"{name}={value}: allowed are {least} to {UNLIMITED - 1}")


class _Search:
    """Breadth-first search. Of a state behind the frontier it keeps a digest, and how it was first reached."""

    def __init__(self, scope: SmallScope, states_max: int, progress: Callable[[Result], None]) -> None:
        self.scope, self.states_max, self.progress = scope, states_max, progress
        self.seen: set[bytes] = set()
        self.parents, self.ways = array("q"), array("l")  # of state i: the state before, and which of its moves
        self.transitions = 0
        self.depth = 0

    def run(self, depth: int) -> Result:
        """Explore to ``depth`` choices."""
        first = self.scope.first()
        if isinstance(first, str):
            return self._result(broken=first)
        frontier: list[tuple[int, State]] = []
        self._add(first, -1, 0, frontier)
        if what := self.scope.broken(first):
            return self._result(broken=what)
        while frontier:
            if self.depth == depth:
                return self._result()
            following: list[tuple[int, State]] = []
            for number, state in frontier:
                if found := self._expand(number, state, following):
                    return found
            frontier = following
            self.depth += bool(frontier)
        return self._result(complete=True)

    def _expand(self, number: int, state: State, following: list[tuple[int, State]]) -> Result | None:
        """Try every move from a state; return a result if the search ends here."""
        scope = self.scope
        for way, move in enumerate(scope.moves(state)):
            self.transitions += 1
            after = scope.after(state, move)
            if isinstance(after, str):
                return self._result(broken=after, ways=[*self._ways(number), way])
            if not self._add(after, number, way, following):
                continue
            if what := scope.broken(after):
                return self._result(broken=what, ways=[*self._ways(number), way])
            if len(self.seen) % PROGRESS_EVERY == 0:
                self.progress(self._result())
            if len(self.seen) >= self.states_max:
                return self._result()
        return None

    def _add(self, state: State, parent: int, way: int, frontier: list[tuple[int, State]]) -> bool:
        digest = blake2b(array("I", state).tobytes(), digest_size=16).digest()
        if digest in self.seen:
            return False
        self.seen.add(digest)
        frontier.append((len(self.parents), state))
        self.parents.append(parent)
        self.ways.append(way)
        return True

    def _ways(self, number: int) -> list[int]:
        """Return which move was taken at each step from the start to a state."""
        ways: list[int] = []
        while number:
            ways.append(self.ways[number])
            number = self.parents[number]
        return ways[::-1]

    def _result(self, *, complete: bool = False, broken: str = "", ways: Sequence[int] = ()) -> Result:
        choices: list[Choice] = []
        if ways:
            state: State | str = self.scope.first()
            for way in ways:
                assert not isinstance(state, str)
                move = list(self.scope.moves(state))[way]
                choices.append(self.scope.choice(state, move))
                state = self.scope.after(state, move)
        return Result(len(self.seen), self.transitions, self.depth, complete, broken, tuple(choices))
