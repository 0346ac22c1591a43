"""One edge agent in a Cell, driven by hand: a lender where harvest is, a listener where the worker is."""

from __future__ import annotations

from typing import Any

import msgspec

from policies import port as p
from policies.cell import Cell
from policies.config import EdgeConfig
from policies.edge import Deploy, EdgeAgent, Ended, Maintain
from policies.edge.messages import Accepted, Granted, Heartbeat, Noted, Parting, Phase
from policies.jobs import Done, LoadJob, Lost, Progress, SessionJob, Stage
from policies.local import Lend
from policies.port import NS_PER_S, Policy
from policies.readings import Row
from policies.wire import encode

COMMITTEE = ("k1", "k2")
GIB = 1 << 30
LENT = Lend(True, 0.5, 0.5, "harvesting")
TAKEN = Lend(False, 0.0, 0.0, "user_active")
WORK = SessionJob("anna/1/1", "m", (Stage("d", 0, 4),), "p", "k1", 8, 4, 64)
FINE = Row(True, 0.9, True, 30.0, 28.0, 28.0, True, False, 1e7, False, 3600.0, 120.0, 0.0, 16.0 * GIB)
_said: Any = msgspec.msgpack.Decoder(Heartbeat | Accepted | Ended | Parting).decode
_job: Any = msgspec.msgpack.Decoder(LoadJob | SessionJob).decode


def deploy(
    name: str = "a", *, priority: int = 5, memory: int = 100 << 20, millis: int = 100, work: bool = False
) -> Deploy:
    """Return a deployment of a tenth of the compute and one task."""
    return Deploy(name, priority, memory, millis, 1, LoadJob("m", 0, 4), WORK if work else None)


class Lender(Policy):
    """Stands where harvest is: lends the device when a test says so."""

    requests = (Lend,)

    def on_request(self, client: str, op_id: str, operation: Lend) -> None:
        """Tell the edge agent."""
        self.port.tell("edge", operation)


class Listener(Policy):
    """Stands where the worker is."""

    def __init__(self) -> None:
        self.heard: list[Lend] = []

    def on_local(self, sender: str, message: Any) -> None:
        """Keep what is passed on."""
        self.heard.append(message)


class Bench:
    """The device ``d`` with 16 GiB; k1 is the member that it asks first.

    Attributes:
        said: (member, message) of everything sent, in order.
        jobs: job id to job, of those neither ended nor cancelled.
        phases: announced states, in order.
        limits: resource to its last limit.
        limited: (resource, share) of every limit in this life, in order.
        notes: names of notes, in order.
        saved: what is durable.
    """

    def __init__(self, config: EdgeConfig | None = None) -> None:
        self.config = config or EdgeConfig(heartbeat_s=30.0, offline_after_s=60.0)
        self.saved: dict[str, bytes] = {}
        self.life = -1
        self.now = 0
        self.boot()

    def boot(self) -> None:
        """Start, again after a crash."""
        self.life += 1
        self.edge = EdgeAgent(self.config, COMMITTEE, 16 * GIB, 60 * NS_PER_S)
        self.worker = Listener()
        policies = {"harvest": Lender(), "edge": self.edge, "worker": self.worker}
        self.cell = Cell(policies, "d", COMMITTEE, seed=1, keys=None)  # type: ignore[arg-type]
        self.timers: dict[str, tuple[int, int]] = {}
        self.jobs: dict[int, Any] = {}
        self.said: list[tuple[str, Any]] = []
        self.replies: list[Any] = []
        self.phases: list[str] = []
        self.limits: dict[str, float] = {}
        self.limited: list[tuple[str, float]] = []
        self.notes: list[str] = []
        self.feed((p.START, "", dict(self.saved), self.life))
        self.edge._member = 0

    def feed(self, given: tuple[Any, ...]) -> list[tuple[str, Any]]:
        """Feed one input, carry its effects out, and return (member, message) of what was sent."""
        before = len(self.said)
        waiting = [given]
        while waiting:
            for effect in self.cell.step(self.now, 0, waiting.pop(0)):
                kind = effect[0]
                if kind == p.SEND:
                    self.said.append((effect[2].removesuffix("/edge_watch"), _said(effect[3])))
                elif kind == p.SET_TIMER:
                    self.timers[effect[2]] = (effect[3], effect[4])
                elif kind == p.CANCEL_TIMER:
                    self.timers.pop(effect[2])
                elif kind == p.SUBMIT:
                    self.jobs[effect[2]] = _job(effect[3])
                elif kind == p.CANCEL:
                    del self.jobs[effect[2]]
                elif kind == p.DECIDE:
                    self.phases.append(msgspec.msgpack.decode(effect[3], type=Phase).state)
                elif kind == p.LIMIT:
                    self.limits[effect[2]] = effect[3]
                    self.limited.append(effect[2:4])
                elif kind == p.NOTE:
                    self.notes.append(effect[2])
                elif kind == p.REPLY:
                    self.replies.append(msgspec.msgpack.decode(effect[4], type=Phase))
                elif kind == p.SAVE:
                    for key, value in effect[3]:
                        if value is None:
                            self.saved.pop(key, None)
                        else:
                            self.saved[key] = value
                    waiting.append((p.DURABLE, effect[1], effect[2]))
        return self.said[before:]

    @property
    def state(self) -> str:
        """The device's state."""
        return self.edge.life.state

    def lend(self, lend: Lend = LENT) -> list[tuple[str, Any]]:
        """Harvest speaks."""
        return self.feed((p.REQUEST, "harvest", "", "", encode(lend)))

    def read(self, **changes: Any) -> list[tuple[str, Any]]:
        """A reading arrives."""
        return self.feed((p.READINGS, "edge", encode(msgspec.structs.replace(FINE, **changes))))

    def hear(self, message: Any, sender: str = "k1") -> list[tuple[str, Any]]:
        """A member speaks."""
        return self.feed((p.MESSAGE, "edge", sender, encode(message)))

    def grant(self, sender: str = "k1") -> list[tuple[str, Any]]:
        """A member answers a heartbeat that was sent now."""
        return self.hear(Granted(self.now), sender)

    def maintain(self, on: bool) -> Any:
        """An operator asks; returns the answer."""
        self.feed((p.REQUEST, "edge", "op", "1", encode(Maintain(on))))
        return self.replies[-1]

    def fire(self, timer: str) -> list[tuple[str, Any]]:
        """Let time pass until a timer fires."""
        deadline, generation = self.timers.pop(timer)
        self.now = max(self.now, deadline)
        return self.feed((p.TIMER, "edge", timer, generation))

    def end(self, job_id: int, outcome: Done | Lost | Progress) -> list[tuple[str, Any]]:
        """A job reports."""
        if not isinstance(outcome, Progress):
            self.jobs.pop(job_id, None)
        return self.feed((p.JOB, "edge", job_id, encode(outcome)))

    def online(self) -> Bench:
        """Read, lend and lease the device."""
        self.read()
        self.lend()
        self.grant()
        assert self.state == "online"
        return self

    def running(self, *deployments: Deploy) -> Bench:
        """Bring these onto the device."""
        self.online()
        for one in deployments or (deploy(),):
            self.hear(one)
            self.end(max(self.jobs), Done("", 0, 0))
        assert self.state == "running"
        return self

    def lent_limits(self) -> dict[str, float]:
        """Return the last limits on what is lent: pieces are cut whether anything is or not."""
        return {resource: share for resource, share in self.limits.items() if resource != "chunk"}

    def limits_on(self, resource: str) -> list[float]:
        """Return the limits of one resource, in order."""
        return [share for name, share in self.limited if name == resource]

    def ends(self) -> list[tuple[str, str]]:
        """Return (deployment, outcome) of all ends that were reported, once each."""
        return list(dict.fromkeys((m.deployment, m.outcome) for _, m in self.said if isinstance(m, Ended)))

    def note_all(self) -> None:
        """Every report is heard."""
        for name in list(self.edge.reports):
            self.hear(Noted(name))
