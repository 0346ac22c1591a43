"""Measuring how long a process takes until it can serve: launch and imports, the framework, weights, what is warmed.

A process is launched as a node is, with what a node imports, and tells how long each part took; processes of one host
share the monotonic clock, so its launch counts from the launcher's side. The first one compiles its programs, the
others find them. All but that are medians, so that a slow spell of the machine does not count.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from real_backends import node  # noqa: F401  (what a node imports counts)
from real_backends.executors import DEFAULT_SEED, DESK_TINY, make_checkpoint, make_shard, open_checkpoint
from real_backends.executors.llama_layout import save_checkpoint
from real_backends.executors.seeded import RECIPES
from real_backends.processes import node_environment
from scenarios.hosts import StepLaw
from scenarios.starts import warmed_sizes

WIDE = replace(RECIPES["small"].spec, name="wide", layers=2)
"""What is read from files: large enough that its bytes count, not its tensors."""
LAUNCHES = 3  # a median of fewer is not worth the name
ANSWER_S = 300.0  # assumption: a process that is slower to compile a dozen programs has hung


def measure_start(backend: str, law: StepLaw, folder: Path) -> dict[str, float]:
    """Launch processes and return the fields of `scenarios.hosts.START_FIELDS`.

    Args:
        backend: ``torch``, ``jax``, or ``paced``, which has no framework and reads nothing.
        law: of the executor's steps, which are taken off what is warmed.
        folder: on the disk that is read; nothing is left there.

    Raises:
        OSError: a process failed.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".start-") as work:
        save_checkpoint(Path(work) / "wide", WIDE, make_checkpoint(WIDE, 0))
        told = [_launch(backend, Path(work)) for _ in range(LAUNCHES)]
    sizes = warmed_sizes(backend, DESK_TINY.context, 1)
    steps_s = sum(law.step_s(1, False, sessions * tokens) for sessions, tokens in sizes)
    each_s = [max(0.0, one["warm_s"] - steps_s) / max(1, len(sizes)) for one in told]
    found = {name: float(np.median([one[name] for one in told])) for name in ("start_s", "weights_s", "load_s")}
    return {
        "start_s": found["start_s"],
        "weights_s": found["weights_s"],
        "load_bytes_per_s": told[0]["bytes"] / max(found["load_s"], 1e-3),  # 1 ms: what reads nothing has no rate
        "warm_s": each_s[0],
        "warm_again_s": float(np.median(each_s[1:])),
    }


def _launch(backend: str, folder: Path) -> dict[str, float]:
    environment = {**os.environ, **node_environment(folder / "jax_programs")}
    begun_ns = time.monotonic_ns()
    ran = subprocess.run(
        [sys.executable, "-m", "real_backends.readiness", backend, str(begun_ns), str(folder / "wide")],
        capture_output=True, text=True, env=environment, timeout=ANSWER_S, check=False,
    )  # fmt: skip
    if ran.returncode:
        raise OSError(f"calibrate: a process that was launched failed: {(ran.stderr.splitlines() or ['?'])[-1]}")
    found: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def _tell(backend: str, begun_ns: int, folder: Path) -> dict[str, float]:
    """Do what a node does before it is warm, and return what each part took."""
    computes = backend != "paced"
    if computes:
        importlib.import_module(f"real_backends.executors.{backend}_shard").pick_device("auto")
    marks = [time.monotonic_ns()]

    def mark() -> float:
        marks.append(time.monotonic_ns())
        return (marks[-1] - marks[-2]) / 1e9

    weights = make_checkpoint(DESK_TINY, DEFAULT_SEED)
    told = {"start_s": (marks[0] - begun_ns) / 1e9, "weights_s": mark(), "load_s": 0.0, "bytes": 0.0, "warm_s": 0.0}
    if computes:
        shard = make_shard(backend, DESK_TINY, weights, 0, 1)
        mark()
        shard.warm_up()
        told["warm_s"] = mark()
    spec, stored = open_checkpoint(folder)
    if computes:
        make_shard(backend, spec, stored, 0, spec.layers)
        told["load_s"] = mark()
    told["bytes"] = float(sum(file.stat().st_size for file in folder.glob("*.safetensors")))
    return told


if __name__ == "__main__":
    print(json.dumps(_tell(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))
    sys.stdout.flush()
    os._exit(0)  # what a framework does at its end is no part of a start
