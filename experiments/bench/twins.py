"""How fast Twins scenarios are played with HotStuff: four members, one twin, seven rounds, safety checked.

Each scenario is one of those that differ not in names only, drawn with a key, and runs until all correct members have
decided after its script. Rates are per second of this process's CPU time.
"""

from __future__ import annotations

from time import process_time

from experiments.bench.table import Line
from sim.twins import Generator, play
from sim.twins.hotstuff import hotstuff
from sim.world import few_collections

SCENARIOS = 300
ROUNDS = 7
SEED = 1

TITLE = f"twins: hotstuff, 4 members and a twin, {ROUNDS} rounds, {SCENARIOS} scenarios of each commit rule"
LINES = (
    Line("scenarios_per_s", "scenarios / CPU s, two-chain", at_least=200),
    Line("three_chain_per_s", "scenarios / CPU s, three-chain"),
    Line("events_per_s", "events / CPU s"),
    Line("events", "events / scenario"),
    Line("broken", "scenarios that broke a promise", at_most=0),
)


def measure(scenarios: int = SCENARIOS) -> dict[str, float]:
    """Play a sample with each commit rule; return the figures of `LINES`."""
    sample = Generator(rounds=ROUNDS).sample(scenarios, SEED)
    spent_s, events, broken = {2: 0.0, 3: 0.0}, 0, 0
    for chain in (2, 3):
        protocol = hotstuff(2 if chain == 2 else 3)
        with few_collections():
            begun_s = process_time()
            outcomes = [play(one, protocol) for one in sample]
            spent_s[chain] = process_time() - begun_s
        events += sum(one.events for one in outcomes)
        broken += sum(one.broken != "" for one in outcomes)
    return {
        "scenarios_per_s": scenarios / spent_s[2],
        "three_chain_per_s": scenarios / spent_s[3],
        "events_per_s": events / sum(spent_s.values()),
        "events": events / (2 * scenarios),
        "broken": float(broken),
    }
