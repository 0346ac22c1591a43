"""What is said twice is neither verified nor saved twice."""

from __future__ import annotations

from typing import Any

from policies import port as p
from policies.cell import Cell
from policies.config import HotstuffConfig
from policies.consensus.hotstuff import HotStuff
from policies.consensus.hotstuff.certificates import vote_bytes
from policies.consensus.hotstuff.messages import Vote
from policies.port import NS_PER_S
from policies.wire import encode
from sim.keys import KeyRing

MEMBERS = ("n0", "n1", "n2", "n3")
ME = "n1"  # n0 leads
CONFIG = HotstuffConfig(timeout_s=1.0, timeout_factor=1.0, heartbeat_s=0.5)


class Alone:
    """One member whose other members are the test; what it saves is durable at once."""

    def __init__(self) -> None:
        self.ring = KeyRing(1)
        others = tuple(name for name in MEMBERS if name != ME)
        self.log = HotStuff(CONFIG, MEMBERS)
        self.cell = Cell(self.log, ME, others, seed=1, keys=self.ring.handle(ME))
        self.ticks: list[tuple[int, int]] = []  # (deadline, generation)
        self.give(0, (p.START, "", {}, 0))

    def give(self, now_ns: int, given: tuple[Any, ...]) -> list[int]:
        """Feed one input; return the kinds of all effects."""
        kinds = []
        for effect in self.cell.step(now_ns, now_ns, given):
            kinds.append(effect[0])
            if effect[0] == p.SET_TIMER:
                self.ticks.append((effect[3], effect[4]))
            elif effect[0] == p.SAVE:
                kinds += self.give(now_ns, (p.DURABLE, "", effect[2]))
        return kinds

    def vote(self, view: int, block: bytes) -> Vote:
        """Return a vote of n2."""
        return Vote(0, view, block, self.ring.signature("n2", vote_bytes(self.log.log_name, 0, view, block)))

    def time_out(self) -> list[int]:
        """Let time pass until it tells the three others that it gives its leader up; return that step's effects."""
        kinds: list[int] = []
        while kinds.count(p.SEND) < 3:
            deadline, generation = self.ticks[-1]
            kinds = self.give(deadline, (p.TIMER, "", "tick", generation))
        return kinds


def test_a_vote_that_was_counted_is_not_verified_again() -> None:
    """The second copy of a vote asks for no signature's verdict; another vote does."""
    one, view = Alone(), 5
    vote, later = one.vote(view, b"x" * 32), one.vote(view + 1, b"y" * 32)
    asked = [one.give(NS_PER_S, (p.MESSAGE, "", "n2", encode(said))).count(p.SIGNED) for said in (vote, vote, later)]

    assert asked == [1, 0, 1]


def test_a_vote_with_another_signature_is_verified() -> None:
    """Only the very vote that was counted is known: the same words under a false signature are refused."""
    one = Alone()
    vote = one.vote(5, b"x" * 32)
    forged = Vote(0, 5, b"x" * 32, b"z" * 64)
    asked = [one.give(NS_PER_S, (p.MESSAGE, "", "n2", encode(said))).count(p.SIGNED) for said in (vote, forged)]

    assert asked == [1, 1]
    assert one.log.refused == {"a vote with a false signature": 1}


def test_a_leader_who_is_given_up_again_is_no_new_promise() -> None:
    """The first time-out of a term is saved before it leaves; said again, it leaves at once and nothing is written."""
    one = Alone()
    first = one.time_out()
    again = one.time_out()

    assert first.count(p.SAVE) == 1
    assert first.index(p.SAVE) < first.index(p.SEND)
    assert p.SAVE not in again
