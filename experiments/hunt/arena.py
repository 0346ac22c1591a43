"""Arenas: small worlds that the hunter knows how to fill, to disturb and to question.

An arena names its policies (the correct one, and defects), says which faults its promises are meant to survive, mounts
nodes, asks requests, and brings its checks. `Arena` is what the hunter sees; `MessageArena` is one of nodes that talk.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from time import perf_counter_ns
from typing import Any, ClassVar

from experiments.hunt.outcome import Outcome
from policies import port as p
from policies.cell import Cell
from policies.port import NS_PER_S, Effect, Keys, Policy
from scenarios import faults as f
from scenarios.adversaries.behaviours import Behaviour
from scenarios.adversaries.choose import Role, play
from scenarios.adversaries.wrapped import Steps
from scenarios.checks import Check, Checks
from scenarios.checks.progress import HEALED, SENT
from scenarios.schema import Network, ScenarioError
from scenarios.trial import Trial
from sim.faults import Faults
from sim.guard import Guards
from sim.keys import KeyRing
from sim.network import Links, MessageNetwork
from sim.trace import FAULT, Event, Traced, innermost
from sim.world import Jobs, Node, StepCost, World

Watch = Callable[[Event], None]
CORRECT = "correct"
LOOKS = 50
"""Times in a run that nodes' states are looked at, and that it may end early because a check has broken."""


class Arena(ABC):
    """A small world for the hunter.

    Attributes:
        name: how the command line calls it.
        what: one line for people.
        defects: defect's name to one line that says what is wrong with it.
        expects: defect's name to the check that must catch it.
        canary: a defect that every campaign must find, to prove that it can see.
        shape: the trial that swarms start from; its faults are drawn.
        fewest: nodes that the arena cannot do without.
        kinds: faults that its promises are meant to survive.
        faults_max: faults a drawn schedule has at most.
        timeouts_s: the protocols' own time-outs, around which delays are drawn.
        liars_max: the budget f: nodes that may lie.
        lies: what they may do, by name; where there are any, a share of the drawn trials has liars.
    """

    name: ClassVar[str]
    what: ClassVar[str]
    defects: ClassVar[Mapping[str, str]]
    expects: ClassVar[Mapping[str, str]]
    canary: ClassVar[str]
    shape: ClassVar[Trial]
    fewest: ClassVar[int] = 1
    kinds: ClassVar[tuple[type, ...]]
    faults_max: ClassVar[int] = 12
    timeouts_s: ClassVar[tuple[float, ...]] = ()
    liars_max: ClassVar[int] = 0
    lies: ClassVar[Mapping[str, tuple[Behaviour, ...]]] = {}

    def check(self, trial: Trial) -> None:
        """Refuse a trial that this arena cannot run.

        Raises:
            ScenarioError: one line that names the field, the value and what is allowed.
        """
        if trial.policy != CORRECT and trial.policy not in self.defects:
            allowed = ", ".join([CORRECT, *self.defects])
            raise ScenarioError(f"policy={trial.policy!r}: not in arena {self.name}; allowed: {allowed}")
        if trial.nodes < self.fewest:
            raise ScenarioError(f"nodes={trial.nodes}: arena {self.name} needs at least {self.fewest}")
        strangers = [name for name in trial.liars if name not in trial.names]
        if strangers:
            raise ScenarioError(f"liars={strangers[0]!r}: no such node; allowed: n0..n{trial.nodes - 1}")
        if len(trial.liars) > self.liars_max:
            raise ScenarioError(f"liars: {len(trial.liars)} of them; arena {self.name} allows {self.liars_max}")
        try:
            f.check(trial.faults, trial.names, self.committee(trial), groups(trial), ("leader", "worker", "random"),
                    self.kinds)  # fmt: skip
        except f.FaultError as error:
            raise ScenarioError(str(error)) from None

    def committee(self, trial: Trial) -> int:
        """Return how many nodes, the first ones, are a committee whose majority must keep its disks."""
        return trial.nodes

    @abstractmethod
    def run(self, trial: Trial, watch: Watch | None = None, guards: Guards | None = None) -> Outcome:
        """Run a trial; ``watch`` is told every event.

        Raises:
            PurityError: with ``guards``, a policy is no pure function of its inputs.
        """


def groups(trial: Trial) -> dict[str, tuple[str, ...]]:
    """Return who falls together: the nodes stand in two racks."""
    return {f"rack-{k}": trial.names[k::2] for k in range(2)}


class MessageArena(Arena):
    """An arena of nodes that run policies and talk over one network."""

    network: ClassVar[Network] = Network(backbone_s=0.001, loss=0.001, jitter_sigma=0.3, duplicate=0.0005)
    one_way_s: ClassVar[float] = 0.001
    """One way between two nodes 3 ms, three legs of 1 ms, as between sites of one city (assumption)."""
    bytes_per_s: ClassVar[float] = 12.5e6  # 100 Mbit/s

    @abstractmethod
    def mount(self, trial: Trial, name: str) -> Mapping[str, Policy]:
        """Make a node's policies by path; called once a life of the node."""

    @abstractmethod
    def promises(self, trial: Trial) -> tuple[Check, ...]:
        """Return fresh checks."""

    @abstractmethod
    def ask(self, play: Play, number: int) -> None:
        """Let a client make request ``number``, counted from 0, now."""

    def jobs(self, play: Play) -> Jobs | None:
        """Return who runs jobs, if nodes have executors."""
        return None

    def started(self, play: Play, node: Node) -> None:
        """A node has just started, or started again."""

    def replied(self, play: Play, now: int, node: Node, effect: Effect) -> None:
        """A node answered a client."""

    def leader(self, play: Play) -> str:
        """Return who leads now, or ""."""
        return play.leader

    def run(self, trial: Trial, watch: Watch | None = None, guards: Guards | None = None) -> Outcome:
        """Run a trial."""
        played = Play(self, trial, watch, guards)
        with played.world.guarded():
            return played.go()


class Play:
    """One trial in an arena of nodes.

    Attributes:
        leader: who was last announced as a leader.
        memory: whatever the arena wants to remember.
    """

    def __init__(
        self, arena: MessageArena, trial: Trial, watch: Watch | None = None, guards: Guards | None = None
    ) -> None:
        self.arena, self.trial, self.watch = arena, trial, watch
        links = Links.alike(trial.nodes, arena.one_way_s, arena.bytes_per_s)
        self.world = World(MessageNetwork(trial.seed, links, arena.network), guards=guards)
        honest = [name for name in trial.names if name not in trial.liars]
        self.checks = Checks(*arena.promises(trial), honest=honest)
        self.leader, self._leader_term = "", 0
        self.memory: dict[str, Any] = {}
        self.world.on_decide.append(self._on_decide)
        if self.checks.hears_messages:
            self.world.on_send.append(self._on_send)
        self._with_liars = 0  # messages from a liar, or to one
        if trial.liars:
            self.world.on_send.append(self._count)
        self.world.on_reply = lambda now, node, effect: arena.replied(self, now, node, effect)
        ring = KeyRing(trial.seed)
        for name in trial.names:
            self.world.add(name, self._maker(name, ring), StepCost())
        self.world.jobs = arena.jobs(self)
        committee = trial.names[: arena.committee(trial)]
        workers = trial.names[len(committee) :] or trial.names
        self.faults = Faults(
            self.world, committee, workers, seed=trial.seed, duration_s=trial.storm_s, restart=self.start,
            groups=groups(trial), leader=lambda: arena.leader(self),
        )  # fmt: skip
        self.faults.on_record = self._on_fault

    def _maker(self, name: str, ring: KeyRing) -> Callable[[], Steps]:
        trial, peers = self.trial, tuple(other for other in self.trial.names if other != name)
        wrong = trial.liars.get(name)
        role = Role(wrong) if wrong else None

        def cell(keys: Keys) -> Cell:
            return Cell(self.arena.mount(trial, name), name, peers, seed=trial.seed, keys=keys)

        def steps() -> Steps:
            inside: Steps = play(role, cell, me=name, peers=peers, seed=trial.seed, key_of=ring.handle)
            return inside if self.watch is None else Traced(self._on_step, name, inside)

        return steps

    # -- what arenas use -----------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """Virtual time."""
        return int(self.world.engine.now)

    def policy(self, node: str, path: str) -> Policy | None:
        """Return a node's policy, or None while it is down or has none there."""
        found = self.world.by_name[node]
        cell = innermost(found.cell)
        return cell.policy(path) if found.up and path in cell.paths else None

    def start(self, node: Node) -> None:
        """Start a node, or start it again."""
        again = node.incarnation >= 0
        if again:
            self.checks.restarted(node.name)
        self.world.start(node)
        if node.up:
            self.checks.tell(self.now_ns, node.name, "restart" if again else "start")
            self.arena.started(self, node)

    def request(self, node: str, path: str, client: str, op_id: str, payload: bytes) -> None:
        """Give a node a client's operation now."""
        self.world.give(self.world.by_name[node], (p.REQUEST, path, client, op_id, payload))

    # -- the run -------------------------------------------------------------------------------------

    def go(self) -> Outcome:
        """Run storm and calm; stop early where a promise breaks."""
        trial, engine = self.trial, self.world.engine
        begun = perf_counter_ns()
        for node in self.world.nodes:
            self.start(node)
        self.faults.schedule(trial.faults)
        for number in range(trial.requests):
            at_s = trial.asking_s * (number + 0.5) / trial.requests
            engine.call_at(int(at_s * NS_PER_S), lambda k: self.arena.ask(self, k), number)
        engine.call_at(int(trial.storm_s * NS_PER_S), self._heal, None)
        looks = [trial.end_s * (k + 1) / LOOKS for k in range(LOOKS)]
        for at_s in looks:
            self.world.run(at_s)
            self.checks.look(self.now_ns, trial.names, self.policy)
            if self.checks.first_broken is not None:
                break
        else:
            self._tell_sent()
            self.checks.end(self.now_ns)
        broken = self.checks.first_broken
        kinds = {row[1] for row in self.faults.rows if row[3] == "start"}
        kinds &= {f.kind_of(kind) for kind in self.arena.kinds}
        kinds |= {f.kind_of(one) for one in trial.faults if isinstance(one, f.Churn | f.Cascade)}  # rows name crashes
        return Outcome(
            broken.name if broken else "", broken.broken if broken else "",
            (broken.broken_ns if broken else self.now_ns) / NS_PER_S, self.world.digest, self.world.steps,
            self.now_ns / NS_PER_S, self.checks.spent_ns / max(1, perf_counter_ns() - begun),
            dict(self.checks.sometimes), tuple(sorted(kinds)),
        )  # fmt: skip

    def _heal(self, _: None) -> None:
        self.faults.heal()
        self.checks.tell(self.now_ns, "", HEALED.kind)
        self._tell_sent()
        self._show("", "everything is healed")

    # -- what happens --------------------------------------------------------------------------------

    def _on_decide(self, now: int, node: Node, effect: Effect) -> None:
        _, path, kind, payload = effect
        value = self.checks.decided(now, node.name, path, kind, payload)
        if kind == "leader":
            # An announcement waits for its node's disk: that of an older term may come after that of a newer one.
            term = getattr(value, "term", self._leader_term)
            if term >= self._leader_term:
                self.leader, self._leader_term = node.name, term

    def _on_send(self, now: int, node: Node, effect: Effect) -> None:
        _, path, to, payload = effect
        self.checks.said(now, node.name, path, to, payload)

    def _count(self, now: int, node: Node, effect: Effect) -> None:
        self._with_liars += node.name in self.trial.liars or effect[2] in self.trial.liars

    def _tell_sent(self) -> None:
        self.checks.tell(self.now_ns, "", SENT.kind, self.world.network.sent - self._with_liars)

    def _on_fault(self, kind: str, who: str, phase: str) -> None:
        if phase == "start":
            if kind == "crash" and who == self.leader:
                self.checks.tell(self.now_ns, who, "leader_down")
            if kind == "crash" and self.world.by_name[who].disk.size > self.world.by_name[who].disk.synced:
                self.checks.tell(self.now_ns, who, "writes_lost")
            self.checks.tell(self.now_ns, who, kind)
        self._show(who, f"{kind} {'begins' if phase == 'start' else phase + 's' if phase == 'end' else phase}")

    def _show(self, who: str, what: str) -> None:
        if self.watch is not None:
            self.watch(Event(self.now_ns, who, (FAULT, what), (), ""))

    def _on_step(self, name: str, now: int, given: p.Input, effects: tuple[Effect, ...]) -> None:
        assert self.watch is not None
        self.watch(Event(now, name, given, effects, ""))
