"""The fleet that simulators are compared on: batteries, Poisson tasks and FIFO fog nodes, in the twin's style.

`Spec` is the comparison's text as data, `Inputs` its random part; a second implementation that takes the same inputs
must end with the same `Outcome`, to the last bit. What is an event is a call on the engine's lane (a task arrives, a
task reaches its fog node); what is a clock for everybody is one array operation (batteries); what is a queue
with one server is the time at which it is free.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models import draws
from policies.port import NS_PER_S
from sim.engine import Engine

HOUR_S = 3600.0
_BLOCK = 64  # gaps drawn at once for every device


@dataclass(frozen=True)
class Spec:
    """The comparison's constants: round numbers chosen for it, taken from no device.

    A device lives on a battery and sends tasks over its own uplink, one at a time, to one fog node, which serves them
    in order of arrival. Batteries are accounted in steps and clipped at empty and full.
    """

    battery_j: float = 15.0 * HOUR_S
    start_charge: tuple[float, float] = (0.30, 1.00)  # uniform
    drain_w: float = 0.9
    charge_w: float = 10.0  # while plugged, on top of the drain
    plugged_h: tuple[float, float] = (22.0, 7.0)  # local time, over midnight; each device's is shifted
    shift_h: float = 2.0  # uniform from minus to plus
    account_ns: int = 60 * NS_PER_S
    task_j: float = 5.0
    gate_share: float = 0.05  # below this charge nothing is sent
    task_gap_s: float = 600.0  # mean of exponential gaps
    send_ns: int = 80_000_000  # 100 kB at 10 Mbit/s
    latency_ns: int = 20_000_000
    service_ns: int = 5 * NS_PER_S
    devices_per_fog: int = 50


SPEC = Spec()


@dataclass(frozen=True)
class Inputs:
    """Everything that was drawn, so that two implementations can be given the same.

    Attributes:
        charge_j: battery energy at midnight, one element a device (J).
        shift_ns: how much later than the spec's each device is plugged in and out (ns).
        arrival_ns, device: every task's arrival before the end, in order, and whose it is.
        until_ns: end of the run.
    """

    charge_j: np.ndarray
    shift_ns: np.ndarray
    arrival_ns: np.ndarray
    device: np.ndarray
    until_ns: int

    @property
    def fogs(self) -> int:
        """Fog nodes: device i uses node i modulo this number."""
        return max(1, len(self.charge_j) // SPEC.devices_per_fog)


@dataclass(frozen=True)
class Outcome:
    """What both implementations must agree on: tasks ended, their latencies' sum, tasks gated, batteries at the end."""

    tasks: int
    latency_ns: int
    skipped: int
    charge_j: tuple[float, ...]

    @property
    def mean_latency_s(self) -> float:
        """Mean time from arrival to the end of service (s)."""
        return self.latency_ns / max(1, self.tasks) / NS_PER_S


def draw(devices: int, seed: int, hours: float) -> Inputs:
    """Draw the fleet's random part, keyed by device, so that a larger fleet holds the smaller one.

    Raises:
        ValueError: no device, or no time.
    """
    if devices < 1 or not hours > 0:
        raise ValueError(f"devices={devices}, hours={hours}: allowed: at least one device, and more than 0 hours")
    i = np.arange(devices)
    low, high = SPEC.start_charge
    charge_j = (low + (high - low) * draws.uniform(seed, "fog charge", i, 0)) * SPEC.battery_j
    shift_h = SPEC.shift_h * (2.0 * draws.uniform(seed, "fog plug", i, 0) - 1.0)
    until_ns = int(hours * HOUR_S * NS_PER_S)
    blocks: list[np.ndarray] = []
    last_ns = np.zeros((devices, 1), dtype=np.int64)
    while int(last_ns.min()) < until_ns:
        number = len(blocks) * _BLOCK + np.arange(_BLOCK)
        gap_s = SPEC.task_gap_s * draws.exponential(seed, "fog gap", i[:, None], number[None, :])
        blocks.append(last_ns + np.cumsum((gap_s * NS_PER_S).astype(np.int64), axis=1))
        last_ns = blocks[-1][:, -1:]
    arrival_ns = np.concatenate(blocks, axis=1)
    device = np.broadcast_to(i[:, None], arrival_ns.shape)
    inside = arrival_ns < until_ns
    arrival_ns, device = arrival_ns[inside], device[inside]
    order = np.lexsort((device, arrival_ns))
    return Inputs(charge_j, (shift_h * HOUR_S * NS_PER_S).astype(np.int64), arrival_ns[order], device[order], until_ns)


def plugged(now_ns: int, shift_ns: np.ndarray) -> np.ndarray:
    """Return who is plugged in at a time since midnight (ns)."""
    hour = ((now_ns - shift_ns) % (24 * 3600 * NS_PER_S)) / (HOUR_S * NS_PER_S)
    on, off = SPEC.plugged_h
    return np.asarray((hour >= on) | (hour < off))


def run_fleet_spec(devices: int, seed: int, hours: float) -> Outcome:
    """Run the comparison's fleet from midnight.

    >>> run_fleet_spec(devices=50, seed=1, hours=1.0).skipped
    0

    Raises:
        ValueError: no device, or no time.
    """
    return run(draw(devices, seed, hours))


def run(inputs: Inputs) -> Outcome:
    """Run the fleet on inputs already drawn."""
    fleet = _Fleet(inputs)
    fleet.engine.run(until=inputs.until_ns)
    return Outcome(fleet.tasks, fleet.latency_ns, fleet.skipped, tuple(fleet.charge_j.tolist()))


class _Fleet:
    """One run: the engine, and the state its calls change."""

    def __init__(self, inputs: Inputs) -> None:
        self.engine = Engine()
        self.inputs = inputs
        self.charge_j = inputs.charge_j.copy()
        self.link_free_ns = [0] * len(self.charge_j)
        self.fog_free_ns = [0] * inputs.fogs
        self.tasks = self.latency_ns = self.skipped = 0
        self.step_s = SPEC.account_ns / NS_PER_S
        # Only the next task of the whole fleet waits in the queue: a short queue is a fast one.
        self.coming = zip(inputs.arrival_ns.tolist(), inputs.device.tolist(), strict=True)
        self.engine.call_at(SPEC.account_ns, self._account, None)
        self._await_next()

    def _await_next(self) -> None:
        task = next(self.coming, None)
        if task is not None:
            self.engine.call_at(task[0], self._task, task[1])

    def _account(self, _: None) -> None:
        now = self.engine.now
        power_w = np.where(plugged(now, self.inputs.shift_ns), SPEC.charge_w - SPEC.drain_w, -SPEC.drain_w)
        self.charge_j = np.clip(self.charge_j + power_w * self.step_s, 0.0, SPEC.battery_j)
        self.engine.call_at(now + SPEC.account_ns, self._account, None)

    def _task(self, device: int) -> None:
        self._await_next()
        if self.charge_j[device] < SPEC.gate_share * SPEC.battery_j:
            self.skipped += 1
            return
        self.charge_j[device] -= SPEC.task_j
        now = self.engine.now
        sent = max(now, self.link_free_ns[device]) + SPEC.send_ns
        self.link_free_ns[device] = sent
        self.engine.call_at(sent + SPEC.latency_ns, self._serve, (device, now))

    def _serve(self, task: tuple[int, int]) -> None:
        device, arrived = task
        fog = device % len(self.fog_free_ns)
        done = max(self.engine.now, self.fog_free_ns[fog]) + SPEC.service_ns
        self.fog_free_ns[fog] = done
        if done < self.inputs.until_ns:
            self.tasks += 1
            self.latency_ns += done - arrived
