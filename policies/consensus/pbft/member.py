"""PBFT: one member (Castro and Liskov, OSDI 1999; TOCS 20(4), 2002), the version with signatures.

This file says who hears what. What may be signed is in `safety`, what proves what in `proofs`, who the members are in
`epochs`, what is agreed in `execution`. The layers of a member join them: `core`, `requests`, `ordering`, `views`,
`repeating`, `vouching`, `transfer`, each on the one before; what keeps them going is in `liveness`, `vetting` and
`catch_up`.

Where it differs from the paper: members stand for the clients; commits are signed, so that a decided batch is proof in
itself and one peer suffices to catch up; a view is left only by a quorum that would leave it; the members may change;
and reads go through the log, because the paper's read-only shortcut lets a faulty primary block a client for ever
(arXiv 2107.11144).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from policies.consensus.chunks import Chunk, GetChunk
from policies.consensus.pbft import messages as m
from policies.consensus.pbft.execution import Checkpoints
from policies.consensus.pbft.proofs import GENESIS
from policies.consensus.pbft.transfer import Transfer
from policies.consensus.vouching import Vouch
from policies.local import Allow, GiveUp, Propose, Read, Reconfigure, Snapshot
from policies.log import DamagedLog
from policies.wire import Message


class Pbft(Transfer):
    """One member. ``applier`` is the path of this node told of commits, ``watchers`` are told who leads.

    ``members`` are those of the first epoch, the same on every node; one that joins later is made with them, too, and
    waits until it is called.

    Raises:
        ValueError: ``members`` names somebody twice, or too few.
    """

    messages = m.MESSAGES

    # -- life cycle ----------------------------------------------------------------------------------

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.patience.begin(self.port)
        self.vetting.begin(self.port)
        self.committee.begin(self.port, self.window)
        self._join(self.committee)
        try:
            self.execution.begin(self.port, saved)
            self.known |= set(self.execution.base.known)
            if self.execution.since is not None:
                self._join(self._committee_of(self.execution.since))
            for end in self.execution.ends:
                self._join(self.committee.after(end))
            self.voter.begin(self.port, saved, self.window, self.committee)
        except msgspec.MsgspecError as error:
            raise DamagedLog(f"{self.port.me}: a saved record of consensus is not one ({error})") from None
        self.checkpoints = Checkpoints(self.committee)
        self.voter.done = self.execution.point.seq
        self.number = self.port.rng.bits64() >> 2  # numbers of another life are not used again
        if self.execution.base.stable != GENESIS:
            self._tell_state()
        self._follow()
        if not self.voter.active:
            self.ahead.change(self.voter.change())  # it counts for this member as well
        self._vote_from(0)  # what was promised and perhaps not said
        self._execute()
        self._propose()
        self._tick()

    def on_timer(self, name: str) -> None:
        self.vetting.begin_step()
        if name == "tick":
            self._tick()
        elif name == "apply":
            self._execute()
        elif name == "vet":
            self._vet()
        elif name == "vote":
            self._vote_from(self.votes_from)
        elif name == "ask":
            self._ask_all()
        elif not self.voter.active:
            self._leave(self.voter.view + 1)
        else:
            alone = self.pool.asked_alone(self.patience.awaited, self.port.me)
            unknown = alone is not None and not self.reserved(alone.command)  # of a primary's own all know its batch
            self._ask_all()
            self.patience.again()
            if not unknown:
                self._doubt()

    def on_durable(self, token: int) -> None:
        for seq in self.voter.durable(token):
            self._decide(seq)
        self._execute()

    def on_local(self, sender: str, message: Any) -> None:
        kind = type(message)
        if kind is Propose:
            self._ask(message.command)
        elif kind is Read:
            self._read(message.token)
        elif kind is Snapshot:
            point = self.execution.snapshot(message.index, message.state, message.place)
            if point is not None and self.member:
                self._attest(point)
        elif kind is Reconfigure:
            self._reconfigure(message.members, message.learners)
        elif kind is Allow:
            self._allow(message.members, message.learners)
        elif kind is GiveUp:
            self._give_up(message.term)
        else:  # the primary follows from the view
            self.port.note("refused", message=kind.__name__, protocol="pbft")

    def on_message(self, sender: str, message: Any) -> None:
        self.vetting.begin_step()
        kind, committee = type(message), self.committee
        if kind not in _FROM_ANYBODY:
            if sender not in committee.members and not (kind is m.Request and sender in committee.learners):
                self._drop("stranger")
                return
            if not self.member and kind not in _FOR_ONLOOKERS:
                return
        _HANDLERS[kind](self, sender, message)

    def _vet(self) -> None:
        """Go on with what waits to be verified."""
        before = dict(self.vetting.waiting)
        for (sender, _), (message, _) in before.items():
            if not isinstance(message, m.ViewChange):
                _HANDLERS[type(message)](self, sender, message)
        if self.member:
            self._gather()
        self.vetting.forget(before)


_HANDLERS: dict[type[Message], Callable[[Pbft, str, Any], None]] = {
    m.Request: Pbft._on_request,
    m.PrePrepare: Pbft._on_pre_prepare,
    m.Prepare: Pbft._on_vote,
    m.Commit: Pbft._on_vote,
    m.Checkpoint: Pbft._on_checkpoint,
    m.Stable: Pbft._on_stable,
    m.ViewChange: Pbft._on_view_change,
    m.NewView: Pbft._on_new_view,
    m.Status: Pbft._on_status,
    m.Missing: Pbft._on_missing,
    m.Body: Pbft._on_body,
    m.Shown: Pbft._on_shown,
    m.Decided: Pbft._on_decided,
    m.Transferred: Pbft._on_transferred,
    GetChunk: Pbft._on_get_chunk,
    Chunk: Pbft._on_chunk,
    Vouch: Pbft._on_vouch,
}
_FROM_ANYBODY = frozenset((m.Status, m.Decided, m.Transferred, GetChunk, Chunk, Vouch))
"""What is proof in itself, or asks for it: who is not of this epoch may be of the next."""
_FOR_ONLOOKERS = frozenset((m.Stable, m.NewView))
"""What of the members' talk concerns a node that does not vote."""
