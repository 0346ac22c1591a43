"""Safety, whole: when a member may vote, what it is locked on, and when a block is committed. Nothing here waits.

The commit rule is a parameter: with ``chain`` c a block is committed by certificates of it and of its c - 1 direct
descendants in consecutive views.

chain=3 is chained HotStuff (Yin et al., PODC 2019, algorithms 4 and 5). A member is locked on the newest block that it
saw certified twice over (the head of a two-chain), and votes for a block that extends its lock or whose certificate is
of a later view than its lock. Why it is safe: who voted for the third block of a chain was locked on the first.

chain=2 is Jolteon's rule, which is DiemBFT v4's (Gelashvili et al., FC 2022, section 4). A member votes for a block
whose certificate is of the view just before, or which comes with a time-out certificate and extends a block at least
as high as the highest that any signer of it reported. Why it is safe: who voted for the second block of a chain had
seen the first one's certificate, and reports it when it gives a later term up; any two quorums share such a one. Its
lock is the highest certificate, and that report is how the lock is kept: without a third chain nothing else could
open a lock that only one member knows.

Whoever gives a term up votes in none of its views any more: else a certificate for the term's end could miss a block
that was committed in the term after it was signed.

What must be durable before a vote or a time-out leaves: all of this object's fields (`saved`). A correct member signs
at most one block a view, in every life.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from policies.consensus.hotstuff.messages import Block, Certificate, TimeOutCertificate
from policies.consensus.hotstuff.tree import Tree
from policies.wire import encode

_saved = msgspec.msgpack.Decoder(tuple[int, bytes, Certificate, Certificate]).decode


class Safety:
    """One member's promises.

    Args:
        chain: certificates in a row that commit a block.
        tenure: views of a term.
        root: certificate of the block from which the epoch starts.
        start_view: the epoch's first view.

    Attributes:
        voted: the last view in which it voted or has promised not to.
        voted_block: what it voted for there, b"" for nothing.
        high: the highest certificate whose block it holds.
        lock: certificate of the block on which it is locked.
    """

    def __init__(self, chain: Literal[2, 3], tenure: int, root: Certificate, start_view: int) -> None:
        self.chain, self.tenure, self.root, self.start_view = chain, tenure, root, start_view
        self.voted, self.voted_block = start_view - 1, b""
        self.high = self.lock = root

    def follows(self, block: Block, tc: TimeOutCertificate | None) -> bool:
        """Whether the block's view is entered by its certificate, by the epoch's start, or by ``tc``, verified."""
        if block.qc.view + 1 == block.view or (block.view == self.start_view and block.qc.block == self.root.block):
            return True
        return tc is not None and (tc.term + 1) * self.tenure == block.view

    def may_vote(self, block: Block, tc: TimeOutCertificate | None, tree: Tree) -> bool:
        """Whether a well-formed block, whose certificates are verified and whose parent is held, may have our vote."""
        if block.view <= self.voted or block.qc.view >= block.view or not self.follows(block, tc):
            return False
        if self.chain == 3:
            lock = self.lock
            return block.qc.view > lock.view or tree.extends(block.qc.block, lock.block, lock.view)
        return self.follows(block, None) or (tc is not None and block.qc.view >= tc.high.view)

    def vote(self, view: int, block: bytes) -> None:
        """Promise to sign nothing else in this view and in those before it."""
        assert view > self.voted
        self.voted, self.voted_block = view, block

    def give_up(self, term: int) -> None:
        """Promise to vote in no view of ``term`` any more."""
        last = (term + 1) * self.tenure - 1
        if last > self.voted:
            self.voted, self.voted_block = last, b""

    def observe(self, qc: Certificate, tree: Tree) -> None:
        """Take in a verified certificate of a block that is held: the highest one and the lock only rise."""
        if qc.view > self.high.view:
            self.high = qc
        lock = qc if self.chain == 2 else tree.blocks[qc.block].qc
        if lock.view > self.lock.view:
            self.lock = lock

    def start_above(self, qc: Certificate) -> None:
        """Take in the certificate of a committed block from which the tree begins: every later one extends it."""
        if qc.view > self.high.view:
            self.high = qc
        if qc.view > self.lock.view:
            self.lock = qc

    def commits(self, qc: Certificate, tree: Tree) -> bytes | None:
        """Return the block that a certificate commits, or None; its ancestors are committed with it."""
        for _ in range(self.chain - 1):
            block = tree.blocks.get(qc.block)
            if block is None or block.qc.view + 1 != qc.view:
                return None
            qc = block.qc
        head = tree.blocks.get(qc.block)
        return qc.block if head is not None and head.height > tree.height else None

    def committing(self, qc: Certificate, tree: Tree) -> tuple[bytes, Certificate] | None:
        """Return the highest block that ``qc`` or a certificate below it commits, and that certificate.

        Who fetched blocks holds certificates that it never saw by themselves; a quorum believed them before it voted.
        """
        while (block := tree.blocks.get(qc.block)) is not None and block.height > tree.height:
            head = self.commits(qc, tree)
            if head is not None:
                return head, qc
            qc = block.qc
        return None

    # -- what a crash must not take ------------------------------------------------------------------

    def saved(self) -> bytes:
        """Return the promises as bytes."""
        return encode((self.voted, self.voted_block, self.high, self.lock))

    def restore(self, data: bytes) -> None:
        """Take up the promises of an earlier life."""
        self.voted, self.voted_block, self.high, self.lock = _saved(data)
