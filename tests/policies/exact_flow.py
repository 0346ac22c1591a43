"""The largest flow that any placement of a few nodes has: Helix's own programme over pairs of nodes, to its end.

Mei et al., ASPLOS 2025, section 4: each node holds one range or none; tokens go from i to j only where j goes on with
the layer after i's last, partial inference allowed. Unlike `policies.sharding.programme` it knows every node and link
by name, and no grid or kind; nothing of that module is used here, nor of `exact_placement`, whose rows are others.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from policies.problem import Problem
from policies.sharding.flow import Rates

TOKEN_BYTES, GAP = 4.0, 1e-7


def largest_flow(p: Problem, by_node: Rates) -> float:
    """Return the tokens a second of the best placement, within `GAP` of it."""
    layers, count = p.layers, len(p.workers)
    each = p.layer_bytes + p.kv_bytes_layer
    most = [int(min(layers, max(0.0, w.memory_bytes - 2 * p.head_bytes) // each)) for w in p.workers]
    spans = [(i, a, a + n) for i in range(count) for n in range(1, most[i] + 1) for a in range(layers - n + 1)]
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    known = {(link.sender, link.receiver): link.bytes_per_s for link in p.links}

    def rate(a: str, b: str, access: float) -> float:
        return known.get((a, b), access)

    into, out = [], []
    for w in p.workers:
        own = np.inf if w.node == p.source or not p.source else w.bytes_per_s
        at = next((v.bytes_per_s for v in p.workers if v.node == p.source), np.inf)
        into.append(min(1e15, (np.inf if own == np.inf else rate(p.source, w.node, min(own, at))) / TOKEN_BYTES))
        out.append(min(1e15, (np.inf if own == np.inf else rate(w.node, p.source, min(own, at))) / TOKEN_BYTES))
    caps = []
    for i, j in pairs:
        a, b = p.workers[i], p.workers[j]
        caps.append(rate(a.node, b.node, min(a.bytes_per_s, b.bytes_per_s)) / p.activation_bytes)
    top = max((by_node[p.workers[i].node][z - a - 1] for i, a, z in spans), default=0.0)  # no link needs more
    unit = top or 1.0

    # Columns: held ranges, ways that are open, flow of each way, flow in, flow out; flows in units of the largest rate.
    held, opened, flow = 0, len(spans), len(spans) + len(pairs)
    enter, leave = flow + len(pairs), flow + len(pairs) + count
    width = leave + count
    rows, low, high = [], [], []

    def row(entries: list[tuple[int, float]], least: float, largest: float) -> None:
        line = np.zeros(width)
        for column, value in entries:
            line[column] += value
        rows.append(line)
        low.append(least)
        high.append(largest)

    for i in range(count):
        own = [(held + k, a, z) for k, (node, a, z) in enumerate(spans) if node == i]
        passing = [(flow + k, 1.0) for k, (_, j) in enumerate(pairs) if j == i] + [(enter + i, 1.0)]
        going = [(flow + k, -1.0) for k, (j, _) in enumerate(pairs) if j == i] + [(leave + i, -1.0)]
        row([(k, 1.0) for k, _, _ in own], 0.0, 1.0)
        row(passing + going, 0.0, 0.0)
        rates = [(k, -by_node[p.workers[i].node][z - a - 1] / unit) for k, a, z in own]
        row(passing + rates, -np.inf, 0.0)
        row([(enter + i, 1.0)] + [(k, -min(into[i] / unit, 1.0)) for k, a, _ in own if a == 0], -np.inf, 0.0)
        row([(leave + i, 1.0)] + [(k, -min(out[i] / unit, 1.0)) for k, _, z in own if z == layers], -np.inf, 0.0)
    for k, (i, j) in enumerate(pairs):
        ends_i = [(held + c, float(z)) for c, (node, _, z) in enumerate(spans) if node == i]
        ends_j = [(held + c, float(z)) for c, (node, _, z) in enumerate(spans) if node == j]
        begins_j = [(held + c, float(a)) for c, (node, a, _) in enumerate(spans) if node == j]
        row([(flow + k, 1.0), (opened + k, -min(caps[k] / unit, 1.0))], -np.inf, 0.0)
        row([*ends_i, *((c, -a) for c, a in begins_j), (opened + k, -float(layers))], -float(layers), np.inf)
        row([*ends_j, *((c, -z) for c, z in ends_i), (opened + k, -float(layers + 1))], -float(layers), np.inf)
        for ends in (ends_i, ends_j):  # only between nodes that hold something
            row([(opened + k, 1.0), *((c, -1.0) for c, _ in ends)], -np.inf, 0.0)
    gain = np.zeros(width)
    gain[enter : enter + count] = -1.0
    whole = np.zeros(width)
    whole[: len(spans) + len(pairs)] = 1
    upper = np.full(width, np.inf)
    upper[: len(spans) + len(pairs)] = 1
    solved = milp(
        gain, constraints=LinearConstraint(np.array(rows), low, high), integrality=whole, bounds=Bounds(0, upper),
        options={"mip_rel_gap": GAP},
    )  # fmt: skip
    assert solved.status == 0, solved.message
    return float(-solved.fun) * unit
