"""The configuration: what a scenario may say, and one clear line for what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from policies.config import HotstuffConfig
from policies.consensus import HotStuff, replicated_log
from scenarios.schema import ScenarioError, build

CONF = Path(__file__).parents[4] / "conf" / "policy" / "consensus" / "hotstuff.yaml"


def scenario(committee: int = 4, **consensus: Any) -> dict[str, Any]:
    """Return a scenario as plain data."""
    return {
        "name": "x", "fleet": {"committee": committee},
        "policy": {"consensus": {"protocol": "hotstuff", **consensus}},
    }  # fmt: skip


def test_one_word_chooses_the_protocol() -> None:
    """``protocol: hotstuff`` is its parameters with their defaults, and the log that they ask for."""
    config = build(scenario()).policy.consensus

    assert config == HotstuffConfig()
    assert isinstance(replicated_log(config, ("a", "b", "c", "d")), HotStuff)


def test_defaults_are_as_in_the_configuration_file() -> None:
    """The file in conf says what the struct says."""
    assert msgspec.yaml.decode(CONF.read_bytes(), type=HotstuffConfig) == HotstuffConfig()


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (scenario(3), "fleet.committee=3: to bear f=1 liars it needs n >= 3f + 1 = 4 members"),
        (scenario(timeout_max_s=0.5), "policy.consensus.timeout_s=1.0: expected <= timeout_max_s=0.5"),
        (scenario(chain=4), "policy.consensus.chain=4: expected one of 2, 3"),
        (scenario(tenur=4), "policy.consensus.tenur: no such field; did you mean 'tenure'?"),
    ],
)
def test_what_cannot_be_is_refused_with_one_line(data: dict[str, Any], line: str) -> None:
    """The field, the value, and what is allowed."""
    with pytest.raises(ScenarioError) as refused:
        build(data)

    assert str(refused.value) == line
