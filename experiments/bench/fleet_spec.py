"""The fleet that simulators are compared on, twice: in the twin's style, and in plain SimPy.

The SimPy form is what its documentation teaches: a process for every battery, source and task, a Resource for every
server. Both forms are given the same draws and must end the same, to the last bit; then their CPU times are compared.
"""

from __future__ import annotations

from time import process_time

import simpy
from simpy.events import ProcessGenerator

from experiments.bench.table import Line
from policies.port import NS_PER_S
from sim import fog
from sim.fog import HOUR_S, SPEC, Inputs, Outcome

DEVICES = 1_000
HOURS = 24.0
SEED = 1

TITLE = f"fleet_spec: {DEVICES:,} devices x {HOURS:.0f} h of batteries, Poisson tasks and FIFO fog nodes, beside SimPy"
LINES = (
    Line("same_outcome", "both forms end the same (1 is yes)", at_least=1),
    Line("over_simpy", "SimPy's CPU time / ours", 1, at_least=5),
    Line("cpu_s", "CPU s", 2),
    Line("simpy_cpu_s", "CPU s of SimPy, a process per battery", 2),
    Line("device_s_per_cpu_s", "simulated device s / CPU s"),
    Line("tasks", "tasks ended"),
    Line("mean_latency_s", "mean latency (s)", 3),
    Line("skipped", "tasks not sent for want of charge"),
)


class _Simpy:
    """The fleet as SimPy processes."""

    def __init__(self, inputs: Inputs) -> None:
        self.env = simpy.Environment(initial_time=0)
        self.charge_j = inputs.charge_j.tolist()
        self.links = [simpy.Resource(self.env) for _ in self.charge_j]
        self.fogs = [simpy.Resource(self.env) for _ in range(inputs.fogs)]
        self.tasks = self.latency_ns = self.skipped = 0
        arrivals: list[list[int]] = [[] for _ in self.charge_j]
        for device, arrival_ns in zip(inputs.device.tolist(), inputs.arrival_ns.tolist(), strict=True):
            arrivals[device].append(arrival_ns)
        for device, shift_ns in enumerate(inputs.shift_ns.tolist()):
            self.env.process(self.battery(device, shift_ns))
            self.env.process(self.source(device, arrivals[device]))

    def battery(self, device: int, shift_ns: int) -> ProcessGenerator:
        """Account one battery, minute by minute."""
        on, off = SPEC.plugged_h
        step_s = SPEC.account_ns / NS_PER_S
        while True:
            yield self.env.timeout(SPEC.account_ns)
            hour = ((self.env.now - shift_ns) % (24 * 3600 * NS_PER_S)) / (HOUR_S * NS_PER_S)
            power_w = SPEC.charge_w - SPEC.drain_w if hour >= on or hour < off else -SPEC.drain_w
            self.charge_j[device] = min(max(self.charge_j[device] + power_w * step_s, 0.0), SPEC.battery_j)

    def source(self, device: int, arrivals: list[int]) -> ProcessGenerator:
        """Start one device's tasks as they arrive."""
        for arrival_ns in arrivals:
            yield self.env.timeout(arrival_ns - self.env.now)
            if self.charge_j[device] < SPEC.gate_share * SPEC.battery_j:
                self.skipped += 1
            else:
                self.charge_j[device] -= SPEC.task_j
                self.env.process(self.task(device))

    def task(self, device: int) -> ProcessGenerator:
        """Send one task over its link, then have it served."""
        arrived = self.env.now
        with self.links[device].request() as turn:
            yield turn
            yield self.env.timeout(SPEC.send_ns)
        yield self.env.timeout(SPEC.latency_ns)
        with self.fogs[device % len(self.fogs)].request() as turn:
            yield turn
            yield self.env.timeout(SPEC.service_ns)
        self.tasks += 1
        self.latency_ns += self.env.now - arrived


def run_simpy(inputs: Inputs) -> Outcome:
    """Run the SimPy form."""
    fleet = _Simpy(inputs)
    fleet.env.run(until=inputs.until_ns)
    return Outcome(fleet.tasks, int(fleet.latency_ns), fleet.skipped, tuple(fleet.charge_j))


def measure(devices: int = DEVICES, hours: float = HOURS, seed: int = SEED) -> dict[str, float]:
    """Run both forms on the same draws; ours before and after SimPy's, and the slower of the two counts.

    Our time includes the draws, SimPy's does not.
    """
    times_s, outcomes = [], []
    for form in ("ours", "simpy", "ours"):
        inputs = fog.draw(devices, seed, hours) if form == "simpy" else None
        start_s = process_time()
        outcomes.append(fog.run_fleet_spec(devices, seed, hours) if inputs is None else run_simpy(inputs))
        times_s.append(process_time() - start_s)
    cpu_s, simpy_cpu_s = max(times_s[0], times_s[2]), times_s[1]
    ours = outcomes[0]
    return {
        "same_outcome": float(ours == outcomes[1] == outcomes[2]),
        "over_simpy": simpy_cpu_s / cpu_s,
        "cpu_s": cpu_s,
        "simpy_cpu_s": simpy_cpu_s,
        "device_s_per_cpu_s": devices * hours * HOUR_S / cpu_s,
        "tasks": float(ours.tasks),
        "mean_latency_s": ours.mean_latency_s,
        "skipped": float(ours.skipped),
    }
