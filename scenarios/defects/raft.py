"""Raft with one rule left out, each a published bug: what a hunt among a committee's faults must find.

The comments name where each was met: see Ongaro and Ousterhout (2014) for the rules themselves.
"""

from __future__ import annotations

from typing import Any

from policies.consensus.messages import RequestVote, Vote
from policies.consensus.raft import Raft
from policies.wire import encode


class ForgetsItsVote(Raft):
    """The term is durable, the vote is not: after a restart a member votes again in one term (raftos, issue 26)."""

    def _save_meta(self) -> None:
        self.port.save("meta", encode((self.term, "")))


class VotesBeforeDurable(Raft):
    """A vote leaves before it is on disk: a crash in between takes it back (etcd, issue 14370)."""

    def _on_request_vote(self, sender: str, ask: RequestVote) -> None:
        before, last = self.voted_for, len(self.log)
        fresh = (ask.last_term, ask.last_index) >= (self._term_at(last), last)
        if ask.term == self.term and before in ("", sender) and fresh:
            self.voted_for = sender
            self._save_meta()
            self._arm_election()
            self.port.send(sender, Vote(self.term, True), early=True)
        else:
            self.port.send(sender, Vote(self.term, False))


class HalfIsAQuorum(Raft):
    """Half of the members elect a leader, and a minority commits: two leaders meet in a partition."""

    def _count_votes(self) -> None:
        if self.role == "candidate" and 2 * len(self.votes) >= len(self.members) - 1:
            self.votes |= set(self.members)
            super()._count_votes()


class IgnoresTheLog(Raft):
    """A vote goes to whoever asks first, however short its log: what was committed is lost (openraft, a48a3282)."""

    def _on_request_vote(self, sender: str, ask: RequestVote) -> None:
        longest = RequestVote(ask.term, max(ask.last_index, len(self.log)), max(ask.last_term, self._last_term()))
        super()._on_request_vote(sender, longest)

    def _last_term(self) -> int:
        return self._term_at(len(self.log))


class CutsOnEveryAppend(Raft):
    """An old append cuts the log behind its last entry although nothing conflicts (willemt/raft, issue 118)."""

    def _accept(self, prev: int, entries: tuple[tuple[int, bytes], ...]) -> None:
        super()._accept(prev, entries)
        last = prev + len(entries)
        for gone in range(last + 1, len(self.log) + 1):
            self.port.erase(f"{gone:012d}")
        del self.log[last:]
        self.durable = min(self.durable, last)
        self.writing = {token: min(index, last) for token, index in self.writing.items()}


DEFECTS: dict[str, Any] = {
    "forgets_its_vote": ForgetsItsVote,
    "votes_before_durable": VotesBeforeDurable,
    "half_is_a_quorum": HalfIsAQuorum,
    "ignores_the_log": IgnoresTheLog,
    "cuts_on_every_append": CutsOnEveryAppend,
}
