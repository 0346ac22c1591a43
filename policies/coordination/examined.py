"""What coordination has to do with checks of workers (`policies.checking`): which sessions, and what follows from them.

A verdict feeds the same trust as audits do. A worker is evicted when so many of its places were proved false, or when
it was bound and showed nothing, or handed out nothing, although it was there: its renewals say so. One that has lost
what it kept, or never gave its word, is trusted less, audited and checked more often, and no more than that: a restart
is no proof. How much less follows from how often an honest worker earns that word (`ODDS`).
"""

from __future__ import annotations

from policies.coordination.efforts import Effort
from policies.coordination.lines import Line
from policies.coordination.requests import STRIKES_MAX, Requests
from policies.coordination.trust import MISTAKEN, PRIOR
from policies.local import Answered, Examined
from policies.port import NS_PER_S
from policies.work import FoundFalse, Report

PROVED = ("outputs", "cache", "tokens", "opening", "commitment", "silent", "withheld")
"""Words of a check that count towards eviction."""
IF_THERE = ("silent", "withheld", "kept_back")
"""Words that say nothing of a worker that was not there."""
NOTHING_SHOWN = ("unconfirmed", "unchecked")
INTERRUPTED = 0.05
"""Assumption: of twenty checks of an honest worker one meets it taken back, restarted or on a bad link. It is more than
a lent hour makes likely in the seconds of a check, as such workers come in rows: on one device, on one link."""
ODDS = {"apart": PRIOR, **dict.fromkeys(("kept_back", "forgotten", "unbound", "slow"), INTERRUPTED)}
"""Of words that prove nothing: how often an honest worker earns them. Of two neighbours that differ the honest one was
beside a liar, as one worker in a hundred is."""


class Examination(Requests):
    """Has sessions checked, and acts on what is found.

    Attributes:
        found: how often a worker's place was proved false.
        inherited: requests that were accepted under an earlier leader. Their sessions may have begun under it, with
            another attempt's number, and go on from caches that others made; nobody can be held to them.
    """

    def _reset(self) -> None:
        super()._reset()
        self.found: dict[str, int] = {}
        self.inherited = set(self.state.requests)

    def _have_checked(self, effort: Effort, line: Line, report: Report) -> None:
        """Tell the examiner of an answer; a later attempt may go on from tokens that it did not decide."""
        rules = self.config.spot_checks
        if rules is None or effort.tries != 1 or effort.key in self.inherited or not report.tokens:
            return
        a, standing = effort.accepted, self.standing
        free = [
            node
            for node, view in self.lines.workers.items()
            if view.capability is not None
            and node not in line.nodes
            and standing.get(node, False)
            and node not in self.lines.doubted
        ]
        rates = tuple(self.trust.audit_share((node,), rules.share, STRIKES_MAX) for node in line.nodes)
        greedy = a.sampling is None or not a.sampling.temperature
        self.port.tell(
            "examiner",
            Answered(
                a.client, a.op_id, report.attempt, line.model, line.stages, a.prompt, a.source, a.prompt_tokens,
                report.output, report.tokens, greedy, rates, tuple(free),
            ),
        )  # fmt: skip

    def _on_examined(self, examined: Examined) -> None:
        node, word = examined.node, examined.word
        rules = self.config.spot_checks
        if rules is None or word in NOTHING_SHOWN:
            return
        if word == "honest":
            self.trust.passed((node,))
            return
        if word in IF_THERE and not self._was_there(node, examined.asked_ns + int(rules.wait_s / 2 * NS_PER_S)):
            return
        self.trust.suspected(node, ODDS.get(word, MISTAKEN))
        if word not in PROVED:
            return
        self.found[node] = self.found.get(node, 0) + 1
        if self.found[node] == rules.strikes:
            self.port.decide("found_false", FoundFalse(node, rules.strikes))
            self._put_out(node, f"{rules.strikes} checks found it false")

    def _was_there(self, node: str, since_ns: int) -> bool:
        """Whether a worker has renewed its lease since then."""
        view = self.lines.workers.get(node)
        return view is not None and view.lease_until_ns - self.lease_ns >= since_ns
