"""Promises that hold although some members lie: what correct members sign, certify, lock, blame and checkpoint.

They listen to what is sent, through a protocol's `scenarios.checks.votes.Reading`. Numbers S13 to S19 are those of
`docs/consensus_checks.md`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from policies.wire import digest
from scenarios.checks.consensus import ELECTED
from scenarios.checks.language import Check, Each, Event, Sometimes, Topic, said
from scenarios.checks.votes import Reading

SAID = said("consensus")
EVIDENCE = Topic("consensus", "evidence", msgspec.msgpack.decode)
"""Somebody is accused: whatever the message, its first field names the culprit."""
RESTORED = Topic("consensus", "restore", msgspec.msgpack.decode)
"""Somebody took over a state, instead of applying commands."""


def quorum(n: int) -> int:
    """Return how many of ``n`` members, f = (n - 1) // 3 of them faulty, make a quorum."""
    return n - (n - 1) // 3


class CertificatesHaveQuorums(Check):
    """A certificate that a correct member shows has a quorum of different signers, all of them members (S13).

    Args:
        members: who may sign.
        reading: of the protocol's messages.
        size: how many of them are members at a time, where they change.
    """

    def __init__(self, members: Collection[str], reading: Reading, size: int = 0) -> None:
        super().__init__("certificates_have_quorums", SAID)
        self.members, self.reading = frozenset(members), reading
        self.quorum = quorum(size or len(self.members))
        self.judged: Any = None  # the last message: what is said to all is judged once

    def take(self, event: Event) -> str:
        message = event.value[1]
        if message is self.judged:
            return ""
        self.judged = message
        for words, number, signers in self.reading.certified(message):
            if not number and not signers:
                continue  # what all begin with
            if strangers := sorted(set(signers) - self.members):
                return f"{event.node} shows {words} with a signature of {strangers[0]}, who is no member"
            different = len(set(signers))
            if different < len(signers) or different < self.quorum:
                return f"{event.node} shows {words} with {len(signers)} signatures of {different} members"
        return ""


class NoDoubleVote(Check):
    """A correct member votes for one thing in a view, in all its lives together (S14).

    What a member says before a crash it has promised: a restart forgets nothing here.
    """

    def __init__(self, reading: Reading) -> None:
        super().__init__("no_double_vote", SAID)
        self.reading = reading
        self.first: dict[tuple[str, object], object] = {}

    def take(self, event: Event) -> str:
        ballot = self.reading.ballot(event.node, *event.value)
        if ballot is None or self.first.setdefault((event.node, ballot.about), ballot.for_) == ballot.for_:
            return ""
        first, now = (_short(one) for one in (self.first[event.node, ballot.about], ballot.for_))
        return f"{event.node} votes for {now} in {ballot.about}, it voted for {first}"


def _short(value: object) -> str:
    return digest(value)[:8] if isinstance(value, bytes) else str(value)


class LockIsKept(Check):
    """Who voted for a block at the end of two certificates in a row is locked on the first of the blocks that they
    certify: it votes for nothing that neither extends it nor shows a certificate of a later view (S15).

    The rule of the three-chain (Yin et al., PODC 2019, algorithm 4); only blocks of correct leaders are known here, so
    a vote for another, or across a gap, is not judged.
    """

    def __init__(self, reading: Reading) -> None:
        super().__init__("lock_is_kept", SAID)
        self.reading = reading
        self.parent: dict[tuple[int, int], int] = {}  # (epoch, view) of a block to the view of its certificate
        self.lock: dict[tuple[str, int], int] = {}  # (member, epoch) to the view of the block that it is locked on

    def take(self, event: Event) -> str:
        message = event.value[1]
        block = self.reading.proposed(message)
        if block is not None:
            self.parent.setdefault((block.epoch, block.view), block.parent)
        voted = self.reading.voted(message)
        if voted is None or voted not in self.parent:
            return ""
        epoch, view = voted
        certificate, lock = self.parent[voted], self.lock.get((event.node, epoch), -1)
        if certificate <= lock and not self._extends(epoch, certificate, lock):
            return f"{event.node}, locked on view {lock}, votes in view {view} for a certificate of view {certificate}"
        self.lock[event.node, epoch] = max(lock, self.parent.get((epoch, certificate), -1))
        return ""

    def _extends(self, epoch: int, view: int, lock: int) -> bool:
        """Whether the block of ``view`` has that of ``lock`` below it, or may have it, as far as is known."""
        while view > lock:
            if (epoch, view) not in self.parent:
                return True
            view = self.parent[epoch, view]
        return view == lock


def blames_only(faulty: Collection[str]) -> Each:
    """Evidence names the faulty only (S16)."""

    def wrong(event: Event) -> str:
        culprit = event.value[1]
        return "" if culprit in faulty else f"{event.node} accuses {culprit}, who did nothing"

    return Each("blames_only_the_faulty", EVIDENCE, wrong=wrong)


class CheckpointsAgree(Check):
    """Correct members have one state at one checkpoint's place (S19); its quorum is asked with the certificates."""

    def __init__(self, reading: Reading) -> None:
        super().__init__("checkpoints_agree", SAID)
        self.reading = reading
        self.first: dict[object, tuple[str, bytes]] = {}

    def take(self, event: Event) -> str:
        for at, state in self.reading.checkpointed(event.value[1]):
            node, first = self.first.setdefault(at, (event.node, state))
            if state != first:
                return f"{event.node} and {node} differ in their state at {at}"
        return ""


def safety(members: Collection[str], faulty: Collection[str], reading: Reading, size: int = 0) -> tuple[Check, ...]:
    """Return what no coalition of f members may break, apart from `scenarios.checks.consensus.safety`.

    ``size``: how many of ``members`` are members at a time, where they change.
    """
    return (
        CertificatesHaveQuorums(members, reading, size), NoDoubleVote(reading), blames_only(faulty),
        CheckpointsAgree(reading),
    )  # fmt: skip


def rare(*, evidence: bool = True) -> tuple[Check, ...]:
    """Return what a campaign with liars must have seen; ``evidence``: the protocol announces equivocations."""
    seen = (Sometimes("an_equivocation_was_seen", EVIDENCE, when=lambda e: True),) if evidence else ()
    return (
        Sometimes("a_view_change", ELECTED, when=lambda e: e.value.term > 1),
        Sometimes("a_snapshot_was_installed", RESTORED, when=lambda e: True), *seen,
    )  # fmt: skip
