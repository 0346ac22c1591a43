"""Calibration: this machine's executor as a profile that the twin's workers can run at."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from experiments.compose import UsageError

BACKENDS = ("torch", "jax")


def calibrate_executor(backend: str, seconds: float, out: Path, *, threads: int = 1) -> dict[str, Any]:
    """Measure an executor of this machine and write its profile.

    Args:
        backend: ``torch`` or ``jax``.
        seconds: time to spend.
        out: the profile's file.
        threads: threads a shard may use.

    Raises:
        UsageError: the backend is unknown or not installed, or the file cannot be written.
    """
    if backend not in BACKENDS:
        raise UsageError(f"--backend {backend}: no such backend; allowed: {', '.join(BACKENDS)}")
    if importlib.util.find_spec(backend) is None:
        raise UsageError(f"--backend {backend}: is not installed: pip install 'villagetwin[{backend}]'")
    if not seconds > 0:
        raise UsageError(f"--seconds {seconds:g}: must be above 0")
    if not out.absolute().parent.is_dir() or out.is_dir():
        raise UsageError(f"--out {out}: must be a file in a folder that exists")
    from real_backends.executors import DEFAULT_SEED, DESK_TINY, calibrate, make_checkpoint, make_shard

    weights = make_checkpoint(DESK_TINY, DEFAULT_SEED)
    profile = dict(
        calibrate(
            lambda first, last: make_shard(backend, DESK_TINY, weights, first, last, threads=threads),
            DESK_TINY,
            seconds,
        )
    )
    part = out.with_name(f".{out.name}.part")
    part.write_text(json.dumps(profile, indent=2, sort_keys=True) + "\n")
    part.replace(out)
    return profile
