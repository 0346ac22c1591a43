"""Words for epochs in PBFT: who is further behind than proofs reach asks the committee that it knew.

Safety in what it believes (`policies.consensus.vouching` says why), liveness in whom it asks, and when.
"""

from __future__ import annotations

from policies.consensus.pbft import messages as m
from policies.consensus.pbft.epochs import problem
from policies.consensus.pbft.proofs import Committee
from policies.consensus.pbft.repeating import Repeating
from policies.consensus.vouching import Begun, Vouch, Words, vouch_bytes, vouched

DOMAIN = "pbft epoch"

PATIENCE = 8
"""Times that all are asked, half a period or more apart, until a member notes that it cannot follow (our choice)."""


class Vouching(Repeating):
    """A member that vouches for epochs, and comes by what others say to one that proofs do not reach.

    Attributes:
        believed: a later committee than ours, for which a quorum of ours has vouched; None for none.
        words: what members of our epoch said.
        own: our own newest word, signed once.
        times_asked: how often all were asked, and ``asked_ns``: when last.
    """

    def _nothing_yet(self) -> None:
        super()._nothing_yet()
        self.own: Vouch | None = None
        self._forget_words()

    def _forget_words(self) -> None:
        """An epoch begins: words of the last one's members lead here, or nowhere."""
        self.believed: Committee | None = None
        self.words = Words()
        self.times_asked, self.asked_ns = 0, -self.period_ns

    def _vouch(self, whom: str) -> None:
        """Somebody is in an epoch whose end is forgotten: vouch for a later one, from which proofs lead on."""
        execution = self.execution
        begun = execution.epoch(vouched(execution.based))
        if begun is None:
            return  # we came by a word for a later one ourselves
        if self.own is None or self.own.begun != begun:
            self.own = Vouch(begun, self.port.keys.sign(vouch_bytes(DOMAIN, self.committee.log, begun)))
        self.port.send(whom, self.own)

    def _ask_members(self) -> None:
        """Tell all members of our epoch where we are: who is beyond it, and cannot prove that, vouches."""
        if self.port.now - self.asked_ns < self.period_ns // 2:
            return
        self.asked_ns, self.times_asked = self.port.now, self.times_asked + 1
        if self.times_asked == PATIENCE:
            mine, said = self.committee, len(self.words.newest)
            self.port.note("behind", epoch=mine.number, vouched=said, needed=mine.quorum)
        for name in self.others:
            self.port.send(name, self._status(name))

    def _on_vouch(self, sender: str, vouch: Vouch) -> None:
        """Somebody vouches for a later epoch. Whoever it is, there seems to be one: ask those whose word counts."""
        said, mine = vouch.begun, self.committee
        if said.number <= mine.number:
            return
        self._ask_members()
        if sender not in mine.members or not self.words.news(sender, vouch):
            return
        if problem(said.members, said.learners):
            self._drop("word for members that are none")
        elif not self.port.keys.verify(sender, vouch_bytes(DOMAIN, mine.log, said), vouch.signature):
            self._drop("word with a false signature")
        elif self.words.add(sender, vouch, mine.members):
            self.believed = self._committee_of(said)

    def _committee_of(self, begun: Begun) -> Committee:
        """Return the committee of an epoch that is believed to have begun so."""
        root = m.Stable(m.Point(begun.place, 0, b""), ())
        return self.committee.later(begun.members, begun.learners, begun.number, root)
