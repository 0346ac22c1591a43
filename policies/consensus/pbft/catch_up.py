"""What a peer lacks of what this member has said, by its status: messages are lost, and are said again (liveness)."""

from __future__ import annotations

from collections.abc import Iterable

from policies.consensus.pbft.messages import Checkpoint, Status
from policies.consensus.pbft.safety import Voter
from policies.wire import Message

REPEAT_MAX = 8
"""Places, requests or batches for which a member repeats itself in one period (our own bound)."""


def lacked(voter: Voter, status: Status, said: Iterable[Checkpoint], stuck: bool) -> list[Message]:
    """Return what to tell a peer again.

    Args:
        voter: this member's votes.
        status: where the peer stands.
        said: this member's newest checkpoints.
        stuck: the peer has not moved since it last spoke; only then are votes repeated.
    """
    answers: list[Message] = []
    if voter.newest is not None and voter.newest.view > status.view - (not status.active):
        answers.append(voter.newest)
    if voter.stable.point.seq > status.stable:
        answers.append(voter.stable)
    if stuck:
        answers += [checkpoint for checkpoint in said if checkpoint.point.seq > status.stable]
    if stuck and voter.active and status.view == voter.view:
        places = [seq for seq in sorted(voter.slots) if seq > status.executed][:REPEAT_MAX]
        answers += [vote for seq in places for vote in voter.repeated(seq)]
    return answers
