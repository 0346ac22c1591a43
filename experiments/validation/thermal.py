"""``twin validate thermal``: the battery zone of logged runs, predicted from first sample, load and frequency only."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from experiments.calibration import Outcome
from experiments.calibration.thermal import LONG_S, Errors, read_runs
from experiments.compose import UsageError
from models.thermal.phone_fit import PhoneFit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("run", type=Path, metavar="RUN.csv", help="one run or several (column run)")
    parser.add_argument(
        "--profile", type=Path, metavar="FILE", help="of twin calibrate thermal; default: the shipped fit"
    )


def run(options: argparse.Namespace) -> Outcome:
    """Predict and score each run.

    Pooled errors are over the samples of all runs of at least `LONG_S`; over all runs if none is that long.

    Raises:
        UsageError: a file cannot be read, or a row is not what it should be.
    """
    runs = read_runs(options.run)
    law = read_profile(options.profile) if options.profile else None
    errors = Errors.of(runs, np.asarray(runs.predict(law)))
    pooled = runs.long if runs.long.any() else np.ones(len(runs.names), bool)
    rmse, persistence = errors.pooled(pooled)
    each: list[dict[str, Any]] = [
        {
            "run": name, "seconds": float(runs.t_s[i, -1] - runs.t_s[i, 0]), "samples": int(errors.samples[i]),
            "rmse_K": float(errors.rmse_k[i]), "persistence_rmse_K": float(errors.persistence_k[i]),
            "loads_assumed": bool(runs.assumed[i]),
        }
        for i, name in enumerate(runs.names)
    ]  # fmt: skip
    plain = {
        "rmse_K": rmse, "persistence_rmse_K": persistence, "pooled_runs": int(pooled.sum()),
        "pooled_over": f"runs of at least {LONG_S:.0f} s" if runs.long.any() else "all runs",
        "runs": each, "not_validated": ["skin", "die", "runs over five minutes"],
    }  # fmt: skip
    return Outcome(plain, _words(plain))


def read_profile(path: Path) -> PhoneFit:
    """Read the parameters of a profile of ``twin calibrate thermal``.

    Raises:
        UsageError: it is not such a profile, or a value is out of range.
    """
    try:
        parameters = json.loads(path.read_text())["parameters"]
        values = {name: float(parameters[name]["value"]) for name in PhoneFit._fields}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--profile {path}: not a profile of twin calibrate thermal ({error})") from None
    for name, value in values.items():
        least = -50.0 if name == "ambient_c" else 0.0
        positive = name.endswith(("_j_per_k", "_w_per_k"))
        if not np.isfinite(value) or value < least or (positive and value == 0.0):
            allowed = "above 0" if positive else f"from {least:g} up"
            raise UsageError(f"--profile {path}: {name} is {value}; allowed: finite numbers {allowed}")
    return PhoneFit(**values)


def _words(plain: dict[str, Any]) -> str:
    lines = [
        f'battery zone: {plain["rmse_K"]:.2f} K, "it stays as it was" {plain["persistence_rmse_K"]:.2f} K '
        f"({plain['pooled_over']}, {plain['pooled_runs']})"
    ]
    for one in plain["runs"]:
        note = "  (loads not logged: their usual means assumed)" if one["loads_assumed"] else ""
        scores = f"{one['rmse_K']:5.2f} K  ({one['persistence_rmse_K']:.2f} K)"
        lines.append(f"  {one['run']:52s} {one['seconds']:6.0f} s  {scores}{note}")
    lines.append("  not validated: skin, die, runs over five minutes")
    return "\n".join(lines)
