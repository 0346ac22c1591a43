"""Reads that see every earlier write, without a log entry (ReadIndex; Ongaro's dissertation, section 6.4).

A leader that has committed an entry of its term notes its commit index when a read arrives, and then asks a quorum
whether it still leads: it begins a *round*, a number that its Appends carry and that answers repeat. What began before
a quorum answered the round may be served at the noted index. Reads that arrive while a round is open wait for the next,
so that there is one round at a time however many they are. A member that does not lead asks the leader for the index,
and serves the read once it has applied as much.

Liveness only: a read that is not answered within two election time-outs is refused with an index of -1; who asked may
ask again, there or elsewhere. So is one too many.
"""

from __future__ import annotations

from policies.config import RaftConfig
from policies.consensus.quorum import vote_result
from policies.consensus.raft.following import Following
from policies.consensus.raft.messages import AskRead, ReadAt
from policies.local import Readable

READS_MAX = 1024
"""Reads that a member has open at once, each kind (our bound)."""
REFUSED = -1

Pending = tuple[str, int, int]
"""Who asks (``""``: the own state machine), by which number, at which index."""


class Reads(Following):
    """A member that serves reads.

    Attributes:
        open: reads that wait until a quorum has answered ``round``.
        queued: reads that wait for the next round.
        asked: number of a read that the leader was asked about to the state machine's token.
        ready: (index, token, since when) of own reads that wait until ``index`` is applied.
        old: numbers in ``asked`` that were there a time-out ago.
    """

    def __init__(
        self, config: RaftConfig, members: tuple[str, ...], applier: str = "", watchers: tuple[str, ...] = ()
    ) -> None:
        super().__init__(config, members, applier, watchers)
        self.open: list[Pending] = []
        self.queued: list[Pending] = []
        self.asked: dict[int, int] = {}
        self.ready: list[tuple[int, int, int]] = []
        self.old: tuple[int, ...] = ()
        self.read = 0  # number of the last read that the leader was asked about

    def _on_read(self, token: int) -> None:
        """The own state machine asks."""
        if self.role == "leader":
            self._begin("", token)
        elif not self.leader or len(self.asked) + len(self.ready) >= READS_MAX:
            self._tell_readable(token, REFUSED)
        else:
            if not self.read:  # an answer meant for an earlier life must fit no read of this one
                self.read = self.port.rng.bits64() >> 3
            self.read += 1
            if not self.asked and not self.ready:
                self.port.set_timer("reads", self.election_ns)
            self.asked[self.read] = token
            self.port.send(self.leader, AskRead(self.read), early=True)

    # -- leader's side ---------------------------------------------------------------------------------------------

    def _may_read(self) -> bool:
        """Whether the commit index holds every write that was ever confirmed: not before an entry of this term."""
        return self.log.term_at(self.commit) == self.term

    def _begin(self, asker: str, read: int) -> None:
        if not self._may_read() or len(self.open) + len(self.queued) >= READS_MAX:
            self._answer(asker, read, REFUSED)
            return
        self.queued.append((asker, read, self.commit))
        if not self.open:
            self._next_round()

    def _next_round(self) -> None:
        if not self.queued:
            return
        self.open, self.queued = self.queued, []
        self.round += 1
        self._beat()
        self._round_answered()  # alone, it is a quorum

    def _round_answered(self) -> None:
        if self.open and self._round_has_quorum():
            served, self.open = self.open, []
            for asker, read, index in served:
                self._answer(asker, read, index)
            self._next_round()

    def _round_has_quorum(self) -> bool:
        answered = {peer: True for peer, progress in self.progress.items() if progress.round == self.round}
        return vote_result(self.configurations.current.voters, {**answered, self.port.me: True}) == "won"

    def _answer(self, asker: str, read: int, index: int) -> None:
        if asker:
            self.port.send(asker, ReadAt(read, index), early=True)
        elif index == REFUSED:
            self._tell_readable(read, REFUSED)
        else:
            self._serve_when_applied(read, index)

    def _on_ask_read(self, sender: str, ask: AskRead) -> None:
        if self.role == "leader":
            self._begin(sender, ask.read)
        else:
            self.port.send(sender, ReadAt(ask.read, REFUSED), early=True)

    # -- the side of who asked -------------------------------------------------------------------------------------

    def _on_read_at(self, answer: ReadAt) -> None:
        token = self.asked.pop(answer.read, None)
        if token is None:
            return
        if answer.index == REFUSED:
            self._tell_readable(token, REFUSED)
        else:
            self._serve_when_applied(token, answer.index)

    def _serve_when_applied(self, token: int, index: int) -> None:
        if index <= self.applied:
            self._tell_readable(token, index)
        else:
            self.ready.append((index, token, self.port.now))

    def _applied_to(self, index: int) -> None:
        if self.ready:
            served = [token for at, token, _ in self.ready if at <= index]
            self.ready = [read for read in self.ready if read[0] > index]
            for token in served:
                self._tell_readable(token, index)

    def _tell_readable(self, token: int, index: int) -> None:
        if self.applier:
            self.port.tell(self.applier, Readable(token, index))

    # -- refusals --------------------------------------------------------------------------------------------------

    def _reads_timeout(self) -> None:
        for read in self.old:
            if (token := self.asked.pop(read, None)) is not None:
                self._tell_readable(token, REFUSED)
        self.old = tuple(self.asked)
        late_ns = self.port.now - self.election_ns  # it was answered, and cut off before it had applied as much
        for token in [token for _, token, since_ns in self.ready if since_ns <= late_ns]:
            self._tell_readable(token, REFUSED)
        self.ready = [read for read in self.ready if read[2] > late_ns]
        if self.old or self.ready:
            self.port.set_timer("reads", self.election_ns)

    def _end_leading(self) -> None:
        super()._end_leading()
        for asker, read, _ in (*self.open, *self.queued):
            self._answer(asker, read, REFUSED)
        self.open, self.queued, self.round = [], [], 0

    def _follow(self, leader: str) -> None:
        if leader != self.leader:
            for token in self.asked.values():
                self._tell_readable(token, REFUSED)
            self.asked, self.old = {}, ()
        super()._follow(leader)
