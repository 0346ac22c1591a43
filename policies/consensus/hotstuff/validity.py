"""What a well-formed entry and a well-formed block are: rules that do not depend on what a member has voted for.

Part of safety: no correct member votes for a block that breaks them, so none is certified.
"""

from __future__ import annotations

from policies.config import HotstuffConfig
from policies.consensus.hotstuff.epoch import change_in, change_of
from policies.consensus.hotstuff.messages import RECONFIGURE, Block, Entry
from policies.consensus.hotstuff.tree import Tree


def orderly(entry: Entry, config: HotstuffConfig) -> bool:
    """Whether an entry is of a known kind, no larger than allowed, and, if it changes the members, says how."""
    if len(entry.data) > config.batch_max_bytes or not 0 <= entry.kind <= RECONFIGURE:
        return False
    return entry.kind != RECONFIGURE or change_of(entry.data) is not None


def well_formed(block: Block, tree: Tree, config: HotstuffConfig) -> bool:
    """Whether a block whose parent is held has the right height, a batch within bounds, and nothing after a change.

    A change of members stands alone in its block; on top of it, until it is committed, blocks are empty.
    """
    entries = block.entries
    if block.height != tree.blocks[block.qc.block].height + 1 or len(entries) > config.batch_max:
        return False
    if not all(orderly(entry, config) for entry in entries):
        return False
    if len(entries) > 1 and sum(len(entry.data) for entry in entries) > config.batch_max_bytes:
        return False
    if len(entries) > 1 and any(entry.alone for entry in entries):
        return False
    return not (entries and any(change_in(tree.blocks[digest]) for digest in tree.path(block.qc.block)))
