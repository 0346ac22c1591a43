"""Evidence: two signed votes of one member in one view, which anybody can verify and no correct member ever gives.

A proposal counts as its leader's vote. A member remembers a few signatures of each other one and compares; what it
reports carries both signatures, so that nobody can be accused by words.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from policies.consensus.hotstuff.certificates import vote_bytes
from policies.consensus.hotstuff.messages import Evidence
from policies.port import Keys

Verify = Callable[[str, bytes, bytes], bool]  # `policies.port.Keys.verify`
VIEWS_MAX = 64
"""Views remembered of each member; the lowest is forgotten first."""
AHEAD_MAX = VIEWS_MAX // 4
"""Views beyond ours that are remembered at most: a liar would else fill its own memory, or that of a leader whose vote
it says it saw, with views that never come, and no later vote would be remembered (our bound)."""


_evidence = msgspec.msgpack.Decoder(Evidence).decode


def proves(evidence: Evidence, verify: Verify) -> bool:
    """Whether ``evidence`` shows that its culprit signed two blocks in one view of one epoch of one log."""
    (block, signature), (other, its_signature) = evidence.first, evidence.second
    log, epoch, view = evidence.log, evidence.epoch, evidence.view
    return (
        block != other
        and verify(evidence.culprit, vote_bytes(log, epoch, view, block), signature)
        and verify(evidence.culprit, vote_bytes(log, epoch, view, other), its_signature)
    )


def convicts(data: bytes, verify: Verify) -> str:
    """Return whom encoded evidence proves guilty, "" if nobody."""
    try:
        evidence = _evidence(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    return evidence.culprit if proves(evidence, verify) else ""


class Witness:
    """Remembers what votes of one epoch of a log were heard, and finds the contradiction.

    Signatures are verified only where two votes contradict each other, so a vote that comes too late to be counted
    costs nothing and is remembered all the same.

    Attributes:
        seen: member to view to (block, signature).
        accused: members that were reported; once is enough.
    """

    def __init__(self, log: bytes) -> None:
        self.log = log
        self.seen: dict[str, dict[int, tuple[bytes, bytes]]] = {}
        self.accused: set[str] = set()

    def saw(self, voter: str, epoch: int, view: int, block: bytes, signature: bytes, keys: Keys) -> Evidence | None:
        """Take in a member's vote, verified or not; return evidence if it contradicts an earlier one."""
        views = self.seen.get(voter)
        if views is None:
            views = self.seen[voter] = {}
        first = views.get(view)
        if first is None:
            views[view] = (block, signature)
            if len(views) > VIEWS_MAX:
                del views[min(views)]
            return None
        if first[0] == block or voter in self.accused:
            return None
        evidence = Evidence(voter, self.log, epoch, view, first, (block, signature))
        if proves(evidence, keys.verify):
            self.accused.add(voter)
            return evidence
        if view in views and keys.verify(voter, vote_bytes(self.log, epoch, view, block), signature):
            views[view] = (block, signature)  # what was heard first was no vote at all
        return None
