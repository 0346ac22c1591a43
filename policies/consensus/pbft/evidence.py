"""Evidence: a member's signatures of two digests at one place of one view, which anybody can verify.

A correct member accepts one digest at a place of a view, durably before it says so, and whatever it signs there names
that one: as the primary its pre-prepare, as a backup its prepare, and its commit (`safety`, rules 1 and 2; a new view
proposes again at new places of its own number). So no correct member ever signs two, whichever kinds they are of. What
is reported carries both signatures and the committee's name, so that nobody can be accused by words, and nobody needs
to know the committee to judge.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from policies.consensus.pbft.messages import NewView
from policies.consensus.pbft.proofs import Committee, again, statement
from policies.wire import Message

Verify = Callable[[str, bytes, bytes], bool]  # `policies.port.Keys.verify`
Kind = Literal["pre-prepare", "prepare", "commit"]
Said = tuple[Kind, bytes, bytes]
"""Of one place in one view: (kind, digest, signature)."""
Statement = tuple[str, Kind, int, int, bytes, bytes]
"""(member, kind, view, seq, digest, signature)."""


class Evidence(Message, frozen=True, tag="pbft_evidence"):
    """Decided: ``culprit`` signed two digests at a place. `proves` verifies it; ``committee`` is `Committee.name`."""

    culprit: str
    committee: bytes
    view: int
    seq: int
    first: Said
    second: Said


_evidence = msgspec.msgpack.Decoder(Evidence).decode


def proves(evidence: Evidence, verify: Verify) -> bool:
    """Whether ``evidence`` shows that its culprit signed two digests at one place of one view of one committee."""

    def signed(said: Said) -> bool:
        kind, digest, signature = said
        data = statement(kind, evidence.committee, evidence.view, evidence.seq, digest)
        return verify(evidence.culprit, data, signature)

    return evidence.first[1] != evidence.second[1] and signed(evidence.first) and signed(evidence.second)


def convicts(data: bytes, verify: Verify) -> str:
    """Return whom encoded evidence proves guilty, "" if nobody."""
    try:
        evidence = _evidence(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""
    return evidence.culprit if proves(evidence, verify) else ""


def statements(new: NewView, committee: Committee) -> list[Statement]:
    """Return what members signed at places of the log, as a proven new view shows it."""
    found: list[Statement] = []
    for p in [p for change in new.changes for p in change.prepared]:
        found.append((committee.primary(p.view), "pre-prepare", p.view, p.seq, p.digest, p.signature))
        found += [(name, "prepare", p.view, p.seq, p.digest, signature) for name, signature in p.prepares]
    for (seq, digest), signature in zip(again(new.changes)[1], new.again, strict=True):
        found.append((committee.primary(new.view), "pre-prepare", new.view, seq, digest, signature))
    return found


class Witness:
    """Remembers what members of one epoch were heard to sign, and finds the contradiction.

    Of each member one statement a place is remembered, of the newest view. Signatures are verified only where two
    statements contradict each other, so that what comes too late to be counted costs next to nothing.

    Args:
        committee: of the epoch.
        window: places that can be open; as many are remembered of each member, the lowest is forgotten first.

    Attributes:
        seen: member to place to (view, statement).
        accused: members that were reported; once is enough.
    """

    def __init__(self, committee: Committee, window: int) -> None:
        self.committee, self.window = committee, window
        self.seen: dict[str, dict[int, tuple[int, Said]]] = {}
        self.accused: set[str] = set()

    def saw(self, heard: Statement) -> Evidence | None:
        """Take in what a member says that it signed, at an open place and in no future view.

        Returns:
            Evidence, if it contradicts what the member signed before and both signatures are right.
        """
        member, kind, view, seq, digest, signature = heard
        if member in self.accused or member not in self.committee.members:
            return None
        places, said = self.seen.setdefault(member, {}), (kind, digest, signature)
        before, first = places.get(seq, (-1, said))
        if before < view:
            places[seq] = (view, said)
            if len(places) > self.window:
                del places[min(places)]
            return None
        if before > view or first[1] == digest or not self._signed(member, view, seq, said):
            return None
        if not self._signed(member, view, seq, first):
            places[seq] = (view, said)  # what was heard first was nothing
            return None
        self.accused.add(member)
        return Evidence(member, self.committee.name, view, seq, first, said)

    def _signed(self, member: str, view: int, seq: int, said: Said) -> bool:
        kind, digest, signature = said
        return self.committee.verify(member, signature, kind, view, seq, digest)
