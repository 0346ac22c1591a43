"""Long campaigns: the correct policies of every arena, seed after seed, on all cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.hunt.arenas import NAMES

SEEDS = {
    "raft": 100_000, "hotstuff": 30_000, "hotstuff3": 30_000, "pbft": 40_000, "registry": 20_000,
    "council": 3_000, "council_raft": 2_000, "council_pbft": 3_000, "tasks": 20_000, "village": 2_000,
    "village_hotstuff": 1_000, "fleet": 1_000,
}  # fmt: skip
"""By arena; the others get `OTHERS`. A night's work on two cores, most of it agreement's: 100,000 seeds of Raft, and
as many of protocols that bear liars with at most f of them."""
OTHERS = 5_000


@pytest.mark.nightly
@pytest.mark.parametrize("arena", NAMES)
def test_correct_policies_raise_no_alarm(
    arena: str, tmp_path: Path, record_property: Callable[[str, Any], None]
) -> None:
    """No promise breaks, no digest differs in a second run, the canary is found, and what is rare was seen."""
    seeds = SEEDS.get(arena, OTHERS)
    words = [arena, f"seeds={seeds}", f"jobs={os.cpu_count() or 1}", f"out={tmp_path / 'hunt'}", "--json", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.cli", "hunt", *words], capture_output=True, text=True, check=False
    )
    found = json.loads(done.stdout)
    record_property("seeds", found["seeds"])
    for figure in ("seeds_per_core_s", "steps", "simulated_h", "checks_share", "doubled"):
        record_property(f"{arena}.{figure}", found[figure])

    assert (found["bad"], found["found"], found["mismatches"]) == ([], [], [])
    assert found["seeds"] == seeds
    assert done.returncode == 0
