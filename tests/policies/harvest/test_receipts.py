"""Receipts: a fleet's columns are what each device's own agent announces."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import port as p
from policies.cell import Cell
from policies.harvest import HarvestAgent, HarvestReceipt, make, no_tally, settle
from policies.harvest.receipts import Receipts
from policies.port import NS_PER_S
from policies.readings import Decision, Row
from policies.wire import encode
from tests.policies.harvest.histories import GOOD, RULES, columns, histories

decode = msgspec.msgpack.Decoder(HarvestReceipt).decode


def none_lent(rows: int) -> Decision:
    """Return the decision that holds before the first reading."""
    zero = np.zeros(rows)
    return Decision(zero > 0, zero, zero, zero, np.zeros(rows, dtype=np.int8))


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_fleets_receipts_are_its_agents(rule: str, data: st.DataObject) -> None:
    """Row by row, start, end, compute-seconds and reason are those that the device's own agent leaves."""
    config, devices, history = data.draw(histories(rule, rows_max=3))
    rows = len(devices.dedicated)
    policy = make(config)
    state, now_s = policy.init(devices), 0.0
    before, tally = none_lent(rows), no_tally(none_lent(rows))
    cells = []
    for k in range(rows):
        agent = HarvestAgent(
            config, NS_PER_S, dedicated=bool(devices.dedicated[k]), has_battery=bool(devices.has_battery[k]),
            flops=float(devices.flops[k]),
        )  # fmt: skip
        cells.append(Cell({"harvest": agent}, f"n{k}", (), seed=1, keys=None))  # type: ignore[arg-type]
        cells[-1].step(0, 0, (p.START, "", {}, 0))

    for k, (dt_s, fleet) in enumerate(history):
        dt_s = dt_s if k else 0.0
        now_s += dt_s
        after, state = policy.decide(state, columns(fleet), dt_s)
        receipts, tally = settle(tally, before, after, columns(fleet), now_s, dt_s)
        before = after
        for row, cell in enumerate(cells):
            given_ = (p.READINGS, "harvest", encode(Row(*fleet[row])))
            effects = cell.step(int(now_s) * NS_PER_S, 0, given_)
            told = [decode(e[3]) for e in effects if e[0] == p.DECIDE and e[2] == "harvest_receipt"]
            assert len(told) == int(receipts.ended[row])
            for mine in told:
                theirs = [float(column[row]) for column in receipts[1:5]]
                assert [mine.started_s, mine.ended_s, mine.compute_s, mine.reason] == pytest.approx(theirs)


def test_a_session_is_interrupted_by_its_owner_alone() -> None:
    """Pick-up (between two readings too), unplugging and leaving the Wi-Fi interrupt; heat and the clock do not."""
    ends: list[tuple[dict[str, Any], bool]] = [
        ({"screen_on": True, "idle_s": 0.0}, True), ({"plugged": False}, True), ({"idle_s": 30.0}, True),
        ({"die_c": 70.0}, False), ({"on_wifi": False}, True), ({"local_minute": 720.0}, False),
        ({"plugged": False, "has_battery": False}, False), ({}, False),
    ]  # fmt: skip
    rows = len(ends)
    lent = none_lent(rows)._replace(contribute=np.ones(rows, dtype=bool), compute_share=np.full(rows, 0.5))
    after = none_lent(rows)._replace(contribute=np.array([not change for change, _ in ends]))
    readings = columns([GOOD._replace(**change) for change, _ in ends])

    receipts, tally = settle(no_tally(lent), lent, after, readings, 120.0, 60.0)

    assert isinstance(receipts, Receipts)
    assert receipts.interrupted.tolist() == [expected for _, expected in ends]
    assert receipts.compute_s.tolist() == [30.0] * rows
    assert tally.compute_s.tolist() == [0.0] * (rows - 1) + [30.0]
