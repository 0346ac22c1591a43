"""A few nodes as a transition system: what may happen next in a state, and what state follows.

A state is every node (policies, armed timers, disk, saves not durable yet, up or down), the messages in flight, what
is left of each budget, and what each property remembers. It is a flat tuple of small integers: whatever a state is
made of gets a number when it first occurs. A node's step depends on that node and its input alone, so each is taken
once and remembered; a protocol has far fewer states of a node than of the whole.

What is modelled of the world:

- A message may come at any later time, in any order. It waits for a node that is down: as to safety, a message that
  is lost is one that never comes, so ``drops`` adds no state of the nodes that their absence would not reach.
- A timer may fire at any time after it was set (`sim.logical_cell` says what that abstracts).
- Saves become durable one by one, in the order of the node's steps. A crash keeps a prefix of the others, of any
  length, as a log does whose tail was written but not acknowledged (`policies.log`).
- A node with no jobs, no sensors and no advice about peers: who submits a job is refused; ``sense``, ``limit``,
  ``note`` and ``reply`` do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

from policies import port as p
from policies.port import Input, Policy
from policies.wire import encode
from sim.canonical import canonical
from sim.choice import KINDS, Choice, Decision, Request, Safety
from sim.keys import KeyRing
from sim.logical_cell import LogicalCell, ScopeError, Timer
from sim.trace import decoded

Factory = Callable[[], Policy | Mapping[str, Policy]]
State = tuple[int, ...]
"""Numbers of the nodes' states, budgets left, numbers of the properties' memories, numbers of the messages, sorted."""

DELIVER, DURABLE, FIRE, REQUEST, RESTART, CRASH, DUPLICATE, DROP = range(8)
CRASHES, DROPS, DUPLICATES, FIRES, REQUESTS = range(5)  # budgets, in a state's order; of requests, a bit for each
_SPENDS = {CRASH: CRASHES, DROP: DROPS, DUPLICATE: DUPLICATES, FIRE: FIRES}
UNLIMITED = (1 << 32) - 1
LOOKED_AT_MAX = 20_000
"""Nodes' states kept unpacked for properties to look at: tens of megabytes."""

Move = tuple[int, int, int]
"""Kind, number of the node (of a message: its receiver), and which: a message, a timer, a request, or saves kept."""


class Node(NamedTuple):
    """One node's state."""

    snapshot: bytes | None  # None while it is down
    timers: tuple[tuple[Timer, int], ...]  # with deadlines, all 0 without a clock
    disk: tuple[tuple[str, bytes], ...]
    pending: tuple[tuple[str, int, tuple[tuple[str, bytes | None], ...]], ...]  # path, token, batch; oldest first
    clock: int


class Step(NamedTuple):
    """What a node's step led to."""

    node: int
    letters: tuple[int, ...]
    decisions: tuple[Decision, ...]
    raised: str


class SmallScope:
    """``n`` nodes named ``n0`` and so on, that run one policy.

    Args:
        factory: makes a node's policy, or its policies by path; called once a node. A restart begins from a copy.
        n: number of nodes.
        budgets: crashes, drops, duplicates and fires, each a number or `UNLIMITED`.
        requests: what clients may ask.
        safety: whose memories are part of a state.
        clock: whether policies may read time (`sim.logical_cell`).

    Raises:
        ScopeError: the policies cannot be explored.
    """

    def __init__(
        self,
        factory: Factory,
        n: int,
        budgets: tuple[int, int, int, int],
        requests: Sequence[Request],
        safety: Sequence[Safety],
        clock: bool,
    ) -> None:
        self.names = tuple(f"n{i}" for i in range(n))
        self.number = {name: i for i, name in enumerate(self.names)}
        self.requests, self.safety, self.clock = tuple(requests), tuple(safety), clock
        ring = KeyRing(0)
        self.cells = [
            LogicalCell(factory(), me, tuple(o for o in self.names if o != me), keys=ring.handle(me), clock=clock)
            for me in self.names
        ]
        self._fresh = [cell.take() for cell in self.cells]
        self.nodes: list[Node] = []
        self._node_numbers: dict[bytes, int] = {}
        self.letters: list[tuple[int, Input]] = []  # receiver, input
        self._letter_numbers: dict[tuple[int, Input], int] = {}
        self.memories: list[Any] = []
        self._memory_numbers: dict[bytes, int] = {}
        self._steps: dict[tuple[int, int, int, int], Step] = {}
        self._look = lru_cache(LOOKED_AT_MAX)(self._looked_at)
        self._budgets = (*budgets, (1 << len(self.requests)) - 1)
        self._memories_at = n + len(self._budgets)
        self._letters_at = self._memories_at + len(self.safety)

    def first(self) -> State | str:
        """Return the state in which every node has started, or what a policy raised."""
        down = self._node_number(Node(None, (), (), (), 0), b"")
        empty = [self._memory_number(each.empty) for each in self.safety]
        state: State | str = (*[down] * len(self.names), *self._budgets, *empty)
        for at in range(len(self.names)):
            if not isinstance(state, str):
                state = self.after(state, (RESTART, at, 0))
        return state

    # -- what may happen -----------------------------------------------------------------------------

    def moves(self, state: State) -> Iterator[Move]:
        """Yield what may happen next, in an order that depends on the state alone."""
        n = len(self.names)
        left = state[n : self._memories_at]
        in_flight = sorted(set(state[self._letters_at :]))
        nodes = [self.nodes[number] for number in state[:n]]
        for letter in in_flight:
            to = self.letters[letter][0]
            if nodes[to].snapshot is not None:
                yield (DELIVER, to, letter)
        for at, node in enumerate(nodes):
            if node.snapshot is None:
                yield (RESTART, at, 0)
                continue
            if node.pending:
                yield (DURABLE, at, 0)
            if left[FIRES]:
                for which in range(len(node.timers)):
                    yield (FIRE, at, which)
            if left[CRASHES]:
                for kept in range(len(node.pending) + 1):
                    yield (CRASH, at, kept)
        for which, request in enumerate(self.requests):
            at = self.number[request.node]
            if left[REQUESTS] >> which & 1 and nodes[at].snapshot is not None:
                yield (REQUEST, at, which)
        for letter in in_flight:
            to, given = self.letters[letter]
            if self.names[to] != given[2]:  # what a node sends to itself meets no network
                if left[DUPLICATES]:
                    yield (DUPLICATE, to, letter)
                if left[DROPS]:
                    yield (DROP, to, letter)

    def after(self, state: State, move: Move) -> State | str:
        """Return the state after ``move``, or what a policy raised."""
        kind, at, which = move
        n, memories_at, letters_at = len(self.names), self._memories_at, self._letters_at
        nodes, left = list(state[:n]), list(state[n:memories_at])
        memories, letters = state[memories_at:letters_at], list(state[letters_at:])
        spent = _SPENDS.get(kind)
        if spent is not None and left[spent] != UNLIMITED:
            left[spent] -= 1
        if kind == DROP:
            letters.remove(which)
        elif kind == DUPLICATE:
            letters.append(which)
        else:
            if kind == DELIVER:
                letters.remove(which)
            elif kind == REQUEST:
                left[REQUESTS] &= ~(1 << which)
            key = (at, nodes[at], kind, which)
            step = self._steps.get(key)
            if step is None:
                step = self._steps[key] = self._step(at, self.nodes[nodes[at]], move)
            if step.raised:
                return step.raised
            nodes[at] = step.node
            letters += step.letters
            if step.decisions:
                memories = tuple(self._fold(i, memory, step.decisions) for i, memory in enumerate(memories))
        letters.sort()
        return (*nodes, *left, *memories, *letters)

    def choice(self, state: State, move: Move) -> Choice:
        """Return ``move`` in words that need no numbers."""
        kind, at, which = move
        name, node = self.names[at], self.nodes[state[at]]
        if kind in (DELIVER, DUPLICATE, DROP):
            return Choice(KINDS[kind], name, self.letters[which][1])
        if kind == FIRE:
            return Choice("fire", name, (p.TIMER, *node.timers[which][0], 0))
        if kind == REQUEST:
            return Choice("request", name, _given(self.requests[which]))
        return Choice(KINDS[kind], name, kept=which if kind == CRASH else 0)

    # -- properties ----------------------------------------------------------------------------------

    def broken(self, state: State) -> str:
        """Return what the first broken property says, or ''."""
        nodes = _UpNodes(self, state)
        for each, memory in zip(self.safety, state[self._memories_at : self._letters_at], strict=True):
            if what := each.broken(nodes, self.memories[memory]):
                return what
        return ""

    def _fold(self, which: int, memory: int, decisions: tuple[Decision, ...]) -> int:
        value, remember = self.memories[memory], self.safety[which].remember
        for decision in decisions:
            value = remember(value, decision)
        return self._memory_number(value)

    def _looked_at(self, at: int, number: int) -> Any:
        snapshot = self.nodes[number].snapshot
        assert snapshot is not None
        policies = self.cells[at].look(snapshot)
        return policies[""] if list(policies) == [""] else policies

    # -- one node's step -----------------------------------------------------------------------------

    def _step(self, at: int, node: Node, move: Move) -> Step:
        kind, _, which = move
        name, cell, timers = self.names[at], self.cells[at], dict(node.timers)
        disk, pending, clock = node.disk, node.pending, node.clock
        if kind == CRASH:
            for _, _, batch in pending[:which]:
                disk = _written(disk, batch)
            return Step(self._node_number(Node(None, (), disk, (), clock), b""), (), (), "")
        cell.put(node.snapshot or self._fresh[at])
        given: Input
        if kind == RESTART:
            given = (p.START, "", dict(disk), 0)
        elif kind == DELIVER:
            given = self.letters[which][1]
        elif kind == FIRE:
            timer, deadline = node.timers[which]
            del timers[timer]
            clock = max(clock, deadline)
            given = (p.TIMER, *timer, cell.generation(timer))
        elif kind == DURABLE:
            (path, token, batch), *rest = pending
            disk, pending = _written(disk, batch), tuple(rest)
            given = (p.DURABLE, path, token)
        else:
            given = _given(self.requests[which])
        try:
            effects = cell.step(clock, clock, given)
        except ScopeError:
            raise
        except Exception as error:  # a policy that raises is a defect to report, with the way to it
            return Step(0, (), (), f"{name} raised {type(error).__name__}: {error}")
        letters, decisions, saves = [], [], list(pending)
        for effect in effects:
            if effect[0] == p.SEND:
                letters += self._letter(name, effect[1], effect[2], effect[3])
            elif effect[0] == p.SET_TIMER:
                timers[effect[1], effect[2]] = effect[3] if self.clock else 0
            elif effect[0] == p.CANCEL_TIMER:
                timers.pop((effect[1], effect[2]), None)
            elif effect[0] == p.SAVE:
                saves.append(effect[1:])
            elif effect[0] == p.DECIDE:
                decisions.append(self._decision(at, effect))
            elif effect[0] == p.SUBMIT:
                raise ScopeError(f"policy {effect[1]!r} submits a job: allowed are messages, timers and saves")
        after = Node(cell.take(), tuple(sorted(timers.items())), disk, tuple(saves), clock if self.clock else 0)
        return Step(self._node_number(after, cell.same()), tuple(letters), tuple(decisions), "")

    def _letter(self, sender: str, path: str, to: str, payload: bytes) -> list[int]:
        if to not in self.number:
            to, _, path = to.partition("/")
        if to not in self.number:
            return []
        letter = (self.number[to], (p.MESSAGE, path, sender, payload))
        if letter not in self._letter_numbers:
            self._letter_numbers[letter] = len(self.letters)
            self.letters.append(letter)
        return [self._letter_numbers[letter]]

    def _decision(self, at: int, effect: p.Effect) -> Decision:
        _, path, kind, payload = effect
        policy = self.cells[at].policy(path)
        return Decision(self.names[at], path, kind, decoded(policy, payload))

    def _node_number(self, node: Node, same: bytes) -> int:
        pending = [(path, batch) for path, _, batch in node.pending]
        whole = encode((node.snapshot is None, same, node.timers, node.disk, pending, node.clock))
        digest = blake2b(whole, digest_size=16).digest()
        if digest not in self._node_numbers:
            self._node_numbers[digest] = len(self.nodes)
            self.nodes.append(node)
        return self._node_numbers[digest]

    def _memory_number(self, value: Any) -> int:
        key = canonical(value)
        if key not in self._memory_numbers:
            self._memory_numbers[key] = len(self.memories)
            self.memories.append(value)
        return self._memory_numbers[key]


class _UpNodes(Mapping[str, Any]):
    """The policies of the nodes that are up, unpacked when they are looked at."""

    def __init__(self, scope: SmallScope, state: State) -> None:
        self._scope, self._state = scope, state

    def __getitem__(self, name: str) -> Any:
        at = self._scope.number[name]
        number = self._state[at]
        if self._scope.nodes[number].snapshot is None:
            raise KeyError(name)
        return self._scope._look(at, number)

    def __iter__(self) -> Iterator[str]:
        nodes = self._scope.nodes
        return (
            name
            for name, number in zip(self._scope.names, self._state, strict=False)
            if nodes[number].snapshot is not None
        )

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _given(request: Request) -> Input:
    return (p.REQUEST, request.path, request.client, request.op_id, encode(request.operation))


def _written(disk: tuple[tuple[str, bytes], ...], batch: Any) -> tuple[tuple[str, bytes], ...]:
    """Return what the disk holds, by key, after one more batch (as `policies.log.recover` reads it)."""
    after = dict(disk) | dict(batch)
    return tuple(sorted((key, value) for key, value in after.items() if value is not None))
