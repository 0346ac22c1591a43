"""The worker on every device: leases while it is lent, holds a shard, heads sessions, reports until heard.

It knows the committee (`policies.seats`) and guesses the leader: whoever answers ``Leased`` is it, ``NotLeader``
points to it, and after a silent renewal it tries the next member, so that a new leader hears of every worker within the
lease it gives them. Where members may lie, f of them, it believes nobody that it did not ask, and asks f others at each
renewal: whom f + 1 name is the leader, whoever else says so (`policies.serving.words`).
A finished attempt is reported again and again until it is settled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from policies.commands import Receipt
from policies.jobs import (
    AdmitJob,
    CoverJob,
    Done,
    ExpectJob,
    FreeJob,
    LoadJob,
    Lost,
    PreparedJob,
    Progress,
    SessionJob,
    Standby,
)
from policies.local import Led, Lend, Speaks
from policies.port import NS_PER_S, Policy
from policies.seats import InOffice, Seats
from policies.serving.words import Words
from policies.wire import encode
from policies.work import (
    RESEND_NS,
    Assign,
    AssignPrepared,
    Began,
    Capability,
    Cover,
    Emitted,
    Expect,
    Free,
    Keep,
    Leased,
    Leave,
    Load,
    NotLeader,
    Renew,
    Report,
    Settled,
)

AttemptKey = tuple[str, str, int]  # (client, op_id, attempt)
SEATS = "seats"  # key of the committee that was known last
_in_office = msgspec.msgpack.Decoder(InOffice).decode


class Worker(Policy):
    """One device's worker.

    Args:
        committee: where leaders come from, at first.
        capability: what the whole device could do; a share of it is lent.
        lease_s: the leader's lease; renewed twice in it.
        liars: whether the committee is one that bears members that lie; if not, each is believed.
    """

    messages = (Assign, AssignPrepared, Cover, Expect, Free, InOffice, Keep, Leased, Load, NotLeader, Settled)

    def __init__(
        self, committee: tuple[str, ...], capability: Capability, lease_s: float, *, liars: bool = False
    ) -> None:
        self.seats, self.full, self.liars = Seats(committee), capability, liars
        self.renew_ns = int(lease_s / 2 * NS_PER_S)
        self.words = Words(self.renew_ns)
        self.doubted_ns = -self.renew_ns  # when it last asked all whether somebody leads
        self.lent: Lend | None = None
        self.leader = committee[0]
        self.unheard = 0  # renewals that nobody answered
        self.pointed = 0  # times that it was pointed to another member since it heard a leader
        self.pipeline = self.loaded = 0  # shard wanted, shard in memory
        self.load_job = 0
        self.wanted: Load | None = None  # the newest; it is in memory once nothing loads
        self.keeps = False  # something of a request may be kept here beyond its attempt
        self.jobs: dict[int, Assign] = {}
        self.reports: dict[AttemptKey, Report] = {}

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        if SEATS in saved:
            self.seats.install(_in_office(saved[SEATS]))
            self.port.tell("edge", InOffice(self.seats.epoch, self.seats.members))
        self.leader = self.port.rng.choice(self.seats.members)

    # -- lending -------------------------------------------------------------------------------------

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, InOffice) and self.seats.install(message):
            self._on_office()
        if isinstance(message, Speaks):
            self._vouch(message.member)
        if not isinstance(message, Lend):
            return
        self.port.tell("prover", message)
        was, self.lent = self.lent, message if message.on else None
        if message.on:
            self._renew()
        elif was is not None:
            for job_id, assign in list(self.jobs.items()):
                self.port.cancel(job_id)
                self._report(assign, Lost(message.reason, self.port.me))
            self.jobs.clear()
            self.pipeline = self.loaded = 0
            if self.keeps:
                self.port.submit(FreeJob(""))
                self.keeps = False
            self.port.cancel_timer("renew")
            self._to_leader(Leave(message.reason))

    def on_timer(self, name: str) -> None:
        if name == "resend":
            self._resend()
            return
        self.unheard += 1
        if self.unheard > 1:
            self._try_next("")
            self.unheard = 1  # the next one has a renewal's time as well
        self._renew()

    def _renew(self) -> None:
        if self.lent is None:
            return
        self.port.set_timer("renew", self.renew_ns)
        renew = Renew(self._capability(self.lent), self.loaded)
        self._to_leader(renew)
        self._ask_in_turn(renew)

    def _resend(self) -> None:
        """Report again what nobody has settled; a new leader hears of it too."""
        for report in self.reports.values():
            self._to_leader(report)
        if self.reports:
            self._ask_in_turn(next(iter(self.reports.values())))
            self.port.set_timer("resend", RESEND_NS)

    def _capability(self, lent: Lend) -> Capability:
        """What the lent share can do: time grows as compute shrinks."""
        full, share = self.full, max(lent.compute_share, 1e-3)
        return Capability(
            full.memory_bytes * lent.memory_share,
            full.layer_s / share,
            full.step_s / share,
            full.prefill_s_token_layer / share,
            full.bytes_per_s,
            full.one_way_s,
        )

    def _to_leader(self, message: Renew | Leave | Began | Emitted | Report) -> None:
        self.port.send(f"{self.leader}/coordination", message)

    def _try_next(self, hint: str) -> None:
        members = self.seats.members
        if hint and hint in members:
            self.leader = hint
        elif self.leader in members:
            self.leader = members[(members.index(self.leader) + 1) % len(members)]
        else:
            self.leader = self.port.rng.choice(members)
        self.unheard = 0

    def _on_office(self) -> None:
        """Another committee sits: let the edge know, and turn to a member if the leader is none any more."""
        now = InOffice(self.seats.epoch, self.seats.members)
        self.port.save(SEATS, encode(now))  # after a restart the founders may be gone, and nobody be there to vouch
        self.port.tell("edge", now)
        self.words.keep(now.members)
        if self.leader not in self.seats.members:
            self._try_next("")
            if self.lent is not None:
                self.port.set_timer("renew", 0)

    # -- messages ------------------------------------------------------------------------------------

    def on_message(self, sender: str, message: Any) -> None:
        if sender not in self.seats.members:
            return
        if isinstance(message, InOffice):
            if self.seats.hear(sender, message):
                self._on_office()
            return
        points = isinstance(message, NotLeader)
        self.words.hear(sender, message.leader if points else sender, self.port.now)  # only a leader sends the rest
        named = self.words.named(self.seats.members, self._faults, self.port.now) if self._faults else ""
        if points:
            if sender == self.leader or named not in ("", self.leader):
                hint = named or message.leader
                self._try_next(hint)
                if self.lent is not None:
                    self.port.set_timer("renew", 0 if self._known(hint) else self.renew_ns // 4)
            return
        if sender != self.leader:
            if self._faults and named != sender:
                self._doubt(sender)
                return
            self.leader = sender
        self.unheard = self.pointed = 0
        if isinstance(message, Assign):
            self._on_assign(message)
        elif isinstance(message, Load):
            self._on_load(message)
        elif isinstance(message, Cover):
            self._on_cover(message)
        elif isinstance(message, Expect):
            self.port.submit(ExpectJob(f"{message.client}/{message.op_id}", message.attempt, message.sender))
        elif isinstance(message, Free):
            self.port.submit(FreeJob(f"{message.client}/{message.op_id}"))
        elif isinstance(message, Settled):
            self._on_settled((message.client, message.op_id, message.attempt))

    def _vouch(self, member: str) -> None:
        """Tell the prover who leads; if that is not who speaks to it, ask the others, who answer before it asks again.

        Here no word is believed at one's own risk, as it is while the worker looks for a leader: what a liar lets be
        forgotten, or shown, costs the worker the true leader's trust.
        """
        if member in self.seats.members:
            self.words.hear(member, member, self.port.now)
        named = self.words.named(self.seats.members, self._faults, self.port.now) if self._faults else member
        if named != member:
            self._doubt(member)
        self.port.tell("prover", Led(named))

    @property
    def _faults(self) -> int:
        return self.seats.faults if self.liars else 0

    def _ask_in_turn(self, ask: Renew | Report) -> None:
        """Ask some that are not the leader: whoever does not lead answers who does."""
        for member in self.words.next_asked(self.seats.members, self._faults, self.leader):
            self.port.send(f"{member}/coordination", ask)

    def _doubt(self, sender: str) -> None:
        """Somebody says that it leads, unasked: ask the others, though not at every word."""
        if self.port.now - self.doubted_ns < self.renew_ns // 4:
            return
        self.doubted_ns = self.port.now
        if self.lent is not None:
            ask: Renew | Report = Renew(self._capability(self.lent), self.loaded)
        elif self.reports:
            ask = next(iter(self.reports.values()))
        else:
            return
        for member in self.seats.members:
            if member != sender:
                self.port.send(f"{member}/coordination", ask)

    def _known(self, leader: str) -> bool:
        """Whether whom a member points to can be asked at once. Else it must hold back for the next renewal.

        While nobody leads, or somebody who is not of the committee that is known here: it was voted out just now, or
        others were voted in. And while members point at one another, as they do when an epoch begins.
        """
        self.pointed += 1
        if leader in self.seats.members and self.pointed <= len(self.seats.members):
            return True
        self.pointed = 0
        return False

    def _on_load(self, load: Load) -> None:
        if load.pipeline == self.pipeline and (self.loaded == load.pipeline or self.load_job):
            return
        before, self.wanted = self.wanted, load
        self.keeps = self.keeps or isinstance(load, Keep)
        self.port.submit(AdmitJob(load.model, load.stages))
        if isinstance(load, Keep) and self.loaded and load.pipeline and before is not None and _same(before, load):
            self.pipeline = self.loaded = load.pipeline
            self._renew()
            return
        if self.load_job:
            self.port.cancel(self.load_job)
            self.load_job = 0
        self.pipeline, self.loaded = load.pipeline, 0
        if load.pipeline and self.lent is not None:
            self.load_job = self.port.submit(LoadJob(load.model, load.first, load.last))

    def _on_assign(self, assign: Assign) -> None:
        key = _key(assign)
        self._to_leader(Began(*key))
        if key in self.reports or any(_key(a) == key for a in self.jobs.values()):
            return
        if self.lent is None or not self.loaded:
            self._report(assign, Lost("not lent", self.port.me))
            return
        for job_id, running in self.jobs.items():
            if (running.client, running.op_id, running.stages) == (assign.client, assign.op_id, assign.stages):
                if assign.attempt > running.attempt:  # a later leader's, which goes on under the new number
                    self.jobs[job_id] = assign
                    if isinstance(assign, AssignPrepared) and assign.standbys:
                        self.port.submit(CoverJob(job_id, _of_stages(assign, assign.standbys)))
                return
        request = f"{assign.client}/{assign.op_id}"
        job = SessionJob(
            f"{request}/{assign.attempt}", assign.model, assign.stages, assign.prompt, assign.source,
            assign.prompt_tokens, assign.new_tokens, assign.report_every, assign.forced, assign.sampling, assign.rank,
            None if assign.left_ns is None else self.port.now + assign.left_ns,
        )  # fmt: skip
        if isinstance(assign, AssignPrepared):
            standbys = _of_stages(assign, assign.standbys)
            job = PreparedJob(**msgspec.structs.asdict(job), kept=request, standbys=standbys, resume=assign.resume)
        self.jobs[self.port.submit(job)] = assign

    def _on_cover(self, cover: Cover) -> None:
        for job_id, assign in list(self.jobs.items()):
            if _key(assign) == _key(cover):
                self.port.submit(CoverJob(job_id, _of_stages(assign, cover.standbys)))

    def _on_settled(self, key: AttemptKey) -> None:
        self.reports.pop(key, None)
        for job_id, assign in list(self.jobs.items()):
            if _key(assign) == key:
                self.port.cancel(job_id)
                del self.jobs[job_id]

    # -- jobs ----------------------------------------------------------------------------------------

    def on_job(self, job_id: int, outcome: Any) -> None:
        if isinstance(outcome, Progress):
            if outcome.emitted and job_id in self.jobs:
                position = outcome.tokens - len(outcome.emitted)
                self._to_leader(Emitted(*_key(self.jobs[job_id]), position, outcome.emitted))
            return
        if job_id == self.load_job:
            self.load_job = 0
            if isinstance(outcome, Done) and self.pipeline:
                self.loaded = self.pipeline
                self._renew()
            return
        assign = self.jobs.pop(job_id, None)
        if assign is not None:
            self._report(assign, outcome)

    def _report(self, assign: Assign, outcome: Done | Lost) -> None:
        key = _key(assign)
        if isinstance(outcome, Lost):
            report = Report(*key, outcome.reason or "lost", outcome.node, "", 0, 0, b"", outcome.emitted)
        else:
            receipt = Receipt(assign.client, assign.op_id, outcome.output, outcome.tokens, assign.stages)
            signature = self.port.keys.sign(encode(receipt))
            report = Report(*key, "", "", outcome.output, outcome.tokens, outcome.first_token_ns, signature)
        self.reports[key] = report
        self._to_leader(report)
        if report.reason:
            self._renew()  # the leader leaves whom a lost attempt blames aside until it is heard of again
        self.port.set_timer("resend", RESEND_NS)


def _key(of: Assign | Cover) -> AttemptKey:
    return (of.client, of.op_id, of.attempt)


def _of_stages(assign: Assign, standbys: tuple[Standby, ...]) -> tuple[Standby, ...]:
    """Return the standbys of stages that there are, whatever a leader says."""
    return tuple(each for each in standbys if 0 <= each.index < len(assign.stages))


def _same(one: Load, other: Load) -> bool:
    return (one.model, one.first, one.last) == (other.model, other.first, other.last)
