"""`twin committee`: how large a committee must be, and whether the choice itself fails as often as is computed.

The probabilities are those of `policies.committee.bound`. The check draws committees with `policies.committee.select`,
epoch by epoch, from a fleet without rules of diversity, and gives a Clopper-Pearson interval: one that leaves the
computed value outside has found an error of the law, of the choice, or one of the few that its confidence admits.
"""

from __future__ import annotations

import argparse
import re
from fractions import Fraction
from typing import NamedTuple

from scipy.stats import binomtest

from experiments.present import show
from policies.committee import Candidate, CommitteeError, faults, select
from policies.committee.bound import Row, failure_probability, table
from policies.committee.check import faulty_of
from policies.committee.choice import TICKETS
from policies.config import CommitteeConfig

TARGETS = (1e-3, 1e-6, 1e-9)
SIZES = (4, 7, 10, 13)
"""Committees whose failure is frequent enough to be counted."""
CONFIDENCE = 0.999
FLEET_MAX, CHECK_MAX = 1_000_000, 10_000_000
"""Of devices and of epochs drawn: beyond them an answer takes hours, and differs from that of a million by nothing."""
ODDS_MAX = 1000
"""Of a faulty device's tickets for an honest one's, either way: a hundred times what the choice itself gives."""


class Counted(NamedTuple):
    """Failures of the choice itself beside the computed probability."""

    share: float
    n: int
    computed: float
    failed: int
    epochs: int
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the computed value is in the interval."""
        return self.low <= self.computed <= self.high


def main(options: argparse.Namespace) -> int:
    """Print the table, and what was counted; return 3 if a count contradicts it.

    Raises:
        CommitteeError: an option out of range.
    """
    _check(options)
    shares, odds = [_number("faulty", word) for word in options.faulty.split(",")], _number("odds", options.odds)
    rows = table(options.fleet, shares, TARGETS, float(odds))
    counted = [
        count(options.fleet, share, n, odds, options.check, options.seed)
        for share in shares
        for n in SIZES
        if options.check > 0
    ]
    plain = {"rows": [row._asdict() for row in rows], "counted": [c._asdict() | {"holds": c.holds} for c in counted]}
    show(plain, "\n".join(_text(options.fleet, odds, rows, counted)), options.json)
    return 0 if all(c.holds for c in counted) else 3


def count(fleet: int, share: float | Fraction, n: int, odds: Fraction, epochs: int, seed: int) -> Counted:
    """Draw ``epochs`` committees and count those with more faulty members than they bear."""
    rules = CommitteeConfig(
        size=n, min_trust=0, min_stability=0, min_networks=1, min_vendors=1, min_regions=1, min_countries=1,
        site_max=n, within_faults=(),
    )  # fmt: skip
    if max(odds.numerator, odds.denominator) > TICKETS:
        raise CommitteeError(f"odds={odds}: a device has 1 to {TICKETS} tickets, so allowed is A/B of such numbers")
    faulty, beacon = faulty_of(fleet, share), seed.to_bytes(16, "big", signed=True)
    devices = [
        Candidate(f"d{k}", (odds.numerator if k < faulty else odds.denominator) / TICKETS, 1.0, "n", "v", "r", "c")
        for k in range(fleet)
    ]
    bad = {f"d{k}" for k in range(faulty)}
    failed = sum(
        len(bad.intersection(select(devices, rules, epoch, beacon).members)) > faults(n) for epoch in range(epochs)
    )
    interval = binomtest(failed, epochs).proportion_ci(CONFIDENCE)
    computed = failure_probability(fleet, faulty, n, float(odds))
    return Counted(float(share), n, computed, failed, epochs, float(interval.low), float(interval.high))


def _check(options: argparse.Namespace) -> None:
    """Refuse what cannot be computed, or would go on for hours."""
    for name, low, high in (("fleet", 1, FLEET_MAX), ("check", 0, CHECK_MAX), ("seed", 0, (1 << 63) - 1)):
        value = getattr(options, name)
        if not low <= value <= high:
            raise CommitteeError(f"--{name} {value}: allowed: {low} to {high}")


def _number(name: str, word: str) -> Fraction:
    """Read ``--faulty`` (a share) or ``--odds``."""
    try:
        if not re.fullmatch(r"[^eE]{1,40}([eE][+-]?\d{1,2})?", word.strip()):  # a large exponent is hours of digits
            raise ValueError
        value = Fraction(word.strip())
    except (ValueError, ZeroDivisionError):
        raise CommitteeError(f"{name}={word!r}: expected a number, as 0.1 or 1/4") from None
    if name == "faulty" and not 0 <= value <= 1:
        raise CommitteeError(f"faulty={word!r}: allowed: shares from 0 to 1")
    if name == "odds" and not Fraction(1, ODDS_MAX) <= value <= ODDS_MAX:
        raise CommitteeError(f"odds={word!r}: allowed: 1/{ODDS_MAX} to {ODDS_MAX}")
    return value


def _text(fleet: int, odds: Fraction, rows: list[Row], counted: list[Counted]) -> list[str]:
    lines = [f"smallest committee n = 3f + 1 of {fleet} devices, odds {odds}; it fails if more than f are faulty", ""]
    lines.append(f"{'faulty':>8} {'at most':>9} {'n':>5} {'f':>5} {'fails with':>12}")
    lines += [f"{row.share:8.1%} {row.target:9.0e} {row.n:5} {row.f:5} {row.probability:12.2e}" for row in rows]
    if counted:
        lines += ["", f"{counted[0].epochs} committees drawn of each size; {CONFIDENCE:.1%} intervals", ""]
        lines.append(f"{'faulty':>8} {'n':>5} {'computed':>10} {'counted':>10} {'interval':>21}")
        for c in counted:
            interval, verdict = f"{c.low:.5f} .. {c.high:.5f}", "" if c.holds else "  OUTSIDE"
            lines.append(
                f"{c.share:8.1%} {c.n:5} {c.computed:10.5f} {c.failed / c.epochs:10.5f} {interval:>21}{verdict}"
            )
    return lines
