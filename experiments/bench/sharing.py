"""How fast flows are shared: a thousand of them over two hundred hosts of a tree that is full for minutes.

Hosts hang five to an access switch, switches five to an aggregation switch, those four to a core, and the two cores
together: paths of 2 to 7 links. Capacities, latencies, sizes and starts are random. A flow's start and its end are
two events; rates are per second of this process's CPU time, so that a busy machine disturbs them little.
"""

from __future__ import annotations

from time import process_time

import numpy as np

from experiments.bench.table import Line
from models import draws
from sim.engine import Engine
from sim.sharing import MODES, Planned, Sharing

FLOWS = 1_000
HOSTS = 200
STARTS_S = 30.0
"""All flows start within this time, most before the first ends."""
REPEATS = 3
SEED = 1

TITLE = f"sharing: {FLOWS:,} flows over {HOSTS} hosts, best of {REPEATS} runs a mode"
LINES = (
    # Asked: what SimGrid 3.32 answers from Python for as many flows over as many hosts.
    Line("max_min_per_s", "starts + ends / CPU s: plain max-min", at_least=3_500),
    Line("rtt_weighted_per_s", "starts + ends / CPU s: RTT-weighted"),
    Line("lv08_per_s", "starts + ends / CPU s: LV08"),
    Line("peak_flows", "flows at once, at most"),
    Line("hops", "links on the longest path"),
)

Links = dict[str, tuple[float, float]]


def network(hosts: int, seed: int) -> Links:
    """Return the tree's links: capacity in bytes/s and latency in s by name."""
    switches, aggregations = -(-hosts // 5), -(-hosts // 25)
    ranges = [("host", hosts, 1e6, 12.5e6, 1e-3, 20e-3), ("switch", switches, 10e6, 30e6, 1e-3, 5e-3)]
    ranges.append(("aggregation", aggregations, 30e6, 100e6, 1e-3, 5e-3))
    links: Links = {"core": (200e6, 10e-3)}
    for name, count, low, high, short_s, long_s in ranges:
        index = np.arange(count)
        capacities = low + (high - low) * draws.uniform(seed, f"{name} capacity", 0, index)
        latencies_s = short_s + (long_s - short_s) * draws.uniform(seed, f"{name} latency", 0, index)
        links |= {f"{name} {k}": (float(capacities[k]), float(latencies_s[k])) for k in range(count)}
    return links


def route(a: int, b: int) -> list[str]:
    """Return the links from one host to another: up as far as their ways differ, and down again."""
    up, down = [f"host {a}"], [f"host {b}"]
    if a // 5 != b // 5:
        up, down = [*up, f"switch {a // 5}"], [*down, f"switch {b // 5}"]
    if a // 25 != b // 25:
        up, down = [*up, f"aggregation {a // 25}"], [*down, f"aggregation {b // 25}"]
    if a // 100 != b // 100:
        up.append("core")
    return up + down[::-1]


def flows(count: int, hosts: int, seed: int) -> list[Planned]:
    """Return what is carried: log-normal sizes with a median of 20 MB, between two hosts drawn for each flow."""
    index = np.arange(count)
    sources = (hosts * draws.uniform(seed, "source", 0, index)).astype(int)
    others = ((hosts - 1) * draws.uniform(seed, "target", 0, index)).astype(int)
    targets = others + (others >= sources)
    sizes = 20e6 * np.exp(draws.normal(seed, "size", 0, index))
    starts_s = STARTS_S * draws.uniform(seed, "start", 0, index)
    return [Planned(route(int(sources[k]), int(targets[k])), float(sizes[k]), float(starts_s[k])) for k in range(count)]


def run(links: Links, planned: list[Planned], mode: str) -> tuple[float, int]:
    """Return the events per CPU second of one run, and how many flows there were at once."""
    engine = Engine()
    sharing = Sharing(engine, mode)
    for name, (capacity_per_s, latency_s) in links.items():
        sharing.add(name, capacity_per_s, latency_s)
    start_s = process_time()
    started = [sharing.start(flow.path, flow.size, after_s=flow.start_s) for flow in planned]
    engine.run()
    per_s = 2 * len(planned) / (process_time() - start_s)
    edges = [(flow.started_s, 1) for flow in started] + [(flow.finished_s or 0.0, -1) for flow in started]
    return per_s, int(np.cumsum([step for _, step in sorted(edges)]).max())


def measure(count: int = FLOWS, hosts: int = HOSTS, repeats: int = REPEATS) -> dict[str, float]:
    """Measure each mode `repeats` times in turn.

    Args:
        count: flows.
        hosts: at the leaves of the tree.
        repeats: runs a mode, of which the fastest counts: others only add what else the machine did.

    Returns:
        The figures of `LINES`.
    """
    links, planned = network(hosts, SEED), flows(count, hosts, SEED)
    runs = [{mode: run(links, planned, mode) for mode in MODES} for _ in range(repeats)]
    figures: dict[str, float] = {f"{mode}_per_s": max(each[mode][0] for each in runs) for mode in MODES}
    return figures | {"peak_flows": runs[0]["max_min"][1], "hops": max(len(flow.path) for flow in planned)}
