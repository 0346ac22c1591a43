"""A day of a million devices: time, memory, the same digest whatever the chunks, and SimPy's way of doing it beside.

Each run is a fresh process (`twin run scenario=million_day`), so that imports count and nobody else's memory does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import msgspec
import numpy as np

from experiments.bench.table import Line
from experiments.bytecode import with_bytecode

CHECKOUT = Path(__file__).resolve().parents[2]
SIMPY_DEVICES, SIMPY_H = 200, 6.0
CHUNK = 32_000  # both backends cut their own blocks; what is done once a chunk and window is paid by the call

TITLE = "million_day: 1,000,000 devices, 24 h at 60 s readings, 96 exchange windows; SimPy: 200 devices, 6 h"
LINES = (
    Line("numpy_wall_s", "NumPy: wall s, the whole command", 1, at_most=60),
    Line("numpy_windows_s", "NumPy: wall s in the windows", 1),
    Line("numpy_rss_mib", "NumPy: peak resident MiB, all processes", at_most=2048),
    Line("numpy_ns_per_reading", "NumPy: wall ns / device and reading", 1),
    Line("jax_wall_s", "JAX: wall s, compilers apart", 1, at_most=20),
    Line("jax_float32_wall_s", "JAX in float32: wall s, compilers apart", 1),
    Line("jax_compile_s", "JAX: compilers' s", 1, at_most=30),
    Line("jax_rss_mib", "JAX: peak resident MiB, all processes"),
    Line("linear_off_share", "cost a device at 10^4 and 10^5 off that at 10^6", 3, at_most=0.10),
    Line("chunks_same_digest", "chunks of 1,000, 4,000, 50,000: one digest (1 is yes)", at_least=1),
    Line("checks_broken", "checks broken", at_most=0),
    Line("over_simpy", "SimPy's CPU time / ours, a device and reading", at_least=200),
    Line("over_simpy_numpy", "the same of NumPy alone"),
    Line("simpy_us_per_reading", "SimPy: CPU us / device and reading", 2),
    Line("cpu_ns_per_reading_numpy", "NumPy: CPU ns / device and reading", 1),
    Line("cpu_ns_per_reading_jax", "JAX: CPU ns / device and reading", 1),
    Line("simpy_soc_off", "largest difference of charge from SimPy's", 12, at_most=1e-9),
)


def measure(
    *, devices: int = 1_000_000, hours: float = 24.0, smaller: Sequence[int] = (10_000, 100_000), chunks: bool = True
) -> dict[str, float]:
    """Run the day under both backends, then the comparisons.

    Args:
        devices, hours: of the fleet.
        smaller: sizes at which the cost a device is compared.
        chunks: whether to compare digests over chunk sizes, over ten windows.
    """
    readings = devices * hours * 60.0
    compile_modules()
    numpy = _run(devices, hours, "numpy")
    figures = {
        "numpy_wall_s": numpy["wall_s"],
        "numpy_windows_s": numpy["windows_s"],
        "numpy_rss_mib": numpy["rss_mib"],
        "numpy_ns_per_reading": numpy["windows_s"] / readings * 1e9,
        "checks_broken": numpy["checks_broken"],
    }
    if _has_jax():
        jax, single = _run(devices, hours, "jax"), _run(devices, hours, "jax", "precision=float32")
        figures |= {
            "jax_wall_s": jax["wall_s"] - jax["compile_s"], "jax_compile_s": jax["compile_s"],
            "jax_rss_mib": jax["rss_mib"], "jax_float32_wall_s": single["wall_s"] - single["compile_s"],
        }  # fmt: skip
    whole = numpy["windows_s"] / devices
    costs = [_run(size, hours, "numpy")["windows_s"] / size for size in smaller]
    figures["linear_off_share"] = max((abs(cost / whole - 1.0) for cost in costs), default=0.0)
    if chunks:
        words = [_run(100_000, 2.5, "numpy", f"chunk={chunk}")["digest"] for chunk in (1_000, 4_000, 50_000)]
        figures["chunks_same_digest"] = float(len(set(words)) == 1)
    return figures | beside_simpy()


def compile_modules() -> None:
    """Run a short day that is not counted: whatever comes first compiles every module that is imported."""
    for backend in ("numpy", "jax") if _has_jax() else ("numpy",):
        _run(1000, 0.25, backend)


def beside_simpy(devices: int = SIMPY_DEVICES, hours: float = SIMPY_H) -> dict[str, float]:
    """Run the same devices as SimPy processes in plain floats, and compare charge and CPU time.

    Ours is timed on a chunk of the usual size, since that is how it runs, in a process of its own.
    """
    from experiments.bench.fleet_plain import Plain
    from experiments.compose import build, compose_plain
    from sim.fleet import stock
    from sim.fleet.day import Share
    from sim.fleet.window import Air, Start, run_numpy

    words = ["scenario=million_day", "devices=100000", f"duration_s={hours * 3600:g}", "start_minute=1260"]
    scenario = msgspec.structs.replace(build(compose_plain(words)), time_zones_h=(0.0,))
    roster = stock.roster(scenario)
    steps = round(hours * 3600 / scenario.reading_s)
    share = Share(scenario, [np.arange(devices)], roster)
    (lot,) = share.lots
    windows = steps // share.steps
    days = [share.flags(0, number) for number in range(windows)]
    flags = np.concatenate(days)
    ambient = Air(np.asarray(lot.device.body.die_c) + 0.0, np.zeros(devices))
    minutes = np.concatenate([share.signals(n, 1.0).zone_minute for n in range(windows)])[:, lot.what.zone]
    plain = Plain(share, flags, ambient, minutes)
    begun = process_time()
    plain.env.run()
    simpy_s = process_time() - begun
    device, last = lot.device, lot.last
    for number in range(windows):
        start = Start(lot.chunk, device, last, ambient, days[number])
        (device, _, _, last), _ = run_numpy(share.policy, start, share.signals(number, 1.0))
    off = float(np.max(np.abs(np.asarray(device.body.charge.soc) - np.array(plain.soc))))
    per_reading_s = simpy_s / (devices * steps)
    backends = ("numpy", "jax") if _has_jax() else ("numpy",)
    ours_s = {backend: _in_a_process("cpu", backend)["cpu_s"] for backend in backends}
    return {
        "over_simpy": per_reading_s / min(ours_s.values()),
        "over_simpy_numpy": per_reading_s / ours_s["numpy"],
        "simpy_us_per_reading": per_reading_s * 1e6,
        "simpy_soc_off": off,
        **{f"cpu_ns_per_reading_{backend}": cpu_s * 1e9 for backend, cpu_s in ours_s.items()},
    }


def _fleet_cpu(backend: str, windows: int = 24) -> dict[str, float]:
    """Return our CPU time for a device and reading, owners included, in one chunk of the usual size and one thread."""
    from experiments.compose import build, compose_plain
    from sim.fleet import stock
    from sim.fleet.day import Share
    from sim.fleet.run import one_thread

    one_thread()
    words = ["scenario=million_day", "start_minute=1260", f"backend={backend}", f"chunk={CHUNK}"]
    scenario = build(compose_plain(words))
    share = Share(scenario, [np.arange(scenario.chunk)], stock.roster(scenario))
    share.warm_up()
    share.advance(0, 1.0)
    begun = process_time()
    for number in range(1, windows):
        share.advance(number, 1.0)
    return {"cpu_s": (process_time() - begun) / ((windows - 1) * share.steps * scenario.chunk)}


@cache
def _has_jax() -> bool:
    """Whether JAX can be imported; by another process, as what this one holds counts in the peak of those it starts."""
    return not subprocess.run([sys.executable, "-c", "import jax"], capture_output=True).returncode


def _run(devices: int, hours: float, backend: str, *words: str) -> dict[str, Any]:
    """Run the scenario in a fresh process and return its figures."""
    with tempfile.TemporaryDirectory() as folder:
        given = (f"devices={devices}", f"duration_s={hours * 3600:g}", f"backend={backend}", "record.histories=0")
        if not any(word.startswith("chunk=") for word in words):
            words = (*words, f"chunk={CHUNK}")
        return _in_a_process(*given, f"out={Path(folder) / 'run'}", *words)


def _in_a_process(*words: str) -> dict[str, Any]:
    """Run this module's main on these words and return what it prints, with the wall time of it all."""
    command = [sys.executable, "-m", "experiments.bench.million_day", *words]
    begun = perf_counter()
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, env=with_bytecode(os.environ))
    wall_s = perf_counter() - begun
    if done.returncode != 0:
        raise RuntimeError(f"million_day {' '.join(words)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return {"wall_s": wall_s, **found}


def _one(words: Sequence[str]) -> dict[str, Any]:
    """Run the scenario here and now; memory is that of this process and its workers while there are some."""
    from experiments.job import perform, prepare
    from sim.fleet.day import peak_rss_kib

    run = perform(prepare(["scenario=million_day", "track=none", *words]), lambda share, text: None)
    return {
        "digest": run.digest,
        "windows_s": run.manifest["timing"]["windows_s"],
        "compile_s": run.manifest["timing"]["compile_s"],
        "rss_mib": max(peak_rss_kib(), run.manifest["timing"]["rss_kib"]) / 1024.0,  # workers end before it is written
        "checks_broken": float(sum(not check.passed for check in run.checks)),
    }


if __name__ == "__main__":
    print(json.dumps(_fleet_cpu(sys.argv[2]) if sys.argv[1:2] == ["cpu"] else _one(sys.argv[1:])))
