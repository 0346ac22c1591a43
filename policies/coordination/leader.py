"""Coordination on a committee member: the leader turns accepted requests into attempts on pipelines.

What must not be forgotten goes through consensus (`policies.commands`): membership, placements, that a request
was accepted, and its one outcome. Leases, queues and running attempts are soft: a new leader rebuilds them from the
replicated state and from the workers' next renewals. An attempt may therefore run twice; its outcome is
settled once, by the first `Complete` that commits.
"""

from __future__ import annotations

from typing import Any

import msgspec

from policies import commands
from policies.commands import Accept, Attach, Complete, Dissolve, Evict, Join, Place, Receipt, Refuse
from policies.config import CoordinationConfig, ShardingConfig
from policies.coordination.efforts import WITHDRAWN, Effort, Efforts, Vote, settlement_of, vouched
from policies.coordination.lines import DECLARED, Line, Lines, WorkerView, candidate
from policies.jobs import Done, Lost, PlanJob, Progress
from policies.local import Ask, Busy, Committed, Leadership, Propose, Restore, Seen, Snapshot, Tokens, Withdraw
from policies.port import NS_PER_S, Policy
from policies.problem import Plan, Problem
from policies.state import OpKey, VillageState
from policies.state.contributions import work
from policies.wire import encode
from policies.work import (
    RESEND_NS,
    Assign,
    Began,
    Credited,
    Emitted,
    Gone,
    Leased,
    Leave,
    Load,
    NotLeader,
    Placed,
    Renew,
    Report,
    Settled,
    SettledOp,
)  # fmt: skip

STRIKES_MAX = 3
"""Times a worker may stand on the losing side of an audit before it is evicted (our assumption: a pipeline's
honest stages share the blame of a lying one, but rarely three times after re-planning)."""

TERM_SHIFT = 20
"""A pipeline's number, and an attempt's, is its leader's term shifted by this, plus a count: unique, and it tells whose
it is. What an earlier leader still says of its attempts touches none of a later one's."""

SNAPSHOT_EVERY = 1024
"""Commands between two snapshots (our choice: a restart applies fewer than these, and a snapshot, which costs about a
millisecond, is rare)."""

_plan = msgspec.msgpack.Decoder(Plan).decode


class Coordination(Policy):
    """One committee member's coordination.

    Args:
        config: the leader's rules.
        sharding: planner and slots.
        card: the served model as a planning problem without workers.
    """

    messages = (Renew, Leave, Began, Emitted, Report)

    def __init__(self, config: CoordinationConfig, sharding: ShardingConfig, card: Problem) -> None:
        self.config, self.sharding, self.card = config, sharding, card
        self.lease_ns = int(config.lease_s * NS_PER_S)
        self.tick_ns = int(config.plan_every_s * NS_PER_S)
        self.state = VillageState()
        self.leader, self.term = "", 0
        self.lines = Lines()
        self._reset()

    def _reset(self) -> None:
        self.lines = Lines(self.lines.doubted)  # a detector tells what changes, and whoever leads must know it all
        self.efforts = Efforts(int(self.config.ageing_s * NS_PER_S))
        self.plan_job = 0
        self.placing: set[str] = set()  # workers of placements proposed but not committed
        self.pool_changed = False
        self.next_line = 0
        self.strikes: dict[str, int] = {}
        self.audits: list[Effort] = []  # answered once, waiting for a line that has not voted
        self.unheard: dict[tuple[str, str, int], tuple[str, Assign]] = {}  # assignments no worker has confirmed

    @property
    def leading(self) -> bool:
        """Whether this member leads."""
        return self.leader == self.port.me

    # -- inputs --------------------------------------------------------------------------------------

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Committed):
            self._on_committed(message)
        elif isinstance(message, Restore):
            self.state = VillageState.restore(message.state)
            self._rebuild()
        elif isinstance(message, Leadership):
            self._on_leadership(message)
        elif isinstance(message, Ask):
            self._on_ask(message)
        elif isinstance(message, Seen):
            self._on_seen(message)
        elif isinstance(message, Withdraw):
            self._on_withdraw((message.client, message.op_id))

    def on_message(self, sender: str, message: Any) -> None:
        if not self.leading:
            if not isinstance(message, Leave):
                self.port.send(f"{sender}/worker", NotLeader(self.leader))
        elif isinstance(message, Renew):
            self._on_renew(sender, message)
        elif isinstance(message, Report):
            self._on_report(sender, message)
        elif isinstance(message, Emitted):
            self._on_emitted(sender, message)
        elif isinstance(message, Began):
            self._confirmed(sender, (message.client, message.op_id, message.attempt))
        else:
            self._worker_gone(sender, message.reason)

    def on_timer(self, name: str) -> None:
        if not self.leading:
            return
        if name == "resend":
            self._resend()
            return
        self.port.set_timer("tick", self.tick_ns)
        for node in self.lines.expired(self.port.now):
            self._worker_gone(node, "lease expired")
        for effort in self.efforts.expired(self.port.wall, self.lease_ns):
            self._give_up(effort, "deadline passed")
        self._ask_for_plan()
        self._dispatch()

    def on_job(self, job_id: int, outcome: Any) -> None:
        if job_id != self.plan_job or isinstance(outcome, Progress):
            return
        self.plan_job = 0
        if self.leading and isinstance(outcome, Done):
            self._propose_plan(_plan(outcome.result))
        elif isinstance(outcome, Lost):
            self.pool_changed = True

    # -- leadership and replicated state -------------------------------------------------------------

    def _on_leadership(self, news: Leadership) -> None:
        self.leader, self.term = news.leader, news.term
        self._rebuild()

    def _rebuild(self) -> None:
        """Make the soft state anew from the replicated one."""
        self.port.cancel_timer("tick")
        self.port.cancel_timer("resend")
        if self.plan_job:
            self.port.cancel(self.plan_job)
        self._reset()
        if not self.leading:
            return
        for placement in self.state.placements.values():
            self._expect(self.lines.place(placement))
        for node in self.lines.dead():
            self._worker_gone(node, DECLARED)
        for accepted in self.state.requests.values():
            self.efforts.add(accepted)
        self.port.set_timer("tick", self.tick_ns)

    def _expect(self, line: Line) -> None:
        """Give each worker that an earlier leader placed one lease to be heard of."""
        for node in line.nodes:
            self.lines.workers.setdefault(node, WorkerView(None, self.port.now + self.lease_ns))

    def _propose(self, command: commands.Command) -> None:
        self.port.tell("consensus", Propose(encode(command)))

    def _on_committed(self, message: Committed) -> None:
        supply = self.state.credits.supply
        command, changed = self.state.apply_encoded(message.command, self.port.keys.verify)
        if self.state.applied % SNAPSHOT_EVERY == 0:  # on every member after the same command, so they can be compared
            self.port.tell("consensus", Snapshot(message.index, self.state.snapshot()))
        if isinstance(command, Complete) and changed:
            r, minted = command.receipt, self.state.credits.supply - supply
            done = sum(token_layers for _, token_layers in work(r))
            self.port.decide("credited", Credited(r.client, r.op_id, self.state.applied, done, minted))
        if command is None:
            self.port.note("no_command", index=message.index)
        elif self.leading:
            self._on_applied(command, changed)

    def _on_applied(self, command: commands.Command, changed: bool) -> None:
        if isinstance(command, Place):
            self._on_placed(command, changed)
        elif not changed:
            return
        elif isinstance(command, Accept):
            self.efforts.add(command)
            self._dispatch()
        elif isinstance(command, Attach):
            effort = self.efforts.all.get((command.client, command.op_id))
            if effort is not None:
                effort.accepted = self.state.requests[effort.key]
        elif isinstance(command, Complete | Refuse):
            self._on_settled(command)
            self._dispatch()  # one that was refused while it ran leaves a slot
        elif isinstance(command, Dissolve):
            self._on_dissolved(command)
        elif isinstance(command, Join):
            self.pool_changed = True
        elif isinstance(command, Evict) and command.node in self.lines.of_node:
            self._dissolve(self.lines.of_node[command.node], f"{command.node} evicted")

    # -- workers and pipelines -----------------------------------------------------------------------

    def _on_renew(self, node: str, renew: Renew) -> None:
        known = self.lines.workers.get(node)
        until = self.port.now + self.lease_ns
        had_bytes = known.capability.memory_bytes if known is not None and known.capability is not None else -1.0
        if node not in self.lines.of_node and renew.capability.memory_bytes > had_bytes:
            self.pool_changed = True  # also where an earlier leader placed it: it was not there to be planned with
        changed = known is None or known.capability != renew.capability or known.loaded != renew.loaded
        self.lines.workers[node] = WorkerView(renew.capability, until, renew.loaded)
        if changed:
            self.lines.heard(node)
        if node not in self.state.members:
            self._propose(Join(node))
        self.port.send(f"{node}/worker", Leased())
        number = self.lines.of_node.get(node, 0)
        if number != renew.loaded:
            if number:
                self._lose_attempts(self.lines.lines[number])  # none starts before all hold it, so it lost its memory
                self._dispatch()
            self._load(node, number)
        elif number and (known is None or known.loaded != number):
            self._dispatch()  # the last shard of a line may just have come up

    def _load(self, node: str, number: int) -> None:
        line = self.lines.lines.get(number)
        if line is None:
            self.port.send(f"{node}/worker", Load(0, "", 0, 0))
            return
        stage = next(s for s in line.stages if s.node == node)
        self.port.send(f"{node}/worker", Load(number, line.model, stage.first, stage.last))

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

    def _dissolve(self, number: int, reason: str) -> None:
        if number in self.lines.lines:
            self._propose(Dissolve(number, reason))

    def _on_dissolved(self, command: Dissolve) -> None:
        line = self.lines.dissolve(command.pipeline)
        if line is None:
            return
        self.pool_changed = True
        self.port.decide("gone", Gone(command.pipeline, command.reason))
        self._lose_attempts(line)
        if not set(self.lines.dead()).isdisjoint(line.nodes):
            self._ask_for_plan()  # else at the next tick, when more may have left
        self._dispatch()

    def _lose_attempts(self, line: Line) -> None:
        for effort in list(self.efforts.all.values()):
            for attempt in [a for a, number in effort.running.items() if number == line.number]:
                self.port.send(f"{line.nodes[0]}/worker", Settled(*effort.key, attempt))
                self._attempt_lost(effort, attempt)

    def _ask_for_plan(self) -> None:
        if self.plan_job or not self.pool_changed:
            return
        self.pool_changed = False
        free = self.lines.free_workers(self.placing, self.state.members)
        if free:
            workers = tuple(candidate(node, c) for node, c in free.items())
            problem = msgspec.structs.replace(self.card, workers=workers)
            self.plan_job = self.port.submit(PlanJob(self.sharding.planner, encode(problem), len(free)))

    def _propose_plan(self, plan: Plan) -> None:
        free = self.lines.free_workers(self.placing, self.state.members)
        for stages, token_s in zip(plan.pipelines, plan.latency_s, strict=True):
            if all(stage.node in free for stage in stages):
                self.next_line += 1
                number = (self.term << TERM_SHIFT) + self.next_line  # unique: one leader a term
                self.placing.update(stage.node for stage in stages)
                self._propose(Place(number, self.card.model, stages, token_s))

    def _on_placed(self, command: Place, changed: bool) -> None:
        self.placing.difference_update(stage.node for stage in command.stages)
        if not changed:
            self.pool_changed = True
            return
        line = self.lines.place(command)
        self.port.decide("placed", Placed(line.number, line.stages))
        if command.pipeline >> TERM_SHIFT != self.term:
            self._expect(line)  # an earlier leader's, committed or replayed only now; its workers may hold it already
            return
        gone = [node for node in line.nodes if node not in self.lines.workers]
        if gone:
            self._dissolve(line.number, f"{gone[0]}: left before it was placed")
            return
        for node in line.nodes:
            self._load(node, line.number)

    # -- requests ------------------------------------------------------------------------------------

    def _on_ask(self, ask: Ask) -> None:
        key = (ask.client, ask.op_id)
        if (outcome := self.state.outcomes.get(key)) is not None:
            self.port.tell("gateway", settlement_of(outcome))
        elif key in self.state.requests:
            if self.state.requests[key].source != ask.source:
                self._propose(Attach(ask.client, ask.op_id, ask.source))
            if (effort := self.efforts.all.get(key)) is not None and effort.emitted:
                self.port.tell("gateway", Tokens(*key, 0, tuple(effort.emitted)))
        elif len(self.efforts) >= self.config.queue_max:
            self.port.tell("gateway", Busy(ask.client, ask.op_id, "queue full"))
        else:
            fields = {name: getattr(ask, name) for name in ask.__struct_fields__}
            self._propose(Accept(**fields, accepted_wall_ns=self.port.wall))

    def _dispatch(self) -> None:
        audits, self.audits = self.audits, []
        for audit in audits:
            if audit.key in self.efforts.all:
                self.efforts.queue(audit)
        while (effort := self.efforts.next()) is not None:
            wanted, voters = effort.accepted, effort.voters
            line = self.lines.pick(self.sharding.slots, effort.used, voters, wanted.prompt_tokens, wanted.new_tokens)
            if line is None and not voters:
                return
            if line is None:  # an audit waits for a second opinion, and holds nobody up
                self.efforts.unqueue(effort)
                self.audits.append(effort)
                continue
            self.efforts.unqueue(effort)
            effort.tries += 1
            attempt = (self.term << TERM_SHIFT) + effort.tries
            effort.running[attempt] = line.number
            effort.used.add(line.number)
            line.running += 1
            a = effort.accepted
            assign = Assign(
                a.client, a.op_id, attempt, a.model, line.stages, a.prompt, a.source,
                a.prompt_tokens, a.new_tokens, self.config.report_every,
            )  # fmt: skip
            self.port.send(f"{line.nodes[0]}/worker", assign)
            if not self.unheard:
                self.port.set_timer("resend", RESEND_NS)
            self.unheard[(a.client, a.op_id, attempt)] = (line.nodes[0], assign)

    def _resend(self) -> None:
        """Send again what no worker has confirmed; what no longer runs is dropped."""
        for key, (node, assign) in list(self.unheard.items()):
            effort = self.efforts.all.get(key[:2])
            if effort is None or key[2] not in effort.running:
                del self.unheard[key]
            else:
                self.port.send(f"{node}/worker", assign)
        if self.unheard:
            self.port.set_timer("resend", RESEND_NS)

    def _confirmed(self, sender: str, key: tuple[str, str, int]) -> None:
        """The worker that was assigned this attempt has it; nobody else can say so."""
        if key in self.unheard and self.unheard[key][0] == sender:
            del self.unheard[key]

    def _on_withdraw(self, key: OpKey) -> None:
        """Refuse a request whose client is gone, also one that is only being accepted: that comes first in the log."""
        if (effort := self.efforts.all.get(key)) is not None:
            self._refuse(effort, WITHDRAWN)
        elif self.leading:
            self._propose(Refuse(*key, WITHDRAWN))

    def _on_emitted(self, sender: str, emitted: Emitted) -> None:
        """Pass on what the head of a running attempt says that it has."""
        effort = self.efforts.all.get((emitted.client, emitted.op_id))
        line = self.lines.lines.get(effort.running.get(emitted.attempt, 0)) if effort is not None else None
        if effort and line and line.nodes[0] == sender and effort.emit(emitted.position, emitted.tokens):
            self.port.tell("gateway", Tokens(*effort.key, emitted.position, emitted.tokens))

    def _on_report(self, sender: str, report: Report) -> None:
        self._confirmed(sender, (report.client, report.op_id, report.attempt))
        effort = self.efforts.all.get((report.client, report.op_id))
        number = effort.running.get(report.attempt) if effort is not None else None
        line = self.lines.lines.get(number) if number is not None else None
        if effort is None or line is None or line.nodes[0] != sender:
            self.port.send(f"{sender}/worker", Settled(report.client, report.op_id, report.attempt))
        elif report.reason:
            self.port.send(f"{sender}/worker", Settled(report.client, report.op_id, report.attempt))
            suspect = self.lines.workers.get(report.node)
            if suspect is not None and report.node in line.nodes:  # a head may blame its own line, nobody else's
                suspect.loaded = 0  # out of the line until it is heard of again
            self._attempt_lost(effort, report.attempt)
            self._dispatch()
        else:
            self._on_answer(effort, line, report)

    def _on_answer(self, effort: Effort, line: Line, report: Report) -> None:
        receipt = self._receipt(line, report)
        self.port.send(f"{line.nodes[0]}/worker", Settled(report.client, report.op_id, report.attempt))
        if not (
            0 <= report.tokens <= effort.accepted.new_tokens
            and self.port.keys.verify(line.nodes[0], encode(receipt), report.signature)
        ):
            self.port.note("bad_report", node=line.nodes[0], op_id=report.op_id)
            self._attempt_lost(effort, report.attempt)
            self._dispatch()
            return
        del effort.running[report.attempt]
        line.running -= 1
        votes = effort.votes.setdefault(report.output, [])
        if effort.voters.isdisjoint(line.nodes):  # who runs a request twice has still one vote
            votes.append(Vote(line.nodes, Complete(receipt, report.first_token_ns, report.signature)))
        others = any(effort.voters.isdisjoint(other.nodes) for other in self.lines.lines.values())
        needed = 2 if effort.audited(self.config.audit_share) and (others or len(effort.votes) > 1) else 1
        if len(votes) >= needed:
            self._settle(effort, vouched(votes))
        elif effort.tries >= self.config.tries or not others:
            self._give_up(effort, "workers lost")
        else:
            self.efforts.queue(effort)
        self._dispatch()

    def _give_up(self, effort: Effort, reason: str) -> None:
        """Nothing more will come: an answer that nobody contradicted stands, even where an audit was due."""
        answers = [votes[0].answer for votes in effort.votes.values() if votes]
        if len(answers) == 1:
            self._settle(effort, answers[0])
        else:
            self._refuse(effort, "workers disagree on the answer" if answers else reason)

    def _settle(self, effort: Effort, outcome: Complete | Refuse) -> None:
        if not effort.settling:
            effort.settling = True
            self.efforts.unqueue(effort)
            self._propose(outcome)

    def _receipt(self, line: Line, report: Report) -> Receipt:
        return Receipt(report.client, report.op_id, report.output, report.tokens, line.stages)

    def _attempt_lost(self, effort: Effort, attempt: int) -> None:
        number = effort.running.pop(attempt, None)
        line = self.lines.lines.get(number) if number is not None else None
        if line is not None:
            line.running -= 1
        if effort.tries >= self.config.tries and not effort.running:
            self._give_up(effort, "workers lost")
        else:
            self.efforts.queue(effort)

    def _refuse(self, effort: Effort, reason: str) -> None:
        self._settle(effort, Refuse(*effort.key, reason))

    def _on_settled(self, command: Complete | Refuse) -> None:
        settlement = settlement_of(command)
        key: OpKey = (settlement.client, settlement.op_id)
        effort = self.efforts.forget(key)
        tries = 0
        nodes: tuple[str, ...] = ()
        if effort is not None:
            tries = effort.tries
            for attempt, number in effort.running.items():
                line = self.lines.lines.get(number)
                if line is not None:
                    line.running -= 1
                    self.port.send(f"{line.nodes[0]}/worker", Settled(*key, attempt))
            for node in effort.minority(settlement.output) if settlement.output else ():
                self._strike(node)
        if isinstance(command, Complete):
            nodes = tuple(stage.node for stage in command.receipt.stages)
        self.port.decide(
            "settled", SettledOp(*key, settlement.refused, settlement.output, settlement.tokens, nodes, tries)
        )
        self.port.tell("gateway", settlement)

    def _strike(self, node: str) -> None:
        self.strikes[node] = self.strikes.get(node, 0) + 1
        if self.strikes[node] == STRIKES_MAX:
            self._propose(Evict(node, f"{STRIKES_MAX} answers differed from the majority's"))
