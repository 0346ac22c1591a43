"""The head's side of a session that is prepared for deaths: stages are told, and asked what they have of it."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
import numpy as np
import numpy.typing as npt

from policies.jobs import PreparedJob, Standby
from policies.wire import encode
from real_backends.copies import Copies, Guard, Holds, Marker
from real_backends.transports.frames import STAGE, Transport

ASK_TRIES = 3
ASK_TRY_S = 1.0  # assumption: as long as a standby's pass of 512 tokens, behind which the question may wait


class Resuming:
    """Begins prepared sessions.

    Args:
        transport: the node's links.
        copies: what this node keeps itself.

    Attributes:
        counts: ``resumed`` sessions that began where others ended, the ``known`` tokens that they began with, and how
            many of them went through the stages ``again``.
    """

    def __init__(self, transport: Transport, copies: Copies) -> None:
        self._transport, self._copies = transport, copies
        self._asked: dict[str, tuple[dict[str, Holds], asyncio.Event]] = {}
        self.counts: Counter[str] = Counter()

    async def begin(self, job: PreparedJob, session: str, known: npt.NDArray[np.int64]) -> int:
        """Tell all stages of a session; return the position of the first token that has to go through them.

        A stage that does not answer in time has nothing. At least the last known token goes in, to decide the next.
        """
        guards = [self._guard(job, session, index) for index in range(len(job.stages))]
        heard: dict[str, Holds] = {}
        event = asyncio.Event()
        self._asked[session] = heard, event
        try:
            heard[job.stages[0].node] = await self._copies.guard(guards[0])
            for _ in range(ASK_TRIES):
                for guard in guards[1:]:
                    if guard.stages[guard.index].node not in heard:
                        self._transport.send(guard.stages[guard.index].node, STAGE, encode(guard))
                if not job.resume:
                    return 0
                if await self._all_heard(len(guards), heard, event):
                    break
        finally:
            del self._asked[session]
        whole = len(heard) == len(guards)
        position = min(common(holds, job, known) for holds in heard.values()) if whole else 0
        self.counts.update(resumed=1, known=len(known), again=len(known) - position)
        return position

    async def _all_heard(self, stages: int, heard: dict[str, Holds], event: asyncio.Event) -> bool:
        while len(heard) < stages:
            event.clear()
            try:
                await asyncio.wait_for(event.wait(), ASK_TRY_S)
            except TimeoutError:
                return False
        return True

    async def cover(self, job: PreparedJob, session: str, standbys: tuple[Standby, ...]) -> None:
        """Tell stages of a session that has begun who stands by for them, too, from now on."""
        told = msgspec.structs.replace(job, standbys=standbys, resume=False)
        for guard in (self._guard(told, session, each.index) for each in standbys):
            if guard.index:
                self._transport.send(guard.stages[guard.index].node, STAGE, encode(guard))
            else:
                await self._copies.guard(guard)

    def _guard(self, job: PreparedJob, session: str, index: int) -> Guard:
        standby = next((each for each in job.standbys if each.index == index), None)
        return Guard(session, job.model, job.stages, index, job.kept, standby, job.resume)

    def on_holds(self, sender: str, holds: Holds) -> None:
        """A stage says what it has."""
        if holds.session in self._asked:
            heard, event = self._asked[holds.session]
            heard[sender] = holds
            event.set()


def common(holds: Holds, job: PreparedJob, known: npt.NDArray[np.int64]) -> int:
    """Return how many of the known tokens, but for the last, a stage has the very same cache of."""
    told = dict(zip(holds.ends, holds.marks, strict=False))
    marker, found, done = Marker(job.kept, job.model), 0, 0
    for end in sorted(end for end in told if 0 < end < len(known)):
        mark = marker.take(known[done:end])
        done = end
        if mark == told[end]:
            found = end
    return found
