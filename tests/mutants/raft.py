"""Published bugs of Raft and its implementations, step by step: every message, sync and crash is the script's.

After every step `tests.policies.raft_watch` asks what must always hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from policies import cell as cell_module
from policies.consensus import quorum
from policies.consensus.quorum import majority
from policies.consensus.raft import Raft
from policies.consensus.raft.messages import Append, Appended, InstallSnapshot
from policies.local import Reconfigure
from policies.port import NS_PER_S
from scenarios.defects import raft as hunted
from tests.mutants.record import SCRIPTED, Mutant
from tests.policies.hand_cluster import PAPER, Asked, HandCluster, Member

Kind = Callable[..., Raft]
ONE_ENTRY = msgspec.structs.replace(PAPER, max_batch=1)
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


class VotesForAll(Member):
    """R8: a member votes for whoever asks (Xraft issue 33; DaosRaft issue 70 is its cousin)."""

    def _may_vote(self, candidate: str) -> bool:
        return True


def two_candidates(kind: Kind) -> None:
    """n1 and n3 campaign in one term; n2 hears both."""
    cluster = HandCluster(3, kind)
    for name in ("n1", "n3"):
        cluster.ask_votes(name, "n2")


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


def late_copy(kind: Kind) -> None:
    """An Append arrives again after later entries were committed."""
    cluster = HandCluster(3, kind, ONE_ENTRY)
    cluster.elect("n1")
    cluster.propose("n1", b"a")
    late = next(letter for letter in cluster.post if letter[1] == "n2")
    cluster.propose("n1", b"b")
    cluster.settle()
    cluster.fire("n1", "heartbeat")
    cluster.now += NS_PER_S
    cluster.fire("n1", "heartbeat")
    cluster.settle()
    assert cluster.raft("n2").commit == 3
    cluster.post.append(late)
    cluster.deliver()


class LongestLogWins(Member):
    """R5: logs are compared by length before term (openraft a48a3282)."""

    def _up_to_date(self, last_term: int, last_index: int) -> bool:
        return (last_index, last_term) >= (self.log.last, self.log.last_term)


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


class TakesAnySyncForTheLast(Member):
    """R13: a completed write counts for the writes after it (openraft 2af491fb; etcd's append ABA race)."""

    def on_durable(self, token: int) -> None:
        if self.writing.pop(token, 0):
            self.durable = self.log.last
            if self.role == "leader":
                self._advance_commit()


def two_writes_one_sync(kind: Kind) -> None:
    """The leader's first write is durable, its second is not, and one follower has both."""
    cluster = HandCluster(3, kind)
    cluster.elect("n1")
    cluster.propose("n1", b"a")
    cluster.propose("n1", b"b")
    cluster.sync("n1", 1)
    cluster.pass_on("n1", "n2")
    cluster.pass_on("n2", "n1", sync=False)


class HalfWins(Asked, hunted.HalfIsAQuorum):
    """R8: half of the members elect a leader."""


def two_halves(kind: Kind) -> None:
    """n1 and n3 campaign in one term, each heard by one other of five."""
    cluster = HandCluster(5, kind)
    cluster.ask_votes("n1", "n2")
    cluster.ask_votes("n3", "n4")


class CutsOnEveryAppend(Asked, hunted.CutsOnEveryAppend):
    """R4: an old Append cuts what follows it."""


class GoesBackWithTheLeader(Member):
    """R7: a follower's commit index is what the last Append says, be it lower."""

    def _on_append(self, sender: str, append: Append) -> None:
        super()._on_append(sender, append)
        self.commit = min(append.commit, self.log.last)


class IgnoresTheLog(Asked, hunted.IgnoresTheLog):
    """R5: a vote goes to whoever asks first, however short its log."""


class CountsOldAnswers(Member):
    """R10: an answer of an earlier term counts in this one."""

    def _on_appended(self, sender: str, answer: Appended) -> None:
        super()._on_appended(sender, msgspec.structs.replace(answer, term=self.term))


def answer_of_a_cut_log(kind: Kind) -> None:
    """n2 answers n1 for an entry that n3, the next leader, cuts off; n1 leads again and only then hears the answer."""
    cluster = HandCluster(5, kind, ONE_ENTRY)
    cluster.elect("n1")
    for command in (b"a", b"b", b"c"):
        cluster.propose("n1", command)
    cluster.sync("n1")
    for _ in range(3):
        cluster.pass_on("n1", "n2")
        late = [letter for letter in cluster.post if letter[:2] == ("n2", "n1")][-1]
        cluster.pass_on("n2", "n1") if cluster.raft("n2").log.last < 4 else None
    assert cluster.raft("n2").log.last == 4
    cluster.post.clear()
    cluster.ask_votes("n3", "n4", "n5")
    cluster.settle("n2", "n3", "n4", "n5")
    cluster.fire("n3", "heartbeat")
    cluster.settle()  # n1 follows, and its log is n3's
    assert [cluster.raft(name).log.last for name in ("n1", "n2")] == [2, 2]
    cluster.ask_votes("n1", "n4", "n5")
    cluster.post.clear()
    for command in (b"d", b"e"):
        cluster.propose("n1", command)
    cluster.sync("n1")
    cluster.fire("n1", "heartbeat")
    for name in ("n4",):
        for _ in range(4):
            cluster.pass_on("n1", name)
            cluster.pass_on(name, "n1")
    cluster.post.append(late)
    cluster.deliver(len(cluster.post) - 1)


class InstallsOldSnapshots(Member):
    """R10: a snapshot that ends before the commit index is installed all the same."""

    def _on_install_snapshot(self, sender: str, chunk: InstallSnapshot) -> None:
        if chunk.index <= self.commit and self._obey(sender, chunk.term):
            self._take_over(sender, chunk, chunk.data)
        else:
            super()._on_install_snapshot(sender, chunk)


def snapshot_again(kind: Kind) -> None:
    """n3 gets a snapshot and what follows it; then the snapshot arrives a second time."""
    cluster = HandCluster(3, kind)
    cluster.elect("n1")
    cluster.propose("n1", b"a")
    cluster.settle("n1", "n2")
    cluster.compact("n1")
    cluster.propose("n1", b"b")
    cluster.sync("n1")
    again = []
    for _ in range(6):
        again += [letter for letter in cluster.post if letter[1] == "n3" and b"install_snapshot" in letter[2]]
        cluster.pass_on("n1", "n3")
        cluster.pass_on("n3", "n1")
    cluster.settle()
    cluster.fire("n1", "heartbeat")
    cluster.settle()
    assert (cluster.raft("n3").commit, len(again)) == (3, 1)
    cluster.post.append(again[0])
    cluster.deliver()


class SnapshotCutsTheLog(Member):
    """R15: a state that is taken over cuts the log, acknowledged entries after it included."""

    def _on_install_snapshot(self, sender: str, chunk: InstallSnapshot) -> None:
        whole = chunk.index > self.commit and chunk.size == len(chunk.data)
        if whole and self._obey(sender, chunk.term):
            self._take_over(sender, chunk, chunk.data)
        else:
            super()._on_install_snapshot(sender, chunk)


def snapshot_after_the_entries(kind: Kind) -> None:
    """n2 lacks an entry, is sent a snapshot, and hears of the late entries first: it counts for one after the state."""
    cluster = HandCluster(3, kind, ONE_ENTRY)
    cluster.elect("n1")
    cluster.fire("n1", "heartbeat")
    cluster.settle()
    cluster.propose("n1", b"a")
    first, to_n3 = (next(letter for letter in cluster.post if letter[1] == name) for name in ("n2", "n3"))
    cluster.post.clear()
    cluster.propose("n1", b"b")
    second = next(letter for letter in cluster.post if letter[1] == "n2")
    cluster.post = [to_n3, second]
    for _ in range(2):
        cluster.deliver()
    cluster.sync("n1")
    cluster.sync("n3")
    cluster.pass_on("n3", "n1")
    cluster.compact("n1")
    cluster.post = [letter for letter in cluster.post if letter[0] == "n2"]
    cluster.pass_on("n2", "n1")  # refused, for it lacks the entry before
    (snapshot,) = [letter for letter in cluster.post if letter[1] == "n2" and b"install_snapshot" in letter[2]]
    cluster.post = [first, second]
    for _ in range(2):
        cluster.deliver()
    cluster.sync("n2")
    cluster.pass_on("n2", "n1")
    assert cluster.raft("n1").commit == 3
    cluster.post = [snapshot]
    cluster.deliver()
    cluster.sync("n2")
    cluster.crash("n1")
    cluster.post.clear()
    cluster.ask_votes("n2", "n3")


def _raft(
    id: str,
    what: str,
    source: str,
    property: str,
    scenario: Callable[[Kind], None],
    wrong: Kind,
    broken: str,
    **more: Any,
) -> Mutant:
    return Mutant(id, what, source, SCRIPTED, property, scenario, Member, wrong, broken, **more)


MUTANTS = (
    _raft(
        "R1", "a leader changes the members before an entry of its term is committed",
        "Ongaro, raft-dev 2015; Vanlightly/raft-tlaplus", "S7", two_changes_past_each_other, ChangesAtOnce,
        "leader completeness",
    ),
    _raft(
        "R2", "a leader commits entries of earlier terms by counting (figure 8)", "PySyncObj issue 169", "S7",
        figure_8, CommitsOldTerms, "leader completeness", arena="raft",
    ),
    _raft(
        "R3", "a vote leaves before it is durable", "Vanlightly/raft-tlaplus RaftFsync", "S5", vote_and_crash, Member,
        "one vote a term", patches=(WAIT_FOR_NOTHING,), arena="raft",
    ),
    _raft(
        "R3", "an acknowledgement leaves before it is durable", "etcd issue 14370", "S8", answer_without_a_sync, Member,
        "durable quorum", patches=(WAIT_FOR_NOTHING,), arena="raft",
    ),
    _raft(
        "R4", "an old Append cuts what follows it", "openraft 9540c904; willemt/raft issue 118; raftos issue 26", "S9",
        late_copy, CutsOnEveryAppend, "monotone|immutable", arena="raft",
    ),
    _raft(
        "R5", "logs are compared by length before term", "openraft a48a3282", "S7", long_but_old, LongestLogWins,
        "leader completeness", arena="raft",
    ),
    _raft(
        "R5", "a vote does not look at the log", "openraft a48a3282", "S7", long_but_old, IgnoresTheLog,
        "leader completeness", arena="raft",
    ),
    _raft(
        "R7", "a follower's commit index goes back", "PySyncObj issues 166, 167; raftos issue 25", "S10",
        late_copy, GoesBackWithTheLeader, "monotone", arena="raft",
    ),
    _raft(
        "R8", "a member votes for all who ask", "Xraft issue 33", "S5", two_candidates, VotesForAll, "one vote a term",
        arena="raft", also=("Hypothesis",),
    ),
    _raft(
        "R8", "half of the members elect a leader", "DaosRaft issue 70", "S5", two_halves, HalfWins, "election safety",
        arena="raft",
    ),
    _raft(
        "R9", "the middle of unsorted progress is taken for what a quorum holds", "openraft issue 1802", "S8",
        one_answer_of_five, Member, "durable quorum", patches=((quorum, "quorum_index", unsorted),),
        arena="raft",
    ),
    _raft(
        "R10", "an answer of an earlier term counts", "openraft cecb5de8", "S8", answer_of_a_cut_log, CountsOldAnswers,
        "durable quorum", arena="raft",
    ),
    _raft(
        "R10", "a snapshot below the commit index is installed", "openraft ac3e5a89", "S10", snapshot_again,
        InstallsOldSnapshots, "monotone",
    ),
    _raft(
        "R13", "a completed write counts for those after it", "openraft 2af491fb; etcd's append ABA race", "S8",
        two_writes_one_sync, TakesAnySyncForTheLast, "durable quorum", arena="raft",
    ),
    _raft(
        "R15", "taking over a state cuts the log behind it (in VR Revisited: before it is there)",
        "Vanlightly/vsr-tlaplus", "S9", snapshot_after_the_entries, SnapshotCutsTheLog,
        "leader completeness|immutable|agreement",
    ),
)  # fmt: skip
