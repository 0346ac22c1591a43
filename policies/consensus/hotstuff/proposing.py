"""Proposing: what the leader says and when. Liveness only: whether a block may be voted for is asked of `safety`.

The next block follows as soon as the one before is certified, while there is something to order or something ordered
is not committed yet; at most a chain's length of empty blocks brings the last entries home. Then the leader is idle:
it tells the last certificate once, and that it is there once a heartbeat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from policies.consensus.hotstuff.certificates import block_digest, vote_bytes
from policies.consensus.hotstuff.epoch import change_in
from policies.consensus.hotstuff.messages import Block, Certificate, Entry, Proposal
from policies.port import NS_PER_S

if TYPE_CHECKING:
    from policies.consensus.hotstuff.node import HotStuff


class Proposing:
    """One member as a leader.

    Attributes:
        proposal: ours that is not certified yet.
        spoke_ns: when we last spoke to all.
        announced: the last view in which we told all why we are in it, for want of a proposal.
        nudged_ns: since when another member waits for a commit that we do not wait for.
    """

    def __init__(self, node: HotStuff) -> None:
        self.node = node
        self.spoke_ns = 0
        self.reset()

    def reset(self) -> None:
        """Begin an epoch."""
        self.proposal: Proposal | None = None
        self.announced = -1
        self.nudged_ns: int | None = None

    def lead(self) -> None:
        """Propose, if there is a reason to and what we stand on is here."""
        node, safety, tree = self.node, self.node.safety, self.node.trunk.tree
        high, tc = safety.high, node.pace.tc
        block = Block(node.epoch.number, node.pace.view, tree.blocks[high.block].height + 1, high, ())
        if (tc is not None and high.view < tc.high.view) or not safety.may_vote(block, tc, tree):
            return  # what entered the view is a certificate whose block is still being fetched
        path = tree.path(high.block)
        entries: tuple[Entry, ...] = ()
        if not any(change_in(tree.blocks[digest]) for digest in path):
            ordered = {key for digest in path for key in node.trunk.arrived[digest].keys}
            entries = node.asking.pool.take(ordered, node.config.batch_max, node.config.batch_max_bytes)
        if not any(tree.blocks[digest].entries for digest in path) and not self._worth_a_block(entries):
            return
        block = msgspec.structs.replace(block, entries=entries)
        digest = block_digest(block)
        signature = node.port.keys.sign(vote_bytes(node.log_name, block.epoch, block.view, digest))
        self.proposal = Proposal(block, None if safety.follows(block, None) else tc, signature)
        node.promise(digest, block, signature, signature)
        self._say(self.proposal)

    def _worth_a_block(self, entries: tuple[Entry, ...]) -> bool:
        """Whether an idle leader begins a block now: not without entries, nor before it has waited for company."""
        node = self.node
        if entries:
            now, oldest = node.port.now, node.asking.pool.oldest_ns
            ripe_ns = (now if oldest is None else oldest) + int(node.config.batch_wait_s * NS_PER_S)
            if len(entries) == node.config.batch_max or now >= ripe_ns:
                return True
            node.port.set_timer("batch", ripe_ns - now)
        if self.nudged_ns is not None:
            return True
        if self.announced != node.pace.view:
            self.announced = node.pace.view  # else nobody would hear of the last certificate
            self._say(node.status())
        return False

    def nudge(self) -> None:
        """Move the chain although we lack nothing, for a member that did not see the certificate we committed by.

        The chain may have gone on beside that certificate, so that nobody can show it. At most once a time-out:
        a liar gets a few empty blocks out of it.
        """
        pace = self.node.pace
        if self.nudged_ns is None and self.node.port.now - pace.moved_ns >= pace.timeout_ns:
            self.nudged_ns = self.node.port.now

    def certified(self, qc: Certificate) -> None:
        """Our proposal is certified, or overtaken."""
        if self.proposal is not None and self.proposal.block.view <= qc.view:
            self.proposal = None

    def deadline(self) -> int:
        """Return when to say the proposal again, or that we are there."""
        pace = self.node.pace
        return self.spoke_ns + (pace.heartbeat_ns if self.proposal is None else pace.timeout_ns // 4)

    def speak(self) -> None:
        """Say it."""
        self._say(self.node.status() if self.proposal is None else self.proposal)

    def _say(self, message: Any) -> None:
        """Speak to all who listen, ourselves among them."""
        node = self.node
        self.spoke_ns = node.pace.heard_ns = node.port.now
        for name in node.audience:
            node.port.send(name, message)
