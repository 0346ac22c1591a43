"""All promises of a village's run, under the names that its manifest has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from policies.config import CouncilConfig, FixedConfig, MembershipRules, NoDetectorConfig
from policies.harvest.messages import Session
from scenarios.checks import byzantine, consensus, logs, membership, requests, state
from scenarios.checks import council as elections
from scenarios.checks.checking import NoHonestWorkerConvicted
from scenarios.checks.language import Check, Checks, Event, decided
from scenarios.checks.offers import ServedAsWellAsPossible
from scenarios.checks.progress import Bounded, EverybodyCatchesUp
from scenarios.checks.votes import BYZANTINE
from scenarios.council import Electorate
from scenarios.faults import end_s
from scenarios.schema import Scenario

PATH = "coordination"
"""Where a village mounts the council's duties."""
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
        layers: of the served models by name, the first of them before all others.
        honest: nodes whose announcements count; None is all.
        members: of the committee.
        faulty: of these, who may lie.
        protocol: of the replicated log, by the word that chooses it.
        detector: parameters of the failure detector; without one nothing is asked of it.
        nodes: how many mount it.
        liars: nodes of which it is not asked, and which checks of work may convict.
        council: who may be elected and how, where the committee is; ``members`` are all of those then.
        fetched: whether workers may have to fetch the models' layers.

    Attributes:
        leaders: (time_ns, node, term) of every election.
        detection: what is asked of the failure detector; empty without one.
        calm: what must have come about by the end, once the faults are over; told `HEALED`, and asked by `over`.
    """

    def __init__(
        self, layers: int | Mapping[str, int] = 0, honest: Collection[str] | None = None, *,
        members: Collection[str] = (), faulty: Collection[str] = (), protocol: str = "raft",
        detector: NoDetectorConfig | MembershipRules | None = None, nodes: int = 0, liars: Collection[str] = (),
        council: Council | None = None, fetched: bool = False,
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
        watched = None if isinstance(detector, NoDetectorConfig) else detector
        self.detection = () if watched is None else membership.promises(watched, nodes, liars)
        size = 0 if council is None else len(council.electorate.founders)
        self.council = council
        self.calm = () if council is None else council.liveness()
        elected = () if council is None else (*council.safety(faulty), *self.calm)
        super().__init__(
            self.one_leader, self.agreement, self.in_order, self.one_outcome, self.coverage, self.ledger,
            self.overdraft, self.equal, self.credited, self.envelope, self.answered,
            *_of_a_log(members, faulty, protocol, size), *self.detection, *elected, NoHonestWorkerConvicted(liars),
            *_of_models(layers, fetched), honest=honest,
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

    def over(self, now_ns: int) -> None:
        """The run is over: ask what should have come about after the faults."""
        self.tell(now_ns, "", membership.OVER.kind)
        for check in self.calm:
            if why := check.end():
                check.fail(now_ns, why)

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


class Council(NamedTuple):
    """What is asked of a village whose committee is re-elected.

    Attributes:
        electorate: who may be elected.
        rules: how.
        healed_s: when the run's last fault is over; infinity if one never is.
        calm_s: how long the run goes on after that.
        looks: whether states are looked at while it goes on.
    """

    electorate: Electorate
    rules: CouncilConfig
    healed_s: float
    calm_s: float
    looks: bool

    def safety(self, faulty: Collection[str]) -> tuple[Check, ...]:
        """Return what no fault may break."""
        who = self.electorate
        return elections.safety(who.founders, who.facts, self.rules.seats, faulty, PATH)

    def liveness(self) -> tuple[Check, ...]:
        """Return what must come about after the faults, if there is time: an epoch may last twice its length."""
        epochs = int(max(0.0, self.calm_s) / (2 * self.rules.epoch_s))
        if not epochs:
            return ()
        of_states = (elections.ViewsConvergeInEpochs(), EverybodyCatchesUp()) if self.looks else ()
        return elections.CommitteesTakeOffice(epochs, PATH), *of_states


def council_of(scenario: Scenario, electorate: Electorate, *, looks: bool) -> Council | None:
    """Return what is asked of a scenario's council, None where the committee is fixed; ``looks`` as in `Council`."""
    rules = scenario.policy.committee
    if isinstance(rules, FixedConfig):
        return None
    healed_s = max((end_s(fault) for fault in scenario.faults), default=0.0)
    return Council(electorate, rules, healed_s, scenario.duration_s - healed_s, looks)


def _of_models(layers: int | Mapping[str, int], fetched: bool) -> tuple[Check, ...]:
    """Return what a village of several models promises; nothing of another."""
    return (ServedAsWellAsPossible(fetched=fetched),) if isinstance(layers, Mapping) and len(layers) > 1 else ()


def _of_a_log(members: Collection[str], faulty: Collection[str], protocol: str, size: int) -> tuple[Check, ...]:
    """Return what a protocol promises beyond its commits: of its members' memory, and of its messages if it bears
    liars, else of its logs.

    ``size``: how many of ``members`` are members at a time, where they change.
    """
    if protocol in BYZANTINE:
        return logs.StateInOrder(), Bounded(), *byzantine.safety(members, faulty, BYZANTINE[protocol], size)
    of_logs = (logs.LogsMatch(), logs.StateInOrder()) if size else logs.safety(members)
    return consensus.CommittedStays(), *of_logs, Bounded(), byzantine.blames_only(faulty)
