"""The edge agent in the twin: its ladders of the fleet are those of the nodes, and the village lives with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest

from policies import port as p
from policies import village
from policies.config import EdgeConfig
from policies.edge import EdgeAgent, Limits, begin, ladder
from policies.edge.ladder import LadderState
from policies.readings import Readings
from scenarios.schema import build
from sim.fleet.ladders import Ladders
from sim.village import _Run, simulate

FLEET = {"phones": 24, "tablets": 3, "laptops": 6, "desktops": 4, "gpu_boxes": 1, "dedicated": 2, "committee": 3}
FAULTS = [{"kind": "churn", "mean_hours": 3, "down_median_s": 200}, {"kind": "crash", "at_s": 3000, "node": "leader"}]


def a_day(**changes: Any) -> dict[str, Any]:
    """Return three hours of a night in a hot town: batteries fall and fill, owners come and go, nodes crash."""
    requests = {"kind": "synthetic", "requests": 150, "prompt_tokens": 100, "new_tokens": 40}
    owners = {"ambient_c": 38.0, "spread_min": 60.0, "screen_minutes_per_day": 300.0}
    plain = {"name": "night", "duration_s": 3 * 3600.0, "start_minute": 1290, "owners": owners, "edge": True}
    return {**plain, "fleet": FLEET, "workload": requests, "faults": FAULTS, **changes}


@pytest.mark.parametrize("memory_share", [0.0, 0.6])
def test_a_nodes_ladder_is_its_row_of_the_fleets_at_every_tick(memory_share: float) -> None:
    """State and limits are equal to the bit on every node that is up, and most readings need not be given.

    Where owners use memory its rungs come and go; where none is said to, every device stays on its own.
    """
    run = _Run(build(a_day(owners={**a_day()["owners"], "memory_share": memory_share})), village.node)
    ladders = run.fleet.ladders
    assert ladders is not None
    compared: Counter[str] = Counter()
    stood: defaultdict[str, set[int]] = defaultdict(set)  # the rungs of memory that a node has been on
    given, give = Counter[str](), run.world.give

    def counted(node: Any, what: Any) -> None:
        given["all"] += what[0] == p.READINGS
        give(node, what)

    def compare(share: float, text: str) -> None:
        assert ladders.limits is not None
        for row, node in enumerate(run.world.nodes):
            if not node.up:
                compared["down"] += 1
                continue
            agent = node.cell.policy("edge")  # type: ignore[attr-defined]
            assert isinstance(agent, EdgeAgent)
            assert agent._ladder == LadderState(*(field[row] for field in ladders.state)), (text, node.name)
            assert agent.limits == Limits(*(field[row] for field in ladders.limits)), (text, node.name)
            compared["up"] += 1
            compared[f"mode {agent.limits.mode}"] += 1
            stood[node.name].add(int(agent._ladder.memory))

    run.world.give = counted  # type: ignore[method-assign]
    run.go(compare)

    assert compared["up"] + compared["down"] == 180 * 38
    assert compared["down"] > 20
    assert min(compared["mode 0"], compared["mode 1"], compared["mode 2"]) > 0
    assert 38 < given["all"] < compared["up"] / 10
    assert any(len(rungs) > 1 for rungs in stood.values()) == (memory_share > 0)


def test_a_village_with_the_edge_keeps_every_promise_and_believes_its_devices() -> None:
    """Checks hold, requests are answered, devices announce themselves, and the journals' header says so."""
    record = simulate(build(a_day()))
    phases = [row for row in record.tables["decisions"] if row[2] == "edge"]
    presence = [row for row in record.tables["decisions"] if row[2] == "edge_watch"]

    assert all(verdict is True for verdict in record.manifest["checks"].values()), record.manifest["checks"]
    assert record.summary["requests_answered"] > 0.9 * record.summary["requests_total"]
    assert {"edge", "edge_watch"} <= set(record.manifest["policies"])
    assert len({row[1] for row in phases}) > 4
    assert any('"silent"' in row[4] for row in presence)
    assert any('"parted"' in row[4] for row in presence)
    assert simulate(build(a_day())).digest == record.digest


def test_without_the_word_no_node_is_given_readings() -> None:
    """A village without the edge has no ladders and mounts no agent."""
    run = _Run(build(a_day(edge=False)), village.node)

    assert run.fleet.ladders is None
    assert "edge" not in run.mounted


def some_readings(soc: list[float], plugged: list[bool]) -> Readings:
    """Return readings of cool devices at these charges."""
    n, cool = len(soc), np.full(len(soc), 30.0)
    yes, no = np.full(n, True), np.full(n, False)
    return Readings(
        yes, np.array(soc), np.array(plugged), cool, cool, cool, yes, no, np.full(n, 1e7), no, np.full(n, 3600.0),
        np.full(n, 120.0), np.zeros(n), np.full(n, 16.0 * 2**30),
    )  # fmt: skip


def test_rows_are_named_where_rungs_or_limits_change_and_only_there() -> None:
    """All at first; then who crossed a rung, and who is plugged in or out where a rung binds only on the battery."""
    two = np.array([False, False])
    ladders = Ladders(EdgeConfig(), two, ~two, np.full(2, 16.0 * 2**30))

    assert ladders.move(some_readings([0.5, 0.3], [True, True])) == [0, 1]
    assert ladders.move(some_readings([0.6, 0.31], [False, True])) == []
    assert ladders.move(some_readings([0.35, 0.3], [False, True])) == [0]
    assert ladders.move(some_readings([0.35, 0.3], [False, False])) == [1]
    assert ladders.move(some_readings([0.41, 0.3], [False, False])) == []  # within the band
    assert ladders.limits is not None
    assert ladders.limits.mode.tolist() == [1, 1]


def test_a_restarted_device_has_forgotten_its_band() -> None:
    """Its row begins anew on the last readings, and no other row changes."""
    two, full = np.array([False, False]), np.full(2, 16.0 * 2**30)
    ladders = Ladders(EdgeConfig(), two, ~two, full)
    within = some_readings([0.42, 0.42], [False, False])
    for readings in (some_readings([0.35, 0.35], [False, False]), within):
        ladders.move(readings)
    assert ladders.state.battery.tolist() == [1, 1]
    ladders.restart(1, within)

    assert ladders.state.battery.tolist() == [1, 0]
    limits, state = ladder(begin(False, True), Readings(*(f[1] for f in within)), 16.0 * 2**30)
    assert ladders.limits is not None
    assert [f[1] for f in ladders.limits] == list(limits)
    assert [f[1] for f in ladders.state] == list(state)


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_the_default_day_stays_within_its_steps_with_the_edge() -> None:
    """Heartbeats of two minutes' leases keep the first village below three million port steps."""
    from experiments.compose import compose_plain

    record = simulate(build(compose_plain(["edge=true"])))

    assert record.summary["port_steps"] < 3e6
    assert record.summary["checks_broken"] == 0
