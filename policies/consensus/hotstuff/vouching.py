"""Words for epochs in HotStuff: who is further behind than proofs reach asks the committee that it knew.

Safety in what it believes (`policies.consensus.vouching` says why), liveness in whom it asks, and when.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.consensus.hotstuff.epoch import Epoch, lawful
from policies.consensus.hotstuff.history import begun, epoch_of
from policies.consensus.quorum import byzantine_quorum
from policies.consensus.vouching import Vouch, Words, vouch_bytes, vouched

if TYPE_CHECKING:
    from policies.consensus.hotstuff.node import HotStuff

DOMAIN = "hotstuff epoch"

PATIENCE = 8
"""Times that all are asked, a heartbeat or more apart, until a member notes that it cannot follow (our choice)."""


class Vouching:
    """One member's words for epochs, and what others have told it.

    Attributes:
        believed: a later epoch than ours, for which a quorum of ours has vouched; None for none.
        words: what members of our epoch said.
        own: our own newest word, signed once.
        asked: how often all were asked, and ``asked_until_ns``: until when they need not be again.
    """

    def __init__(self, node: HotStuff) -> None:
        self.node = node
        self.own: Vouch | None = None
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Words of the last epoch's members lead here, or nowhere."""
        self.believed: Epoch | None = None
        self.words = Words()
        self.asked_until_ns = self.asked = 0

    def answer(self, whom: str) -> None:
        """Somebody is in an epoch whose end is forgotten: vouch for a later one, from which proofs lead on."""
        start, node = self.node.catch_up.start, self.node
        epoch = None if start is None else node.catch_up.history.epoch(vouched(start.stable.epoch))
        if epoch is None:
            return  # we came by a word for a later one ourselves
        said = begun(epoch)
        if self.own is None or self.own.begun != said:
            self.own = Vouch(said, node.port.keys.sign(vouch_bytes(DOMAIN, node.log_name, said)))
        node.port.send(whom, self.own)

    def ask_all(self) -> None:
        """Tell all members of our epoch where we are: who is beyond it, and cannot prove that, vouches."""
        node = self.node
        if self.asked_until_ns <= node.port.now:
            self.asked_until_ns, self.asked = node.port.now + node.pace.heartbeat_ns, self.asked + 1
            if self.asked == PATIENCE:
                said, needed = len(self.words.newest), byzantine_quorum(len(node.epoch.members))
                node.port.note("behind", epoch=node.epoch.number, vouched=said, needed=needed)
            status = node.status()
            for name in node.others:
                node.port.send(name, status)

    def on_vouch(self, sender: str, vouch: Vouch) -> None:
        """Somebody vouches for a later epoch. Whoever it is, there seems to be one: ask those whose word counts."""
        node, said = self.node, vouch.begun
        if said.number <= node.epoch.number:
            return
        self.ask_all()
        members = node.epoch.members
        if sender in members and self.words.news(sender, vouch):
            if not lawful(said.members, said.learners):
                return node.refuse("a word for an epoch of members that are none")
            if not node.port.keys.verify(sender, vouch_bytes(DOMAIN, node.log_name, said), vouch.signature):
                return node.refuse("a word for an epoch with a false signature")
            if self.words.add(sender, vouch, members):
                self.believed = epoch_of(said)
        if self.believed is not None:
            node.catch_up.want(self.believed.root, sender)
