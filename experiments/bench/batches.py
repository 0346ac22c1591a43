"""How fast and how true a serving engine is in virtual time: two production traces, in each of the three fidelities.

The traces are Azure's of 2023 (an hour of chat, an hour of a code assistant with bursts), the engine an A100 with
Llama-3.1-8B by the law of its data sheet. Iteration by iteration is the reference; leaps take the same iterations, so
that they differ by rounding; a fluid's windows do not, quite.

What is counted: a *token step* is one request's share in one iteration, which is what a simulator pays for that keeps a
record a request and iteration; an *event* is one advance of the engine's state, whatever ends or begins in it. With an
event for each arrival and one for each end there would be two a request, which the code assistant's short answers make
fewer than 14 token steps each: only who merges them can be at 50. CPU time stands beside it, since events that do more
could also take longer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from experiments.bench.table import Line
from experiments.requests import read
from models.devices.rows import find
from models.devices.table import compute, table
from models.engines import Linear
from models.inference import SHAPES
from policies.serving.batching import BatchRules, Request
from sim.batches import Arrival, Fidelity, Outcome
from sim.fidelity import engine
from sim.fluid import MIXED, Fluid

CHECKOUT = Path(__file__).resolve().parents[2]
TRACES = ("conv", "code")
KV_TOKENS = 430_000
"""Cache of an 80 GB board beside 16 GB of weights and 8 GB of runtime: 56 GB of 131,072 bytes a token."""

FIGURES: dict[str, tuple[str, str, Callable[[np.ndarray], Any], float]] = {
    "tpot": ("tpot_s", "TPOT", np.mean, 0.02),
    "end": ("end_to_end_s", "end to end p50", np.median, 0.03),
    "ttft": ("ttft_s", "time to first token p90", lambda values: np.quantile(values, 0.9), 0.10),
}
"""What is held to a bar: the attribute, its name, what is taken over the requests, and how far off it may be."""
WAYS: tuple[Fidelity, ...] = ("leaps", "fluid")
WINDOWS = (1, 2, 4, MIXED, 16, 64)
"""Iterations of a fluid's window, for what fewer events cost."""

TITLE = "batches: Azure LLM 2023, Llama-3.1-8B on an A100 by its data sheet, 2048 tokens an iteration"


def _lines(trace: str) -> list[Line]:
    lines = [
        Line(f"{trace}_apart", f"{trace}: token steps / arrivals and ends", 1),
        Line(f"{trace}_s", f"{trace}: virtual seconds / CPU s, iterations"),
    ]
    for kind in WAYS:
        at = f"{trace}_{kind}"
        for key, (_, label, _, bar) in FIGURES.items():
            lines.append(
                Line(f"{at}_{key}", f"{trace}, {kind}: {label} off by", 4 if kind == "fluid" else 12, at_most=bar)
            )
        if kind == "fluid":
            for key, (_, label, _, _) in FIGURES.items():
                label = label.split(" p")[0]
                lines.append(Line(f"{at}_{key}_p99", f"{trace}, {kind}: {label} of a request, p99", 3))
                lines.append(Line(f"{at}_{key}_worst", f"{trace}, {kind}: the same, worst", 2))
                lines.append(Line(f"{at}_{key}_worst_s", f"{trace}, {kind}: the same, worst (s)", 3))
        fewer = 50 if kind == "fluid" else None
        lines.append(Line(f"{at}_fewer", f"{trace}, {kind}: token steps / events", 1, at_least=fewer))
        lines.append(Line(f"{at}_iterations", f"{trace}, {kind}: iterations / events", 2))
        lines.append(Line(f"{at}_s", f"{trace}, {kind}: virtual seconds / CPU s"))
    for most in WINDOWS:
        lines.append(Line(f"{trace}_{most}_fewer", f"{trace}, windows up to {most}: token steps / events", 1))
        lines.append(Line(f"{trace}_{most}_error", f"{trace}, windows up to {most}: largest error / bar", 2))
    return lines


LINES = tuple(line for trace in TRACES for line in _lines(trace))


def measure(most: int | None = None) -> dict[str, float]:
    """Serve each trace that is there in each fidelity; return its figures of `LINES`.

    A trace lies in ``traces`` of $VILLAGETWIN_DATA, or of shared/data beside the checkout.

    Args:
        most: requests of each trace, the first ones; all, if not given.
    """
    found: dict[str, float] = {}
    data = Path(os.environ.get("VILLAGETWIN_DATA", CHECKOUT.parent / "shared" / "data"))
    for trace in TRACES:
        path = data / "traces" / f"azure_llm_2023_{trace}.csv.gz"
        if not path.exists():
            continue
        rows = list(read(path).iloc[:most].itertuples())
        reference, cpu_s = _serve(rows, "iterations")
        ends_s = max(one.last_s or 0.0 for one in reference.served)
        found |= {f"{trace}_apart": reference.token_steps / (2 * len(rows)), f"{trace}_s": ends_s / cpu_s}
        for kind in WAYS:
            outcome, cpu_s = _serve(rows, kind)
            found |= {f"{trace}_{kind}_{key}": value for key, value in _errors(outcome, reference).items()}
            found |= {
                f"{trace}_{kind}_fewer": outcome.token_steps / outcome.events,
                f"{trace}_{kind}_iterations": outcome.iterations / outcome.events,
                f"{trace}_{kind}_s": ends_s / cpu_s,
            }
            if kind == "fluid":
                found |= {f"{trace}_{kind}_{key}": value for key, value in _worst(outcome, reference).items()}
        for mixed in WINDOWS:
            outcome, _ = _serve(rows, "fluid", mixed)
            errors = _errors(outcome, reference)
            found[f"{trace}_{mixed}_fewer"] = outcome.token_steps / outcome.events
            found[f"{trace}_{mixed}_error"] = max(errors[key] / FIGURES[key][3] for key in FIGURES)
    return found


def _serve(rows: Sequence[Any], fidelity: Fidelity, mixed: int = MIXED) -> tuple[Outcome, float]:
    device, shape = compute(table((find("A100 80GB SXM"),))), SHAPES["llama-3.1-8b-f16"]
    law, rules = Linear.of(shape, device, shape.layers), BatchRules(KV_TOKENS // 16)
    coming = [Arrival(row.at, Request(row.key, row.prompt, row.wanted)) for row in rows]
    chosen = Fluid(law, rules, mixed=mixed) if fidelity == "fluid" else engine(law, rules, fidelity)
    begun_s = process_time()
    return chosen.serve(coming), process_time() - begun_s


def _errors(outcome: Outcome, reference: Outcome) -> dict[str, float]:
    """Return how far off each figure over all requests is, as a share."""
    return {
        key: abs(float(of(_values(outcome, name)) / of(_values(reference, name))) - 1.0)
        for key, (name, _, of, _) in FIGURES.items()
    }


def _worst(outcome: Outcome, reference: Outcome) -> dict[str, float]:
    """Return how far off single requests are: the tail and the worst as shares, and the worst in seconds."""
    found: dict[str, float] = {}
    for key, (name, *_) in FIGURES.items():
        ours, theirs = _values(outcome, name), _values(reference, name)
        off = np.abs(ours - theirs)
        found[f"{key}_p99"] = float(np.quantile(off / theirs, 0.99))
        found[f"{key}_worst"] = float((off / theirs).max())
        found[f"{key}_worst_s"] = float(off.max())
    return found


def _values(outcome: Outcome, name: str) -> np.ndarray:
    return np.array([value for one in outcome.served if (value := getattr(one, name)) is not None])
