"""Coordination on a committee member: the leader turns accepted requests into attempts on pipelines.

What must not be forgotten goes through consensus (`policies.commands`): membership, placements, that a request
was accepted, and its one outcome. Leases, queues and running attempts are soft: a new leader rebuilds them from the
replicated state and from the workers' next renewals. An attempt may therefore run twice; its outcome is
settled once, by the first `Complete` that commits.

Here stand the inputs, the change of leaders and the replicated log; what follows from them stands in layers, each of
which knows only those below it: `standing` (standbys) on `offers` (several models) on `moving` (better plans) on
`pipelines` (workers and plans) on `attempts` (what runs where) on `requests`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from policies import commands
from policies.commands import Accept, Attach, Complete, Dissolve, Evict, Join, Place, Pledge, Refuse
from policies.coordination.efforts import settlement_of
from policies.coordination.lines import DECLARED
from policies.coordination.owed import Owed
from policies.coordination.standing import Standing
from policies.jobs import EXPIRED, Done, Lost, Progress
from policies.local import (
    Allow,
    Ask,
    Committed,
    Examined,
    GiveUp,
    Leadership,
    Pledged,
    Restore,
    Seen,
    Snapshot,
    SnapshotDue,
    Withdraw,
)
from policies.state.contributions import work
from policies.wire import Message
from policies.work import Began, Credited, Emitted, Leave, NotLeader, Renew, Report

SNAPSHOT_EVERY = 1024
"""Commands between two snapshots (our choice: a restart applies fewer than these, and a snapshot, which costs about a
millisecond, is rare)."""


class Coordination(Standing):
    """One committee member's coordination; its arguments are those of `policies.coordination.standing.Standing`."""

    messages: ClassVar[tuple[type[Message], ...]] = (Renew, Leave, Began, Emitted, Report)

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.port.tell("consensus", Allow())  # nobody is to change the committee, whatever one of its members asks

    # -- inputs -----------------------------------------------------------------------------------------

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Committed):
            self._on_committed(message)
        elif isinstance(message, SnapshotDue):
            self.port.tell("consensus", Snapshot(message.index, self.state.snapshot(), message.place))
        elif isinstance(message, Restore):
            self.state = self._new_state(message.state)
            if self.owed is not None:
                self.owed.begin(list(self.state.requests.values()), self.port.now)
            self._rebuild()
        elif isinstance(message, Leadership):
            self._on_leadership(message)
        elif isinstance(message, Ask):
            if self.leading or self.owed is None:
                self._on_ask(message)
            else:
                self._on_brought(self.owed, message)
        elif isinstance(message, Seen):
            self._on_seen(message)
        elif isinstance(message, Examined):
            if self.leading:
                self._on_examined(message)
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
        if name == "watch":
            if self.owed is not None:
                self._watch(self.owed)
            return
        if not self.leading:
            return
        if name == "resend":
            self._resend()
            return
        self.port.set_timer("tick", self.tick_ns)
        for node in self.lines.expired(self.port.now):
            self._worker_gone(node, "lease expired")
        for effort in self.efforts.expired(self.port.wall, self.lease_ns):
            self._give_up(effort, EXPIRED)
        self._insist()
        self._go_on()
        self._ask_for_plan()
        self._consider()
        self._dispatch()

    def on_job(self, job_id: int, outcome: Any) -> None:
        if job_id != self.plan_job or isinstance(outcome, Progress):
            return
        self.plan_job = 0
        if self.leading and isinstance(outcome, Done):
            self._on_planned(outcome.result)
        elif isinstance(outcome, Lost):
            self.pool_changed, self.considering = True, False

    # -- leadership and replicated state ----------------------------------------------------------------

    def _on_leadership(self, news: Leadership) -> None:
        self.leader, self.term = news.leader, news.term
        if self.owed is not None:
            self.owed.new_leader(self.port.now)
            self._keep_watching()
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
        standing = self.standing
        for number, line in self.lines.lines.items():
            if fallen := [node for node in line.nodes if not standing.get(node, False)]:
                self._dissolve(number, f"{fallen[0]} evicted")
        for accepted in self.state.requests.values():
            self.efforts.add(accepted, self.port.rng.random())
        self.port.set_timer("tick", self.tick_ns)

    def _on_committed(self, message: Committed) -> None:
        supply = self.state.credits.supply
        command, changed = self.state.apply_encoded(message.command, self.port.keys.verify)
        if command is not None:
            self.proposals.seen(command)
        if self.state.applied % SNAPSHOT_EVERY == 0:  # on every member after the same command, so they can be compared
            self.port.tell("consensus", Snapshot(message.index, self.state.snapshot()))
        if isinstance(command, Complete) and changed:
            r, minted = command.receipt, self.state.credits.supply - supply
            done = sum(token_layers for _, token_layers in work(r))
            self.port.decide("credited", Credited(r.client, r.op_id, self.state.applied, done, minted))
        if command is None:
            self.port.note("no_command", index=message.index)
        else:
            if changed and self.owed is not None:
                self._on_owed(self.owed, command)
            if self.leading:
                self._on_applied(command, changed)

    # -- keeping watch of the leader, where it may lie ---------------------------------------------------

    def _on_brought(self, owed: Owed, ask: Ask) -> None:
        """A client brings what it was to bring to the leader, which says nothing: see that it stands in the log."""
        key = (ask.client, ask.op_id)
        if self._told(key):
            return
        owed.expect(key, ask.deadline_wall_ns - self.port.wall, self.port.now)
        if key not in self.state.requests:
            self._accept(ask)

    def _on_owed(self, owed: Owed, command: commands.Command) -> None:
        if isinstance(command, Accept):
            owed.accepted(command, self.port.now)
            self._keep_watching()
        elif isinstance(command, Complete | Refuse):
            settlement = settlement_of(command)
            here = owed.settled((settlement.client, settlement.op_id), not settlement.refused, self.port.now)
            self._keep_watching()
            if here and not self.leading:
                self.port.tell("gateway", settlement)

    def _keep_watching(self) -> None:
        if self.owed is not None and self.owed.waits and not self.owed.watched and not self.leading:
            self.owed.watched = True
            self.port.set_timer("watch", self.tick_ns)

    def _watch(self, owed: Owed) -> None:
        owed.watched = False
        if not self.leading and self.leader and owed.give_up(self.port.now):
            self.port.note("leader_owes", leader=self.leader, term=self.term)
            self.port.tell("consensus", GiveUp(self.term))
        self._keep_watching()

    # -- what the log says ------------------------------------------------------------------------------

    def _on_applied(self, command: commands.Command, changed: bool) -> None:
        if isinstance(command, Place):
            self._on_placed(command, changed)
        elif not changed:
            return
        elif isinstance(command, Accept):
            self.efforts.add(command, self.port.rng.random())
            self._taken_in(command.new_tokens)
            self._dispatch()
        elif isinstance(command, Attach):
            effort = self.efforts.all.get((command.client, command.op_id))
            if effort is not None:
                effort.accepted = self.state.requests[effort.key]
        elif isinstance(command, Complete | Refuse):
            self._on_settled(command)
            self._dispatch()  # one that was refused while it ran leaves a slot
            self._go_on()
        elif isinstance(command, Dissolve):
            self._on_dissolved(command)
            self._go_on()
        elif isinstance(command, Join):
            self.pool_changed = True
        elif isinstance(command, Pledge):
            self.port.tell("examiner", Pledged(self.state.applied, command))
        elif isinstance(command, Evict) and command.node in self.lines.of_node and not self.standing[command.node]:
            self._dissolve(self.lines.of_node[command.node], f"{command.node} evicted")
