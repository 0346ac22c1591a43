"""Workers and pipelines: leases, plans, placements, and what becomes of a pipeline whose worker is gone.

It stands on `policies.coordination.attempts`: a pipeline that comes up takes work, one that is lost gives it back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from policies.commands import Dissolve, Join, Place
from policies.coordination.attempts import TERM_SHIFT, Attempts, reign
from policies.coordination.lines import DECLARED, Line, Pipeline, WorkerView, candidate
from policies.coordination.outlook import Outlook
from policies.jobs import PlanJob, Stage
from policies.local import Seen
from policies.mixing import as_model
from policies.problem import Held, Mover, Plan, Problem, State
from policies.wire import encode
from policies.work import Capability, Gone, Leased, Placed, PlacedOf, Renew

BETTER = "a better plan"
"""Why a pipeline ends that nothing is wrong with."""


class Pipelines(Attempts):
    """Who serves what.

    Attributes:
        plan_job: the planner's job that runs, or 0.
        pool_changed: whether a plan is due.
        next_line: pipelines numbered so far in this term.
        broken: pipelines that lost a worker since the last plan, which may be mended, each with its model.
        planned: the model that ``plan_job`` cuts; None where it chooses among several.
        outlooks: how many tokens are expected of each model.
    """

    def _reset(self) -> None:
        super()._reset()
        self.plan_job = 0
        self.pool_changed = False
        self.next_line = 0
        self.broken: list[tuple[str, tuple[Stage, ...]]] = []
        self.planned: Problem | None = None
        self.outlooks = {card.model: Outlook() for card in self.cards}

    @property
    def placing(self) -> Collection[str]:
        """Workers of placements that are under way."""
        return self.proposals.placing

    # -- workers ----------------------------------------------------------------------------------------

    def _on_renew(self, node: str, renew: Renew) -> None:
        known = self.lines.workers.get(node)
        until = self.port.now + self.lease_ns
        had_bytes = known.capability.memory_bytes if known is not None and known.capability is not None else -1.0
        if node not in self.lines.of_node and renew.capability.memory_bytes > had_bytes:
            self.pool_changed = True  # also where an earlier leader placed it: it was not there to be planned with
        changed = known is None or known.capability != renew.capability or known.loaded != renew.loaded
        since = known.since_ns if known is not None else self.port.now
        self.lines.workers[node] = WorkerView(renew.capability, until, renew.loaded, since)
        if changed:
            self.lines.heard(node)
        if node not in self.state.members:
            self._propose(Join(node))
        self.port.send(f"{node}/worker", Leased())
        number, model, stage = self.lines.wanted(node)
        line = self.lines.lines.get(number)
        if number != renew.loaded:
            if line is not None:
                self._lose_attempts(line)  # none starts before all hold it, so it lost its memory
                self._dispatch()
                if not self._fits(model, stage, renew.capability):  # it lends less by now, and will not load it
                    self._dissolve(number, f"{node}: lends too little")
            self._load(node)
        elif number and (known is None or known.loaded != number):
            self.lines.on_disk.setdefault(node, {})[model, stage.first, stage.last] = None
            self._dispatch()  # the last shard of a line may just have come up

    def _card(self, model: str) -> Problem:
        return next(card for card in self.cards if card.model == model)

    def _fits(self, model: str, stage: Stage, capability: Capability) -> bool:
        """Whether a worker lends enough for a stage, counted as planners do (`policies.sharding.check`)."""
        card = self._card(model)
        ends = (stage.first == 0) + (stage.last == card.layers)
        layer_bytes = card.layer_bytes + card.kv_bytes_layer
        return (stage.last - stage.first) * layer_bytes + ends * card.head_bytes <= capability.memory_bytes + 1

    def _load(self, node: str) -> None:
        self.port.send(f"{node}/worker", self.lines.order(node))

    def _worker_gone(self, node: str, reason: str) -> None:
        if self.lines.workers.pop(node, None) is not None and node in self.lines.of_node:
            self._dissolve(self.lines.of_node[node], f"{node}: {reason}")

    def _on_seen(self, seen: Seen) -> None:
        """Act on a failure detector's word: no new work for whom it doubts, another pipeline in place of a dead one's.

        It may be wrong, so that work is lost; leases, terms and the log stay what an outcome rests on.
        """
        news = self.lines.take(seen.peer, seen.status)
        if self.leading and seen.status == "dead":
            self._worker_gone(seen.peer, DECLARED)
        elif self.leading and news and seen.status == "alive":
            self.pool_changed = True
            self._dispatch()

    # -- plans and placements ---------------------------------------------------------------------------

    def _ask_for_plan(self) -> None:
        if self.plan_job or not self.pool_changed or self.lines.leaving:
            return
        self.pool_changed = False
        free = self.lines.free_workers(self.placing, self.standing)
        if free:
            self._plan_free(free)
            self.broken.clear()

    def _plan_free(self, free: dict[str, Capability]) -> None:
        """Have free workers planned."""
        self._plan_model(self.card, free, self._broken_of(self.card.model))

    def _broken_of(self, model: str) -> tuple[tuple[Stage, ...], ...]:
        return tuple(stages for of, stages in self.broken if of == model)

    def _plan_model(self, card: Problem, pool: dict[str, Capability], in_force: tuple[tuple[Stage, ...], ...]) -> None:
        """Have a model cut over these workers; what is in force is weighed against it only where moves are allowed."""
        workers = tuple(as_model(card, self.card, candidate(node, c)) for node, c in pool.items())
        problem = msgspec.structs.replace(card, workers=workers, state=self._already(card.model, pool, in_force))
        self.planned = card
        self.plan_job = self.port.submit(PlanJob(self.sharding.planner, encode(problem), len(pool)))

    def _already(self, model: str, pool: dict[str, Capability], in_force: tuple[tuple[Stage, ...], ...]) -> State:
        """Return what is there of a model, and what is expected of it; nothing is said of it where nothing moves."""
        rules = self.config.replan
        if rules is None:
            return State()
        # A runtime reads a shard anew for every pipeline, so none is counted as loaded; what serves is ready.
        held = tuple(
            Held(node, first, last, loaded=False)
            for node in pool
            for of, first, last in self.lines.on_disk.get(node, ())
            if of == model
        )
        movers = tuple(Mover(node, rules.load_bytes_per_s) for node in pool)
        ahead = self.outlooks[model].tokens(self.port.now, rules.horizon_s)
        return State(in_force, held, movers, max(1, int(ahead)), rules.service, rules.away)

    def _expect_tokens(self, model: str, tokens: int) -> None:
        """So many more tokens were asked for; as many again are expected."""
        if self.config.replan is not None:
            self.outlooks[model].take(self.port.now, self.config.replan.horizon_s, tokens)

    def _taken_in(self, tokens: int) -> None:
        """Hear of a request that was accepted."""
        self._expect_tokens(self.card.model, tokens)

    def _propose_plan(self, plan: Plan) -> None:
        pipelines = zip(plan.pipelines, plan.latency_s, strict=True)
        self._propose_lines([Pipeline(self.card.model, stages, token_s) for stages, token_s in pipelines])

    def _propose_lines(self, lines: Iterable[Pipeline]) -> None:
        free = self.lines.free_workers(self.placing, self.standing)
        for model, stages, token_s in lines:
            if all(stage.node in free for stage in stages):
                self._propose(Place(self._number(), model, stages, token_s))

    def _number(self) -> int:
        """Return a new line's number, unique as one leader has one term."""
        self.next_line += 1
        return (reign(self.term) << TERM_SHIFT) + self.next_line

    def _on_placed(self, command: Place, changed: bool) -> None:
        if not changed:
            self.pool_changed = True
            return
        line = self.lines.place(command)
        own = line.model == self.card.model
        self.port.decide(
            "placed", Placed(line.number, line.stages) if own else PlacedOf(line.number, line.stages, line.model)
        )
        if command.pipeline >> TERM_SHIFT != reign(self.term):
            self._expect(line)  # an earlier leader's, committed or replayed only now; its workers may hold it already
            return
        gone = [node for node in line.nodes if node not in self.lines.workers]
        if gone:
            self._dissolve(line.number, f"{gone[0]}: left before it was placed")
            return
        for node in line.nodes:
            self._load(node)

    def _expect(self, line: Line) -> None:
        """Give each worker that an earlier leader placed one lease to be heard of."""
        for node in line.nodes:
            self.lines.workers.setdefault(node, WorkerView(None, self.port.now + self.lease_ns))

    def _dissolve(self, number: int, reason: str) -> None:
        if number in self.lines.lines:
            self._propose(Dissolve(number, reason))

    def _on_dissolved(self, command: Dissolve) -> None:
        line = self.lines.dissolve(command.pipeline)
        if line is None:
            return
        self.pool_changed = True
        if self.config.replan is not None and command.reason != BETTER:
            self.broken.append((line.model, line.stages))
        self.port.decide("gone", Gone(command.pipeline, command.reason))
        self._mend(line)
        self._lose_attempts(line)
        if not set(self.lines.dead()).isdisjoint(line.nodes):
            self._ask_for_plan()  # else at the next tick, when more may have left
        self._dispatch()

    def _mend(self, line: Line) -> None:
        """A line is no more; a layer above may have another worker in place of the one that it lost."""
