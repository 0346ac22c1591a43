"""Every preset of conf/ is one that can be chosen and passes the schema."""

from __future__ import annotations

import pytest

from experiments.compose import CONF, build, compose_plain, groups, root_of
from scenarios.fleet import FleetScenario
from scenarios.schema import Scenario

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


def test_every_choice_is_a_preset() -> None:
    """None that the command line offers is left out below."""
    assert [f"{group}={name}" for group, names in sorted(groups().items()) for name in names] == PRESETS
    assert len(PRESETS) > 20


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_loads(preset: str) -> None:
    """Alone, or with what it is made for, it is within the ranges of all fields: a village's, or a fleet's."""
    words = [preset, *next((words for begin, words in NEEDS.items() if preset.startswith(begin)), [])]
    plain = compose_plain(words)
    made = build(plain)

    assert type(made) is (FleetScenario if root_of(words) == "fleet" else Scenario)
    assert made.name == plain["name"]
