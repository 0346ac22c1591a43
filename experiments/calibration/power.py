"""``twin calibrate power``: the core-current law or the radio law, fitted to a table of measurements.

Both are fitted by relative error, because that is what is asked of them, through JAX with the very functions of
`models.power.cores` and `models.radio`. A profile holds the parameters with their standard errors, the errors on what
was kept out of the fit, and where it all came from.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.calibration import Outcome
from experiments.compose import UsageError
from experiments.fitting import Fit, fit
from experiments.whole import check_file, whole, write_whole
from models.power.cores import core_current_ma, log_current
from models.radio import REFERENCE_RSRP_DBM, REFERENCE_SINR_DB, RSRP_DBM, SINR_DB, Radio, active_w, throughput_w

CPU_COLUMNS = ("device", "cluster", "freq_kHz", "core_mA")
RADIO_COLUMNS = ("downlink_Mbps", "uplink_Mbps", "hardware_power")
ANCHORS = {"lowest, 40 %, top": (0.0, 0.4, 1.0), "20 %, top": (0.2, 1.0), "lowest, top": (0.0, 1.0), "top": (1.0,)}
"""Where on the way from lowest to top frequency a cluster is known, for each form of the law."""
BENDS = ("small_bend", "big_bend")
"""Terms of the class with two anchors: of the slowest cluster of several, and of any other."""
FOLDS = 5
SOFT = 0.05  # relative residuals above this count less and less (pseudo-Huber): tables have steps, phones have hiccups
RADIO_FIELDS = (
    "base_w", "down_w_per_mbps", "up_w_per_mbps", "carrier_w", "carrier_mbps", "rsrp_w_per_db", "sinr_w_per_db",
)  # fmt: skip
# First guess and bounds in the order of RADIO_FIELDS: power does not fall with throughput, nor rise with signal
# strength, and a tenth of a watt a Mbit/s (LTE's uplink has 0.09) is the most. SINR's sign is left to the data: at one
# strength, more of it may mean more data or fewer beams.
RADIO_START = (2.0, 1e-3, 1e-2, 1.0, 50.0, -0.03, 0.02)
RADIO_LOW = (0.0, 0.0, 0.0, 0.0, 1.0, -0.5, -0.5)
RADIO_HIGH = (20.0, 0.1, 0.1, 20.0, 1000.0, 0.0, 0.5)


@dataclass(frozen=True)
class Curve:
    """One cluster's table: currents (mA) at rising frequencies (kHz), and the devices that have just this table.

    `small` says whether it is the lowest-numbered of its device's several clusters: the one that runs slowest.
    """

    devices: tuple[str, ...]
    cluster: str
    khz: np.ndarray
    ma: np.ndarray
    small: bool = False

    def at(self, ways: Sequence[float]) -> np.ndarray:
        """Return the places of the frequencies nearest to these shares of the way from lowest to top; rising."""
        wanted = self.khz[0] + np.asarray(ways) * (self.khz[-1] - self.khz[0])
        return np.unique(np.abs(self.khz[:, None] - wanted).argmin(axis=0))


@dataclass(frozen=True)
class Score:
    """Relative errors in per cent: mean, of the worst group (cluster, or fold), and of the worst tenth of all rows."""

    mean: float
    worst_group: float
    worst_decile: float
    worst_row: float

    @classmethod
    def of(cls, groups: Sequence[np.ndarray], *, mean_of_groups: bool) -> Score:
        """Score groups of absolute relative errors."""
        rows = np.sort(np.concatenate(groups)) * 100.0
        means = [float(g.mean()) * 100.0 for g in groups if g.size]
        mean = float(np.mean(means)) if mean_of_groups else float(rows.mean())
        return cls(mean, max(means), float(rows[-max(1, rows.size // 10) :].mean()), float(rows[-1]))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of ``twin calibrate power``."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--cpu", type=Path, metavar="CSV", help="columns device, cluster, freq_kHz, core_mA")
    what.add_argument(
        "--radio", type=Path, metavar="CSV",
        help="columns downlink_Mbps, uplink_Mbps, hardware_power (mW above the device's base); optional nr_ssRsrp, "
        "nr_ssSinr, row (rows of one block are kept together)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the profile, JSON")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="predicted against measured, and residuals")


def run(options: argparse.Namespace) -> Outcome:
    """Fit, write the profile (and the figure), and return what was found.

    Raises:
        UsageError: a file cannot be read or written, or a row is not what it should be.
    """
    source: Path = options.cpu or options.radio
    for name in ("out", "figure"):
        check_file(f"--{name}", getattr(options, name))
    found = calibrate_cores(read_cores(source)) if options.cpu else calibrate_radio(read_radio(source))
    from scenarios.digests import versions

    plain = {
        "format": 1, "subject": "power.cpu" if options.cpu else "power.radio", **found.plain,
        "provenance": {
            "input": source.name, "sha256": hashlib.sha256(source.read_bytes()).hexdigest(), "versions": versions(),
        },
    }  # fmt: skip
    write_whole(options.out, json.dumps(plain, indent=2) + "\n")
    if options.figure:
        _draw(found, options.figure)
    return Outcome(plain, found.text)


@dataclass(frozen=True)
class Found:
    """A calibration: plain data, text, and measured against predicted values for the figure."""

    plain: dict[str, Any]
    text: str
    measured: np.ndarray
    predicted: np.ndarray
    unit: str


# Core currents


def read_cores(path: Path) -> list[Curve]:
    """Read a table of core currents; equal tables of several devices are one curve.

    Raises:
        UsageError: see `run`.
    """
    frame = _read(path, CPU_COLUMNS, above_zero=("freq_kHz", "core_mA"))
    curves: dict[tuple[Any, ...], Curve] = {}
    numbers = {device: sorted(rows["cluster"].unique()) for device, rows in frame.groupby("device")}
    for (device, cluster), rows in frame.groupby(["device", "cluster"], sort=True):
        rows = rows.drop_duplicates("freq_kHz").sort_values("freq_kHz")
        khz, ma = rows["freq_kHz"].to_numpy(float), rows["core_mA"].to_numpy(float)
        if khz.size < 4:
            raise UsageError(f"{path.name}: {device} cluster {cluster} has {khz.size} frequencies; allowed: at least 4")
        same = (*khz.tolist(), *ma.round(3).tolist())
        names = (*curves[same].devices, str(device)) if same in curves else (str(device),)
        small = len(numbers[device]) > 1 and cluster == numbers[device][0]
        curves[same] = Curve(names, curves[same].cluster if same in curves else str(cluster), khz, ma, small)
    if len({curve.devices for curve in curves.values()}) < 2:
        raise UsageError(f"{path.name}: all devices have the same tables; allowed: at least 2 different devices")
    return list(curves.values())


def fit_class(curves: Sequence[Curve], count: int) -> Fit:
    """Fit what this many anchors leave open: bends (two anchors, at either place), or slope and bend (top alone)."""
    import jax.numpy as jnp

    names = BENDS if count == 2 else ("slope", "slope_bend")
    places = [(c, c.at(ways)) for ways in ANCHORS.values() if len(ways) == count for c in curves]
    parts = [(np.sqrt(c.khz / c.khz[-1]), at, np.log(c.ma)) for c, at in places]
    u, log_ma = np.concatenate([p[0] for p in parts]), np.concatenate([p[2] for p in parts])
    at, known = (np.concatenate([np.tile(p[k][p[1]], (p[0].size, 1)) for p in parts]) for k in (0, 2))
    weight = np.concatenate([np.full(p[0].size, p[0].size ** -0.5) for p in parts])
    small = np.concatenate([np.full(c.khz.size, c.small) for c, _ in places])

    def law(x: Any) -> Any:
        terms = {"bend": jnp.where(small, *x)} if count == 2 else dict(zip(names, x, strict=True))
        return weight * _soft(log_current(jnp.asarray(u), jnp.asarray(at), jnp.asarray(known), **terms) - log_ma)

    # Two places of the anchors are two looks at the same rows.
    return fit(law, [1.0] * len(names), names, independent=float(sum(c.khz.size for c in curves)))


def predict(curve: Curve, ways: Sequence[float], found: Fit | None) -> tuple[np.ndarray, np.ndarray]:
    """Return a cluster's currents from its anchors at these places, mA, and which rows are no anchors."""
    places = curve.at(ways)
    u = np.sqrt(curve.khz / curve.khz[-1])
    terms = dict(zip(found.names, found.values.tolist(), strict=True)) if found else {}
    if len(ways) == 2:
        terms = {"bend": terms[BENDS[0] if curve.small else BENDS[1]]}
    others = np.ones(u.size, dtype=bool)
    others[places] = False
    return np.exp(log_current(u, u[places], np.log(curve.ma[places]), **terms)), others


def devices_kept_out(curves: Sequence[Curve], ways: Sequence[float]) -> Score:
    """Score the law on each device when it, and all that share a table with it, are left out of the class's fit."""
    errors, fits = [], {}
    for out in curves:
        platform = frozenset(_related(curves, out))
        if len(ways) < 3 and platform not in fits:
            fits[platform] = fit_class([c for c in curves if not platform & set(c.devices)], len(ways))
        predicted, others = predict(out, ways, fits.get(platform))
        errors.append(np.abs(predicted / out.ma - 1.0)[others])
    return Score.of(errors, mean_of_groups=True)


def rows_kept_out(curves: Sequence[Curve]) -> Score:
    """Score the three-anchor law on a hashed fifth of each cluster's rows, its anchors fitted to the other rows."""
    out = [np.array([_fold(f"{c.devices[0]} {c.cluster} {khz:g}") == 0 for khz in c.khz]) for c in curves]
    for rows in out:
        rows[[0, -1]] = False
    rest = [Curve(c.devices, c.cluster, c.khz[~rows], c.ma[~rows]) for c, rows in zip(curves, out, strict=True)]
    anchors = fit_anchors(rest)
    errors = [
        np.abs(core_current_ma(c.khz[rows], khz, ma) / c.ma[rows] - 1.0)
        for c, rows, (khz, ma, _) in zip(curves, out, anchors, strict=True)
    ]
    return Score.of([error for error in errors if error.size], mean_of_groups=True)


def fit_anchors(curves: Sequence[Curve]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Fit three anchors of each cluster to all its rows.

    Returns:
        For each cluster the anchors' frequencies, kHz, their currents, mA, and the relative standard errors of these,
        from the residual variance of all clusters together.
    """
    import jax.numpy as jnp

    khz = np.stack([c.khz[c.at(ANCHORS["lowest, 40 %, top"])] for c in curves])
    of = np.concatenate([np.full(c.khz.size, k) for k, c in enumerate(curves)])
    u = jnp.asarray(np.concatenate([np.sqrt(c.khz / c.khz[-1]) for c in curves]))
    at = jnp.asarray(np.sqrt(khz / khz[:, -1:])[of])
    log_ma = np.log(np.concatenate([c.ma for c in curves]))
    start = np.concatenate([np.interp(row, c.khz, np.log(c.ma)) for row, c in zip(khz, curves, strict=True)])
    names = tuple(f"log_ma_{k}_{j}" for k in range(len(curves)) for j in range(3))
    found = fit(lambda x: _soft(log_current(u, at, x.reshape(-1, 3)[of]) - log_ma), start, names)
    values, errors = np.exp(found.values).reshape(-1, 3), found.standard_errors.reshape(-1, 3)
    return list(zip(khz, values, errors, strict=True))


def calibrate_cores(curves: Sequence[Curve]) -> Found:
    """Fit the class's terms and each cluster's anchors; score them on what was kept out."""
    two, one = fit_class(curves, 2), fit_class(curves, 1)
    clusters, predicted = [], []
    for curve, (khz, ma, relative) in zip(curves, fit_anchors(curves), strict=True):
        predicted.append(core_current_ma(curve.khz, khz, ma))
        error = np.abs(predicted[-1] / curve.ma - 1.0)
        clusters.append({
            "devices": list(curve.devices), "cluster": curve.cluster, "anchors_khz": khz.tolist(),
            "anchors_ma": ma.tolist(), "relative_standard_error": relative.tolist(),
            "mape_percent": 100.0 * float(error.mean()), "worst_percent": 100.0 * float(error.max()),
        })  # fmt: skip
    scores = {name: devices_kept_out(curves, ways) for name, ways in ANCHORS.items()}
    rows = rows_kept_out(curves)
    plain = {
        "parameters": {"two_anchors": two.as_dict(), "top_only": one.as_dict()}, "clusters": clusters,
        "kept_out_percent": {
            "devices": {name: score.__dict__ for name, score in scores.items()}, "rows, three anchors": rows.__dict__,
        },
    }  # fmt: skip
    lines = [f"{len(curves)} clusters of {len({d for c in curves for d in c.devices})} devices"]
    terms = zip(two.names, two.values, two.standard_errors, strict=True)
    lines += [f"{name} {value:.3f} ± {error:.3f} (two anchors)" for name, value, error in terms]
    lines += ["devices kept out of the fit, error of core current:"]
    lines += [f"  known at {name}: {_words(score, 'cluster')}" for name, score in scores.items()]
    lines += [f"rows kept out of each cluster, three fitted anchors: {_words(rows, 'cluster')}"]
    measured = np.concatenate([c.ma for c in curves])
    return Found(plain, "\n".join(lines), measured, np.concatenate(predicted), "mA a core")


# Radio power


def read_radio(path: Path) -> pd.DataFrame:
    """Read radio power; missing signal columns are at their reference, missing blocks are of one row.

    Raises:
        UsageError: see `run`.
    """
    frame = _read(path, RADIO_COLUMNS, above_zero=("hardware_power",), optional=("nr_ssRsrp", "nr_ssSinr"))
    if (frame[["downlink_Mbps", "uplink_Mbps"]] < 0.0).to_numpy().any():
        row = int(np.flatnonzero((frame[["downlink_Mbps", "uplink_Mbps"]] < 0.0).any(axis=1))[0])
        raise UsageError(f"{path.name} row {row + 2}: throughput is below 0; allowed: numbers from 0")
    given = {"nr_ssRsrp": REFERENCE_RSRP_DBM, "nr_ssSinr": REFERENCE_SINR_DB, "row": np.arange(len(frame))}
    return frame.assign(**{name: value for name, value in given.items() if name not in frame})


def fit_radio(frame: pd.DataFrame) -> Fit:
    """Fit the parameters `RADIO_FIELDS` by relative error; a block of rows (50 s) counts as one measurement."""
    import jax.numpy as jnp

    down, up, strength, quality, watts = (jnp.asarray(column) for column in _columns(frame))

    def law(x: Any) -> Any:
        power = throughput_w(down, up, *x[:5]) + x[5] * strength + x[6] * quality
        return _soft(power / watts - 1.0)

    return fit(
        law, RADIO_START, RADIO_FIELDS, low=RADIO_LOW, high=RADIO_HIGH, independent=float(frame["row"].nunique())
    )


def predict_radio(found: Fit, frame: pd.DataFrame) -> np.ndarray:
    """Return the power of a table's rows above the device's base, W."""
    radio = Radio(*found.values.tolist(), promotion_s=0.0, promotion_w=0.0, tail_s=0.0, tail_w=0.0, source="")
    signal = frame["nr_ssRsrp"].to_numpy(float), frame["nr_ssSinr"].to_numpy(float)
    watts = active_w(radio, frame["downlink_Mbps"].to_numpy(float), frame["uplink_Mbps"].to_numpy(float), *signal)
    return np.asarray(watts)


def blocks_kept_out(frame: pd.DataFrame) -> Score:
    """Score the law in five folds, each of a fifth of the blocks by the hash of their number, fitted to the others."""
    fold = frame["row"].map(lambda row: _fold(f"block {row}")).to_numpy()
    errors = []
    for k in np.unique(fold):
        found = fit_radio(frame[fold != k])
        out = frame[fold == k]
        errors.append(np.abs(predict_radio(found, out) / (out["hardware_power"].to_numpy(float) / 1e3) - 1.0))
    return Score.of(errors, mean_of_groups=False)


def calibrate_radio(frame: pd.DataFrame) -> Found:
    """Fit one radio; score it on blocks kept out."""
    blocks = frame["row"].nunique()
    if blocks < 2 * FOLDS:
        raise UsageError(f"--radio: {blocks} blocks of rows; allowed: at least {2 * FOLDS}")
    found, score = fit_radio(frame), blocks_kept_out(frame)
    measured = frame["hardware_power"].to_numpy(float) / 1e3
    plain = {"parameters": found.as_dict(), "blocks": blocks, "kept_out_percent": score.__dict__}
    lines = [f"{len(frame)} rows in {blocks} blocks"]
    terms = zip(found.names, found.values, found.standard_errors, strict=True)
    lines += [f"{name} {value:.5g} ± {error:.2g}" for name, value, error in terms]
    lines += [f"blocks kept out of the fit, error of radio power: {_words(score, 'fold')}"]
    return Found(plain, "\n".join(lines), measured, predict_radio(found, frame), "W")


def _columns(frame: pd.DataFrame) -> tuple[np.ndarray, ...]:
    strength = np.clip(frame["nr_ssRsrp"].to_numpy(float), *RSRP_DBM) - REFERENCE_RSRP_DBM
    quality = np.clip(frame["nr_ssSinr"].to_numpy(float), *SINR_DB) - REFERENCE_SINR_DB
    throughput = (frame[name].to_numpy(float) for name in ("downlink_Mbps", "uplink_Mbps"))
    return (*throughput, strength, quality, frame["hardware_power"].to_numpy(float) / 1e3)


# What both need


def _read(
    path: Path, columns: Sequence[str], *, above_zero: Sequence[str], optional: Sequence[str] = ()
) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as CSV: {str(error).splitlines()[0]}") from None
    if missing := [name for name in columns if name not in frame]:
        raise UsageError(f"{path.name}: no column {', '.join(missing)}; needed: {', '.join(columns)}")
    if frame.empty:
        raise UsageError(f"{path.name}: no rows")
    for name in (*(c for c in columns if c not in ("device", "cluster")), *(c for c in optional if c in frame)):
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(float)
        bad = ~np.isfinite(values) | ((values <= 0.0) if name in above_zero else False)
        if bad.any():
            row, allowed = int(np.flatnonzero(bad)[0]), "numbers above 0" if name in above_zero else "finite numbers"
            raise UsageError(f"{path.name} row {row + 2}: {name} is {frame[name].iloc[row]}; allowed: {allowed}")
        frame[name] = values
    return frame


def _related(curves: Sequence[Curve], out: Curve) -> set[str]:
    """Return all devices that share any table with this one's: its platform, to be left out together."""
    related = set(out.devices)
    while more := {d for c in curves if related & set(c.devices) for d in c.devices} - related:
        related |= more
    return related


def _fold(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % FOLDS


def _soft(residual: Any) -> Any:
    """Return a pseudo-Huber residual: as given where small, its square growing linearly above `SOFT`. Smooth at 0."""
    return residual * (2.0 / ((1.0 + (residual / SOFT) ** 2) ** 0.5 + 1.0)) ** 0.5


def _words(score: Score, group: str) -> str:
    return (
        f"{score.mean:.1f} % mean, {score.worst_group:.1f} % worst {group}, {score.worst_decile:.1f} % worst tenth of "
        f"rows, {score.worst_row:.0f} % worst row"
    )


def _draw(found: Found, out: Path) -> None:
    from matplotlib.figure import Figure

    from experiments.plots import BLUE, MUTED

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(found.measured, found.predicted, ".", color=BLUE, markersize=2, alpha=0.5)
    span = [float(found.measured.min()), float(found.measured.max())]
    left.plot(span, span, color=MUTED, linewidth=1)
    left.set(xlabel=f"measured ({found.unit})", ylabel=f"predicted ({found.unit})", xscale="log", yscale="log")
    right.hist(100.0 * (found.predicted / found.measured - 1.0), bins=60, color=BLUE)
    right.set(xlabel="error (%), all rows in the fit", ylabel="rows")
    with whole(out) as part:
        figure.savefig(part, dpi=130)
