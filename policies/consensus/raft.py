"""Raft: leader election, log replication, durability before acknowledging (Ongaro and Ousterhout, ATC 2014).

The log is a list of (term, command); index 1 is its first entry. Saved keys: ``meta`` holds (term, voted_for),
``00000000000i`` holds entry i. A follower's answer and a candidate's ballot leave only when what they promise
is durable (the port's horizon); the leader sends entries early, while its own disk still writes, and counts
itself only when that write is durable. Membership is fixed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

import msgspec

from policies.config import RaftConfig
from policies.consensus.messages import Append, Appended, Chosen, Elected, RequestVote, Vote
from policies.local import Committed, Leadership, Propose
from policies.port import NS_PER_S, Policy
from policies.wire import encode

APPLY_MAX = 256
"""Entries told to the state machine in one step, so that a restart does not block the node (a step stays short)."""

_meta = msgspec.msgpack.Decoder(tuple[int, str]).decode
_entry = msgspec.msgpack.Decoder(tuple[int, bytes]).decode


def majority(n: int) -> int:
    """Return the size of a majority of ``n`` members."""
    return n // 2 + 1


def quorum_index(match: list[int]) -> int:
    """Return the highest index that a majority of members has reached."""
    return sorted(match, reverse=True)[majority(len(match)) - 1]


class Raft(Policy):
    """One member. ``applier`` is the path of this node told of commits, ``watchers`` are told who leads."""

    messages = (RequestVote, Vote, Append, Appended)

    def __init__(
        self,
        config: RaftConfig,
        members: tuple[str, ...],
        applier: str = "",
        watchers: tuple[str, ...] = (),
    ) -> None:
        self.config, self.members, self.applier, self.watchers = config, members, applier, watchers
        self.heartbeat_ns = int(config.heartbeat_s * NS_PER_S)
        self.term, self.voted_for = 0, ""
        self.drawn_for, self.election_ns = -1, 0
        self.log: list[tuple[int, bytes]] = []
        self.role, self.leader = "follower", ""
        self.commit = self.applied = 0
        self.votes: set[str] = set()
        self.next: dict[str, int] = {}
        self.match: dict[str, int] = {}
        self.durable = 0  # highest own index known durable
        self.writing: dict[int, int] = {}  # save token to the last index it holds

    # -- life cycle ----------------------------------------------------------------------------------

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.others = tuple(m for m in self.members if m != self.port.me)
        if "meta" in saved:
            self.term, self.voted_for = _meta(saved["meta"])
        self.log = [_entry(saved[key]) for key in sorted(k for k in saved if k != "meta")]
        self.durable = len(self.log)
        self._arm_election()

    def on_timer(self, name: str) -> None:
        if name == "election":
            self._campaign()
        elif name == "heartbeat":
            self._beat()
        else:
            self._apply()

    def on_durable(self, token: int) -> None:
        # A driver that syncs many batches at once may name only the last; earlier ones are durable with it.
        index = max((self.writing.pop(done) for done in [t for t in self.writing if t <= token]), default=0)
        if index > self.durable and index <= len(self.log):
            self.durable = index
            if self.role == "leader":
                self._advance_commit()

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Propose) and self.role == "leader":
            self._append_own(message.command)
            self._beat()

    def on_message(self, sender: str, message: Any) -> None:
        if sender not in self.members:
            return
        if message.term > self.term:
            self._step_down(message.term)
        kind = type(message)
        if kind is Append:
            self._on_append(sender, message)
        elif kind is Appended:
            self._on_appended(sender, message)
        elif kind is RequestVote:
            self._on_request_vote(sender, message)
        elif message.granted and message.term == self.term and self.role == "candidate":
            self.votes.add(sender)
            self._count_votes()

    # -- election ------------------------------------------------------------------------------------

    def _arm_election(self) -> None:
        if self.drawn_for != self.term:  # one time-out a term, as in etcd: a draw for every heartbeat buys nothing
            self.drawn_for = self.term
            low, high = self.config.election_min_s, self.config.election_max_s
            self.election_ns = int(self.port.rng.uniform(low, high) * NS_PER_S)
        self.port.set_timer("election", self.election_ns)

    def _campaign(self) -> None:
        self.term += 1
        self.role, self.voted_for, self.votes = "candidate", self.port.me, {self.port.me}
        self._follow("")
        self._save_meta()
        self._arm_election()
        ballot = RequestVote(self.term, len(self.log), self._term_at(len(self.log)))
        for peer in self.others:
            self.port.send(peer, ballot)
        self._count_votes()

    def _count_votes(self) -> None:
        if len(self.votes) < majority(len(self.members)):
            return
        self.role = "leader"
        self.port.cancel_timer("election")
        self.port.decide("leader", Elected(self.term))
        self._follow(self.port.me)
        self.next = dict.fromkeys(self.others, len(self.log) + 1)
        self.match = dict.fromkeys(self.others, 0)
        self._append_own(b"")  # only an entry of this term may commit those before it (section 5.4.2)
        self._beat()

    def _on_request_vote(self, sender: str, ask: RequestVote) -> None:
        last = len(self.log)
        granted = (
            ask.term == self.term
            and self.voted_for in ("", sender)
            and (ask.last_term, ask.last_index) >= (self._term_at(last), last)
        )
        if granted:
            self.voted_for = sender
            self._save_meta()
            self._arm_election()
        self.port.send(sender, Vote(self.term, granted))

    def _step_down(self, term: int) -> None:
        if self.role == "leader":
            self.port.cancel_timer("heartbeat")
            self._arm_election()
        self.term, self.voted_for, self.role = term, "", "follower"
        self._save_meta()
        self._follow("")

    def _follow(self, leader: str) -> None:
        if leader != self.leader:
            self.leader = leader
            for path in self.watchers:
                self.port.tell(path, Leadership(self.term, leader))

    # -- replication, leader's side ------------------------------------------------------------------

    def _append_own(self, command: bytes) -> None:
        self.log.append((self.term, command))
        self._save_entries(len(self.log))

    def _beat(self) -> None:
        """Send every peer what is new, or nothing; the next heartbeat is due a period after the last of these."""
        self.port.set_timer("heartbeat", self.heartbeat_ns)
        for peer in self.others:
            self._replicate(peer)

    def _replicate(self, peer: str) -> None:
        start = self.next[peer]
        entries: tuple[tuple[int, bytes], ...] = ()
        if start <= len(self.log):
            entries = tuple(self.log[start - 1 : start - 1 + self.config.max_batch])
        self.next[peer] = start + len(entries)  # optimistic: a loss shows as a refusal of the next Append
        self.port.send(peer, Append(self.term, start - 1, self._term_at(start - 1), self.commit, entries), early=True)

    def _on_appended(self, sender: str, answer: Appended) -> None:
        if self.role != "leader" or answer.term != self.term:
            return
        if not answer.ok:
            self.next[sender] = max(self.match[sender], min(answer.index, len(self.log))) + 1
            self._replicate(sender)
        elif answer.index > self.match[sender]:
            self.match[sender] = answer.index
            self.next[sender] = max(self.next[sender], answer.index + 1)
            self._advance_commit()
            if self.next[sender] <= len(self.log):
                self._replicate(sender)

    def _advance_commit(self) -> None:
        index = quorum_index([self.durable, *self.match.values()])
        if index > self.commit and self.log[index - 1][0] == self.term:
            self.commit = index
            self._apply()

    # -- replication, follower's side ----------------------------------------------------------------

    def _on_append(self, sender: str, append: Append) -> None:
        if append.term < self.term:
            self.port.send(sender, Appended(self.term, False, len(self.log)))
            return
        self.role = "follower"
        self._arm_election()
        if sender != self.leader:
            self._follow(sender)
        prev, entries = append.prev_index, append.entries
        if prev > len(self.log) or self._term_at(prev) != append.prev_term:
            # Everything below the conflicting term's first entry may still agree (section 5.3).
            hint = min(len(self.log), prev - 1)
            while hint > self.commit and self.log[hint - 1][0] > append.prev_term:
                hint -= 1
            self.port.send(sender, Appended(self.term, False, hint))
            return
        if entries:
            self._accept(prev, entries)
        last = prev + len(entries)
        self.port.send(sender, Appended(self.term, True, last))
        if append.commit > self.commit and last > self.commit:
            self.commit = min(append.commit, last)
            self._apply()

    def _accept(self, prev: int, entries: tuple[tuple[int, bytes], ...]) -> None:
        """Append what is new; cut only where a term conflicts, never on an old Append that agrees."""
        for offset, entry in enumerate(entries):
            index = prev + 1 + offset
            if index <= len(self.log):
                if self.log[index - 1][0] == entry[0]:
                    continue
                for gone in range(index, len(self.log) + 1):
                    self.port.erase(f"{gone:012d}")
                del self.log[index - 1 :]
                self.durable = min(self.durable, index - 1)
                # A write still in flight no longer proves what replaced it (the append ABA race).
                self.writing = {token: min(last, index - 1) for token, last in self.writing.items()}
            first_new = len(self.log) + 1
            self.log.extend(entries[offset:])
            self._save_entries(first_new)
            return

    # -- log and state -------------------------------------------------------------------------------

    def _term_at(self, index: int) -> int:
        return self.log[index - 1][0] if 0 < index <= len(self.log) else 0

    def _save_meta(self) -> None:
        self.port.save("meta", encode((self.term, self.voted_for)))

    def _save_entries(self, first: int) -> None:
        token = 0
        for index in range(first, len(self.log) + 1):
            token = self.port.save(f"{index:012d}", encode(self.log[index - 1]))
        self.writing[token] = len(self.log)

    def _apply(self) -> None:
        until = min(self.commit, self.applied + APPLY_MAX)
        for index in range(self.applied + 1, until + 1):
            term, command = self.log[index - 1]
            self.port.decide("commit", Chosen(index, term, crc32(command)))
            if command and self.applier:
                self.port.tell(self.applier, Committed(index, term, command))
        self.applied = until
        if until < self.commit:
            self.port.set_timer("apply", 0)
