"""The default scenario as a user meets it: time, memory, steps and how many requests are answered.

Every run is a fresh process, so that imports count and nobody else's memory does. The published Azure trace is played
to the same village at 01:00, when its devices are lent, and at noon, when they are not; three hours are run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, process_time

from experiments.bench.table import Line

CHECKOUT = Path(__file__).resolve().parents[2]
TRACE = Path("traces") / "azure_llm_2023_conv.csv.gz"
TRACE_WINDOW_S = 3 * 3600.0
_MIB = float(1 << 20)

TITLE = "first_village: 500 devices, a day, 22,000 requests, the default faults; a fresh process"
LINES = (
    Line("wall_s", "wall s", 1, at_most=60),
    Line("cpu_s", "CPU s", 1),
    Line("rss_mib", "peak resident MiB", at_most=1024),
    Line("port_steps", "port steps", at_most=3_000_000),
    Line("answered_share", "requests answered in time", 4),
    Line("refused_share", "requests refused", 4, at_most=0.20),
    Line("wrong_answers", "wrong answers"),
    Line("checks_broken", "checks broken", at_most=0),
    Line("azure_night_answered_share", "Azure trace at 01:00, answered in time", 4, at_least=0.90),
    Line("azure_night_refused_share", "Azure trace at 01:00, refused", 4),
    Line("azure_noon_answered_share", "Azure trace at 12:00, answered in time", 4),
    Line("azure_noon_refused_share", "Azure trace at 12:00, refused", 4),
)


def measure(words: Sequence[str] = (), *, traces: bool = True) -> dict[str, float]:
    """Run the default scenario with `words` over it, then the Azure trace where the data is.

    Args:
        words: overrides as for `twin run`.
        traces: whether to play the Azure trace too.

    Returns:
        The keys of `LINES`, and "refused: REASON" with the requests refused for it. Without the trace's file (in
        $VILLAGETWIN_DATA, or shared/data beside the checkout) the `azure_` keys are absent.
    """
    whole = _in_a_process(words)
    figures = {key: whole[key] for key in ("wall_s", "cpu_s", "rss_mib", *_SUMMARY)}
    figures |= {key: value for key, value in whole.items() if key.startswith("refused: ")}
    path = Path(os.environ.get("VILLAGETWIN_DATA", CHECKOUT.parent / "shared" / "data")) / TRACE
    if traces and path.is_file():
        for name, start, start_minute in (("night", "01:00", 0), ("noon", "12:00", 660)):
            trace = ["workload=azure_conv", f"workload.path={path}", f"workload.start='{start}'"]
            window = [f"start_minute={start_minute}", f"duration_s={TRACE_WINDOW_S}"]
            run = _in_a_process([*trace, *window, *words])
            figures[f"azure_{name}_answered_share"] = run["answered_share"]
            figures[f"azure_{name}_refused_share"] = run["refused_share"]
    return figures


_SUMMARY = {
    "port_steps": "port_steps",
    "answered_share": "answered_in_time_share",
    "refused_share": "refused_share",
    "wrong_answers": "wrong_answers",
    "checks_broken": "checks_broken",
}


def _in_a_process(words: Sequence[str]) -> dict[str, float]:
    command = [sys.executable, "-m", "experiments.bench.first_village", *words]
    begun = perf_counter()
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    wall_s = perf_counter() - begun
    if done.returncode != 0:
        raise RuntimeError(f"bench first_village {' '.join(words)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return {"wall_s": wall_s, **figures}


def _run(words: Sequence[str]) -> dict[str, float]:
    """Run the scenario here and now."""
    from experiments.compose import compose
    from scenarios.schema import build
    from sim.village import simulate

    record = simulate(build(compose(words)[0]))
    figures = {key: record.summary[name] for key, name in _SUMMARY.items()}
    figures |= {f"refused: {reason}": float(count) for reason, count in record.manifest["refusals"].items()}
    return {"cpu_s": process_time(), "rss_mib": _peak_rss_bytes() / _MIB, **figures}


def _peak_rss_bytes() -> int:
    """Return this process's peak resident set.

    Linux's ru_maxrss is inherited from the process that started this one; the kernel's VmHWM is our own.
    """
    import resource

    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


if __name__ == "__main__":
    print(json.dumps(_run(sys.argv[1:])))
