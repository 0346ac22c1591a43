"""What a Raft member remembers: its term and vote, its log and snapshot, and how far each is durable and applied.

Saved keys: ``meta`` is (term, voted_for); ``00000000000i`` is entry i, (term, command); ``snapshot`` is (index, term,
membership, state), and the entries up to its index are erased in the batch that saves it. What is saved here leaves
with the port's horizon: what a member sends afterwards waits until it is durable, unless it is sent early.
"""

from __future__ import annotations

from collections.abc import Mapping
from zlib import crc32

import msgspec

from policies.config import RaftConfig
from policies.consensus.changes import Membership
from policies.consensus.messages import Chosen, Follows, Restored
from policies.consensus.quorum import Voters
from policies.consensus.raft.configurations import MARK, Configurations, membership_in
from policies.consensus.raft.log import Entry, Log
from policies.local import Committed, Configured, Leadership, Restore
from policies.log import DamagedLog
from policies.port import NS_PER_S, Policy
from policies.wire import Message, encode

APPLY_MAX = 20
"""Entries told to the state machine in one step: each may hold two signatures of 0.11 ms; a step stays below 5 ms."""

_META, _SNAPSHOT = "meta", "snapshot"
_meta = msgspec.msgpack.Decoder(tuple[int, str]).decode
_entry = msgspec.msgpack.Decoder(tuple[int, bytes]).decode


class Saved(Message, frozen=True):
    """A snapshot: ``state`` holds every command up to ``index``, the last of them of ``term``."""

    index: int
    term: int
    membership: Membership
    state: bytes


_snapshot = msgspec.msgpack.Decoder(Saved).decode


class State(Policy):
    """The part of a member that does not depend on who leads.

    Attributes:
        role: ``leader``, ``follower``, ``candidate``, or ``precandidate`` while it asks whether it would be elected.
        leader: whom it takes for the leader of ``term``, ``""`` while nobody is known.
        commit: the highest index that it knows to be committed.
        applied: the highest index that the state machine was told of.
        durable: the highest own index that is known to be durable.
        writing: token of a save to the last index that it holds.
        voting: whether it has a vote in its configuration.
        others: everybody else in its configuration.
        all_vote: there are no learners and no second half of voters, and it votes itself.
    """

    def __init__(
        self, config: RaftConfig, members: tuple[str, ...], applier: str = "", watchers: tuple[str, ...] = ()
    ) -> None:
        self.config, self.members, self.applier, self.watchers = config, members, applier, watchers
        self.heartbeat_ns = int(config.heartbeat_s * NS_PER_S)
        self.term, self.voted_for = 0, ""
        self.role, self.leader = "follower", ""
        self.log = Log()
        self.snapshot: Saved | None = None
        self.configurations = Configurations(Membership(Voters(members)))
        self.commit = self.applied = 0
        self.durable = 0
        self.writing: dict[int, int] = {}
        self.voting = self.all_vote = False
        self.others: tuple[str, ...] = ()
        self.dropped = 0  # inputs that it would not take
        self.noted: set[str] = set()

    # -- what others build on it -----------------------------------------------------------------------------------

    def _configuration_changed(self) -> None:
        """Act on the current configuration."""
        everybody = self.configurations.current.everybody
        voters = self.configurations.current.voters
        me = self.port.me
        self.voting = me in voters.incoming or me in voters.outgoing
        self.others = tuple(name for name in everybody if name != me)
        self.all_vote = self.voting and not voters.joint and len(voters.incoming) == len(everybody)

    def _applied_to(self, index: int) -> None:
        """The state machine was told everything up to ``index``."""

    # -- recovery --------------------------------------------------------------------------------------------------

    def _recover(self, saved: Mapping[str, bytes]) -> None:
        """Take over what was saved.

        Raises:
            DamagedLog: entries are missing between others; going on would promise what is not there.
        """
        if _META in saved:
            self.term, self.voted_for = _meta(saved[_META])
        if _SNAPSHOT in saved:
            self._restore(_snapshot(saved[_SNAPSHOT]))
        keys = sorted(key for key in saved if key not in (_META, _SNAPSHOT))
        first = self.log.start + 1
        for index, key in enumerate(keys, start=first):
            if key != f"{index:012d}":
                raise DamagedLog(f"log entry {index}: missing, and {key} is there; restore this member's disk or data")
        entries = tuple(_entry(saved[key]) for key in keys)
        self.log.extend(entries)
        self._configure(first, entries)
        self.durable = self.log.last
        self._configuration_changed()

    def _restore(self, snapshot: Saved) -> None:
        """Begin the log after a snapshot, and have the state machine take it over."""
        index = snapshot.index
        self.snapshot = snapshot
        self.log.reset(index, snapshot.term)
        self.configurations.reset(index, snapshot.membership)
        self.commit = self.applied = index
        self.port.decide("restore", Restored(index, snapshot.term))
        if self.applier:
            self.port.tell(self.applier, Restore(index, snapshot.state))
        self._tell_configured(index, snapshot.membership)

    # -- the log ---------------------------------------------------------------------------------------------------

    def _configure(self, first: int, entries: tuple[Entry, ...]) -> bool:
        """Note the configurations among new entries, which are in effect from now on; return whether there are any."""
        configured = False
        for index, (_, command) in enumerate(entries, start=first):
            if command.startswith(MARK):
                self.configurations.add(index, membership_in(command))
                configured = True
        return configured

    def _save_meta(self) -> int:
        return self.port.save(_META, encode((self.term, self.voted_for)))

    def _save_entries(self, first: int, entries: tuple[Entry, ...]) -> None:
        token = 0
        for index, entry in enumerate(entries, start=first):
            token = self.port.save(f"{index:012d}", encode(entry))
        self.writing[token] = self.log.last

    def _truncate(self, last: int) -> None:
        """Cut off every entry after ``last``."""
        for gone in range(last + 1, self.log.last + 1):
            self.port.erase(f"{gone:012d}")
        self.log.truncate(last)
        self.durable = min(self.durable, last)
        # A write still in flight no longer proves what replaced it (the append ABA race).
        self.writing = {token: min(index, last) for token, index in self.writing.items()}
        if self.configurations.truncate(last):
            self._configuration_changed()

    def _compact(self, snapshot: Saved) -> None:
        """Save a snapshot of what is in the log, and forget the entries that it holds."""
        for gone in range(self.log.start + 1, snapshot.index + 1):
            self.port.erase(f"{gone:012d}")
        self.port.save(_SNAPSHOT, encode(snapshot))
        self.snapshot = snapshot
        self.log.compact(snapshot.index)
        self.configurations.compact(snapshot.index)

    def _install(self, snapshot: Saved) -> None:
        """Save a leader's snapshot of what this member lacks, in the place of its log."""
        for gone in range(self.log.start + 1, self.log.last + 1):
            self.port.erase(f"{gone:012d}")
        token = self.port.save(_SNAPSHOT, encode(snapshot))
        self._restore(snapshot)
        self.durable, self.writing = 0, {token: snapshot.index}
        self._configuration_changed()

    # -- what is announced -----------------------------------------------------------------------------------------

    def _follow(self, leader: str) -> None:
        if leader != self.leader:
            self.leader = leader
            if leader:
                self.port.decide("follows", Follows(self.term, leader))
            for path in self.watchers:
                self.port.tell(path, Leadership(self.term, leader))

    def _apply(self) -> None:
        until = min(self.commit, self.applied + APPLY_MAX)
        for index in range(self.applied + 1, until + 1):
            term, command = self.log.entry(index)
            self.port.decide("commit", Chosen(index, term, crc32(command)))
            if command.startswith(MARK):
                self._tell_configured(index, membership_in(command))
            elif command and self.applier:
                self.port.tell(self.applier, Committed(index, term, command))
        self.applied = until
        self._applied_to(until)
        if until < self.commit:
            self.port.set_timer("apply", 0)

    def _tell_configured(self, index: int, membership: Membership) -> None:
        """A joint configuration is only on the way to the next, and is not told."""
        if self.applier and not membership.voters.joint:
            self.port.tell(self.applier, Configured(index, membership.voters.incoming, membership.learners))

    def _drop(self, name: str) -> None:
        """Count what is dropped, and note each kind once a life: who floods a member shall not flood its log."""
        self.dropped += 1
        if name not in self.noted:
            self.noted.add(name)
            self.port.note(name)
