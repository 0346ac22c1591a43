"""State transfer: a whole state, in chunks, for who lacks blocks that are forgotten.

Safety, in what it believes: the ends of epochs by their certificates, the checkpoint by the signatures of a quorum of
the epoch to which they lead, each chunk by the digest that the checkpoint names (`policies.consensus.chunks`). Nothing
is taken over before all of it is here. Liveness, in whom it asks: one member after another; and in how long a step is:
the end of an epoch is some certificates of a quorum each, so one is verified a step. Of each node one state waits for
that, and they take turns: a liar that shows states all the time delays others by a step for each of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from policies.consensus.chunks import CHUNKS_PER_S, Arriving, Chunk, GetChunk, Serving, manifest_of, piece
from policies.consensus.hotstuff.certificates import block_digest
from policies.consensus.hotstuff.epoch import Epoch, after, ends
from policies.consensus.hotstuff.messages import Start, Transferred
from policies.consensus.hotstuff.sync import Sync
from policies.consensus.vouching import PROOFS_KEPT

if TYPE_CHECKING:
    from policies.consensus.hotstuff.node import HotStuff


@dataclass
class Proving:
    """A state that somebody shows: the ends of epochs that lead to it are believed from ``since`` up to ``epoch``."""

    arriving: Arriving[Transferred]
    since: Epoch
    epoch: Epoch

    @property
    def first(self) -> int:
        """Number of the first epoch whose end is shown."""
        return self.arriving.given.stable.epoch - len(self.arriving.given.handovers)


class Transfer:
    """One member's means to take a state over, and to give its own.

    Attributes:
        offer: what our own stable state is made of, and its proof; None for none.
        serving: who asked for chunks of it, and how often.
        proving: node to the state that it shows and whose proof is being verified, the one that is next first.
        arriving: the state that comes, None for none.
        proven: the same with its epochs, from ours or from one for which ours vouched, to its own.
    """

    def __init__(self, node: HotStuff) -> None:
        self.node = node
        self.offer: Transferred | None = None
        self.serving = Serving(CHUNKS_PER_S)
        self.proving: dict[str, Proving] = {}
        self.arriving: Arriving[Transferred] | None = None
        self.proven: Proving | None = None

    # -- for others ----------------------------------------------------------------------------------

    def stand_on(self, start: Start) -> None:
        """This is our stable state from now on."""
        manifest = manifest_of(start.state, self.node.config.chunk_bytes)
        self.offer = Transferred(start.stable, start.block, start.qc, manifest, start.handovers)

    def on_get_chunk(self, sender: str, ask: GetChunk) -> None:
        """Somebody asks for a chunk: of another state than ours it is shown ours."""
        start, offer, node = self.node.catch_up.start, self.offer, self.node
        if start is None or offer is None:
            return None
        if not self.serving.allows(sender, node.port.now):
            return node.refuse("a chunk that is asked for too often")
        self.serving.count(sender, node.port.now)
        if ask.state != start.stable.state:
            return node.port.send(sender, offer)
        data = piece(start.state, ask.number, node.config.chunk_bytes)
        return node.port.send(sender, Chunk(ask.state, ask.number, data))

    # -- for us --------------------------------------------------------------------------------------

    def on_transferred(self, sender: str, given: Transferred) -> None:
        """A state for us, who asked for blocks that are forgotten: begin to verify what proves it."""
        node = self.node
        if node.catch_up.sync.wanted is None or given.stable.height <= node.trunk.tree.height:
            return node.refuse("a state that was not asked for")
        if sender in self.proving or not self._news(given):
            return None
        arriving = Arriving(given, given.manifest, node.config.chunk_bytes)
        if not arriving.possible or arriving.digest != given.stable.state or len(given.handovers) > PROOFS_KEPT:
            return node.refuse("a state that nothing proves")
        proving = Proving(arriving, node.epoch, node.epoch)
        if proving.first > node.epoch.number:  # our epoch's end is forgotten
            believed = node.vouching.believed
            if believed is None or not proving.first <= believed.number:
                return node.vouching.ask_all()
            proving.since = proving.epoch = believed
        self.proving[sender] = proving
        return self.prove()

    def _news(self, given: Transferred) -> bool:
        """Whether a state is later than what we hold, and than the one that comes."""
        coming = 0 if self.arriving is None else self.arriving.given.stable.height
        return given.stable.height > max(coming, self.node.trunk.tree.height)

    def prove(self) -> None:
        """Verify the next end of an epoch of the state whose turn it is, or, after all of them, the state itself."""
        if not self.proving:
            return
        sender = next(iter(self.proving))
        proving = self.proving.pop(sender)
        if self._news(proving.arriving.given):
            self._prove(sender, proving)
        if self.proving:
            self.node.port.set_timer("prove", 0)

    def _prove(self, sender: str, proving: Proving) -> None:
        """Go on with a state: it waits for its next turn, is refuted, or, proven, its chunks are asked for."""
        given, epoch, node = proving.arriving.given, proving.epoch, self.node
        if epoch.number < given.stable.epoch:
            handover = given.handovers[epoch.number - proving.first]
            if ends(handover, epoch, node.config.chain, node.verifier, node.port.keys):
                proving.epoch = after(handover, epoch.number + 1)
                self.proving[sender] = proving
                return None
        elif self._leads_to(epoch, given):
            others = tuple(name for name in epoch.members if name != node.port.me)
            proving.arriving.begin(others, self.arriving)
            self.arriving, self.proven = proving.arriving, proving
            return self._ask(sender)
        return node.refuse("a state that nothing proves")

    def _leads_to(self, epoch: Epoch, given: Transferred) -> bool:
        """Whether a state is of this epoch, and signed by a quorum of it."""
        node, point = self.node, given.stable
        return (
            epoch.number == point.epoch == given.block.epoch == given.qc.epoch
            and block_digest(given.block) == point.block == given.qc.block
            and given.block.height == point.height
            and node.verifier.stable(node.port.keys, epoch.members, point)
            and node.verifier.certificate(node.port.keys, epoch.members, given.qc)
        )

    def _ask(self, whom: str) -> None:
        """Ask for the chunk that is due, or take the state over if none is."""
        arriving, node = self.arriving, self.node
        if arriving is None:
            return
        node.catch_up.sync.asked_ns = node.port.now
        if (due := arriving.due) is not None:
            node.port.send(whom, GetChunk(arriving.digest, due))
        else:
            self.arriving = None
            self._take_over(whom, arriving.given, arriving.state())

    def ask_another(self) -> bool:
        """Nothing has come for a while: ask the next one who may have it; return whether a state is arriving."""
        whom = None if self.arriving is None else self.arriving.another()
        if whom is None:
            self.arriving = None
            return False
        self._ask(whom)
        return True

    def on_chunk(self, sender: str, chunk: Chunk) -> None:
        """A chunk: it is right, or its sender lies and another is asked."""
        if self.arriving is None or not self.arriving.asks(chunk):
            return
        holder = sender in self.arriving.holders
        if self.arriving.take(sender, chunk):
            self._ask(sender)
        else:
            self.node.refuse("a wrong chunk")
            if holder:
                self.ask_another()

    def _take_over(self, sender: str, given: Transferred, state: bytes) -> None:
        """All is here: begin from it, unless blocks came meanwhile."""
        node, catch_up, proven = self.node, self.node.catch_up, self.proven
        assert proven is not None
        epoch, since = proven.epoch, proven.since
        if epoch.number < node.epoch.number or given.stable.height <= node.trunk.tree.height:
            return
        if leap := since.number > node.epoch.number:
            catch_up.leap(since)
        if entered := epoch.number != node.epoch.number:
            # Of what was shown, that alone which was verified: no more of it is ever shown to others, or begun from.
            for handover in given.handovers[catch_up.history.present - proven.first :]:
                catch_up.keep(handover)
            node.begin_epoch(epoch)
        wanted, catch_up.sync = catch_up.sync.newest, Sync()
        node.safety.start_above(given.qc)
        if given.stable.block in node.trunk.tree.blocks and not leap:
            node.commit_to(given.stable.block, None)  # all that we lacked was to know that it is committed
        else:
            # Then our highest certificate was below it: all later ones are of blocks that extend it.
            node.trunk.begin(catch_up.stand_on(given.stable, given.block, given.qc, state), epoch)
            node.save()
            node.asking.begin_anew()
            node.trunk.tell()
        if entered:
            node.begin_term()  # others lead it, or we do no more
        if wanted is not None:
            node.learn(wanted, sender)
