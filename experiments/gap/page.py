"""docs/gap.md and its figure, made of a finished study."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.gap.errors import PER_REQUEST, TOTALS, Errors
from experiments.gap.order import NOT_SHOWN
from experiments.gap.quiet import DRIFT_MAX, FOREIGN_MAX
from experiments.gap.study import SETTLED_S, Found
from experiments.gap.verdict import BARS, REPEATS_MIN, REQUESTS_MIN
from experiments.present import markdown
from experiments.results import number
from experiments.whole import whole, write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = """\
# The gap between the two worlds

The same scenarios and policies on a local cluster and in the calibrated twin. Made by `{command}` on {date}: {machine}.
Every number and word below comes from that study; nothing was fitted to the runs that are compared.

{mode}
Workers have one thread each and keep to one core; the host's cores are modelled. A round calibrates, runs every cell
once in an order drawn for it, and calibrates again. A round in which a token came out over {drift:.0%} longer or
shorter by the second calibration is void, and so is one in which other programs took over {foreign:.0%} of the cores
(/proc/stat, less our own). Each run is predicted at its round's first calibration, with its own arrivals and lengths.
Requests of the first {settled:g} s are left out in both worlds: whom the first election makes wait is chance.

## Rounds

{rounds}
{counted} of {finished} rounds count.

## Errors of single requests

(predicted - measured) / measured, over all cells and rounds that count. Real against real is each repeat against the
median of the others; `h` is the larger of its median absolute error and the half-width of the 95 % interval of a
round's median. A bar is only judged with {repeats} repeats and {requests} requests, and where real against real is
within it; else the word is *unmeasurable*, never *passed*. Bars: {bars}. Requests count as independent in the interval
of the 99th percentile.

{errors}
{verdicts}

## By cell

Absolute errors end to end, median and 95th percentile, and the totals of a run (mean over rounds, error of the twin).

{cells}
## The order of policies

{order}

![errors by quantity, and measured against predicted latencies of each policy](gap.png)
"""
MODES = {
    "paced": "`executor=paced`: a worker holds the time that the law gives and computes nothing, so that only\n"
    "protocol and queues are compared; tokens are a seeded stand-in.",
    "model": "`executor=model`: workers compute every token in torch on this machine's cores.",
}


def text(found: Found, command: str) -> str:
    """Return the page."""
    plan = found.plan
    bar = BARS[plan.executor]
    bars = [f"median {bar.median:.0%}"]
    bars += [f"{name} {limit:.0%}" for name, limit in (("p95", bar.p95), ("p99", bar.p99)) if limit is not None]
    return PAGE.format(
        command=command, date=time.strftime("%d %B %Y"), machine=_machine(), mode=MODES[plan.executor],
        drift=DRIFT_MAX, foreign=FOREIGN_MAX, settled=SETTLED_S, rounds=_rounds(found), counted=len(found.counted),
        finished=len(found.rounds), repeats=REPEATS_MIN, requests=f"{REQUESTS_MIN:,}", bars=", ".join(bars),
        errors=errors_table(found), verdicts=verdict_lines(found), cells=_cells(found), order=order_lines(found),
    )  # fmt: skip


def errors_table(found: Found) -> str:
    """Return the errors of the twin, each quantity's noise under it."""
    rows = []
    for name, label in PER_REQUEST.items():
        for side, e in (("twin", found.errors.get(name)), ("real against real", _noise(found, name))):
            if e is not None:
                low, high = e.interval(0.99)
                tail = f"{low:.1%} to {high:.1%}" if high < float("inf") else f"above {low:.1%}"
                rows.append((label, side, len(e.values), f"{e.bias:+.1%}", f"{e.size(0.5):.1%}", f"{e.size(0.95):.1%}",
                             f"{e.size(0.99):.1%}", tail))  # fmt: skip
    head = ("", "", "requests", "median, signed", "median", "p95", "p99", "95 % of p99")
    return markdown(head, rows)


def verdict_lines(found: Found) -> str:
    """Return a line a quantity."""
    return "\n".join(
        f"- {PER_REQUEST[name]}: **{verdict.word}** ({verdict.why})" for name, verdict in found.verdicts.items()
    )


def order_lines(found: Found) -> str:
    """Return what was found of the order of policies."""
    if found.order is None:
        return f"- **{NOT_SHOWN}**: an order needs two policies and two rounds that count"
    order = found.order
    lines = [f"- order: **{order.verdict.word}** ({order.verdict.why})",
             f"- the twin's choice: **{order.choice.word}** ({order.choice.why}); "
             + ", ".join(f"{scenario} {regret:.1%}" for scenario, regret in order.regret.items())]  # fmt: skip
    lines += [f"- ordered otherwise on {scenario}: {one} and {other}" for scenario, one, other in order.wrong]
    return "\n".join(lines)


def figure(found: Found) -> Figure:
    """Draw the distribution of absolute errors by quantity, and each cell's latency in both worlds."""
    import numpy as np
    from matplotlib.figure import Figure as Made

    from experiments.plots import AMBER, BLUE, GREEN, MUTED, RED, VIOLET, dress

    made = Made(figsize=(11.0, 4.4), layout="constrained")
    left, right = made.subplots(1, 2)
    for (name, label), colour in zip(PER_REQUEST.items(), (GREEN, BLUE, AMBER), strict=True):
        for e, style in ((found.errors.get(name), "-"), (_noise(found, name), ":")):
            if e is not None:
                sizes = np.sort(100 * np.abs(e.values))
                shares = np.arange(1, len(sizes) + 1) / len(sizes)
                left.plot(np.maximum(sizes, 0.01), shares, style, color=colour, label=label if style == "-" else None)
    left.set_xscale("log")
    dress(left, "absolute error of a request (%); dotted: real against real", "share of requests", legend=True)
    scenarios = list(dict.fromkeys(cell.scenario for cell in found.cells))
    for scenario, colour in zip(scenarios, (BLUE, RED, GREEN, AMBER, VIOLET), strict=False):
        rows = [e["latency_s"] for cell, e in found.cells.items() if cell.scenario == scenario and "latency_s" in e]
        right.plot([e.measured for e in rows], [e.predicted for e in rows], "o", color=colour, label=scenario)
    ends = right.get_xlim()
    right.plot(ends, ends, color=MUTED, linewidth=0.8)
    right.set_xscale("log")
    right.set_yscale("log")
    dress(right, "measured, median end to end (s); a point a policy", "predicted (s)", legend=True)
    return made


def write(found: Found, page: Path, command: str) -> None:
    """Write the page, and its figure beside it."""
    write_whole(page, text(found, command))
    with whole(page.with_suffix(".png")) as part:
        figure(found).savefig(part, dpi=150)


def _noise(found: Found, name: str) -> Errors | None:
    one = found.noise.get(name)
    return None if one is None else one.errors


def _rounds(found: Found) -> str:
    rows = [
        (one.number + 1, f"{one.drift:.1%}", f"{one.foreign:.1%}", f"{one.worst:.1%}", one.void or "counts")
        for one in found.rounds
    ]
    return markdown(("round", "drift", "foreign CPU", "in its worst run", ""), rows)


def _cells(found: Found) -> str:
    rows = []
    for cell, errors in found.cells.items():
        e = errors.get("latency_s")
        spread = ("–", "–", "–", "–") if e is None else (
            number(e.measured), number(e.predicted), f"{e.size(0.5):.1%}", f"{e.size(0.95):.1%}")  # fmt: skip
        whole = [found.whole[cell].get(name, (float("nan"), float("nan"))) for name in TOTALS]
        rows.append((cell.scenario, cell.policy, *spread, *(_off(real, twin) for real, twin in whole)))
    head = ("scenario", "policy", "measured (s)", "predicted (s)", "median", "p95", *(
        label.split("(")[0].split(",")[0].strip() for label in TOTALS.values()))  # fmt: skip
    return markdown(head, rows)


def _off(real: float, twin: float) -> str:
    return f"{number(real)} ({twin / real - 1:+.1%})" if real and real == real and twin == twin else "–"


def _machine() -> str:
    from real_backends.executors.calibration import cpu_model
    from real_backends.host_probe import core_count

    return f"{cpu_model()}, {core_count()} cores, {platform.system()}, Python {platform.python_version()}"
