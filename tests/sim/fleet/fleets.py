"""Small fleets for the tests of `sim.fleet`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from scenarios.fleet import FleetRecord, FleetScenario, Work
from sim.fleet.run import FleetResult, run_fleet

HOUR_S = 3600.0
SMALL = FleetScenario(
    name="small", devices=600, duration_s=3 * HOUR_S, start_minute=1290, processes=1, chunk=4000,
    time_zones_h=(0.0, 5.5), record=FleetRecord(histories=8), work=Work(tflop_per_s=150.0),
)  # fmt: skip
"""Three hours about 22:00, when harvest opens."""


def small(**changes: Any) -> FleetScenario:
    """Return the small fleet with some fields changed."""
    return msgspec.structs.replace(SMALL, **changes)


def lived(**changes: Any) -> FleetResult:
    """Run the small fleet with some fields changed."""
    return run_fleet(small(**changes))


def table_bytes(result: FleetResult, folder: Path) -> bytes:
    """Return the file of a result's histories."""
    result.histories.save(folder / "table.parquet")
    return (folder / "table.parquet").read_bytes()
