"""Checkpoints of a fleet's run: everything that changes, at the end of a window, in one folder that appears at once.

What is sampled of the past is not in them: it lies beside them in parts, each of some windows, and what is of windows
after the checkpoint is written again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from scenarios.fleet import FleetScenario
from scenarios.parts import Parts

if TYPE_CHECKING:
    from sim.fleet.day import Share
    from sim.fleet.run import FleetResult, Workers

STATE = "state"
"""Name of a checkpoint's folder, below the one that a run is given."""


def save(
    folder: Path, scenario: FleetScenario, workers: Workers, watched: Share, result: FleetResult, done: int
) -> None:
    """Write the state after ``done`` windows; an older one is there until the new one is whole."""
    part = folder / f".{STATE}.{os.getpid()}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    workers.ask("save_file", str(part))  # each its own: a million devices' state is not for pipes
    np.savez(part / "watched.npz", **watched.state())
    result.histories.flush()
    head = {
        "identity": identity(scenario, workers),
        "done": done,
        "wall_s": result.wall_s,
        "windows": result.windows,
        "desk": vars(result.desk),
        "receipts": watched.receipts,
        "violations": watched.violations[:100],
    }
    (part / "head.json").write_text(json.dumps(head))
    shutil.rmtree(folder / STATE, ignore_errors=True)
    part.rename(folder / STATE)


def resume(folder: Path | None, scenario: FleetScenario, workers: Workers, watched: Share, result: FleetResult) -> int:
    """Take up a checkpoint of the same scenario, chunks and workers; return how many windows are done."""
    from sim.fleet.run import Desk

    head = read_head(folder)
    mine = identity(scenario, workers)
    result.histories = Parts(folder and folder / f"histories-{_short(mine)}")
    done = int(head["done"]) if head is not None and head["identity"] == mine else 0
    if not result.histories.go_on(done) and result.sampled.size:
        result.histories.go_on(done := 0)
    if folder is None or head is None or not done:
        return 0
    workers.ask("restore_file", str(folder / STATE))
    watched.restore(dict(np.load(folder / STATE / "watched.npz")))
    watched.receipts = [tuple(row) for row in head["receipts"]]
    watched.violations = head["violations"]
    result.windows, result.desk, result.wall_s = head["windows"], Desk(**head["desk"]), head["wall_s"]
    result.resumed_at_s = done * scenario.window_s
    return done


def read_head(folder: Path | None) -> dict[str, Any] | None:
    """Return what a checkpoint says of itself, None if there is none or it is torn."""
    try:
        head: dict[str, Any] = json.loads((folder / STATE / "head.json").read_text()) if folder else {}
    except (OSError, json.JSONDecodeError):
        return None
    return head or None


def identity(scenario: FleetScenario, workers: Workers) -> dict[str, Any]:
    """Return what must be the same for a state to be taken up: also chunks and workers, which own its parts."""
    plain: dict[str, Any] = msgspec.to_builtins(scenario)
    chunks = [[chunk.size for chunk in mine] for mine in workers.assigned]
    return json.loads(json.dumps({**plain, "chunks": chunks}))  # type: ignore[no-any-return]


def _short(plain: dict[str, Any]) -> str:
    """Return a short digest of an identity: another scenario's parts are never this one's."""
    return hashlib.blake2b(json.dumps(plain, sort_keys=True).encode(), digest_size=8).hexdigest()
