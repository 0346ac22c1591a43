"""A published weakness of proposers' timestamps, put into our HotStuff, whose blocks say nothing of time."""

from __future__ import annotations

from typing import Any

from policies.config import HotstuffConfig
from policies.consensus.hotstuff import HotStuff
from policies.consensus.hotstuff import messages as m
from policies.consensus.hotstuff.proposing import Proposing
from policies.port import NS_PER_S
from policies.wire import Message
from scenarios.adversaries import behaviours as b
from tests.mutants.hotstuff import NAMES, Kind, require_live, small_log
from tests.mutants.record import Mutant

APART_NS = NS_PER_S // 2
"""How far a proposer's clock may be from a voter's: CometBFT's precision of 505 ms, in round numbers."""


class Stamp(Message, frozen=True, tag="stamp"):
    """The proposal of this view is made at this time."""

    view: int
    wall_ns: int


class Stamps(Proposing):
    """A leader that says what time it is."""

    def _say(self, message: Any) -> None:
        if isinstance(message, m.Proposal):
            for name in self.node.audience:
                self.node.port.send(name, Stamp(message.block.view, self.node.port.wall))
        super()._say(message)


class VotesByTheClock(HotStuff):
    """B13: a proposal counts if its proposer's clock agrees with one's own."""

    messages = (*HotStuff.messages, Stamp)

    def __init__(self, config: HotstuffConfig, members: tuple[str, ...], *paths: Any) -> None:
        super().__init__(config, members, *paths)
        self.proposing = Stamps(self)
        self.stamps: dict[str, tuple[int, bool]] = {}

    def on_message(self, sender: str, message: Any) -> None:
        if isinstance(message, Stamp):
            self.stamps[sender] = (message.view, abs(message.wall_ns - self.port.wall) <= APART_NS)
        elif not isinstance(message, m.Proposal) or self.stamps.get(sender) == (message.block.view, True):
            super().on_message(sender, message)


def one_clock_is_fast(kind: Kind) -> None:
    """n3's clock is a minute ahead, and n0 has crashed: nothing is decided without n3."""
    log = small_log(kind, {"n3": [b.SkewedClock(amount_s=60.0)]}, tenure=4)
    log.run(0.5)
    log.cluster.crash("n0")
    asked = [log.put(name) for name in NAMES[1:3]]
    log.run(8)
    require_live(log, asked, NAMES[1:3], "L1")


def clocks_agree(kind: Kind) -> None:
    """The same with all clocks right: the time-stamps alone stop nothing."""
    log = small_log(kind, tenure=4)
    log.run(0.5)
    log.cluster.crash("n0")
    asked = [log.put(name) for name in NAMES[1:]]
    log.run(8)
    require_live(log, asked, NAMES[1:], "L1")


def fast_clock(kind: Kind) -> None:
    """Time-stamps stop nothing while clocks agree; then one is fast."""
    clocks_agree(kind)
    one_clock_is_fast(kind)


MUTANTS = (
    Mutant(
        "B13", "proposers' timestamps need clocks that agree", "CometBFT ADR-112", "L1", fast_clock, HotStuff,
        VotesByTheClock, "L1",
    ),
)  # fmt: skip
