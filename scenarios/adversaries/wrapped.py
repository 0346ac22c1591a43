"""Wrapped: what every adversary around a Cell has in common.

A wrapper offers the Cell's own ``step``, so it attaches in every driver and around another wrapper. It sees each
input before the Cell (`hear`) and each effect after it (`say`), from ``from_s`` to ``until_s`` and at its path; at
all other times and places it is not there. Its own timers and saves have the path ``~K``, where K is its place among
the wrappers of the node, so that drivers carry them like any other. It signs through the node's handle, and what it
signs is journalled (SIGNED) like the Cell's own, so that a journal replays through a fresh wrapper.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from policies import port as p
from policies.port import NS_PER_S, Effect, Input, Keys
from policies.rng import Rng
from scenarios.adversaries.behaviours import Behaves, kind_of
from scenarios.adversaries.payload import plain, tag_of

SIGNED_MAX = 4096
"""Signatures whose data a liar remembers; the oldest are forgotten."""
MEMORY_MAX = 256
"""Messages that a liar, or its coalition, remembers."""

PAYLOAD = {p.SEND: 3, p.REPLY: 4, p.SUBMIT: 3}
"""Where an effect of a kind has its payload."""


class Steps(Protocol):
    """A Cell, or something around one."""

    crypto_ops: int

    def step(self, now: int, wall: int, given: Input) -> tuple[Effect, ...]:
        """Feed one input."""
        ...


@dataclass(frozen=True)
class Coalition:
    """Nodes that misbehave together: their names in a fixed order, and all their keys."""

    name: str
    members: tuple[str, ...]
    keys: Mapping[str, Keys]

    def after(self, me: str) -> str:
        """Return the member after ``me``, in a ring."""
        return self.members[(self.members.index(me) + 1) % len(self.members)]


class OwnedKeys:
    """A node's key handle in a liar's hands: it remembers what each signature was made of."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.made: dict[bytes, bytes] = {}

    def sign(self, data: bytes) -> bytes:
        """Sign as this node."""
        signature = self._keys.sign(data)
        if len(self.made) >= SIGNED_MAX:
            del self.made[next(iter(self.made))]
        self.made[signature] = data
        return signature

    def verify(self, identity: str, data: bytes, signature: bytes) -> bool:
        """Check anybody's signature."""
        return self._keys.verify(identity, data, signature)


@dataclass
class Place:
    """Where a wrapper stands, and what the wrappers of one node share.

    Attributes:
        me, peers: the node, and the nodes that it can name.
        seed: the run's seed.
        begun_ns: the node's clock at the run's start, from which ``from_s`` counts.
        keys: the node's handle.
        coalition: whom it colludes with.
        make: makes another Cell of this node.
        turn_ns: length of a turn of the coalition's members; 0: all at once.
        memory: what the coalition has told this node: (path, payload).
    """

    me: str
    peers: tuple[str, ...]
    seed: int
    begun_ns: int
    keys: OwnedKeys
    coalition: Coalition | None
    make: Callable[[], Steps]
    turn_ns: int = 0

    def __post_init__(self) -> None:
        self.memory: deque[tuple[str, bytes]] = deque(maxlen=MEMORY_MAX)

    @property
    def party(self) -> str:
        """The coalition's name, or the node's: colluders draw alike."""
        return self.me if self.coalition is None else f"coalition {self.coalition.name}"

    def mate(self, node: str) -> bool:
        """Whether ``node`` is another member of this node's coalition."""
        return self.coalition is not None and node != self.me and node in self.coalition.members

    def my_turn(self, now: int) -> bool:
        """Whether the coalition's plan lets this node misbehave now."""
        if self.coalition is None or not self.turn_ns:
            return True
        members = self.coalition.members
        return members[(now - self.begun_ns) // self.turn_ns % len(members)] == self.me


B = TypeVar("B", bound=Behaves)


class Wrapped(Generic[B]):
    """A wrapper that changes nothing yet.

    Args:
        cell: what it stands around.
        behaviour: what it does, and when.
        place: where it stands.
        index: its place among the node's wrappers.
    """

    def __init__(self, cell: Steps, behaviour: B, place: Place, index: int) -> None:
        self.cell, self.behaviour, self.place = cell, behaviour, place
        self.crypto_ops = self.now = self.wall = 0
        self.from_ns = place.begun_ns + int(behaviour.from_s * NS_PER_S)
        until_s = behaviour.until_s
        self.until_ns = None if until_s is None else place.begun_ns + int(until_s * NS_PER_S)
        self.own = f"~{index}"
        self.rng = Rng(place.seed, place.party, self.own, 0)
        self._generation = 0
        self._signed: list[Effect] = []

    # -- what a driver uses --------------------------------------------------------------------------

    def step(self, now: int, wall: int, given: Input) -> tuple[Effect, ...]:
        """Feed one input; what is returned leaves the node."""
        self.now, self.wall = now, wall
        if given[1] == self.own:
            out = list(self.on_own(given))
        elif given[0] == p.START:
            self.rng = Rng(self.place.seed, self.place.party, self.own, given[3])
            out = [*self.begin(given)]
        else:
            out = self.act(given)
        out += self._signed
        self._signed.clear()
        return tuple(out)

    @property
    def innermost(self) -> Any:
        """The Cell itself."""
        cell: Any = self.cell
        while isinstance(cell, Wrapped):
            cell = cell.cell
        return cell

    @property
    def peers(self) -> tuple[str, ...]:
        """The Cell's peers."""
        return tuple(self.innermost.peers)

    @property
    def paths(self) -> tuple[str, ...]:
        """The Cell's mounted paths."""
        return tuple(self.innermost.paths)

    @property
    def malformed(self) -> int:
        """Inputs that the Cell's codecs refused."""
        return int(self.innermost.malformed)

    def policy(self, path: str) -> Any:
        """Return the policy at ``path``."""
        return self.innermost.policy(path)

    # -- what a behaviour changes --------------------------------------------------------------------

    def hear(self, given: Input) -> Input | None:
        """Return what the Cell is told instead of ``given``; None: nothing."""
        return given

    def say(self, effect: Effect) -> Iterable[Effect]:
        """Yield what leaves instead of ``effect``."""
        yield effect

    def on_own(self, given: Input) -> Iterable[Effect]:
        """An input of this wrapper's own path: its timer, or its save."""
        return ()

    def begin(self, given: Input) -> Iterable[Effect]:
        """The node starts."""
        return self.act(given)

    # -- what behaviours use -------------------------------------------------------------------------

    @property
    def acting(self) -> bool:
        """Whether it misbehaves now."""
        if self.now < self.from_ns or (self.until_ns is not None and self.now >= self.until_ns):
            return False
        return self.place.my_turn(self.now)

    def concerns(self, what: Input | Effect, node: str) -> bool:
        """Whether an input or effect is at this path, from or to no fellow of its coalition, and no wrapper's own."""
        path, mine = what[1], self.behaviour.path
        return (not mine or path == mine) and path[:1] != "~" and not self.place.mate(node)

    def act(self, given: Input) -> list[Effect]:
        """Feed one input as `hear` has it, and return its effects as `say` has them."""
        if self.acting and given[0] != p.START and self.concerns(given, given[2] if given[0] == p.MESSAGE else ""):
            heard = self.hear(given)
            if heard is None:
                return []
            given = heard
        return self.pass_on(given)

    def pass_on(self, given: Input) -> list[Effect]:
        """Feed one input, and return its effects as `say` has them."""
        effects = self.feed(given)
        if not self.acting:
            return list(effects)
        return [said for effect in effects for said in self._said(effect)]

    def _said(self, effect: Effect) -> Iterable[Effect]:
        return self.say(effect) if self.concerns(effect, peer_of(effect)) else (effect,)

    def feed(self, given: Input) -> tuple[Effect, ...]:
        """Step what stands inside, and take over the cost of its signatures."""
        effects = self.cell.step(self.now, self.wall, given)
        self.crypto_ops, self.cell.crypto_ops = self.crypto_ops + self.cell.crypto_ops, 0
        return effects

    def timer(self, name: str, deadline_ns: int) -> Effect:
        """Return the effect that wakes this wrapper at a time."""
        self._generation += 1
        return (p.SET_TIMER, self.own, name, max(deadline_ns, self.now), self._generation)

    def sign(self, data: bytes, mate: str = "") -> bytes:
        """Sign as this node, or as a member of its coalition."""
        keys: Keys = self.place.keys
        if mate:
            assert self.place.coalition is not None
            keys = self.place.coalition.keys[mate]
        signature = keys.sign(data)
        self.crypto_ops += 1
        self._signed.append((p.SIGNED, self.own, signature))
        return signature

    def lies_to(self, effect: Effect, tags: tuple[str, ...], peers: tuple[str, ...] = ()) -> bool:
        """Whether an effect is a message of these tags to these peers."""
        if effect[0] != p.SEND or (peers and peer_of(effect) not in peers):
            return False
        return not tags or tag_of(effect[3]) in tags


def peer_of(effect: Effect) -> str:
    """Return the node that an effect is a message to, or ""."""
    return str(effect[2]).partition("/")[0] if effect[0] == p.SEND else ""


def with_payload(effect: Effect, payload: bytes) -> Effect:
    """Return an effect with another payload."""
    index = PAYLOAD[effect[0]]
    return (*effect[:index], payload, *effect[index + 1 :])


def signatures_in(payload: bytes, made: Mapping[bytes, bytes]) -> Iterator[bytes]:
    """Yield the signatures of this node that stand in a message, at any depth."""
    todo: list[Any] = plain(payload)
    while todo:
        item = todo.pop(0)
        if isinstance(item, list):
            todo[:0] = item
        elif isinstance(item, bytes) and item in made:
            yield item


def describe(behaviours: Iterable[Behaves]) -> str:
    """Return behaviours in one word for a manifest, e.g. ``silent+delay``."""
    return "+".join(kind_of(behaviour) for behaviour in behaviours)
