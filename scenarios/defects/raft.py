"""Raft with one rule left out, each a published bug: what a hunt among a committee's faults must find.

Each names where it was met; the rules themselves are in Ongaro and Ousterhout (2014). A vote that is forgotten or sent
too early is left to exhaustive exploration (`sim.explore`): chance all but never meets it.
"""

from __future__ import annotations

from typing import Any

from policies.consensus.raft import Raft


class HalfIsAQuorum(Raft):
    """Half of the members elect a leader, and a minority commits: two leaders meet in a partition."""

    def _result(self, votes: dict[str, bool]) -> str:
        return "won" if 2 * sum(votes.values()) >= len(self.members) - 1 else super()._result(votes)


class IgnoresTheLog(Raft):
    """A vote goes to whoever asks first, however short its log: what was committed is lost (openraft, a48a3282)."""

    def _up_to_date(self, last_term: int, last_index: int) -> bool:
        return True


class CutsOnEveryAppend(Raft):
    """An old append cuts the log behind its last entry although nothing conflicts (willemt/raft, issue 118)."""

    def _accept(self, prev: int, entries: tuple[tuple[int, bytes], ...]) -> None:
        super()._accept(prev, entries)
        self._truncate(prev + len(entries))


DEFECTS: dict[str, Any] = {
    "half_is_a_quorum": HalfIsAQuorum,
    "ignores_the_log": IgnoresTheLog,
    "cuts_on_every_append": CutsOnEveryAppend,
}
