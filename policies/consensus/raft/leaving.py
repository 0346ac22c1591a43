"""Showing a removed member out: it is sent the entry that removes it, and campaigns no more. Liveness only.

A leader sends nothing to whom its configuration does not name, so a member that had not heard of its removal when the
change was over goes on asking for votes for ever (Ongaro's dissertation, section 4.2.3, "disruptive servers"). PreVote
and CheckQuorum keep it from disturbing anybody. Here its question is answered, too: the leader brings its log up to the
committed configuration, as it would a member's, and then forgets it. What is lost it asks for again.

Bounds: `LEAVING_MAX` at a time, one message under way to each, none unless it asks. Only the leader answers: a member
that knows none of the present ones never learns; nor does one that asks without PreVote, whose term runs ahead.
"""

from __future__ import annotations

from policies.config import RaftConfig
from policies.consensus.raft.leading import Leading
from policies.consensus.raft.messages import RequestPreVote
from policies.consensus.raft.progress import Progress

LEAVING_MAX = 8
"""Removed members that are shown out at a time; one more takes the place of who asked first, or those who are gone for
good would keep all others out (our bound)."""


class Leaving(Leading):
    """A leader that answers those who are out.

    Attributes:
        leaving: removed members that asked, and how far their logs agree.
    """

    def __init__(
        self, config: RaftConfig, members: tuple[str, ...], applier: str = "", watchers: tuple[str, ...] = ()
    ) -> None:
        super().__init__(config, members, applier, watchers)
        self.leaving: dict[str, Progress] = {}

    def _show_out(self, peer: str, ask: RequestPreVote) -> None:
        """Somebody would campaign: if the committed configuration is without it, send it what it lacks of that."""
        if self.role != "leader" or peer in self.progress or self.configurations.index > self.commit:
            return
        self.leaving.pop(peer, None)  # it waited in vain: what was under way is lost
        if len(self.leaving) >= LEAVING_MAX:
            del self.leaving[next(iter(self.leaving))]
        progress = self.leaving[peer] = Progress(min(ask.last_index, self.log.last) + 1)
        self._replicate(peer, progress)

    def _outside(self, peer: str) -> Progress | None:
        return self.leaving.get(peer)

    def _on_agreed(self, peer: str, progress: Progress, index: int) -> None:
        if peer in self.leaving and index >= self.configurations.index:
            del self.leaving[peer]  # it knows
        else:
            super()._on_agreed(peer, progress, index)

    def _configuration_changed(self) -> None:
        super()._configuration_changed()
        for name in self.others:
            self.leaving.pop(name, None)

    def _end_leading(self) -> None:
        super()._end_leading()
        self.leaving = {}
