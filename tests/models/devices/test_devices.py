"""Tests of models.devices: the rows agree with each other and with the laws they feed."""

from __future__ import annotations

import numpy as np
import pytest

from models import battery, devices, inference, power, thermal


def test_rows_are_many_named_once_and_sourced() -> None:
    """At least twenty devices of all five kinds, with unique names and a source each."""
    names = [row.name for row in devices.DEVICES]

    assert len(names) >= 20
    assert len(set(names)) == len(names)
    assert {row.kind for row in devices.DEVICES} == set(devices.KINDS)
    assert all(row.source for row in devices.DEVICES)


@pytest.mark.parametrize("row", devices.DEVICES, ids=lambda row: row.name)
def test_rows_are_plausible(row: devices.DeviceRow) -> None:
    """Idle < sustained <= peak, shares are shares, and only portable devices have a battery."""
    assert 0.0 < row.idle_w < row.sustained_w <= row.peak_w
    assert 0.0 < row.eta <= 1.0
    assert 0.0 < row.mu <= 1.0
    assert 1e10 < row.mem_bytes_per_s < 1e13
    assert 1e11 < row.flops < 1e16
    assert (row.battery_wh > 0.0) == (row.kind in ("phone", "tablet", "laptop"))


@pytest.mark.parametrize("row", devices.DEVICES, ids=lambda row: row.name)
def test_sustained_power_is_sustained(row: devices.DeviceRow) -> None:
    """At 25 C of ambient and full load every device settles below its trip: sustained means not throttled."""
    kind = devices.KINDS[row.kind]
    draw = power.draw_w(row.idle_w, row.sustained_w, row.peak_w, kind.screen_w, 0, 1.0, 1.0)

    die_c, _ = thermal.steady(thermal.body(row.kind, row.sustained_w), draw.die_w, draw.board_w, 25.0)

    assert float(die_c) < kind.trip_c - kind.hysteresis_k


def test_table_holds_the_rows() -> None:
    """Row i of every array is device i."""
    table = devices.table()

    for i, row in enumerate(devices.DEVICES):
        assert table.name[i] == row.name
        assert table.kind[i] == row.kind
        for field in ("mem_bytes_per_s", "flops", "ram_bytes", "battery_wh", "peak_w", "eta", "mu", "cores"):
            assert getattr(table, field)[i] == getattr(row, field)


def test_table_feeds_the_laws() -> None:
    """Packs and inference times come out of the table for all devices at once."""
    table = devices.table()

    packs = battery.pack("nmc", table.battery_wh)
    step_s = inference.decode_step_s(
        inference.SHAPES["llama-3.2-1b"], 16, devices.compute(table), 1, 256, head=True
    )

    assert np.array_equal(packs.capacity_ah > 0, table.battery_wh > 0)
    assert step_s.shape == (len(table.name),)
    assert np.all((step_s > 1e-4) & (step_s < 1.0))


def test_by_kind_selects_and_names_its_choices() -> None:
    """All rows of a kind come back; an unknown kind is an error that lists the known ones."""
    assert sum(len(devices.by_kind(kind)) for kind in devices.KINDS) == len(devices.DEVICES)
    with pytest.raises(ValueError, match="kind is 'watch'; allowed: phone, tablet, laptop, desktop, gpu_box"):
        devices.by_kind("watch")
