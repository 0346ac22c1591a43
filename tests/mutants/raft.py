"""Published bugs of Raft's elections and of its commits, step by step: every message, sync and crash is the script's.

After every step `tests.policies.raft_watch` asks what must always hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from policies import cell as cell_module
from policies.consensus import quorum
from policies.consensus.quorum import majority
from policies.consensus.raft import Raft
from policies.local import Reconfigure
from scenarios.defects import raft as hunted
from tests.mutants.record import Mutant
from tests.policies.hand_cluster import ONE_ENTRY, PAPER, Asked, HandCluster, Member

Kind = Callable[..., Raft]
WAIT_FOR_NOTHING = (cell_module, "_WAITS_FOR_DURABILITY", frozenset())


class ChangesAtOnce(Member):
    """R1: a new leader changes the members before it has committed anything of its term."""

    def _may_reconfigure(self) -> bool:
        return True


def two_changes_past_each_other(kind: Kind) -> None:
    """n1 adds n5 on its own disk and n5's only; n2 leads next, and removes n1; n1 comes back with the old change."""
    cluster = HandCluster(5, kind, PAPER, voters=4)
    cluster.elect("n1")
    cluster.ask("n1", Reconfigure(cluster.names))
    cluster.sync("n1")
    for _ in range(4):
        cluster.pass_on("n1", "n5")
        cluster.pass_on("n5", "n1")
    cluster.post.clear()
    cluster.crash("n1")
    cluster.ask_votes("n2", "n3", "n4")
    cluster.ask("n2", Reconfigure(("n2", "n3", "n4")))
    cluster.sync("n2")
    for _ in range(4):
        cluster.pass_on("n2", "n3")
        cluster.pass_on("n3", "n2")
    cluster.post.clear()
    cluster.restart("n1")
    for _ in range(2):  # the first term is n2's
        cluster.ask_votes("n1", "n4", "n5")


class CommitsOldTerms(Member):
    """R2: a leader commits entries of earlier terms by counting (PySyncObj issue 169)."""

    def _may_commit(self, index: int) -> bool:
        return True


def figure_8(kind: Kind) -> None:
    """The paper's figure 8: an entry of term 1 that reaches a majority, and may be overwritten all the same."""
    cluster = HandCluster(5, kind, ONE_ENTRY)
    cluster.elect("n1")
    cluster.propose("n1", b"old")
    cluster.sync("n1")
    cluster.pass_on("n1", "n2")  # (a) on n1 and n2 only
    cluster.post.clear()
    cluster.crash("n1")
    cluster.ask_votes("n5", "n3", "n4")
    cluster.sync("n5")  # (b) n5 leads term 2; its entry at index 2 stays its own
    cluster.post.clear()
    cluster.crash("n5")
    cluster.restart("n1")
    for _ in range(2):
        cluster.ask_votes("n1", "n2", "n3")
    cluster.sync("n1")  # (c) n1 leads term 3, and brings only the old entry to n3 and n4
    for name in ("n3", "n4"):
        for _ in range(2):
            cluster.pass_on("n1", name)
            cluster.pass_on(name, "n1")
    assert [term for term, _ in cluster.log("n4")] == [1, 1]
    cluster.post.clear()
    cluster.crash("n1")
    cluster.restart("n5")
    for _ in range(2):
        cluster.ask_votes("n5", "n3", "n4")  # (d) n5 may win
    assert cluster.raft("n5").role == "leader"


def vote_and_crash(kind: Kind) -> None:
    """n2 is asked by n1, crashes before its disk has the vote, and is asked by n3."""
    cluster = HandCluster(3, kind)
    for name in ("n1", "n3"):
        cluster.fire(name, "election")
        cluster.sync(name)
        cluster.pass_on(name, "n2", sync=False)
        cluster.crash("n2")
        cluster.restart("n2")


def answer_without_a_sync(kind: Kind) -> None:
    """n1's disk has an entry; n2 has it in memory only when its answer could arrive."""
    cluster = HandCluster(3, kind)
    cluster.elect("n1")
    cluster.propose("n1", b"a")
    cluster.sync("n1")
    cluster.pass_on("n1", "n2", sync=False)
    cluster.pass_on("n2", "n1")


class LongestLogWins(Member):
    """R5: logs are compared by length before term (openraft a48a3282)."""

    def _up_to_date(self, last_term: int, last_index: int) -> bool:
        return (last_index, last_term) >= (self.log.last, self.log.last_term)


class IgnoresTheLog(Asked, hunted.IgnoresTheLog):
    """R5: a vote goes to whoever asks first, however short its log."""


def long_but_old(kind: Kind) -> None:
    """n1 has a long tail of an old term; the others committed an entry of a later one."""
    cluster = HandCluster(3, kind)
    cluster.elect("n1")
    for command in (b"a", b"b", b"c"):
        cluster.propose("n1", command)
    cluster.sync("n1")
    cluster.crash("n1")
    cluster.restart("n1")
    cluster.post.clear()
    cluster.elect("n2", "n2", "n3")
    for _ in range(2):
        cluster.ask_votes("n1", "n2")


class VotesForAll(Member):
    """R8: a member votes for whoever asks (Xraft issue 33; DaosRaft issue 70 is its cousin)."""

    def _may_vote(self, candidate: str) -> bool:
        return True


def two_candidates(kind: Kind) -> None:
    """n1 and n3 campaign in one term; n2 hears both."""
    cluster = HandCluster(3, kind)
    for name in ("n1", "n3"):
        cluster.ask_votes(name, "n2")


class HalfWins(Asked, hunted.HalfIsAQuorum):
    """R8: half of the members elect a leader."""


def two_halves(kind: Kind) -> None:
    """n1 and n3 campaign in one term, each heard by one other of five."""
    cluster = HandCluster(5, kind)
    cluster.ask_votes("n1", "n2")
    cluster.ask_votes("n3", "n4")


def unsorted(match: Iterable[int]) -> int:
    """R9: the middle of an unsorted list (openraft issue 1802)."""
    found = list(match)
    return found[majority(len(found)) - 1]


def one_answer_of_five(kind: Kind) -> None:
    """Only n3 of four followers has the entry."""
    cluster = HandCluster(5, kind)
    cluster.elect("n1")
    cluster.propose("n1", b"a")
    cluster.sync("n1")
    cluster.pass_on("n1", "n3")
    cluster.pass_on("n3", "n1")


def by_hand(
    id: str,
    what: str,
    source: str,
    property: str,
    scenario: Callable[[Kind], None],
    wrong: Kind,
    broken: str,
    **more: Any,
) -> Mutant:
    """Return a mutant of a Raft member whose script drives it step by step."""
    return Mutant(id, what, source, property, scenario, Member, wrong, broken, **more)


MUTANTS = (
    by_hand(
        "R1", "a leader changes the members before an entry of its term is committed",
        "Ongaro, raft-dev 2015; Vanlightly/raft-tlaplus", "S7", two_changes_past_each_other, ChangesAtOnce,
        "leader completeness",
    ),
    by_hand(
        "R2", "a leader commits entries of earlier terms by counting (figure 8)", "PySyncObj issue 169", "S7",
        figure_8, CommitsOldTerms, "leader completeness",
    ),
    by_hand(
        "R3", "a vote leaves before it is durable", "Vanlightly/raft-tlaplus RaftFsync", "S5", vote_and_crash, Member,
        "one vote a term", patches=(WAIT_FOR_NOTHING,),
    ),
    by_hand(
        "R3", "an acknowledgement leaves before it is durable", "etcd issue 14370", "S8", answer_without_a_sync, Member,
        "durable quorum", patches=(WAIT_FOR_NOTHING,),
    ),
    by_hand(
        "R5", "logs are compared by length before term", "openraft a48a3282", "S7", long_but_old, LongestLogWins,
        "leader completeness",
    ),
    by_hand(
        "R5", "a vote does not look at the log", "openraft a48a3282", "S7", long_but_old, IgnoresTheLog,
        "leader completeness",
    ),
    by_hand(
        "R8", "a member votes for all who ask", "Xraft issue 33", "S5", two_candidates, VotesForAll, "one vote a term",
    ),
    by_hand(
        "R8", "half of the members elect a leader", "DaosRaft issue 70", "S5", two_halves, HalfWins, "election safety",
    ),
    by_hand(
        "R9", "the middle of unsorted progress is taken for what a quorum holds", "openraft issue 1802", "S8",
        one_answer_of_five, Member, "durable quorum", patches=((quorum, "quorum_index", unsorted),),
    ),
)  # fmt: skip
