"""The edge's arena: watch and agent keep their promises, and each defect breaks its own."""

from __future__ import annotations

import msgspec
import pytest

from experiments.hunt.arenas import arena
from experiments.hunt.swarm import draw
from scenarios import faults as f
from scenarios.trial import Trial

EDGE = arena("edge")

CASES: dict[str, Trial] = {
    "g21_alive": Trial(
        arena="edge", nodes=3, requests=0, storm_s=15.0, calm_s=5.0, faults=(f.Crash(at_s=5.0, node="n2", down_s=8.0),)
    ),
    "g21_room": Trial(arena="edge", nodes=3, requests=10, storm_s=5.0, calm_s=5.0),
}


@pytest.mark.parametrize("defect", EDGE.defects)
def test_a_defect_breaks_its_promise_where_the_right_policy_keeps_it(defect: str) -> None:
    """In a small trial the defect is caught by the check that must catch it, and the right policy by none."""
    found = EDGE.run(msgspec.structs.replace(CASES[defect], policy=defect))

    assert found.check == EDGE.expects[defect], found.why
    assert "n2" in found.why
    assert EDGE.run(CASES[defect]).check == ""


@pytest.mark.parametrize("seed", range(1, 11))
def test_the_edge_keeps_its_promises_in_storms(seed: int) -> None:
    """Whatever the swarm draws, nothing raises an alarm, and devices served."""
    outcome = EDGE.run(draw(EDGE, EDGE.shape, seed))

    assert outcome.check == "", outcome.why
    assert outcome.sometimes["a_device_served"]


def test_a_device_that_finds_no_member_is_not_back() -> None:
    """Liveness can fail: without calm after a partition, a device without a lease is named."""
    apart = f.Partition(at_s=1.0, for_s=30.0, group=("n2",))
    outcome = EDGE.run(Trial(arena="edge", nodes=3, requests=0, storm_s=20.0, calm_s=0.0, faults=(apart,)))

    assert outcome.check == "devices_come_back"
    assert "n2 is connecting" in outcome.why
