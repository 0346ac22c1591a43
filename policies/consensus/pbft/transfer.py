"""Epochs that end, and states that are taken over: what makes of a member another one's equal at once.

Safety, in what it believes: the end of an epoch by the commits of its quorum, a state by the digest that a quorum of
the epoch signed to which those proofs lead. Liveness, in whom it asks (`policies.consensus.chunks`).
"""

from __future__ import annotations

from policies.consensus.chunks import CHUNKS_PER_S, Arriving, Chunk, GetChunk, Serving, piece
from policies.consensus.messages import Restored
from policies.consensus.pbft import messages as m
from policies.consensus.pbft.epochs import changed_by, epoch_of
from policies.consensus.pbft.execution import Checkpoints, place_of
from policies.consensus.pbft.liveness import Doubts
from policies.consensus.pbft.proofs import GENESIS, Claim, Committee
from policies.consensus.pbft.vouching import Vouching
from policies.consensus.vouching import Begun
from policies.local import Configured, Restore


class Transfer(Vouching):
    """A member that enters epochs and takes states over.

    Attributes:
        arriving: the state that comes, None for none.
        led: the committees from ours, or from one for which ours vouched, to the one that signed that state.
        waits: nothing of it has come since the last period began.
        serving: who asked for chunks of our own, and how often.
    """

    def _nothing_yet(self) -> None:
        super()._nothing_yet()
        self.arriving: Arriving[m.Transferred] | None = None
        self.led: list[Committee] = []
        self.waits = False
        self.serving = Serving(CHUNKS_PER_S)

    # -- epochs --------------------------------------------------------------------------------------

    def _end_epoch(self, end: m.Decided) -> None:
        """The change of members at the place just executed takes effect: what the old members do later is void."""
        self.execution.end_epoch(end)
        self._enter_epoch(self.committee.after(end))
        self._begin_view()
        for name in self.audience:
            self.port.send(name, self._status(""))  # whoever is new cannot know yet that it is one of us

    def _enter_epoch(self, committee: Committee) -> None:
        """Forget what was promised, heard and waited for in the epoch before."""
        self._join(committee)
        if self.permitted is not None:
            self.permitted = ((), ())  # what was permitted is done, whoever may still ask for it
        self.voter.begin_epoch(committee)
        self.checkpoints, self.doubts = Checkpoints(committee), Doubts()
        self.ahead.begin_epoch(committee.members)
        self.vetting.waiting.clear()
        self.arrived.clear()
        self.callers.clear()
        self.turn = 0
        self._forget_words()
        self.patience.wait_for(b"")
        self.pool.begin_epoch((*committee.members, *committee.learners))
        if not (self.member or self.learner):
            self._refuse_reads()

    # -- states: who has one -------------------------------------------------------------------------

    def _on_get_chunk(self, sender: str, ask: GetChunk) -> None:
        """Somebody asks for a chunk of our snapshot; of another it is shown ours."""
        base = self.execution.base
        if sender not in self.known:
            self._drop("stranger")
        elif not self.serving.allows(sender, self.port.now):
            self._drop("chunk asked too often")
        elif base.stable != GENESIS:
            self.serving.count(sender, self.port.now)
            if ask.state == base.stable.point.state:
                data = piece(base.state, ask.number, self.config.chunk_bytes)
                self.port.send(sender, Chunk(ask.state, ask.number, data))
            else:
                self.port.send(sender, self.execution.offer)

    # -- states: who needs one -----------------------------------------------------------------------

    def _on_transferred(self, sender: str, given: m.Transferred) -> None:
        """Somebody shows what its snapshot is made of: if it is proven and newer, its chunks are asked for."""
        point, before = given.stable.point, self.arriving
        coming = (0, 0) if before is None else place_of(before.given.stable.point)
        if place_of(point) <= max(self.execution.place, coming):
            return
        arriving = Arriving(given, given.manifest, self.config.chunk_bytes)
        start = self._begin_of(given.ends)
        if start is None:
            self._ask_members()  # our epoch's end is forgotten
            return
        committees = _led_to(start, given.ends)
        if not committees or not self._possible(given, arriving, committees[-1]):
            self._drop("state without proof")
            return
        if not self.vetting.vetted(sender, given, lambda: _claims(given, committees), committees[-1]):
            return
        ends = zip(committees, _ends_of(committees, given.ends), strict=False)
        if not all(old.ends(end) for old, end in ends) or not committees[-1].proves_stable(given.stable):
            self._drop("state without proof")
            return
        arriving.begin(tuple(name for name in committees[-1].members if name != self.port.me), before)
        self.arriving, self.led = arriving, committees
        self._ask_chunk(sender)

    def _begin_of(self, ends: tuple[m.Decided, ...]) -> Committee | None:
        """Return from which committee on ``ends`` can be believed: ours, or one for which ours vouched, if any."""
        first = epoch_of(ends[0].view) if ends else 0
        if first <= self.committee.number:
            return self.committee
        return self.believed if self.believed is not None and first <= self.believed.number else None

    def _possible(self, given: m.Transferred, arriving: Arriving[m.Transferred], committee: Committee) -> bool:
        point = given.stable.point
        return arriving.possible and arriving.digest == point.state and point.seq >= committee.root.point.seq

    def _ask_chunk(self, whom: str) -> None:
        """Ask for the chunk that is due, or take the state over if none is."""
        arriving = self.arriving
        if arriving is None:
            return
        self.waits = False
        if (due := arriving.due) is not None:
            self.port.send(whom, GetChunk(arriving.digest, due))
        else:
            self.arriving = None
            self._take_over(arriving.given, arriving.state())

    def _tick(self) -> None:
        super()._tick()
        if self.arriving is not None:
            if self.waits:
                self._ask_another()
            self.waits = True

    def _ask_another(self) -> None:
        """Nothing has come for a period, or a lie: ask the next one who may have it."""
        whom = None if self.arriving is None else self.arriving.another()
        if whom is None:
            self.arriving = None
        else:
            self._ask_chunk(whom)

    def _on_chunk(self, sender: str, chunk: Chunk) -> None:
        """A chunk: it is right, or its sender lies and another is asked."""
        if self.arriving is None or not self.arriving.asks(chunk):
            return
        holder = sender in self.arriving.holders
        if self.arriving.take(sender, chunk):
            self._ask_chunk(sender)
        else:
            self._drop("wrong chunk")
            if holder:
                self._ask_another()

    def _take_over(self, given: m.Transferred, state: bytes) -> None:
        """Take a whole, proven state over, and enter the epoch to which its proofs lead."""
        point = given.stable.point
        committees = [committee for committee in self.led if committee.number >= self.committee.number]
        if not committees or place_of(point) <= self.execution.place or point.seq < self.execution.point.seq:
            return  # batches came meanwhile
        entered = committees[-1].number > self.committee.number
        if (since := committees[0]).number > self.committee.number:
            self.execution.leap(Begun(since.number, since.members, since.learners, since.root.point.seq, b""))
        for end in _ends_of(committees, given.ends):
            self.execution.end_epoch(end)
        for committee in committees:
            self.known |= {*committee.members, *committee.learners}
        if entered:
            self._enter_epoch(committees[-1])
        self.execution.restore(given.stable, state, self.known)
        self.voter.done = self.execution.point.seq
        self._tell_state()
        self._stabilise(given.stable)
        if entered:
            self._begin_view()
        self._begin_anew()
        self._execute()

    def _tell_state(self) -> None:
        """A state stands for all commands up to its index; its view is not one that all members share."""
        base = self.execution.base
        index = base.stable.point.applied
        self.port.decide("restore", Restored(index, 0))
        if self.applier:
            self.port.tell(self.applier, Restore(index, base.state))
            if (members := base.members()) is not None:
                self.port.tell(self.applier, Configured(index, *members))


def _led_to(start: Committee, ends: tuple[m.Decided, ...]) -> list[Committee]:
    """Return the committees to which ``ends`` lead from ``start`` if they are proven; nothing if they cannot be."""
    if not ends:
        return [start]  # whoever came by words for its epoch holds the end of none: its members signed the state or not
    committees, first = [start], epoch_of(ends[0].view)
    for end in ends[start.number - first :]:
        if changed_by(end) is None or epoch_of(end.view) != committees[-1].number:
            return []
        committees.append(committees[-1].after(end))
    return committees if first + len(ends) == committees[-1].number else []


def _ends_of(committees: list[Committee], ends: tuple[m.Decided, ...]) -> tuple[m.Decided, ...]:
    """Return those of ``ends`` that lead from the first committee to the last."""
    count = len(committees) - 1
    return ends[len(ends) - count :]


def _claims(given: m.Transferred, committees: list[Committee]) -> list[Claim]:
    ends = zip(committees, _ends_of(committees, given.ends), strict=False)
    found = [claim for old, end in ends for claim in old.claims_of_end(end)]
    return found + committees[-1].claims_of(given.stable.votes, "checkpoint", given.stable.point)
