"""Signatures of long proofs verified over several steps, so that no step is long. Liveness.

A new view holds the view changes of a quorum, and each of those a certificate for every open place: at n = 16 with 32
batches open some 500 signatures, 60 ms of work at 0.12 ms each. What is verified here is remembered by the committee,
which then proves the message as if nothing had happened before (`proofs`); `VERIFY_MAX` are verified in a step, and a
timer of no length brings the next step. Of each sender one message of a kind waits, so a liar delays only its own.
"""

from __future__ import annotations

from policies.consensus.pbft.messages import NewView, Transferred, ViewChange
from policies.consensus.pbft.proofs import Claim, Committee
from policies.port import Port

VERIFY_MAX = 24
"""Signatures of such proofs verified in a step: 2.9 ms at 0.12 ms each; a step stays below 5 ms (our own bound)."""

Proof = ViewChange | NewView | Transferred


class Vetting:
    """What waits to be verified.

    Attributes:
        waiting: (sender, kind) to a message, and how many of its signatures are verified.
        left: how many may still be verified in this step.
    """

    def __init__(self) -> None:
        self.waiting: dict[tuple[str, str], tuple[Proof, int]] = {}
        self.left = VERIFY_MAX

    def begin(self, port: Port) -> None:
        """Take the timer."""
        self.port = port

    def begin_step(self) -> None:
        """A step begins."""
        self.left = VERIFY_MAX

    def vetted(self, sender: str, message: Proof, claims: list[Claim], committee: Committee) -> bool:
        """Verify some of a message's signatures; return whether nothing is left to verify.

        Then it is proven or refuted at once. While something is left, the timer ``vet`` is set.
        """
        key = (sender, type(message).__name__)
        known, done = self.waiting.get(key, (message, 0))
        done = done if known == message else 0
        for claim in claims[done:]:
            if not committee.known_right(claim):
                if self.left == 0:
                    self.waiting[key] = (message, done)
                    self.port.set_timer("vet", 0)
                    return False
                self.left -= 1
                if not committee.right(claim):
                    break
            done += 1
        self.waiting.pop(key, None)
        return True

    def resume(self) -> list[tuple[str, Proof]]:
        """Return what waits, with its sender; what is not asked for again is forgotten."""
        return [(sender, message) for (sender, _), (message, _) in self.waiting.items()]
