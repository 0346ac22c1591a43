"""What the tests of adversaries share: a stand-in for a Cell, and a hand that attaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from policies import port as p
from policies.port import NS_PER_S, Keys
from policies.wire import encode
from scenarios.adversaries.attach import attach
from scenarios.adversaries.behaviours import Behaves
from scenarios.adversaries.wrapped import Coalition
from sim.keys import KeyRing

S = NS_PER_S
PEERS = ("n1", "n2", "n3", "n4")
RING = KeyRing(1)
START = (p.START, "", {}, 0)
TICK = (p.TIMER, "raft", "t", 1)


def send(to: str, *message: Any, path: str = "raft") -> tuple[Any, ...]:
    """Return the effect that sends a message."""
    return (p.SEND, path, to, encode(list(message)))


class Inner:
    """Stands in for a Cell: keeps its inputs and times, and answers each with the effects it was given for it."""

    def __init__(self, keys: Keys, effects: Sequence[tuple[Any, ...]] = ()) -> None:
        self.keys, self.effects = keys, tuple(effects)
        self.given: list[Any] = []
        self.times: list[tuple[int, int]] = []
        self.peers, self.paths, self.malformed = PEERS, ("raft",), 0
        self.crypto_ops = 0

    def step(self, now: int, wall: int, given: tuple[Any, ...]) -> tuple[Any, ...]:
        self.given.append(given)
        self.times.append((now, wall))
        self.crypto_ops += 2
        return self.effects if given[0] != p.START else ()


class Liar:
    """A stand-in with adversaries around it; time is in seconds."""

    def __init__(
        self,
        *behaviours: Behaves,
        effects: Sequence[tuple[Any, ...]] = (),
        me: str = "n0",
        coalition: Sequence[str] = (),
        seed: int = 1,
        started: bool = True,
    ) -> None:
        self.inners: list[Inner] = []

        def make(keys: Keys) -> Inner:
            self.inners.append(Inner(keys, effects))
            return self.inners[-1]

        party = None
        if coalition:
            party = Coalition("ring", tuple(coalition), {name: RING.handle(name) for name in coalition})
        peers = tuple(name for name in ("n0", *PEERS) if name != me)
        self.cell = attach(
            make, behaviours, me=me, peers=peers, seed=seed, keys=RING.handle(me), coalition=party
        )  # fmt: skip
        if started:
            self(0.0, START)

    @property
    def inner(self) -> Inner:
        """The first Cell."""
        return self.inners[0]

    def __call__(self, now_s: float, given: tuple[Any, ...] = TICK) -> tuple[Any, ...]:
        """Feed one input and return what leaves."""
        effects: tuple[Any, ...] = self.cell.step(int(now_s * S), int(now_s * S), given)
        return effects

    def wake(self, timer: tuple[Any, ...]) -> tuple[Any, ...]:
        """Fire a timer at its deadline."""
        kind, path, name, deadline, generation = timer
        assert kind == p.SET_TIMER
        return self(deadline / S, (p.TIMER, path, name, generation))
