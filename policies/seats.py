"""Who sits on the committee now, as a device knows it that does not keep the village's log.

Its own replica tells a device that has one. The others hear it from members: a committee of n, f = (n - 1) // 3 of them
liars, is believed once f + 1 members of the one that was known say the same, for then a correct one does. So trust goes
from the founders on from committee to committee, each of which a device may skip: whoever sat once keeps the log as a
learner, and tells. What a device asks of a member that lags comes to nothing, and it asks the next one.

What this rests on: of a committee that a device still believes in no more than f have become liars *since*, even when
it sits no more. A device that slept through many epochs is as safe as the last committee it knew.
"""

from __future__ import annotations

from policies.wire import Message

MEMBERS_MAX = 64
"""Members of a committee that a device will hear of (our bound; the schema allows far fewer)."""


class InOffice(Message, frozen=True, tag="in_office"):
    """These members sit since ``epoch``; said by members and learners, and within a device by its own replica."""

    epoch: int
    members: tuple[str, ...]


class Seats:
    """The newest committee that a device believes in.

    Args:
        founders: the committee of epoch 0.

    Attributes:
        epoch: when it took office.
        members: who sits on it.
        claims: what members said of a later one, by member: the newest of each.
    """

    def __init__(self, founders: tuple[str, ...]) -> None:
        self.epoch, self.members = 0, founders
        self.claims: dict[str, InOffice] = {}

    @property
    def faults(self) -> int:
        """How many of the members may lie, f of 3f + 1."""
        return (len(self.members) - 1) // 3

    def hear(self, sender: str, said: InOffice) -> bool:
        """Take in what a node says; return whether there is another committee now."""
        if sender not in self.members or not 0 < len(set(said.members)) == len(said.members) <= MEMBERS_MAX:
            return False
        if (before := self.claims.get(sender)) is not None and before.epoch > said.epoch:
            return False  # said before that, and late
        self.claims[sender] = said
        agreed = sum(claim == said for claim in self.claims.values())
        return agreed > self.faults and self.install(said)

    def install(self, said: InOffice) -> bool:
        """Believe it; return whether there is another committee now."""
        if said.epoch <= self.epoch:
            return False
        self.epoch, self.members = said.epoch, said.members
        self.claims = {}
        return True
