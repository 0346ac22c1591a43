"""Any history of a device: legal transitions only, room never over-committed, each reservation given back once."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from policies.edge import TRANSITIONS
from policies.edge.messages import Accepted, Ended, Granted, Noted, Withdraw
from policies.edge.reservations import NONE, Room
from policies.jobs import Done, Lost, Progress
from policies.local import Lend
from tests.policies.edge.bench_device import TAKEN, Bench, deploy

MIB = 1 << 20
shares = st.sampled_from([0.0, 0.001, 0.1, 0.5, 1.0])
members = st.sampled_from(["k1", "k2", "stranger"])
names = st.sampled_from([f"d{number}" for number in range(12)])
orders = st.builds(
    deploy, names, priority=st.integers(1, 10), memory=st.integers(0, 700).map(lambda mib: mib * MIB),
    millis=st.integers(0, 400), work=st.booleans(),
)  # fmt: skip


class DeviceMachine(RuleBasedStateMachine):
    """A device, a lender, two members, an operator and its jobs, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.accepted: set[str] = set()

    def hear(self, said: list[tuple[str, Any]]) -> None:
        """Note which deployments were accepted for the first time in this life."""
        self.accepted |= {m.deployment for _, m in said if isinstance(m, Accepted)}

    @rule(on=st.booleans(), compute=shares, memory=shares)
    def lend(self, on: bool, compute: float, memory: float) -> None:
        """Harvest speaks."""
        self.bench.lend(Lend(True, compute, memory, "harvesting") if on else TAKEN)

    @rule(soc=st.sampled_from([0.05, 0.15, 0.3, 0.9, math.nan]), die_c=st.sampled_from([30.0, 50.0, 60.0, 70.0]))
    def read(self, soc: float, die_c: float) -> None:
        """The ladder moves."""
        self.bench.read(soc=soc, die_c=die_c, plugged=False)

    @rule(order=orders, sender=members)
    def order(self, order: Any, sender: str) -> None:
        """A member deploys, perhaps again, perhaps under a name that was used."""
        self.hear(self.bench.hear(order, sender))

    @rule(sender=members, late_s=st.sampled_from([0, 10, 70]))
    def grant(self, sender: str, late_s: int) -> None:
        """A heartbeat is answered, perhaps late."""
        self.bench.hear(Granted(self.bench.now - late_s * 10**9), sender)

    @rule(name=names, sender=members)
    def withdraw(self, name: str, sender: str) -> None:
        """A deployment is given up."""
        self.bench.hear(Withdraw(name), sender)

    @rule(name=names)
    def noted(self, name: str) -> None:
        """An end is heard."""
        self.bench.hear(Noted(name))

    @rule(on=st.booleans())
    def maintain(self, on: bool) -> None:
        """An operator asks."""
        self.bench.maintain(on)

    @precondition(lambda self: self.bench.jobs)
    @rule(data=st.data())
    def job_ends(self, data: Any) -> None:
        """A job is done, lost, or makes progress."""
        job_id = data.draw(st.sampled_from(sorted(self.bench.jobs)))
        self.bench.end(job_id, data.draw(st.sampled_from([Done("out", 4, 7), Lost("disk"), Progress(1)])))

    @precondition(lambda self: self.bench.timers)
    @rule(data=st.data())
    def time_passes(self, data: Any) -> None:
        """Some timer fires."""
        self.bench.fire(data.draw(st.sampled_from(sorted(self.bench.timers))))

    @rule()
    def crash(self) -> None:
        """A new life begins with what was durable."""
        self.bench.boot()
        self.accepted = set()

    @invariant()
    def room_is_kept(self) -> None:
        """What is reserved is what is held, it fits, and who was accepted holds its room or gave it back once."""
        edge = self.bench.edge
        deploys = [held.deploy for held in edge.held.values()]
        rooms = [Room(d.memory_bytes, d.compute_millis, d.tasks) for d in deploys]
        assert edge.room.used == Room(*(sum(column) for column in zip(NONE, *rooms, strict=True)))
        assert edge.room.used.fits_in(edge.room.capacity)
        assert NONE.fits_in(edge.room.free)
        assert all(name in edge.room for name in edge.held)
        assert len(edge.room) == len(edge.held)
        assert edge.room.released + len(edge.held) == len(self.accepted)

    @invariant()
    def no_job_outlives_its_deployment(self) -> None:
        """The jobs that run are those of what is held, one each at most."""
        held = {one.job_id for one in self.bench.edge.held.values() if one.job_id}
        assert held == set(self.bench.jobs)

    @invariant()
    def the_state_says_what_is_held(self) -> None:
        """Deploying brings something, running holds only what is there, all others but draining hold nothing."""
        state, held = self.bench.state, self.bench.edge.held.values()
        fetching = any(one.phase == "fetching" for one in held)
        if state == "deploying":
            assert fetching
        elif state == "running":
            assert held
            assert not fetching
        elif state == "draining":
            assert not fetching
        else:
            assert not held

    @invariant()
    def only_legal_steps_were_announced(self) -> None:
        """Each announced state follows from the one before by a row of the table."""
        was = "offline"
        for state in self.bench.phases:
            assert state in {move.to for move in TRANSITIONS[was].values()}
            was = state
        assert was == self.bench.state

    @invariant()
    def one_end_each(self) -> None:
        """No deployment is reported with two ends, refusals aside."""
        ends = [end for end in self.bench.ends() if end[1] != "refused"]
        assert len({name for name, _ in ends}) == len(ends)
        assert all(isinstance(report[1], Ended) for report in self.bench.edge.reports.values())

    @invariant()
    def nothing_is_lent_that_harvest_or_the_ladder_withholds(self) -> None:
        """The worker is lent no more than harvest says, nothing in error or maintenance, and limits say the same."""
        edge, heard = self.bench.edge, self.bench.worker.heard
        lent = heard[-1] if heard and heard[-1].on else None
        if edge.lent is None or self.bench.state in ("error", "maintenance"):
            assert lent is None
        else:
            assert lent is not None
            assert lent.compute_share <= min(edge.lent.compute_share, edge.limits.cpu_share)
            assert lent.memory_share <= edge.lent.memory_share
            assert self.bench.lent_limits() == {"compute": lent.compute_share, "memory": lent.memory_share}

    @invariant()
    def whoever_waits_has_a_timer(self) -> None:
        """A drain, an error, an open report or a lease ends by itself."""
        needs = {"draining": "drain", "error": "retry", "online": "lease", "deploying": "lease", "running": "lease",
                 "connecting": "heartbeat"}  # fmt: skip
        timer = needs.get(self.bench.state)
        assert timer is None or timer in self.bench.timers
        assert not self.bench.edge.reports or "resend" in self.bench.timers


DeviceMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestDevice: Any = DeviceMachine.TestCase
