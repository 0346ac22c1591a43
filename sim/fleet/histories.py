"""The table ``histories`` of a fleet's run: every reading of its sampled devices, window by window."""

from __future__ import annotations

from typing import Any

import numpy as np

from policies.readings import HARVEST_STATES
from scenarios.fleet import FleetScenario
from scenarios.record import frame
from sim.fleet.window import Trace

STATES = np.array(HARVEST_STATES, dtype=object)


def history(scenario: FleetScenario, devices: Any, number: int, trace: Trace) -> Any:
    """Return window ``number`` of the table, a DataFrame: a row a reading and device, states after its interval."""
    readings, rows = trace.soc.shape
    at_s = (number * readings + np.arange(readings)) * scenario.reading_s
    columns: dict[str, Any] = {name: column.ravel() for name, column in trace._asdict().items()}
    columns |= {"time_s": np.repeat(at_s, rows), "device": np.tile(devices, readings)}
    return frame("histories", {**columns, "state": STATES[columns["state"].astype(np.int64)]})
