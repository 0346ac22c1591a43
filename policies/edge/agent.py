"""The edge agent: one device's lifecycle, its room, and how much of it is lent now.

Harvest decides *whether* the device is lent (`Lend`); this agent stands between it and the worker. It narrows what is
lent by the ladder, passes that on, keeps it back in error and under maintenance, and looks after deployments:
reserve, bring (a job with its transfer time), run, hand back. What follows an event stands in
`policies.edge.lifecycle`, how much in `policies.edge.ladder`, who holds what in `policies.edge.reservations`.

A crash forgets all but maintenance: reservations are in memory, as is what they stand for, and drivers end the jobs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from policies.config import EdgeConfig
from policies.edge import lifecycle as life
from policies.edge.ladder import Limits, begin, ladder
from policies.edge.lifecycle import Lifecycle
from policies.edge.messages import (
    NAMESAKE,
    RESEND_NS,
    Accepted,
    Deploy,
    Ended,
    Granted,
    Heartbeat,
    Maintain,
    Noted,
    Parting,
    Phase,
    Withdraw,
)
from policies.edge.reservations import NONE, Reservations, Room
from policies.jobs import Done, Lost, Progress
from policies.local import Lend
from policies.port import NS_PER_S, Policy
from policies.readings import UNKNOWN, Readings, Row
from policies.seats import InOffice
from policies.wire import Message

WORKER = "worker"  # the path that serves; what is lent is passed on to it
WATCH = "edge_watch"  # the path of the committee's side
REMEMBERED = 256  # ended deployments that a late copy of their `Deploy` shall not bring back
TRIES = 5  # heartbeats without an answer, `RESEND_NS` apart, until the next member is asked (our choice)
BARRED = (life.ERROR, life.MAINTENANCE)  # nothing is lent in these, whatever harvest says

UNREAD = Readings(
    has_battery=False, soc=UNKNOWN, plugged=False, die_c=UNKNOWN, skin_c=UNKNOWN, battery_c=UNKNOWN, on_wifi=False,
    metered=True, bandwidth_bytes_per_s=UNKNOWN, screen_on=True, idle_s=UNKNOWN, local_minute=UNKNOWN,
    user_load=UNKNOWN, memory_free_bytes=UNKNOWN,
)  # fmt: skip
"""What is known of a device before its first reading: nothing, so its ladders stand on the most careful rungs."""


@dataclass
class Held:
    """One deployment on this device; ``owner`` is the member that is owed its end."""

    deploy: Deploy
    owner: str
    phase: Literal["fetching", "serving", "working"]
    job_id: int
    tokens: int = 0


class EdgeAgent(Policy):
    """Looks after one device.

    Args:
        config: the numbers.
        committee: who may give leases and deployments; others, once the worker says so.
        memory_bytes: the device's memory; what is free of it is among the readings.
        every_ns: period of the readings.
        dedicated: the machine is set aside for the village.
        has_battery: the machine has a battery.

    Attributes:
        life: where the device is.
        room: what is reserved.
        held: deployments by name; those that hold room, and no others.
        counts: how deployments ended, what was refused, and ``blind`` readings.

    Raises:
        ValueError: nobody on the committee, a number out of range, or rungs out of order.
    """

    messages = (Granted, Deploy, Withdraw, Noted)
    requests = (Maintain,)

    def __init__(
        self,
        config: EdgeConfig,
        committee: tuple[str, ...],
        memory_bytes: float,
        every_ns: int,
        *,
        dedicated: bool = False,
        has_battery: bool = True,
    ) -> None:
        if not committee:
            raise ValueError("committee=(): expected at least one member")
        if every_ns <= 0:
            raise ValueError(f"every_ns is {every_ns}; allowed: from 1")
        if not 0 < memory_bytes < float("inf"):
            raise ValueError(f"memory_bytes is {memory_bytes}; allowed: above 0, finite")
        check_edge(config)
        self.config, self.committee = config, committee
        self._memory_bytes, self._every_ns = float(memory_bytes), every_ns
        self._dedicated, self._has_battery = dedicated, has_battery
        self._lease_ns = int(config.offline_after_s * NS_PER_S)
        self._beat_ns = int(config.heartbeat_s * NS_PER_S)
        # Who parted, or has another watch, repeats a report so often: by then the watch that is owed it, which may have
        # heard heartbeats through the drain, has found the device silent.
        self._resends = -(-(self._lease_ns + int(config.drain_s * NS_PER_S)) // RESEND_NS)
        self._forget()

    def _forget(self) -> None:
        self.life = Lifecycle()
        self.room = Reservations()
        self.held: dict[str, Held] = {}
        self.reports: dict[str, tuple[str, Ended, int]] = {}  # deployment to (owner, its end, times sent)
        self.counts: Counter[str] = Counter()
        self.lent: Lend | None = None
        self._said = Lend(False, 0.0, 0.0, "")  # by harvest, last
        self.maintenance = False
        self._passed_on: Lend | None = None
        self._over: dict[str, None] = {}  # deployments that ended, oldest first
        self._by_job: dict[int, str] = {}
        self._lost_in_a_row = 0
        self._number = 0  # of heartbeats and partings
        self._leased_ns = 0  # when the heartbeat was sent from which the newest lease counts
        self._ladder = begin(self._dedicated, self._has_battery)
        # Unread is as blind as can be; the rungs it sets are not held on to by the first reading.
        self.limits = _scalars(ladder(self._ladder, UNREAD, self._memory_bytes, self.config)[0])
        self._chunk_share: float | None = None  # said last

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        """Begin offline and unread; maintenance outlives a crash."""
        self._forget()
        self._new_life()
        self._member = self.port.rng.below(len(self.committee))
        self._tries = 0
        self.port.sense(self._every_ns)
        self._cut_transfers()
        if "maintenance" in saved:
            self.maintenance = True
            self._feed(life.MAINTAIN)

    def _new_life(self) -> None:
        """Nothing is held any more: a watch that heard the device all the while could not know it otherwise."""
        self._boot = self.port.rng.bits64() >> 1

    # -- how much is lent ----------------------------------------------------------------------------

    def on_readings(self, readings: Row) -> None:
        """Climb or descend the ladder, and hold the device to it."""
        before = self.limits
        row = Readings(**{field: getattr(readings, field) for field in Readings._fields})
        limits, self._ladder = ladder(self._ladder, row, self._memory_bytes, self.config)
        self.limits = _scalars(limits)
        if self.limits.blind:
            self.counts["blind"] += 1
            if self.counts["blind"] == 1 or not before.blind:
                self.port.note("edge_blind", readings=self.counts["blind"])
        if before != self.limits:
            self._cut_transfers()
            self._apply()

    def _cut_transfers(self) -> None:
        """Have what leaves or is fetched here in pieces cut as the ladder says, lent or not.

        The documented bytes are those of a short-range link. Other pieces are larger, so what counts is the proportion
        to the usual chunk, and none grows beyond its own bound.
        """
        share = min(1.0, self.limits.chunk_bytes / self.config.chunk_bytes)
        if share != self._chunk_share:
            self._chunk_share = share
            self.port.limit("chunk", share)

    def on_local(self, sender: str, message: Any) -> None:
        """Harvest lends the device, changes what it lends, or takes it back; or another committee sits."""
        if isinstance(message, InOffice):
            now = self.committee[self._member]
            self.committee = message.members
            self._member = self.committee.index(now) if now in self.committee else 0
        if not isinstance(message, Lend):
            return
        self._said, self.lent = message, message if message.on else None
        self._feed(life.LEND if message.on else life.TAKE)
        self._apply()

    def _apply(self) -> None:
        """Hold compute and memory to the narrower of harvest's share and the ladder's, and tell the worker."""
        lent, limits = self.lent, self.limits
        if lent is None or self.life.state in BARRED:
            self._resize(NONE)
            if lent is None:
                self._pass_on(self._said)
            else:
                self._limit(0.0, 0.0)
                self._pass_on(Lend(False, 0.0, 0.0, self.life.state))
            return
        compute = min(lent.compute_share, limits.cpu_share)
        memory_bytes = min(lent.memory_share * self._memory_bytes, limits.memory_bytes)
        self._resize(Room(int(memory_bytes), int(compute * 1000), limits.tasks))
        memory = memory_bytes / self._memory_bytes
        self._limit(compute, memory)
        self._pass_on(Lend(True, compute, memory, lent.reason))

    def _resize(self, capacity: Room) -> None:
        for name in self.room.resize(capacity):
            self._end(name, "evicted", "the device's limits fell")
        self._occupied()

    def _limit(self, compute: float, memory: float) -> None:
        # Said again even where it did not change: harvest has just set its own, wider limits.
        self.port.limit("compute", compute)
        self.port.limit("memory", memory)

    def _pass_on(self, lend: Lend) -> None:
        was = self._passed_on
        if lend != was and (lend.on or was is not None):
            self._passed_on = lend
            self.port.tell(WORKER, lend)

    # -- the lifecycle -------------------------------------------------------------------------------

    def _feed(self, event: str) -> bool:
        """Take an event, carry out what follows, and then what the two parties want of a device at rest."""
        was = self.life.state
        effects = self.life.feed(event)
        if effects is None:
            self.counts["illegal"] += 1
            self.port.note("edge_illegal", state=was, event=event)
            return False
        now = self.life.state
        if now != was:
            self.port.decide("edge", Phase(now, event))
            self.port.cancel_timer({life.ERROR: "retry", life.DRAINING: "drain"}.get(was, ""))
            if now == life.DRAINING:
                self.port.set_timer("drain", int(self.config.drain_s * NS_PER_S))
        for effect in effects:
            self._carry_out(effect)
        if (was in BARRED) != (now in BARRED):
            self._apply()
        following = life.wanted(self.life.state, lent=self.lent is not None, maintenance=self.maintenance)
        if following is not None:
            self._feed(following)
        return True

    def _carry_out(self, effect: str) -> None:
        if effect == life.HAIL:
            self._heartbeat()
        elif effect == life.PART:
            for timer in ("heartbeat", "lease"):
                self.port.cancel_timer(timer)
            self._number += 1
            self._to_watch(Parting(self._boot, self._number, self.life.state))
        elif effect == life.COOL:
            self._lost_in_a_row = 0
            self.port.set_timer("retry", int(self.config.retry_s * NS_PER_S))
        elif effect == life.DROP:
            for name in list(self.held):
                self._end(name, "lost", "")
            self.reports.clear()
            self._new_life()
        else:
            for name, held in list(self.held.items()):
                if effect == life.HAND_BACK or held.phase != "working":
                    self._end(name, "handed_back", self.life.state)
            self._occupied()

    def _occupied(self) -> None:
        """Let the lifecycle know what is held now, if that means anything to it."""
        state = self.life.state
        if state == life.DRAINING:
            if not self.held and not self.reports:
                self._feed(life.EMPTY)
        elif state in (life.DEPLOYING, life.RUNNING):
            fetching = any(held.phase == "fetching" for held in self.held.values())
            event = life.FETCH if fetching else life.SERVE if self.held else life.EMPTY
            if life.TRANSITIONS[state][event].to != state:
                self._feed(event)

    def on_request(self, client: str, op_id: str, operation: Maintain) -> None:
        """Begin or end maintenance; it is durable before it is confirmed."""
        self.maintenance = operation.on
        if operation.on:
            self.port.save("maintenance", b"")
        else:
            self.port.erase("maintenance")
        event = life.MAINTAIN if operation.on else life.RESUME
        taken = self._feed(event)
        self._occupied()
        self.port.reply(client, op_id, Phase(self.life.state, event if taken else "refused"))

    def on_timer(self, name: str) -> None:
        """Heartbeats, the end of a lease, of a drain and of a pause, and reports nobody has noted."""
        if name == "heartbeat":
            if self._tries and self._tries % TRIES == 0:
                self._member = (self._member + 1) % len(self.committee)
            self._heartbeat()
        elif name == "resend":
            self._resend()
        else:
            self._feed({"lease": life.SILENCE, "drain": life.DRAINED, "retry": life.RETRY}[name])

    # -- talking to the committee --------------------------------------------------------------------

    def _heartbeat(self) -> None:
        """Say that the device is there: soon again while nobody answers, but not for ever if nobody is there."""
        free = self.room.free
        self._number += 1
        self._to_watch(Heartbeat(self._boot, self._number, self.port.now, self.life.state, tuple(self.held), *free))
        self._tries += 1
        patient = self._tries > TRIES * len(self.committee)
        self.port.set_timer("heartbeat", self._beat_ns if patient else min(RESEND_NS, self._beat_ns))

    def _to_watch(self, message: Message) -> None:
        self.port.send(f"{self.committee[self._member]}/{WATCH}", message)

    def on_message(self, sender: str, message: Any) -> None:
        """A committee member speaks; nobody else is heard."""
        if sender not in self.committee:
            return
        if isinstance(message, Granted):
            self._on_granted(sender, message)
        elif isinstance(message, Deploy):
            self._on_deploy(sender, message)
        elif isinstance(message, Withdraw):
            held = self.held.get(message.deployment)
            if held is not None and held.owner == sender:  # another that knows it not is owed nothing of it
                self._end(message.deployment, "withdrawn", "")
                self._occupied()
        elif self.reports.pop(message.deployment, None) is not None:
            self._occupied()

    def _on_granted(self, sender: str, granted: Granted) -> None:
        left_ns = granted.sent_ns + self._lease_ns - self.port.now
        late = granted.sent_ns < self._leased_ns
        if sender != self.committee[self._member] or late or not 0 < left_ns <= self._lease_ns:
            return
        if self._feed(life.LEASE):
            self._tries, self._leased_ns = 0, granted.sent_ns
            self.port.set_timer("heartbeat", granted.sent_ns + self._beat_ns - self.port.now)
            # Another member's deployments are not covered by this one's lease. It is told: the device may be back
            # before it is found silent.
            for name in [name for name, held in self.held.items() if held.owner != sender]:
                self._end(name, "handed_back", "another member leased the device")
            self.port.set_timer("lease", left_ns)
            self._occupied()

    def _on_deploy(self, sender: str, deploy: Deploy) -> None:
        name = deploy.deployment
        if name in self.held and self.held[name].deploy == deploy:
            self.port.send(f"{sender}/{WATCH}", Accepted(name))
            return
        if name in self.reports:
            self.port.send(f"{sender}/{WATCH}", self.reports[name][1])
            return
        if name in self.held:
            refused = NAMESAKE
        elif name in self._over:
            refused = "it has ended here"
        elif not self.life.allows(life.FETCH):
            refused = f"the device is {self.life.state}"
            self._feed(life.FETCH)
        else:
            room = Room(deploy.memory_bytes, deploy.compute_millis, deploy.tasks)
            refused = self.room.reserve(name, room, deploy.priority)
            refused = f"no room: {refused}" if refused else ""
        if refused:  # not remembered: it is asked again until it is answered
            self.counts["refused"] += 1
            self.port.send(f"{sender}/{WATCH}", Ended(name, "refused", refused))
            return
        job_id = self.port.submit(deploy.load)
        self.held[name] = Held(deploy, sender, "fetching", job_id)
        self._by_job[job_id] = name
        self.port.send(f"{sender}/{WATCH}", Accepted(name))
        self._feed(life.FETCH)

    # -- deployments ---------------------------------------------------------------------------------

    def on_job(self, job_id: int, outcome: Any) -> None:
        """What was brought is there, work made progress or ended, or a job was lost."""
        if isinstance(outcome, Progress):
            if (name := self._by_job.get(job_id)) is not None:
                self.held[name].tokens = outcome.tokens
            return
        name = self._by_job.pop(job_id, None)
        if name is None:
            return
        held = self.held[name]
        held.job_id = 0
        if isinstance(outcome, Lost):
            self._end(name, "failed", outcome.reason or "lost")
            self._lost_in_a_row += 1
            if self._lost_in_a_row >= self.config.faults_max:
                self._feed(life.FAULT)
        else:
            self._lost_in_a_row = 0
            self._on_done(name, held, outcome)
        self._occupied()

    def _on_done(self, name: str, held: Held, done: Done) -> None:
        if held.phase == "working":
            held.tokens = done.tokens
            self._end(name, "done", "", done.output)
        elif held.deploy.work is None:
            held.phase = "serving"
        else:
            held.phase, held.job_id = "working", self.port.submit(held.deploy.work)
            self._by_job[held.job_id] = name

    def _end(self, name: str, outcome: str, reason: str, output: str = "") -> None:
        """Free the room of a deployment that is held, and report its end unless the lease went with it."""
        held = self.held.pop(name)
        self.room.release(name)  # no effect where it was put out
        self.counts[outcome] += 1
        if held.job_id:
            self.port.cancel(held.job_id)
            del self._by_job[held.job_id]
        self._over[name] = None
        if len(self._over) > REMEMBERED:
            del self._over[next(iter(self._over))]
        if outcome != "lost":
            report = Ended(name, outcome, reason, output, held.tokens)
            self.reports[name] = (held.owner, report, 1)
            self.port.send(f"{held.owner}/{WATCH}", report)
            self.port.set_timer("resend", RESEND_NS)

    def _resend(self) -> None:
        parted = self.life.state in (life.OFFLINE, *BARRED)
        member = self.committee[self._member]
        for name, (owner, report, times) in list(self.reports.items()):
            if (parted or owner != member) and times >= self._resends:
                del self.reports[name]
                continue
            self.reports[name] = (owner, report, times + 1)
            self.port.send(f"{owner}/{WATCH}", report)
        if self.reports:
            self.port.set_timer("resend", RESEND_NS)


def _scalars(limits: Limits) -> Limits:
    return Limits(
        float(limits.cpu_share), float(limits.memory_bytes), int(limits.tasks), float(limits.chunk_bytes),
        int(limits.mode), bool(limits.blind),
    )  # fmt: skip


def check_edge(config: EdgeConfig) -> None:
    """Refuse rungs that are out of order, and one that no battery can leave.

    Raises:
        ValueError: the fields, their values and what is allowed, in one line.
    """
    for names in (
        ("battery_critical", "battery_low", "battery_conservative"),
        ("warm_c", "hot_c", "critical_c"),
        ("memory_low_gb", "memory_medium_gb", "memory_high_gb"),
        ("chunk_min_bytes", "chunk_bytes", "chunk_max_bytes"),
        ("heartbeat_s", "offline_after_s"),
    ):
        values = [getattr(config, name) for name in names]
        if values != sorted(values):
            shown = ", ".join(f"{value:g}" for value in values)
            raise ValueError(f"edge: {', '.join(names)} are {shown}; allowed: values that do not fall")
    if config.battery_conservative + config.hysteresis_battery >= 1.0:
        raise ValueError(
            f"edge: battery_conservative is {config.battery_conservative:g}; allowed: below "
            f"{1.0 - config.hysteresis_battery:g}, 1 less hysteresis_battery, or a full battery would stay careful"
        )
