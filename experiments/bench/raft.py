"""How fast the twin runs a protocol: five Raft members under a steady load, with a crash and a restart now and then.

The run is what a run of a scenario is: wire encoding, simulated links and disks, the digest and the checks are on.
Rates are per second of this process's CPU time; the checks time themselves.
"""

from __future__ import annotations

import statistics
from time import perf_counter, process_time

from experiments.bench.table import Line
from experiments.hunt.arenas.raft import TIMES, Door
from policies import port as p
from policies.cell import Cell
from policies.consensus import Raft
from policies.local import Propose
from policies.port import NS_PER_S, Effect
from policies.wire import encode
from scenarios.checks import VillageChecks
from scenarios.schema import Network
from sim.keys import KeyRing
from sim.network import Links, MessageNetwork
from sim.world import Node, World

MEMBERS = tuple(f"n{i}" for i in range(5))
REQUEST_EVERY_NS = NS_PER_S // 10
CRASH_EVERY_S = 60.0
DOWN_S = 5.0
SIMULATED_S = 300.0
REPEATS = 3
SEED = 1
# One way between two members 3 ms: three legs of 1 ms, as between sites of one city (assumption).
LEG_S = 0.001
LINK_BYTES_PER_S = 1e8

TITLE = (
    f"raft: {len(MEMBERS)} members, heartbeat 50 ms, 10 requests/s, a crash a minute; {SIMULATED_S:.0f} s simulated, "
    f"median of {REPEATS}"
)
LINES = (
    Line("times_real", "simulated s / CPU s", at_least=500),
    Line("times_real_wall", "simulated s / wall s"),
    Line("steps_per_s", "port steps / CPU s", at_least=100_000),
    Line("steps_per_simulated_s", "port steps / simulated s"),
    Line("checks_share", "share of the time spent in checks", 3, at_most=0.30),
    Line("commits", "log entries committed"),
    Line("elections", "elections"),
    Line("checks_broken", "checks broken", at_most=0),
)


class _Run:
    """One simulated cluster and what feeds it."""

    def __init__(self, seed: int) -> None:
        links = Links.alike(len(MEMBERS), LEG_S, LINK_BYTES_PER_S)
        self.world = World(MessageNetwork(seed, links, Network(backbone_s=LEG_S)))
        self.checks = VillageChecks()
        ring = KeyRing(seed)
        for name in MEMBERS:
            self.world.add(name, lambda name=name: _cell(name, seed, ring))
        self.world.on_decide.append(self._on_decide)
        self.command = encode(Propose(b"x" * 40))
        self.victims = 0

    def _on_decide(self, now: int, node: Node, effect: Effect) -> None:
        self.checks.decided(now, node.name, effect[1], effect[2], effect[3])

    def go(self, simulated_s: float) -> None:
        engine = self.world.engine
        for node in self.world.nodes:
            self.world.start(node)
        engine.call_at(NS_PER_S, self._request, 0)
        engine.call_at(int(CRASH_EVERY_S / 2 * NS_PER_S), self._crash, None)
        self.world.run(simulated_s)

    def _request(self, number: int) -> None:
        if self.checks.leaders:
            leader = self.world.by_name[self.checks.leaders[-1][1]]
            self.world.give(leader, (p.REQUEST, "door", "client", str(number), self.command))
        self.world.engine.call_at(self.world.engine.now + REQUEST_EVERY_NS, self._request, number + 1)

    def _crash(self, _: None) -> None:
        """Take down the leader and, the next time, another member."""
        leader = self.world.by_name[self.checks.leaders[-1][1]]
        node = self.world.nodes[(leader.number + self.victims % 2) % len(MEMBERS)]
        self.victims += 1
        self.world.crash(node, torn_share=0.5)
        now = self.world.engine.now
        self.world.engine.call_at(now + int(DOWN_S * NS_PER_S), self._restart, node)
        self.world.engine.call_at(now + int(CRASH_EVERY_S * NS_PER_S), self._crash, None)

    def _restart(self, node: Node) -> None:
        self.checks.restarted(node.name)
        self.world.start(node)


def _cell(name: str, seed: int, ring: KeyRing) -> Cell:
    others = tuple(member for member in MEMBERS if member != name)
    return Cell({"consensus": Raft(TIMES, MEMBERS), "door": Door()}, name, others, seed=seed, keys=ring.handle(name))


def run_once(simulated_s: float, seed: int = SEED) -> tuple[dict[str, float], str]:
    """Run the cluster once; return its figures (the keys of `LINES`) and its digest."""
    run = _Run(seed)
    wall_s, cpu_s = perf_counter(), process_time()
    run.go(simulated_s)
    wall_s, cpu_s = perf_counter() - wall_s, process_time() - cpu_s
    figures = {
        "times_real": simulated_s / cpu_s,
        "times_real_wall": simulated_s / wall_s,
        "steps_per_s": run.world.steps / cpu_s,
        "steps_per_simulated_s": run.world.steps / simulated_s,
        "checks_share": run.checks.spent_ns / NS_PER_S / wall_s,
        "commits": float(run.checks.commits),
        "elections": float(run.checks.elections),
        "checks_broken": float(sum(not verdict.holds for verdict in run.checks.all)),
    }
    return figures, run.world.digest


def measure(simulated_s: float = SIMULATED_S, repeats: int = REPEATS) -> dict[str, float]:
    """Run the cluster several times; return the median of every figure (keys of `LINES`)."""
    rows = [run_once(simulated_s)[0] for _ in range(repeats)]
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}
