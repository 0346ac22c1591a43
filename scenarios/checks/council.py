"""Promises of a council: one committee everywhere, lawful, without the guilty, and in office once it is decided.

What is decided and convicted is announced by every device's `policies.council`; who sits in the log's own eyes as
``seated``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from policies.commands import Facts
from policies.config import CommitteeConfig
from policies.consensus.hotstuff.epoch import TERMS
from policies.council import Convicted
from policies.local import Configured
from policies.state.council import Decision
from scenarios.checks.language import Check, Each, Event, Same, Sometimes, Topic, decided
from scenarios.checks.progress import HEALED, AtTheEnd

PATH = "council"
"""Where the council's duties are mounted, unless a check is told otherwise."""


def decision(path: str = PATH) -> Topic:
    """A device's state has another epoch's committee."""
    return decided(path, "decision", Decision)


def convicted(path: str = PATH) -> Topic:
    """A device's state has somebody's guilt."""
    return decided(path, "convicted", Convicted)


def seated(path: str = PATH) -> Topic:
    """A device's log has these members."""
    return decided(path, "seated", Configured)


DECISION, CONVICTED, SEATED = decision(), convicted(), seated()

Seats = tuple[frozenset[str], frozenset[str]]  # members and learners


def one_committee_per_epoch(path: str = PATH) -> Same:
    """Every replica decides an epoch's committee at one height, and all of them the same, with one bound."""
    return Same(
        "one_committee_per_epoch", decision(path), key=lambda e: e.value.epoch, value=lambda e: e.value,
        says=lambda e, first: f"{e.node} decides {_words(e.value)}, another decided {_words(first)}",
    )  # fmt: skip


def _words(decision: Decision) -> str:
    return f"{_all(decision.members)} for epoch {decision.epoch} by command {decision.command}"


def _all(members: Collection[str]) -> str:
    return ", ".join(members)


class CommitteesAreLawful(Check):
    """Whoever is chosen obeys the rules of size and diversity; where nobody can, the old committee stays, and no other.

    Args:
        facts: of each device, as they are.
        seats: the rules.
        founders: the committee of epoch 0.

    Attributes:
        sat: epoch to its committee, as it was decided first.
    """

    def __init__(
        self, facts: Mapping[str, Facts], seats: CommitteeConfig, founders: Collection[str], path: str = PATH
    ) -> None:
        super().__init__("committees_are_lawful", decision(path))
        self.facts, self.seats = facts, seats
        self.sat: dict[int, tuple[str, ...]] = {0: tuple(founders)}

    def take(self, event: Event) -> str:
        decision, rules = event.value, self.seats
        members = decision.members
        self.sat.setdefault(decision.epoch, members)
        before = self.sat.get(decision.epoch - 1, members)  # who takes a state over skips epochs
        if decision.reason and members != before:
            return f"{event.node} decides {_words(decision)}, but gives a reason to keep {_all(before)}"
        if decision.reason:
            return ""
        if strangers := [name for name in members if name not in self.facts]:
            return f"{event.node} decides {_words(decision)}, and on {strangers[0]}, who never stood"
        found = [self.facts[name] for name in members]
        values = {
            "network": [f.network for f in found], "vendor": [f.vendor for f in found],
            "region": [f.region for f in found], "country": [f.country for f in found],
        }  # fmt: skip
        least = {
            "network": rules.min_networks, "vendor": rules.min_vendors, "region": rules.min_regions,
            "country": rules.min_countries,
        }  # fmt: skip
        wrong = [ground for ground, needed in least.items() if len(set(values[ground])) < needed]
        most = max(1, (rules.size - 1) // 3)
        largest = {ground: max(map(of.count, of), default=0) for ground, of in values.items()}
        wrong += [ground for ground in rules.within_faults if largest[ground] > most]
        sites = [(f.region, f.network) for f in found]
        if max(map(sites.count, sites), default=0) > rules.site_max:
            wrong.append("site")
        if len(set(members)) != rules.size:
            wrong.append("size")
        return f"{event.node} decides {_words(decision)} against the rules of {', '.join(wrong)}" if wrong else ""


class TheGuiltySitNoMore(Check):
    """Who was proved guilty is in no committee that is chosen later."""

    def __init__(self, path: str = PATH) -> None:
        super().__init__("the_guilty_sit_no_more", convicted(path), decision(path))
        self.since: dict[str, int] = {}  # node to the command that convicted it

    def take(self, event: Event) -> str:
        value = event.value
        if event.kind == CONVICTED.kind:
            self.since.setdefault(value.node, value.command)
            return ""
        guilty = [name for name in value.members if self.since.get(name, value.command) < value.command]
        if not guilty or value.reason:
            return ""
        return f"{event.node} decides {_words(value)}, but {guilty[0]} was convicted by command {self.since[guilty[0]]}"


def convicts_only(faulty: Collection[str], path: str = PATH) -> Each:
    """Nobody is convicted who did nothing."""

    def wrong(event: Event) -> str:
        return "" if event.value.node in faulty else f"{event.node} convicts {event.value.node}, who did nothing"

    return Each("convicts_only_the_faulty", convicted(path), wrong=wrong)


class OnlyTheChosenSit(Check):
    """The log's members and learners are always some that a correct device's council decided, or the founders."""

    def __init__(self, founders: Collection[str], path: str = PATH) -> None:
        super().__init__("only_the_chosen_sit", decision(path), seated(path))
        self.decided: set[Seats] = {(frozenset(founders), frozenset())}

    def take(self, event: Event) -> str:
        seats = _seats(event)
        if event.kind == DECISION.kind:
            self.decided.add(seats)
            return ""
        members = ", ".join(event.value.members)
        return "" if seats in self.decided else f"{event.node} has members {members}, whom nobody decided on"


class CommitteesTakeOffice(Check):
    """After the faults epochs go on, and a committee sits before the second one after it is decided (liveness).

    Args:
        epochs: how many must begin after the faults.
    """

    family = "liveness"

    def __init__(self, epochs: int, path: str = PATH) -> None:
        super().__init__("committees_take_office", HEALED, decision(path), seated(path))
        self.epochs, self.healed, self.last = epochs, False, 0
        self.waiting: dict[int, Seats] = {}  # epochs since the faults whose committee was not seen sitting
        self.begun = 0  # epochs since the faults
        self.now: Seats = (frozenset(), frozenset())

    def take(self, event: Event) -> str:
        if event.kind == HEALED.kind:
            self.healed = True
        elif event.kind == SEATED.kind:
            self.now = _seats(event)
            self.waiting = {epoch: seats for epoch, seats in self.waiting.items() if seats != self.now}
        elif event.value.epoch > self.last:
            self.last = event.value.epoch
            if not self.healed:
                return ""
            self.begun += 1
            late = [epoch for epoch in self.waiting if epoch + 2 <= self.last]
            if _seats(event) != self.now:
                self.waiting[self.last] = _seats(event)
            return f"epoch {self.last} begins, and the committee of {late[0]} never sat" if late else ""
        return ""

    def end(self) -> str:
        return "" if self.begun >= self.epochs else f"{self.begun} epochs began after the faults, of {self.epochs}"


class ViewsConvergeInEpochs(AtTheEnd):
    """Devices that are up are in the newest epoch, or on the step to it, and those in it are in one term, or on the
    step to the next (L3)."""

    def __init__(self) -> None:
        super().__init__("views_converge_in_epochs")

    def lacks(self, found: dict[str, Any]) -> str:
        terms = {node: divmod(member.term, TERMS) for node, member in found.items()}
        epochs = [epoch for epoch, _ in terms.values()]
        last = [term for epoch, term in terms.values() if epoch == max(epochs)]
        apart = bool(terms) and (max(epochs) > min(epochs) + 1 or max(last) > min(last) + 1)
        return f"devices are in (epoch, term) {terms}" if apart else ""


def _seats(event: Event) -> Seats:
    return frozenset(event.value.members), frozenset(event.value.learners)


def safety(
    founders: Collection[str], facts: Mapping[str, Facts], seats: CommitteeConfig, faulty: Collection[str],
    path: str = PATH,
) -> tuple[Check, ...]:  # fmt: skip
    """Return what no fault may break; ``path``: where the council's duties are mounted."""
    return (
        one_committee_per_epoch(path), CommitteesAreLawful(facts, seats, founders, path), TheGuiltySitNoMore(path),
        convicts_only(faulty, path), OnlyTheChosenSit(founders, path),
    )  # fmt: skip


def rare(founders: Collection[str], *, evidence: bool = True) -> tuple[Check, ...]:
    """Return what a campaign must have seen; ``evidence``: the protocol proves who equivocated."""
    seen = (Sometimes("somebody_was_convicted", CONVICTED, when=lambda e: True),) if evidence else ()
    return (
        Sometimes("the_members_changed", DECISION, when=lambda e: set(e.value.members) != set(founders)),
        Sometimes("no_committee_was_lawful", DECISION, when=lambda e: bool(e.value.roll and e.value.reason)), *seen,
    )  # fmt: skip
