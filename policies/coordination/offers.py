"""Offers: a village of several models serves as well as its workers allow, and never worse for long.

Which models stand side by side, in how many pipelines, is chosen for the classes of service that share them
(`policies.degradation`), by a planner's job (`policies.mixing`). Here it is asked and carried out:

- *down at once*: when workers are lost, what is left is asked about at the next tick, and a smaller model takes the
  workers that no better one can use;
- *up after a while*: what serves gives way to something better only for workers that have been lent for ``dwell_s``
  without a break, one move at a time, and each move first lets what is to go run dry (`policies.coordination.moving`).
  Newcomers are left free for a lease's time, as more may come, and together they may hold a better model;
- *cut better while nothing better can be served*: where moves are allowed (``replan``), each model's own pipelines give
  way to a better plan of their workers and the idle ones, but to none that would be worth less to the classes. What
  lost a worker is mended by an idle one that holds a copy, if the planner says so.

A request is run by the best model that has a pipeline for it. If all pipelines of a better one are busy, a class that
keeps the model waits for it, but no longer than ``patience`` of its time; one that keeps the promise takes what is
free.
An answer is one model's, unless its client has heard a part of it already: then another model goes on from there.

With one model all this is off, and nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from policies.coordination.efforts import Effort
from policies.coordination.lines import Line, Pipeline, candidate
from policies.coordination.moving import Moving
from policies.degradation import KEEPS, Mix, Share, class_of, worth
from policies.jobs import PlanJob, Stage
from policies.mixing import MIXER, Mixed, Mixing
from policies.port import NS_PER_S
from policies.wire import encode
from policies.work import Capability, Offered

MIX = ""
"""What `Moving.considered` has the choice among models under, beside each model's own cut."""

_mixed = msgspec.msgpack.Decoder(Mixed).decode


class Offers(Moving):
    """Serves classes by models.

    Attributes:
        offered: what was announced last.
        rests_until_ns: until when nothing moves, as a move did not run dry.
    """

    def _reset(self) -> None:
        super()._reset()
        self.offered: Offered | None = None
        self.rests_until_ns = 0

    @property
    def several(self) -> bool:
        """Whether there is anything to choose."""
        return len(self.cards) > 1

    # -- what shall stand -------------------------------------------------------------------------------

    def _plan_free(self, free: dict[str, Capability]) -> None:
        if not self.several:
            super()._plan_free(free)
            return
        asked = self.question(free)
        cards = (
            msgspec.structs.replace(card, state=self._already(card.model, free, self._broken_of(card.model)))
            for card in asked.cards
        )
        self._plan_mix(msgspec.structs.replace(asked, cards=tuple(cards)))

    def _plan_mix(self, asked: Mixing) -> None:
        self.planned = None
        self.plan_job = self.port.submit(PlanJob(MIXER, encode(asked), len(asked.workers)))

    def question(self, pool: dict[str, Capability]) -> Mixing:
        """Return what a planner is asked about these workers."""
        rules = self.config.degrade
        workers = tuple(candidate(node, capability) for node, capability in pool.items())
        lines = [line for line in self.lines.lines.values() if all(node in self.lines.workers for node in line.nodes)]
        standing = tuple((line.model, line.stages) for line in lines)
        return Mixing(self.sharding.planner, self.cards, workers, standing, rules.services, rules.away)

    def _consider(self) -> None:
        """Ask whether something better than what stands can stand, unless nothing has changed."""
        if not self.several:
            super()._consider()
            return
        if self.port.now < self.rests_until_ns or not self._at_rest():
            return
        pool = self.settled()
        asked = (tuple(pool.items()), tuple(self.lines.lines), 0)
        if asked != self.considered.get(MIX):
            self.considered[MIX], self.considering = asked, True
            self._plan_mix(self.question(pool))
            return
        for card in self.cards:  # which models stand is as good as it can be; how each is cut may not be
            if self.lines.of_model(card.model) and self._consider_model(card):
                return

    def settled(self) -> dict[str, Capability]:
        """Return what workers can lend that have been lent for the dwell, whether they serve or not."""
        since_ns = self.port.now - int(self.config.degrade.dwell_s * NS_PER_S)
        pool = self.lines.settled(since_ns, self.standing)
        return {node: c for node, c in pool.items() if self.lines.workers[node].since_ns <= since_ns}

    def _on_planned(self, result: bytes) -> None:
        if self.planned is not None:
            super()._on_planned(result)
            return
        mixed, considering, self.considering = _mixed(result), self.considering, False
        standing = {(line.model, line.stages): number for number, line in self.lines.lines.items()}
        going = set(standing.values()) - {standing.get((line.model, line.stages)) for line in mixed.lines}
        coming = [
            Pipeline(line.model, line.stages, line.token_s)
            for line in mixed.lines
            if (line.model, line.stages) not in standing
        ]
        if not coming:
            return
        if not considering or not going:
            waits = [line for line in coming if self._too_new(line)]
            self._propose_lines(line for line in coming if line not in waits)
            self.pool_changed = self.pool_changed or bool(waits)
            if not waits:
                self._announce(mixed)
        elif self._begin_move(coming, going):
            self._announce(mixed)

    def _take_idle(self, coming: tuple[Pipeline, ...]) -> None:
        if not self.several:  # else which models take idle workers is chosen for all of them
            super()._take_idle(coming)

    def _move(self, coming: tuple[Pipeline, ...], going: Iterable[int], drain_s: float) -> None:
        going = set(going)
        if self.planned is None or not self.several or self._no_worse(coming, going):
            super()._move(coming, going, drain_s)

    def _no_worse(self, coming: tuple[Pipeline, ...], going: set[int]) -> bool:
        """Whether what stands after a move is worth as much to the classes."""
        rules, lines = self.config.degrade, self.lines.lines
        stays = [(line.model, line.stages) for number, line in lines.items() if number not in going]
        after = self.mix([*stays, *((line.model, line.stages) for line in coming)])
        now = self.mix((line.model, line.stages) for line in lines.values())
        return worth(rules.services, rules.away, after) <= worth(rules.services, rules.away, now)

    def mix(self, pipelines: Iterable[tuple[str, tuple[Stage, ...]]]) -> Mix:
        """Return what pipelines, each of a model, make together."""
        found: dict[str, list[int]] = {card.model: [] for card in self.cards}
        for model, stages in pipelines:
            found[model].append(len(stages))
        return tuple(Share(max(counts, default=1), len(counts)) for counts in found.values())

    def _too_new(self, line: Pipeline) -> bool:
        """Whether a smaller model's line would take a worker that has only come."""
        if line.model == self.card.model:
            return False
        views = [self.lines.workers.get(stage.node) for stage in line.stages]
        return any(view is not None and self.port.now - view.since_ns < self.lease_ns for view in views)

    def _begin_move(self, coming: list[Pipeline], going: set[int]) -> bool:
        """Let the first line that can come take the place of those that hold its workers; return whether one can.

        All others that can come then do so as well. What else is to go serves until its own turn.
        """
        for first in coming:
            nodes = {stage.node for stage in first.stages}
            leaving = {number for number in going if not nodes.isdisjoint(self.lines.lines[number].nodes)}
            come = tuple(line for line in coming if self._can_come((line,), leaving))
            if first in come:
                self._move(come, leaving, self.config.degrade.drain_s)
                return True
        return False

    def _call_off(self) -> None:
        super()._call_off()
        if self.several:  # the same would be asked again at once
            self.considered.clear()
            self.rests_until_ns = self.port.now + int(self.config.degrade.dwell_s * NS_PER_S)

    def _announce(self, mixed: Mixed) -> None:
        counts = [(card.model, sum(line.model == card.model for line in mixed.lines)) for card in self.cards]
        offered = Offered(tuple((model, n) for model, n in counts if n), mixed.availability, mixed.kept)
        if offered != self.offered:
            self.offered = offered
            self.port.decide("offered", offered)

    # -- who runs what ----------------------------------------------------------------------------------

    def _taken_in(self, tokens: int) -> None:
        if not self.several:  # else it is seen when it runs which model is asked for so many
            super()._taken_in(tokens)

    def _dispatch(self) -> None:
        super()._dispatch()
        if self.several:  # who only waits for a better model is in the queue, and counts there
            for effort in [one for one in self.audits if not one.voters]:
                self.audits.remove(effort)
                self.efforts.queue(effort)

    def _line_for(self, effort: Effort) -> Line | None:
        if not self.several:
            return super()._line_for(effort)
        a, slots = effort.accepted, self.sharding.slots
        for card in self.cards:
            if effort.voters and card.model != self._speaks(effort):
                continue  # a second opinion is the same model's
            line = self.lines.pick(slots, effort.used, effort.voters, a.prompt_tokens, a.new_tokens, card.model)
            if line is not None or (self._keeps_waiting(effort) and self._serves(card.model)):
                return line
        return None

    def _keeps_waiting(self, effort: Effort) -> bool:
        """Whether a request's class waits for a busy model, and has the time."""
        a = effort.accepted
        spent_ns, whole_ns = self.port.wall - a.accepted_wall_ns, a.deadline_wall_ns - a.accepted_wall_ns
        return KEEPS[class_of(a.priority)] == "model" and spent_ns < self.config.degrade.patience * whole_ns

    def _serves(self, model: str) -> bool:
        """Whether a model has a pipeline that is ready, busy or not."""
        return any(line.model == model and self.lines.ready(line) for line in self.lines.lines.values())

    def _lets_others_pass(self, effort: Effort) -> bool:
        lines, slots = self.lines, self.sharding.slots
        return self.several and any(line.running < slots and lines.ready(line) for line in lines.lines.values())

    def _speaks(self, effort: Effort) -> str:
        """Return the model that a request's tokens, or its answer, came from last."""
        return effort.model.rpartition("+")[2] or self.card.model

    def _begins(self, effort: Effort, line: Line) -> str:
        if not self.several:
            return super()._begins(effort, line)
        if effort.tries == 1:
            self._expect_tokens(line.model, effort.accepted.new_tokens)
        name = "" if line.model == self.card.model else line.model
        if effort.emitted and self._speaks(effort) != line.model:
            if self.config.stream:
                effort.model = f"{effort.model or self.card.model}+{line.model}"
                return name
            effort.emitted.clear()
        if not effort.emitted:
            effort.model = name
        return name
