"""How sure a committee is: the probability that more of its members are faulty than it bears.

Drawn without replacement and all alike, the number of faulty members is hypergeometric; drawn by tickets, with other
odds for faulty devices than for honest ones, it follows Wallenius' noncentral hypergeometric law (Fog 2008,
"Calculation methods for Wallenius' noncentral hypergeometric distribution"). Both tails are SciPy's, and are checked
by simulating the choice itself. Rules of diversity are not in these laws: they help where faulty devices have a
network or a region in common, and the choice then is safer than the bound says, but a bound that counts on it would
count on where the adversary stands.

A bound holds for one epoch. Over k epochs it is at most k times as large (union bound), since most members stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import inf
from typing import NamedTuple

from scipy.stats import hypergeom, nchypergeom_wallenius

from policies.committee.check import CommitteeError, check_size, faults, faulty_of


class Row(NamedTuple):
    """One line of the table."""

    share: float  # of the fleet that is faulty
    target: float  # probability that is accepted
    n: int  # smallest committee
    f: int  # faulty members it bears
    probability: float  # that more are


def failure_probability(fleet: int, faulty: int, n: int, odds: float = 1.0) -> float:
    """Return the probability that more than f = (n - 1) // 3 of ``n`` members are faulty.

    Args:
        fleet: devices that may sit.
        faulty: how many of them are faulty.
        n: members.
        odds: tickets of a faulty device for each of an honest one: below 1 trust tells them apart, 1 it does not,
            above 1 the faulty have gained more of it.

    Raises:
        CommitteeError: a number out of range, or a committee larger than the fleet.
    """
    if not 0 <= faulty <= fleet or not 0 < odds < inf:
        raise CommitteeError(f"faulty={faulty}, odds={odds}: allowed are 0 to {fleet}, and finite odds above 0")
    check_size(n, fleet)
    f = faults(n)
    if f >= min(faulty, n):
        return 0.0
    if odds == 1.0:
        return float(hypergeom.sf(f, fleet, faulty, n))
    return float(nchypergeom_wallenius.sf(f, fleet, faulty, n, odds))


def smallest(fleet: int, faulty: int, target: float, odds: float = 1.0) -> int:
    """Return the smallest n = 3f + 1 with a failure probability of at most ``target``.

    Raises:
        CommitteeError: not even the whole fleet would do: a third of it or more is faulty.
    """
    if not 0 < target < 1:
        raise CommitteeError(f"target={target}: allowed are probabilities between 0 and 1")
    for n in range(1, fleet + 1, 3):
        if failure_probability(fleet, faulty, n, odds) <= target:
            return n
    raise CommitteeError(f"faulty={faulty} of {fleet} devices: no committee of 3f + 1 fails with {target:g} or less")


def table(fleet: int, shares: Iterable[float | Fraction], targets: Iterable[float], odds: float = 1.0) -> list[Row]:
    """Return the smallest committee for each share of faulty devices and each accepted probability."""
    rows = []
    wanted = tuple(targets)
    for share in shares:
        faulty = faulty_of(fleet, share)
        for target in wanted:
            n = smallest(fleet, faulty, target, odds)
            rows.append(Row(float(share), target, n, faults(n), failure_probability(fleet, faulty, n, odds)))
    return rows
