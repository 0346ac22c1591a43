"""The record of a run: names, columns and units of everything a run leaves behind, in every world.

A `Record` is plain data. `write` puts it into a folder all at once: a half-written run is never seen.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from policies.jobs import Stage
from scenarios.parts import Parts

RECORD_VERSION = 1
Table = Sequence[tuple[Any, ...]] | Mapping[str, Any] | Parts

TABLES: Mapping[str, tuple[str, ...]] = {
    "requests": (
        "op_id", "client", "priority", "arrival_s", "deadline_s", "prompt_tokens", "new_tokens", "status", "reason",
        "first_token_s", "latency_s", "attempts", "tokens", "output", "correct", "nodes", "model",
    ),
    "devices": (
        "time_s", "device", "kind", "soc", "plugged", "screen_on", "die_c", "skin_c", "speed", "contributing", "state",
    ),
    "decisions": ("time_s", "node", "path", "kind", "detail"),
    "commits": ("index", "term", "first_s", "last_s", "members"),
    "faults": ("time_s", "kind", "node", "phase", "layer", "detail"),
    "sessions": ("op", "head", "begun_s", "first_token_s", "ended_s", "tokens", "stages"),
}  # fmt: skip
"""Columns by table. ``time_s`` and ``arrival_s`` count from the run's start, ``latency_s`` from the request's arrival,
``first_token_s`` from the start of the session that answered it (queueing is in ``latency_s``, not in it); ``status``
is answered, late, refused or lost; ``output`` is the digest of the answer and ``nodes`` are the workers that made it;
``model`` is who answered, two with a plus where the second went on from what the first had told (then ``correct`` is
not known);
``phase`` is start or end, or skipped for a fault that found no victim; ``layer`` says who applied a fault (model,
transport, process, kernel); ``detail`` is JSON or text. ``commits`` has a row an entry of the replicated log: when the
first and the last honest member told that it is committed, and how many did; such announcements are not in
``decisions``. ``sessions`` has a row a session that was answered: ``op`` is client/op_id/attempt, times are its
head's, ``first_token_s`` counts from ``begun_s``, ``stages`` are node:first-last with commas."""

FLEET_TABLES: Mapping[str, tuple[str, ...]] = {
    "fleet": (
        "time_s", "kind", "demand", "devices", "batteries", "readings_lent", "contributing", "sessions", "interrupted",
        "readings_hot", "times_low", "charging", "low", "off", "total_mj", "village_mj", "plug_mj", "chip_us", "mflop",
        "soc_ppm", "skin_mc", "die_mc", "skin_c_max", "die_c_max", "soc_min",
    ),
    "totals": (
        "device", "kind", "model", "lent_s", "chip_s", "flop", "total_j", "village_j", "plug_j", "through_ah",
        "full_cycles", "hot_s", "times_low", "sessions", "interrupted", "soc_sum", "board_c_sum", "soc", "die_c",
        "board_c", "skin_c", "off", "contributing", "battery_wh", "capacity_ah",
    ),
    "histories": ("time_s", "device", "soc", "die_c", "skin_c", "contribute", "compute_share", "state", "flags"),
    "receipts": ("device", "started_s", "ended_s", "compute_s", "reason", "interrupted"),
}  # fmt: skip
"""Columns by table of a fleet's run (manifest: ``kind: fleet``). ``fleet`` has a row a window and kind, ``time_s`` its
end: counts and integer sums over the kind's devices (``chip_us``: microseconds of whole chips at full speed; ``mflop``:
1e6 operations at dense FP16 peak; ``soc_ppm``, ``skin_mc``, ``die_mc``: sums at the window's end, of batteries in 1e-6,
of all in 1e-3 C) and worst cases at its end. ``totals`` has a row a device: sums since the start, states at the end.
``histories`` and ``receipts`` are of the sampled devices: a row a reading, states after it, and a row a session. While
a fleet runs, ``histories`` grows on disk (`scenarios.parts`)."""

WHERE_PRICED = ("price_per_kwh", "cost_micro")
"""Columns of ``fleet`` where the scenario has prices, after the others: the price that was held, and what energy from
the mains cost, a sum of whole millionths of its currency, rounded for each device and window."""


@dataclass
class Record:
    """What one run left behind.

    Attributes:
        summary: flat name to number; units last in the names.
        manifest: digest, seed, world, fidelity, config, versions, policies and more.
        tables: table name to rows, each a tuple in the order of `TABLES`; of a fleet, to columns by name,
            or to the parts that lie on disk already.
        journals: node to journal bytes (`scenarios.journal`).
    """

    summary: dict[str, float]
    manifest: dict[str, Any]
    tables: Mapping[str, Table]
    journals: dict[str, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Digest of the event history."""
        return str(self.manifest["digest"])


def stages_text(stages: Sequence[Stage]) -> str:
    """Return a pipeline as the table ``sessions`` has it.

    >>> stages_text([Stage("desk-0", 0, 3), Stage("desk-2", 3, 8)])
    'desk-0:0-3,desk-2:3-8'
    """
    return ",".join(f"{stage.node}:{stage.first}-{stage.last}" for stage in stages)


def is_fleet(manifest: Mapping[str, Any]) -> bool:
    """Tell whether a manifest is of a fleet's run."""
    return manifest.get("kind") == "fleet"


def frame(name: str, rows: Table) -> Any:
    """Return table ``name``, rows, columns or parts, as a pandas DataFrame."""
    import pandas as pd

    if isinstance(rows, Parts):
        return rows.frame()
    if name in FLEET_TABLES:
        assert isinstance(rows, Mapping)
        columns = (*FLEET_TABLES[name], *(column for column in WHERE_PRICED if name == "fleet" and column in rows))
        return pd.DataFrame({column: rows[column] for column in columns}, copy=False)  # a million rows
    return pd.DataFrame.from_records(list(rows), columns=list(TABLES[name]))


def write(record: Record, folder: Path) -> Path:
    """Write ``record`` to ``folder``, replacing it, by one rename at the end.

    Raises:
        OSError: the folder cannot be written; nothing is left behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        (part / "journals").mkdir(parents=True)
        for name, content in (("summary.json", record.summary), ("manifest.json", record.manifest)):
            (part / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
        for name in FLEET_TABLES if is_fleet(record.manifest) else TABLES:
            rows, path = record.tables.get(name, ()), part / f"{name}.parquet"
            if isinstance(rows, Parts):
                rows.save(path)
            else:
                frame(name, rows).to_parquet(path, index=False)
        for node, data in record.journals.items():
            (part / "journals" / f"{node}.journal").write_bytes(data)
        if folder.exists():
            old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
            folder.rename(old)
            part.rename(folder)
            shutil.rmtree(old)
        else:
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder
