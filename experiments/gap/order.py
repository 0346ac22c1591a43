"""Whether the twin orders policies as the cluster does, over pairs that differ beyond noise, and its regret."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from experiments.gap.verdict import MISSED, PASSED, REPEATS_MIN, TOO_LITTLE, Verdict
from experiments.statistics import t_interval

PAIRS_MIN = 40
TAU_MIN = 0.9
REGRET_MAX = 0.03
"""Ours: fewer pairs, or repeats (`experiments.gap.verdict`), leave tau to a few of them; the others are the bars."""
NOT_SHOWN = "not shown"

Costs = Mapping[str, Mapping[str, Sequence[float]]]
"""Scenario to policy to its cost (mean latency, s) in each round, the same rounds in the same order everywhere."""


class Order(NamedTuple):
    """How the twin orders policies.

    Attributes:
        pairs: pairs of policies of one scenario.
        differ: those that the cluster tells apart: the interval of the log ratio, paired by round, leaves out zero.
        tau: Kendall's over these; NaN without any. A tie of the twin counts for neither side.
        rounds: how many there were.
        wrong: (scenario, policy, policy) that the twin orders the other way, or not at all.
        regret: scenario to what the twin's choice costs more than the cluster's best, as a share.
    """

    pairs: int
    differ: int
    tau: float
    rounds: int
    wrong: tuple[tuple[str, str, str], ...]
    regret: dict[str, float]

    @property
    def verdict(self) -> Verdict:
        """On the order; too few pairs that differ show nothing."""
        if self.rounds < REPEATS_MIN:
            return Verdict(TOO_LITTLE, f"{self.rounds} repeats of {REPEATS_MIN}")
        if self.differ < PAIRS_MIN:
            return Verdict(NOT_SHOWN, f"{self.differ} of {self.pairs} pairs differ beyond noise, {PAIRS_MIN} needed")
        word = PASSED if self.tau >= TAU_MIN else MISSED
        return Verdict(word, f"Kendall's tau {self.tau:.2f} over {self.differ} of {self.pairs} pairs")

    @property
    def choice(self) -> Verdict:
        """On the regret, the worst over scenarios."""
        if self.rounds < REPEATS_MIN:
            return Verdict(TOO_LITTLE, f"{self.rounds} repeats of {REPEATS_MIN}")
        worst = max(self.regret.values(), default=float("nan"))
        return Verdict(PASSED if worst <= REGRET_MAX else MISSED, f"worst regret {worst:.1%}, allowed {REGRET_MAX:.0%}")


def order(real: Costs, twin: Costs) -> Order:
    """Compare the order of policies by their mean cost over rounds."""
    pairs = differ = agreed = 0
    rounds = min((len(values) for costs in real.values() for values in costs.values()), default=0)
    wrong: list[tuple[str, str, str]] = []
    regret = {}
    for scenario, costs in real.items():
        predicted = {policy: float(np.mean(values)) for policy, values in twin[scenario].items()}
        for one, other in combinations(costs, 2):
            pairs += 1
            low, high = t_interval(list(np.log(np.array(costs[one]) / np.array(costs[other]))))
            if not (low > 0 or high < 0):
                continue
            differ += 1
            sign = np.sign(predicted[one] - predicted[other])
            agreed += int(sign * np.sign(low))
            if sign != np.sign(low):
                wrong.append((scenario, one, other))
        measured = {policy: float(np.mean(values)) for policy, values in costs.items()}
        chosen = min(predicted, key=lambda policy: (predicted[policy], policy))
        regret[scenario] = measured[chosen] / min(measured.values()) - 1
    return Order(pairs, differ, agreed / differ if differ else float("nan"), rounds, tuple(wrong), regret)
