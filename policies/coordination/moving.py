"""Moves: what serves gives way to a better plan when that pays, in order, and idle workers hold copies of stages.

Whether a move pays is the planner's to say (`policies.sharding.replan`: what is in force, what workers have on disk
and the tokens expected all stand in the problem's state). Here it is asked and carried out:

- asked at a tick, of all workers that serve and of those that have been lent for a while, once for each different pool
  and each horizon; of several models, of each in turn. While pipelines still load, or one is being placed, nothing is
  asked;
- pipelines that are to go take no new work. When nothing runs there any more they are dissolved, and when the last of
  them is gone, those that come are placed. Work is never lost to a move: if it does not end in time, nothing moves.

A leader that is lost forgets a move that has not come to the dissolving; after that its successor plans anew over
workers that are free, as always.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from policies.coordination.lines import Hold, Pipeline
from policies.coordination.pipelines import BETTER, Pipelines
from policies.port import NS_PER_S
from policies.problem import Plan, Problem
from policies.work import Capability

Pool = tuple[tuple[str, Capability], ...]

_plan = msgspec.msgpack.Decoder(Plan).decode


class Moving(Pipelines):
    """Gives up what serves for what serves better.

    Attributes:
        considering: the planner's job that runs is over all workers.
        considered: what was asked last of each model: the pool, the lines, and which horizon it was.
        coming: pipelines of a move under way; what goes is in ``lines.leaving``.
        parted: that the leaving lines shall dissolve has been proposed.
        drained_ns: when a move is called off.
    """

    def _reset(self) -> None:
        super()._reset()
        self.considering = False
        self.considered: dict[str, tuple[Pool, tuple[int, ...], int]] = {}
        self.coming: tuple[Pipeline, ...] = ()
        self.parted = False
        self.drained_ns = 0

    def _consider(self) -> None:
        """Ask for a plan over all workers, unless nothing has changed or something is under way."""
        if self._at_rest():
            self._consider_model(self.card)

    def _at_rest(self) -> bool:
        """Whether all that stands serves, and nothing is under way."""
        if self.plan_job or self.pool_changed or self.placing or self.coming:
            return False
        return bool(self.lines.lines) and all(self.lines.ready(line) for line in self.lines.lines.values())

    def _consider_model(self, card: Problem) -> bool:
        """Ask for a plan over a model's workers and the idle ones, unless nothing has changed; say whether it was."""
        rules, lines = self.config.replan, self.lines.of_model(card.model)
        if rules is None:
            return False
        own = tuple(line.number for line in lines)
        pool = self.lines.settled(self.port.now - int(rules.dwell_s * NS_PER_S), self.standing)
        pool = {node: c for node, c in pool.items() if self.lines.of_node.get(node) in (None, *own)}
        asked = (tuple(pool.items()), own, self.port.now // int(rules.horizon_s * NS_PER_S))
        if asked == self.considered.get(card.model):
            return False
        self.considered[card.model], self.considering = asked, True
        self._plan_model(card, pool, tuple(line.stages for line in lines))
        return True

    def _on_planned(self, result: bytes) -> None:
        """Take what a planner's job says."""
        self._on_plan(_plan(result))

    def _on_plan(self, plan: Plan) -> None:
        """Take a planner's answer: over free workers, or over all of them."""
        if not self.considering:
            self._propose_plan(plan)
            return
        self.considering = False
        assert self.planned is not None
        assert self.config.replan is not None
        model, lines = self.planned.model, self.lines.of_model(self.planned.model)
        going = [line.number for line in lines if line.stages not in plan.pipelines]
        standing = {line.stages for line in lines}
        coming = tuple(
            Pipeline(model, stages, token_s)
            for stages, token_s in zip(plan.pipelines, plan.latency_s, strict=True)
            if stages not in standing
        )
        if not going:
            self._take_idle(coming)
            self._hold_copies(plan)
        elif coming and self._can_come(coming, set(going)):
            self._move(coming, going, self.config.replan.drain_s)

    def _take_idle(self, coming: tuple[Pipeline, ...]) -> None:
        """Place what a plan adds to that which stands."""
        self._propose_lines(coming)

    def _move(self, coming: tuple[Pipeline, ...], going: Iterable[int], drain_s: float) -> None:
        """Let lines run dry and then give way to others."""
        self.coming, self.parted = coming, False
        self.drained_ns = self.port.now + int(drain_s * NS_PER_S)
        self.lines.leaving.update(going)
        self._go_on()

    def _can_come(self, coming: tuple[Pipeline, ...], going: set[int]) -> bool:
        """Whether all workers of these pipelines are free, or will be when the others are gone."""
        free = self.lines.free_workers(self.placing, self.standing)
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
        """Let idle workers hold the plan's copies, and no others; copies of a better model come first."""
        assert self.planned is not None
        model, ranks = self.planned.model, {card.model: rank for rank, card in enumerate(self.cards)}
        free = self.lines.free_workers(self.placing, self.standing)
        wanted = {stage.node: stage for stage in plan.replicas if stage.node in free}
        for node in free:
            held = self.lines.spares.get(node)
            if held is not None and ranks[held.model] < ranks[model]:
                continue
            if node in wanted and (held is None or held[1:] != (model, wanted[node])):
                self.lines.spares[node] = Hold(self._number(), model, wanted[node])
                self._load(node)
            elif node not in wanted and held is not None and held.model == model:
                del self.lines.spares[node]
                self._load(node)
