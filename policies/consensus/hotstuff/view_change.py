"""The change of view: giving a leader up, believing others who do, and telling those who are behind.

What a time-out promises is `Safety.give_up`, and it is saved before it leaves, like a vote; when it is time is the
pacemaker's affair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.consensus.hotstuff.certificates import time_out_bytes, time_out_certificate, vote_bytes
from policies.consensus.hotstuff.messages import Status, TimeOut, TimeOutCertificate, Vote

if TYPE_CHECKING:
    from policies.consensus.hotstuff.node import HotStuff


class ViewChange:
    """One member's part in it."""

    def __init__(self, node: HotStuff) -> None:
        self.node = node

    def give_up(self, term: int) -> None:
        """Give a term up, or say again that we did."""
        node, epoch = self.node, self.node.epoch.number
        node.safety.give_up(term)
        node.pace.give_up(term, node.port.now)
        node.save_changes()  # none, if it is only said again
        high = node.safety.high
        signature = node.port.keys.sign(time_out_bytes(node.log_name, epoch, term, high.view))
        time_out = TimeOut(epoch, term, high, signature, node.seen)
        for name in node.others:
            node.port.send(name, time_out)
        node.pace.add(node.port.me, time_out)
        self._look_at(node.port.me, node.seen)
        self._gather(term)

    def on_time_out(self, sender: str, time_out: TimeOut) -> None:
        """A member gave a term up."""
        node = self.node
        if sender not in node.epoch.members:
            return node.refuse("a time-out of a stranger")
        late, high, known = time_out.term < node.pace.term, time_out.high.view, node.safety.high.view
        if late or high < known:
            node.catch_up.tell(sender)  # it gives up because it was not told
        if late:
            return self._look_at(sender, time_out.seen)
        if high == known:
            node.proposing.nudge()  # it knows what we know, and waits for something all the same
        before = node.pace.time_outs.get(sender)
        if before is not None and before.term >= time_out.term:
            return None  # said again
        data = time_out_bytes(node.log_name, time_out.epoch, time_out.term, high)
        if not node.port.keys.verify(sender, data, time_out.signature) or not node.believe(time_out.high):
            return node.refuse("a false time-out")
        node.pace.add(sender, time_out)
        node.learn(time_out.high, sender)
        if time_out.epoch != node.epoch.number:
            return None  # what was learnt ended the epoch
        self._look_at(sender, time_out.seen)
        self._gather(time_out.term)
        term = node.pace.to_join(node.epoch.members)
        if term is not None and node.member:
            self.give_up(term)
        return None

    def _look_at(self, sender: str, seen: tuple[int, bytes, bytes, bytes]) -> None:
        """Take in the last vote of who gave up: it may complete a certificate, or show a leader's two blocks."""
        view, block, leaders, own = seen
        node, keys, epoch = self.node, self.node.port.keys, self.node.epoch.number
        if view > 0:
            node.saw(node.leader_of(view), view, block, leaders)
        vote = Vote(epoch, view, block, own)
        if view <= node.safety.high.view or node.votes.counted(sender, vote):
            return
        if sender == node.port.me or keys.verify(sender, vote_bytes(node.log_name, epoch, view, block), own):
            node.count(sender, vote)

    def _gather(self, term: int) -> None:
        """Enter the next term if a quorum has given this one up."""
        node = self.node
        tc = time_out_certificate(node.pace.time_outs, term, node.epoch.members)
        if tc is not None and term >= node.term:
            node.verifier.remember(tc)
            node.enter(node.pace.entered_by(tc), tc)

    def believe(self, tc: TimeOutCertificate | None) -> bool:
        """Whether a time-out certificate, if there is one, is right."""
        if tc is None:
            return True
        node = self.node
        right = tc.epoch == node.epoch.number and node.believe(tc.high)
        return right and node.verifier.time_outs(node.port.keys, node.epoch.members, tc)

    def on_status(self, sender: str, status: Status) -> None:
        """Somebody says in which view it is, and why."""
        node = self.node
        if not node.believe(status.high) or not self.believe(status.tc):
            return node.refuse("a status with a false certificate")
        by_tc = 0 if status.tc is None else node.pace.entered_by(status.tc)
        start = node.epoch.start_view(node.config.tenure)  # the epoch's root is of an earlier epoch's view
        late = max(status.high.view + 1, by_tc, start) // node.config.tenure < node.term
        if late or status.high.view < node.safety.high.view:
            node.catch_up.tell(sender)
            if late:
                return None
        if by_tc > status.high.view + 1:
            node.enter(by_tc, status.tc)
        if sender == node.leader:
            node.pace.heard_ns = node.port.now
        return node.learn(status.high, sender)
