"""Requests and their outcomes: what was asked is accepted once, and gets the one outcome that its votes allow.

The lowest layer of a committee member's coordination: it knows requests and the state that all layers share. How an
answer comes about is told in `policies.coordination.attempts`, which stands on this.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from policies import commands
from policies.commands import Accept, Attach, Complete, Evict, Refuse, unsigned
from policies.config import CoordinationConfig, ShardingConfig
from policies.coordination.efforts import WITHDRAWN, Answer, Effort, Efforts, settlement_of
from policies.coordination.lines import Lines
from policies.coordination.owed import Owed
from policies.coordination.proposals import Proposals
from policies.coordination.trust import SLANDER, Trust
from policies.local import Ask, Busy, Propose, Tokens
from policies.port import NS_PER_S, Policy
from policies.problem import Problem
from policies.state import OpKey, VillageState
from policies.wire import encode
from policies.work import Settled, SettledBy, SettledOp

STRIKES_MAX = 3
"""Times a worker may stand on the losing side of an audit before it is evicted (our assumption: a pipeline's
honest stages share the blame of a lying one, but rarely three times after re-planning)."""


class Requests(Policy):
    """What a member owes clients.

    Args:
        config: the leader's rules.
        sharding: planner and slots.
        card: the served model as a planning problem without workers.
        smaller: models that may serve in its place, the best first (`policies.coordination.offers`).
        seats: the committee at the beginning, where its members may lie, so that those who follow keep watch of who
            leads; () where each is believed.

    Attributes:
        cards: all of them.
        state: the replicated state.
        leader, term: who leads, as consensus says.
        lines: workers and pipelines.
        efforts: requests that are owed an outcome.
        proposals: what was asked of the log, until it is there.
        strikes: how often a worker's answer was the minority's.
        trust: what that tells of workers.
        owed: what the leader owes, None where members do not lie.
    """

    def __init__(
        self,
        config: CoordinationConfig,
        sharding: ShardingConfig,
        card: Problem,
        smaller: tuple[Problem, ...] = (),
        *,
        seats: tuple[str, ...] = (),
    ) -> None:
        self.config, self.sharding, self.card, self.seats = config, sharding, card, seats
        self.cards = (card, *smaller)
        self.layers: Mapping[str, int] = {card.model: card.layers for card in self.cards}
        self.lease_ns = int(config.lease_s * NS_PER_S)
        self.tick_ns = int(config.plan_every_s * NS_PER_S)
        self.state = self._new_state()
        self.leader, self.term = "", 0
        # One that runs is refused a lease after its deadline, at a tick; as long again for the log to say so.
        self.owed = Owed(2 * (self.lease_ns + self.tick_ns)) if seats else None
        self.lines = Lines()
        self._reset()

    def _new_state(self, snapshot: bytes = b"") -> VillageState:
        known = (None, self.seats, self.layers)
        return VillageState.restore(snapshot, *known) if snapshot else VillageState(*known)

    def _reset(self) -> None:
        """Forget what is soft; a layer above adds its own."""
        self.lines = Lines(self.lines.doubted)  # a detector tells what changes, and whoever leads must know it all
        self.efforts = Efforts(int(self.config.ageing_s * NS_PER_S))
        self.proposals = Proposals(self.tick_ns)
        self.strikes: dict[str, int] = {}
        self.trust = Trust()
        for node, accusers in self.state.registry.accused.items():
            for _ in accusers:
                self.trust.suspected(node, SLANDER)

    @property
    def standing(self) -> dict[str, bool]:
        """Nodes of the registry in order of joining: whether they are in good standing, and not accused by this member.

        It takes f + 1 members to put a worker out, but one that leads is not made to rely on whom it has found false.
        """
        accused, me = self.state.registry.accused, self.port.me
        if not accused:
            return self.state.members
        return {node: good and me not in accused.get(node, ()) for node, good in self.state.members.items()}

    def _put_out(self, node: str, reason: str) -> None:
        """Say, as one of the members who must, that a worker is to get no more work."""
        wish = Evict(node, reason)
        if self.seats:
            wish = Evict(node, reason, self.port.me)
            wish = msgspec.structs.replace(wish, signature=self.port.keys.sign(unsigned(wish)))
        self._propose(wish)

    @property
    def leading(self) -> bool:
        """Whether this member leads."""
        return self.leader == self.port.me

    def _propose(self, command: commands.Command) -> None:
        """Ask the log for a command; who leads goes on asking until it is there."""
        if not self.leading or self.proposals.add(command, self.port.now):
            self.port.tell("consensus", Propose(encode(command)))

    def _insist(self) -> None:
        """Ask again for what has not come into the log in time."""
        for command in self.proposals.due(self.port.now):
            self.port.tell("consensus", Propose(encode(command)))

    # -- what clients ask -------------------------------------------------------------------------------

    def _on_ask(self, ask: Ask) -> None:
        key = (ask.client, ask.op_id)
        if self._told(key):
            return
        if key in self.state.requests:
            if self.state.requests[key].source != ask.source:
                self._propose(Attach(ask.client, ask.op_id, ask.source))
            if (effort := self.efforts.all.get(key)) is not None and effort.emitted and self.config.stream:
                self.port.tell("gateway", Tokens(*key, 0, tuple(effort.emitted), effort.model))
        elif key in self.proposals.accepting:
            return
        elif len(self.efforts) + len(self.proposals.accepting) >= self.config.queue_max:
            self.port.tell("gateway", Busy(ask.client, ask.op_id, "queue full"))
        else:
            self._accept(ask)

    def _told(self, key: OpKey) -> bool:
        """Tell the gateway a request's outcome, if it has one; return whether it has."""
        outcome = self.state.outcomes.get(key)
        if outcome is not None:
            self.port.tell("gateway", settlement_of(outcome))
        return outcome is not None

    def _accept(self, ask: Ask) -> None:
        fields = {name: getattr(ask, name) for name in ask.__struct_fields__}
        self._propose(Accept(**fields, accepted_wall_ns=self.port.wall))

    def _on_withdraw(self, key: OpKey) -> None:
        """Refuse a request whose client is gone, also one that is only being accepted: that comes first in the log.

        Of what was never asked, or has its outcome, nothing is written: withdrawing has no rate.
        """
        if (effort := self.efforts.all.get(key)) is not None:
            self._refuse(effort, WITHDRAWN)
        elif key in self.proposals.accepting:
            self.proposals.withdraw(key)
            self._propose(Refuse(*key, WITHDRAWN))

    # -- outcomes ---------------------------------------------------------------------------------------

    def _give_up(self, effort: Effort, reason: str) -> None:
        """Nothing more will come: an answer that nobody contradicted stands, even where an audit was due."""
        answers = [votes[0].answer for votes in effort.votes.values() if votes]
        if len(answers) == 1:
            self._settle(effort, answers[0])
        else:
            self._refuse(effort, "workers disagree on the answer" if answers else reason)

    def _refuse(self, effort: Effort, reason: str) -> None:
        self._settle(effort, Refuse(*effort.key, reason))

    def _settle(self, effort: Effort, outcome: Complete | Refuse) -> None:
        if not effort.settling:
            effort.settling = True
            self.efforts.unqueue(effort)
            self._propose(outcome)

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
            if settlement.output:
                self._judge(effort, (settlement.output, settlement.tokens))
        if isinstance(command, Complete):
            nodes = tuple(stage.node for stage in command.receipt.stages)
        told = (*key, settlement.refused, settlement.output, settlement.tokens, nodes, tries)
        self.port.decide("settled", SettledBy(*told, settlement.model) if settlement.model else SettledOp(*told))
        self.port.tell("gateway", settlement)

    def _judge(self, effort: Effort, settled: Answer) -> None:
        """Whoever gave another answer than the settled one is struck; two who gave the same one have passed."""
        for answer, votes in effort.votes.items():
            for vote in votes:
                if answer != settled:
                    self.trust.lost(vote.nodes)
                elif len(votes) > 1:
                    self.trust.passed(vote.nodes)
        for node in effort.minority(settled):
            self._strike(node)

    def _strike(self, node: str) -> None:
        self.strikes[node] = self.strikes.get(node, 0) + 1
        if self.strikes[node] == STRIKES_MAX:
            self._put_out(node, f"{STRIKES_MAX} answers differed from the majority's")
