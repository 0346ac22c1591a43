"""What a leader does: it brings every log into line with its own, counts who holds what, and commits.

Safety: an entry is committed when a quorum holds it durably and it is of the leader's own term; the leader counts
itself only for what its own disk has, although it sends entries while that still writes. The rest is flow control: a
peer is sent no more than a window of batches that it has not answered (`policies.consensus.raft.progress`).
"""

from __future__ import annotations

from policies.config import RaftConfig
from policies.consensus import quorum
from policies.consensus.changes import Membership, between, enter_joint, leave_joint, simple
from policies.consensus.quorum import vote_result
from policies.consensus.raft.configurations import MARK, command_of
from policies.consensus.raft.elections import Elections
from policies.consensus.raft.messages import Append, Appended, InstallSnapshot, Received, TimeoutNow
from policies.consensus.raft.progress import SNAPSHOT, Progress
from policies.wire import encode

MEMBERS_MAX = 64
"""Members and learners of one configuration (our bound: a leader sends to each of them)."""


class Leading(Elections):
    """A member that may lead.

    Attributes:
        progress: everybody else in the configuration, as the leader sees them; empty while it does not lead.
        round: the latest round of reads, which every Append carries.
        uncommitted_bytes: of the commands after the last committed one, while it leads.
        transferee: who is to lead next, ``""`` for nobody; meanwhile nothing is proposed.
    """

    def __init__(
        self, config: RaftConfig, members: tuple[str, ...], applier: str = "", watchers: tuple[str, ...] = ()
    ) -> None:
        super().__init__(config, members, applier, watchers)
        self.patience = max(1, round(config.election_min_s / config.heartbeat_s))  # heartbeats in an election time-out
        self.progress: dict[str, Progress] = {}
        self.round = self.uncommitted_bytes = 0
        self.transferee = ""

    # -- what reads add --------------------------------------------------------------------------------------------

    def _round_answered(self) -> None:
        """A peer answered a round of reads for the first time."""

    # -- beginning and end -----------------------------------------------------------------------------------------

    def _begin_leading(self) -> None:
        self.progress = {peer: Progress(self.log.last + 1) for peer in self.others}
        if self.config.check_quorum:
            self.port.set_timer("quorum", self.election_ns)
        self.uncommitted_bytes = self.log.bytes_after(self.commit, self.log.last)
        self._append_own(b"")  # only an entry of this term may commit those before it (section 5.4.2)
        self._beat()

    def _end_leading(self) -> None:
        self.progress, self.transferee = {}, ""
        for timer in ("heartbeat", "quorum", "transfer"):
            self.port.cancel_timer(timer)

    def _configuration_changed(self) -> None:
        super()._configuration_changed()
        if self.role == "leader":
            known = self.progress
            self.progress = {peer: known.get(peer) or Progress(self.log.last + 1) for peer in self.others}

    def _check_quorum(self) -> None:
        """Step down unless a quorum has answered within the last election time-out."""
        heard = {peer: True for peer, progress in self.progress.items() if progress.heard}
        if vote_result(self.configurations.current.voters, {**heard, self.port.me: True}) != "won":
            self._step_down(self.term)
            return
        for progress in self.progress.values():
            progress.heard = False
        self.port.set_timer("quorum", self.election_ns)

    # -- proposals -------------------------------------------------------------------------------------------------

    def _propose(self, command: bytes) -> None:
        """Take in a command, unless it must wait: whoever proposes comes again."""
        if self.transferee:
            return
        if command.startswith(MARK) or len(command) > self.config.chunk_bytes:
            self._drop("command refused")
        elif not self._room_for(command):
            self._drop("too many entries not committed")
        else:
            self._append_own(command)
            self._spread()

    def _room_for(self, command: bytes) -> bool:
        """Whether a command may wait to be committed: more than a window could not even be under way.

        One may, however long it is, as etcd has it (``MaxUncommittedEntriesSize``).
        """
        waiting, window = self.log.last - self.commit, self.config.window
        size = self.uncommitted_bytes + len(command)
        return not waiting or (waiting < window * self.config.max_batch and size <= window * self.config.chunk_bytes)

    def _append_own(self, command: bytes) -> None:
        self.uncommitted_bytes += len(command)
        index = self.log.append(self.term, command)
        self._save_entries(index, ((self.term, command),))

    def _reconfigure(self, members: tuple[str, ...], learners: tuple[str, ...]) -> None:
        """Begin a change of the members, unless one is under way or nothing of this term is committed yet."""
        current = self.configurations.current
        if (
            self.configurations.index > self.commit
            or not self._may_reconfigure()
            or current.voters.joint
            or self.transferee
        ):
            self._drop("change of members refused for now")
            return
        if len(members) + len(learners) > MEMBERS_MAX:
            self._drop("change of members refused")
            return
        try:
            changes = between(current, members, learners)
            moved = set(current.voters.incoming) ^ set(members)
            after = simple(current, changes) if len(moved) <= 1 else enter_joint(current, changes, auto_leave=True)
        except ValueError:
            self._drop("change of members refused")
            return
        if after != current:
            self._change(after)

    def _may_reconfigure(self) -> bool:
        """Whether an entry of this term is committed: the published correction of the dissertation's single change."""
        return self.log.term_at(self.commit) == self.term

    def _change(self, membership: Membership) -> None:
        self._append_own(command_of(membership))
        self.configurations.add(self.log.last, membership)
        self._configuration_changed()
        self._spread()

    def _transfer(self, to: str) -> None:
        """Let ``to`` lead as soon as its log is complete; give up after an election time-out."""
        voters = self.configurations.current.voters
        if to == self.port.me or to not in self.progress or not (to in voters.incoming or to in voters.outgoing):
            self._drop("transfer refused")
            return
        self.transferee = to
        self.port.set_timer("transfer", self.election_ns)
        self._hand_over()

    def _hand_over(self) -> None:
        progress = self.progress[self.transferee]
        if progress.match == self.log.last:
            self.port.send(self.transferee, TimeoutNow(self.term))
        elif progress.may_send(self.config.window):
            self._replicate(self.transferee, progress)

    # -- sending ---------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Send every peer what is new, or nothing; the next heartbeat is due a period after the last of these."""
        self.port.set_timer("heartbeat", self.heartbeat_ns)
        log, idle = self.log, None
        for peer, progress in self.progress.items():
            progress.beats += 1
            if progress.next <= log.last:
                self._replicate(peer, progress)
                continue
            if idle is None:  # who lacks nothing hears the same: nearly all heartbeats are of this kind
                idle = Append(self.term, log.last, log.last_term, self.commit, (), self.round)
            self.port.send(peer, idle, early=True)

    def _spread(self) -> None:
        """Send what is new to every peer that may be sent more; the others wait for their answers and the heartbeat."""
        window, all_sent = self.config.window, True
        append: Append | None = None
        for peer, progress in self.progress.items():
            if not progress.may_send(window):
                all_sent = False
            elif append is not None and append.entries and append.prev_index == progress.next - 1:
                progress.sent(append.prev_index + len(append.entries))
                self.port.send(peer, append, early=True)  # who lacks the same hears the same
            else:
                append = self._replicate(peer, progress)
        if all_sent:
            self.port.set_timer("heartbeat", self.heartbeat_ns)

    def _replicate(self, peer: str, progress: Progress) -> Append:
        """Send the entries that are due, or a heartbeat; return it."""
        log = self.log
        prev = progress.next - 1
        entries: tuple[tuple[int, bytes], ...] = ()
        if prev < log.start:
            if progress.state != SNAPSHOT:
                self._send_snapshot(peer, progress)
            prev = log.start  # a heartbeat beside the chunks
        elif prev < log.last and progress.may_send(self.config.window):
            entries = log.slice(prev + 1, self.config.max_batch, self.config.chunk_bytes)
            progress.sent(prev + len(entries))
        append = Append(self.term, prev, log.term_at(prev), self.commit, entries, self.round)
        self.port.send(peer, append, early=True)
        return append

    def _send_snapshot(self, peer: str, progress: Progress) -> None:
        assert self.snapshot is not None, f"log starts at {self.log.start} without a snapshot"
        progress.send_snapshot(self.snapshot.index)
        self._send_chunk(peer, progress)

    def _send_chunk(self, peer: str, progress: Progress) -> None:
        """Send the chunk that is due; a newer snapshot is begun instead, if there is one."""
        snapshot = self.snapshot
        assert snapshot is not None
        if progress.snapshot != snapshot.index:
            progress.send_snapshot(snapshot.index)
        first, size = progress.offset, len(snapshot.state)
        data = snapshot.state[first : first + self.config.chunk_bytes]
        progress.waiting, progress.beats = True, 0
        chunk = InstallSnapshot(
            self.term, snapshot.index, snapshot.term, encode(snapshot.membership), size, first, data
        )  # fmt: skip
        self.port.send(peer, chunk)  # not early: the snapshot itself must be durable here

    # -- answers ---------------------------------------------------------------------------------------------------

    def _outside(self, peer: str) -> Progress | None:
        """Return what is known of a peer that is not in the configuration; `leaving` knows some."""
        return None

    def _on_appended(self, sender: str, answer: Appended) -> None:
        if self.role != "leader" or answer.term != self.term:
            return
        progress = self.progress.get(sender) or self._outside(sender)
        if progress is None:
            return
        progress.heard = True
        if answer.round > progress.round:
            progress.round = min(answer.round, self.round)
            self._round_answered()
        last = self.log.last
        if answer.ok:
            if answer.index < progress.match or progress.match == last:
                return  # nothing new: nearly all heartbeats end here
            self._on_agreed(sender, progress, min(answer.index, last))
        elif progress.refused(min(answer.index, last)):
            self._replicate(sender, progress)
        elif progress.state == SNAPSHOT and progress.beats > self.patience:
            self._send_chunk(sender, progress)  # the last one is long due

    def _on_agreed(self, peer: str, progress: Progress, index: int) -> None:
        if progress.agreed(index) and index > self.commit:
            self._advance_commit()
        if self.role != "leader":
            return  # what was committed removed it
        if peer == self.transferee and progress.match == self.log.last:
            self._hand_over()
        elif progress.next <= self.log.last and progress.may_send(self.config.window):
            self._replicate(peer, progress)

    def _on_received(self, sender: str, answer: Received) -> None:
        progress = self.progress.get(sender) or self._outside(sender)
        if progress is None or answer.term != self.term or progress.state != SNAPSHOT:
            return
        progress.heard = True
        if answer.index == progress.snapshot and progress.received(answer.offset):
            self._send_chunk(sender, progress)

    # -- commitment ------------------------------------------------------------------------------------------------

    def _quorum_index(self) -> int:
        """Return the highest index that a quorum holds durably."""
        if self.all_vote:  # nearly always, and then nobody need be named
            return quorum.quorum_index([self.durable, *[progress.match for progress in self.progress.values()]])
        held = {peer: progress.match for peer, progress in self.progress.items()}
        held[self.port.me] = self.durable
        return quorum.committed_index(self.configurations.current.voters, held)

    def _may_commit(self, index: int) -> bool:
        """Whether counting commits this entry: only one of the own term (section 5.4.2, figure 8)."""
        return self.log.term_at(index) == self.term

    def _advance_commit(self) -> None:
        index = self._quorum_index()
        if index > self.commit and self._may_commit(index):
            self.uncommitted_bytes -= self.log.bytes_after(self.commit, index)
            self.commit = index
            self._apply()
            self._after_commit()

    def _after_commit(self) -> None:
        """Leave a joint configuration that is committed; step down if the committed one is without this member."""
        configurations = self.configurations
        if configurations.index > self.commit:
            return
        if configurations.current.voters.joint:
            self._change(leave_joint(configurations.current))
        elif not self.voting:
            self._beat()  # the others learn of the commit, and elect one of them
            self._step_down(self.term)
