"""A cluster: a few nodes that run any policy in virtual time, for tutorials, checks and tests.

    >>> from policies.election import Election
    >>> cluster = Cluster(Election, n=3)
    >>> cluster.run(5)
    >>> {decision.kind for decision in cluster.decisions}
    {'leader'}

It is `sim.world.World` with equal nodes ``n0, n1, ...`` on equal links, a list of what was decided, and a trace.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from policies import port as p
from policies.cell import Cell
from policies.jobs import Lost
from policies.port import NS_PER_S, Effect, Input, Keys, Policy
from policies.wire import Message, encode
from scenarios.adversaries.behaviours import Behaves
from scenarios.adversaries.choose import Role, play
from scenarios.adversaries.wrapped import Steps
from scenarios.journal import Header, Journal
from scenarios.schema import Network
from sim.guard import Guards
from sim.keys import KeyRing
from sim.network import Cut, Links, MessageNetwork
from sim.trace import FAULT, Event, Traced, decoded, innermost, line
from sim.world import Node, StepCost, World

Factory = Callable[[], Policy | Mapping[str, Policy]]

NETWORK = Network(backbone_s=0.002, loss=0.01, duplicate=0.01)
"""Assumption: a city's worth of distance, and enough loss and duplication that no test runs without them."""
ONE_WAY_S = 0.001
"""Assumption: a wired home link; with the backbone 4 ms one way."""
BYTES_PER_S = 12.5e6
"""100 Mbit/s."""
START_WALL_NS = 1_767_225_600 * NS_PER_S
"""Wall clock at the start, 2026-01-01 UTC: any date a real node could have."""
TRACE_MAX = 20_000
"""Events kept for `Cluster.trace`; the oldest are forgotten."""


class Decision(NamedTuple):
    """Something a policy announced with `port.decide`."""

    time_s: float
    node: str
    path: str
    kind: str
    value: Any  # the message, or its plain list if the policy does not declare its class


class Reply(NamedTuple):
    """An answer to a client."""

    time_s: float
    node: str
    client: str
    op_id: str
    value: Any
    last: bool


class Note(NamedTuple):
    """A line of a policy's log."""

    time_s: float
    node: str
    path: str
    name: str
    fields: Mapping[str, Any]


class Cluster:
    """``n`` nodes that run one policy over a network with loss and duplicates.

    Args:
        factory: makes a node's policy, or its policies by path; called once a life of a node. A class will do.
        n: number of nodes, named ``n0`` and so on.
        seed: of every random draw.
        network: backbone, jitter, loss and duplicates; default `NETWORK`.
        one_way_s: each node's delay to the backbone.
        bytes_per_s: each node's access rate, both ways.
        others: nodes that run something else, by name.
        adversaries: what nodes do wrong, by name; the first behaviour is next to the Cell.
        coalition: those who do it together; they share keys and a plan.
        cost: what a step and an fsync cost a node.
        journal: keep every node's journal, for `journals`.
        watch: called with every event, as soon as it has happened.
        guards: nets under every step of every node (`sim.guard`); default none.
    """

    def __init__(
        self,
        factory: Factory,
        n: int = 5,
        seed: int = 1,
        network: Network | None = None,
        *,
        one_way_s: float = ONE_WAY_S,
        bytes_per_s: float = BYTES_PER_S,
        others: Mapping[str, Factory] | None = None,
        adversaries: Mapping[str, Sequence[Behaves]] | None = None,
        coalition: Collection[str] = (),
        cost: StepCost | None = None,
        journal: bool = False,
        watch: Callable[[Event], None] = lambda event: None,
        guards: Guards | None = None,
    ) -> None:
        if n < 1:
            raise ValueError(f"n={n}: allowed are 1 or more nodes")
        self.names = tuple(f"n{i}" for i in range(n))
        for argument, given in (("others", others), ("adversaries", adversaries), ("coalition", coalition)):
            if unknown := sorted(set(given or ()) - set(self.names)):
                raise ValueError(f"{argument}={unknown}: allowed are {', '.join(self.names)}")
        self.seed, self._watch = seed, watch
        self.decisions: list[Decision] = []
        self.replies: list[Reply] = []
        self.notes: list[Note] = []
        self.events: deque[Event] = deque(maxlen=TRACE_MAX)
        links = Links.alike(n, one_way_s, bytes_per_s)
        network = network or NETWORK
        self.world = World(MessageNetwork(seed, links, network), start_wall_ns=START_WALL_NS, guards=guards)
        self.world.jobs = _NoJobs(self.world)
        self.world.on_decide.append(self._on_decide)
        self.world.on_note.append(self._on_note)
        self.world.on_reply = self._on_reply
        ring = KeyRing(seed)
        for name in self.names:
            make, role = (others or {}).get(name, factory), None
            if wrong := (adversaries or {}).get(name):
                party = tuple(sorted(coalition)) if name in coalition else ()
                role = Role(tuple(wrong), "coalition" if party else "", party)  # type: ignore[arg-type]
            node = self.world.add(name, self._maker(name, make, ring, role), cost)
            if journal:
                node.journal = Journal(Header(name, self._peers(name), seed, "sim", policies={}, config={}))
        self._cuts: list[Cut] = []
        for node in self.world.nodes:
            self.world.start(node)

    def _peers(self, name: str) -> tuple[str, ...]:
        return tuple(other for other in self.names if other != name)

    def _maker(self, name: str, make: Factory, ring: KeyRing, role: Role | None) -> Callable[[], Steps]:
        peers = self._peers(name)

        def cell(keys: Keys) -> Cell:
            return Cell(make(), name, peers, seed=self.seed, keys=keys)

        def traced() -> Steps:
            inside = play(role, cell, me=name, peers=peers, seed=self.seed, key_of=ring.handle)
            return Traced(self._on_step, name, inside)

        return traced

    # -- what a user does ----------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let ``seconds`` of virtual time pass."""
        if not seconds > 0:
            raise ValueError(f"seconds={seconds}: allowed are times above 0")
        engine = self.world.engine
        with self.world.guarded():
            engine.run(until=engine.now + max(1, int(seconds * NS_PER_S)))

    def crash(self, name: str, torn: float = 0.0) -> None:
        """Cut a node's power; of what was not synced a ``torn`` share, 0 to 1, reached the disk all the same."""
        if not 0 <= torn <= 1:
            raise ValueError(f"torn={torn}: allowed are shares from 0 to 1")
        self.world.crash(self._node(name), torn)
        self._mark(name, "crash")

    def restart(self, name: str) -> None:
        """Start a crashed node again with what its disk kept."""
        if self._node(name).up:
            raise ValueError(f"restart {name!r}: it is up; crash it first")
        self.world.start(self._node(name))

    def partition(self, group: Collection[str]) -> None:
        """Cut ``group`` off from all others, in both directions."""
        self.world.network.heal(self._cuts)
        self._cuts = self.world.network.cut_off([self._node(name).number for name in group])
        self._mark(" ".join(sorted(group)), "partition")

    def heal(self) -> None:
        """End the partition."""
        self.world.network.heal(self._cuts)
        self._mark("", "heal")

    def request(self, name: str, client: str, op_id: str, operation: Message, path: str = "") -> None:
        """Give a node a client's operation now; answers come to `replies`."""
        self.world.give(self._node(name), (p.REQUEST, path, client, op_id, encode(operation)))

    # -- what a user sees ----------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """Virtual time."""
        return self.world.engine.now / NS_PER_S

    @property
    def digest(self) -> str:
        """Digest of everything that has happened."""
        return self.world.digest

    @property
    def steps(self) -> int:
        """Steps taken by all nodes."""
        return self.world.steps

    @property
    def messages(self) -> int:
        """Messages sent, lost ones included."""
        return self.world.network.sent

    def cell(self, name: str) -> Cell:
        """Return a node's Cell; of a liar the honest one inside."""
        return innermost(self._node(name).cell)

    def policy(self, name: str, path: str = "") -> Any:
        """Return a node's policy, to look at."""
        return self.cell(name).policy(path)

    def journals(self) -> dict[str, bytes]:
        """Return every node's journal since the last call; empty without ``journal=True``."""
        return {node.name: node.journal.take() for node in self.world.nodes if node.journal is not None}

    def trace(self, last: int = 40) -> str:
        """Return the last events, one a line: time, a mark a node (``*`` acts, ``|`` up, ``x`` down), what happened."""
        return "\n".join(line(event) for event in list(self.events)[-last:])

    # -- what the world reports ----------------------------------------------------------------------

    def _node(self, name: str) -> Node:
        node = self.world.by_name.get(name)
        if node is None:
            raise ValueError(f"node {name!r}: allowed are {', '.join(self.names)}")
        return node

    def _marks(self, acting: str) -> str:
        return " ".join("*" if n.name == acting else "|" if n.up else "x" for n in self.world.nodes)

    def _mark(self, who: str, what: str) -> None:
        event = Event(int(self.world.engine.now), who, (FAULT, what), (), self._marks(""))
        self.events.append(event)
        self._watch(event)

    def _on_step(self, name: str, now: int, given: Input, effects: tuple[Effect, ...]) -> None:
        event = Event(now, name, given, effects, self._marks(name))
        self.events.append(event)
        self._watch(event)

    def _decoded(self, node: Node, path: str, payload: bytes) -> Any:
        return decoded(innermost(node.cell).policy(path), payload)

    def _on_decide(self, now: int, node: Node, effect: Effect) -> None:
        _, path, kind, payload = effect
        value = self._decoded(node, path, payload)
        self.decisions.append(Decision(now / NS_PER_S, node.name, path, kind, value))

    def _on_reply(self, now: int, node: Node, effect: Effect) -> None:
        _, path, client, op_id, payload, last = effect
        value = self._decoded(node, path, payload)
        self.replies.append(Reply(now / NS_PER_S, node.name, client, op_id, value, last))

    def _on_note(self, now: int, node: Node, effect: Effect) -> None:
        self.notes.append(Note(now / NS_PER_S, node.name, effect[1], effect[2], effect[3]))


class _NoJobs:
    """These nodes have no executor: a job is lost at once, as on a real node without one."""

    def __init__(self, world: World) -> None:
        self._world = world

    def submit(self, node: Node, path: str, job_id: int, payload: bytes) -> None:
        lost = Lost(reason="this node runs no jobs", node=node.name)
        self._world.give_at(int(self._world.engine.now), node, (p.JOB, path, job_id, encode(lost)))

    def cancel(self, node: Node, job_id: int) -> None:
        """Nothing runs."""

    def node_down(self, node: Node) -> None:
        """Nothing runs."""
