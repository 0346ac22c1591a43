"""Epochs: who votes, who leads, and how one set of members hands over to the next.

A block that changes the members stands alone, and what is proposed on top of it in its epoch is empty. When it is
committed the epoch is over: its block is the root of the next epoch, and whatever was built on it is void. The next
epoch's views begin at a number that no view of the one before can reach, so that a term has one leader for ever.
A member of another epoch has no vote: the epoch's number is in all that is signed.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import msgspec

from policies.consensus.fields import MEMBERS_MAX
from policies.consensus.hotstuff.certificates import Verifier, block_digest
from policies.consensus.hotstuff.messages import RECONFIGURE, Block, Certificate, Entry, Handover
from policies.port import Keys
from policies.wire import encode

TERMS = 1 << 32
"""Terms that an epoch has room for: at a thousand a second, 50 days of nothing but changes of leader."""

_members = msgspec.msgpack.Decoder(tuple[tuple[str, ...], tuple[str, ...]]).decode


class Epoch(msgspec.Struct, frozen=True):
    """One set of members. ``root`` certifies the block from which it starts."""

    number: int
    members: tuple[str, ...]
    learners: tuple[str, ...]
    root: Certificate

    def start_view(self, tenure: int) -> int:
        """Return its first view; view 0 is the genesis block's."""
        return self.number * TERMS * tenure or 1

    def leader(self, view: int, tenure: int) -> str:
        """Return who leads a view."""
        return self.members[view // tenure % len(self.members)]


def genesis(members: tuple[str, ...]) -> tuple[Block, Epoch]:
    """Return the block and the epoch that all begin with."""
    block = Block(0, 0, 0, Certificate(0, 0, b"", ()), (Entry("", 0, RECONFIGURE, encode((members, ()))),))
    return block, Epoch(0, members, (), Certificate(0, 0, block_digest(block), ()))


def change_in(block: Block) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Return the (members, learners) that a block asks for, or None if it changes nothing."""
    return None if not block.entries or block.entries[0].kind != RECONFIGURE else change_of(block.entries[0].data)


def change_of(data: bytes) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Return the (members, learners) in an entry, or None if there are none, too many, or one of them twice."""
    try:
        members, learners = _members(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return (members, learners) if lawful(members, learners) else None


def lawful(members: tuple[str, ...], learners: tuple[str, ...]) -> bool:
    """Whether these can be an epoch's: somebody votes, and nobody stands there twice."""
    everybody = (*members, *learners)
    return bool(members) and len(everybody) <= MEMBERS_MAX and len(set(everybody)) == len(everybody)


def after(handover: Handover, number: int) -> Epoch:
    """Return the epoch that a verified handover begins."""
    change = change_in(handover.blocks[0])
    assert change is not None
    return Epoch(number, *change, handover.blocks[1].qc)


def ends(handover: Handover, epoch: Epoch, chain: Literal[2, 3], verifier: Verifier, keys: Keys) -> bool:
    """Whether a handover proves that ``epoch`` ended: its blocks are a chain whose end commits the first."""
    blocks, qc = handover.blocks, handover.qc
    if len(blocks) < chain or change_in(blocks[0]) is None:
        return False
    certificates = [*(block.qc for block in blocks[1:]), qc]
    last = certificates[-chain:]
    if any(later.view != earlier.view + 1 for earlier, later in pairwise(last)):
        return False
    return all(
        block.epoch == epoch.number == by.epoch
        and block.view == by.view
        and block_digest(block) == by.block
        and verifier.certificate(keys, epoch.members, by)
        for block, by in zip(blocks, certificates, strict=True)
    )
