"""Who is held to be what: a table whose entries only grow, so that gossip in any order ends in one table.

An entry is (incarnation, status), compared in that order: of one life, dead outweighs suspect outweighs alive, and only
the member itself begins a new life, by which it refutes whatever was said of the last one (SWIM, section 4.2). The
paper lets "dead" outweigh every suspicion; here a suspicion of a later life outweighs it, for there was such a life.

A life that is further ahead than `JUMP_MAX` never was: it is not taken in of anybody but the member itself, and where
it was, of whoever told it first, the member's own word of an earlier one stands against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from policies.membership.messages import ALIVE, DEAD, JUMP_MAX, STATUSES, SUSPECT, Update

Entry = tuple[int, int]  # incarnation, status


class Table:
    """One member's view of the group.

    Args:
        members: who is expected from the start; held alive until shown otherwise.
        names_max: names that are remembered at most; further ones are not taken in.
    """

    def __init__(self, members: Iterable[str], names_max: int) -> None:
        self.entries: dict[str, Entry] = {name: (0, ALIVE) for name in members}
        self.names_max = names_max

    def learn(self, member: str, incarnation: int, status: int, own: bool = False) -> bool:
        """Take in an update, a member's ``own`` word or another's; returns whether it was news."""
        if not 0 <= status < len(STATUSES) or incarnation < 0:
            return False
        known = self.entries.get(member)
        if known is None and len(self.entries) >= self.names_max:
            return False
        if known is not None and not self._outweighs((incarnation, status), known, own):
            return False
        self.entries[member] = (incarnation, status)
        return True

    def _outweighs(self, said: Entry, known: Entry, own: bool) -> bool:
        if said <= known:
            return own and known[0] > said[0] + JUMP_MAX
        return own or not 0 < known[0] < said[0] - JUMP_MAX

    def of(self, *statuses: int) -> list[str]:
        """Return the members of these statuses, in the order in which they became known."""
        return [name for name, (_, status) in self.entries.items() if status in statuses]

    def __len__(self) -> int:
        """How many are not held dead."""
        return len(self.of(ALIVE, SUSPECT))

    def updates(self, by: str, of: Mapping[str, str]) -> tuple[Update, ...]:
        """Return the whole table as updates, said by others where ``of`` has a member's name, and else ``by``."""
        return tuple((name, life, status, of.get(name, by)) for name, (life, status) in self.entries.items())


def softened(update: Update) -> Update:
    """Return an update with "dead" turned into "suspect": in a table of somebody who was cut off, hold it open to
    refutation (memberlist's ``mergeState`` does the same)."""
    member, incarnation, status, by = update
    return (member, incarnation, SUSPECT if status == DEAD else status, by)
