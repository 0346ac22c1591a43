"""world=local: real processes hold one another alive, and a killed one dead."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.replay import replay
from policies import village
from policies.cell import Cell
from policies.config import SwimConfig
from policies.port import NS_PER_S, Keys
from real_backends.gather import _tell
from real_backends.local import run_local
from scenarios.checks import VillageChecks
from scenarios.journal import Header
from tests.real_backends import beating
from tests.real_backends.beating import desks

SWIM = {
    "detector": "swim", "probe_s": 0.2, "ack_s": 0.1, "gossip_s": 0.05, "suspicion_max_mult": 2, "push_pull_s": 1.0,
}  # fmt: skip
PHI = {"detector": "phi", "heartbeat_s": 0.2, "std_min_s": 0.02, "pause_s": 0.4}


def _again(header: Header) -> Callable[[Keys], Cell]:
    spec = village.from_plain(header.config)
    return lambda keys: Cell(beating.detecting(spec), spec.me, spec.peers, seed=spec.seed, keys=keys)


@pytest.mark.parametrize("detector", [SWIM, PHI], ids=["swim", "phi"])
def test_a_killed_process_is_declared_dead_by_those_that_watch_it(tmp_path: Path, detector: dict[str, Any]) -> None:
    """SIGKILL: the record has each watcher's verdict and the time it took; no check breaks; the journals replay."""
    crash = {"kind": "crash", "at_s": 2.0, "node": "desk-2", "down_s": -1.0}
    scenario = desks(4, 3, duration_s=8.0, faults=[crash], policy={"membership": detector})
    record = run_local(scenario, tmp_path, policy=f"{beating.__file__}:detecting")

    seen = [(row[1], *json.loads(row[4])[1:3]) for row in record.tables["decisions"] if row[3] == "seen"]
    assert {observer for observer, peer, status in seen if (peer, status) == ("desk-2", "dead")} == {
        "desk-0", "desk-1", "desk-3",
    }  # fmt: skip
    checks = record.manifest["checks"]
    assert (checks["the_fallen_are_declared_dead"], checks["the_living_are_trusted_again"]) == (True, True)
    assert record.summary["detection_falls_noticed"] == 1
    assert 0 < record.summary["detection_p50_s"] <= record.summary["detection_max_s"] < 6
    assert record.summary["detection_bytes_per_node_per_s"] > 10
    assert replay(record.journals, _again).passed


def _told(*events: tuple[float, str, str], crash: bool) -> list[str]:
    """Return what breaks of views of desk-3 by desk-0, and of desk-3's own first words in its second life."""
    checks = VillageChecks(detector=SwimConfig(), nodes=4)
    rows = [(10.0, "crash", "desk-3", "start", "process", "{}")] if crash else []
    told = [
        (name, {"now_ns": int(at_s * NS_PER_S), "kind": "decide" if how else "readings", "path": "membership",
                "name": "seen", "detail": ["seen", "desk-3", how, 1]})
        for at_s, name, how in events
    ]  # fmt: skip
    _tell(checks, told, [(15 * NS_PER_S, "desk-3")] if crash else [], rows, 0)
    return [check.broken for check in checks.detection if check.broken]


def test_a_process_lives_again_when_it_is_heard_of() -> None:
    """From its start to its first words it is still down: nobody owes it trust for the seconds that loading takes."""
    dead, alive = (20.0, "desk-0", "dead"), (125.0, "desk-0", "alive")

    assert _told((1.0, "desk-0", "alive"), dead, (40.0, "desk-3", ""), alive, crash=True) == []
    assert _told((1.0, "desk-0", "alive"), dead, (25.0, "desk-3", ""), alive, crash=True) != []
    assert _told((1.0, "desk-0", "alive"), dead, alive, crash=False) != []
