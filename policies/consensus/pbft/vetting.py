"""Signatures of long proofs verified, and made, over several steps, so that no step is long. Liveness.

A new view holds the view changes of a quorum, and each of those a certificate for every open place: at n = 16 with 40
places open 732 different signatures, 88 ms of work at 0.12 ms each. What is verified here is remembered by the
committee, which then proves the message as if nothing had happened before (`proofs`); `SIGNATURES_MAX` are verified or
made in a step, and a timer of no length brings the next step. Of each sender one message of a kind waits, so a liar
delays only its own.
"""

from __future__ import annotations

from collections.abc import Callable

from policies.consensus.pbft.messages import NewView, Transferred, ViewChange
from policies.consensus.pbft.proofs import Claim, Committee
from policies.port import Port

SIGNATURES_MAX = 16
"""Signatures of such proofs in a step: 1.9 ms at 0.12 ms each; with the votes that may follow a step stays below 5 ms
(our own bound)."""

Proof = ViewChange | NewView | Transferred


class Vetting:
    """What waits to be verified.

    Attributes:
        waiting: (sender, kind) to a message, and its signatures that are not verified yet.
        made: own pre-prepares of a new view that is being made, (view, seq, digest) to signature.
        left: how many may still be verified or made in this step.
    """

    def __init__(self) -> None:
        self.waiting: dict[tuple[str, str], tuple[Proof, list[Claim]]] = {}
        self.made: dict[tuple[int, int, bytes], bytes] = {}
        self.left = SIGNATURES_MAX

    def begin(self, port: Port) -> None:
        """Take the timer."""
        self.port = port

    def begin_step(self) -> None:
        """A step begins."""
        self.left = SIGNATURES_MAX

    def vetted(self, sender: str, message: Proof, claims: Callable[[], list[Claim]], committee: Committee) -> bool:
        """Verify some of a message's signatures, ``claims``; return whether nothing is left to verify.

        Then it is proven or refuted at once. While something is left, the timer ``vet`` is set.
        """
        key = (sender, type(message).__name__)
        known, rest = self.waiting.get(key, (None, []))
        if known != message:
            rest = claims()
        for done, claim in enumerate(rest):
            if not committee.known_right(claim):
                if self.left == 0:
                    self.waiting[key] = (message, rest[done:])
                    self.port.set_timer("vet", 0)
                    return False
                self.left -= 1
                if not committee.right(claim):
                    break
        self.waiting.pop(key, None)
        return True

    def signed(self, view: int, places: list[tuple[int, bytes]], committee: Committee) -> tuple[bytes, ...] | None:
        """Sign what a new view proposes again; return the signatures once there are all, None before."""
        if any(place[0] != view for place in self.made):
            self.made.clear()
        for seq, digest in places:
            if (view, seq, digest) not in self.made:
                if self.left == 0:
                    self.port.set_timer("vet", 0)
                    return None
                self.left -= 1
                self.made[view, seq, digest] = committee.sign("pre-prepare", view, seq, digest)
        return tuple(self.made[view, seq, digest] for seq, digest in places)

    def forget(self, before: dict[tuple[str, str], tuple[Proof, list[Claim]]]) -> None:
        """Forget what waited ``before`` and was not asked for since: nobody needs it any more."""
        for key, entry in before.items():
            if self.waiting.get(key) is entry:
                del self.waiting[key]
