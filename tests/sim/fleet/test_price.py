"""The price of energy: held through a window, paid for what comes from the mains, and absent where there is none."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from scenarios.fleet import FleetRecord, build, price_at
from scenarios.record import FLEET_TABLES, WHERE_PRICED, frame
from scenarios.schema import ScenarioError
from sim.fleet import stock
from sim.fleet.day import Share
from sim.fleet.record import record
from sim.fleet.run import run_fleet
from tests.sim.fleet.fleets import HOUR_S, lived, small

BY_HOUR = tuple(hour / 100 for hour in range(24))
KWH_MJ = 3.6e9


def test_a_price_is_held_from_its_hours_windows_start() -> None:
    """Each window's signals hold the price of the hour it starts in, on the run's clock, which turns at midnight."""
    hourly = small(price_per_kwh=BY_HOUR, start_minute=1290)
    held = Share(hourly, [], stock.roster(hourly))

    assert [held.signals(number, 1.0).price for number in range(11)] == [0.21] * 2 + [0.22] * 4 + [0.23] * 4 + [0.0]
    assert price_at(msgspec.structs.replace(hourly, window_s=3 * HOUR_S), 1) == 0.0
    assert price_at(small(), 0) is None


def test_what_the_mains_give_is_paid() -> None:
    """Of each kind and window the cost is its energy from the mains times the price, to the rounding of each device."""
    rows = lived(price_per_kwh=BY_HOUR).windows

    assert {row["price_per_kwh"] for row in rows} == {0.21, 0.22, 0.23, 0.0}
    for row in rows:
        expected = row["plug_mj"] / KWH_MJ * row["price_per_kwh"] * 1e6
        assert row["cost_micro"] == pytest.approx(expected, rel=1e-6, abs=0.5 * row["devices"])
    assert sum(row["cost_micro"] for row in rows if row["kind"] == "phone") > 10_000


def test_a_price_moves_nothing_else() -> None:
    """With prices all other columns and the devices are as without; at zero nothing is paid, below it owners are."""
    without, with_one, free, paid = (
        lived(duration_s=HOUR_S, price_per_kwh=prices) for prices in ((), BY_HOUR, (0.0,) * 24, (-0.1,) * 24)
    )
    others = [{name: row[name] for name in row if name not in WHERE_PRICED} for row in with_one.windows]

    assert others == without.windows
    assert with_one.devices["plug_j"].tolist() == without.devices["plug_j"].tolist()
    assert {row["cost_micro"] for row in free.windows} == {0}
    assert all(row["cost_micro"] <= 0 for row in paid.windows)


def test_columns_are_there_only_where_a_price_is() -> None:
    """A run without prices has the columns and figures of before; one with prices has two columns and a figure more."""
    bare, priced = (record(lived(duration_s=HOUR_S, price_per_kwh=prices)) for prices in ((), BY_HOUR))
    columns = FLEET_TABLES["fleet"]

    assert tuple(frame("fleet", bare.tables["fleet"]).columns) == columns
    table = frame("fleet", priced.tables["fleet"])
    assert tuple(table.columns) == (*columns, *WHERE_PRICED)
    assert set(priced.summary) - set(bare.summary) == {"plug_cost"}
    assert priced.summary["plug_cost"] == pytest.approx(table["cost_micro"].sum() * 1e-6)


def test_chunks_workers_and_interruptions_do_not_change_the_cost(tmp_path: Path) -> None:
    """Costs are the same for small and large chunks, two workers, and a run that goes on from its checkpoint."""
    scenario = small(price_per_kwh=BY_HOUR, duration_s=HOUR_S, record=FleetRecord(histories=0, checkpoint_h=0.5))
    whole = run_fleet(scenario)

    def stop(share: float, text: str) -> None:
        if share > 0.6:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run_fleet(scenario, tmp_path, stop)
    resumed = run_fleet(scenario, tmp_path)
    assert resumed.resumed_at_s == HOUR_S / 2

    for other in (resumed, *(run_fleet(msgspec.structs.replace(scenario, **way)) for way in CUTS)):
        assert other.digest == whole.digest
        assert [row["cost_micro"] for row in other.windows] == [row["cost_micro"] for row in whole.windows]


CUTS = ({"chunk": 70}, {"chunk": 100, "processes": 2})


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ([0.3] * 23, "price_per_kwh: has 23 values; expected none, or 24, one an hour"),
        ([0.3] * 23 + [float("nan")], "price_per_kwh"),
        ([0.3] * 23 + [1e6], "price_per_kwh"),
        ("dear", "price_per_kwh"),
    ],
)
def test_a_schedule_that_is_none_is_refused(prices: object, said: str) -> None:
    """Too few hours, no number, or one out of range: refused with the field's name."""
    with pytest.raises(ScenarioError, match=said):
        build({"name": "priced", "kind": "fleet", "price_per_kwh": prices})
