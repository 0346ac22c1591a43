"""Raft with one rule left out, each a published bug: what a hunt among a committee's faults must find.

Each names where it was met; the rules themselves are in Ongaro and Ousterhout (2014). A vote that is forgotten or sent
too early is left to exhaustive exploration (`sim.explore`): chance all but never meets it.
"""

from __future__ import annotations

from typing import Any

from policies.consensus.messages import RequestVote
from policies.consensus.raft import Raft


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
    "half_is_a_quorum": HalfIsAQuorum,
    "ignores_the_log": IgnoresTheLog,
    "cuts_on_every_append": CutsOnEveryAppend,
}
