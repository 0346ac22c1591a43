"""The pacemaker: when a leader is given up, and which view a member is in. Liveness, whole; `safety` trusts none of it.

A view is entered by a certificate: the one of the view before it, or, for the first view of a term, a time-out
certificate of the term before. Time-outs are of terms: a quorum gives a leader up for all that is left of its tenure.

A leader is given up when

- nothing was committed for one time-out although something waits (`stalled`);
- the entry that has waited longest was not committed for two, although others were: a leader cannot starve one member;
- it was not heard of for one, and two heartbeats, although nothing waits.

All count from the start of the term. Time-outs grow by a factor with each term given up, to a bound, and one step is
taken back with each block that is certified so quickly that a commit would fit into half of the shorter time: a leader
who fails in its turn makes them longer than the network needs for as long as it takes the next ones to certify a block.
No draw is made: members differ by their messages.
Who has seen f + 1 others give a term up, one of them correct, gives it up as well, so that members come together.
"""

from __future__ import annotations

from policies.config import HotstuffConfig
from policies.consensus.hotstuff.messages import TimeOut, TimeOutCertificate
from policies.consensus.quorum import faults
from policies.port import NS_PER_S

NEVER = 1 << 62


class Pacemaker:
    """One member's clock of views.

    Attributes:
        view: the view it is in.
        term: the term of that view.
        tc: the time-out certificate by which it entered this view, if it did by one.
        backoff: by how many factors time-outs are longer than at first.
        timeout_ns: the present time-out.
        given_up: the last term that this member gave up.
        time_outs: the newest time-out of each member, verified.
    """

    def __init__(self, config: HotstuffConfig, view: int) -> None:
        self.tenure, self.chain = config.tenure, config.chain
        self.first_ns, self.max_ns = int(config.timeout_s * NS_PER_S), int(config.timeout_max_s * NS_PER_S)
        self.factor, self.heartbeat_ns = config.timeout_factor, int(config.heartbeat_s * NS_PER_S)
        self.backoff = 0
        self.timeout_ns = self._timeout(0)
        self.restart(view, 0)

    def restart(self, view: int, now_ns: int) -> None:
        """Begin an epoch, or a life."""
        self.view, self.term = view, view // self.tenure
        self.tc: TimeOutCertificate | None = None
        self.entered_ns = self.heard_ns = self.moved_ns = now_ns
        self.given_up, self.gave_up_ns = -1, now_ns
        self.time_outs: dict[str, TimeOut] = {}

    def _timeout(self, backoff: int) -> int:
        return min(self.max_ns, int(self.first_ns * self.factor**backoff))

    # -- views ---------------------------------------------------------------------------------------

    def enter(self, view: int, tc: TimeOutCertificate | None, now_ns: int) -> bool:
        """Enter a view by a verified certificate; return whether it is a later one than ours."""
        if view <= self.view:
            return False
        term = view // self.tenure
        if term > self.term:
            self.entered_ns = self.heard_ns = now_ns
        self.view, self.term, self.tc = view, term, tc
        if tc is not None:
            self.lengthen()
        return True

    def entered_by(self, tc: TimeOutCertificate) -> int:
        """Return the view that a time-out certificate enters."""
        return (tc.term + 1) * self.tenure

    # -- time-outs -----------------------------------------------------------------------------------

    def deadline(self, oldest_ns: int | None, unfinished_ns: int | None) -> int:
        """Return when the leader is to be given up, or, once it is, when to say so again, if there is still a reason.

        Args:
            oldest_ns: since when the oldest entry of the pool has waited.
            unfinished_ns: since when there are blocks with entries that are not committed.
        """
        wait, entered_ns = self.timeout_ns, self.entered_ns
        at = self.heard_ns + 2 * self.heartbeat_ns + wait
        if oldest_ns is not None:
            at = min(at, max(oldest_ns, entered_ns) + 2 * wait)
            if unfinished_ns is None or oldest_ns < unfinished_ns:
                unfinished_ns = oldest_ns
        if unfinished_ns is not None:
            at = min(at, max(unfinished_ns, entered_ns, self.moved_ns) + wait)
        return max(at, self.gave_up_ns + wait) if self.given_up >= self.term else at

    @property
    def earliest_ns(self) -> int:
        """The earliest that `deadline` may be: a leader has one time-out, whatever waits."""
        return self.entered_ns + self.timeout_ns

    def give_up(self, term: int, now_ns: int) -> None:
        """Note that this member gives a term up."""
        self.given_up, self.gave_up_ns = max(self.given_up, term), now_ns

    def add(self, voter: str, time_out: TimeOut) -> None:
        """Take in a member's verified time-out; only its newest term is kept."""
        before = self.time_outs.get(voter)
        if before is None or before.term < time_out.term:
            self.time_outs[voter] = time_out

    def to_join(self, members: tuple[str, ...]) -> int | None:
        """Return a term that some correct member gave up and this one did not, if there is one from ours on."""
        terms = sorted((t.term for m in members if (t := self.time_outs.get(m))), reverse=True)
        index = faults(len(members))
        if index >= len(terms) or terms[index] < self.term or terms[index] <= self.given_up:
            return None
        return terms[index]

    # -- back-off ------------------------------------------------------------------------------------

    def certified(self, took_ns: int) -> None:
        """Note that a block was certified ``took_ns`` after it came: a commit takes a few times that."""
        if self.backoff and 2 * (self.chain + 1) * took_ns <= self._timeout(self.backoff - 1):
            self._back_off(self.backoff - 1)

    def lengthen(self) -> None:
        """A leader was given up: be more patient with the next, up to the bound."""
        if self.timeout_ns < self.max_ns:
            self._back_off(self.backoff + 1)

    def _back_off(self, backoff: int) -> None:
        self.backoff, self.timeout_ns = backoff, self._timeout(backoff)
