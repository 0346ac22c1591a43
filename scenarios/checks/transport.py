"""Promises of the transports: what happens to a letter, how often it is tried, how far it goes, and when a way rests.

Each takes the path that the transport has on its node: one node may have three of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from policies.port import NS_PER_S
from policies.transport import messages as m
from scenarios.checks.language import Check, Each, Ends, Event, Sometimes, Topic, decided, told

TYPES = {
    "accepted": m.Accepted, "tried": m.Tried, "heard": m.Heard, "delivered": m.Delivered,
    "acknowledged": m.Acknowledged, "spread": m.Spread, "dead": m.Dead, "routed": m.Routed, "result": m.Result,
}  # fmt: skip
"""What a transport announces, by kind."""


def topic(path: str, kind: str) -> Topic:
    """Return the topic of what the transport at ``path`` announces as ``kind``."""
    return decided(path, kind, TYPES[kind])


def letter(event: Event) -> str:
    """Return the name of the letter that an announcement is about."""
    name: str = event.value.letter
    return name


def origin(event: Event) -> str:
    """Return the node that the letter of an announcement comes from."""
    return letter(event).partition(">")[0]


# -- what becomes of a letter ----------------------------------------------------------------------------


def nothing_accepted_is_lost(path: str) -> Ends:
    """Every accepted letter is delivered in the end, or its origin announces that it gave it up."""
    return Ends(
        "nothing_accepted_is_lost", topic(path, "accepted"), topic(path, "delivered"), topic(path, "dead"),
        key=letter, says="neither arrived nor was given up",
    )  # fmt: skip


def everything_arrives(path: str) -> Ends:
    """Every accepted letter is delivered in the end; for transports that never give up so early."""
    return Ends(
        "everything_arrives", topic(path, "accepted"), topic(path, "delivered"), key=letter, says="has not arrived"
    )


def what_is_given_up_has_a_reason(path: str) -> Each:
    """Who gives a letter up says why."""
    return Each(
        "what_is_given_up_has_a_reason", topic(path, "dead"),
        wrong=lambda e: "" if e.value.reason else f"{e.node} gives {e.value.letter} up and does not say why",
    )  # fmt: skip


class DeliveredOnce(Check):
    """A node announces a letter's delivery once; after a restart it may say it ``again``, and marks it so."""

    def __init__(self, path: str) -> None:
        super().__init__("nothing_is_delivered_twice", topic(path, "delivered"))
        self.seen: set[tuple[str, str]] = set()

    def take(self, event: Event) -> str:
        if event.value.again:
            return ""
        if (event.node, letter(event)) in self.seen:
            return f"{event.node} delivers {letter(event)} a second time"
        self.seen.add((event.node, letter(event)))
        return ""


class AcknowledgedIsDelivered(Check):
    """Whoever says that a letter is acknowledged says so after its destination announced the delivery."""

    def __init__(self, path: str) -> None:
        super().__init__("acknowledged_is_delivered", topic(path, "delivered"), topic(path, "acknowledged"))
        self.delivered: set[str] = set()

    def take(self, event: Event) -> str:
        if event.kind == "delivered":
            self.delivered.add(letter(event))
        elif letter(event) not in self.delivered:
            return f"{event.node} takes {letter(event)} for delivered, which it is not"
        return ""


def acknowledged_is_delivered_in_the_end(path: str) -> Ends:
    """Every acknowledged letter is delivered in the end; for a bus, whose transports acknowledge before it has it."""
    return Ends(
        "acknowledged_is_delivered_in_the_end", topic(path, "acknowledged"), topic(path, "delivered"),
        key=letter, says="was taken for delivered, which it never is",
    )  # fmt: skip


class EveryoneHears(Check):
    """Every accepted broadcast is delivered, in the end, at every node that ``audience`` returns of its origin."""

    family = "liveness"

    def __init__(self, path: str, audience: Callable[[str], Collection[str]]) -> None:
        super().__init__("everyone_hears", topic(path, "accepted"), topic(path, "delivered"))
        self.audience = audience
        self.sent: dict[str, Event] = {}
        self.heard: dict[str, set[str]] = {}

    def take(self, event: Event) -> str:
        if event.kind == "delivered":
            self.heard.setdefault(letter(event), set()).add(event.node)
        elif event.value.to == m.EVERYONE:
            self.sent[letter(event)] = event
        return ""

    def end(self) -> str:
        for name, event in self.sent.items():
            deaf = sorted(set(self.audience(event.node)) - {event.node} - self.heard.get(name, set()))
            if deaf:
                return f"{name}, accepted at t={event.now_ns}ns, was never heard by {len(deaf)} nodes: {deaf[0]}, ..."
        return ""


# -- how it is sent --------------------------------------------------------------------------------------


class TriesBackOff(Check):
    """A letter's k-th try is followed by ``first_s`` x 2^(k-1) of patience, ``max_s`` at most; there are ``tries``.

    A try that a crash kept from leaving is counted by its origin and announced by nobody, so numbers may be missing.
    A node that was slowed down is not asked any more: its tries leave, and are announced, up to a step later than it
    counts its patience from, and a step may last as long as a wait.
    """

    def __init__(self, path: str, first_s: float, max_s: float, tries: int) -> None:
        super().__init__("tries_back_off", topic(path, "tried"), told("slow"))
        self.first_s, self.max_s, self.tries = first_s, max_s, tries
        self.last: dict[str, tuple[int, int]] = {}
        self.slow: set[str] = set()

    def take(self, event: Event) -> str:
        if event.kind == "slow":
            self.slow.add(event.node)
        return self._tried(event) if event.node not in self.slow else ""

    def _tried(self, event: Event) -> str:
        name, number = letter(event), event.value.tries
        before, at_ns = self.last.get(name, (0, 0))
        self.last[name] = number, event.now_ns
        if not before < number <= self.tries:
            return f"{event.node} counts try {number} of {name} after {before}, allowed are {self.tries}"
        wait_ns = int(min(self.first_s * 2.0 ** (before - 1), self.max_s) * NS_PER_S) if before else 0
        if event.now_ns - at_ns < wait_ns:
            return f"{event.node} tries {name} again after {(event.now_ns - at_ns) / NS_PER_S:g} s"
        return ""


class GoesNotTooFar(Check):
    """A letter makes ``hops_max`` hops at most, counted from who gave it to whom and not by what copies say."""

    def __init__(self, path: str, hops_max: int) -> None:
        super().__init__("no_letter_goes_too_far", topic(path, "heard"))
        self.hops_max = hops_max
        self.hops: dict[tuple[str, str], int] = {}

    def take(self, event: Event) -> str:
        name, via = letter(event), event.value.via
        made = 1 + (0 if via == origin(event) else self.hops[name, via])
        self.hops[name, event.node] = min(made, self.hops.get((name, event.node), made))
        return f"{name} reaches {event.node} on its hop {made}" if made > self.hops_max else ""


class BreakerRests(Check):
    """After ``failures`` negative results in a row a transport gets nothing for that destination for ``open_s``."""

    def __init__(self, path: str, failures: int, open_s: float) -> None:
        super().__init__("an_open_breaker_rests", topic(path, "result"), topic(path, "routed"))
        self.failures, self.open_ns = failures, int(open_s * NS_PER_S)
        self.row: dict[tuple[str, str, str], int] = {}
        self.open_until: dict[tuple[str, str, str], int] = {}

    def take(self, event: Event) -> str:
        value = event.value
        key = (event.node, value.transport, value.to)
        if event.kind == "result":
            self.row[key] = 0 if value.ok else self.row.get(key, 0) + 1
            if self.row[key] >= self.failures:
                self.open_until.setdefault(key, event.now_ns + self.open_ns)
        elif event.now_ns < self.open_until.pop(key, 0):
            return f"{event.node} gives {value.letter} to {value.transport}, which has failed"
        return ""

    def restarted(self, node: str) -> None:
        for memory in (self.row, self.open_until):
            for key in [key for key in memory if key[0] == node]:
                del memory[key]


# -- what each transport promises, whoever is in reach ---------------------------------------------------


def delivery(path: str, first_s: float, max_s: float, tries: int) -> tuple[Check, ...]:
    """Return the promises of the long-range transport."""
    return *_fates(path), AcknowledgedIsDelivered(path), TriesBackOff(path, first_s, max_s, tries)


def mesh(path: str, hops_max: int) -> tuple[Check, ...]:
    """Return the promises of the short-range transport."""
    return *_fates(path), AcknowledgedIsDelivered(path), GoesNotTooFar(path, hops_max)


def bus(path: str, failures: int, open_s: float) -> tuple[Check, ...]:
    """Return the promises of the bus."""
    return *_fates(path), acknowledged_is_delivered_in_the_end(path), BreakerRests(path, failures, open_s)


def _fates(path: str) -> tuple[Check, ...]:
    return what_is_given_up_has_a_reason(path), DeliveredOnce(path)


# -- what a campaign must have seen ----------------------------------------------------------------------


def rare_in_delivery(path: str, tries: int) -> tuple[Check, ...]:
    """Return what is interesting in delivery."""
    return (
        Sometimes("a_letter_was_tried_again", topic(path, "tried"), when=lambda e: e.value.tries > 1),
        Sometimes("a_last_try", topic(path, "tried"), when=lambda e: e.value.tries == tries),
        Sometimes("a_letter_was_given_up", topic(path, "dead"), when=lambda e: True),
        Sometimes("a_crash_with_writes_in_flight", told("writes_lost"), when=lambda e: True),
    )


def rare_in_mesh(path: str) -> tuple[Check, ...]:
    """Return what is interesting in a mesh."""
    return (
        Sometimes("a_carrier_handed_on", topic(path, "heard"), when=lambda e: e.value.via != origin(e)),
        Sometimes("a_node_came_back", told("restart"), when=lambda e: True),
        Sometimes("a_crash_with_writes_in_flight", told("writes_lost"), when=lambda e: True),
    )


def rare_in_bus(path: str) -> tuple[Check, ...]:
    """Return what is interesting on a bus."""
    return (
        Sometimes("the_mesh_carried", topic(path, "result"), when=lambda e: e.value.transport == "mesh" and e.value.ok),
        Sometimes("a_transport_said_no", topic(path, "result"), when=lambda e: not e.value.ok),
        Sometimes("a_node_came_back", told("restart"), when=lambda e: True),
    )
