"""Published bugs of what Raft members do with their logs, step by step: every message, sync and crash is the script's.

After every step `tests.policies.raft_watch` asks what must always hold.
"""

from __future__ import annotations

import msgspec

from policies.consensus.raft.messages import Append, Appended, InstallSnapshot
from policies.consensus.raft.progress import Progress
from policies.port import NS_PER_S
from scenarios.defects import raft as hunted
from tests.mutants.raft import Kind, by_hand
from tests.policies.hand_cluster import ONE_ENTRY, Asked, HandCluster, Member


class CutsOnEveryAppend(Asked, hunted.CutsOnEveryAppend):
    """R4: an old Append cuts what follows it."""


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


class GoesBackWithTheLeader(Member):
    """R7: a follower's commit index is what the last Append says, be it lower."""

    def _on_append(self, sender: str, append: Append) -> None:
        super()._on_append(sender, append)
        self.commit = min(append.commit, self.log.last)


class TakesTheLastAnswer(Member):
    """R7: what a follower holds is what its last answer says, be it lower."""

    def _on_appended(self, sender: str, answer: Appended) -> None:
        super()._on_appended(sender, answer)
        if answer.ok and answer.term == self.term and sender in self.progress:
            self.progress[sender].match = min(answer.index, self.log.last)


def refused_below(self: Progress, hint: int) -> bool:
    """Probe where a refusal says, be it below what the peer is known to hold."""
    held, self.match = self.match, 0
    news = _refused(self, hint)
    self.match = held
    return news


_refused = Progress.refused


def late_answers(kind: Kind) -> None:
    """n2 misses an entry, refuses the one after it, and takes both in; then its earlier answers arrive again."""
    cluster = HandCluster(3, kind, ONE_ENTRY)
    cluster.elect("n1")
    cluster.propose("n1", b"a")
    cluster.post.clear()
    cluster.propose("n1", b"b")
    late = []
    for _ in range(4):
        cluster.pass_on("n1", "n2")
        late += [letter for letter in cluster.post if letter[:2] == ("n2", "n1")]
        cluster.pass_on("n2", "n1")
    assert cluster.raft("n1").progress["n2"].match == 3
    for letter in late:
        cluster.post.append(letter)
        cluster.deliver(len(cluster.post) - 1)


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
        if cluster.raft("n2").log.last < 4:
            cluster.pass_on("n2", "n1")
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
    for _ in range(4):
        cluster.pass_on("n1", "n4")
        cluster.pass_on("n4", "n1")
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


MUTANTS = (
    by_hand(
        "R4", "an old Append cuts what follows it", "openraft 9540c904; willemt/raft issue 118; raftos issue 26",
        "S10, S11", late_copy, CutsOnEveryAppend, "monotone",
    ),
    by_hand(
        "R7", "a follower's commit index goes back", "PySyncObj issue 166", "S10", late_copy, GoesBackWithTheLeader,
        "monotone",
    ),
    by_hand(
        "R7", "what a follower is known to hold goes back", "PySyncObj issue 167; raftos issue 25", "S10", late_answers,
        TakesTheLastAnswer, "monotone: n1 knew n2 to hold",
    ),
    by_hand(
        "R7", "a follower is sent anew what it is known to hold", "microsoft/CCF pull request 5324", "S10",
        late_answers, Member, "monotone: n2 holds", patches=((Progress, "refused", refused_below),),
    ),
    by_hand(
        "R10", "an answer of an earlier term counts", "openraft cecb5de8", "S8", answer_of_a_cut_log, CountsOldAnswers,
        "durable quorum",
    ),
    by_hand(
        "R10", "a snapshot below the commit index is installed", "openraft ac3e5a89", "S10", snapshot_again,
        InstallsOldSnapshots, "monotone",
    ),
    by_hand(
        "R13", "a completed write counts for those after it", "openraft 2af491fb; etcd's append ABA race", "S8",
        two_writes_one_sync, TakesAnySyncForTheLast, "durable quorum",
    ),
    by_hand(
        "R15", "taking over a state cuts the log behind it (in VR Revisited: before it is there)",
        "Vanlightly/vsr-tlaplus", "S7", snapshot_after_the_entries, SnapshotCutsTheLog,
        "leader completeness",
    ),
)  # fmt: skip
