"""Promises of a failure detector: who falls is declared dead, who lives does not stay so, and a suspicion ends.

They are liveness with bounds of the protocol's own (`bounds`). Nothing is owed while another fault lasts, a cut or a
pause for instance, and afterwards the time counts from its end. Of liars, and of what they say, nothing is asked. Views
are what nodes announce, so a node owes nothing about a peer that it never spoke of.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from statistics import NormalDist
from typing import NamedTuple, get_args

from policies.config import MembershipRules, SwimConfig
from policies.local import Seen
from policies.membership.lifeguard import shortest_suspicion_ns
from policies.port import NS_PER_S
from scenarios.checks.language import Check, Checks, Event, decided, told
from scenarios.faults import Fault, Spell

SEEN = decided("membership", "seen", Seen)
FELL, ROSE, DISTURBED, CALMED, OVER = (told(x) for x in ("fell", "rose", "disturbed", "calmed", "run_over"))
"""A node stopped, or runs again; another fault began, or ended; the run ended."""

STOPS = ("crash", "no_power", "damaged_log")
"""Kinds of rows of the table ``faults`` that say, where they start, that a node is down."""
SPELLS = frozenset(str(kind.__struct_config__.tag) for kind in get_args(Fault) if issubclass(kind, Spell))

PULLS, BEATS = 3, 5
"""Exchanges of tables, and heartbeats, by which a wrong verdict must be over: some may be lost (assumption)."""


class Bounds(NamedTuple):
    """Within what time a detector is right: after a node fell, and about one that it held dead and that lives."""

    noticed_s: float
    trusted_s: float


def bounds(config: MembershipRules, n: int) -> Bounds:
    """Return the bounds of a detector in a group of ``n``.

    SWIM: in two rounds of probes each member has probed every other (Das et al. 2002, section 4.3), a suspicion lasts
    at most memberlist's longest, and an exchange of tables is granted for probes that a member stretches because it
    finds itself slow. Phi: the silence at which ``dead_phi`` is reached if intervals deviate by no more than their mean
    (assumption).
    """
    if isinstance(config, SwimConfig):
        shortest_s = shortest_suspicion_ns(config.suspicion_mult, n, int(config.probe_s * NS_PER_S)) / NS_PER_S
        longest_s = shortest_s * (config.suspicion_max_mult if config.lifeguard else 1)
        return Bounds(2 * n * config.probe_s + longest_s + config.push_pull_s, PULLS * config.push_pull_s)
    deviations = -NormalDist().inv_cdf(10.0**-config.dead_phi)
    return Bounds((config.heartbeat_s + config.pause_s) * (1 + deviations), BEATS * config.heartbeat_s)


def tell_fault(checks: Checks, now_ns: int, kind: str, node: str, phase: str) -> None:
    """Tell a row of the table ``faults``; that a node rises again is for the world to tell, when it does."""
    if kind in STOPS and phase == "start":
        checks.tell(now_ns, node, FELL.kind)
    elif kind in SPELLS and phase in ("start", "end"):
        checks.tell(now_ns, node, (DISTURBED if phase == "start" else CALMED).kind)


class Views(Check):
    """Each node's views of the others, and for how long those have been wrong that this promise is about.

    Args:
        name: of the promise.
        within_s: how long a view may be wrong.
        liars: nodes that count for nothing.

    Attributes:
        down: node to when it fell.
        lives: node to the newest incarnation that can have been heard of.
        wrong: (observer, peer) to since when, oldest first.
    """

    family = "liveness"

    def __init__(self, name: str, within_s: float, liars: Collection[str] = ()) -> None:
        super().__init__(name, SEEN, FELL, ROSE, DISTURBED, CALMED, OVER)
        self.within_ns, self.liars = int(within_s * NS_PER_S), frozenset(liars)
        self.down: dict[str, int] = {}
        self.lives: dict[str, int] = {}
        self.views: dict[str, dict[str, str]] = {}
        self.wrong: dict[tuple[str, str], int] = {}
        self.disturbances = 0

    @abstractmethod
    def is_wrong(self, status: str, down: bool) -> bool:
        """Return whether this view of a node is what must not last."""

    @abstractmethod
    def count(self, now_ns: int, seen: Seen) -> None:
        """Take a change of an honest node's view into the run's figures."""

    def take(self, event: Event) -> str:
        why = self._overdue(event.now_ns)
        if event.kind == SEEN.kind:
            self._on_seen(event)
        elif event.kind == FELL.kind:
            self.down.setdefault(event.node, event.now_ns)
            self.views.pop(event.node, None)
            self.wrong = {pair: since for pair, since in self.wrong.items() if pair[0] != event.node}
            self._judge_all(event.now_ns, event.node)
        elif event.kind == ROSE.kind:
            self.down.pop(event.node, None)
            self.lives[event.node] = self.lives.get(event.node, 0) + 1
            self._judge_all(event.now_ns, event.node)
        elif event.kind == DISTURBED.kind:
            self.disturbances += 1
        elif event.kind == CALMED.kind:
            self.disturbances -= 1
            self.wrong = dict.fromkeys(self.wrong, event.now_ns)
        return why

    def _on_seen(self, event: Event) -> None:
        seen: Seen = event.value
        if event.node in self.liars or seen.peer in self.liars or event.node in self.down:
            return
        self.lives[seen.peer] = max(seen.incarnation, self.lives.get(seen.peer, 0))
        self.views.setdefault(event.node, {})[seen.peer] = seen.status
        self._judge(event.now_ns, event.node, seen.peer)
        if seen.incarnation == self.lives[seen.peer]:  # else it speaks of a life that was over
            self.count(event.now_ns, seen)

    def _judge_all(self, now_ns: int, peer: str) -> None:
        for observer, views in self.views.items():
            if peer in views:
                self._judge(now_ns, observer, peer)

    def _judge(self, now_ns: int, observer: str, peer: str) -> None:
        if self.is_wrong(self.views[observer][peer], peer in self.down):
            self.wrong.setdefault((observer, peer), now_ns)
        else:
            self.wrong.pop((observer, peer), None)

    def _overdue(self, now_ns: int) -> str:
        if self.disturbances or not self.wrong:
            return ""
        (observer, peer), since_ns = next(iter(self.wrong.items()))
        if now_ns - since_ns <= self.within_ns:
            return ""
        status, how = self.views[observer][peer], "down" if peer in self.down else "up"
        took_s, allowed_s = (now_ns - since_ns) / NS_PER_S, self.within_ns / NS_PER_S
        return f"{observer} holds {peer} {status}, which has been {how} for {took_s:g} s; allowed are {allowed_s:g} s"


class TheFallenAreDeclaredDead(Views):
    """Every node that spoke of one that falls declares it dead within the bound.

    Attributes:
        took_ns: from each fall that was noticed to the first node that declared it.
    """

    def __init__(self, within_s: float, liars: Collection[str] = ()) -> None:
        super().__init__("the_fallen_are_declared_dead", within_s, liars)
        self.took_ns: list[int] = []
        self.noticed: set[tuple[str, int]] = set()  # (who, fell when)

    def is_wrong(self, status: str, down: bool) -> bool:
        return down and status != "dead"

    def count(self, now_ns: int, seen: Seen) -> None:
        fell_ns = self.down.get(seen.peer)
        if seen.status == "dead" and fell_ns is not None and (seen.peer, fell_ns) not in self.noticed:
            self.noticed.add((seen.peer, fell_ns))
            self.took_ns.append(now_ns - fell_ns)


class TheLivingAreTrustedAgain(Views):
    """No node that is up stays declared dead by one that is up for longer than the bound.

    Attributes:
        wrongly: how often a node was held ``suspect`` or ``dead`` while it was up, once at each that held it so.
    """

    def __init__(self, within_s: float, liars: Collection[str] = ()) -> None:
        super().__init__("the_living_are_trusted_again", within_s, liars)
        self.wrongly = {"suspect": 0, "dead": 0}

    def is_wrong(self, status: str, down: bool) -> bool:
        return status == "dead" and not down

    def count(self, now_ns: int, seen: Seen) -> None:
        if seen.status in self.wrongly and seen.peer not in self.down:
            self.wrongly[seen.status] += 1


class SuspicionsEnd(Views):
    """No node stays suspected for longer than the bound: it is refuted, or held dead. A suspect gets no work."""

    def __init__(self, within_s: float, liars: Collection[str] = ()) -> None:
        super().__init__("suspicions_end", within_s, liars)

    def is_wrong(self, status: str, down: bool) -> bool:
        return status == "suspect"

    def count(self, now_ns: int, seen: Seen) -> None:
        """Nothing: `TheLivingAreTrustedAgain` has the figures."""


def promises(
    config: MembershipRules, n: int, liars: Collection[str] = ()
) -> tuple[TheFallenAreDeclaredDead, TheLivingAreTrustedAgain, SuspicionsEnd]:
    """Return what is asked of a village of ``n`` nodes with this detector."""
    noticed_s, trusted_s = bounds(config, n)
    fallen, living = TheFallenAreDeclaredDead(noticed_s, liars), TheLivingAreTrustedAgain(trusted_s, liars)
    return fallen, living, SuspicionsEnd(noticed_s, liars)
