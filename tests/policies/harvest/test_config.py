"""The configuration of harvest: one field names the rule, conf/ says what the schema says, mistakes are one line."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from experiments.compose import compose_plain
from policies.config import (
    BoincConfig,
    FederatedConfig,
    HarvestConfig,
    HarvestRules,
    PolicyConfig,
    PredecessorConfig,
    PredictiveConfig,
)
from policies.harvest import Devices, make
from scenarios.schema import ScenarioError, build, to_plain
from tests.policies.harvest.histories import GOOD

KINDS = {
    "documented": HarvestConfig, "predecessor": PredecessorConfig, "boinc": BoincConfig, "federated": FederatedConfig,
    "predictive": PredictiveConfig,
}  # fmt: skip


@pytest.mark.parametrize("rule", KINDS)
def test_a_choice_of_conf_is_the_schemas_default_of_its_rule(rule: str) -> None:
    """Each rule's file says exactly what its class says, every field named."""
    plain = compose_plain([f"policy/harvest={rule}"])

    assert build(plain).policy.harvest == KINDS[rule]()
    assert set(plain["policy"]["harvest"]) == {f.name for f in msgspec.structs.fields(KINDS[rule])} | {"rule"}


@pytest.mark.parametrize(
    ("choice", "kind"),
    [("generous", HarvestConfig), ("strict", HarvestConfig), ("always", HarvestConfig),
     ("predictive_eager", PredictiveConfig), ("predictive_compute", PredictiveConfig)],
)  # fmt: skip
def test_other_choices_are_variants_of_a_rule(choice: str, kind: type[Any]) -> None:
    """What is chosen by name builds a policy that decides."""
    config = build(compose_plain([f"policy/harvest={choice}"])).policy.harvest

    assert type(config) is kind
    policy = make(config)
    decision, _ = policy.decide(policy.init(Devices(False, True)), GOOD, 0.0)
    assert float(decision.bandwidth_bytes_per_s) > 0.0


@pytest.mark.parametrize("config", [kind() for kind in KINDS.values()])
def test_a_rule_survives_its_plain_form(config: HarvestRules) -> None:
    """Its name travels with its fields, so that a journal's header builds the same policy."""
    scenario = build({"name": "t", "policy": {"harvest": msgspec.to_builtins(config)}})

    assert scenario.policy == PolicyConfig(harvest=config)
    assert build(to_plain(scenario)) == scenario
    assert make(scenario.policy.harvest).config == config


BAD = [
    ({"rule": "solar"}, "rule='solar': expected one of documented, predecessor, boinc, federated, predictive"),
    ({"rule": "boinc", "min_battery": 0.2}, "policy.harvest.min_battery: no such field"),
    ({"rule": "boinc", "max_ncpus_pct": 0}, "policy.harvest.max_ncpus_pct=0: expected `float` > 0.0"),
    ({"rule": "federated", "severe_skin_c": float("nan")}, "policy.harvest.severe_skin_c=nan"),
    ({"rule": "predictive", "throttle_temp_c": 40}, "=(45.0, 40.0, 65.0): expected values that do not fall"),
    ({"rule": "predictive", "stop_hazard_per_h": 0.1}, "stop_hazard_per_h=0.1: expected >= start_hazard_per_h=0.31"),
    ({"rule": "predecessor", "hour_start": 7}, "hour_start=7.0: expected another hour than hour_end"),
    ({"dwell_min": -1}, "policy.harvest.dwell_min=-1: expected `float` >= 0.0"),
    ({"drain_s": float("inf")}, "policy.harvest.drain_s=inf: expected a finite number"),
]


@pytest.mark.parametrize(("bad", "says"), BAD, ids=[says for _, says in BAD])
def test_a_wrong_configuration_is_one_line(bad: dict[str, Any], says: str) -> None:
    """An unknown rule, another rule's field, a value out of range or limits that contradict each other."""
    with pytest.raises(ScenarioError) as refused:
        build({"name": "t", "policy": {"harvest": bad}})

    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_limits_without_a_rule_are_the_documented_ones() -> None:
    """Scenarios written before there was a choice mean what they meant."""
    scenario = build({"name": "t", "policy": {"harvest": {"max_cpu": 0.25}}})

    assert scenario.policy.harvest == HarvestConfig(max_cpu=0.25)
