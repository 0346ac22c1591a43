"""Placements of few nodes, improved one node at a time under their true flow, links and all.

The programme of `placement` counts links between sites only, as if each node used the mean one; where every pair has a
link of its own, that is not enough. Here one node or two take whatever range makes the flow of the whole placement
larger, or an end of another's, or places are traded, until nothing helps: a local search, which ends as each step adds
at least `LEAST` of the flow. The best of several beginnings is then shaken, and improved again, a fixed number of times
(iterated local search: Lourenco, Martin and Stuetzle 2003). Edges of ranges lie where some other node's do, at the
model's ends, or as far off as a node can hold. A flow is found only where the nodes of the least held layer could pass
more than what there is. Measured against the best of all placements: `tests/policies/test_goodput.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise

from policies.jobs import Stage
from policies.problem import Problem
from policies.rng import Rng
from policies.sharding.flow import Rates, span_max
from policies.sharding.links import TOKEN_BYTES, Network

NODES_MAX = 8
"""Nodes up to which placements are polished."""
SHAKES = 50
"""Times that the best placement is shaken."""
TRIES = 1000
"""Placements whose flow is found from one beginning; each is a small maximum flow."""
LEAST = 1e-6
"""Share of the flow that counts as better."""

CUTS = 8
"""Places at which a range is cut for another node to take an end of it. Our choices all, for seconds of one core."""

Range = tuple[int, int]
Held = dict[str, Range]


def polished(problem: Problem, placements: Sequence[Sequence[Stage]], by_node: Rates) -> tuple[Stage, ...]:
    """Return the best of the placements, each changed while its flow grows, and then shaken and changed again.

    A shake gives some nodes other ranges, or none. Its draws have no other key, so that they are always the same.
    """
    flow, rng = _Flow(problem, by_node), Rng(0, "", "sharding.polish", 0)
    best, held = 0.0, Held()
    for stages in placements:
        value, found = _settled(flow, {stage.node: (stage.first, stage.last) for stage in stages})
        if value > best * (1 + LEAST):
            best, held = value, found
    for _ in range(SHAKES if best > 0 else 0):
        value, found = _settled(flow, flow.shaken(held, rng))
        if value > best * (1 + LEAST):
            best, held = value, found
    return tuple(Stage(node, *held[node]) for node in sorted(held))


def _settled(flow: _Flow, held: Held) -> tuple[float, Held]:
    """Change a placement while its flow grows: first what few changes there are, then pairs of nodes."""
    best, left, improved = flow.value(held), TRIES, True
    while improved:
        improved = False
        for neighbours in (flow.alone, flow.bounds, flow.traded, flow.together):
            for changed in neighbours(held):
                if left and flow.most(changed) > best * (1 + LEAST):
                    left -= 1
                    if (value := flow.value(changed)) > best * (1 + LEAST):
                        held, best, improved = changed, value, True
                        break
            if improved:
                break
    return best, held


class _Flow:
    """The maximum flow of a placement, by augmenting along shortest paths (Edmonds and Karp 1972)."""

    def __init__(self, problem: Problem, by_node: Rates) -> None:
        self.layers, self.by_node = problem.layers, by_node
        network = Network(problem)
        self.workers = [worker for worker in problem.workers if span_max(problem, worker)]
        self.span = {worker.node: span_max(problem, worker) for worker in self.workers}
        self.link = {
            (a.node, b.node): network.bytes_per_s(a, b) / problem.activation_bytes
            for a in self.workers
            for b in self.workers
            if a is not b
        }
        self.enter = {w.node: network.source_bytes_per_s(w, to_source=False) / TOKEN_BYTES for w in self.workers}
        self.leave = {w.node: network.source_bytes_per_s(w, to_source=True) / TOKEN_BYTES for w in self.workers}

    def alone(self, held: Held) -> list[Held]:
        """Return the placements where one node holds something else, or nothing."""
        gone = [{other: way for other, way in held.items() if other != node} for node in sorted(self.span)]
        return gone + self._moved(held, [(node,) for node in sorted(self.span)])

    def together(self, held: Held) -> list[Held]:
        """Return the placements where two nodes hold the same range, another than they do."""
        return self._moved(held, list(combinations(sorted(self.span), 2)))

    def traded(self, held: Held) -> list[Held]:
        """Return the placements where two nodes trade what they hold."""
        found = []
        for one, other in combinations(sorted(self.span), 2):
            traded = {one: held.get(other), other: held.get(one)}
            found.append({n: way for n, way in (held | traded).items() if way is not None})
        return self._held(found)

    def bounds(self, held: Held) -> list[Held]:
        """Return the placements where a boundary moves by a layer, or where the ranges on both sides trade places."""
        found = []
        edges = sorted({edge for way in held.values() for edge in way})
        for begin, edge, end in zip(edges, edges[1:], edges[2:], strict=False):
            found += [{n: (a + by * (a == edge), z + by * (z == edge)) for n, (a, z) in held.items()} for by in (-1, 1)]
            behind = begin + end - edge
            traded_places = {(begin, edge): (behind, end), (edge, end): (begin, behind)}
            found.append({n: traded_places.get(way, way) for n, way in held.items()})
        return self._held(found)

    def shaken(self, held: Held, rng: Rng) -> Held:
        """Return a placement where two or three nodes hold other ranges, or none."""
        changed, nodes = dict(held), sorted(self.span)
        for _ in range(2 + rng.below(2)):
            node = rng.choice(nodes)
            changed.pop(node, None)
            ways = self._ways(changed, self.span[node])
            if (number := rng.below(len(ways) + 1)) < len(ways):
                changed[node] = ways[number]
        return changed

    def _moved(self, held: Held, teams: Sequence[tuple[str, ...]]) -> list[Held]:
        """Return the placements where the nodes of a team hold one range, or an end of another node's."""
        found = []
        for team in teams:
            others = {node: way for node, way in held.items() if node not in team}
            ways = self._ways(others, min(self.span[node] for node in team))
            ways = [way for way in ways if any(held.get(node) != way for node in team)]
            found += [others | dict.fromkeys(team, way) for way in ways]
            for one, (first, last) in others.items():
                for at in range(first + 1, last, max(1, (last - first) // CUTS)):
                    found.append(others | {one: (first, at)} | dict.fromkeys(team, (at, last)))
                    found.append(others | {one: (at, last)} | dict.fromkeys(team, (first, at)))
        return self._held(found)

    def _held(self, found: Sequence[Held]) -> list[Held]:
        """Return those that fit in the nodes' memory."""
        return [one for one in found if all(0 < z - a <= self.span[n] for n, (a, z) in one.items())]

    def most(self, held: Mapping[str, Range]) -> float:
        """Return what a placement passes at most: what the nodes that hold its least held layer pass, without links."""
        passed = [(first, last, self.by_node[node][last - first - 1]) for node, (first, last) in held.items()]
        edges = [0, *(last for _, last, _ in passed if last < self.layers)]
        return min(sum(rate for first, last, rate in passed if first <= edge < last) for edge in edges)

    def _ways(self, others: Held, most: int) -> list[Range]:
        """Return the ranges whose edges are others' or the model's, or which are as long as they may be from one."""
        edges = sorted({0, self.layers, *(edge for way in others.values() for edge in way)})
        ways = [(a, z) for a in edges for z in edges if 0 < z - a <= most]
        ways += [(max(0, edge - most), edge) for edge in edges] + [(e, min(self.layers, e + most)) for e in edges]
        return list(dict.fromkeys(way for way in ways if way[0] < way[1]))

    def value(self, held: Mapping[str, Range]) -> float:
        """Return the tokens a second of a placement."""
        room: dict[str, dict[str, float]] = {"": {}, "end": {}}
        for node, (first, last) in held.items():
            room[f"{node} in"] = {f"{node} out": self.by_node[node][last - first - 1]}
            room[f"{node} out"] = {}
        for node, (first, last) in held.items():
            if first == 0:
                room[""][f"{node} in"] = self.enter[node]
            if last == self.layers:
                room[f"{node} out"]["end"] = self.leave[node]
            for after, (begin, end) in held.items():
                if begin <= last < end and after != node:
                    room[f"{node} out"][f"{after} in"] = self.link[node, after]
        total = 0.0
        while (path := _path(room)) is not None:
            pushed = min(room[a][b] for a, b in path)
            for a, b in path:
                room[a][b] -= pushed
                room[b][a] = room[b].get(a, 0.0) + pushed
            total += pushed
        return total


def _path(room: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str]] | None:
    """Return a shortest path with room from the source to the end."""
    came: dict[str, str] = {"": ""}
    waiting = deque([""])
    while waiting:
        at = waiting.popleft()
        for to, left in room[at].items():
            if left > 1e-12 and to not in came:
                came[to] = at
                waiting.append(to)
    if "end" not in came:
        return None
    path, at = [], "end"
    while at:
        path.append((came[at], at))
        at = came[at]
    return path


def levels(problem: Problem, by_node: Rates) -> list[tuple[Stage, ...]]:
    """Return placements to begin from: layers cut evenly into 1, 2, ... levels, each node on the weakest it fits."""
    workers = [worker for worker in problem.workers if span_max(problem, worker)]
    found = []
    for count in range(1, min(len(workers), problem.layers) + 1):
        edges = [problem.layers * k // count for k in range(count + 1)]
        ways = list(pairwise(edges))
        passed = [0.0] * count
        placed = []
        for worker in sorted(workers, key=lambda w: (-by_node[w.node][0], w.node)):
            fits = [k for k, (a, z) in enumerate(ways) if z - a <= span_max(problem, worker)]
            if fits:
                level = min(fits, key=lambda k: (passed[k], k))
                first, last = ways[level]
                passed[level] += by_node[worker.node][last - first - 1]
                placed.append(Stage(worker.node, first, last))
        found.append(tuple(placed))
    return found
