"""Raft: one member, whole. This file only says who hears what; each rule lives in the layer that is named for it:

- `state`: what is remembered, saved and told;
- `elections`: votes, PreVote, CheckQuorum;
- `leading`: replication, commitment, membership change, leadership transfer, sending snapshots;
- `leaving`: telling a removed member that it is out;
- `following`: taking in entries and snapshots;
- `reads`: linearizable reads.

Sources: Ongaro and Ousterhout, "In search of an understandable consensus algorithm", ATC 2014 and its extended version;
Ongaro, "Consensus: bridging theory and practice", dissertation, Stanford 2014.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policies.consensus.chunks import STATE_BYTES_MAX
from policies.consensus.raft import messages as m
from policies.consensus.raft.messages import Append, Appended
from policies.consensus.raft.reads import Reads
from policies.consensus.raft.state import Saved
from policies.local import Propose, Read, Reconfigure, Snapshot, Transfer


class Raft(Reads):
    """One member. ``applier`` is the path of this node told of commits, ``watchers`` are told who leads.

    ``members`` are the voters that the log begins with, the same on every node; one that joins later is made with them,
    too, and waits until the leader finds it.

    Raises:
        ValueError: ``members`` names somebody twice.
    """

    messages = m.MESSAGES

    # -- inputs ----------------------------------------------------------------------------------------------------

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self._recover(saved)
        self._arm_election()

    def on_timer(self, name: str) -> None:
        if name == "heartbeat":
            self._beat()
        elif name == "election":
            self._on_election_timeout()
        elif name == "quorum":
            self._check_quorum()
        elif name == "apply":
            self._apply()
        elif name == "reads":
            self._reads_timeout()
        else:
            self.transferee = ""  # it took too long: the leader serves again

    def on_durable(self, token: int) -> None:
        # A driver that syncs many batches at once may name only the last; earlier ones are durable with it.
        index = self.writing.pop(token, 0)
        if self.writing:
            for done in [earlier for earlier in self.writing if earlier <= token]:
                index = max(index, self.writing.pop(done))
        if index > self.durable and index <= self.log.last:
            self.durable = index
            if self.role == "leader":
                self._advance_commit()
        if self.role == "candidate" and token >= self.ballot:
            self._vote_durable()

    def on_local(self, sender: str, message: Any) -> None:
        leads = self.role == "leader"
        if isinstance(message, Propose):
            if leads:
                self._propose(message.command)
            elif self.leader and len(message.command) <= self.config.chunk_bytes:
                self.port.send(self.leader, m.Forward(message.command), early=True)
        elif isinstance(message, Read):
            self._on_read(message.token)
        elif isinstance(message, Snapshot):
            self._on_snapshot(message)
        elif isinstance(message, Reconfigure):
            if leads:
                self._reconfigure(message.members, message.learners)
            elif self.leader:
                self.port.send(self.leader, m.ForwardChange(message.members, message.learners), early=True)
        elif isinstance(message, Transfer) and leads:
            self._transfer(message.to)

    def on_message(self, sender: str, message: Any) -> None:
        member = sender in self.others or sender in self.members
        if not member and sender not in self.port.peers:
            return
        # Whom this member does not know may be of a configuration that it has yet to hear of: it may lead or campaign.
        kind = type(message)
        if kind is Append or kind is Appended:  # nearly all of them
            if message.term > self.term:
                self._step_down(message.term)
            if kind is Append:
                self._on_append(sender, message)
            else:
                self._on_appended(sender, message)
        elif kind in _WITHOUT_TERM:
            if member:
                self._on_forwarded(sender, message)
        elif kind in _BALLOTS and self._hears_leader() and not (kind is m.RequestVote and message.forced):
            if kind is m.RequestPreVote:  # whoever asks was cut off, or is no member any more
                self._show_out(sender, message)
        elif kind is m.RequestPreVote:
            self._show_out(sender, message)
            self._on_request_pre_vote(sender, message)
        else:
            if message.term > self.term and not (kind is m.PreVote and message.granted):
                self._step_down(message.term)
            self._on_termed(sender, message)

    def _on_termed(self, sender: str, message: Any) -> None:
        kind = type(message)
        if kind is m.RequestVote:
            self._on_request_vote(sender, message)
        elif kind is m.Vote:
            self._on_vote(sender, message)
        elif kind is m.PreVote:
            self._on_pre_vote(sender, message)
        elif kind is m.InstallSnapshot:
            self._on_install_snapshot(sender, message)
        elif kind is m.Received:
            self._on_received(sender, message)
        else:
            self._on_timeout_now(sender, message)

    def _on_forwarded(self, sender: str, message: Any) -> None:
        kind = type(message)
        if kind is m.AskRead:
            self._on_ask_read(sender, message)
        elif kind is m.ReadAt:
            self._on_read_at(message)
        elif self.role != "leader":
            return  # not forwarded a second time: who proposed comes again
        elif kind is m.Forward:
            self._propose(message.command)
        else:
            self._reconfigure(message.members, message.learners)

    def _on_snapshot(self, given: Snapshot) -> None:
        """The state machine offers its state at an index that it has applied."""
        if not self.log.start < given.index <= min(self.applied, self.log.last) or len(given.state) > STATE_BYTES_MAX:
            self._drop("snapshot refused")
            return
        membership = self.configurations.at(given.index)
        self._compact(Saved(given.index, self.log.term_at(given.index), membership, given.state))


_WITHOUT_TERM = frozenset((m.Forward, m.ForwardChange, m.AskRead, m.ReadAt))
_BALLOTS = frozenset((m.RequestVote, m.RequestPreVote))
