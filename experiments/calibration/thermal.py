"""``twin calibrate thermal``: heat and power of a phone from logged runs, by gradient through the JAX form of the law.

All runs with loads are fitted at once: battery zone predicted from the first sample, load and frequency. Runs say
little about some parameters (room, skin), so each of those has a prior, written below with its reason. Folds of a
cross-validation are drawn by a hash of the experiment, a run's name without date and time, so that repeats of one
experiment are never on both sides.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.calibration import Outcome
from experiments.compose import UsageError
from experiments.fitting import Fit, fit
from experiments.whole import check_file, whole, write_whole
from models.thermal.phone_fit import ASSUMED_CPU_LOAD, ASSUMED_GPU_LOAD, PhoneFit, predict_battery_zone

LONG_S = 60.0  # runs of at least this length are scored: in shorter ones the zone hardly moves
FOLDS = 5
NEEDED = ("t_s", "little_kHz", "big_kHz", "gpu_Hz", "gpu_load", "cpu_load")
ZONES = ("battery_C", "temp_C")
# First guess and bounds, in the order of PhoneFit: the phone body of `models.thermal.bodies` and powers of its class.
START = (1.5, 8.0, 1.0, 8.0, 5.0, 90.0, 0.55, 0.16, 24.0, 0.5)
LOW = (0.0, 0.0, 0.0, 0.0, 1.0, 10.0, 0.05, 0.02, 10.0, 0.0)
HIGH = (5.0, 30.0, 30.0, 30.0, 60.0, 400.0, 5.0, 2.0, 35.0, 1.0)
PRIOR_K = 1 / 3  # what one standard deviation of a prior weighs, as a residual of one sample: K
PRIORS = {  # name: (mean, standard deviation)
    "die_j_per_k": (5.0, 1.0),  # the die with its package and the board around it
    "skin_j_per_k": (90.0, 10.0),  # phone body
    "board_skin_w_per_k": (0.55, 0.1),  # between the phone body's 0.85 and the 0.49 that the runs alone ask for
    "skin_ambient_w_per_k": (0.16, 0.02),  # phone body: published skin resistances are 6-8 K/W
    "ambient_c": (24.0, 2.0),  # a room
    "skin_share": (0.5, 0.2),  # between a phone just picked up and one that has been warm for an hour
}


@dataclass(frozen=True)
class Runs:
    """Logged runs as one block; rows shorter than the longest repeat their last sample.

    Attributes:
        names: one a run.
        t_s, little_khz, big_khz, gpu_hz, gpu_load, cpu_load, zone_c: shape (runs, samples).
        there: which samples were logged, same shape.
        assumed: runs whose loads were not all logged and were taken as `ASSUMED_CPU_LOAD` and `ASSUMED_GPU_LOAD`.
    """

    names: tuple[str, ...]
    t_s: np.ndarray
    little_khz: np.ndarray
    big_khz: np.ndarray
    gpu_hz: np.ndarray
    gpu_load: np.ndarray
    cpu_load: np.ndarray
    zone_c: np.ndarray
    there: np.ndarray
    assumed: np.ndarray

    def pick(self, rows: np.ndarray) -> Runs:
        """Return some of the runs."""
        names = tuple(name for name, wanted in zip(self.names, rows, strict=True) if wanted)
        return Runs(names, *(getattr(self, name)[rows] for name in list(self.__dataclass_fields__)[1:]))

    def predict(self, law: PhoneFit | None) -> Any:
        """Return the battery zone from first sample, load and frequency, C; the shipped law if None."""
        logs = (self.t_s, self.little_khz, self.big_khz, self.gpu_hz, self.gpu_load, self.cpu_load)
        return predict_battery_zone(*logs, self.zone_c[:, 0], law)

    @property
    def long(self) -> np.ndarray:
        """Runs of at least `LONG_S`."""
        return np.asarray(self.t_s[:, -1] - self.t_s[:, 0] >= LONG_S)


@dataclass(frozen=True)
class Errors:
    """Root mean squares a run, K, of a prediction and of "it stays as it was"."""

    rmse_k: np.ndarray
    persistence_k: np.ndarray
    samples: np.ndarray

    @classmethod
    def of(cls, runs: Runs, predicted_c: np.ndarray) -> Errors:
        """Score predictions, samples that were logged only."""
        samples = runs.there.sum(axis=1)

        def root(gap_k: np.ndarray) -> np.ndarray:
            return np.asarray(np.sqrt(np.sum(gap_k**2 * runs.there, axis=1) / samples))

        return cls(root(predicted_c - runs.zone_c), root(runs.zone_c[:, :1] - runs.zone_c), samples)

    def pooled(self, rows: np.ndarray) -> tuple[float, float]:
        """Return both over all samples of some runs, nan for no run."""
        share = self.samples[rows] / max(1, self.samples[rows].sum())
        if not share.size:
            return float("nan"), float("nan")
        return float(np.sqrt(share @ self.rmse_k[rows] ** 2)), float(np.sqrt(share @ self.persistence_k[rows] ** 2))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--runs", type=Path, required=True, metavar="CSV", help="logged runs: run, t_s, loads, ...")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the profile, JSON")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="the long runs, measured and predicted unseen")


def run(options: argparse.Namespace) -> Outcome:
    """Fit, cross-validate, write the profile (and the figure), and return what was found.

    Raises:
        UsageError: a file cannot be read or written, or a row is not what it should be.
    """
    for name in ("out", "figure"):
        check_file(f"--{name}", getattr(options, name, None))
    runs = read_runs(options.runs)
    folds = np.array([_fold(name) for name in runs.names])
    usable = ~runs.assumed
    if not np.any(usable) or np.unique(folds[usable]).size < 2:
        raise UsageError(f"{options.runs.name}: too few experiments with loads for a cross-validation; allowed: from 2")
    whole = fit_runs(runs.pick(usable))
    law = PhoneFit(*whole.values.tolist())
    fitted = Errors.of(runs, runs.predict(law))
    unseen_c = np.zeros_like(runs.zone_c)
    for fold in np.unique(folds):
        out = folds == fold
        kept = PhoneFit(*fit_runs(runs.pick(usable & ~out)).values.tolist())
        unseen_c[out] = runs.pick(out).predict(kept)
    unseen = Errors.of(runs, unseen_c)
    from scenarios.digests import versions

    errors = {
        "fitted": _score(runs, fitted), "kept_out": _score(runs, unseen),
        "folds": FOLDS, "long_runs_s": LONG_S, "not_validated": ["skin", "die", "runs over five minutes"],
    }  # fmt: skip
    plain = {
        "format": 1, "subject": "thermal", "parameters": whole.as_dict(), "rmse_k": whole.rmse,
        "priors": {name: list(prior) for name, prior in PRIORS.items()}, "errors": errors,
        "provenance": {
            "input": options.runs.name, "sha256": hashlib.sha256(options.runs.read_bytes()).hexdigest(),
            "runs": len(runs.names), "runs_without_loads": int(runs.assumed.sum()), "versions": versions(),
        },
    }  # fmt: skip
    write_whole(options.out, json.dumps(plain, indent=2) + "\n")
    if getattr(options, "figure", None):
        _draw(runs, unseen_c, options.figure)
    return Outcome(plain, _words(plain))


def fit_runs(runs: Runs) -> Fit:
    """Fit the law to runs by least squares with the priors above."""
    import jax.numpy as jnp

    def law(x: Any) -> Any:
        found = PhoneFit(*(x[i] for i in range(len(PhoneFit._fields))))
        gap_k = (block.predict(found) - block.zone_c) * block.there
        pull = [PRIOR_K**-1 * (getattr(found, name) - mean) / sd for name, (mean, sd) in PRIORS.items()]
        return jnp.concatenate([gap_k.ravel(), jnp.stack(pull)])

    import jax

    jax.config.update("jax_enable_x64", True)
    block = Runs(runs.names, *(jnp.asarray(getattr(runs, name)) for name in list(runs.__dataclass_fields__)[1:]))
    # Samples of a run share its errors: as many independent residuals as runs, and the priors.
    return fit(law, START, PhoneFit._fields, low=LOW, high=HIGH, independent=len(runs.names) + len(PRIORS))


def read_runs(path: Path) -> Runs:
    """Read runs; a file without a `run` column is one run. Zone: `battery_C`, or `temp_C` where that is not logged.

    Raises:
        UsageError: a column is missing, a run's clock goes back, or a value is missing or out of range.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as CSV: {str(error).splitlines()[0]}") from None
    missing = [name for name in NEEDED if name not in table]
    if missing:
        raise UsageError(f"{path.name}: no column {', '.join(missing)}; needed: {', '.join(NEEDED)}")
    zones = [name for name in ZONES if name in table]
    if not zones:
        raise UsageError(f"{path.name}: no column {' or '.join(ZONES)}; one is needed")
    if table.empty:
        raise UsageError(f"{path.name}: no rows")
    if "run" not in table:
        table["run"] = path.name.split(".")[0]
    table["zone_C"] = table[zones[0]] if len(zones) == 1 else table[zones[0]].fillna(table[zones[1]])
    _check(path.name, table)
    groups = [(str(name), rows) for name, rows in table.groupby("run", sort=True)]
    assumed = np.array([bool(rows[["cpu_load", "gpu_load"]].isna().any().any()) for _, rows in groups])
    table = table.fillna({"cpu_load": ASSUMED_CPU_LOAD, "gpu_load": ASSUMED_GPU_LOAD})
    groups = [(str(name), rows) for name, rows in table.groupby("run", sort=True)]
    longest = max(len(rows) for _, rows in groups)

    def block(name: str) -> np.ndarray:
        return np.stack([np.pad(rows[name].to_numpy(float), (0, longest - len(rows)), "edge") for _, rows in groups])

    there = np.stack([np.arange(longest) < len(rows) for _, rows in groups])
    logs = (*map(block, NEEDED), block("zone_C"))
    return Runs(tuple(name for name, _ in groups), *logs, there, assumed)


def _check(file: str, table: pd.DataFrame) -> None:
    """Refuse values that no phone logs; loads may be missing."""
    limits = {
        "t_s": (0.0, 1e7), "little_kHz": (1.0, 1e8), "big_kHz": (1.0, 1e8), "gpu_Hz": (0.0, 1e11),
        "gpu_load": (0.0, 100.0), "cpu_load": (0.0, 100.0), "zone_C": (-30.0, 120.0),
    }  # fmt: skip
    for name, (low, high) in limits.items():
        values = pd.to_numeric(table[name], errors="coerce")
        good = (values >= low) & (values <= high)
        if name in ("gpu_load", "cpu_load"):
            good |= table[name].isna()
        if not good.all():
            row = int(np.flatnonzero(~good)[0])
            shown = " or ".join(ZONES) if name == "zone_C" else name
            raise UsageError(f"{file} row {row + 2}: {shown} is {table[name].iloc[row]}; allowed: {low:g} to {high:g}")
    back = table.groupby("run")["t_s"].diff() < 0.0
    if back.any():
        row = int(np.flatnonzero(back)[0])
        raise UsageError(f"{file} row {row + 2}: t_s is {table['t_s'].iloc[row]}; allowed: rising within a run")


def _fold(name: str) -> int:
    experiment = re.sub(r"_\d{8}_\d{6}$", "", name)
    return int(hashlib.sha256(experiment.encode()).hexdigest(), 16) % FOLDS


def _score(runs: Runs, errors: Errors) -> dict[str, Any]:
    """Return pooled errors over long runs and over all, and the worst run, as plain data."""
    long = runs.long
    every = np.ones_like(long)
    worst = int(np.argmax(np.where(long, errors.rmse_k, -1.0))) if long.any() else int(np.argmax(errors.rmse_k))
    named = {"long": long, "all": every}
    pooled = {
        name: dict(zip(("rmse_K", "persistence_rmse_K"), errors.pooled(rows), strict=True)) | {"runs": int(rows.sum())}
        for name, rows in named.items()
    }
    return pooled | {"worst": {"run": runs.names[worst], "rmse_K": float(errors.rmse_k[worst])}}


def _words(plain: dict[str, Any]) -> str:
    lines = ["battery zone from first sample, load and frequency"]
    for name, title in (("fitted", "fitted to"), ("kept_out", "kept out of the fit")):
        score = plain["errors"][name]
        long, worst = score["long"], score["worst"]
        lines.append(
            f"  {title}: {long['rmse_K']:.2f} K over {long['runs']} runs of at least {LONG_S:.0f} s "
            f'("it stays as it was": {long["persistence_rmse_K"]:.2f} K), '
            f"worst {worst['rmse_K']:.2f} K ({worst['run']}); all runs {score['all']['rmse_K']:.2f} K"
        )
    for name, one in plain["parameters"].items():
        lines.append(f"  {name:22s} {one['value']:8.3f} ± {one['standard_error']:.3f}")
    lines.append("  not validated: skin, die, runs over five minutes")
    return "\n".join(lines)


def _draw(runs: Runs, unseen_c: np.ndarray, out: Path) -> None:
    """Draw the long runs, measured and as predicted by a fit that has not seen them, and the residuals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    curves, gaps = figure.subplots(1, 2)
    for place in np.flatnonzero(runs.long):
        there = runs.there[place]
        t_s, measured_c, predicted_c = runs.t_s[place][there], runs.zone_c[place][there], unseen_c[place][there]
        (line,) = curves.plot(t_s, measured_c, lw=1)
        curves.plot(t_s, predicted_c, lw=1, ls="--", color=line.get_color())
        gaps.plot(t_s, predicted_c - measured_c, lw=1, color=line.get_color(), label=runs.names[place])
    curves.set(xlabel="time (s)", ylabel="battery zone (°C)", title="measured (solid), predicted unseen (dashed)")
    gaps.set(xlabel="time (s)", ylabel="predicted less measured (K)")
    gaps.legend(fontsize=5)
    try:
        with whole(out) as part:
            figure.savefig(part)
    except ValueError as error:
        raise UsageError(f"--figure {out}: {error}") from None
