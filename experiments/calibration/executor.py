"""Calibration: this machine's executor and what the machine adds to it, as a profile that the twin's workers run at.

`twin calibrate executor` writes a profile where it is told. A scenario with ``profile: auto`` gets the one under
runs/profiles that belongs to this machine and these versions; if there is none, it is measured first. Delete the file
to have it measured anew.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.calibration import Outcome
from experiments.compose import UsageError
from experiments.folders import project_root, show_path
from experiments.present import table
from experiments.progress import progress, say
from experiments.whole import check_file, write_whole
from scenarios.extras import why_lacking

if TYPE_CHECKING:
    from scenarios.schema import Scenario

PACED_BACKEND = "paced"  # stages that hold the time of an assumed law; only the host around them is measured
BACKENDS = ("torch", "jax", PACED_BACKEND)
SECONDS_MAX = 3600.0  # an hour: the fit has long stopped getting better
SECONDS = 20.0  # of an automatic calibration: the fit's error stops falling about there
EXECUTOR_SHARE = 0.5  # of the time, for the executor alone; the rest goes to start-up and the probe of the machine
PROBE_SHARE = 0.25
VILLAGE = ("scenario=four_desks", "executor=paced", "duration_s=8", "workload.requests=40", "record.journals=none")
"""Whose nodes tell what a step takes: short, and of requests that nobody compares."""
THREADS_MAX = 256  # far above any machine's cores: a slip of the finger
FORMAT = 8  # of a profile; a file of an older one is measured anew


def calibrate_executor(
    backend: str,
    seconds: float,
    out: Path,
    *,
    threads: int = 1,
    report: Callable[[float, str], None] = lambda share, text: None,
) -> dict[str, Any]:
    """Measure an executor of this machine and the machine around it, and write its profile.

    Args:
        backend: ``torch``, ``jax`` or ``paced``.
        seconds: time to spend, launches aside.
        out: the profile's file; commits are timed on its disk.
        threads: threads a shard may use.
        report: called with (share done, text).

    Raises:
        UsageError: the backend is unknown or does not load, a number is out of range, or the file cannot be written.
    """
    check(backend, seconds, out, threads)
    folder = out.absolute().parent
    from real_backends.host_probe import measure_host
    from real_backends.readiness import measure_start
    from scenarios.hosts import step_law

    report(0.0, "the executor alone")
    law = _executor_law(backend, seconds * EXECUTOR_SHARE, threads)
    report(EXECUTOR_SHARE, "hops, messages and commits between two processes")
    profile: dict[str, Any] = {**law, **measure_host(backend, law, folder, seconds * PROBE_SHARE)}
    report(EXECUTOR_SHARE + PROBE_SHARE, "processes that are launched")
    profile |= measure_start(backend, step_law(law), folder)
    report(EXECUTOR_SHARE + PROBE_SHARE, "a village of desks")
    profile["input_s"] = _input_s(folder)
    profile["format"] = FORMAT
    keep_profile(profile, out)
    report(1.0, show_path(out))
    return profile


def check(backend: str, seconds: float, out: Path, threads: int) -> None:
    """Refuse what `calibrate_executor` could not do; arguments and errors are its own."""
    if backend not in BACKENDS:
        raise UsageError(f"--backend {backend}: no such backend; allowed: {', '.join(BACKENDS)}")
    if absent := lacking(backend):
        raise UsageError(f"--backend {backend} needs {absent}")
    if not 0 < seconds <= SECONDS_MAX:
        raise UsageError(f"--seconds {seconds:g}: allowed: above 0, to {SECONDS_MAX:g}")
    if not 1 <= threads <= THREADS_MAX:
        raise UsageError(f"--threads {threads}: allowed: 1 to {THREADS_MAX}")
    check_file("--out", out)


def _input_s(folder: Path) -> float:
    """Return what a node takes for one input on average: its policies' step and the effects, in a village for real.

    In a tight loop the same steps take a fifth of it: between a village's inputs caches go cold and clocks down.
    """
    from experiments.compose import compose
    from real_backends.local import run_local
    from scenarios.schema import build

    with tempfile.TemporaryDirectory(dir=folder, prefix=".village-") as work:
        record = run_local(build(compose(VILLAGE)[0]), Path(work))
    nodes = record.manifest["nodes"].values()
    return float(sum(node["driving_s"] for node in nodes) / sum(node["steps"] for node in nodes))


def keep_profile(profile: dict[str, Any], out: Path) -> None:
    """Give a profile its hash, and write it so that no reader ever sees half of it."""
    from real_backends.executors.calibration import profile_hash

    profile["hash"] = profile_hash(profile)
    write_whole(out, json.dumps(profile, indent=2, sort_keys=True) + "\n")


def _executor_law(backend: str, seconds: float, threads: int) -> dict[str, Any]:
    """Measure an executor in a tight loop; the law of paced workers is given, not measured."""
    from real_backends.executors import DEFAULT_SEED, DESK_TINY, calibrate, make_checkpoint, make_shard
    from scenarios.hosts import PACED

    if backend == PACED_BACKEND:
        return {**PACED, "backend": PACED_BACKEND, "spec": DESK_TINY.name}
    weights = make_checkpoint(DESK_TINY, DEFAULT_SEED)
    return dict(
        calibrate(
            lambda first, last: make_shard(backend, DESK_TINY, weights, first, last, threads=threads),
            DESK_TINY,
            seconds,
        )
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--backend", default="torch", help="torch, jax, or paced: workers that only hold their time")
    text = f"time to spend, launches aside (default {SECONDS:g})"
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help=text)
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads a shard may use (default 1)")
    text = "the profile (default profile.json)"
    parser.add_argument("--out", type=Path, default=Path("profile.json"), metavar="FILE", help=text)


def run(options: argparse.Namespace) -> Outcome:
    """Measure this machine's executor and write its profile."""
    check(options.backend, options.seconds, options.out, options.threads)
    if not options.quiet:
        say(f"measuring the {options.backend} executor for about {options.seconds:g} s")
    with progress("executor", quiet=options.quiet) as report:
        found = calibrate_executor(
            options.backend, options.seconds, options.out, threads=options.threads, report=report
        )
    return Outcome(found, f"{table(found)}\n{show_path(options.out)}")


def auto_profile(scenario: Scenario, *, quiet: bool = False) -> str:
    """Return the profile's path for a scenario that asks for this machine's; measure it if there is none.

    With backends of several kinds it is the first one's. Without that backend a simulated run gets the assumed
    numbers, an empty path.

    Args:
        scenario: its first backend is measured.
        quiet: show no progress.

    Raises:
        UsageError: runs/profiles cannot be written.
    """
    backend = PACED_BACKEND if scenario.executor == "paced" else scenario.backends[0]
    path = profile_path(backend)
    if path.exists():
        return show_path(path)
    if absent := lacking(backend):
        say(f"profile=auto needs {absent}; until then the twin runs at assumed numbers")
        return ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = (path.parent / f".{path.name}.lock").open("w")
    except OSError as error:
        raise UsageError(f"profile=auto: {show_path(path.parent)} cannot be used: {error.strerror}") from None
    with lock:
        _wait_for(lock)  # another run may be measuring: two at once would slow each other down
        if not path.exists():
            label = f"{backend} on this machine"
            if not quiet:
                say(f"profile=auto: measuring {label} for about {SECONDS:g} s, once: {show_path(path)}")
            with progress(label, quiet=quiet) as report:
                calibrate_executor(backend, SECONDS, path, report=report)
    return show_path(path)


def lacking(backend: str) -> str:
    """Say what a calibration needs and cannot import; nothing if all is there."""
    return why_lacking(("cryptography",) if backend == PACED_BACKEND else (backend, "cryptography"))


def profile_path(backend: str) -> Path:
    """Return where this machine's profile of a backend lies; it is named by what would make it stale."""
    from real_backends.executors.calibration import cpu_model
    from real_backends.host_probe import core_count
    from scenarios.digests import versions

    names = versions()
    if backend != PACED_BACKEND:
        with suppress(importlib.metadata.PackageNotFoundError):  # of one that is missing nobody has a profile
            names = {**names, backend: importlib.metadata.version(backend)}
    identity = [FORMAT, cpu_model(), core_count(), sorted(names.items())]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    return project_root() / "runs" / "profiles" / f"{backend}-{digest}.json"


def _wait_for(lock: Any) -> None:
    try:
        import fcntl
    except ImportError:  # not POSIX: two runs at once may both measure; the last file stands
        return
    fcntl.flock(lock, fcntl.LOCK_EX)
