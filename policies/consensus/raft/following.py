"""What a follower does with what its leader sends: entries, the commit index, and snapshots of what it lacks.

Safety: an answer says only what this message proved, and leaves when it is durable; entries are cut only where a term
conflicts, so that a late copy of an old message, which agrees, undoes nothing.
"""

from __future__ import annotations

from policies.config import RaftConfig
from policies.consensus.chunks import STATE_BYTES_MAX
from policies.consensus.raft.configurations import MARK, decode, membership_in
from policies.consensus.raft.leaving import Leaving
from policies.consensus.raft.log import Entry
from policies.consensus.raft.messages import Append, Appended, InstallSnapshot, Received
from policies.consensus.raft.state import Saved
from policies.wire import WireError


class Incoming:
    """A snapshot that arrives: the chunks that are here, without a gap from the first byte."""

    def __init__(self, index: int, index_term: int) -> None:
        self.index, self.index_term = index, index_term
        self.chunks: list[bytes] = []
        self.size = 0

    def take(self, chunk: InstallSnapshot) -> None:
        """Add a chunk if it is the next."""
        if chunk.offset == self.size:
            self.chunks.append(chunk.data)
            self.size += len(chunk.data)


class Following(Leaving):
    """A member that may follow."""

    def __init__(
        self, config: RaftConfig, members: tuple[str, ...], applier: str = "", watchers: tuple[str, ...] = ()
    ) -> None:
        super().__init__(config, members, applier, watchers)
        self.incoming: Incoming | None = None

    def _obey(self, leader: str, term: int) -> bool:
        """Follow who leads ``term``, and put the own campaign off; return whether it is to be obeyed."""
        if term < self.term:
            self.port.send(leader, Appended(self.term, False, self.log.last))
            return False
        if self.role == "leader":
            self._drop("another leader of this term")
            return False
        self.role = "follower"
        if self.lease_ns:
            self.heard_ns = self.port.now
        if self.drawn_for == term:
            self.port.set_timer("election", self.election_ns)
        else:
            self._arm_election()
        if leader != self.leader:
            self._follow(leader)
        return True

    # -- entries ---------------------------------------------------------------------------------------------------

    def _on_append(self, sender: str, append: Append) -> None:
        if not self._obey(sender, append.term):
            return
        log = self.log
        prev, entries = append.prev_index, append.entries
        if prev < log.start:  # what the snapshot holds is committed, so it agrees
            entries = entries[log.start - prev :]
            prev = log.start
        elif prev > log.last or log.term_at(prev) != append.prev_term:
            self.port.send(sender, Appended(self.term, False, self._hint(append), append.round))
            return
        for _, command in entries:
            if command.startswith(MARK) and not _well_formed(command):
                self._drop("malformed configuration dropped")
                return
        if entries:
            self._accept(prev, entries)
        last = prev + len(entries)
        self.port.send(sender, Appended(self.term, True, last, append.round))
        if append.commit > self.commit and last > self.commit:
            self.commit = min(append.commit, last)
            self._apply()

    def _hint(self, append: Append) -> int:
        """Return up to where the log may agree: below the conflicting term's first entry (section 5.3).

        So a term costs one refusal, however many entries a leader that was cut off had taken in.
        """
        log, conflict = self.log, self.log.term_at(append.prev_index)
        hint = min(log.last, append.prev_index - 1)
        while hint > self.commit and (log.term_at(hint) > append.prev_term or log.term_at(hint) == conflict):
            hint -= 1
        return hint

    def _accept(self, prev: int, entries: tuple[Entry, ...]) -> None:
        """Append what is new; cut only where a term conflicts, never on an old Append that agrees."""
        log = self.log
        for offset, entry in enumerate(entries):
            index = prev + 1 + offset
            if index <= log.last:
                if log.term_at(index) == entry[0]:
                    continue
                self._truncate(index - 1)
            self._take_in(entries[offset:])
            return

    def _take_in(self, entries: tuple[Entry, ...]) -> None:
        first = self.log.last + 1
        self.log.extend(entries)
        self._save_entries(first, entries)
        if self._configure(first, entries):
            self._configuration_changed()

    # -- snapshots -------------------------------------------------------------------------------------------------

    def _on_install_snapshot(self, sender: str, chunk: InstallSnapshot) -> None:
        if not self._obey(sender, chunk.term):
            return
        if chunk.index <= self.commit:
            self.port.send(sender, Appended(self.term, True, self.commit))
            return
        if chunk.index <= self.log.last and self.log.term_at(chunk.index) == chunk.index_term:
            # The log agrees with all that the state holds; what follows may have been counted and must stay.
            self.incoming = None
            self.commit = chunk.index
            self._apply()
            self.port.send(sender, Appended(self.term, True, chunk.index))
            return
        if chunk.size > STATE_BYTES_MAX or chunk.offset + len(chunk.data) > chunk.size:
            self._drop("impossible snapshot dropped")
            return
        incoming = self.incoming
        if incoming is None or (incoming.index, incoming.index_term) != (chunk.index, chunk.index_term):
            incoming = self.incoming = Incoming(chunk.index, chunk.index_term)
        incoming.take(chunk)
        if incoming.size < chunk.size:
            self.port.send(sender, Received(self.term, chunk.index, incoming.size))
        else:
            self._take_over(sender, chunk, b"".join(incoming.chunks))

    def _take_over(self, sender: str, chunk: InstallSnapshot, state: bytes) -> None:
        """Replace state and log by a snapshot that is whole; the answer leaves when it is durable."""
        self.incoming = None
        try:
            membership = decode(chunk.membership)
        except WireError:
            self._drop("malformed configuration dropped")
            return
        self._install(Saved(chunk.index, chunk.index_term, membership, state))
        self.port.send(sender, Appended(self.term, True, chunk.index))


def _well_formed(command: bytes) -> bool:
    """Whether a configuration can be read."""
    try:
        membership_in(command)
    except WireError:
        return False
    return True
