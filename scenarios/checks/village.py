"""All promises of a village's run, under the names that its manifest has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from policies.config import MembershipRules, NoDetectorConfig
from policies.harvest.messages import Session
from scenarios.checks import byzantine, consensus, logs, membership, requests, state
from scenarios.checks.language import Check, Checks, Event, decided
from scenarios.checks.votes import BYZANTINE

SESSION = decided("harvest", "harvest", Session)


class Told(Check):
    """A promise whose breach is found elsewhere, and told by `fail`."""

    def take(self, event: Event) -> str:
        return ""


class VillageChecks(Checks):
    """The checks of one village.

    Those of members' states are asked where a world calls `look`, those of messages where it calls `said`. Messages
    are heard under protocols that bear liars only: elsewhere they would cost more than they show.

    Args:
        layers: of the served model.
        honest: nodes whose announcements count; None is all.
        members: of the committee.
        faulty: of these, who may lie.
        protocol: of the replicated log, by the word that chooses it.
        detector: parameters of the failure detector; without one nothing is asked of it.
        nodes: how many mount it.
        liars: nodes of which it is not asked.

    Attributes:
        leaders: (time_ns, node, term) of every election.
        detection: what is asked of the failure detector; empty without one.
    """

    def __init__(
        self, layers: int = 0, honest: Collection[str] | None = None, *, members: Collection[str] = (),
        faulty: Collection[str] = (), protocol: str = "raft",
        detector: NoDetectorConfig | MembershipRules | None = None, nodes: int = 0, liars: Collection[str] = (),
    ) -> None:  # fmt: skip
        self.one_leader = consensus.one_leader_per_term()
        self.agreement = consensus.committed_entries_agree()
        self.in_order = consensus.commits_in_order()
        self.one_outcome = requests.one_outcome_per_request()
        self.coverage = requests.shards_cover_the_model(layers)
        self.ledger, self.overdraft, self.equal = state.LedgerConserved(), state.NoOverdraft(), state.EqualStates()
        self.credited = state.credited_once()
        self.envelope = Told("harvest_within_its_envelope", SESSION, requests.GONE)
        self.answered = Told("every_request_ends")
        self.leaders: list[tuple[int, str, int]] = []
        off = detector is None or isinstance(detector, NoDetectorConfig)
        self.detection = () if off else membership.promises(detector, nodes, liars)
        super().__init__(
            self.one_leader, self.agreement, self.in_order, self.one_outcome, self.coverage, self.ledger,
            self.overdraft, self.equal, self.credited, self.envelope, self.answered,
            *_of_a_log(members, faulty, protocol), *self.detection, honest=honest,
        )  # fmt: skip

    @property
    def asked(self) -> list[Check]:
        """Those that had something to judge: what is shown of a run."""
        return [check for check in self.all if check.events or check.broken]

    @property
    def elections(self) -> int:
        """Leaders elected."""
        return len(self.leaders)

    @property
    def commits(self) -> int:
        """Log entries known to be committed."""
        return len(self.agreement.first)

    def ask_states(self, states: Mapping[str, Any]) -> None:
        """Ask what is promised of replicated states of these, by node."""
        for check in (self.ledger, self.overdraft, self.equal):
            check.ask(states)

    def decided(self, now_ns: int, node: str, path: str, kind: str, payload: bytes) -> Any:
        """Take in one announcement; return its value if any check hears it, else None."""
        value = super().decided(now_ns, node, path, kind, payload)
        if kind == "leader" and path == "consensus":
            self.leaders.append((now_ns, node, value.term))
        return value


def _of_a_log(members: Collection[str], faulty: Collection[str], protocol: str) -> tuple[Check, ...]:
    """Return what a protocol promises beyond its commits: of its messages if it bears liars, else of its logs."""
    if protocol in BYZANTINE:
        return logs.StateInOrder(), *byzantine.safety(members, faulty, BYZANTINE[protocol])
    return consensus.CommittedStays(), *logs.safety(members), byzantine.blames_only(faulty)
