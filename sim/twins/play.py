"""Plays a Twins scenario: Cells in lock-step, without an engine, a network or disks.

All messages in flight arrive together, one hop after they were sent; a save is durable at once; when nothing is in
flight, the earliest timer fires. A message goes to every instance of its receiver that the sender reaches in the
*sender's* round (Bano et al., OPODIS 2021, section 4); what it does not reach is lost. A round that nobody can leave,
because its groups hold no quorum, is opened after a while: partial synchrony promises no less. When all
correct members are past the script, everybody reaches everybody, and they must decide within so many rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from policies import port as p
from policies.cell import Cell
from policies.local import Committed, Propose
from policies.port import Input, Policy
from scenarios.adversaries.twins import ANOTHER_LIFE
from scenarios.checks import Check, Checks, consensus
from sim.keys import KeyRing
from sim.trace import Event
from sim.twins.scenario import Scenario

HOP_NS = p.NS_PER_MS
"""From sending to arriving: any time far below the protocol's time-outs."""
ROUNDS_EACH = 4
"""Rounds after the script, times the members, within which they must decide: each leads four times (our bound)."""
EVENTS_MAX = 50_000
"""Inputs after which a run has not ended: a hundred times what one of seven rounds takes (our bound)."""

LeaderOf = Callable[[int], str]
"""Returns who leads a round, "" for nobody."""
Routes = dict[str, list[int]]
"""Member to those of its instances that somebody reaches."""


@dataclass(frozen=True)
class Protocol:
    """What a protocol must offer to be run: a leader of each round that can be told, and the round a member is in.

    Attributes:
        make: (members, who leads, path of the state machine) to a fresh policy.
        round_of: the round of such a policy.
        patience_s: how long it may stay in one round although a quorum reach one another; longer than its time-outs.
    """

    make: Callable[[tuple[str, ...], LeaderOf, str], Policy]
    round_of: Callable[[Policy], int]
    patience_s: float


class Outcome(NamedTuple):
    """What came of a scenario.

    Attributes:
        broken: name of the check that broke, "" if none did.
        why: its words.
        decided: places in the log that the correct member which is furthest has decided.
        rounds: highest round of a correct member.
        waited: rounds from the end of the script until all correct members had decided anew; -1 is never.
        opened: rounds of the script that were opened because nobody could leave them.
        events: inputs that Cells were given.
    """

    broken: str
    why: str
    decided: int
    rounds: int
    waited: int
    opened: int
    events: int


def safety() -> tuple[Check, ...]:
    """Return what every protocol promises, whatever its twins do."""
    return consensus.committed_entries_agree(), consensus.commits_in_order()


def play(
    scenario: Scenario,
    protocol: Protocol,
    promises: Sequence[Check] | None = None,
    *,
    seed: int = 1,
    watch: Callable[[Event], None] | None = None,
) -> Outcome:
    """Run one scenario.

    Args:
        scenario: the script.
        protocol: whom it is played with.
        promises: fresh checks of what correct members announce; default `safety`.
        seed: of keys and draws.
        watch: told every step.
    """
    return _Run(scenario, protocol, safety() if promises is None else promises, seed, watch).go()


class _Client(Policy):
    """Asks its member for a command, and for the next once that is committed, so that there is always one to decide."""

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.asked = 0
        self._ask()

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Committed) and message.command == self.command:
            self.asked += 1
            self._ask()

    def _ask(self) -> None:
        self.command = f"{self.port.me} {self.asked}".encode()
        self.port.tell("consensus", Propose(self.command))


class _Run:
    """One run; instances are known by their numbers."""

    def __init__(
        self, scenario: Scenario, protocol: Protocol, promises: Sequence[Check], seed: int,
        watch: Callable[[Event], None] | None,
    ) -> None:  # fmt: skip
        self.scenario, self.round_of, self.watch = scenario, protocol.round_of, watch
        self.first, self.last = scenario.first, scenario.last
        self.patience_ns = int(protocol.patience_s * p.NS_PER_S)
        members = tuple(f"n{k}" for k in range(scenario.nodes))
        self.names = [members[scenario.identity(k)] for k in range(scenario.instances)]
        self.copies = {name: [k for k, of in enumerate(self.names) if of == name] for name in members}
        self.correct = range(scenario.twins, scenario.nodes)
        self.reach = scenario.reach()
        self.routes: dict[tuple[int, int], Routes] = {}
        self.opened_to, self.opened = scenario.first - 1, 0  # rounds up to there are whole
        self.promises = promises
        self.checks = Checks(*promises, honest=[members[k] for k in self.correct])
        self.overhears = any(topic.kind == "said" for check in promises for topic in check.topics)
        self.decided: dict[str, int] = dict.fromkeys(members, 0)
        self.now = self.events = 0
        self.flying: list[tuple[int, Input]] = []
        self.timers: dict[tuple[int, str, str], tuple[int, int]] = {}  # to (deadline, generation)
        ring = KeyRing(seed)
        led = map(scenario.leader, range(self.first, self.last + 1))
        leaders = ["" if leader is None else members[leader] for leader in led]

        def leader_of(number: int) -> str:
            at = number - self.first
            return leaders[at] if 0 <= at < len(leaders) else members[number % len(members)]

        self.cells: list[Cell] = []
        for name in self.names:
            policies = {"consensus": protocol.make(members, leader_of, "client"), "client": _Client()}
            others = tuple(member for member in members if member != name)
            self.cells.append(Cell(policies, name, others, seed=seed, keys=ring.handle(name)))
        self.policies = [cell.policy("consensus") for cell in self.cells]

    def go(self) -> Outcome:
        """Start everybody and run to the end."""
        for k in range(len(self.cells)):
            self._step(k, (p.START, "", {}, 0 if k < self.scenario.nodes else ANOTHER_LIFE))
        waited = self._until_decided()
        broken = self.checks.first_broken
        name, why = (broken.name, broken.broken) if broken else ("", "")
        if not broken and waited < 0:
            name, why = "decides_after_the_script", f"rounds {self._rounds()}, decided {self.decided}"
        most = max(self.decided[self.names[k]] for k in self.correct)
        return Outcome(name, why, most, max(self._rounds()), waited, self.opened, self.events)

    def _until_decided(self) -> int:
        """Run until all correct members decided after the script; return the rounds it took, or -1."""
        calm_from, before = -1, self.decided
        moved_ns, rounds = self.now, self._rounds()
        while self.events < EVENTS_MAX and not any(check.broken for check in self.promises):
            if calm_from < 0 and min(rounds) > self.last:
                calm_from, before, self.opened_to = max(rounds), dict(self.decided), self.last
            if calm_from >= 0:
                if all(self.decided[self.names[k]] > before[self.names[k]] for k in self.correct):
                    return max(rounds) - calm_from
                if max(rounds) > calm_from + ROUNDS_EACH * self.scenario.nodes:
                    return -1
            if self.flying:
                self._hop()
            elif not self.timers:
                return -1
            else:
                until_ns = self._earliest()
                if calm_from < 0:  # the round is opened before they speak who would again not be heard
                    until_ns = min(until_ns, moved_ns + self.patience_ns)
                self._fire(until_ns)
            if (now_at := self._rounds()) != rounds:
                moved_ns, rounds = self.now, now_at
            elif self.now >= moved_ns + self.patience_ns:
                moved_ns = self.now
                self._open()
        return -1

    def _rounds(self) -> list[int]:
        """Return the rounds of the correct members."""
        return [self.round_of(self.policies[k]) for k in self.correct]

    def _open(self) -> None:
        """Make whole the lowest round of the script in which somebody is stuck."""
        stuck = [number for number in map(self.round_of, self.policies) if number > self.opened_to]
        if stuck and min(stuck) <= self.last:
            self.opened_to, self.opened = min(stuck), self.opened + 1

    # -- time ----------------------------------------------------------------------------------------

    def _hop(self) -> None:
        """Let everything in flight arrive, then the timers fire that are due."""
        self.now += HOP_NS
        arriving, self.flying = self.flying, []
        for k, given in arriving:
            self._step(k, given)
        if 0 <= self._earliest() <= self.now:
            self._fire(self.now)

    def _earliest(self) -> int:
        """Return the deadline of the earliest timer, or -1."""
        return min(self.timers.values())[0] if self.timers else -1

    def _fire(self, until_ns: int) -> None:
        """Let time pass until then, and fire the timers that are due."""
        due = [(timer[0], key, timer) for key, timer in self.timers.items() if timer[0] <= until_ns]
        self.now = max(self.now, until_ns)
        for _, key, timer in sorted(due):
            if self.timers.get(key) == timer:
                del self.timers[key]
                self._step(key[0], (p.TIMER, key[1], key[2], timer[1]))

    # -- steps ---------------------------------------------------------------------------------------

    def _step(self, k: int, given: Input) -> None:
        self.events += 1
        effects = self.cells[k].step(self.now, self.now, given)
        if self.watch is not None:
            self.watch(Event(self.now, f"{self.names[k]}#{k}", given, effects, ""))
        routes: Routes | None = None  # found where they are needed, and again once it may be in another round
        for effect in effects:
            kind = effect[0]
            if kind == p.SEND:
                routes = routes or self._routes(k)
                self._send(k, routes, effect[1], effect[2], effect[3])
            elif kind == p.SET_TIMER:
                self.timers[k, effect[1], effect[2]] = (effect[3], effect[4])
            elif kind == p.CANCEL_TIMER:
                self.timers.pop((k, effect[1], effect[2]), None)
            elif kind == p.SAVE:
                self._step(k, (p.DURABLE, effect[1], effect[2]))
                routes = None
            elif kind == p.DECIDE:
                self.checks.decided(self.now, self.names[k], effect[1], effect[2], effect[3])
                if effect[2] == "commit":
                    self.decided[self.names[k]] += 1

    def _send(self, k: int, routes: Routes, path: str, to: str, payload: bytes) -> None:
        name, _, at = to.partition("/")
        if self.overhears:
            self.checks.said(self.now, self.names[k], path, to, payload)
        receivers = routes.get(name)
        if receivers:
            given = (p.MESSAGE, at or path, self.names[k], payload)
            for other in receivers:
                self.flying.append((other, given))

    def _routes(self, k: int) -> Routes:
        """Return whom an instance reaches in its round."""
        number = self.round_of(self.policies[k])
        at = number - self.first if self.opened_to < number <= self.last else -1
        routes = self.routes.get((at, k))
        if routes is None:
            reached = range(len(self.names)) if at < 0 else self.reach[at][k]
            routes = {name: [one for one in copies if one in reached] for name, copies in self.copies.items()}
            routes[self.names[k]] = [k]  # to itself, not to its twin
            self.routes[at, k] = routes
        return routes
