"""Standing by: idle workers hold stages, get copies of what those would lose, and take their place when they die.

Which stage is worth it, and which way it is copied, is `policies.recovery`'s to say; here it is asked and carried out:

- an idle worker holds the stage of a pipeline whose copies save most for their bytes, one that has a standby last;
- each attempt is told who stands by for its stages, and what is to be copied to them (`policies.jobs.Standby`). All
  bytes stay within the rule's multiple of replay's: what is copied is counted when it is planned, to the last token.
  Who stands by is told whose copies to take; where that word is lost, that attempt has no standby there;
- a worker that comes up as a standby gets copies of what runs already as well, where nobody stands by;
- a stage that a head blames, or that is gone, is replaced by its standby: the pipeline dissolves and comes again with
  it. The next attempt begins where its stages have caches (`policies.jobs.PreparedJob`), and so waits for it, no longer
  than a lease;
- when a request has its outcome, everyone who may keep something of it is told to forget it.

A request that is audited is not prepared: its pipelines come to their answers without one another's caches. A new
leader does not know who has what. It asks as well, but those that are in its own pipelines alone.

Of several models, whatever no class needs a pipeline of leaves workers idle, and they stand by for stages of any of
them. What is kept counts for the same layers of the same model, so that a request that another model goes on with
begins with its prompt there.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from policies.commands import Complete, Place, Refuse
from policies.config import CoordinationConfig, RecoveryRules, ReplayConfig, ShardingConfig
from policies.coordination.efforts import Effort
from policies.coordination.lines import Hold, Line, candidate
from policies.coordination.mishaps import Mishaps
from policies.coordination.offers import Offers
from policies.jobs import Stage, Standby
from policies.mixing import as_model
from policies.port import NS_PER_S
from policies.problem import Problem
from policies.recovery import Choice, Copying, Exposure, Rules, allowance_bytes, choose, cover, replay
from policies.state import OpKey
from policies.work import Assign, AssignPrepared, Cover, Expect, Free, Keep, Renew

TOKEN_BYTES = 4.0  # what enters a first stage: prompts and outputs are blobs of 4-byte tokens (`policies.jobs`)
USUAL_SHARE = 8  # assumption: until one has been asked, a prompt is an eighth of the context, and an answer as long


class Standing(Offers):
    """Has workers stand by for others.

    Args:
        config, sharding, card, smaller, seats: as of `policies.coordination.requests.Requests`.
        recovery: whether requests are prepared for deaths, and how.
        kv_bytes_token_layer: what a layer of the first model keeps of a token.

    Attributes:
        mishaps: how often workers are lost.
        blamed: pipelines to dissolve because of a stage, and which.
        again: pipelines that are to come again, each with its new number, or 0, and until when one waits for it (ns).
        ran_on: the pipeline that a request ran on last.
        covered: of a request's newest attempt, each stage that has a standby, and which.
        holders: nodes that may keep something of a request, in the order in which they came to it.
        unspent_bytes: what may still be copied, of what `policies.recovery.allowance_bytes` allowed so far.
        usual: tokens of a prompt and of an answer, of the request that was asked last.
    """

    def __init__(
        self,
        config: CoordinationConfig,
        sharding: ShardingConfig,
        card: Problem,
        smaller: tuple[Problem, ...] = (),
        *,
        recovery: RecoveryRules = ReplayConfig(),  # noqa: B008
        kv_bytes_token_layer: float = 0.0,
        seats: tuple[str, ...] = (),
    ) -> None:
        self.rules = None if isinstance(recovery, ReplayConfig) else recovery
        self.kv_bytes_token_layer = kv_bytes_token_layer
        super().__init__(config, sharding, card, smaller, seats=seats)

    def _reset(self) -> None:
        super()._reset()
        self.mishaps = Mishaps()
        self.blamed: dict[int, str] = {}
        self.again: dict[int, tuple[int, int]] = {}
        self.ran_on: dict[OpKey, int] = {}
        self.covered: dict[OpKey, dict[int, str]] = {}
        # What an earlier leader had run may be kept where it ran.
        self.holders: dict[OpKey, dict[str, None]] = {key: {} for key in self.state.requests}
        self.unspent_bytes = 0.0
        self.usual = (max(1, self.sharding.context_tokens // USUAL_SHARE),) * 2

    # -- who stands by ----------------------------------------------------------------------------------

    def _consider(self) -> None:
        if self.rules is not None:
            self.mishaps.watch(len(self.lines.workers) * self.tick_ns / NS_PER_S)
            if self.config.replan is None:  # else idle workers hold copies by its rules, which are as good
                self._stand_by()  # first, as it waits while a plan is made
        super()._consider()

    def _stand_by(self) -> None:
        """Let each idle worker hold a stage: of those with fewest standbys the one that is worth most."""
        if self.plan_job or self.pool_changed or self.placing:
            return
        lines, free = self.lines, self.lines.free_workers(self.placing, self.standing)
        standbys = {(line.model, s.first, s.last): 0 for line in lines.lines.values() for s in line.stages}
        for node in list(lines.spares):
            _, model, held = lines.spares[node]
            if node in free and (model, held.first, held.last) in standbys:
                standbys[model, held.first, held.last] += 1
            else:
                del lines.spares[node]
                if node in lines.workers:
                    self._load(node)
        for node, capability in free.items():
            if node in lines.spares:
                continue
            found = [
                (standbys[line.model, stage.first, stage.last], -self._worth(line, index, node), line.number, index)
                for line in lines.lines.values()
                for index, stage in enumerate(line.stages)
                if self._fits(line.model, stage, capability)
            ]
            best = min((each for each in found if each[1] < 0.0), default=None)
            if best is not None:
                line = lines.lines[best[2]]
                stage = line.stages[best[3]]
                standbys[line.model, stage.first, stage.last] += 1
                lines.spares[node] = Hold(self._number(), line.model, Stage(node, stage.first, stage.last))
                self._load(node)

    def _worth(self, line: Line, index: int, node: str) -> float:
        """Return the seconds that a usual request is expected to save by a standby, a byte that is copied to it."""
        exposure, rules = self._exposure(line, index, node), Rules(line.token_s)
        choice = self._choice(exposure, *self.usual, rules)
        saved_s = replay(exposure, *self.usual, rules).cost_s - choice.cost_s
        return saved_s / choice.copy_bytes

    def _load(self, node: str) -> None:
        if self.rules is None:
            super()._load(node)
            return
        self.port.send(f"{node}/worker", self.lines.order(node, Keep))

    # -- what is copied to them -------------------------------------------------------------------------

    def _prepared(self, effort: Effort, line: Line, assign: Assign) -> Assign:
        self.covered.pop(effort.key, None)
        if self.rules is None or effort.votes or effort.audited(self.config.audit_share):
            return assign
        self.ran_on[effort.key] = line.number
        resume = effort.key in self.holders
        holders = self.holders.setdefault(effort.key, {})
        self.usual = (assign.prompt_tokens, assign.new_tokens)
        held, left = assign.prompt_tokens + len(assign.forced), assign.new_tokens - len(assign.forced)
        # A first attempt sends this; a later one would by replay send it again, and may send all that was missing.
        passed = held if resume else assign.prompt_tokens + assign.new_tokens
        sent_bytes = passed * sum(self._input_bytes(line.model, k) for k in range(len(line.stages)))
        live_bytes, replayed_bytes = (0.0, sent_bytes) if resume else (sent_bytes, 0.0)
        self.unspent_bytes += allowance_bytes(live_bytes, replayed_bytes, self.rules.bytes_ratio) - replayed_bytes
        holders.update(dict.fromkeys(line.nodes))
        self.covered[effort.key] = {}
        standbys = self._copies(effort.key, line, held, left)
        self._expect_copies(effort.key, assign.attempt, line, standbys)
        return AssignPrepared(**msgspec.structs.asdict(assign), standbys=standbys, resume=resume)

    def _on_renew(self, node: str, renew: Renew) -> None:
        before = self.lines.workers.get(node)
        super()._on_renew(node, renew)
        spare = self.lines.spares.get(node)
        if spare is not None and renew.loaded == spare.number and (before is None or before.loaded != spare.number):
            for covered in self.covered.values():
                for index in [index for index, by in covered.items() if by == node]:
                    del covered[index]  # it may have lost what it had
            self._cover_what_runs()

    def _cover_what_runs(self) -> None:
        """Let whoever has come up stand by for attempts under way, the oldest first."""
        for key in self.covered:
            effort, number = self.efforts.all[key], self.ran_on[key]
            attempt = next((attempt for attempt, on in effort.running.items() if on == number), 0)
            line, told, a = self.lines.lines.get(number), len(effort.emitted), effort.accepted
            if line is None or not attempt or told >= a.new_tokens:
                continue
            standbys = self._copies(key, line, a.prompt_tokens + told, a.new_tokens - told)
            if standbys:
                self._expect_copies(key, attempt, line, standbys)
                self.port.send(f"{line.nodes[0]}/worker", Cover(*key, attempt, standbys))

    def _expect_copies(self, key: OpKey, attempt: int, line: Line, standbys: tuple[Standby, ...]) -> None:
        """Tell standbys whose copies to take, before any is sent: one that comes first is not taken."""
        for each in standbys:
            self.port.send(f"{each.node}/worker", Expect(*key, attempt, line.stages[each.index].node))

    def _copies(self, key: OpKey, line: Line, held: int, left: int) -> tuple[Standby, ...]:
        """Return who stands by for a request's stages that have nobody yet, and what they get, within the allowance."""
        rules, covered, holders = Rules(line.token_s), self.covered[key], self.holders[key]
        found: list[tuple[int, str, Choice, Copying]] = []
        for index, stage in enumerate(line.stages):
            able = self._standbys_of(line.model, stage)
            if covered.get(index, "") not in able and (node := _nearest(able, holders)):
                exposure = self._exposure(line, index, node)
                choice = self._choice(exposure, held, left, rules)
                found.append((index, node, choice, Copying(exposure, choice, held, 0.0)))
        until = cover([each[3] for each in found], left, rules, self.unspent_bytes)
        standbys = []
        for (index, node, choice, _), tokens in zip(found, map(int, until), strict=True):
            if tokens and choice.way != "replay":
                self.unspent_bytes -= tokens * choice.copy_bytes
                standbys.append(Standby(index, node, choice.way, choice.interval_tokens, tokens))
        covered.update({each.index: each.node for each in standbys})
        holders.update({each.node: None for each in standbys})
        return tuple(standbys)

    def _standbys_of(self, model: str, stage: Stage) -> list[str]:
        """Return all who stand by for a stage."""
        lines = self.lines
        return [
            node
            for node, (number, of, held) in lines.spares.items()
            if (of, held.first, held.last) == (model, stage.first, stage.last)
            and (view := lines.workers.get(node)) is not None
            and view.loaded == number
            and node not in lines.doubted
            and node not in self.placing
        ]

    def _choice(self, exposure: Exposure, held: int, left: int, rules: Rules) -> Choice:
        assert self.rules is not None
        return choose(exposure, held, left, rules, self.rules.ways)

    def _input_bytes(self, model: str, index: int) -> float:
        return self._card(model).activation_bytes if index else TOKEN_BYTES

    def _exposure(self, line: Line, index: int, node: str) -> Exposure:
        """Return what the death of a stage would cost: what its successor lacks goes through all stages again."""
        assert self.rules is not None
        stage, capability, card = line.stages[index], self.lines.workers[node].capability, self._card(line.model)
        assert capability is not None
        here = as_model(card, self.card, candidate(node, capability))
        view = self.lines.workers.get(stage.node)
        there = view.capability if view is not None else None
        deaths_per_s = self.mishaps.per_s if self.rules.deaths_per_h is None else self.rules.deaths_per_h / 3600.0
        layers = stage.last - stage.first
        own_s = layers * here.prefill_s_token_layer
        # Lines state the prompt's time as workers do, for layers of the first model.
        all_s = line.prefill_s_token * (card.layer_bytes / self.card.layer_bytes)
        return Exposure(
            min(1.0, deaths_per_s * line.token_s),
            self._input_bytes(line.model, index),
            layers * self.kv_bytes_token_layer * (card.kv_bytes_layer / self.card.kv_bytes_layer),
            min(here.bytes_per_s, there.bytes_per_s if there is not None else here.bytes_per_s),
            own_s,
            here.step_s + layers * here.layer_s,
            max(0.0, all_s - own_s),
        )

    # -- what happens when a stage dies -----------------------------------------------------------------

    def _worker_gone(self, node: str, reason: str) -> None:
        if node in self.lines.workers:
            self.mishaps.lost()
        super()._worker_gone(node, reason)

    def _blamed(self, line: Line, node: str) -> None:
        if self.rules is not None and line.number not in self.blamed and self._mended(line, node):
            self.blamed[line.number] = node
            self.again[line.number] = (0, self.port.now + self.lease_ns)
            self._dissolve(line.number, f"{node}: a standby takes its place")

    def _mend(self, line: Line) -> None:
        """Place a dissolved pipeline again, with standbys for the stages that it lost."""
        if self.rules is None:
            return
        stages = self._mended(line, self.blamed.pop(line.number, ""))
        number, until_ns = -1, self.port.now + self.lease_ns
        if not self.coming and stages and stages != line.stages:
            number = self._number()
            self._propose(Place(number, line.model, stages, line.token_s))
        self._comes_as(line.number, number, until_ns)

    def _comes_as(self, gone: int, number: int, until_ns: int) -> None:
        """Whoever waits for a pipeline waits for another one in its place; for none if that is -1."""
        known = {gone: (gone, until_ns)} | {k: v for k, v in self.again.items() if v[1] > self.port.now}
        after = {k: (number, until_ns) if gone in (k, v[0]) else v for k, v in known.items()}
        self.again = {k: v for k, v in after.items() if v[0] >= 0}

    def _on_placed(self, command: Place, changed: bool) -> None:
        if not changed and command.pipeline not in self.lines.lines:
            self._comes_as(command.pipeline, -1, 0)
        super()._on_placed(command, changed)

    def _line_for(self, effort: Effort) -> Line | None:
        line, waits = self._comes_again(effort)
        return line if waits else super()._line_for(effort)

    def _lets_others_pass(self, effort: Effort) -> bool:
        return self._comes_again(effort)[1] or super()._lets_others_pass(effort)

    def _comes_again(self, effort: Effort) -> tuple[Line | None, bool]:
        """Return the pipeline that a request ran on, come again, if it is free; and whether that is waited for."""
        number, until_ns = self.again.get(self.ran_on.get(effort.key, 0), (-1, 0))
        if number < 0 or self.port.now >= until_ns or effort.votes:
            return None, False
        line = self.lines.lines.get(number)
        free = line is not None and line.running < self.sharding.slots and self.lines.ready(line)
        return (line if free else None), True

    def _mended(self, line: Line, blamed: str) -> tuple[Stage, ...]:
        """Return a pipeline's stages with a standby for each lost one; none if it cannot be had."""
        stages: list[Stage] = []
        for stage in line.stages:
            node = stage.node
            view = self.lines.workers.get(node)
            if node == blamed or view is None or node in self.lines.doubted or not self.standing.get(node, False):
                node = _nearest(self._standbys_of(line.model, stage))
            if not node or node in self.placing or node in [other.node for other in stages]:
                return ()
            stages.append(Stage(node, stage.first, stage.last))
        return tuple(stages)

    # -- the end ----------------------------------------------------------------------------------------

    def _on_settled(self, command: Complete | Refuse) -> None:
        super()._on_settled(command)
        of = command.receipt if isinstance(command, Complete) else command
        key = (of.client, of.op_id)
        self.ran_on.pop(key, None)
        self.covered.pop(key, None)
        for node in self.holders.pop(key, {}):
            self.port.send(f"{node}/worker", Free(*key))


def _nearest(standbys: Collection[str], holders: Collection[str] = ()) -> str:
    """Return who is to take a stage's place, if anybody: rather one that has something of the request already."""
    return min(standbys, key=lambda node: (node not in holders, node), default="")
