"""Attempts: an accepted request runs on a pipeline, again on another if that one is lost, and twice if it is audited.

Assignments may be lost: each is repeated until its worker confirms it. What a worker reports is a vote; votes become
an outcome in `policies.coordination.requests`, below this layer, and `policies.coordination.examined` has work checked.
"""

from __future__ import annotations

import msgspec

from policies.commands import Complete, CompleteBy, Receipt
from policies.coordination.efforts import Effort, Vote, vouched
from policies.coordination.examined import Examination
from policies.coordination.lines import Line
from policies.coordination.requests import STRIKES_MAX
from policies.jobs import EXPIRED
from policies.local import Tokens
from policies.wire import encode
from policies.work import LEFT_MAX_NS, RESEND_NS, Assign, Emitted, Report, Settled

TERM_SHIFT = 20
"""A pipeline's number, and an attempt's, is its leader's `reign` shifted by this, plus a count: unique, and it tells
whose it is. What an earlier leader still says of its attempts touches none of a later one's."""
EPOCH_BITS, REIGN_BITS = 32, 24


def reign(term: int) -> int:
    """Return a number for a leader's term that grows with it and leaves room for a count in 63 bits.

    Logs whose members change begin each set's terms at a multiple of 2^32. No set has so many leaders: 2^24 are kept
    apart (one a second for half a year), and 2^19 changes of members (one a minute for a year).
    """
    epoch, within = divmod(term, 1 << EPOCH_BITS)
    return (epoch << REIGN_BITS) + min(within, (1 << REIGN_BITS) - 1)


class Attempts(Examination):
    """Which request runs where.

    Attributes:
        audits: answered once, waiting for a line that has not voted.
        unheard: assignments no worker has confirmed, each with the worker that should.
    """

    def _reset(self) -> None:
        super()._reset()
        self.audits: list[Effort] = []
        self.unheard: dict[tuple[str, str, int], tuple[str, Assign]] = {}

    def _dispatch(self) -> None:
        audits, self.audits = self.audits, []
        for audit in audits:
            if audit.key in self.efforts.all:
                self.efforts.queue(audit)
        while (effort := self.efforts.next()) is not None:
            voters = effort.voters
            line = self._line_for(effort)
            if line is None and not voters and not self._lets_others_pass(effort):
                return
            if line is None:  # an audit waits for a second opinion, and holds nobody up
                self.efforts.unqueue(effort)
                self.audits.append(effort)
                continue
            self.efforts.unqueue(effort)
            effort.tries += 1
            attempt = (reign(self.term) << TERM_SHIFT) + effort.tries
            effort.running[attempt] = line.number
            effort.used.add(line.number)
            line.running += 1
            a = effort.accepted
            assign = Assign(
                a.client, a.op_id, attempt, self._begins(effort, line) or a.model, line.stages, a.prompt, a.source,
                a.prompt_tokens, a.new_tokens, self.config.report_every, effort.forced(self.config.audit_share),
                a.sampling, self.efforts.rank(effort, self.port.wall), self._left_ns(effort),
            )  # fmt: skip
            assign = self._prepared(effort, line, assign)
            self.port.send(f"{line.nodes[0]}/worker", assign)
            if not self.unheard:
                self.port.set_timer("resend", RESEND_NS)
            self.unheard[(a.client, a.op_id, attempt)] = (line.nodes[0], assign)

    def _left_ns(self, effort: Effort) -> int:
        """Return the time that a request has until its deadline."""
        return min(max(0, effort.accepted.deadline_wall_ns - self.port.wall), LEFT_MAX_NS)

    def _line_for(self, effort: Effort) -> Line | None:
        """Return the line that shall run a request now."""
        a = effort.accepted
        return self.lines.pick(self.sharding.slots, effort.used, effort.voters, a.prompt_tokens, a.new_tokens)

    def _lets_others_pass(self, effort: Effort) -> bool:
        """Whether a request that has no line yet waits for one that others need not wait for."""
        return False

    def _begins(self, effort: Effort, line: Line) -> str:
        """Take in where a request runs now; return the line's model where it is not the one that was asked for."""
        return ""

    def _prepared(self, effort: Effort, line: Line, assign: Assign) -> Assign:
        """Return an assignment as it is sent; a layer above may prepare it for the death of a stage."""
        return assign

    def _blamed(self, line: Line, node: str) -> None:
        """Hear that a line's head gives up a session because of this stage."""

    def _resend(self) -> None:
        """Send again what no worker has confirmed; what no longer runs is dropped."""
        for key, (node, assign) in list(self.unheard.items()):
            effort = self.efforts.all.get(key[:2])
            if effort is None or key[2] not in effort.running:
                del self.unheard[key]
            else:
                self.port.send(f"{node}/worker", msgspec.structs.replace(assign, left_ns=self._left_ns(effort)))
        if self.unheard:
            self.port.set_timer("resend", RESEND_NS)

    def _confirmed(self, sender: str, key: tuple[str, str, int]) -> None:
        """The worker that was assigned this attempt has it; nobody else can say so."""
        if key in self.unheard and self.unheard[key][0] == sender:
            del self.unheard[key]

    # -- what workers say -------------------------------------------------------------------------------

    def _on_emitted(self, sender: str, emitted: Emitted) -> None:
        """Keep what the head of a running attempt says that it has, and pass it on where clients listen."""
        key = (emitted.client, emitted.op_id)
        if key in self.state.outcomes:  # it began under an earlier leader, and nobody waits for it any more
            self.port.send(f"{sender}/worker", Settled(*key, emitted.attempt))
            return
        effort = self.efforts.all.get(key)
        line = self.lines.lines.get(effort.running.get(emitted.attempt, 0)) if effort is not None else None
        if effort is None or line is None or line.nodes[0] != sender:
            return
        if effort.emit(emitted.position, emitted.tokens) and self.config.stream:
            self.port.tell("gateway", Tokens(*effort.key, emitted.position, emitted.tokens, effort.model))

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
                self._blamed(line, report.node)
            if effort.emit(0, report.emitted) and effort.emitted and self.config.stream:
                self.port.tell("gateway", Tokens(*effort.key, 0, tuple(effort.emitted), effort.model))
            over = report.reason == EXPIRED and not self._left_ns(effort)  # else its head has let it go too early
            if over and len(effort.running) == 1:
                self._give_up(effort, EXPIRED)
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
            effort.emitted.clear()  # whoever cannot account for its answer is not believed about parts of it
            self._attempt_lost(effort, report.attempt)
            self._dispatch()
            return
        self._have_checked(effort, line, report)
        del effort.running[report.attempt]
        line.running -= 1
        votes = effort.votes.setdefault((report.output, report.tokens), [])
        if effort.voters.isdisjoint(line.nodes):  # who runs a request twice has still one vote
            votes.append(Vote(line.nodes, self._complete(effort, receipt, report)))
        others = any(
            effort.voters.isdisjoint(other.nodes) for other in self.lines.lines.values() if other.model == line.model
        )
        share = self.config.audit_share
        if effort.tries == 1:  # a later attempt may go on from another's tokens, for which it is not to be blamed
            share = self.trust.audit_share(line.nodes, share, STRIKES_MAX)
        needed = 2 if effort.audited(share) and (others or len(effort.votes) > 1) else 1
        if len(votes) >= needed:
            self._settle(effort, vouched(votes))
        elif effort.tries >= self.config.tries or not others:
            self._give_up(effort, "workers lost")
        else:
            self.efforts.queue(effort)
        self._dispatch()

    def _complete(self, effort: Effort, receipt: Receipt, report: Report) -> Complete:
        if effort.model:
            return CompleteBy(receipt, report.first_token_ns, report.signature, None, effort.model)
        return Complete(receipt, report.first_token_ns, report.signature)

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

    def _lose_attempts(self, line: Line) -> None:
        for effort in list(self.efforts.all.values()):
            for attempt in [a for a, number in effort.running.items() if number == line.number]:
                self.port.send(f"{line.nodes[0]}/worker", Settled(*effort.key, attempt))
                self._attempt_lost(effort, attempt)
