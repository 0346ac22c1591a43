"""What no planner has a part in: the best pipeline by trying every order of every subset.

The layers are cut by a dynamic programme over layers that knows nothing of fastest first.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np

from policies.problem import Problem, Worker


def brute_force_s(problem: Problem) -> float:
    """Return the least end-to-end seconds over all orders and cuts, infinite if none fits."""
    workers, best = problem.workers, np.inf
    costs = _Costs(problem)
    ends: dict[tuple[int, int, int], float] = {}
    for size in range(1, len(workers) + 1):
        orders = np.array(list(permutations(range(len(workers)), size)))
        seconds = sum((costs.hop[orders[:, i], orders[:, i + 1]] for i in range(size - 1)), np.zeros(len(orders)))
        masks = (1 << orders).sum(axis=1)
        keys = (masks * 16 + orders[:, 0]) * 16 + orders[:, -1]
        unique, where = np.unique(keys, return_inverse=True)
        shortest = np.full(len(unique), np.inf)
        np.minimum.at(shortest, where, seconds)
        ends |= {(int(k) >> 8, int(k) >> 4 & 15, int(k) & 15): float(s) for k, s in zip(unique, shortest, strict=True)}
    keys_list = list(ends)
    cut_s = costs.cuts_s(keys_list)
    for (mask, first, last), cut in zip(keys_list, cut_s, strict=True):
        best = min(best, ends[mask, first, last] + costs.around(first, last) + float(cut))
    return best


class _Costs:
    """The objective written down anew: a prompt's pass and the passes of the other tokens, by device and by pair."""

    def __init__(self, problem: Problem) -> None:
        self.p, self.decodes = problem, problem.new_tokens - 1
        self.links = {(link.sender, link.receiver): link for link in problem.links}
        size, s = problem.activation_bytes, problem.prompt_tokens
        self.hop = np.array(
            [[self.way(a, b, size) * self.decodes + self.way(a, b, size * s) for b in problem.workers]
             for a in problem.workers]
        )  # fmt: skip

    def way(self, a: Worker, b: Worker, size: float) -> float:
        if a.node == b.node:
            return 0.0
        link = self.links.get((a.node, b.node))
        if link:
            return link.one_way_s + size / link.bytes_per_s
        return a.one_way_s + b.one_way_s + size / min(a.bytes_per_s, b.bytes_per_s)

    def around(self, first: int, last: int) -> float:
        p, a, b = self.p, self.p.workers[first], self.p.workers[last]
        head = b.layer_s * p.head_bytes / p.layer_bytes
        if not p.source:
            back, into = self.way(b, a, 4.0), [0.0, 0.0]
        elif p.source == "gateway":
            back = b.one_way_s + 4.0 / b.bytes_per_s
            into = [a.one_way_s + n * 4.0 / a.bytes_per_s for n in (1, p.prompt_tokens)]
        else:
            back, into = self.way(b, p.workers[0], 4.0), [
                self.way(p.workers[0], a, n * 4.0) for n in (1, p.prompt_tokens)
            ]  # fmt: skip
        return self.decodes * (head + back + into[0]) + head + back + into[1]

    def cuts_s(self, keys: list[tuple[int, int, int]]) -> Any:
        """Return, for each (mask, first, last), the least seconds of all stages over every way to cut the layers."""
        p = self.p
        mask, first, last = (np.array(column) for column in zip(*keys, strict=True))
        table = np.full((len(keys), p.layers + 1), np.inf)
        table[:, 0] = 0.0
        for i, w in enumerate(p.workers):
            held = (w.memory_bytes - p.head_bytes * ((first == i).astype(float) + (last == i))) // (
                p.layer_bytes + p.kv_bytes_layer
            )
            layer = self.decodes * w.layer_s + w.prefill_s_layer + p.prompt_tokens * w.prefill_s_token_layer
            taken = np.full_like(table, np.inf)
            for n in range(1, p.layers + 1):
                fits = held >= n
                if not fits.any():
                    break
                seconds = table[fits, : p.layers + 1 - n] + n * layer + w.step_s * (self.decodes + 1)
                taken[fits, n:] = np.minimum(taken[fits, n:], seconds)
            table = np.where((mask >> i & 1 == 1)[:, None], taken, table)
        return table[:, p.layers]
