"""The committee of an epoch from the state's roll: `policies.committee.select`, and the bound, in integers only.

What is decided here becomes part of the replicated state, so no rounding may differ between machines: trust and
stability come in hundredths, and the bound is exact counting, rounded up to parts of a billion.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, comb

from policies.committee.candidates import Candidate
from policies.committee.check import CommitteeError, faults, faulty_of
from policies.committee.choice import select
from policies.config import CommitteeConfig
from policies.state.council import CERTAIN, Choice, Elector


class Electoral:
    """Chooses by the rules of a configuration.

    Args:
        seats: size and rules.
        byzantine_share: of the devices on the roll, as the bound assumes.
    """

    def __init__(self, seats: CommitteeConfig, byzantine_share: float) -> None:
        self.seats, self.byzantine_share = seats, byzantine_share

    def choose(self, roll: Sequence[Elector], epoch: int, beacon: bytes, sitting: Sequence[str]) -> Choice:
        """Return the committee of an epoch, or why none obeys the rules (`policies.state.council.Chooser`)."""
        faulty = faulty_of(len(roll), self.byzantine_share)
        candidates = [
            Candidate(e.node, e.trust / 100, e.stability / 100, e.facts.network, e.facts.vendor, e.facts.region,
                      e.facts.country)
            for e in roll
        ]  # fmt: skip
        try:
            members, reason = select(candidates, self.seats, epoch, beacon, sitting).members, ""
        except CommitteeError as error:
            members, reason = (), str(error)
        listed = {e.node for e in roll}
        strangers = sum(name not in listed for name in members or sitting)
        return Choice(members, reason, faulty, failure_ppb(len(roll), faulty, len(members or sitting), strangers))


def failure_ppb(fleet: int, faulty: int, n: int, strangers: int = 0) -> int:
    """Return the probability that more than f = (n - 1) // 3 of ``n`` members are faulty, rounded up, per billion.

    It is the hypergeometric tail, as `policies.committee.bound.failure_probability` has it. It holds for any way of
    choosing, with rules of diversity, weights and members that stay, as long as who is chosen does not depend on who
    is faulty: to the choice the faulty then are any ``faulty`` of the ``fleet``. Where the faulty have gained more
    trust than others it is too low (`policies.committee.bound` has the odds).

    Of the members, ``strangers`` are not of the fleet: they were convicted or never stood, and keep their seats as
    nobody can be chosen. They are taken for faulty. With fewer devices than other members nothing is known, and the
    probability is one.
    """
    drawn, bears = n - strangers, faults(n) - strangers
    if bears < 0 or fleet < drawn:
        return CERTAIN
    bad = sum(comb(faulty, k) * comb(fleet - faulty, drawn - k) for k in range(bears + 1, min(faulty, drawn) + 1))
    return ceil(Fraction(CERTAIN * bad, comb(fleet, drawn)))
