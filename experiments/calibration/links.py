"""``twin calibrate links``: rates, delays and jitter by technology, and where the backbone's nodes are.

Writes what `models.links` reads. Values are what users saw: a rate is what one test, second or five seconds gave, with
its zeros; a delay is a round trip unless its name says one way.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.calibration import Outcome
from experiments.calibration.distributions import Source, add_arguments, check, fit_all, words, write
from models.distributions.fit import Sample
from models.links.backbone import fit_places, held_out_errors

__all__ = ["SOURCES", "add_arguments", "run"]

SPEEDTEST = "net_bandwidth/us_5g_speedtest_2021.csv.gz"
UCC = "net_bandwidth/ucc_4g5g_1hz.csv.gz"
DRIVING = "net_bandwidth/starlink_vs_cellular_tcp_5s.csv.gz"
CAMPUS = "net_bandwidth/campus_wifi_and_cell_walks_1hz.csv"
FIXED = "net_bandwidth/speedtest_country_means.csv"
WONDER = "net_latency/wondernetwork_oneway_ms.csv.gz"
PLANETLAB = "net_latency/planetlab490_median_rtt_ms.csv.gz"
PLANETLAB_MAD = "net_latency/planetlab490_mad_rtt_ms_every4th_col.csv.gz"
SEATTLE = "net_latency/seattle99_rtt_slices.csv.gz"


def _column(value: str, unit: str, scale: float = 1.0, **where: Sequence[str]) -> Callable[[Path], Sample]:
    """Return a reader of one column, in the filled rows whose other columns (``where``) hold one of these words."""

    def read(path: Path) -> Sample:
        table = pd.read_csv(path)
        keep = table[value].notna() & table[unit].notna()
        for column, words_ in where.items():
            keep &= table[column].astype(str).isin(words_)
        table = table[keep]
        return Sample.of(table[value].to_numpy(float) * scale, table[unit].astype(str).to_numpy())

    return read


def matrix(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row names, column names and the values of a matrix file; nan where never measured."""
    table = pd.read_csv(path, index_col=0)
    return table.index.to_numpy(str), table.columns.to_numpy(str), table.to_numpy(float)


def _pairs(path: Path) -> Sample:
    """Read a matrix: a value for each ordered pair of different nodes; units are both nodes."""
    rows, columns, values = matrix(path)
    i, j = np.nonzero((rows[:, None] != columns[None, :]) & (values > 0.0))
    return Sample.of(values[i, j], np.stack([rows[i], columns[j]], axis=1))


def _seattle(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path)
    table["median_ms"] = table.groupby(["a", "b"])["rtt_ms"].transform("median")
    table["count"] = table.groupby(["a", "b"])["rtt_ms"].transform("size")
    return table


def _seattle_rtt(path: Path) -> Sample:
    table = _seattle(path)
    return Sample.of(table["rtt_ms"].to_numpy(float), table[["a", "b"]].to_numpy())


def _seattle_medians(path: Path) -> Sample:
    table = _seattle(path).drop_duplicates(["a", "b"])
    return Sample.of(table["median_ms"].to_numpy(float), table[["a", "b"]].to_numpy())


def _seattle_jitter(path: Path) -> Sample:
    table = _seattle(path)
    table = table[table["count"] >= 20]  # of fewer slices, the median itself is jitter
    return Sample.of((table["rtt_ms"] / table["median_ms"]).to_numpy(float), table[["a", "b"]].to_numpy())


def _planetlab_mad(path: Path) -> Sample:
    rows, columns, mad = matrix(path)
    names, _, median = matrix(path.with_name(Path(PLANETLAB).name))
    place = {name: i for i, name in enumerate(names)}
    median = median[np.ix_([place[name] for name in rows], [place[name] for name in columns])]
    i, j = np.nonzero((rows[:, None] != columns[None, :]) & (median > 0.0) & (mad >= 0.0))
    return Sample.of(mad[i, j] / median[i, j], np.stack([rows[i], columns[j]], axis=1))


def _speedtest() -> list[Source]:
    radios = {
        "lte": "4G-LTE", "5g-low-nsa": "5G-NSA-Low-Band", "5g-low-sa": "5G-SA-Low-Band", "5g-mmwave": "5G-NSA-mmWave",
    }  # fmt: skip
    columns = {
        "down": ("downlink_Mbps", "Mbit/s"), "up": ("uplink_Mbps", "Mbit/s"), "rtt": ("latency_ms", "ms"),
    }  # fmt: skip
    return [
        Source(
            f"{what}.{name}.speedtest", SPEEDTEST, column, f"radio_type {radio}", "Server_city", unit,
            _column(column, "Server_city", radio_type=(radio,)),
        )
        for name, radio in radios.items()
        for what, (column, unit) in columns.items()
    ]  # fmt: skip


def _ucc() -> list[Source]:
    made = []
    for name, mode in {"lte": "LTE", "5g": "5G", "hspa": "HSPA+"}.items():
        kinds = {
            "rtt": ("ping_ms", "", "ms", _column("ping_ms", "trace", mode=(mode,))),
            "down": (
                "dl_kbps / 1000", ", app Download", "Mbit/s",
                _column("dl_kbps", "trace", 1e-3, mode=(mode,), app=("Download",)),
            ),
            "seen": (
                "dl_kbps / 1000", ", any app: traffic, not capacity", "Mbit/s",
                _column("dl_kbps", "trace", 1e-3, mode=(mode,)),
            ),
        }  # fmt: skip
        for what, (column, rows, unit, read) in kinds.items():
            made.append(Source(f"{what}.{name}.ucc", UCC, column, f"mode {mode}{rows}", "trace", unit, read))
    return made


def _driving() -> list[Source]:
    nets = {
        "starlink": ("starlink_mobility", "starlink_roam"), "starlink-mobility": ("starlink_mobility",),
        "starlink-roam": ("starlink_roam",), "cellular": ("att", "tmobile", "verizon"), "att": ("att",),
        "tmobile": ("tmobile",), "verizon": ("verizon",),
    }  # fmt: skip
    return [
        Source(
            f"down.{name}.driving", DRIVING, "mbps", f"net {' or '.join(net)}", "run", "Mbit/s",
            _column("mbps", "run", net=net),
        )
        for name, net in nets.items()
    ]  # fmt: skip


def _fixed() -> list[Source]:
    return [
        Source(
            f"{what}.fixed-{kind}.speedtest", FIXED, column, f"kind {kind}, year 2020.04: means, not lines", "key",
            "Mbit/s", _column(column, "key", kind=(kind,), year=("2020.04",)),
        )
        for kind in ("countries", "cities")
        for what, column in (("down", "down_mbps"), ("up", "up_mbps"))
    ]  # fmt: skip


def _traces() -> list[Source]:
    files = {
        "3g.hsdpa": "hsdpa3g_norway", "fixed.fcc": "fcc_broadband", "mixed.oboe": "oboe_wired_wifi_cell",
        "video.puffer": "puffer_2022_02",
    }  # fmt: skip
    return [
        Source(
            f"trace.{name}", f"net_bandwidth/{file}.csv.gz", "mbps", "all; filtered by its makers, not today's rates",
            "trace", "Mbit/s", _column("mbps", "trace"),
        )
        for name, file in files.items()
    ]  # fmt: skip


SOURCES = (
    *_speedtest(),
    *_ucc(),
    *_driving(),
    Source("down.wifi.campus", CAMPUS, "mbps", "link wifi", "trace", "Mbit/s",
           _column("mbps", "trace", link=("wifi",))),
    Source("down.cellular.campus", CAMPUS, "mbps", "link cellular", "trace", "Mbit/s",
           _column("mbps", "trace", link=("cellular",))),
    *_fixed(),
    *_traces(),
    Source("oneway.backbone.wondernetwork", WONDER, "matrix", "pairs of different nodes", "node", "ms", _pairs),
    Source("rtt.academic.planetlab", PLANETLAB, "matrix", "pairs of different nodes", "node", "ms", _pairs),
    Source("rtt.personal.seattle", SEATTLE, "rtt_ms", "all slices", "node", "ms", _seattle_rtt),
    Source("median.personal.seattle", SEATTLE, "median of rtt_ms", "by pair", "node", "ms", _seattle_medians),
    Source("jitter.personal.seattle", SEATTLE, "rtt_ms / its pair's median", "pairs of at least 20 slices", "node",
           "1", _seattle_jitter),
    Source("mad.academic.planetlab", PLANETLAB_MAD, "MAD / median", "pairs of different nodes", "node", "1",
           _planetlab_mad),
)  # fmt: skip


DRAWN = {
    "lte": ("down.lte.speedtest", "up.lte.speedtest"),
    "5g": ("down.5g-low-nsa.speedtest", "up.5g-low-nsa.speedtest"),
    "5g-mmwave": ("down.5g-mmwave.speedtest", "up.5g-mmwave.speedtest"),
    "fixed": ("down.fixed-countries.speedtest", "up.fixed-countries.speedtest"),
}
"""Technologies with a rate each way in one file, and the fits their links are drawn from."""

OUTAGES = {
    "wifi.campus": (CAMPUS, "trace", 1.0, "mbps", 1.0, {"link": ("wifi",)}),
    "cellular.campus": (CAMPUS, "trace", 1.0, "mbps", 1.0, {"link": ("cellular",)}),
    "lte.ucc": (UCC, "trace", 1.0, "dl_kbps", 1e-3, {"mode": ("LTE",), "app": ("Download",)}),
    "5g.ucc": (UCC, "trace", 1.0, "dl_kbps", 1e-3, {"mode": ("5G",), "app": ("Download",)}),
    "starlink.driving": (DRIVING, "run", 5.0, "mbps", 1.0, {"net": ("starlink_mobility", "starlink_roam")}),
    "cellular.driving": (DRIVING, "run", 5.0, "mbps", 1.0, {"net": ("att", "tmobile", "verizon")}),
}
BELOW_MBPS = 0.1  # a second with less is an outage (assumption: an acknowledgement or two still get through)
HELD_OUT, LANDMARKS = 0.2, (16, 32, 64)


def correlations(folder: Path) -> dict[str, Any]:
    """Return Spearman's rank correlation of down and up by technology, over tests or countries."""
    from scipy.stats import spearmanr

    tests, fixed = pd.read_csv(folder / SPEEDTEST), pd.read_csv(folder / FIXED)
    rates = {"fixed": fixed.loc[(fixed["kind"] == "countries") & (fixed["year"] > 2020), ["down_mbps", "up_mbps"]]}
    for name, radio in (("lte", "4G-LTE"), ("5g", "5G-NSA-Low-Band"), ("5g-mmwave", "5G-NSA-mmWave")):
        rates[name] = tests.loc[tests["radio_type"] == radio, ["downlink_Mbps", "uplink_Mbps"]]
    return {
        name: {"down": down, "up": up, "value": round(float(spearmanr(rates[name]).statistic), 3)}
        for name, (down, up) in DRAWN.items()
    }


def outages(folder: Path) -> dict[str, Any]:
    """Return rates into and out of outages: the two-state chain whose transitions a step apart are the observed ones.

    The maximum-likelihood shares of the steps into and out of the bad state, a and b a step, belong to the rates
    -log(1 - a - b) / step times a / (a + b) and b / (a + b). Standard errors: a unit left out at a time (jackknife).
    """
    found = {}
    for name, (file, unit, step_s, column, scale, where) in OUTAGES.items():
        table = pd.read_csv(folder / file)
        for key, allowed in where.items():
            table = table[table[key].isin(allowed)]
        table = table.drop_duplicates([unit, "t_s"])
        counts = np.array([_moves(rows, column, scale, step_s) for _, rows in table.groupby(unit)])
        rates = _rates(counts.sum(axis=0), step_s)
        left_out = np.array([_rates(counts.sum(axis=0) - one, step_s) for one in counts])
        n = len(counts)
        errors = np.sqrt((n - 1) / n * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))
        found[name] = {
            "to_bad_per_s": float(f"{rates[0]:.4g}"), "to_good_per_s": float(f"{rates[1]:.4g}"),
            "standard_errors": [float(f"{error:.2g}") for error in errors], "file": file, "units": n,
            "rows": ", ".join(f"{key} {' or '.join(allowed)}" for key, allowed in where.items()),
            "below_mbps": BELOW_MBPS, "step_s": step_s,
        }  # fmt: skip
    return found


def _moves(rows: pd.DataFrame, column: str, scale: float, step_s: float) -> np.ndarray:
    """Return counts of steps from good to good, good to bad, bad to good, bad to bad; longer gaps are no step."""
    bad = (rows[column].to_numpy(float) * scale < BELOW_MBPS).astype(int)
    beside = np.diff(rows["t_s"].to_numpy(float)) == step_s
    return np.bincount((2 * bad[:-1] + bad[1:])[beside], minlength=4)


def _rates(moves: np.ndarray, step_s: float) -> np.ndarray:
    into, out = moves[1] / max(moves[0] + moves[1], 1), moves[2] / max(moves[2] + moves[3], 1)
    total = -np.log1p(-min(into + out, 0.999999)) / step_s
    return np.array([into, out]) / max(into + out, 1e-12) * total


def backbone(folder: Path) -> dict[str, Any]:
    """Return the places of the WonderNetwork's nodes, and relative errors on pairs of nodes that were held out."""
    found: dict[str, Any] = {}
    for name, file in (("wondernetwork", WONDER), ("planetlab", PLANETLAB)):
        names, _, delays = matrix(folder / file)
        dealt = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).hexdigest())
        out = np.sort(dealt[: round(HELD_OUT * len(names))])
        quality = {}
        for landmarks in LANDMARKS:
            errors = np.abs(held_out_errors(delays, out, landmarks))
            quality[str(landmarks)] = {
                "median": round(float(np.median(errors)), 4), "p95": round(float(np.quantile(errors, 0.95)), 4),
                "pairs": int(errors.size),
            }  # fmt: skip
        found[name] = {"file": file, "nodes": len(names), "held_out": len(out), "errors_by_landmarks": quality}
        if name == "wondernetwork":
            places = fit_places(delays)
            numbers = np.column_stack([places.points, places.heights]).round(3)
            found[name] |= {"unit": "ms one way", "places": numbers.tolist()}
    return found


def run(options: argparse.Namespace) -> Outcome:
    """Fit all, write the file, and return what was found.

    Raises:
        UsageError: a data file is missing, or the file cannot be written.
    """
    check(options, sorted({source.file for source in SOURCES} | {PLANETLAB}))
    plain = fit_all(SOURCES, options.data, quiet=options.quiet)
    plain |= {
        "rank_correlation": correlations(options.data), "outages": outages(options.data),
        "backbone": backbone(options.data),
    }  # fmt: skip
    write(options.out, plain)
    return Outcome(plain, words(plain))
