"""Batches on the processes of one host, round by round: the batchers of the real heads, in virtual time.

A pipeline's lanes and what each computes next are `policies.serving`'s, as in the real world. A batch walks through its
stages as a session does that steps alone (`sim.steps`): it queues for each executor, hops, and crosses shaped links.
Sessions are admitted by class, and lost at once when they waited beyond their deadlines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from policies.config import BatchedConfig, ShardingConfig
from policies.jobs import EXPIRED, Stage
from policies.serving.batching import Batcher, Piece, Request
from policies.serving.blocks import Name
from policies.serving.lanes import lane_count, lane_for, lane_rules
from sim.alike import Alike
from sim.laws import Measured
from sim.sessions import Session, prefilled
from sim.steps import Steps, Walk


@dataclass(eq=False)
class Lane(Walk):
    """A lane of a pipeline, and where its batch is.

    Attributes:
        batcher: says what is computed next.
        here: its sessions, by number.
        pieces: of the batch under way; none while it rests.
    """

    batcher: Batcher = field(kw_only=True)
    here: dict[int, Session] = field(default_factory=dict)
    pieces: tuple[Piece, ...] = ()

    def step_s(self) -> float:
        """Return what the batch's step at this stage takes."""
        stage, law = self.session.job.stages[self.stage], self.stages[self.stage].law
        assert isinstance(law, Measured)
        last = self.stage == len(self.stages) - 1
        return law.batch_s(stage.last - stage.first, last, [piece.tokens for piece in self.pieces])

    def tokens(self) -> int:
        """Return the tokens that go on from this stage: those that are said, from the last."""
        if self.stage == len(self.stages) - 1:
            return sum(piece.speaks for piece in self.pieces)
        return sum(piece.tokens for piece in self.pieces)


class Rounds(Steps):
    """All batches of one host.

    Args:
        serving: limits of a batch.
        sharding: what stages have reserved.
        alike: what requests have in common.
        lose: called with a session that ends unserved, why, the node that is to blame, and where it is not the time
            that it takes to notice, after how many seconds its head hears of it.
        arguments: as of `Steps`.
    """

    def __init__(
        self,
        serving: BatchedConfig,
        sharding: ShardingConfig,
        alike: Alike,
        lose: Callable[..., None],
        *arguments: Any,
    ) -> None:
        super().__init__(*arguments)
        self._serving, self._sharding, self._alike, self._lose = serving, sharding, alike, lose
        self._lines: dict[tuple[str, tuple[Stage, ...]], list[Lane]] = {}
        self._requests: dict[int, tuple[Lane, Request]] = {}

    def begin(self, session: Session) -> None:
        """Open a session: its prompt is with its head."""
        walk = self._walks[session.number] = Walk(session)
        self._work(walk, 0, self._host.opening_s(session), self._offer)

    def leave(self, session: Session) -> None:
        """Forget a session, wherever it is; a batch that is under way goes on, if it is anybody else's."""
        super().leave(session)
        lane, request = self._requests.pop(session.number, (None, None))
        if lane is None or request is None:
            return
        del lane.here[session.number]
        lane.batcher.cancel(request)
        if lane.here:
            return
        self._stop(lane)
        lanes = self._lines[(session.job.model, session.job.stages)]
        # A new one in its place: nothing that is still on its way in this lane is heard any more.
        batcher = lane.batcher
        if not batcher.rules.share:
            batcher = Batcher(batcher.rules)
        elif batcher.under_way:
            batcher.end()
        lanes[lanes.index(lane)] = Lane(lane.session, batcher=batcher)
        if not batcher.rules.share:
            self._forget_idle(lambda stages: stages == session.job.stages)

    def node_down(self, name: str) -> None:
        """What a node kept for nobody's sake is gone; its sessions have left."""
        self._forget_idle(lambda stages: any(stage.node == name for stage in stages))

    # -- inside --------------------------------------------------------------------------------------

    def _forget_idle(self, which: Callable[[tuple[Stage, ...]], bool]) -> None:
        """Forget lines where nobody is, of those pipelines."""
        for key in [key for key in self._lines if which(key[1])]:
            if not any(lane.here for lane in self._lines[key]):
                del self._lines[key]

    def _there(self, walk: Walk) -> bool:
        return bool(walk.here) if isinstance(walk, Lane) else super()._there(walk)

    def _offer(self, walk: Walk) -> None:
        """Let an open session wait for its turn in a lane."""
        session = walk.session
        job = session.job
        names = self._alike.names(job)
        lane = self._lane(session, names)
        request = Request(str(session.number), prefilled(job), session.decided, job.rank, job.deadline_ns, names)
        try:
            lane.batcher.offer(request)
        except ValueError as error:
            if not lane.batcher.rules.share:
                self._forget_idle(lambda stages: stages == session.job.stages)
            self._lose(session, str(error), session.node.name)
            return
        lane.here[session.number] = session
        self._requests[session.number] = (lane, request)
        if not lane.pieces:
            self._next_batch(lane)

    def _lane(self, session: Session, names: Sequence[Name]) -> Lane:
        job = session.job
        lanes = self._lines.get((job.model, job.stages))
        if lanes is None:
            self._forget_idle(lambda stages: stages[0].node == job.stages[0].node)  # a head keeps one pipeline's blocks
            rules = lane_rules(self._serving, self._sharding, len(job.stages))
            count = lane_count(self._sharding, len(job.stages))
            lanes = [Lane(session, batcher=Batcher(rules)) for _ in range(count)]
            self._lines[(job.model, job.stages)] = lanes
        return lanes[lane_for([(lane.batcher, names) for lane in lanes])]

    def _next_batch(self, lane: Lane) -> None:
        lane.pieces = () if lane.batcher.next(int(self._engine.now)) is None else lane.batcher.pieces()
        if lane.pieces:
            self._enqueue(lane)
        for session in list(lane.here.values()):
            if self._requests[session.number][1].state == "expired":
                self._lose(session, EXPIRED, "", 0.0)

    def _passed(self, walk: Walk) -> None:
        """The head has the tokens of a batch."""
        if not isinstance(walk, Lane):
            super()._passed(walk)
            return
        spoke = [piece.request.key for piece in walk.pieces if piece.speaks]
        walk.batcher.end()
        for key in spoke:
            if (session := walk.here.get(int(key))) is not None:
                self._says(session)
        if walk.here:
            self._next_batch(walk)
