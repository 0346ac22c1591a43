"""Tests of models.radio: against the walks it was fitted to, a naive twin of the state machine, and the probes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.radio import RADIOS, Radio, active_w, burst_energy_j, find_tail, mean_power_w

SECONDS = st.floats(0.0, 60.0)


@pytest.mark.parametrize(("walk", "name"), [("mn", "5g_mmwave"), ("mi", "5g_mmwave_mi")])
def test_shipped_parameters_meet_the_walks(
    data_folder: Path, walk: str, name: str, physics: Callable[..., None]
) -> None:
    """The parameters shipped are within 12 % of the power measured on the walks, on average."""
    frame = pd.read_csv(data_folder / "radio_power" / f"{walk}_power_throughput_rsrp.csv.gz")
    columns = (frame[c].to_numpy(float) for c in ("downlink_Mbps", "uplink_Mbps", "nr_ssRsrp", "nr_ssSinr"))

    error = np.abs(active_w(RADIOS[name], *columns) / (frame["hardware_power"].to_numpy(float) / 1e3) - 1.0)

    print(f"{walk}: {100 * error.mean():.1f} %, worst tenth {100 * np.sort(error)[-len(error) // 10 :].mean():.1f} %")
    law, tenth = f"radio: 5G power ({walk} walk), shipped", 100.0 * np.sort(error)[-len(error) // 10 :].mean()
    note = f"the walk of its fit; worst tenth of seconds {tenth:.0f} %"
    physics(law, "measured walk", 100.0 * error.mean(), "%", 12.0, note=note)
    assert error.mean() < 0.12


@given(name=st.sampled_from(sorted(RADIOS)), gaps=st.lists(SECONDS, min_size=1, max_size=5), busy=st.floats(0.1, 10.0))
def test_bursts_add_up_to_the_state_machine(name: str, gaps: list[float], busy: float) -> None:
    """Closed-form bursts cost what a machine does that runs through promotion, burst, tail and idle event by event."""
    radio, power_w = RADIOS[name], 2.0
    before, total_j = np.inf, 0.0
    for gap in [*gaps, np.inf]:
        total_j += float(burst_energy_j(radio, busy, power_w, before, gap))
        before = gap

    naive_j, connected_for_s = 0.0, -1.0  # seconds of tail left; below 0: idle
    for gap in [*gaps, np.inf]:
        if connected_for_s < 0.0:
            naive_j += radio.promotion_s * radio.promotion_w
        naive_j += busy * power_w
        if gap > radio.tail_s:
            naive_j, connected_for_s = naive_j + radio.tail_s * radio.tail_w, -1.0
        else:
            naive_j, connected_for_s = naive_j + gap * radio.tail_w, radio.tail_s - gap

    assert total_j == pytest.approx(naive_j, rel=1e-12)


def test_the_tail_of_lte_dwarfs_a_small_burst() -> None:
    """One packet over 2012's LTE costs 12.6 J, nearly all tail, as Huang et al. measured."""
    energy_j = float(burst_energy_j(RADIOS["lte_2012"], 0.0, 0.0, np.inf, np.inf))

    assert energy_j == pytest.approx(11.576 * 1.06 + 0.26 * 1.21)
    assert energy_j == pytest.approx(12.6, abs=0.05)


@given(name=st.sampled_from(sorted(RADIOS)), burst_s=st.floats(0.1, 5.0), period_s=st.floats(5.0, 600.0))
def test_mean_power_lies_between_rest_and_burst(name: str, burst_s: float, period_s: float) -> None:
    """The mean of periodic bursts is their energy over the period; rarer bursts cost less power."""
    radio = RADIOS[name]
    power_w = active_w(radio, 20.0, 1.0)
    mean_w = float(mean_power_w(radio, burst_s, power_w, period_s))
    gap_s = period_s - burst_s

    assert mean_w * period_s == pytest.approx(float(burst_energy_j(radio, burst_s, power_w, gap_s, gap_s)))
    assert float(mean_power_w(radio, burst_s, power_w, 10.0 * period_s)) < mean_w
    assert float(mean_power_w(radio, burst_s, power_w, 0.5 * burst_s)) == pytest.approx(float(power_w))


@given(
    name=st.sampled_from(sorted(RADIOS)), down=st.floats(0.0, 3000.0), up=st.floats(0.0, 200.0),
    rsrp=st.floats(-140.0, -40.0), sinr=st.floats(-20.0, 40.0),
)  # fmt: skip
def test_more_data_and_weaker_signals_cost_more(name: str, down: float, up: float, rsrp: float, sinr: float) -> None:
    """Power never falls with throughput, nor rises with signal strength, and is above nothing even far outside."""
    radio = RADIOS[name]
    here = float(active_w(radio, down, up, rsrp, sinr))

    assert here > 0.0
    assert float(active_w(radio, down + 10.0, up, rsrp, sinr)) >= here
    assert float(active_w(radio, down, up + 10.0, rsrp, sinr)) >= here
    assert float(active_w(radio, down, up, rsrp + 5.0, sinr)) <= here


def test_jax_gives_the_same_power() -> None:
    """All laws run jitted under jax.numpy and agree with NumPy."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    radio, down = RADIOS["5g_mmwave"], np.array([0.0, 100.0, 2000.0])

    def law(mbps: np.ndarray) -> np.ndarray:
        return mean_power_w(radio, 1.0, active_w(radio, mbps, 1.0, -95.0, 5.0), 20.0)

    np.testing.assert_allclose(jax.jit(law)(down), law(down), rtol=1e-13)


@pytest.mark.parametrize(
    ("file", "active", "expected_s", "within_s"),
    [
        ("S20US_162_Verizon_4G", 4, 10.3, 0.6),
        ("SALMONBERRY_299_Verizon_NSAlow", None, 10.3, 0.6),
        ("SALMONBERRY_299_Verizon_NSAmmwave", None, 10.3, 0.6),
        ("S20US_TMobile_SA", None, 10.3, 0.6),
        ("RASPBERRY_670_TMobile_NSA", None, 10.3, 0.6),
        ("RASPBERRY_670_TMobile_NSA", 4, 5.0, 0.6),
    ],
)
def test_tails_are_found_in_probes(
    data_folder: Path, file: str, active: int | None, expected_s: float, within_s: float
) -> None:
    """The jump of the round trip gives inactivity timers of about 10.3 s, 5 s for T-Mobile's 4G."""
    frame = pd.read_csv(data_folder / "radio_power" / "rrc_probe_rtt_vs_idle_gap.csv.gz")
    rows = frame[(frame["file"] == file) & (frame["KeepOrDrop"] == "YEP")]
    if active is not None:
        rows = rows[rows["active_radio_type"] == active]

    tail = find_tail(rows["interval"], rows["RTT1"])

    print(f"{file} {active or ''}: {tail.tail_s:.2f} s, {tail.before_ms:.0f} ms before, {tail.after_ms:.0f} ms after")
    assert tail.tail_s == pytest.approx(expected_s, abs=within_s)
    assert tail.after_ms > 3.0 * tail.before_ms


def test_a_known_tail_is_found_exactly() -> None:
    """In made-up probes with a jump at 7.05 s the jump is found between the neighbouring gaps."""
    gap_s = np.repeat(np.arange(0.0, 20.0, 0.1), 3)

    tail = find_tail(gap_s, np.where(gap_s < 7.05, 80.0, 700.0))

    assert tail.tail_s == pytest.approx(7.05)
    assert (tail.before_ms, tail.after_ms) == pytest.approx((80.0, 700.0))


def test_bad_input_is_one_line() -> None:
    """Too few probes, and a radio with a negative or missing number, are refused: field, value, what is allowed."""
    with pytest.raises(ValueError, match=r"^gap_s holds 2 usable probes of 2 gaps; allowed: at least 10 of 2$"):
        find_tail([0.0, 1.0, np.nan], [50.0, 60.0, 70.0])
    with pytest.raises(ValueError, match=r"^radio: tail_w is -1.0; allowed: numbers from 0 up$"):
        replace(RADIOS["lte"], tail_w=-1.0)
    with pytest.raises(ValueError, match=r"^radio: rsrp_w_per_db is nan; allowed: numbers$"):
        Radio(**{**vars(RADIOS["lte"]), "rsrp_w_per_db": float("nan")})
