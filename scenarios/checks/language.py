"""The language of checks: named promises over what happened, asked in every run and of real histories alike.

A check is one of three families. *Safety*: nothing that happens may break it; it names the first event that did.
*Liveness*: by the end, when the faults have stopped, something must have come about. *Sometimes*: in some run of a
campaign it must happen, else the campaign has shown little. A check hears only the topics it names, so a run pays for
what changes; a `StateCheck` looks at nodes' states now and then, where the world offers them.

    >>> from policies.consensus.messages import Elected
    >>> from policies.wire import encode
    >>> ELECTED = decided("consensus", "leader", Elected)
    >>> one = Same("one_leader_per_term", ELECTED, key=lambda e: e.value.term, value=lambda e: e.node, says=
    ...     lambda e, first: f"{e.node} leads term {e.value.term}, as {first} did")
    >>> checks = Checks(one)
    >>> for node in ("a", "b"):
    ...     _ = checks.decided(7, node, "consensus", "leader", encode(Elected(1)))
    >>> one.broken
    't=7ns: b leads term 1, as a did'
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Mapping
from functools import cache
from time import perf_counter_ns
from typing import Any, NamedTuple

import msgspec

from policies.port import Policy


class Event(NamedTuple):
    """Something a node announced, or the world did to it."""

    now_ns: int
    node: str
    path: str
    kind: str
    value: Any


class Topic(NamedTuple):
    """What a check listens to: the announcements (`port.decide`) of a policy's path, or what the world tells of."""

    path: str
    kind: str
    decode: Callable[[bytes], Any] | None = None


@cache  # checks that listen to the same share its decoder, and so what it has decoded
def decided(path: str, kind: str, type_: Any) -> Topic:
    """Return the topic of what the policy at ``path`` announces as ``kind``, a message of ``type_``."""
    return Topic(path, kind, msgspec.msgpack.Decoder(type_).decode)


def told(kind: str) -> Topic:
    """Return the topic of what the world tells: ``asked``, ``ended`` (requests), ``crash``, ``restart`` and others."""
    return Topic("world", kind)


def said(path: str) -> Topic:
    """Return the topic of what policies at ``path`` send to one another; a value is (to, the message as a plain list).

    Only worlds that call `Checks.said` offer it: it costs a decoding a message.
    """
    return Topic(path, "said")


class Check(ABC):
    """One promise.

    Args:
        name: what must hold, in words joined by underscores.
        topics: what it hears.

    Attributes:
        broken: the first event that broke it, "" while it holds.
        broken_ns: when that was.
        events: what it has been asked about.
    """

    family = "safety"

    def __init__(self, name: str, *topics: Topic) -> None:
        self.name, self.topics = name, topics
        self.broken, self.broken_ns, self.events = "", -1, 0

    @property
    def holds(self) -> bool:
        """Whether the promise was kept."""
        return not self.broken

    def fail(self, now_ns: int, why: str) -> None:
        """Note that something broke it; only the first counts."""
        if not self.broken:
            self.broken, self.broken_ns = f"t={now_ns}ns: {why}", now_ns

    @abstractmethod
    def take(self, event: Event) -> str:
        """Take in one event; return why it breaks the promise, or ""."""

    def restarted(self, node: str) -> None:  # noqa: B027  (most checks remember nothing of one node)
        """A node lost its volatile state."""

    def end(self) -> str:
        """The run is over and was calm at last; return what is missing, or ""."""
        return ""


class Same(Check):
    """All events with one key have one value; ``says`` (event, first value) words the breach."""

    def __init__(
        self, name: str, *topics: Topic, key: Callable[[Event], Hashable], value: Callable[[Event], Any],
        says: Callable[[Event, Any], str],
    ) -> None:  # fmt: skip
        super().__init__(name, *topics)
        self.key, self.value, self.says = key, value, says
        self.first: dict[Hashable, Any] = {}

    def take(self, event: Event) -> str:
        value = self.value(event)
        first = self.first.setdefault(self.key(event), value)
        return self.says(event, first) if first != value else ""


class Each(Check):
    """Every event satisfies ``wrong``, which returns what is wrong with one, or ""."""

    def __init__(self, name: str, *topics: Topic, wrong: Callable[[Event], str]) -> None:
        super().__init__(name, *topics)
        self.wrong = wrong

    def take(self, event: Event) -> str:
        return self.wrong(event)


class InOrder(Check):
    """On every node the numbers come one after another; a restart begins anew."""

    def __init__(self, name: str, *topics: Topic, number: Callable[[Event], int], says: str) -> None:
        super().__init__(name, *topics)
        self.number, self.says = number, says
        self.last: dict[str, int] = {}

    def take(self, event: Event) -> str:
        number, last = self.number(event), self.last.get(event.node, 0)
        self.last[event.node] = number
        return f"{event.node} {self.says} {number} after {last}" if number != last + 1 else ""

    def restarted(self, node: str) -> None:
        self.last.pop(node, None)


class AtMost(Check):
    """What ``amount`` returns of an event is never above ``limit``; ``says`` words what it is."""

    def __init__(self, name: str, *topics: Topic, amount: Callable[[Event], float], limit: float, says: str) -> None:
        super().__init__(name, *topics)
        self.amount, self.limit, self.says = amount, limit, says

    def take(self, event: Event) -> str:
        amount = self.amount(event)
        return f"{event.node}: {self.says} {amount:g}, at most {self.limit:g}" if amount > self.limit else ""


class Ends(Check):
    """Whatever begins ends, in one of the ways that ``ends`` names, by the end of the run (liveness)."""

    family = "liveness"

    def __init__(
        self, name: str, begins: Topic, *ends: Topic, key: Callable[[Event], Hashable], says: str = "has not ended"
    ) -> None:
        super().__init__(name, begins, *ends)
        self.begins, self.key, self.says = (begins.path, begins.kind), key, says
        self.open: dict[Hashable, Event] = {}
        self.over: set[Hashable] = set()

    def take(self, event: Event) -> str:
        key = self.key(event)
        if (event.path, event.kind) != self.begins:
            self.over.add(key)
            self.open.pop(key, None)
        elif key not in self.over:
            self.open.setdefault(key, event)
        return ""

    def end(self) -> str:
        if not self.open:
            return ""
        key, event = next(iter(self.open.items()))
        return f"{key} began at t={event.now_ns}ns on {event.node} and {self.says}"


class Happens(Check):
    """By the end something has come about, at least ``times`` since ``after`` was told, if it was (liveness)."""

    family = "liveness"

    def __init__(self, name: str, topic: Topic, *, after: Topic, times: int = 1, says: str) -> None:
        super().__init__(name, topic, after)
        self.after, self.times, self.says, self.count = (after.path, after.kind), times, says, 0

    def take(self, event: Event) -> str:
        self.count = 0 if (event.path, event.kind) == self.after else self.count + 1
        return ""

    def end(self) -> str:
        return "" if self.count >= self.times else f"{self.says} {self.count} times, expected at least {self.times}"


class Sometimes(Check):
    """Something interesting: it must happen in some run of a campaign."""

    family = "sometimes"

    def __init__(self, name: str, *topics: Topic, when: Callable[[Event], bool]) -> None:
        super().__init__(name, *topics)
        self.when, self.happened = when, False

    def take(self, event: Event) -> str:
        self.happened = self.happened or self.when(event)
        return ""


Look = Callable[[str, str], Policy | None]
"""Returns the policy at (node, path), or None while the node is down or has none there."""


class StateCheck(Check):
    """A promise about nodes' states, asked every so often and at the end.

    Attributes:
        every: it is asked at one of so many looks: more than 1 where what it finds stays to be found.
    """

    every: int = 1

    @abstractmethod
    def look(self, nodes: Collection[str], policy: Look) -> str:
        """Return what is wrong with the states now, or ""."""

    def take(self, event: Event) -> str:
        return ""


class Checks:
    """The checks of one run, each fed with what it hears.

    Args:
        checks: the promises.
        honest: nodes whose announcements count; None is all. What a liar announces breaks no promise of ours.

    Attributes:
        all: the promises that a single run can break.
        spent_ns: time that asking has taken.
    """

    def __init__(self, *checks: Check, honest: Collection[str] | None = None) -> None:
        self.checks, self.honest = checks, honest
        self.all = [check for check in checks if check.family != "sometimes"]
        self.states = [check for check in checks if isinstance(check, StateCheck)]
        self.spent_ns = self._looks = 0
        self._last: tuple[bytes, Any] = (b"", None)
        self._decoded: tuple[bytes, Any, Any] = (b"", None, None)
        # By path and kind, and then by decoder: what two checks take for different messages each hears as its own.
        self._hear: dict[tuple[str, str], dict[Callable[[bytes], Any] | None, list[Check]]] = {}
        for check in checks:
            for topic in check.topics:
                self._hear.setdefault((topic.path, topic.kind), {}).setdefault(topic.decode, []).append(check)

    @property
    def hears_messages(self) -> bool:
        """Whether any of them listens to what nodes say to one another."""
        return any(kind == "said" for _, kind in self._hear)

    @property
    def sometimes(self) -> Mapping[str, bool]:
        """What is interesting, and whether it happened."""
        return {check.name: check.happened for check in self.checks if isinstance(check, Sometimes)}

    @property
    def first_broken(self) -> Check | None:
        """The check that broke first."""
        broken = [check for check in self.all if check.broken]
        return min(broken, key=lambda check: check.broken_ns) if broken else None

    def decided(self, now_ns: int, node: str, path: str, kind: str, payload: bytes) -> Any:
        """Take in one announcement; return its value, as the first check hears it, if any does, else None."""
        heard = self._hear.get((path, kind))
        if heard is None:
            return None
        begun = perf_counter_ns()
        first: Any = None
        for decode, checks in reversed(heard.items()):
            assert decode is not None
            last = self._decoded
            if payload != last[0] or decode is not last[1]:  # what all announce is decoded once
                last = self._decoded = (payload, decode, decode(payload))
            first = last[2]
            if self.honest is None or node in self.honest:
                self._ask(Event(now_ns, node, path, kind, first), checks)
        self.spent_ns += perf_counter_ns() - begun
        return first

    def tell(self, now_ns: int, node: str, kind: str, value: Any = None) -> None:
        """Take in what the world tells."""
        heard = self._hear.get(("world", kind))
        if heard is not None:
            begun = perf_counter_ns()
            self._ask(Event(now_ns, node, "world", kind, value), heard[None])
            self.spent_ns += perf_counter_ns() - begun

    def said(self, now_ns: int, node: str, path: str, to: str, payload: bytes) -> None:
        """Take in a message that a node has sent, to another's policy of the same path, or to ``NODE/PATH``."""
        to, _, at = to.partition("/")
        path = at or path
        heard = self._hear.get((path, "said"))
        if heard is not None and (self.honest is None or node in self.honest):
            begun = perf_counter_ns()
            if payload != self._last[0]:  # what is said to all is decoded once
                self._last = (payload, msgspec.msgpack.decode(payload))
            self._ask(Event(now_ns, node, path, "said", (to, self._last[1])), heard[None])
            self.spent_ns += perf_counter_ns() - begun

    def _ask(self, event: Event, checks: list[Check]) -> None:
        for check in checks:
            check.events += 1
            why = check.take(event)
            if why:
                check.fail(event.now_ns, why)

    def restarted(self, node: str) -> None:
        """A node lost its volatile state and will announce again what it had."""
        for check in self.checks:
            check.restarted(node)

    def look(self, now_ns: int, nodes: Collection[str], policy: Look) -> None:
        """Ask the checks of states; only honest nodes are looked at."""
        begun = perf_counter_ns()
        honest = [node for node in nodes if self.honest is None or node in self.honest]
        once = cache(policy)  # checks ask for the same policies one after another
        self._looks += 1
        for check in self.states:
            if self._looks % check.every:
                continue
            check.events += 1
            why = check.look(honest, once)
            if why:
                check.fail(now_ns, why)
        self.spent_ns += perf_counter_ns() - begun

    def end(self, now_ns: int) -> None:
        """Ask, at the end, what should have come about."""
        for check in self.checks:
            why = check.end()
            if why:
                check.fail(now_ns, why)
