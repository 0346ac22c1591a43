"""What a check needs and nobody hands out: the leader fetches it itself, so that no worker's word for that is taken.

Whoever computes a place again needs the session's tokens and what the stage took. A worker that lacks one of them says
so, or nothing. Then the leader's own node fetches it: from whom it should be had, and, what a stage took, also from the
stage before, which gave it out and has committed to the same digests. What the leader has got it hands out in their
place, and the check goes on. What neither hands out is *withheld*.

A slow link is told from silence by pieces: who sends nothing for seconds hands out nothing (the executor says so);
who still sends after `wait_s` is ``slow``. Who was not there is for coordination to say; so a last `wait_s` passes, in
which a lease is renewed or is not.
"""

from __future__ import annotations

from typing import Any

from policies.checking.messages import Hand, Handed, Key, Unable
from policies.checking.places import Check, Missing, Place
from policies.jobs import BringJob, Done, Progress
from policies.port import NS_PER_S, Policy
from policies.wire import Message, encode

SILENT_NS = 10 * NS_PER_S
"""An executor tells before that nothing comes (after 6 s, `real_backends.blob_exchange`). Whoever may have to fetch is
waited for so long at least, or it would be blamed for the silence of another."""


class Fetching(Policy):
    """Brings blobs of checks here.

    Args:
        wait_ns: how long one is waited for.

    Attributes:
        fetch_ns: how long one is waited for that may have to fetch something first.
        checks: what is under way.
    """

    def __init__(self, wait_ns: int) -> None:
        self.wait_ns, self.fetch_ns = wait_ns, max(wait_ns, SILENT_NS)
        self.checks: dict[Key, Check] = {}

    def _lack(self, check: Check, blob: str, place: Place | None) -> bool:
        """Return whether a blob that somebody lacks will be brought here, and begin with it."""
        missing = check.lacks(blob, place) if blob else None
        if missing is None or missing.need in check.found:
            return False
        if missing.need not in check.missing:
            check.missing[missing.need] = missing
            self.port.note("fetched", owner=missing.owner)
            self._fetch(check, missing, blob, missing.owner)
        return True

    def _fetch(self, check: Check, missing: Missing, name: str, holder: str) -> None:
        place = check.places.get(missing.owner) if missing.came else None
        missing.name, missing.holder, missing.since_ns = name, holder, self.port.now
        commitment = b"" if place is None else encode(place.commitment)
        tokens = check.tokens_of(missing.blob) if place is None else place.commitment.positions
        missing.job = self.port.submit(BringJob(name, holder, check.answered.model, tokens, commitment))

    def on_job(self, job_id: int, outcome: Any) -> None:
        found = [(c, m) for c in self.checks.values() for m in c.missing.values() if m.job == job_id]
        if isinstance(outcome, Progress) or not found:
            return
        ((check, missing),) = found
        missing.job = 0
        if isinstance(outcome, Done):
            del check.missing[missing.need]
            check.found[missing.need] = missing.name, self.port.me
            self._had(check, missing)
        elif outcome.node == missing.holder:
            self._try_next(check, missing)
        else:  # this node cannot fetch anything, so nothing is known of who hands out what
            del check.missing[missing.need]
            self._cannot_tell(check, missing)

    def _on_handed(self, sender: str, check: Check, handed: Handed | Unable) -> None:
        """The neighbour upstream says what it gave to the next stage, or that it cannot."""
        for missing in check.missing.values():
            if missing.waits_for(sender):
                if isinstance(handed, Handed):
                    self._fetch(check, missing, handed.went, sender)
                else:
                    self._try_next(check, missing)

    def _try_next(self, check: Check, missing: Missing) -> None:
        missing.since_ns = self.port.now
        if missing.other and missing.holder == missing.owner:
            missing.holder = missing.other
            self._to(missing.other, Hand(check.key))
        else:
            missing.withheld = True

    def _watch(self, check: Check, missing: Missing) -> None:
        """Time passes."""
        if self.port.now - missing.since_ns <= (self.fetch_ns if missing.job else self.wait_ns):
            if missing.waits_for(missing.other):
                self._to(missing.other, Hand(check.key))
        elif missing.withheld:
            del check.missing[missing.need]
            self._withheld(check, missing)
        else:
            if missing.job:
                self.port.cancel(missing.job)
                missing.job, missing.slow = 0, missing.slow or missing.holder == missing.owner
            self._try_next(check, missing)

    # -- what the examiner makes of it ------------------------------------------------------------------

    def _had(self, check: Check, missing: Missing) -> None:
        """It is here now."""
        raise NotImplementedError

    def _withheld(self, check: Check, missing: Missing) -> None:
        """Nobody hands it out."""
        raise NotImplementedError

    def _cannot_tell(self, check: Check, missing: Missing) -> None:
        """It cannot be fetched here, whoever has it."""
        raise NotImplementedError

    def _to(self, node: str, message: Message) -> None:
        self.port.send(f"{node}/prover", message)
