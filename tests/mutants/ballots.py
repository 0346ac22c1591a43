"""HotStuff's safety rules alone: four members' `Safety`, one tree, and a script that says who votes and who hears.

Every view is a term of its own. ``d`` lies: it votes for everything, and reports and shows only what a script lets it.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from policies.consensus.hotstuff.certificates import block_digest
from policies.consensus.hotstuff.epoch import genesis
from policies.consensus.hotstuff.messages import Block, Certificate, TimeOutCertificate
from policies.consensus.hotstuff.safety import Safety
from policies.consensus.hotstuff.tree import Tree
from policies.consensus.quorum import byzantine_quorum
from tests.mutants.record import require

MEMBERS = ("a", "b", "c", "d")
ROOT, EPOCH = genesis(MEMBERS)


class Ballots:
    """What was certified, and what the correct members commit by it.

    Attributes:
        qc: view to the certificate of its block, where there is one; 0 is the root's.
    """

    def __init__(self, kind: type[Safety], chain: Literal[2, 3]) -> None:
        self.tree = Tree(EPOCH.root.block, ROOT)
        self.born = partial(kind, chain, 1, EPOCH.root, 1)
        self.safety = {name: self.born() for name in MEMBERS[:3]}
        self.qc: dict[int, Certificate] = {0: EPOCH.root}
        self.committed: list[tuple[str, bytes]] = []

    def crash(self, name: str) -> None:
        """A member loses its memory, and begins again with what it saved."""
        saved = self.safety[name].saved()
        self.safety[name] = self.born()
        self.safety[name].restore(saved)

    def propose(self, view: int, on: int, voters: str, tc: TimeOutCertificate | None = None) -> bool:
        """A block of ``view`` on that of ``on`` is shown to ``voters``; return whether a quorum voted for it."""
        if on not in self.qc:
            return False  # what it stands on was never certified
        qc = self.qc[on]
        block = Block(0, view, self.tree.blocks[qc.block].height + 1, qc, ())
        digest = block_digest(block)
        self.tree.add(digest, block)
        votes = []
        for name in voters:
            if name == "d":
                votes.append((name, b""))
                continue
            self.see(on, name)  # the block shows its certificate
            if self.safety[name].may_vote(block, tc, self.tree):
                self.safety[name].vote(view, digest)
                votes.append((name, b""))
        certified = len(votes) >= byzantine_quorum(len(MEMBERS))
        if certified:
            self.qc[view] = Certificate(0, view, digest, tuple(votes))
        return certified

    def see(self, view: int, names: str) -> None:
        """These members hear of a view's certificate, if there is one; no two may commit blocks of two branches."""
        if view not in self.qc:
            return
        for name in names:
            self.safety[name].observe(self.qc[view], self.tree)
            if (head := self.safety[name].commits(self.qc[view], self.tree)) is not None:
                self.committed.append((name, head))
        for number, (one, head) in enumerate(self.committed):
            for other, its in self.committed[:number]:
                low, high = sorted((head, its), key=lambda digest: self.tree.blocks[digest].height)
                extends = self.tree.extends(high, low, self.tree.blocks[low].view)
                require(extends, f"S1: {other} and {one} commit blocks of two branches")

    def give_up(self, view: int, names: str, shown: int = 0) -> TimeOutCertificate:
        """These members give a view up; a liar among them shows the certificate of ``shown``."""
        reports = {"d": self.qc[shown]}
        for name, safety in self.safety.items():
            if name in names:
                safety.give_up(view)
                reports[name] = safety.high
        high = max((reports[name] for name in names), key=lambda qc: qc.view)
        return TimeOutCertificate(0, view, tuple((name, reports[name].view, b"") for name in names), high)
