"""All promises of a village's run, under the names that its manifest has."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from policies.harvest.messages import Session
from scenarios.checks import consensus, requests
from scenarios.checks.language import Check, Checks, Event, Look, StateCheck, decided

SESSION = decided("harvest", "harvest", Session)


class Told(Check):
    """A promise whose breach is found elsewhere, and told by `fail`."""

    def take(self, event: Event) -> str:
        return ""


class LedgerConserved(StateCheck):
    """Every ledger sums to what was earned, and members that applied as much are in one state."""

    def __init__(self) -> None:
        super().__init__("ledger_conserved")
        self.applied: dict[str, int] = {}  # when last looked at

    def look(self, nodes: Collection[str], policy: Look) -> str:
        found: dict[str, Any] = {node: policy(node, "coordination") for node in nodes}
        states = {node: work.state for node, work in found.items() if work is not None}
        applied = {node: state.applied for node, state in states.items()}
        if applied == self.applied:
            return ""  # a state changes with what is applied alone
        self.applied = applied
        self.ask(states)
        why, self.broken = self.broken, ""
        return why

    def ask(self, states: dict[str, Any]) -> None:
        """Look at the members' replicated states."""
        by_prefix: dict[int, tuple[str, str]] = {}
        for node, state in states.items():
            self.events += 1
            total, digest = sum(state.ledger.values()), state.digest()
            if total != state.earned and self.holds:
                self.broken = f"{node}: the ledger sums to {total}, {state.earned} token-layers were earned"
            first, expected = by_prefix.setdefault(state.applied, (node, digest))
            if digest != expected and self.holds:
                self.broken = f"{node} and {first} applied {state.applied} commands and differ"


class VillageChecks(Checks):
    """The checks of one village.

    Args:
        layers: of the served model.
        honest: nodes whose announcements count; None is all.

    Attributes:
        leaders: (time_ns, node, term) of every election.
    """

    def __init__(self, layers: int = 0, honest: Collection[str] | None = None) -> None:
        self.one_leader = consensus.one_leader_per_term()
        self.agreement = consensus.committed_entries_agree()
        self.in_order = consensus.commits_in_order()
        self.one_outcome = requests.one_outcome_per_request()
        self.coverage = requests.shards_cover_the_model(layers)
        self.ledger = LedgerConserved()
        self.envelope = Told("harvest_within_its_envelope", SESSION, requests.GONE)
        self.answered = Told("every_request_ends")
        self.leaders: list[tuple[int, str, int]] = []
        super().__init__(
            self.one_leader, self.agreement, self.in_order, self.one_outcome, self.coverage, self.ledger,
            self.envelope, self.answered, honest=honest,
        )  # fmt: skip

    @property
    def elections(self) -> int:
        """Leaders elected."""
        return len(self.leaders)

    @property
    def commits(self) -> int:
        """Log entries known to be committed."""
        return len(self.agreement.first)

    def decided(self, now_ns: int, node: str, path: str, kind: str, payload: bytes) -> Any:
        """Take in one announcement; return its value if any check hears it, else None."""
        value = super().decided(now_ns, node, path, kind, payload)
        if kind == "leader" and path == "consensus":
            self.leaders.append((now_ns, node, value.term))
        return value
