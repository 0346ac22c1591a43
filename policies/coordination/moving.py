"""Moves: what serves gives way to a better plan when that pays, in order, and idle workers hold copies of stages.

Whether a move pays is the planner's to say (`policies.sharding.replan`: what is in force, what workers have on disk
and the tokens expected all stand in the problem's state). Here it is asked and carried out:

- asked at a tick, of all workers that serve and of those that have been lent for a while, once for each different pool
  and each horizon. While pipelines still load, or one is being placed, nothing is asked;
- pipelines that are to go take no new work. When nothing runs there any more they are dissolved, and when the last of
  them is gone, those that come are placed. Work is never lost to a move: if it does not end in time, nothing moves.

A leader that is lost forgets a move that has not come to the dissolving; after that its successor plans anew over
workers that are free, as always.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from policies.coordination.lines import Pipeline
from policies.coordination.pipelines import BETTER, Pipelines
from policies.port import NS_PER_S
from policies.problem import Plan
from policies.work import Capability

Pool = tuple[tuple[str, Capability], ...]

_plan = msgspec.msgpack.Decoder(Plan).decode


class Moving(Pipelines):
    """Gives up what serves for what serves better.

    Attributes:
        considering: the planner's job that runs is over all workers.
        considered: what was asked last: the pool, the lines, and which horizon it was.
        coming: pipelines of a move under way; what goes is in ``lines.leaving``.
        parted: that the leaving lines shall dissolve has been proposed.
        drained_ns: when a move is called off.
    """

    def _reset(self) -> None:
        super()._reset()
        self.considering = False
        self.considered: tuple[Pool, tuple[int, ...], int] | None = None
        self.coming: tuple[Pipeline, ...] = ()
        self.parted = False
        self.drained_ns = 0

    def _consider(self) -> None:
        """Ask for a plan over all workers, unless nothing has changed or something is under way."""
        rules, lines = self.config.replan, self.lines
        if rules is None or self.plan_job or self.pool_changed or self.placing or self.coming:
            return
        if not lines.lines or not all(lines.ready(line) for line in lines.lines.values()):
            return
        pool = lines.settled(self.port.now - int(rules.dwell_s * NS_PER_S), self.state.members)
        asked = (tuple(pool.items()), tuple(lines.lines), self.port.now // int(rules.horizon_s * NS_PER_S))
        if asked != self.considered:
            self.considered, self.considering = asked, True
            self._submit_plan(pool, tuple(line.stages for line in lines.lines.values()))

    def _on_planned(self, result: bytes) -> None:
        """Take what a planner's job says."""
        self._on_plan(_plan(result))

    def _on_plan(self, plan: Plan) -> None:
        """Take a planner's answer: over free workers, or over all of them."""
        if not self.considering:
            self._propose_plan(plan)
            return
        self.considering = False
        going = [number for number, line in self.lines.lines.items() if line.stages not in plan.pipelines]
        if not going:
            self._propose_plan(plan)  # takes what is free
            self._hold_copies(plan)
            return
        standing = {line.stages for line in self.lines.lines.values()}
        coming = tuple(
            Pipeline(self.card.model, stages, token_s)
            for stages, token_s in zip(plan.pipelines, plan.latency_s, strict=True)
            if stages not in standing
        )
        if coming and self._can_come(coming, set(going)):
            assert self.config.replan is not None
            self._move(coming, going, self.config.replan.drain_s)

    def _move(self, coming: tuple[Pipeline, ...], going: Iterable[int], drain_s: float) -> None:
        """Let lines run dry and then give way to others."""
        self.coming, self.parted = coming, False
        self.drained_ns = self.port.now + int(drain_s * NS_PER_S)
        self.lines.leaving.update(going)
        self._go_on()

    def _can_come(self, coming: tuple[Pipeline, ...], going: set[int]) -> bool:
        """Whether all workers of these pipelines are free, or will be when the others are gone."""
        free = self.lines.free_workers(self.placing, self.state.members)
        return all(
            stage.node in free or (self.lines.of_node.get(stage.node) in going and stage.node in self.lines.workers)
            for pipeline in coming
            for stage in pipeline.stages
        )

    def _go_on(self) -> None:
        """Go on with a move: dissolve what works no more, place what comes; call it off if it cannot be."""
        if not self.coming:
            return
        lines = self.lines
        if not self._can_come(self.coming, lines.leaving):
            self._call_off()
        elif not lines.leaving:
            coming, self.coming = self.coming, ()
            self._propose_lines(coming)
        elif self.parted:
            return
        elif not any(lines.lines[number].running for number in lines.leaving):
            self.parted = True
            for number in sorted(lines.leaving):
                self._dissolve(number, BETTER)
        elif self.port.now >= self.drained_ns:
            self._call_off()

    def _call_off(self) -> None:
        self.coming = ()
        self.lines.leaving.clear()
        self.pool_changed = True
        self._dispatch()

    def _hold_copies(self, plan: Plan) -> None:
        """Let idle workers hold the plan's copies, and no others."""
        free = self.lines.free_workers(self.placing, self.state.members)
        wanted = {stage.node: stage for stage in plan.replicas if stage.node in free}
        for node in free:
            held = self.lines.spares.get(node)
            if node in wanted and (held is None or held[1] != wanted[node]):
                self.lines.spares[node] = (self._number(), wanted[node])
                self._load(node)
            elif node not in wanted and held is not None:
                del self.lines.spares[node]
                self._load(node)
