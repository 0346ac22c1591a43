"""Who may be elected in a scenario's village, and what those devices say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from policies.commands import Facts
from policies.committee import check_size
from policies.committee.electoral import Electoral
from policies.config import CommitteeConfig, CouncilConfig, FixedConfig, PbftConfig, PolicyConfig
from policies.consensus import bears_liars
from policies.consensus.pbft.epochs import MEMBERS_MAX
from policies.state.council import CANDIDATES_MAX, EARNED_MAX, EPOCHS, Candidate, Elector, trust

if TYPE_CHECKING:
    from scenarios.schema import Fleet, Scenario

NETWORKS, VENDORS, REGIONS, COUNTRIES = 6, 3, 4, 2
"""Grounds on which homes differ (assumption: an even spread, device after device, so that small fleets can be diverse;
who has real owners asks them)."""


class Electorate(NamedTuple):
    """Who agrees for a village, first and later.

    Attributes:
        founders: the first committee, or the only one.
        candidates: who may be elected; () where nobody is.
        facts: what each candidate says of itself when it stands.
    """

    founders: tuple[str, ...]
    candidates: tuple[str, ...]
    facts: Mapping[str, Facts]

    @property
    def keepers(self) -> tuple[str, ...]:
        """Who keeps the log, as a member or a learner, and has a gateway."""
        return self.candidates or self.founders


def electorate(scenario: Scenario, kinds: Mapping[str, str]) -> Electorate:
    """Return who agrees for a scenario's village.

    Machines on the mains, which are up whether they are lent or not, may be elected, and the first of them found the
    committee. A desktop is attested by its TPM, a GPU box by a trusted execution environment (assumption).

    Args:
        scenario: with its policy.
        kinds: name to kind of every device.
    """
    mains = {name: kind for name, kind in kinds.items() if kind in ("desktop", "gpu_box")}
    founders = tuple(mains)[: scenario.fleet.committee]
    if isinstance(scenario.policy.committee, FixedConfig):
        return Electorate(founders, (), {})
    return Electorate(founders, tuple(mains), {name: _facts(k, kind) for k, (name, kind) in enumerate(mains.items())})


def _facts(k: int, kind: str) -> Facts:
    return Facts(
        "tee" if kind == "gpu_box" else "tpm", f"network {k % NETWORKS}", f"vendor {k % VENDORS}",
        f"region {k % REGIONS}", f"country {k % COUNTRIES}",
    )  # fmt: skip


def check(policy: PolicyConfig, fleet: Fleet) -> None:
    """Refuse a council that the fleet cannot have.

    Raises:
        ValueError: one line that names the field, the value and what is allowed.
    """
    council = policy.committee
    if not isinstance(council, CouncilConfig):
        return
    mains = fleet.desktops + fleet.gpu_boxes
    liars = bears_liars(policy.consensus)
    most = MEMBERS_MAX if isinstance(policy.consensus, PbftConfig) else CANDIDATES_MAX
    if mains > most:
        raise ValueError(f"policy.committee.rule='council': {mains} machines on the mains; allowed: up to {most}")
    try:
        check_size(council.seats.size, mains, f=1 if liars else 0)
    except ValueError as error:
        raise ValueError(f"policy.committee.seats.size={council.seats.size}: {error}") from None
    _check_seats(council.seats, fleet)
    if council.alive_s >= council.epoch_s:
        raise ValueError(f"policy.committee.alive_s={council.alive_s}: expected < epoch_s={council.epoch_s}")
    plan_every_s = policy.coordination.plan_every_s
    # Under these an epoch begins with another leader, who plans at its first look, and has what is left to serve.
    if liars and council.epoch_s < 2 * plan_every_s:
        raise ValueError(
            f"policy.committee.epoch_s={council.epoch_s}: expected >= {2 * plan_every_s}, twice "
            f"policy.coordination.plan_every_s={plan_every_s}"
        )


def _check_seats(seats: CommitteeConfig, fleet: Fleet) -> None:
    """Refuse seats that nobody could ever fill: not if all who may be elected were always up and had earned the most.

    Raises:
        ValueError: says which rule stands in the way, with what was found and what is needed.
    """
    kinds = ["desktop"] * fleet.desktops + ["gpu_box"] * fleet.gpu_boxes
    best = [Candidate(_facts(k, kind), b"", 0, (1 << EPOCHS) - 1, EPOCHS) for k, kind in enumerate(kinds)]
    roll = [Elector(str(k), trust(c.facts, 1 << EARNED_MAX), c.stability, c.facts) for k, c in enumerate(best)]
    choice = Electoral(seats, 0.0).choose(roll, 0, bytes(16), ())
    if choice.reason:
        raise ValueError(f"policy.committee.seats: nobody could ever fill them: {choice.reason}")
