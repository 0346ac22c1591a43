"""Progressive filling, written as naively as its definition reads: the oracle for `sim.sharing`.

Nothing is kept between two moments: at each, all levels rise from 0 together, and whoever meets a full resource or
its own cap stops.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Wish:
    """A flow of the oracle: what it takes of each resource per unit of rate, and what it carries from when on."""

    takes: dict[str, float]
    weight: float
    cap_per_s: float
    size: float = 0.0
    begins_s: float = 0.0


def rates(capacities_per_s: dict[str, float], wishes: list[Wish]) -> list[float]:
    """Return the weighted max-min fair rates."""
    level: dict[int, float] = {}
    rising = set(range(len(wishes)))
    while rising:
        reached = min(wishes[k].cap_per_s / wishes[k].weight for k in rising)
        fills = {}
        for name, capacity in capacities_per_s.items():
            slope = sum(wishes[k].weight * wishes[k].takes.get(name, 0.0) for k in rising)
            taken = sum(wishes[k].weight * wishes[k].takes.get(name, 0.0) * level[k] for k in level)
            fills[name] = (capacity - taken) / slope if slope else math.inf
        reached = min(reached, *fills.values())
        full = {name for name, at in fills.items() if at <= reached * (1 + 1e-12)}
        stopped = {
            k
            for k in rising
            if full & wishes[k].takes.keys() or wishes[k].cap_per_s / wishes[k].weight <= reached * (1 + 1e-12)
        }
        level.update(dict.fromkeys(stopped, reached))
        rising -= stopped
    return [level[k] * wish.weight for k, wish in enumerate(wishes)]


def ends(capacities_per_s: dict[str, float], wishes: list[Wish]) -> list[float]:
    """Return when each flow has carried its size."""
    left = {k: wish.size for k, wish in enumerate(wishes)}
    ended: dict[int, float] = {}
    now_s = 0.0
    while len(ended) < len(wishes):
        running = [k for k in left if k not in ended and wishes[k].begins_s <= now_s]
        per_s = dict(zip(running, rates(capacities_per_s, [wishes[k] for k in running]), strict=True))
        begins_s = min((w.begins_s for w in wishes if w.begins_s > now_s), default=math.inf)
        takes_s = {k: left[k] / per_s[k] for k in running}
        step_s = min([begins_s - now_s, *takes_s.values()])
        for k in running:
            left[k] -= per_s[k] * step_s
            if takes_s[k] <= step_s * (1 + 1e-13):
                ended[k] = now_s + step_s
        now_s = begins_s if step_s == begins_s - now_s else now_s + step_s
    return [ended[k] for k in range(len(wishes))]
