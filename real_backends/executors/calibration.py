"""Measuring an executor on this machine: a few numbers that predict its times, with their fit error.

The law is the one the twin's compute model uses. One step of a shard with L layers over n new tokens takes

    decode   (n = 1):  decode_s_step  + L * decode_s_layer          (+ decode_s_head on the last shard)
    prefill  (n > 1):  prefill_s_step + n * L * prefill_s_token_layer (+ prefill_s_head on the last shard)

Looking up the embedding is left out: it is a copy of n rows, small against one layer.

Each cell of a small grid of layer counts and prompt lengths is timed many times, in turn, so that a slow
spell of the machine touches all cells alike; the medians are fitted by non-negative least squares on relative
errors.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from real_backends.executors.shard import Shard
from real_backends.executors.spec import ModelSpec

REPEATS_MIN = 5  # a median of fewer is not worth the name; measured even when the time is up
WARM_UPS = 2  # the first call compiles or allocates, the second may still grow a pool


class Profile(TypedDict):
    """A calibrated executor; times in seconds, errors as the root mean square of relative residuals."""

    decode_s_step: float
    decode_s_layer: float
    decode_s_head: float
    prefill_s_step: float
    prefill_s_token_layer: float
    prefill_s_head: float
    decode_fit_error: float
    prefill_fit_error: float
    repeats: int
    backend: str
    device: str
    threads: int
    spec: str
    framework_version: str
    cpu_model: str
    hash: str


class _Cell(NamedTuple):
    """One point of the grid: `tokens` new tokens at `position`, in a session of its own."""

    shard: Shard
    tokens: int
    position: int
    session: str


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def profile_hash(profile: dict[str, Any]) -> str:
    """SHA-256 of every field but the hash itself, as sorted JSON."""
    body = {name: value for name, value in profile.items() if name != "hash"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _grid(shard_factory: Callable[[int, int], Shard], spec: ModelSpec) -> list[_Cell]:
    """Middle and last shards of 1, 2, 4 .. layers, each for decode and three prompt lengths."""
    if spec.layers < 4:
        raise ValueError(f"layers: {spec.layers} is not allowed, calibration needs at least 4")
    counts = [count for count in (1, 2, 4, 8, 16) if count < spec.layers - 1]
    shards = [shard_factory(1, 1 + count) for count in counts]
    shards += [shard_factory(spec.layers - count, spec.layers) for count in counts]
    # Decoding is timed at half of the context. Prompt lengths are powers of two, the sizes that JAX compiles;
    # an eighth to a half of the context keeps the quadratic part of attention in proportion.
    half = spec.context // 2
    work = [(1, half), (half // 4, 0), (half // 2, 0), (half, 0)]
    return [_Cell(shard, n, at, f"probe-{n}") for shard in shards for n, at in work]


def _fit(rows: Sequence[Sequence[float]], times_s: Sequence[float]) -> tuple[npt.NDArray[np.float64], float]:
    """Non-negative coefficients of rows @ c = times and the root mean square of the relative residuals."""
    from scipy.optimize import nnls

    weighted = np.asarray(rows) / np.asarray(times_s)[:, None]
    # Columns differ by orders of magnitude; scaling them keeps the solver well conditioned.
    scale = weighted.max(axis=0)
    coefficients, norm = nnls(weighted / scale, np.ones(len(times_s)))
    return coefficients / scale, float(norm) / len(times_s) ** 0.5


def calibrate(
    shard_factory: Callable[[int, int], Shard],
    spec: ModelSpec,
    seconds: float = 20.0,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Profile:
    """Measure an executor.

    Args:
        shard_factory: makes a shard of layers [first, last) of `spec`.
        spec: a model of at least 4 layers.
        seconds: time to spend on repeats, after warming up; each cell is repeated at least `REPEATS_MIN`
            times.
        clock: nanoseconds that only grow.
    """
    cells = _grid(shard_factory, spec)
    draw = np.random.Generator(np.random.PCG64(0))
    noise = draw.random((spec.context, spec.hidden), dtype=np.float32) - 0.5
    for cell in cells:
        if cell.position:
            cell.shard.forward(cell.session, noise[: cell.position], 0)
        for _ in range(WARM_UPS):
            cell.shard.forward(cell.session, noise[: cell.tokens], cell.position)
    samples_ns: list[list[int]] = [[] for _ in cells]
    end_ns = clock() + int(seconds * 1e9)
    while len(samples_ns[0]) < REPEATS_MIN or clock() < end_ns:
        for cell, taken in zip(cells, samples_ns, strict=True):
            start_ns = clock()
            cell.shard.forward(cell.session, noise[: cell.tokens], cell.position)
            taken.append(clock() - start_ns)
    for cell in cells:
        cell.shard.drop(cell.session)

    medians_s = [float(np.median(taken)) * 1e-9 for taken in samples_ns]
    fits = []
    for decode in (True, False):
        rows, times_s = [], []
        for cell, time_s in zip(cells, medians_s, strict=True):
            if (cell.tokens == 1) == decode:
                layers = cell.shard.last - cell.shard.first
                rows.append((1.0, float(cell.tokens * layers), float(cell.shard.last == spec.layers)))
                times_s.append(time_s)
        fits.append(_fit(rows, times_s))
    (decode_fit, decode_error), (prefill_fit, prefill_error) = fits
    shard = cells[0].shard
    profile: Profile = {
        "decode_s_step": float(decode_fit[0]),
        "decode_s_layer": float(decode_fit[1]),
        "decode_s_head": float(decode_fit[2]),
        "prefill_s_step": float(prefill_fit[0]),
        "prefill_s_token_layer": float(prefill_fit[1]),
        "prefill_s_head": float(prefill_fit[2]),
        "decode_fit_error": decode_error,
        "prefill_fit_error": prefill_error,
        "repeats": len(samples_ns[0]),
        "backend": shard.backend,
        "device": shard.device,
        "threads": shard.threads,
        "spec": spec.name,
        "framework_version": _version(shard.backend),
        "cpu_model": cpu_model(),
        "hash": "",
    }
    profile["hash"] = profile_hash(dict(profile))
    return profile


def _version(backend: str) -> str:
    try:
        return version(backend)
    except PackageNotFoundError:
        return "unknown"
