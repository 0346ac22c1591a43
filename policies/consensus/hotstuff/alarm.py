"""The alarm: when a member must look again though nothing is heard, and what it does then. Liveness only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from policies.consensus.hotstuff.pacemaker import NEVER

if TYPE_CHECKING:
    from policies.consensus.hotstuff.node import HotStuff


class Alarm:
    """One member's timer, set for the earliest of its deadlines.

    Attributes:
        at_ns: when it rings.
        set_for: what it was set for, as in `arm`.
    """

    def __init__(self, node: HotStuff) -> None:
        self.node = node
        self.at_ns = NEVER
        self.set_for: tuple[Any, ...] = ()

    def arm(self) -> None:
        """Set the timer to the earliest deadline, if one may have come nearer; that one went away a tick finds out."""
        node = self.node
        safety, pace, proposing = node.safety, node.pace, node.proposing
        nearer = (
            pace.view, pace.given_up, safety.voted, safety.high.view, node.asking.pool.oldest_ns,
            proposing.proposal is None, proposing.nudged_ns, node.catch_up.sync.wanted is None,
        )  # fmt: skip
        if nearer != self.set_for:
            self.set_for = nearer
            at_ns = min(self.deadlines(self.at_ns))
            if at_ns < self.at_ns:
                self.at_ns = at_ns
                node.port.set_timer("tick", at_ns - node.port.now)

    def tick(self) -> None:
        """It rings: do all that is due."""
        self.at_ns, self.set_for = NEVER, ()
        node, now = self.node, self.node.port.now
        give_up, speak, resend, fetch, compare = self.deadlines()
        if now >= compare:
            node.catch_up.compare()
        if now >= fetch:
            node.catch_up.ask_another()
        if now >= resend:
            node.asking.ask_all()
            node.asking.forget_foreign()
        if now >= speak:
            node.proposing.speak()
        if now >= give_up:
            node.view_change.give_up(max(node.term, node.pace.given_up))

    def deadlines(self, until_ns: int = NEVER) -> tuple[int, int, int, int, int]:
        """Return when to give up, to speak as the leader, to ask all for our entries, to fetch again, to compare.

        What is not before ``until_ns`` need not be told.
        """
        node = self.node
        speak = compare = NEVER
        if node.member or node.port.me in node.epoch.learners:
            # A learner, too: when all members give way to learners, nobody who speaks is left to tell them.
            compare = node.catch_up.compare_deadline()
        if node.member and node.role == "leader":
            speak = node.proposing.deadline()
        return self.give_up_ns(until_ns), speak, node.asking.deadline(), node.catch_up.deadline(), compare

    def give_up_ns(self, until_ns: int) -> int:
        """Return when to give the leader up, or never where that is not before ``until_ns``."""
        node = self.node
        if not node.member or until_ns <= node.pace.earliest_ns:
            return NEVER  # nearly always: the timer is set for some earlier time
        return node.pace.deadline(node.asking.pool.oldest_ns, self._unfinished_ns())

    def _unfinished_ns(self) -> int | None:
        """Return since when there is a block with entries that is certified, or may be, and not committed."""
        node, safety = self.node, self.node.safety
        tip = safety.voted_block if safety.voted == node.pace.view and safety.voted_block else safety.high.block
        since_ns = node.trunk.unfinished_ns(tip)
        return node.proposing.nudged_ns if since_ns is None else since_ns
