"""A process that is launched again in the twin: it is there when it is warm, not when its time down is over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.results import load
from scenarios.hosts import UNMEASURED, read_profile
from scenarios.schema import build, to_plain
from scenarios.starts import all_ready_s, ready_s
from sim.village import simulate
from sim.world import World

START = {"start_s": 2.0, "weights_s": 0.2, "load_bytes_per_s": 1e8, "warm_s": 0.7, "warm_again_s": 0.1}


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """(seconds, node) of every process that began after the world did."""
    found: list[tuple[float, str]] = []
    before = World.start

    def noting(self: World, node: Any) -> None:
        if self.engine.now:
            found.append((int(self.engine.now) / 1e9, node.name))
        before(self, node)

    monkeypatch.setattr(World, "start", noting)
    return found


@pytest.mark.parametrize("start", [{}, START], ids=["none measured", "measured"])
def test_a_restart_takes_what_the_profile_says(
    tmp_path: Path, begun: list[tuple[float, str]], start: dict[str, float]
) -> None:
    """A desk down for a second is back a second and a start later; the manifest says how long all take together."""
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({**UNMEASURED, **start, "hash": "made-up"}))
    plain = to_plain(load("four_desks", duration_s=12.0, workload__requests=4))
    crash = {"kind": "crash", "at_s": 4.0, "node": "desk-3", "down_s": 1.0}
    scenario = build({**plain, "profile": str(path), "faults": [crash]})
    found = simulate(scenario)

    profile = read_profile(str(path))
    assert found.manifest["ready_s"] == all_ready_s(scenario, profile, 4)
    assert begun == [(pytest.approx(5.0 + ready_s(scenario, profile, "torch", again=True), abs=0.05), "desk-3")]
