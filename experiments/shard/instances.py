"""Random planning problems, always the same by number: for the benchmark of the planners and for their tests.

`instance`: up to 8 devices of 3 families, links of 1 Mbps to 1 Gbps each way, 4 models. `pool`: the same for a model of
six layers, of which a device holds from none to five, so that all placements can still be searched; in half of them
devices serve batches that their caches bound.
"""

from __future__ import annotations

import msgspec

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


POOL_LAYERS = 6
BATCH = 64
"""Streams of a device's largest iteration in a pool; so many take twice as long as one. Our choices."""


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


def pool(number: int, devices_max: int = 8) -> Problem:
    """Return the pool of that number: always the same one."""
    given = instance(number, devices_max)
    each = given.layer_bytes + given.kv_bytes_layer
    batched = int(integers(number, "table", 0, 0, 2))
    workers = []
    for i, worker in enumerate(given.workers):
        room_bytes = each * float(0.7 + 0.8 * POOL_LAYERS * uniform(number, "room", 0, i))
        held = range(1, int(room_bytes // each) + 1)
        table = tuple(_batched(given, worker, room_bytes, layers) for layers in held) if batched else ()
        own_bytes = 2 * given.head_bytes + room_bytes
        workers.append(msgspec.structs.replace(worker, memory_bytes=own_bytes, tokens_per_s=table))
    return msgspec.structs.replace(given, layers=POOL_LAYERS, workers=tuple(workers))


def _batched(given: Problem, worker: Worker, room_bytes: float, layers: int) -> float:
    """Return the tokens a second of as many streams as the cache beside so many layers holds, up to `BATCH`."""
    free_bytes = room_bytes - layers * given.layer_bytes
    streams = int(min(BATCH, max(1.0, free_bytes // (layers * given.kv_bytes_layer))))
    return streams / (worker.step_s + layers * worker.layer_s * (1 + streams / BATCH))
