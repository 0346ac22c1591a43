"""What a node of a local run is: the same to its own process and to the twin's node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from experiments.results import load
from models.inference import SHAPES
from policies.port import Policy
from policies.village import NodeSpec, node
from real_backends.specs import node_kinds, node_spec
from scenarios.hosts import PACED, UNMEASURED
from scenarios.schema import Shaped
from sim.village import simulate

DESK = SHAPES["desk-tiny"]
PREFILL_S = 2e-5  # a token and layer
MEASURED = {"spec": "desk-tiny", "prefill_s_token_layer": PREFILL_S, "prefill_fit_error": 0.05, "hash": "made-up"}


def known_flops(folder: Path, profile: dict[str, Any]) -> dict[str, list[float]]:
    """Return what nodes of either world know of their chips, the second of two desks being twice as slow."""
    path = folder / "profile.json"
    path.write_text(json.dumps({**UNMEASURED, **profile}))
    short: dict[str, Any] = {"duration_s": 1.0, "workload__requests": 1}
    scenario = load("four_desks", profile=str(path), **short)
    fleet = msgspec.structs.replace(scenario.fleet, shaped={"desk-1": Shaped(pacing=2.0)})
    scenario = msgspec.structs.replace(scenario, fleet=fleet)
    real = [node_spec(scenario, name).flops for name in node_kinds(scenario)]
    twin: dict[str, float] = {}

    def mount(spec: NodeSpec) -> dict[str, Policy]:
        twin[spec.me] = spec.flops
        return node(spec)

    simulate(scenario, policy=mount)
    return {"real": real[:2], "twin": [twin["desk-0"], twin["desk-1"]]}


def test_a_measured_chip_is_known_to_its_node(tmp_path: Path) -> None:
    """In prompts a token takes two operations a weight of a layer, in the time that profile and pacing say."""
    known = known_flops(tmp_path, MEASURED)

    reached = 2.0 * DESK.active_params() / PREFILL_S
    assert known["real"] == known["twin"] == pytest.approx([reached, reached / 2.0])


@pytest.mark.parametrize(
    "profile",
    [
        {},
        {**PACED, "spec": "desk-tiny", "hash": "made-up"},
        {**MEASURED, "spec": "somebody's"},
        {**MEASURED, "spec": ["desk-tiny"]},
        {**MEASURED, "prefill_s_token_layer": 0.0},
    ],
)
def test_a_chip_that_nobody_measured_stays_unknown(tmp_path: Path, profile: dict[str, Any]) -> None:
    """Assumed numbers, those of workers that only hold their time, and a fit without layers say nothing."""
    assert known_flops(tmp_path, profile) == {"real": [0.0, 0.0], "twin": [0.0, 0.0]}
