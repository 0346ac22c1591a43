"""The trunk: what is committed, and how disk and state machine hear of it.

It decides nothing: `safety` says up to which block the tree is committed, this file numbers the commands, tells them in
order, keeps blocks durable, and begins again from a checkpoint. Saved keys: ``b/<digest>`` a block, ``checkpoint`` the
stable checkpoint with its state (`Start`), ``handover/<epoch>`` the end of an epoch since then, and ``safety``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from typing import NamedTuple
from zlib import crc32

import msgspec

from policies.config import HotstuffConfig
from policies.consensus.hotstuff.certificates import block_digest, entry_key
from policies.consensus.hotstuff.epoch import Epoch, change_in, change_of
from policies.consensus.hotstuff.messages import COMMAND, READ, Block, Certificate, Entry, Start
from policies.consensus.hotstuff.tree import Tree
from policies.consensus.messages import Chosen, Restored
from policies.local import Committed, Configured, Readable, Restore, SnapshotDue
from policies.port import Port
from policies.wire import encode

APPLY_MAX = 20
"""Entries told to the state machine in one step: each may hold two signatures of 0.11 ms; a step stays below 5 ms."""
SNAPSHOT_PERIODS = 8
"""Periods of checkpoints, in blocks, after which a snapshot is asked for, however few commands they brought: 1,024
blocks by default (our choice: as many as commands between two snapshots of a village's own)."""
DUE = -1
"""Kind of what is told besides entries: the block of this height is done, and asks for a snapshot."""

_block = msgspec.msgpack.Decoder(Block).decode


class Arrived(NamedTuple):
    """A block that is not committed: when it came, and its entries' keys."""

    since_ns: int
    keys: tuple[bytes, ...]


class Span(NamedTuple):
    """The commands of one committed block: indices ``first`` to ``last``, none if ``last`` comes before ``first``."""

    first: int
    last: int
    block: bytes


class Trunk:
    """One member's blocks.

    Args:
        config: the protocol's parameters.
        applier: path of the state machine, "" for none.
        root, block: the block from which it begins, and its digest.

    Attributes:
        commit: index of the last committed command.
        applied: index of the last command told.
        spans: committed blocks since the stable checkpoint with commands, or where a snapshot is due, oldest first.
        reads: own reads that wait for their place in the log, by number: tokens.
    """

    port: Port

    def __init__(self, config: HotstuffConfig, applier: str, root: bytes, block: Block) -> None:
        self.tenure, self.applier = config.tenure, applier
        self.snapshot_blocks = SNAPSHOT_PERIODS * config.checkpoint_every
        self.tree = Tree(root, block)
        self.arrived: dict[bytes, Arrived] = {}
        self.commit = self.applied = 0
        self.spans: list[Span] = []
        self.told: deque[tuple[int, int, Entry]] = deque()  # (index, term, entry) committed and not told yet
        self.reads: dict[int, int] = {}

    # -- blocks --------------------------------------------------------------------------------------

    def insert(self, digest: bytes, block: Block) -> None:
        """Hold a block whose parent is held, durably."""
        if digest in self.tree.blocks:
            return
        self.tree.add(digest, block)
        self.arrived[digest] = Arrived(self.port.now, tuple(map(entry_key, block.entries)))
        self.port.save(f"b/{digest.hex()}", encode(block))

    def forget(self, digests: list[bytes]) -> None:
        """Erase blocks that the tree has forgotten."""
        for digest in digests:
            self.arrived.pop(digest, None)
            self.port.erase(f"b/{digest.hex()}")

    def unfinished_ns(self, digest: bytes) -> int | None:
        """Return when the first block up to ``digest`` came that has entries and is not committed, if there is one."""
        tree, since_ns = self.tree, None
        blocks, root, height = tree.blocks, tree.root, tree.height
        while digest != root:  # as `Tree.path` does; this is asked in most steps
            block = blocks.get(digest)
            if block is None or block.height <= height:
                return None
            if block.entries:
                since_ns = self.arrived[digest].since_ns
            digest = block.qc.block
        return since_ns

    def change_below(self, head: bytes) -> bytes | None:
        """Return the first block up to ``head`` that is not committed and changes the members, if there is one."""
        blocks = self.tree.blocks
        return next((digest for digest in self.tree.path(head) if change_in(blocks[digest]) is not None), None)

    def commit_to(self, head: bytes) -> list[Arrived]:
        """Commit up to ``head``; return what was committed."""
        blocks = self.tree.blocks
        path, forgotten = self.tree.commit(head)
        committed = [self.arrived.pop(digest) for digest in path]
        for digest in path:
            self._number(digest, blocks[digest])
        self.forget(forgotten)
        return committed

    def _number(self, digest: bytes, block: Block) -> None:
        first, term = self.commit + 1, block.view // self.tenure
        for entry in block.entries:
            if entry.kind == COMMAND:
                self.commit += 1
            self.told.append((self.commit, term, entry))
        if due := block.height % self.snapshot_blocks == 0:
            self.told.append((self.commit, term, Entry("", block.height, DUE, b"")))
        if due or self.commit >= first:
            self.spans.append(Span(first, self.commit, digest))

    # -- the state machine ---------------------------------------------------------------------------

    def tell(self) -> None:
        """Tell the state machine what is committed, a limited number at a time."""
        told, port, applier = self.told, self.port, self.applier
        for _ in range(min(APPLY_MAX, len(told))):
            index, term, (origin, number, kind, data) = _fields(*told.popleft())
            if kind == COMMAND:
                if index <= self.applied:
                    continue  # the state restored has it
                self.applied = index
                port.decide("commit", Chosen(index, term, crc32(data)))
                if applier:
                    port.tell(applier, Committed(index, term, data))
            elif kind == READ:
                token = self.reads.pop(number, None) if origin == port.me else None
                if token is not None and applier:
                    port.tell(applier, Readable(token, index))
            elif kind == DUE:
                if applier:
                    port.tell(applier, SnapshotDue(index, number))
            elif applier and (change := change_of(data)) is not None:
                port.tell(applier, Configured(index, *change))
        if told:
            port.set_timer("apply", 0)

    # -- beginnings ----------------------------------------------------------------------------------

    def begin(self, start: Start, epoch: Epoch) -> None:
        """Begin from a stable checkpoint of ``epoch``: its block is the last committed one, its state the state
        machine's."""
        stable = start.stable
        self.forget(list(self.tree.blocks))
        self.tree = Tree(stable.block, start.block)
        self.arrived, self.spans = {}, []
        self.told.clear()
        self.commit, self.applied = stable.first - 1, stable.index
        self.port.decide("restore", Restored(stable.index, start.block.view // self.tenure))
        if self.applier:
            self.port.tell(self.applier, Restore(stable.index, start.state))
            if epoch.number:
                self.port.tell(self.applier, Configured(stable.index, epoch.members, epoch.learners))
        self._number(stable.block, start.block)

    def recover(self, saved: Mapping[str, bytes]) -> None:
        """Hold the blocks that were durable and still lead somewhere; erase the others."""
        blocks = sorted((_block(data) for key, data in saved.items() if key.startswith("b/")), key=lambda b: b.height)
        tree = self.tree
        for block in blocks:
            digest = block_digest(block)
            if digest in tree.blocks:
                continue
            if block.qc.block in tree.blocks:
                tree.add(digest, block)
                self.arrived[digest] = Arrived(self.port.now, tuple(map(entry_key, block.entries)))
            else:
                self.port.erase(f"b/{digest.hex()}")

    def span_of(self, index: int) -> Span | None:
        """Return the block that holds a command that was told, or None if it is not held any more, or not yet."""
        if not self.spans or not self.spans[0].first <= index <= self.applied:
            return None
        return self.spans[bisect_left(self.spans, index, key=lambda span: span.last)]

    def span_at(self, height: int) -> Span | None:
        """Return the block of this height, if it has a span."""
        blocks = self.tree.blocks
        at = bisect_left(self.spans, height, key=lambda span: blocks[span.block].height)
        span = self.spans[at] if at < len(self.spans) else None
        return span if span is not None and blocks[span.block].height == height else None

    def certified_by(self, digest: bytes) -> Certificate | None:
        """Return a certificate of a committed block: the one that its child on the trunk or above it holds."""
        return next((block.qc for block in self.tree.blocks.values() if block.qc.block == digest), None)

    def drop_below(self, span: Span) -> None:
        """Forget what a stable checkpoint in this span covers."""
        self.forget(self.tree.drop_below(self.tree.blocks[span.block].height))
        self.spans = self.spans[self.spans.index(span) :]


def _fields(index: int, term: int, entry: Entry) -> tuple[int, int, tuple[str, int, int, bytes]]:
    return index, term, (entry.origin, entry.number, entry.kind, entry.data)
