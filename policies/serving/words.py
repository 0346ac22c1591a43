"""Who leads, by the newest words of a committee's members, of whom f may lie.

A member says that it leads itself (a lease, work), or points to another one. One word is believed at the worker's own
risk, while it looks for a leader; the words of f + 1 are believed against whoever else says that it leads, for one of
them is a correct member's. Words grow old: who led a while ago has a while ago's words. So a worker asks f other
members at each renewal (`next_asked`), all of them in turn, and no liar holds it longer than a round.
"""

from __future__ import annotations

from typing import NamedTuple


class Word(NamedTuple):
    """What a member said last, and when."""

    at_ns: int
    leader: str


class Words:
    """The newest word of each member.

    Args:
        every_ns: how often f members are asked.

    Attributes:
        said: by member.
        asked: how many have been asked in all.
    """

    def __init__(self, every_ns: int) -> None:
        self.every_ns = every_ns
        self.said: dict[str, Word] = {}
        self.asked = 0

    def hear(self, sender: str, leader: str, now_ns: int) -> None:
        """Take in what a member says of who leads."""
        self.said[sender] = Word(now_ns, leader)

    def named(self, members: tuple[str, ...], faults: int, now_ns: int) -> str:
        """Return whom ``faults + 1`` of these members have named lately, "" for nobody.

        Of two, the one whose last word that was needed is newer: a correct leader's follow it at once.
        """
        oldest_ns = now_ns - self.lasts_ns(members, faults)
        by: dict[str, list[int]] = {}
        for member in members:
            word = self.said.get(member)
            if word is not None and word.at_ns >= oldest_ns and word.leader in members:
                by.setdefault(word.leader, []).append(word.at_ns)
        enough = {leader: sorted(times)[-1 - faults] for leader, times in by.items() if len(times) > faults}
        return max(enough, key=lambda leader: (enough[leader], leader), default="")

    def lasts_ns(self, members: tuple[str, ...], faults: int) -> int:
        """Return how long a word counts: every other member is asked in that time, and once more may be lost."""
        turns = -(-(len(members) - 1) // max(faults, 1))
        return (turns + 1) * self.every_ns

    def next_asked(self, members: tuple[str, ...], faults: int, leader: str) -> list[str]:
        """Return the ``faults`` members whose turn it is, ``leader`` left out."""
        others = [member for member in members if member != leader]
        turn = [others[(self.asked + k) % len(others)] for k in range(min(faults, len(others)))]
        self.asked += len(turn)
        return turn

    def keep(self, members: tuple[str, ...]) -> None:
        """Forget what others than these have said."""
        self.said = {member: word for member, word in self.said.items() if member in members}
