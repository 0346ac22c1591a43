"""Ageing: the published formulas under held conditions, equivalent time under others, and two outside figures."""

from __future__ import annotations

import csv
import gzip
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.battery.ageing import Age, capacity_share, end_capacity_ah, new, resistance_share, rest, use
from models.battery.packs import PACKS

DATA = Path(os.environ.get("VILLAGETWIN_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
DAY_S = 86_400.0


def test_held_conditions_give_the_published_formula(physics):
    """A year at 3.9 V and 35 C and 1,000 A.h of the 2.05 A.h cell, written out by hand."""
    age = use(rest(new(1), 3.9, 35.0, 365.0 * DAY_S), 1000.0, 2.05, 3.7, 0.8)
    kelvin = 308.15
    lost = (7.543 * 3.9 - 23.75) * 1e6 * np.exp(-6976 / kelvin) * 365.0**0.75
    lost += (7.348e-3 * (3.7 - 3.667) ** 2 + 7.600e-4 + 4.081e-3 * 0.8) * np.sqrt(1000.0)
    grown = (5.270 * 3.9 - 16.32) * 1e5 * np.exp(-5986 / kelvin) * 365.0**0.75
    grown += (2.153e-4 * (3.7 - 3.725) ** 2 - 1.521e-5 + 2.798e-4 * 0.8) * 1000.0
    by_hand = "Schmalstieg et al. 2014, written out"
    physics("ageing: loss of capacity", by_hand, abs((1.0 - capacity_share(age)[0]) / lost - 1.0), "rel.", 1e-12)
    physics("ageing: growth of resistance", by_hand, abs((resistance_share(age)[0] - 1.0) / grown - 1.0), "rel.", 1e-12)
    np.testing.assert_allclose(1.0 - capacity_share(age), lost, rtol=1e-12)
    np.testing.assert_allclose(resistance_share(age) - 1.0, grown, rtol=1e-12)


@given(
    st.floats(3.0, 4.3), st.floats(-10.0, 55.0), st.floats(0.0, 1e8), st.floats(0.0, 1.0), st.floats(0.0, 5e3),
    st.floats(0.0, 1.0),
)  # fmt: skip
def test_splitting_changes_rounding_only_and_ageing_never_heals(volts, temp_c, dt_s, share, through_ah, depth):
    """Equivalent time makes advance(a + b) = advance(a), then advance(b); no part ever falls."""
    start = use(rest(new(1), 3.8, 25.0, 1e6), 30.0, 4.5, 3.8, 0.5)
    whole = use(rest(start, volts, temp_c, dt_s), through_ah, 4.5, volts, depth)
    first = use(rest(start, volts, temp_c, share * dt_s), share * through_ah, 4.5, volts, depth)
    second = use(rest(first, volts, temp_c, dt_s - share * dt_s), through_ah - share * through_ah, 4.5, volts, depth)
    for name in Age._fields:
        np.testing.assert_allclose(getattr(second, name), getattr(whole, name), rtol=1e-9, atol=1e-12)
        assert getattr(whole, name)[0] >= getattr(start, name)[0] - 1e-12


def test_heat_voltage_depth_and_time_age_faster():
    """More of any stress is more loss; a cell stored below 3.15 V keeps what it has."""
    base = rest(new(1), 3.8, 25.0, 100 * DAY_S).calendar_loss
    assert rest(new(1), 4.1, 25.0, 100 * DAY_S).calendar_loss > base
    assert rest(new(1), 3.8, 40.0, 100 * DAY_S).calendar_loss > base
    assert rest(new(1), 3.0, 25.0, 100 * DAY_S).calendar_loss == 0.0
    assert use(new(1), 500.0, 4.5, 3.8, 0.9).cycle_loss > use(new(1), 500.0, 4.5, 3.8, 0.4).cycle_loss
    np.testing.assert_allclose(rest(new(1), 3.8, 25.0, 100 * DAY_S, factor=0.5).calendar_loss, 0.5 * base)


def test_the_age_of_a_batch_is_that_of_its_rows():
    """Rows with their own conditions do not know each other."""
    volts, temps = np.array([3.0, 3.7, 4.2]), np.array([10.0, 25.0, 45.0])
    batch = rest(new(3), volts, temps, 30 * DAY_S)
    for row in range(3):
        alone = rest(new(1), volts[row], temps[row], 30 * DAY_S)
        assert alone.calendar_loss[0] == batch.calendar_loss[row]


@pytest.mark.parametrize(
    ("depth", "factor", "expected"), [(0.6, 1.0, 0.816), (1.0, 1.0, 0.722), (1.0, 0.7, 0.806), (0.6, 0.7, 0.871)]
)
def test_eight_hundred_cycles_against_eu_2023_1670(depth, factor, expected, physics):
    """EU 2023/1670 asks phones for at least 80 % after 800 cycles. The published cell of 2014 keeps 81.6 % in cycles of
    60 % (a phone's day) but 72.2 % in full ones, and would fail; our phone pack's factor of 0.7 keeps 80.6 %."""
    share = float(capacity_share(use(new(1), 800 * 2 * 4.5, 4.5, 3.7, depth, factor))[0])
    whose = "phone pack (factor 0.7 chosen for it)" if factor == 0.7 else "the published cell"
    law = f"ageing: lost in 800 cycles of {100 * depth:.0f} %, {whose}"
    physics(law, "EU 2023/1670: at least 80 % left", 100.0 * (1.0 - share), "%", 20.0)
    np.testing.assert_allclose(share, expected, atol=5e-4)
    assert PACKS["phone"].ageing_factor == 0.7


def nasa() -> dict[str, np.ndarray]:
    """Return each cell's capacities in the order of its discharges."""
    path = DATA / "cell_tests" / "nasa_capacity_by_cycle.csv.gz"
    if not path.exists():
        pytest.skip(f"no data at {path}")
    cells: dict[str, list[float]] = defaultdict(list)
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            cells[row["cell"]].append(float(row["capacity_Ah"] or "nan"))
    return {name: np.array(values) for name, values in cells.items()}


def test_fade_per_deep_cycle_is_of_the_order_of_the_nasa_cells(physics):
    """B0025 and B0027 (24 C) lose 0.121 and 0.063 % of the start per deep discharge over their first 28. The law,
    not fitted to them, gives 0.167 %: 1.4 and 2.6 times that; the square root makes it high over so few."""
    measured = [(q[:4].mean() - q[-4:].mean()) / q[:4].mean() / len(q) for q in (nasa()["B0025"], nasa()["B0027"])]
    law = float(use(new(1), 28 * 2 * 1.85, 2.0, 3.6, 0.92).cycle_loss[0]) / 28
    for fade in measured:
        physics("ageing: fade per deep cycle, law over cell", "NASA cells B0025, B0027", law / fade, "times", 3.0)
        assert 0.0005 <= fade <= 0.0020
        assert 1.0 <= law / fade <= 3.0


def test_end_capacity_of_nasa_cells_from_their_first_half(physics):
    """From the first half of its discharges a cell's last capacity is told within 3.1 % in the median, 4.5 % on average
    (asked for: 5 %), 12 of 16 within 5 %; B0038 and B0051, whose conditions changed, are off by 9 and 22 %."""
    errors = {}
    for name, measured in nasa().items():
        there = np.flatnonzero(np.isfinite(measured) & (measured > 0.5))
        half = measured[: len(measured) // 2]
        if np.count_nonzero(half > 0.5) < 3:
            continue
        end = float(np.median(measured[there[-3:]]))
        errors[name] = abs(end_capacity_ah(half, int(there[-2]) + 1, 2.0) / end - 1.0)
    found = np.array(list(errors.values()))
    off, near = 100.0 * found, np.count_nonzero(found <= 0.05)
    note = f"median {np.median(off):.1f} %; {near} of {len(found)} cells within 5 %"
    law = "ageing: end capacity from the first half of cycles"
    physics(law, "measured NASA cells", off.mean(), "%", 5.0, worst=off.max(), note=note)
    assert len(found) >= 14
    assert np.median(found) <= 0.035
    assert np.mean(found) <= 0.05
    assert np.count_nonzero(found <= 0.05) >= 12
    assert found.max() <= 0.23


@pytest.mark.parametrize("level", [0.55, 1.6])
def test_what_a_cell_gave_under_other_conditions_says_nothing_of_the_last(level):
    """Capacity that steps and stays is another load or temperature: its law is that of what follows. A discharge that
    failed is no step."""
    number = np.arange(1, 41)
    fading = 1.1 * (1.0 - 0.02 * np.sqrt(number))
    stepped = np.where(number <= 15, level, 1.0) * fading
    single = np.where(number == 15, level, 1.0) * fading
    alone = end_capacity_ah(np.where(number <= 15, np.nan, fading), 80, 2.0)
    assert end_capacity_ah(stepped, 80, 2.0) == alone
    for told in (alone, end_capacity_ah(single, 80, 2.0)):
        assert told == pytest.approx(1.1 * (1.0 - 0.02 * np.sqrt(80)), rel=0.02)


def test_an_end_cannot_be_told_from_nothing():
    """Fewer than three usable capacities are refused in one line."""
    with pytest.raises(ValueError, match=r"capacity_ah has 2 usable values; allowed: 3 or more"):
        end_capacity_ah([1.8, float("nan"), 1.79, 0.05], 100, 2.0)


def test_amounts_that_cannot_be_are_refused():
    """Negative time, charge or depth are refused by name."""
    with pytest.raises(ValueError, match=r"dt_s is -1.0"):
        rest(new(1), 3.8, 25.0, -1.0)
    with pytest.raises(ValueError, match=r"through_ah is -2.0"):
        use(new(1), -2.0, 4.5, 3.8, 0.5)
