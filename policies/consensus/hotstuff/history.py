"""Epochs that ended: what a member can prove of them, and for which it can vouch. Safety.

All that is in here is proved: each end by a quorum of the epoch before, the first epoch by being the log's first or by
the words of a quorum of the last committee that was known (`policies.consensus.vouching`).
"""

from __future__ import annotations

from policies.consensus.hotstuff.epoch import Epoch, after
from policies.consensus.hotstuff.messages import Certificate, Handover
from policies.consensus.vouching import Begun


def begun(epoch: Epoch) -> Begun:
    """Return what there is to say of an epoch: who signed its root's certificate differs from member to member."""
    return Begun(epoch.number, epoch.members, epoch.learners, epoch.root.view, epoch.root.block)


def epoch_of(said: Begun) -> Epoch:
    """Return the epoch that is believed to have begun so."""
    root = Certificate(max(0, said.number - 1), said.place, said.block, ())
    return Epoch(said.number, said.members, said.learners, root)


class History:
    """The epochs from one on to the present one.

    Attributes:
        since: the oldest epoch that is known.
        handovers: the end of that one and of each after it.
    """

    def __init__(self, since: Epoch) -> None:
        self.since = since
        self.handovers: list[Handover] = []

    @property
    def present(self) -> int:
        """Number of the epoch to which the ends lead."""
        return self.since.number + len(self.handovers)

    def end_of(self, number: int) -> Handover | None:
        """Return the end of an epoch, if it is kept."""
        at = number - self.since.number
        return self.handovers[at] if 0 <= at < len(self.handovers) else None

    def epoch(self, number: int) -> Epoch | None:
        """Return an epoch, if it is known."""
        if number == self.since.number:
            return self.since
        end = self.end_of(number - 1)
        return None if end is None else after(end, number)

    def forget_before(self, number: int) -> None:
        """Forget all epochs before this one, if it is known."""
        since = self.epoch(number)
        if since is not None:
            del self.handovers[: number - self.since.number]
            self.since = since
