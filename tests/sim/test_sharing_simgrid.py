"""Fluid sharing against a public flow-level simulator, by its recorded answers; the file says how they were made."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from sim.sharing import MODES, Planned, completion_times

RECORD = json.loads((Path(__file__).parent / "data" / "simgrid_flows.json").read_text())


@pytest.mark.parametrize("mode", MODES)
def test_ends_are_those_of_simgrid(mode: str) -> None:
    """On 16 random platforms a mode, every flow takes as long as in SimGrid 3.32, to 1e-9 of its duration.

    The bar is 1e-6 for the plain and the RTT-weighted mode, and 1 % for LV08.
    """
    cases: list[dict[str, Any]] = [case for case in RECORD["cases"] if case["mode"] == mode]
    assert len(cases) == 16
    for case in cases:
        flows = [
            Planned(path, size, start_s, back, cap_per_s=rate or math.inf)
            for start_s, path, size, back, rate in case["flows"]
        ]
        ends = completion_times({name: (link[0], link[1]) for name, link in case["links"].items()}, flows, mode)
        took_s = [end_s - flow.start_s for end_s, flow in zip(ends.finished_s, flows, strict=True)]
        want_s = [end_s - flow.start_s for end_s, flow in zip(case["finished_s"], flows, strict=True)]

        assert ends.mode == mode
        assert took_s == pytest.approx(want_s, rel=1e-9)
