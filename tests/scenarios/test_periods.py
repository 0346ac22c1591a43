"""Times of the configuration have lower bounds that mean something, and every preset keeps to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from scenarios.fleet import FleetScenario
from scenarios.schema import Scenario, ScenarioError, build
from scenarios.trial import Trial

NO_PERIODS = {"until_s", "spread_min"}
"""What is held against another field and not against the clock, and a standard deviation."""


def structs(kind: Any, seen: set[Any]) -> Iterator[type[msgspec.Struct]]:
    """Yield every struct that may be part of a type, once."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in seen:
        seen.add(kind)
        yield kind
        for field in msgspec.structs.fields(kind):
            yield from structs(field.type, seen)
    for inner in getattr(kind, "__args__", ()) + ((kind.__origin__,) if hasattr(kind, "__metadata__") else ()):
        yield from structs(inner, seen)


def times() -> dict[str, Any]:
    """Return each field that is a time, by struct and name, with its type."""
    seen: set[Any] = set()
    found = [struct for root in (Scenario, FleetScenario, Trial) for struct in structs(root, seen)]
    units = ("_s", "_ms", "_ns", "_min", "_h", "_hours", "_days")
    return {
        f"{struct.__name__}.{field.name}": field.type
        for struct in found
        for field in msgspec.structs.fields(struct)
        if field.name.endswith(units) and "_per_" not in field.name and field.name not in NO_PERIODS
    }


def allows(kind: Any, value: float) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.parametrize("name", sorted(times()))
def test_a_time_that_may_not_be_nothing_may_not_be_next_to_nothing(name: str) -> None:
    """Where 0 is refused, so is a nanosecond: nodes would do nothing else, and runs would not end."""
    kind = times()[name]
    nothing = {"low": 1e-9} if "dict" in str(kind) else 1e-9
    assert allows(kind, {"low": 0.0} if "dict" in str(kind) else 0.0) or not allows(kind, nothing)


def test_there_are_times_to_look_at() -> None:
    """The walk over the types reaches every family."""
    for name in ("CoordinationConfig.lease_s", "RaftConfig.heartbeat_s", "Scenario.reading_s", "Replay.every_s"):
        assert name in times()
    assert len(times()) > 60


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"policy": {"coordination": {"lease_s": 1e-9}}}, "policy.coordination.lease_s=1e-09: expected `float` >= 0.5"),
        ({"policy": {"consensus": {"heartbeat_s": 0}}}, "policy.consensus.heartbeat_s=0: expected `float` >= 0.001"),
        ({"workload": {"kind": "synthetic", "retry_s": 0.01}}, "workload.retry_s=0.01: expected `float` >= 0.1"),
        (
            {"workload": {"kind": "synthetic", "deadline_s": {"low": 1e-9}}},
            "workload.deadline_s.low=1e-09: expected `float` >= 0.1",
        ),
        ({"faults": [{"kind": "cascade", "at_s": 1, "group": "phone", "step_s": 1e-9}]},
         "faults[0].step_s=1e-09: expected `float` >= 0.001"),
    ],
)  # fmt: skip
def test_the_line_names_the_field_the_value_and_what_is_allowed(data: dict[str, Any], line: str) -> None:
    """One line for the user, as for any other range."""
    with pytest.raises(ScenarioError) as refused:
        build(data)
    assert str(refused.value) == line
