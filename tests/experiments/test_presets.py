"""Every preset of conf/ is one that loads."""

from __future__ import annotations

import pytest

from experiments.compose import CONF, compose_plain
from scenarios import fleet
from scenarios.schema import build

ROOTS = ("config", "fleet")
PRESETS = sorted(f"{path.parent.relative_to(CONF)}={path.stem}" for path in CONF.rglob("*.yaml") if path.parent != CONF)
NEEDS = {
    "fleet=desks_": ["scenario=four_desks"],  # machines of one host
    "policy/committee=council": ["scenario=council"],
    "adversary=two_faced": ["scenario=byzantine_committee"],
    "faults=desks_": ["scenario=four_desks"],
    "faults=committee": ["scenario=byzantine_committee"],
    "workload=azure": ["workload.path=trace.csv"],
    "workload=recorded": ["workload.path=requests.parquet"],
}
"""What a preset is made for."""


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_loads(preset: str) -> None:
    """Alone, or with what it is made for, it is within the ranges of all fields."""
    needs = next((words for begin, words in NEEDS.items() if preset.startswith(begin)), [])
    plain = compose_plain([preset, *needs])
    if plain.get("kind") == "fleet":
        assert fleet.build(plain).name == plain["name"]
    else:
        assert build(plain).name == plain["name"]
