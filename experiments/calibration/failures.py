"""``twin calibrate failures``: lifetimes, gaps between failures, downtimes and bursts, from failure logs.

Writes what `models.failures` reads. What had not failed when the log ended is right-censored. ``gap`` is from one
failure's start to the next one's of the same unit, seen pairs only, as published fits take it; ``up`` is from repair to
the next failure, with what was still up at the end counted as censored: this is the one to simulate with.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.calibration import Outcome
from experiments.calibration.distributions import Source, add_arguments, check, fit_all, words, write
from models.distributions.fit import Sample
from models.failures.bursts import sizes_of_bursts

__all__ = ["SOURCES", "add_arguments", "run"]

TITAN = "failures/titan_gpu_lifetimes.csv.gz"
LANL = "failures/lanl_node_failures.csv.gz"
GPU = "failures/gpu_server_faults_348d.csv.gz"
CLOUD = "failures/cloud_service_outages.csv.gz"
ALPINE = "failures/alpine_disk_failures.csv.gz"

ALPINE_SLOTS = 106  # the greatest slot number of an enclosure in the log
SAME_TIME_H = {"alpine": 1.0, "lanl": 0.1}
"""Failures of one group less than this apart are one burst (assumptions: an hour's checks, six minutes' log stamps)."""


def _titan(batch: str, *causes: str) -> Callable[[Path], Sample]:
    def read(path: Path) -> Sample:
        table = pd.read_csv(path)
        table = table[table["batch"] == batch]
        dead = table[list(causes)].any(axis=1).to_numpy()
        return Sample.of(table["days"].to_numpy(float), table["gpu"].to_numpy(), ~dead)

    return read


def lanl(path: Path) -> pd.DataFrame:
    """Return failures of nodes with a name, in order of node and time, with start and end in hours."""
    table = pd.read_csv(path)
    table = table[table["node"].notna()].sort_values(["system", "node", "start_h"])
    table["end_h"] = table["start_h"] + table["down_min"] / 60.0
    return table


def _nodes(procs: Sequence[float]) -> Callable[[pd.DataFrame], Any]:
    low, high = procs
    return lambda table: (table["procs_in_node"] >= low) & (table["procs_in_node"] <= high)


def _lanl_gap(procs: Sequence[float]) -> Callable[[Path], Sample]:
    def read(path: Path) -> Sample:
        table = lanl(path)
        table["gap"] = table.groupby(["system", "node"])["start_h"].diff()
        table = table[_nodes(procs)(table) & (table["gap"] > 0.0)]
        return Sample.of(table["gap"].to_numpy(float), table["system"].to_numpy())

    return read


def _lanl_up(procs: Sequence[float]) -> Callable[[Path], Sample]:
    def read(path: Path) -> Sample:
        table = lanl(path)
        table["over_h"] = table.groupby("system")["start_h"].transform("max")  # the log of a system ends here
        table = table[_nodes(procs)(table)]
        next_h = table.groupby(["system", "node"])["start_h"].shift(-1)
        cut = next_h.isna().to_numpy()
        up = (next_h.fillna(table["over_h"]) - table["end_h"]).to_numpy(float)
        keep = up > 0.0  # a failure that begins before the last one is repaired is part of it
        return Sample.of(up[keep], table["system"].to_numpy()[keep], cut[keep])

    return read


def _lanl_down(cause: str | None) -> Callable[[Path], Sample]:
    def read(path: Path) -> Sample:
        table = pd.read_csv(path)
        if cause:
            table = table[table["cause"] == cause]
        return Sample.of(table["down_min"].to_numpy(float) / 60.0, table["system"].to_numpy())

    return read


def gpu_faults(path: Path) -> pd.DataFrame:
    """Return faults of GPU servers: node, level, start and end in hours (nan where the log ends first)."""
    events = pd.read_csv(path)
    rows: list[tuple[str, str, float, float]] = []
    for (node, level, _, _), part in events.groupby(["node", "level", "cls", "desc"], sort=True):
        begun: list[float] = []
        # At equal times an end belongs to the start before it in the file.
        for day, event in part.sort_values("day", kind="stable")[["day", "event"]].itertuples(index=False):
            if event == "fault_start":
                begun.append(day)
            elif begun:
                rows.append((node, level, begun.pop(0) * 24.0, day * 24.0))
        rows += [(node, level, day * 24.0, np.nan) for day in begun]
    return pd.DataFrame(rows, columns=["node", "level", "start_h", "end_h"]).sort_values(["node", "start_h"])


def _gpu_gap(path: Path) -> Sample:
    table = gpu_faults(path)
    gap = table.groupby("node")["start_h"].diff()
    keep = gap > 0.0
    return Sample.of(gap[keep].to_numpy(float), table["node"][keep].to_numpy())


def _gpu_up(path: Path) -> Sample:
    table = gpu_faults(path)
    over_h = float(np.nanmax(table[["start_h", "end_h"]].to_numpy(float)))
    ended = table.groupby("node")["end_h"].cummax()
    next_h = table.groupby("node")["start_h"].shift(-1)
    up = next_h.fillna(over_h) - ended
    keep = (up > 0.0) & ended.notna()
    return Sample.of(up[keep].to_numpy(float), table["node"][keep].to_numpy(), next_h[keep].isna().to_numpy())


def _gpu_down(level: str | None) -> Callable[[Path], Sample]:
    def read(path: Path) -> Sample:
        table = gpu_faults(path)
        over_h = float(np.nanmax(table[["start_h", "end_h"]].to_numpy(float)))
        if level:
            table = table[table["level"] == level]
        down = (table["end_h"].fillna(over_h) - table["start_h"]).to_numpy(float)
        return Sample.of(down, table["node"].to_numpy(), table["end_h"].isna().to_numpy())

    return read


def _cloud(column: str, kind: str) -> Callable[[Path], Sample]:
    def read(path: Path) -> Sample:
        table = pd.read_csv(path)
        table = table[table["service"].str.endswith(kind) & (table[column] > 0.0)]  # 0: a service's first row
        return Sample.of(table[column].to_numpy(float) / 3.6e6, table["service"].to_numpy())

    return read


def _alpine_gap(path: Path) -> Sample:
    table = pd.read_csv(path).sort_values(["rack", "enclosure", "day"])
    gap = table.groupby(["rack", "enclosure"])["day"].diff()
    keep = gap > 0.0
    names = (table["rack"].astype(str) + "-" + table["enclosure"].astype(str))[keep]
    return Sample.of(gap[keep].to_numpy(float), names.to_numpy())


def _alpine_first(path: Path) -> Sample:
    """Read each slot's first failure; slots without one are censored at the log's end."""
    table = pd.read_csv(path)
    first = table.groupby(["rack", "enclosure", "slot"])["day"].min().reset_index()
    names = (first["rack"].astype(str) + "-" + first["enclosure"].astype(str)).to_numpy()
    enclosures, failed = np.unique(names, return_counts=True)
    alive = np.repeat(enclosures, ALPINE_SLOTS - failed)
    days = np.concatenate([first["day"].to_numpy(float), np.full(alive.size, table["day"].max())])
    return Sample.of(days, np.concatenate([names, alive]), np.arange(days.size) >= len(first))


_SIZES = {"small": (1, 8), "large": (16, 1024), "any": (1, 1024)}
SOURCES = (
    *(Source(f"life.gpu-{batch}.titan", TITAN, "days", f"batch {batch}, dead_otb or dead_dbe ends it", "gpu", "day",
             _titan(batch, "dead_otb", "dead_dbe")) for batch in ("old", "new")),
    *(Source(f"life.gpu-old-{cause}.titan", TITAN, "days", f"batch old, dead_{cause} ends it", "gpu", "day",
             _titan("old", f"dead_{cause}")) for cause in ("otb", "dbe")),
    *(Source(f"gap.node-{size}.lanl", LANL, "start_h", f"seen pairs, {procs[0]} to {procs[1]} processors", "system",
             "h", _lanl_gap(procs)) for size, procs in _SIZES.items()),
    *(Source(f"up.node-{size}.lanl", LANL, "start_h, down_min", f"to the system's last failure, {procs[0]} to "
             f"{procs[1]} processors", "system", "h", _lanl_up(procs)) for size, procs in _SIZES.items()),
    Source("down.any.lanl", LANL, "down_min / 60", "all", "system", "h", _lanl_down(None)),
    *(Source(f"down.{cause}.lanl", LANL, "down_min / 60", f"cause {cause}", "system", "h", _lanl_down(cause))
      for cause in ("facilities", "hardware", "human", "network", "software", "undetermined")),
    Source("gap.gpu-server.infinitehbd", GPU, "day of fault_start", "seen pairs", "node", "h", _gpu_gap),
    Source("up.gpu-server.infinitehbd", GPU, "day", "to the log's last event", "node", "h", _gpu_up),
    Source("down.gpu-server.infinitehbd", GPU, "day", "all", "node", "h", _gpu_down(None)),
    *(Source(f"down.gpu-server-{level.split()[0].lower()}.infinitehbd", GPU, "day", f"level {level}", "node", "h",
             _gpu_down(level)) for level in ("Hardware Failure", "Software Failure", "Other Failure")),
    *(Source(f"{name}.cloud-{kind.split('_')[0]}.cua", CLOUD, f"{column} / 3.6e6", f"{kind}, above 0", "service", "h",
             _cloud(column, kind))
      for kind in ("user_reported", "operator_reported", "online_game")
      for name, column in (("gap", "failure_interval"), ("down", "failure_duration"))),
    Source("gap.disk-enclosure.alpine", ALPINE, "day", "seen pairs of one enclosure, above 0", "rack-enclosure", "day",
           _alpine_gap),
    Source("life.disk-slot.alpine", ALPINE, "day", "first failure of each of 106 slots since the log began",
           "rack-enclosure", "day", _alpine_first),
)  # fmt: skip


def bursts(folder: Path) -> dict[str, Any]:
    """Return the sizes of bursts: distinct disks of an enclosure, distinct nodes of a system, that fail together."""
    disks = pd.read_csv(folder / ALPINE)
    nodes = lanl(folder / LANL)
    found = {}
    for name, table, hours, group, member in (
        ("disk-enclosure.alpine", disks, disks["day"] * 24.0, ["rack", "enclosure"], "slot"),
        ("node-system.lanl", nodes, nodes["start_h"], ["system"], "node"),
    ):
        groups = table.groupby(group).ngroup().to_numpy()
        members = pd.factorize(table[member])[0]
        window = SAME_TIME_H[name.split(".")[1]]
        sizes = sizes_of_bursts(groups, members, hours.to_numpy(float), window)
        shares = np.bincount(sizes)[1:] / sizes.size
        found[name] = {
            "file": ALPINE if "alpine" in name else LANL, "window_h": window, "bursts": int(sizes.size),
            "shares": [round(float(share), 7) for share in shares],
        }  # fmt: skip
    return found


def run(options: argparse.Namespace) -> Outcome:
    """Fit all, write the file, and return what was found.

    Raises:
        UsageError: a data file is missing, or the file cannot be written.
    """
    check(options, sorted({source.file for source in SOURCES}))
    plain = fit_all(SOURCES, options.data, quiet=options.quiet) | {"bursts": bursts(options.data)}
    write(options.out, plain)
    return Outcome(plain, words(plain))
