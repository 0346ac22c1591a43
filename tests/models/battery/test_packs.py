"""Packs: what a phone, a tablet and a laptop give, and how a pack scales its cell."""

from __future__ import annotations

import csv
import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from models.battery.circuit import circuit, rested
from models.battery.constant_power import constant_power
from models.battery.packs import LG_M50, PACKS, Pack, pack
from models.battery.protocol import Step, run

DATA = Path(os.environ.get("VILLAGETWIN_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))


@pytest.mark.parametrize(("kind", "low_wh", "high_wh"), [("phone", 15, 20), ("tablet", 28, 40), ("laptop", 50, 70)])
def test_packs_hold_what_such_devices_hold(kind, low_wh, high_wh):
    """Energies lie in the range of the devices sold; a pack knows its source."""
    assert low_wh <= PACKS[kind].energy_wh <= high_wh
    assert len(PACKS[kind].cell.source) > 40
    assert len(PACKS[kind].cell.pairs) >= 2


def test_a_phone_lasts_as_long_as_phones_do():
    """At 1.2 W, a light day, a phone lasts 12 to 15 h; at 12 W it dies with a tenth of its charge left at -10 C, with
    less than a twentieth at 25 C."""
    phone = PACKS["phone"]
    rows = circuit(phone.cell, [25.0, 25.0, -10.0])
    moved = constant_power(rows, rested(phone.cell, np.ones(3)), [1.2, 12.0, 12.0], 1e9, phone.cell.v_min)
    assert 12.0 <= moved.elapsed_s[0] / 3600.0 <= 15.0
    assert moved.state.soc[1] < 0.05
    assert moved.state.soc[2] > 0.1


@pytest.mark.parametrize(
    ("group", "amps", "ambient_c"),
    [
        ("T25/cRate_0p5C", 2.5, 24.6),
        ("T25/cRate_2C", 10.0, 24.6),
        ("T10/cRate_1C", 5.0, 9.5),
        ("T0/cRate_1C", 5.0, -0.5),
    ],
)
def test_the_laptop_cell_keeps_to_real_discharges(group, amps, ambient_c, physics):
    """Discharges of real LG M50 cells that the fit has seen, with self-heating from ambient: time to 3 V within 7 %,
    voltage within 50 mV (root mean square), temperature rise within 3 K."""
    path = DATA / "cell_tests" / "lgm50_ratetest.csv.gz"
    if not path.exists():
        pytest.skip(f"no data at {path}")
    with gzip.open(path, "rt") as file:
        rows = [row for row in csv.DictReader(file) if row["group"] == group]
    t, i, v = (np.array([float(row[name]) for row in rows]) for name in ("timeVec", "currVec", "volVec"))
    loaded = np.flatnonzero((i < -0.1) & (v > LG_M50.v_min))
    times, volts = t[loaded] - t[loaded[0]], v[loaded]
    temps = np.array([float(rows[k]["cellTemp_mid"] or "nan") for k in loaded])
    soc0 = float(np.interp(v[0], LG_M50.ocv_v, LG_M50.ocv_soc))
    course = run(LG_M50, [Step("cc", amps, ambient_c=ambient_c)], soc0, temp0_c=ambient_c, sample_s=times)
    late, volts_off = abs(course.t_end_s / times[-1] - 1.0), np.sqrt(np.nanmean((course.v_v - volts) ** 2))
    cell, note = "measured LG M50 cells", "the shipped laptop cell; seen in its fit"
    physics("battery: LG M50 rate tests, time to 3 V", cell, 100.0 * late, "%", 3.0, note=note)
    physics("battery: LG M50 rate tests, voltage, rms", cell, 1e3 * volts_off, "mV", 40.0, note=note)
    np.testing.assert_allclose(course.t_end_s, times[-1], rtol=0.07)
    assert volts_off <= 0.050
    np.testing.assert_allclose(np.nanmax(course.temp_c) - ambient_c, np.nanmax(temps) - ambient_c, rtol=0, atol=3.0)


def test_a_pack_of_more_cells_is_one_cell_of_less_load():
    """Twice the cells at twice the power last as long; voltage goes with series, current and charge with parallel."""
    double = Pack(LG_M50, series=2, parallel=1.5)
    np.testing.assert_allclose(double.energy_wh, 3.0 * Pack(LG_M50).energy_wh)
    np.testing.assert_allclose(double.of_cell_w(30.0), 10.0)
    np.testing.assert_allclose(double.terminal_v(3.7), 7.4)
    np.testing.assert_allclose(double.terminal_a(2.0), 3.0)
    np.testing.assert_allclose(double.terminal_v(3.7) * double.terminal_a(2.0), 3.7 * 2.0 * double.cells)
    np.testing.assert_allclose(double.capacity_ah, 1.5 * LG_M50.capacity_ah)


def test_scaling_to_an_energy_and_mains():
    """A kind is scaled to an energy by its strings; 0 W.h is a device on mains, which has no battery."""
    scaled = pack("laptop", 70.0)
    assert scaled is not None
    np.testing.assert_allclose(scaled.energy_wh, 70.0)
    assert scaled.series == 3
    assert pack("phone") is PACKS["phone"]
    assert pack("laptop", 0.0) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pack("fridge"), r"kind is 'fridge'; allowed: phone, tablet, laptop"),
        (lambda: pack("phone", -1.0), r"energy_wh is -1.0"),
        (lambda: pack("phone", float("nan")), r"energy_wh is nan"),
        (lambda: Pack(LG_M50, series=0), r"series is 0"),
        (lambda: Pack(LG_M50, parallel=float("inf")), r"parallel is inf"),
    ],
)
def test_packs_that_cannot_be_are_refused(make, message):
    """One line names the field, its value and what is allowed."""
    with pytest.raises(ValueError, match=message):
        make()
