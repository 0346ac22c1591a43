"""What clients wait in a world-wide group: BFT-SMaRt on four AWS regions (Berger et al. 2022), simulated with PBFT.

Both protocols take three hops between members: propose, write (prepare), accept (commit). BFT-SMaRt's clients ask all
members and believe a quorum of equal answers; ours asks the primary alone, whose copy of the request is the only one
that anybody waits for. Nothing is fitted: delays between regions are measured ones, and steps, signatures and disks
cost nothing beside them. The leader is in Oregon, the first of the authors' list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from experiments.published.machines import STILL
from policies.cell import Cell
from policies.config import PbftConfig
from policies.consensus import Pbft
from policies.consensus.quorum import byzantine_quorum
from policies.local import Committed, Propose
from policies.port import NS_PER_S, Policy
from policies.wire import Message
from sim.keys import KeyRing
from sim.network import Links, MessageNetwork
from sim.trace import innermost
from sim.world import StepCost, World

REGIONS = ("Oregon", "Ireland", "São Paulo", "Sydney")
"""us-west-2, eu-west-1, sa-east-1 and ap-southeast-2, in the order of the members; the first one leads."""
ROUND_TRIP_MS = (
    (2.42, 118.71, 175.65, 140.45),
    (119.63, 3.35, 180.33, 257.73),
    (177.13, 181.12, 3.04, 312.85),
    (141.41, 257.64, 314.36, 2.64),
)
"""Averages of cloudping.co between those regions, from row to column, as kept in Delphi-BFT/tool
``src/util/aws21.json`` (commit 584f14aa66). Of another day than the published latencies; the file gives no date."""
FREE = StepCost(base_ns=0, byte_ns=0, sign_ns=0, verify_ns=0, fsync_ns=0)


@dataclass(frozen=True)
class Published:
    """A number of the paper, in ms: ``real`` on AWS, ``shadow`` in the authors' simulation of the real programs."""

    what: str
    real: float
    shadow: float


PUBLISHED = (
    Published("Oregon", 353.938, 358.690),
    Published("Ireland", 415.892, 428.015),
    Published("São Paulo", 414.534, 429.185),
    Published("Sydney", 437.612, 449.175),
    Published("consensus", 237.142, 248.960),
)
"""Delphi-BFT/tool, ``datasets/data/client-latencies.txt`` and ``consensus-latencies.txt``: a client in each region, and
the leader's time from proposing to deciding."""


class Between(MessageNetwork):
    """Links between regions, half a round trip each way.

    Args:
        places: number of each node's region.
    """

    def __init__(self, places: Sequence[int]) -> None:
        super().__init__(1, Links.alike(len(places), 0.0, 125e6), STILL)  # 1 Gbit/s, as in the authors' set-up
        self._places = places

    def backbone_s(self, source: int, target: int) -> float:
        """Return the one-way delay."""
        return ROUND_TRIP_MS[self._places[source]][self._places[target]] / 2000


class Order(Message, frozen=True, tag="order"):
    """A client's request."""

    command: bytes


class Answer(Message, frozen=True, tag="answer"):
    """A member has executed it."""

    command: bytes


class Front(Policy):
    """The state machine of a member: it orders what clients ask of it, and answers what is committed."""

    messages = (Order,)

    def __init__(self) -> None:
        self.took_ns: list[int] = []
        self.since_ns: dict[bytes, int] = {}

    def on_message(self, sender: str, message: Any) -> None:
        self.since_ns[message.command] = self.port.now
        self.port.tell("log", Propose(message.command))

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Committed):
            client, _, _ = message.command.decode().rpartition(" ")
            if message.command in self.since_ns:
                self.took_ns.append(self.port.now - self.since_ns.pop(message.command))
            self.port.send(client, Answer(message.command))


class Client(Policy):
    """Asks the primary again and again; an answer counts when a quorum gave it."""

    messages = (Answer,)

    def __init__(self, quorum: int) -> None:
        self.quorum = quorum
        self.took_ns: list[int] = []
        self.answers: set[str] = set()
        self.asked, self.since_ns = 0, 0

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.port.set_timer("ask", NS_PER_S)

    def on_timer(self, name: str) -> None:
        self._ask()

    def on_message(self, sender: str, message: Answer) -> None:
        if message.command != self._command():
            return
        self.answers.add(sender)
        if len(self.answers) == self.quorum:
            self.took_ns.append(self.port.now - self.since_ns)
            self._ask()

    def _command(self) -> bytes:
        return f"{self.port.me} {self.asked}".encode()

    def _ask(self) -> None:
        self.answers.clear()
        self.asked += 1
        self.since_ns = self.port.now
        self.port.send(REGIONS[0], Order(self._command()))


def latencies_ms(region: str, seconds: float = 30.0) -> tuple[float, float]:
    """Return what a client in a region waits, and what the leader does from proposing to deciding; means."""
    world = World(Between((*range(len(REGIONS)), REGIONS.index(region))))
    keys = KeyRing(1)
    client = f"client in {region}"
    names = (*REGIONS, client)
    quorum = byzantine_quorum(len(REGIONS))
    for name in names:

        def make(name: str = name) -> Cell:
            policies: dict[str, Policy] = {"app": Client(quorum)}
            if name in REGIONS:
                policies = {"log": Pbft(PbftConfig(), REGIONS, "app"), "app": Front()}
            return Cell(policies, name, tuple(x for x in names if x != name), seed=1, keys=keys.handle(name))

        world.start(world.add(name, make, FREE))
    world.run(seconds)
    asker, primary = (_app(world, name) for name in (client, REGIONS[0]))
    return mean(asker.took_ns) / 1e6, mean(primary.took_ns) / 1e6


def _app(world: World, name: str) -> Any:
    return innermost(world.by_name[name].cell).policy("app")


def table() -> list[tuple[Published, float]]:
    """Return each published number with ours, in ms."""
    measured = {region: latencies_ms(region) for region in REGIONS}
    ours = {region: waited for region, (waited, _) in measured.items()}
    ours["consensus"] = measured[REGIONS[0]][1]
    return [(row, ours[row.what]) for row in PUBLISHED]
