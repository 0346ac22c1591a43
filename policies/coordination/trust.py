"""How far the leader trusts workers, and so how often it has a pipeline's answers run a second time.

A second run shows any falsified answer, whoever of the pipeline falsified it: its workers share the blame, and each is
then a liar with the odds that Bayes' rule gives. The rate follows from the odds by the law of spot checks
(`policies.verification.law`); whoever was never on the losing side is audited at the village's own rate, which no
good record lowers.
"""

from __future__ import annotations

from collections.abc import Iterable

from policies.verification.law import spot_checks

PRIOR = 0.01  # assumption: of a hundred workers one lies
LIES_OFTEN = 0.5  # assumption: a liar's answers of which an audit would have shown that they are false
MISTAKEN = 1e-3  # assumption: an honest worker, alone on its pipeline, loses an audit (other hardware, another version)
SLANDER = 1 / 3  # of 3f + 1 members f may lie, and call any honest worker false
HARM = 100.0  # assumption: a wrong answer does as much harm as a hundred runs cost
HORIZON = 10_000  # assumption: answers that a worker is expected to give


class Trust:
    """Odds that a worker lies, by node, of those that an audit has shown anything of."""

    def __init__(self) -> None:
        self._odds: dict[str, float] = {}

    def lies(self, node: str) -> float:
        """Return the probability that a worker lies."""
        odds = self._odds.get(node, PRIOR / (1 - PRIOR))
        return odds / (1 + odds)

    def lost(self, nodes: Iterable[str]) -> None:
        """These workers gave an answer together that others outvoted."""
        line = tuple(nodes)
        innocent = max(MISTAKEN, 1 - (1 - PRIOR) ** (len(line) - 1))  # somebody else of the line lied
        for node in line:
            self._times(node, 1 / innocent)

    def suspected(self, node: str, honest: float) -> None:
        """A check said what it says of an honest worker with the probability ``honest``, and of a liar always."""
        self._times(node, 1 / honest)

    def passed(self, nodes: Iterable[str]) -> None:
        """These workers gave an answer together that others gave as well."""
        for node in nodes:
            if node in self._odds:  # nobody's record makes it better than unknown
                self._times(node, 1 - LIES_OFTEN)

    def _times(self, node: str, factor: float) -> None:
        unknown = PRIOR / (1 - PRIOR)
        odds = self._odds.get(node, unknown) * factor
        if odds > unknown:
            self._odds[node] = min(odds, 1e9)
        else:
            self._odds.pop(node, None)

    def audit_share(self, nodes: Iterable[str], share: float, strikes: int) -> float:
        """Return the share of a pipeline's answers to run twice.

        Args:
            nodes: its workers, of whom the most suspect counts.
            share: the village's own rate; 0 is none for anybody.
            strikes: lost audits after which a worker is evicted.
        """
        worst = max(map(self.lies, nodes))
        if not share or worst <= PRIOR * (1 + 1e-9):
            return share
        return spot_checks(worst, harm=HARM, cost=1.0, found=1.0, horizon=HORIZON, strikes=strikes, floor=share).rate
