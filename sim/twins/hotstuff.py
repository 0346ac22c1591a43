"""HotStuff for Twins: a round is a view, each view is a term of its own, and its leader is told.

Members say nothing twice but that they give a leader up. In lock-step a word is heard, or the script parts its speaker
from its listener, and parts them again when it is repeated; and a round that is opened has been given up by all who
are stuck in it, so that a repeated proposal would find no vote.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from policies.config import HotstuffConfig
from policies.consensus.hotstuff import HotStuff
from policies.consensus.hotstuff.alarm import Alarm
from policies.consensus.hotstuff.pacemaker import NEVER
from policies.port import Policy
from sim.twins.play import LeaderOf, Protocol

TIMES = HotstuffConfig(
    tenure=1, timeout_s=1.0, timeout_factor=1.0, heartbeat_s=10.0, batch_max=8, batch_wait_s=0.0
)  # fmt: skip
"""Time-outs of one length, far above a hop: in lock-step nothing is won by patience."""
PATIENCE_S = 1.1
"""A member with something to decide gives its leader up after one time-out; a hundred hops are left for the rest."""


class Once(Alarm):
    """Rings to give a leader up, which is said again, and to fetch a block from somebody else; for no other word."""

    def deadlines(self, until_ns: int = NEVER) -> tuple[int, int, int, int, int]:
        return self.give_up_ns(until_ns), NEVER, NEVER, self.node.catch_up.deadline(), NEVER


class Scripted(HotStuff):
    """A member that is told who leads."""

    def __init__(self, config: HotstuffConfig, members: tuple[str, ...], leader_of: LeaderOf, applier: str) -> None:
        self.told = leader_of
        super().__init__(config, members, applier)
        self.alarm = Once(self)

    def leader_of(self, view: int) -> str:
        """Return who leads a view, "" for nobody."""
        return self.told(view)


def hotstuff(chain: Literal[2, 3], member: type[Scripted] = Scripted) -> Protocol:
    """Return the protocol with that commit rule; ``member`` may be one with a defect."""
    config = msgspec.structs.replace(TIMES, chain=chain)

    def make(members: tuple[str, ...], leader_of: LeaderOf, applier: str) -> Policy:
        return member(config, members, leader_of, applier)

    return Protocol(make, view_of, PATIENCE_S)


def view_of(member: Any) -> int:
    """Return the view that a member is in."""
    view: int = member.pace.view
    return view
