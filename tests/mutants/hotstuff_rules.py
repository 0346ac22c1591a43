"""Published bugs of the HotStuff family in its rules of voting and committing (`tests.mutants.ballots`)."""

from __future__ import annotations

from pathlib import Path

from policies.consensus.hotstuff.messages import Block, Certificate, TimeOutCertificate
from policies.consensus.hotstuff.safety import Safety
from policies.consensus.hotstuff.tree import Tree
from sim.twins import Protocol, play, read
from tests.mutants.ballots import Ballots
from tests.mutants.record import Mutant, require
from tests.sim.twins.fast_hotstuff import CARELESS, CORRECT

ATTACK = Path(__file__).parents[1] / "sim" / "twins" / "fhs_twins.json"


class CommitsAcrossGaps(Safety):
    """B1: certificates of a block and of its child commit, whatever views lie between them."""

    def commits(self, qc: Certificate, tree: Tree) -> bytes | None:
        for _ in range(self.chain - 1):
            qc = tree.blocks[qc.block].qc
        head = tree.blocks.get(qc.block)
        return qc.block if head is not None and head.height > tree.height else None


def two_branches_with_gaps(kind: type[Safety]) -> None:
    """Two branches grow in turn, each certificate hidden from one who gives the next view up."""
    ballots = Ballots(kind, 2)
    ballots.propose(1, 0, "abd")
    ballots.see(1, "a")
    ballots.propose(2, 0, "bcd", ballots.give_up(1, "bcd"))
    ballots.see(2, "b")
    ballots.propose(3, 1, "acd", ballots.give_up(2, "acd"))
    ballots.see(3, "a")
    assert ballots.propose(4, 2, "bcd", ballots.give_up(3, "bcd"))
    ballots.see(4, "b")


def the_published_attack(protocol: Protocol) -> None:
    """The nine rounds of the public file, played with a small Fast-HotStuff."""
    (scenario,) = read(ATTACK.read_text())
    outcome = play(scenario, protocol)
    require(outcome.broken == "", f"S1: {outcome.broken}: {outcome.why}")


class ComparesHeights(Safety):
    """B2, the other way round: of two certificates that of the higher block counts, be it of the earlier view.

    Streamlet's rule looks at heights and its bug at rounds; HotStuff's looks at views.
    """

    def observe(self, qc: Certificate, tree: Tree) -> None:
        before = self.high
        super().observe(qc, tree)
        if tree.blocks[qc.block].height <= tree.blocks[before.block].height:
            self.high = before


def two_blocks_of_one_height(kind: type[Safety]) -> None:
    """d hides a block's certificate until b and c, which saw it, have voted for a later block of the same height."""
    ballots = Ballots(kind, 2)
    ballots.propose(1, 0, "abd")
    ballots.propose(2, 1, "abd")
    given_up = ballots.give_up(2, "bcd")
    ballots.see(2, "bc")
    assert ballots.propose(3, 1, "bcd", given_up)
    assert ballots.propose(4, 3, "bcd")
    ballots.see(4, "b")
    ballots.propose(5, 2, "acd", ballots.give_up(4, "acd", shown=2))
    ballots.propose(6, 5, "acd")
    ballots.see(6, "a")


class VotesUnlocked(Safety):
    """B3: a member votes for any block of a newer view, whatever it is locked on."""

    def may_vote(self, block: Block, tc: TimeOutCertificate | None, tree: Tree) -> bool:
        return block.view > self.voted and block.qc.view < block.view and self.follows(block, tc)


def branch_below_the_lock(kind: type[Safety], crashed: str = "") -> None:
    """Three certificates commit a block that a saw; then a liar proposes from the root again."""
    ballots = Ballots(kind, 3)
    for view in (1, 2, 3):
        assert ballots.propose(view, view - 1, "acd")
    ballots.see(3, "a")
    for name in crashed:
        ballots.crash(name)
    ballots.propose(4, 0, "bcd", ballots.give_up(3, "bcd"))
    for view in (5, 6):
        ballots.propose(view, view - 1, "bcd")
    ballots.see(6, "b")


def branch_that_time_outs_do_not_excuse(kind: type[Safety], crashed: str = "") -> None:
    """The same with two certificates: the time-outs report the block, and the liar proposes below it."""
    ballots = Ballots(kind, 2)
    assert ballots.propose(1, 0, "acd")
    assert ballots.propose(2, 1, "acd")
    ballots.see(2, "a")
    for name in crashed:
        ballots.crash(name)
    ballots.propose(3, 0, "bcd", ballots.give_up(2, "bcd"))
    ballots.propose(4, 3, "bcd")
    ballots.see(4, "b")


class ForgetsTheLock(Safety):
    """B9: after a crash a member knows what it voted for, and not what it was locked on."""

    def restore(self, data: bytes) -> None:
        super().restore(data)
        self.high = self.lock = self.root


def lock_through_a_crash(kind: type[Safety]) -> None:
    """As in `branch_below_the_lock`, and c, whose lock is in the way, has crashed meanwhile."""
    branch_below_the_lock(kind, "c")


def report_through_a_crash(kind: type[Safety]) -> None:
    """Two certificates commit a block that a saw; c crashes, and then reports in its time-out what it knows."""
    branch_that_time_outs_do_not_excuse(kind, "c")


class VotesAfterGivingUp(Safety):
    """B3: a time-out promises nothing: its sender may still vote in the view that it gave up."""

    def give_up(self, term: int) -> None:
        pass


def late_votes(kind: type[Safety]) -> None:
    """Members give view 2 up and then vote in it: its certificate is missing in the time-outs, and commits."""
    ballots = Ballots(kind, 2)
    assert ballots.propose(1, 0, "abd")
    given_up = ballots.give_up(1, "cbd"), ballots.give_up(2, "bcd")
    if ballots.propose(2, 1, "abd"):
        ballots.see(2, "a")
    ballots.propose(3, 0, "bcd", given_up[1])
    ballots.propose(4, 3, "bcd")
    ballots.see(4, "b")


class HiddenLock(Safety):
    """B4: two phases with HotStuff's own lock: nothing but a certificate as new as the lock opens it."""

    def may_vote(self, block: Block, tc: TimeOutCertificate | None, tree: Tree) -> bool:
        newer = block.view > self.voted and block.qc.view < block.view and self.follows(block, tc)
        return newer and block.qc.view >= self.lock.view


def lock_that_one_member_knows(kind: type[Safety]) -> None:
    """a alone saw a certificate. Later leaders hear b, c and d, and d votes for nothing: a's vote is needed."""
    ballots = Ballots(kind, 2)
    assert ballots.propose(1, 0, "abd")
    ballots.see(1, "a")
    for view in range(2, 10):
        tc = ballots.give_up(view - 1, "bcd")
        if ballots.propose(view, 0, "abc", tc):
            return
    require(False, "L1: eight leaders in a row propose in vain, and nothing has changed")


def _rule(
    id: str, what: str, source: str, property: str, scenario: object, wrong: object, broken: str,
    correct: object = Safety,
) -> Mutant:  # fmt: skip
    return Mutant(id, what, source, property, scenario, correct, wrong, broken)  # type: ignore[arg-type]


MUTANTS = (
    _rule(
        "B1", "two certificates commit although views lie between them (Fast-HotStuff)",
        "twins-simulator; relab vulnfhs.go", "S1", two_branches_with_gaps, CommitsAcrossGaps, "S1",
    ),
    _rule(
        "B1", "the same in a small Fast-HotStuff, by the published schedule", "twins-simulator fhs_twins.json", "S1",
        the_published_attack, CARELESS, "S1: committed_entries_agree", CORRECT,
    ),
    _rule(
        "B2", "certificates are compared by height, not by view (in Streamlet: chains by round, not by height)",
        "Streamlet, buggy_streamlet.py", "S1", two_blocks_of_one_height, ComparesHeights, "S1",
    ),
    _rule(
        "B3", "a vote without a look at the lock (three-chain)", "mutation", "S1", branch_below_the_lock,
        VotesUnlocked, "S1",
    ),
    _rule(
        "B3", "a vote without a look at what the time-outs report (two-chain)", "mutation", "S1",
        branch_that_time_outs_do_not_excuse, VotesUnlocked, "S1",
    ),
    _rule(
        "B3", "a vote in a view that its voter gave up", "mutation", "S1", late_votes, VotesAfterGivingUp, "S1",
    ),
    _rule(
        "B9", "the lock is not remembered through a crash (three-chain)", "cometbft pull request 5953", "S1",
        lock_through_a_crash, ForgetsTheLock, "S1",
    ),
    _rule(
        "B9", "the highest certificate is not remembered through a crash (two-chain)", "cometbft pull request 5953",
        "S1", report_through_a_crash, ForgetsTheLock, "S1",
    ),
    _rule(
        "B4", "two phases with a lock that one member alone knows", "arXiv 2310.09006", "L1",
        lock_that_one_member_knows, HiddenLock, "L1",
    ),
)  # fmt: skip
