"""The rules of safety, one by one, on trees made by hand; no network, no time."""

from __future__ import annotations

from typing import Literal

import pytest

from policies.consensus.hotstuff.certificates import block_digest
from policies.consensus.hotstuff.epoch import genesis
from policies.consensus.hotstuff.messages import Block, Certificate, TimeOutCertificate
from policies.consensus.hotstuff.safety import Safety
from policies.consensus.hotstuff.tree import PENDING_MAX, Tree

TENURE = 4
ROOT, EPOCH = genesis(("a", "b", "c", "d"))


class Grown:
    """A tree that grows, and the certificates of its blocks; signatures play no part in these rules."""

    def __init__(self, chain: Literal[2, 3] = 3, tenure: int = TENURE) -> None:
        self.tree = Tree(EPOCH.root.block, ROOT)
        self.safety = Safety(chain, tenure, EPOCH.root, 1)
        self.qc: dict[int, Certificate] = {0: EPOCH.root}

    def block(self, view: int, on: int) -> Block:
        """Return a block of a view on the block of view ``on``."""
        qc = self.qc[on]
        return Block(0, view, self.tree.blocks[qc.block].height + 1, qc, ())

    def grow(self, *views: int, on: int | None = None) -> Certificate:
        """Add a block a view, each on the one before, the first on ``on``; return the last one's certificate."""
        parent = max(self.qc) if on is None else on
        for view in views:
            block = self.block(view, parent)
            digest = block_digest(block)
            self.tree.add(digest, block)
            self.qc[view] = Certificate(0, view, digest, ())
            parent = view
        return self.qc[parent]


def tc(term: int, high: Certificate) -> TimeOutCertificate:
    """Return a time-out certificate."""
    return TimeOutCertificate(0, term, (("a", high.view, b""),), high)


@pytest.mark.parametrize(("chain", "last", "head"), [(2, 2, 1), (3, 3, 1), (2, 1, None), (3, 2, None)])
def test_a_chain_of_consecutive_views_commits_its_first_block(
    chain: Literal[2, 3], last: int, head: int | None
) -> None:
    """``chain`` certificates in consecutive views commit the block of the first of them, one fewer commit nothing."""
    grown = Grown(chain)
    qc = grown.grow(*range(1, last + 1))

    assert grown.safety.commits(qc, grown.tree) == (None if head is None else grown.qc[head].block)


@pytest.mark.parametrize(
    ("chain", "views"), [(2, (1, 3)), (3, (1, 2, 4)), (3, (1, 3, 4)), (2, (2, 8)), (3, (2, 8, 12))]
)
def test_a_gap_in_the_views_commits_nothing(chain: Literal[2, 3], views: tuple[int, ...]) -> None:
    """Direct parents are not enough: the views must be consecutive (what Fast-HotStuff's first version left out)."""
    grown = Grown(chain)

    assert grown.safety.commits(grown.grow(*views), grown.tree) is None


@pytest.mark.parametrize("chain", [2, 3])
def test_a_chain_below_the_newest_certificate_commits_as_well(chain: Literal[2, 3]) -> None:
    """Who fetched the blocks of views 1 to 3 and 8 at once learns of the commit although 8 does not follow 3."""
    grown = Grown(chain)
    qc = grown.grow(1, 2, 3, 8)

    assert grown.safety.commits(qc, grown.tree) is None
    assert grown.safety.committing(qc, grown.tree) == (grown.qc[4 - chain].block, grown.qc[3])
    grown.tree.commit(grown.qc[4 - chain].block)
    assert grown.safety.committing(qc, grown.tree) is None


def test_what_is_committed_is_not_committed_again() -> None:
    """A certificate whose chain begins at or below the root says nothing new."""
    grown = Grown(2)
    qc = grown.grow(1, 2, 3)
    grown.tree.commit(grown.qc[2].block)

    assert grown.safety.commits(qc, grown.tree) is None


@pytest.mark.parametrize(("chain", "lock"), [(2, 3), (3, 2)])
def test_the_lock_is_the_head_of_a_chain_one_shorter(chain: Literal[2, 3], lock: int) -> None:
    """Three-chain: the parent of the highest certified block, twice certified; two-chain: the highest itself."""
    grown = Grown(chain)
    grown.grow(1, 2, 3)
    for view in (1, 2, 3):
        grown.safety.observe(grown.qc[view], grown.tree)

    assert (grown.safety.high.view, grown.safety.lock.view) == (3, lock)
    grown.safety.observe(grown.qc[1], grown.tree)
    assert (grown.safety.high.view, grown.safety.lock.view) == (3, lock)


@pytest.mark.parametrize("chain", [2, 3])
def test_one_vote_a_view_and_never_in_an_older_one(chain: Literal[2, 3]) -> None:
    """After a vote in a view neither another block of that view nor one of an older view may have one."""
    grown = Grown(chain)
    grown.grow(1, 2)
    grown.safety.vote(2, grown.qc[2].block)

    assert not grown.safety.may_vote(grown.block(2, 1), None, grown.tree)
    assert not grown.safety.may_vote(grown.block(1, 0), None, grown.tree)
    assert grown.safety.may_vote(grown.block(3, 2), None, grown.tree)


@pytest.mark.parametrize("chain", [2, 3])
def test_a_view_is_entered_by_the_certificate_before_it_or_by_time_outs(chain: Literal[2, 3]) -> None:
    """A block that skips views needs a time-out certificate, and that of a term enters its next term's first view."""
    grown = Grown(chain)
    grown.grow(1)

    assert not grown.safety.may_vote(grown.block(4, 1), None, grown.tree)
    assert grown.safety.may_vote(grown.block(4, 1), tc(0, grown.qc[1]), grown.tree)
    assert not grown.safety.may_vote(grown.block(8, 1), tc(0, grown.qc[1]), grown.tree)
    assert not grown.safety.may_vote(grown.block(5, 1), tc(0, grown.qc[1]), grown.tree)


@pytest.mark.parametrize("chain", [2, 3])
def test_who_gave_a_term_up_votes_in_none_of_its_views(chain: Literal[2, 3]) -> None:
    """A time-out of term 0 forbids all its views; the next term's first is open."""
    grown = Grown(chain)
    grown.grow(1)
    grown.safety.give_up(0)

    assert not grown.safety.may_vote(grown.block(2, 1), None, grown.tree)
    assert grown.safety.may_vote(grown.block(4, 1), tc(0, grown.qc[1]), grown.tree)


def test_three_chain_a_lock_opens_only_to_a_later_certificate() -> None:
    """Locked on view 2: a block on view 1 is refused, one that extends the lock or stands on a later view is not."""
    grown = Grown(3)
    grown.grow(1, 2, 3)
    for view in (1, 2, 3):
        grown.safety.observe(grown.qc[view], grown.tree)
    grown.grow(4, on=1)

    assert not grown.safety.may_vote(grown.block(8, 1), tc(1, grown.qc[1]), grown.tree)
    assert grown.safety.may_vote(grown.block(8, 2), tc(1, grown.qc[2]), grown.tree)
    assert grown.safety.may_vote(grown.block(8, 4), tc(1, grown.qc[4]), grown.tree)


def test_two_chain_a_block_after_time_outs_extends_what_a_quorum_reported() -> None:
    """The block must stand at least as high as the certificate's highest, whatever the member itself has seen."""
    grown = Grown(2)
    grown.grow(1, 2, 3)
    for view in (1, 2, 3):
        grown.safety.observe(grown.qc[view], grown.tree)

    assert not grown.safety.may_vote(grown.block(4, 1), tc(0, grown.qc[2]), grown.tree)
    assert grown.safety.may_vote(grown.block(4, 2), tc(0, grown.qc[2]), grown.tree)  # although it has seen view 3


@pytest.mark.parametrize("chain", [2, 3])
def test_promises_survive_as_bytes(chain: Literal[2, 3]) -> None:
    """What is saved brings back the last vote, the lock and the highest certificate."""
    grown, again = Grown(chain), Grown(chain)
    grown.grow(1, 2, 3)
    for view in (1, 2, 3):
        grown.safety.observe(grown.qc[view], grown.tree)
    grown.safety.vote(4, b"block")
    again.safety.restore(grown.safety.saved())

    assert vars(again.safety) == vars(grown.safety)


def test_the_tree_keeps_what_leads_to_a_certificate_and_forgets_the_rest_beyond_its_bound() -> None:
    """Above `PENDING_MAX` blocks only the paths to the highest certificate and to the last vote stay."""
    grown = Grown(2, tenure=1)
    grown.grow(1, 2)
    for view in range(3, PENDING_MAX + 10):
        grown.grow(view, on=1)
    forgotten = grown.tree.thin(grown.qc[2].block, grown.qc[3].block)

    assert set(grown.tree.pending) == {grown.qc[view].block for view in (1, 2, 3)}
    assert len(forgotten) == PENDING_MAX + 9 - 3
