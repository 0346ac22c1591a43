"""How fast a serving engine runs in virtual time: two production traces, iteration by iteration and in leaps.

The traces are Azure's of 2023 (an hour of chat, an hour of a code assistant with bursts), the engine an A100 with
Llama-3.1-8B by the law of its data sheet. Both ways take the same iterations, so the differences are rounding. Events
are how often the engine is asked; a token step is one request's share in one iteration, which is what a simulator that
keeps a record a request and iteration pays for.
"""

from __future__ import annotations

import os
from pathlib import Path
from time import process_time

import numpy as np

from experiments.bench.table import Line
from experiments.requests import read
from models.devices.rows import find
from models.devices.table import compute, table
from models.engines import Linear
from models.inference import SHAPES
from policies.serving.batching import BatchRules, Request
from sim.batches import Arrival, Engine, Outcome

CHECKOUT = Path(__file__).resolve().parents[2]
TRACES = ("conv", "code")
KV_TOKENS = 430_000
"""Cache of an 80 GB board beside 16 GB of weights and 8 GB of runtime: 56 GB of 131,072 bytes a token."""

TITLE = "batches: Azure LLM 2023, Llama-3.1-8B on an A100 by its data sheet, 2048 tokens an iteration"
LINES = tuple(
    line
    for trace in TRACES
    for line in (
        Line(f"{trace}_tpot", f"{trace}: TPOT of leaps / reference - 1", 12, at_most=0.02),
        Line(f"{trace}_end", f"{trace}: end to end p50, the same", 12, at_most=0.03),
        Line(f"{trace}_ttft", f"{trace}: time to first token p90, the same", 12, at_most=0.10),
        Line(f"{trace}_fewer", f"{trace}: token steps / events of leaps", 1, at_least=50),
        Line(f"{trace}_iterations", f"{trace}: iterations / events of leaps", 2),
        Line(f"{trace}_s", f"{trace}: virtual seconds / CPU s, reference"),
        Line(f"{trace}_leaps_s", f"{trace}: virtual seconds / CPU s, leaps"),
    )
)


def measure() -> dict[str, float]:
    """Serve each trace that is there both ways; return its figures of `LINES`.

    A trace lies in ``traces`` of $VILLAGETWIN_DATA, or of shared/data beside the checkout.
    """
    found: dict[str, float] = {}
    data = Path(os.environ.get("VILLAGETWIN_DATA", CHECKOUT.parent / "shared" / "data"))
    for trace in TRACES:
        path = data / "traces" / f"azure_llm_2023_{trace}.csv.gz"
        if not path.exists():
            continue
        (slow, slow_s), (quick, quick_s) = _serve(path, leaps=False), _serve(path, leaps=True)
        ends_s = max(one.last_s or 0.0 for one in slow.served)
        steps = sum(one.request.wanted for one in slow.served)
        found |= {
            f"{trace}_tpot": _apart(slow, quick, "tpot_s", np.mean),
            f"{trace}_end": _apart(slow, quick, "end_to_end_s", np.median),
            f"{trace}_ttft": _apart(slow, quick, "ttft_s", lambda values: np.quantile(values, 0.9)),
            f"{trace}_fewer": steps / quick.events,
            f"{trace}_iterations": quick.iterations / quick.events,
            f"{trace}_s": ends_s / slow_s,
            f"{trace}_leaps_s": ends_s / quick_s,
        }
    return found


def _serve(path: Path, *, leaps: bool) -> tuple[Outcome, float]:
    device, shape = compute(table((find("A100 80GB SXM"),))), SHAPES["llama-3.1-8b-f16"]
    law, rules = Linear.of(shape, device, shape.layers), BatchRules(KV_TOKENS // 16)
    rows = read(path)
    coming = [Arrival(row.at, Request(row.key, row.prompt, row.wanted)) for row in rows.itertuples()]
    begun_s = process_time()
    return Engine(law, rules, leaps=leaps).serve(coming), process_time() - begun_s


def _apart(slow: Outcome, quick: Outcome, name: str, of: object) -> float:
    values = [np.array([v for one in run.served if (v := getattr(one, name)) is not None]) for run in (slow, quick)]
    return abs(float(of(values[1]) / of(values[0])) - 1.0)  # type: ignore[operator]
