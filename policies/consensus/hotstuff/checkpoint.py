"""Checkpoints: when so many have signed the same state that older blocks may be forgotten.

A member signs the digest of its state machine's snapshot, the first in each ``every`` commands. A quorum makes it
stable. State machines that take snapshots at the same indices come to equal digests, or one of them has gone astray.
Where a log orders much that is no command, it asks for snapshots at heights: each of those is signed.
"""

from __future__ import annotations

from policies.consensus.hotstuff.messages import CheckpointVote, StableCheckpoint
from policies.consensus.quorum import byzantine_quorum

SNAPSHOTS_MAX = 2
"""Own snapshots kept that are not stable yet; the older goes first."""

Place = tuple[int, int]
"""A snapshot's place in the log: its index, and the height of the block on which it stands."""


class Checkpoints:
    """One member's checkpoints.

    Args:
        every: commands from one checkpoint to the next.

    Attributes:
        mine: own snapshots that are signed and not stable yet, by place.
        last: index of the last one signed.
        votes: the newest vote of each member.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.mine: dict[Place, bytes] = {}
        self.last = 0
        self.votes: dict[str, CheckpointVote] = {}

    def due(self, index: int) -> bool:
        """Whether a snapshot at ``index`` is the first in its stretch of ``every`` commands."""
        return index // self.every > self.last // self.every

    def keep(self, place: Place, state: bytes) -> None:
        """Keep an own snapshot until it is stable."""
        self.mine[place], self.last = state, place[0]
        if len(self.mine) > SNAPSHOTS_MAX:
            del self.mine[min(self.mine)]

    def add(self, voter: str, vote: CheckpointVote, members: tuple[str, ...]) -> StableCheckpoint | None:
        """Take in a verified vote; return the checkpoint that it makes stable."""
        before = self.votes.get(voter)
        if before is not None and place_of(before) >= place_of(vote):
            return None
        self.votes[voter] = vote
        return self._made(vote, members)

    def at(self, place: Place, members: tuple[str, ...]) -> StableCheckpoint | None:
        """Return the checkpoint there that votes have made stable, if any: they may come before the state."""
        made = (self._made(vote, members) for vote in self.votes.values() if place_of(vote) == place)
        return next((checkpoint for checkpoint in made if checkpoint is not None), None)

    def _made(self, vote: CheckpointVote, members: tuple[str, ...]) -> StableCheckpoint | None:
        said, quorum = _said(vote), byzantine_quorum(len(members))
        same = [(m, v.signature) for m in members if (v := self.votes.get(m)) and _said(v) == said]
        if len(same) < quorum:
            return None
        return StableCheckpoint(
            vote.epoch, vote.index, vote.first, vote.height, vote.block, vote.state, tuple(same[:quorum])
        )  # fmt: skip

    def drop(self, place: Place) -> None:
        """Forget own snapshots that a stable checkpoint has overtaken."""
        self.mine = {at: state for at, state in self.mine.items() if at > place}
        self.last = max(self.last, place[0])


def place_of(point: CheckpointVote | StableCheckpoint) -> Place:
    """Return where a checkpoint stands."""
    return point.index, point.height


def _said(vote: CheckpointVote) -> tuple[int, int, int, int, bytes, bytes]:
    return vote.epoch, vote.index, vote.first, vote.height, vote.block, vote.state
