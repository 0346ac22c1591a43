"""Random planning problems: up to 8 devices of 3 families, links of 1 Mbps to 1 Gbps each way, 4 models.

And what no planner has a part in: the best pipeline by trying every order of every subset, with the layers cut by a
dynamic programme over layers that knows nothing of fastest first.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np

from models.draws import integers, uniform
from policies.problem import Link, Problem, Worker

FAMILIES = {
    "phone": ((4e9, 12e9), (50e9, 80e9), 2e12),
    "laptop": ((8e9, 48e9), (60e9, 400e9), 10e12),
    "gpu": ((8e9, 24e9), (300e9, 1000e9), 60e12),
}
"""Memory and its bandwidth, from and to, in bytes and bytes/s, and operations/s: the order of real devices."""
MODELS = {
    "3b": (28, 1.0e8, 2048, 2.4e8, 6144),
    "7b": (32, 4.05e8, 16384, 2.6e8, 8192),
    "13b": (40, 3.2e8, 20480, 1.6e8, 10240),
    "70b": (80, 4.3e8, 4096, 2.6e8, 16384),
}
"""Layers, bytes of one, cache of a token in one, bytes of the head, activation: Llama-like, 2 bytes or 4 bits each."""


def instance(number: int, devices_max: int = 8, devices_min: int = 1) -> Problem:
    """Return the problem of that number: always the same one."""

    def between(what: str, low: float, high: float, index: int = 0) -> float:
        return float(low * (high / low) ** uniform(number, f"planning {what}", 0, index))

    def whole(what: str, high: int, index: int = 0) -> int:
        return int(integers(number, f"planning {what}", 0, index, high))

    layers, layer_bytes, kv_bytes, head_bytes, activation = MODELS[sorted(MODELS)[whole("model", 4)]]
    count = devices_min + whole("count", devices_max - devices_min + 1)
    prompt, new = (32, 96) if whole("request", 2) else (512, 256)
    workers = []
    for i in range(count):
        memory, bandwidth, flops = FAMILIES[sorted(FAMILIES)[whole("family", 3, i)]]
        rate = 0.7 * between("bandwidth", *bandwidth, i)
        workers.append(
            Worker(
                node=f"d{i:04}",
                memory_bytes=between("memory", *memory, i),
                layer_s=layer_bytes / rate + 1e-4,
                step_s=between("step", 1e-4, 3e-3, i),
                prefill_s_token_layer=layer_bytes / (0.4 * flops),
                prefill_s_layer=layer_bytes / rate,
                bytes_per_s=between("access", 1e6 / 8, 1e9 / 8, i),
                one_way_s=between("delay", 1e-4, 2e-2, i),
            )
        )
    pairs = [(a, b) for a in range(count) for b in range(count) if a != b] if count <= 64 else []
    links = tuple(
        Link(f"d{a:04}", f"d{b:04}", between("rate", 1e6 / 8, 1e9 / 8, n), between("way", 2e-4, 4e-2, n))
        for n, (a, b) in enumerate(pairs)
        if whole("measured", 4, n)
    )
    source = ("", "d0000", "gateway")[whole("source", 3)]
    kv = kv_bytes * (prompt + new) * 4.0
    return Problem(
        "m", layers, layer_bytes, kv, head_bytes, activation, tuple(workers), source,
        links=links, prompt_tokens=prompt, new_tokens=new,
    )  # fmt: skip


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
