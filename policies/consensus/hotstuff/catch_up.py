"""Catching up: blocks and ends of epochs for those who lack them, and what may be forgotten once a state is stable.

Liveness, but for what it believes: blocks by their digests, the end of an epoch by its certificates. Whole states, for
those who lack what is forgotten, are `transfer`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from policies.consensus import vouching
from policies.consensus.chunks import BYTES_PER_S, Serving, fits, state_digest
from policies.consensus.hotstuff import messages as m
from policies.consensus.hotstuff.certificates import checkpoint_bytes
from policies.consensus.hotstuff.checkpoint import Checkpoints, place_of
from policies.consensus.hotstuff.epoch import Epoch, after, ends
from policies.consensus.hotstuff.history import History, begun, epoch_of
from policies.consensus.hotstuff.messages import Block, Certificate
from policies.consensus.hotstuff.pacemaker import NEVER
from policies.consensus.hotstuff.sync import Sync, as_many_as_fit, is_full
from policies.consensus.hotstuff.transfer import Transfer
from policies.wire import encode

if TYPE_CHECKING:
    from policies.consensus.hotstuff.node import HotStuff

COMPARE_HEARTBEATS = 4
"""A member compares what it knows with another's so seldom: a faulty leader keeps nobody in the dark for longer than
this many heartbeats a member (our choice)."""

_start = msgspec.msgpack.Decoder(m.Start).decode
_handover = msgspec.msgpack.Decoder(m.Handover).decode


class CatchUp:
    """One member's means to catch up, and to let others.

    Attributes:
        start: the stable checkpoint from which our tree begins, None for the genesis block.
        history: the epochs before ours whose ends are kept.
        pending: the proved end of our epoch, while the block that ends it is being fetched.
        serving: who was sent blocks, and how many bytes of them.
        told: what we told who seems to be behind, or ahead, of where we are, and until when that is no news.
    """

    def __init__(self, node: HotStuff) -> None:
        self.node, self.sync = node, Sync()
        self.checkpoints = Checkpoints(node.config.checkpoint_every)
        self.start: m.Start | None = None
        self.transfer = Transfer(node)
        self.history = History(node.epoch)
        self.pending: m.Handover | None = None
        self.serving = Serving(BYTES_PER_S)
        self.compared_ns = self.compared = 0
        self.told: dict[str, tuple[tuple[int, int, int], int]] = {}

    # -- blocks --------------------------------------------------------------------------------------

    def want(self, qc: Certificate, whom: str) -> None:
        """Fetch the block of a believed certificate, and what leads to it; of an epoch that is over, its end alone."""
        if self.pending is not None and qc.block != self.pending.blocks[1].qc.block:
            return
        parked = self.node.parked
        proposed = parked[1].block if parked is not None and parked[2] == qc.block else None
        if self.sync.want(qc, proposed):
            self._fetch(whom)

    def _fetch(self, whom: str) -> None:
        missing, node = self.sync.missing, self.node
        if missing is not None and whom != node.port.me:
            node.port.send(whom, m.Fetch(missing, node.trunk.tree.height))
        self.sync.asked_ns = node.port.now

    def deadline(self) -> int:
        """Return when to ask somebody else."""
        return NEVER if self.sync.wanted is None else self.sync.asked_ns + self.node.pace.timeout_ns // 4

    def ask_another(self) -> None:
        """Ask the next member for what is missing."""
        if self.transfer.ask_another():
            self.sync.asked_ns = self.node.port.now
        elif self.node.others:
            self._go_on(self.sync.ask(self.node.others, self.node.port.now))

    def on_fetch(self, sender: str, fetch: m.Fetch) -> None:
        """Somebody lacks blocks: send them, or, where they are forgotten, the state that holds them."""
        port = self.node.port
        if not self.serving.allows(sender, port.now):
            return self.node.refuse("blocks that are asked for too often")
        forgotten = self.start is not None and fetch.height < self.start.block.height
        answer = self.transfer.offer if forgotten else self._blocks(fetch)
        if answer is not None:
            self.serving.count(sender, port.now, len(encode(answer)))
            port.send(sender, answer)
        return None

    def _blocks(self, fetch: m.Fetch) -> m.Blocks | None:
        """Return as many of the blocks that somebody lacks as one answer may hold; None if we hold none."""
        blocks = as_many_as_fit(self.node.trunk.tree.down(fetch.block, fetch.height))
        return m.Blocks(blocks) if blocks else None

    def compare_deadline(self) -> int:
        """Return when to tell another member what we know."""
        return self.compared_ns + COMPARE_HEARTBEATS * self.node.pace.heartbeat_ns if self.node.others else NEVER

    def compare(self) -> None:
        """Tell one other member after another what we know: who knows more answers, though our leader hide it."""
        others = self.node.others
        self.compared_ns, self.compared = self.node.port.now, self.compared + 1
        self.node.port.send(others[self.compared % len(others)], self.node.status())

    def on_blocks(self, sender: str, answer: m.Blocks) -> None:
        """An answer: go on, with another one if it has less than it may hold, and does not reach down to ours."""
        node, sync = self.node, self.sync
        if not sync.take(answer.blocks):
            return node.refuse("blocks that were not asked for")
        others = tuple(name for name in node.others if name != sender)
        if others and not is_full(answer.blocks) and sync.missing not in node.trunk.tree.blocks:
            return self._fetch(sync.ask(others, node.port.now))
        return self._go_on(sender)

    def _go_on(self, whom: str) -> None:
        """Ask for what is missing, or, once what came reaches down to our blocks, hold it."""
        node, sync = self.node, self.sync
        wanted = sync.wanted
        if wanted is None or sync.missing not in node.trunk.tree.blocks:
            return self._fetch(whom)
        parts, later = sync.finish()
        for digest, block in parts:
            node.trunk.insert(digest, block)
            for name, signature in block.qc.votes:
                node.saw(name, block.qc.view, block.qc.block, signature)
        for qc in (wanted, later):
            if qc is not None:
                node.learn(qc, whom)
        self._end_epoch(whom)
        return node.take_up_parked()

    def tell(self, whom: str) -> None:
        """Tell somebody where we are: the same not twice in a heartbeat.

        A liar that floods us with time-outs of the past, or answers each of our answers, would else keep both busy at
        the speed of the link.
        """
        node, pace = self.node, self.node.pace
        where = (node.epoch.number, node.safety.high.view, -1 if pace.tc is None else pace.tc.term)
        before, until_ns = self.told.get(whom, (None, 0))
        if where == before and node.port.now < until_ns:
            return
        self.told[whom] = where, node.port.now + pace.heartbeat_ns
        node.port.send(whom, node.status())

    # -- epochs --------------------------------------------------------------------------------------

    def other_epoch(self, sender: str, number: int) -> None:
        """Somebody speaks of another epoch: prove that it is over, or vouch for a later one; or let us be told."""
        if number < self.node.epoch.number:
            if (end := self.history.end_of(number)) is not None:
                self.node.port.send(sender, end)
            elif number >= 0:
                self.node.vouching.answer(sender)
        else:
            self.tell(sender)

    def proof(self, change: bytes, qc: Certificate) -> m.Handover:
        """Return the proof that ``qc`` commits ``change``, a block that ends the epoch."""
        tree = self.node.trunk.tree
        path = tree.path(qc.block)
        return m.Handover(tuple(tree.blocks[digest] for digest in path[path.index(change) :]), qc)

    def on_handover(self, sender: str, handover: m.Handover) -> None:
        """Somebody proves that our epoch is over."""
        node = self.node
        if self.pending is not None or handover.qc.epoch != node.epoch.number:
            return
        if not ends(handover, node.epoch, node.config.chain, node.verifier, node.port.keys):
            return node.refuse("a handover that proves nothing")
        self.pending = handover
        root = handover.blocks[1].qc
        if root.block not in node.trunk.tree.blocks:
            self.sync = Sync()  # all others gave up what came after the end: nobody could answer
            return self.want(root, sender)
        return self._end_epoch(sender)

    def _end_epoch(self, sender: str) -> None:
        """Hand over once the block that ends the epoch, and all before it, is here."""
        handover, node = self.pending, self.node
        if handover is None or handover.blocks[1].qc.block not in node.trunk.tree.blocks:
            return
        node.commit_to(handover.blocks[1].qc.block, handover)

    def keep(self, handover: m.Handover) -> None:
        """The epoch is over: keep the proof, durably, and forget what was under way."""
        self.node.port.save(_key(self.history.present), encode(handover))
        self.history.handovers.append(handover)
        self.forget_pending()

    def leap(self, since: Epoch) -> None:
        """Know nothing before this epoch, for which a quorum of ours has vouched."""
        for number in range(self._saved_since(), self.history.present):
            self.node.port.erase(_key(number))
        self.history = History(since)
        self.forget_pending()

    def forget_pending(self) -> None:
        """What was under way in an epoch that is over."""
        self.pending, self.sync = None, Sync()
        self.checkpoints.votes.clear()
        self.told.clear()

    # -- checkpoints ---------------------------------------------------------------------------------

    def snapshot(self, index: int, state: bytes, height: int = 0) -> None:
        """The state machine gave us its state after ``index`` commands: a member signs it if a checkpoint is due.

        It is wherever we asked for it, at a ``height``. Who does not vote keeps it, too, until members have signed the
        same: it would else forget nothing.
        """
        node = self.node
        span = node.trunk.span_at(height) if height else node.trunk.span_of(index)
        if span is None or not (self.checkpoints.due(index) or self._due(height)):
            return
        if not fits(len(state), node.config.chunk_bytes):
            return node.refuse("a snapshot that is too large")
        block = node.trunk.tree.blocks[span.block]
        if block.epoch != node.epoch.number:
            return  # the next one is signed by those who are members now
        self.checkpoints.keep((index, block.height), state)
        if not node.member:
            return self._settle(self.checkpoints.at((index, block.height), node.epoch.members))
        vote = m.CheckpointVote(
            block.epoch, index, span.first, block.height, span.block,
            state_digest(state, node.config.chunk_bytes), b"",
        )  # fmt: skip
        vote = msgspec.structs.replace(vote, signature=node.port.keys.sign(checkpoint_bytes(node.log_name, vote)))
        for name in node.audience:
            node.port.send(name, vote)
        return self._settle(self.checkpoints.add(node.port.me, vote, node.epoch.members))

    def _due(self, height: int) -> bool:
        """Whether a snapshot that we asked for is above the one that we begin from."""
        return height > (0 if self.start is None else self.start.block.height)

    def on_checkpoint_vote(self, sender: str, vote: m.CheckpointVote) -> None:
        """A member signed its state."""
        node = self.node
        if sender not in node.epoch.members:
            return node.refuse("a checkpoint of a stranger")
        if not node.port.keys.verify(sender, checkpoint_bytes(node.log_name, vote), vote.signature):
            return node.refuse("a checkpoint with a false signature")
        return self._settle(self.checkpoints.add(sender, vote, node.epoch.members))

    def _settle(self, checkpoint: m.StableCheckpoint | None) -> None:
        """A quorum signed a checkpoint: begin from it, if we hold the same."""
        node = self.node
        if checkpoint is None or place_of(checkpoint) not in self.checkpoints.mine:
            return
        state, span = self.checkpoints.mine[place_of(checkpoint)], node.trunk.span_at(checkpoint.height)
        qc = None if span is None else node.trunk.certified_by(span.block)
        if state_digest(state, node.config.chunk_bytes) != checkpoint.state:
            node.port.note("diverged", index=checkpoint.index)  # our state machine is not the quorum's
            del self.checkpoints.mine[place_of(checkpoint)]
        elif span is not None and qc is not None:
            block = node.trunk.tree.blocks[span.block]
            self.stand_on(checkpoint, block, qc, state)
            node.trunk.drop_below(span)

    def _saved_since(self) -> int:
        """Return the first epoch whose end is saved by itself: those before the checkpoint's are saved in it."""
        return 0 if self.start is None else self.start.stable.epoch

    def stand_on(self, stable: m.StableCheckpoint, block: Block, qc: Certificate, state: bytes) -> m.Start:
        """Begin from a stable checkpoint of our epoch, in the next life as well; ends of epochs long before it go."""
        for number in range(max(self._saved_since(), self.history.since.number), stable.epoch):
            self.node.port.erase(_key(number))
        self.history.forget_before(stable.epoch - vouching.PROOFS_KEPT)
        self.start = start = m.Start(
            stable, block, qc, state, tuple(self.history.handovers), begun(self.history.since)
        )  # fmt: skip
        self.transfer.stand_on(start)
        self.checkpoints.drop(place_of(start.stable))
        self.node.port.save("checkpoint", encode(start))
        return start

    # -- after a crash -------------------------------------------------------------------------------

    def recover(self, saved: Mapping[str, bytes]) -> None:
        """Begin where the last life's durable checkpoint and epochs' ends lead."""
        node = self.node
        if "checkpoint" in saved:
            self.start = _start(saved["checkpoint"])
            self.transfer.stand_on(self.start)
            if self.start.since is not None:
                self.history.since = epoch_of(self.start.since)
            self.history.handovers = list(self.start.handovers)
            self.checkpoints.last = self.start.stable.index
            epoch = self.history.epoch(self.history.present)
            if epoch is not None and epoch.number != node.epoch.number:
                node.begin_epoch(epoch)
            node.safety.start_above(self.start.qc)
            node.trunk.begin(self.start, node.epoch)
        node.trunk.recover(saved)
        while (data := saved.get(_key(self.history.present))) is not None:
            handover = _handover(data)
            root = handover.blocks[1].qc.block
            if not node.trunk.tree.path(root):
                break
            for _, keys in node.trunk.commit_to(root):
                node.asking.pool.commit(keys)
            self.history.handovers.append(handover)
            node.begin_epoch(after(handover, self.history.present))


def _key(number: int) -> str:
    """Return the key under which the end of an epoch is saved."""
    return f"handover/{number:09d}"
