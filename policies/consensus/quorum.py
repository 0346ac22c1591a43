"""The mathematics of quorums: majorities, two majorities at once, and quorums among liars; pure functions.

Raft counts majorities (Ongaro and Ousterhout, ATC 2014). While its members change it needs a majority of the new
members and a majority of the old ones (section 6: joint consensus), so every question here is asked of both halves of
a `Voters`. Byzantine protocols count so that any two quorums share a correct member (Castro and Liskov, OSDI 1999).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from policies.wire import Message

Result = Literal["won", "lost", "pending"]

INDEX_MAX = 2**63 - 1
"""The largest int64: what nobody constrains."""


class Voters(Message, frozen=True):
    """Whose agreement counts.

    Attributes:
        incoming: the members, or the new ones while they change.
        outgoing: the old members while they change; then the configuration is joint.

    Raises:
        ValueError: a half names a member twice, who would be counted twice.
    """

    incoming: tuple[str, ...]
    outgoing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, half in (("incoming", self.incoming), ("outgoing", self.outgoing)):
            if len(set(half)) < len(half):
                raise ValueError(f"voters.{name}: {half!r} names a member twice; every voter counts once")

    @property
    def joint(self) -> bool:
        """Whether two majorities are asked."""
        return bool(self.outgoing)


def majority(n: int) -> int:
    """Return the size of a majority of ``n`` members."""
    return n // 2 + 1


def quorum_index(match: Iterable[int]) -> int:
    """Return the highest index that a majority of members has reached; ``match`` holds one index a member."""
    ordered = sorted(match)
    return ordered[-majority(len(ordered))]


def committed_index(voters: Voters, acked: Mapping[str, int]) -> int:
    """Return the highest index that a majority of each half has acknowledged (sections 5.3 and 6).

    Args:
        voters: who counts; anybody else in ``acked`` does not.
        acked: member to the highest index it has durably; who is missing has nothing, 0.

    Returns:
        The index; `INDEX_MAX` where there is no voter at all, for an empty half constrains nothing.
    """
    held, committed = acked.get, INDEX_MAX
    for half in (voters.incoming, voters.outgoing):  # asked for every acknowledgement, so in plain steps
        if half and (index := quorum_index([held(name, 0) for name in half])) < committed:
            committed = index
    return committed


def vote_result(voters: Voters, votes: Mapping[str, bool]) -> Result:
    """Return whether an election, or any question put to all, is decided (sections 5.2 and 6).

    Args:
        voters: who counts; anybody else in ``votes`` does not.
        votes: member to its answer; who is missing has not answered.

    Returns:
        ``won`` if a majority of each half said yes, ``lost`` if one half cannot say yes any more, else ``pending``.
        Without a voter it is won, for an empty half constrains nothing.
    """
    pending = False
    for half in (voters.incoming, voters.outgoing):
        if not half:
            continue
        needed = majority(len(half))
        answers = [votes.get(name) for name in half]
        if len(half) - answers.count(False) < needed:
            return "lost"
        pending = pending or answers.count(True) < needed
    return "pending" if pending else "won"


def faults(n: int) -> int:
    """Return how many of ``n`` members may lie: the largest f with n >= 3f + 1 (Castro and Liskov 1999, section 3).

    Raises:
        ValueError: there is no member.
    """
    if n < 1:
        raise ValueError(f"members: {n} of them cannot agree; at least 1 is needed")
    return (n - 1) // 3


def byzantine_quorum(n: int) -> int:
    """Return the size of a quorum of ``n`` members of whom `faults` may lie: n - f, which is 2f + 1 where n = 3f + 1.

    It is the most that one may wait for, as f may never answer, and it is enough: two quorums share at least
    n - 2f >= f + 1 members, so a correct one (Malkhi and Reiter 1998, dissemination quorums).

    Raises:
        ValueError: there is no member.
    """
    return n - faults(n)
