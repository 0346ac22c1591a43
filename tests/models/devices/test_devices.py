"""Tests of models.devices: the rows agree with each other and with the laws they feed; mixes draw what they say."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from models import devices, inference, power
from models.battery.packs import pack
from models.devices import rows
from models.thermal.bodies import NETWORKS, body_scale
from models.thermal.network import steady_c


def test_rows_are_many_named_once_and_sourced() -> None:
    """At least twenty devices of all five kinds, with unique names and a source each."""
    names = [row.name for row in devices.DEVICES]

    assert len(names) >= 20
    assert len(set(names)) == len(names)
    assert {row.kind for row in devices.DEVICES} == set(devices.KINDS)
    assert all(row.source for row in devices.DEVICES)


@pytest.mark.parametrize("row", devices.LIBRARY, ids=lambda row: row.name)
def test_rows_are_plausible(row: devices.DeviceRow) -> None:
    """Idle < sustained <= peak, shares are shares, and only portable devices have a battery."""
    assert 0.0 < row.idle_w < row.sustained_w <= row.peak_w
    assert 0.0 < row.eta <= 1.0
    assert 0.0 < row.mu <= 1.0
    assert 3e9 < row.mem_bytes_per_s < 1e13
    assert 3e10 <= row.flops < 1e16
    assert 2015 <= row.year <= 2025
    assert row.charger_w >= 5.0
    assert (row.battery_wh > 0.0) == (row.kind in ("phone", "tablet", "laptop"))


@pytest.mark.parametrize("row", devices.LIBRARY, ids=lambda row: row.name)
def test_sustained_power_is_sustained(row: devices.DeviceRow) -> None:
    """At 25 C of ambient and full load every device settles below its trip: sustained means not throttled."""
    kind = devices.KINDS[row.kind]
    draw = power.draw_w(row.idle_w, row.sustained_w, row.peak_w, kind.screen_w, 0, 1.0, 1.0)

    network, scale = NETWORKS[row.kind].network, body_scale(row.kind, row.sustained_w)
    die_c, *_ = steady_c(network, (float(draw.die_w), float(draw.board_w), 0.0), 25.0, scale)

    assert die_c < kind.trip_c - kind.hysteresis_k


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

    packs = [pack(row.pack, row.battery_wh) if row.battery_wh else None for row in devices.DEVICES]
    step_s = inference.decode_step_s(inference.SHAPES["llama-3.2-1b"], 16, devices.compute(table), 1, 256, head=True)

    for one, energy_wh in zip(packs, table.battery_wh.tolist(), strict=True):
        assert (one is None) == (energy_wh == 0.0)
        assert one is None or one.energy_wh == pytest.approx(energy_wh)
    assert step_s.shape == (len(table.name),)
    assert np.all((step_s > 1e-4) & (step_s < 1.0))


def test_by_kind_selects_and_names_its_choices() -> None:
    """All rows of a kind come back; an unknown kind is an error that lists the known ones."""
    assert sum(len(devices.by_kind(kind)) for kind in devices.KINDS) == len(devices.DEVICES)
    with pytest.raises(ValueError, match="kind is 'watch'; allowed: phone, tablet, laptop, desktop, gpu_box"):
        devices.by_kind("watch")


def test_the_library_is_wide_and_every_field_has_a_source() -> None:
    """At least fifty devices of every family, each of whose fields says where it comes from."""
    fields = {field.name for field in dataclasses.fields(devices.DeviceRow)} - {"name", "source", "sources"}

    assert len({row.name for row in devices.LIBRARY}) == len(devices.LIBRARY) >= 50
    assert {row.family for row in devices.LIBRARY} == set(devices.FAMILIES)
    assert {row.kind for row in devices.LIBRARY if row.family == "board"} == {"desktop"}
    for row in devices.LIBRARY:
        assert {field for field, source in row.sources.items() if source} == fields


def test_the_inventory_stays_as_it_was() -> None:
    """The devices a default day draws from are the first 35 of the library, in the order that seeds rely on."""
    assert devices.LIBRARY[:35] == devices.DEVICES
    assert [len(devices.by_kind(kind)) for kind in devices.KINDS] == [11, 3, 8, 5, 8]


def test_the_library_agrees_with_the_collected_rows(data_folder: Path) -> None:
    """Bandwidth, FLOPS, battery and peak power are those of the collected device rows, where both have the device."""
    both = {
        "Raspberry Pi 5 8GB": "Raspberry Pi 5", "Raspberry Pi 4B 8GB": "Raspberry Pi 4B",
        "Tensor G3 phone (Pixel 8 Pro)": "Tensor G3 (Pixel 8 Pro)", "Jetson Orin NX 16GB": "Jetson Orin NX 16GB",
        "DGX Spark GB10": "DGX Spark GB10",
        "Jetson AGX Orin 64GB": "Jetson AGX Orin 64GB", "MacBook Pro M3 Pro 18-core": "MacBook Pro M3 Pro 18-core GPU",
        "RTX 2080 Ti 11GB box": "RTX 2080 Ti", "RTX 5090 32GB box": "RTX 5090", "NVIDIA L40S 48GB": "L40S",
        "NVIDIA A100 80GB SXM": "A100 80GB SXM", "Mac Studio M3 Ultra 80-core": "Mac Studio M3 Ultra 80-core GPU",
    }  # fmt: skip
    with (data_folder / "inference_calibration" / "devices.csv").open() as file:
        collected = {row["device"]: row for row in csv.DictReader(file)}

    for theirs, name in both.items():
        row, ours = collected[theirs], devices.find(name)
        assert ours.mem_bytes_per_s == pytest.approx(1e9 * float(row["mem_bw_gbps"]))
        assert ours.flops == pytest.approx(1e12 * float(row["fp16_tflops_dense"]))
        assert ours.battery_wh == pytest.approx(float(row["battery_wh"]))
        assert ours.peak_w == pytest.approx(float(row["tdp_or_peak_w"]))


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("raspberry 5", "Raspberry Pi 5"), ("rtx4090", "RTX 4090"), ("iPhone 15", "Apple A17 Pro (iPhone 15 Pro)")],
)
def test_unknown_devices_are_refused_with_the_nearest(name: str, nearest: str) -> None:
    """A name that is not in the library is one line that names the nearest that is."""
    with pytest.raises(ValueError) as caught:
        devices.find(name)

    assert str(caught.value) == f"device {name!r} is not in the library; nearest: {nearest!r}"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("9 n", "9", "line 2: peak_w is '9'; allowed: a number and one of"),
        ("9 n", "nine n", "line 2: peak_w is 'nine n'; allowed: numbers from 0 up"),
        ("9 n", "nan n", "line 2: peak_w is 'nan n'; allowed: numbers from 0 up"),
        ("phone,phone", "watch,phone", "line 2: kind is 'watch'; allowed: phone, tablet"),
        ("14.2 s,", "-1 s,", "line 2: battery_wh is '-1 s'; allowed: numbers from 0 up"),
    ],
)
def test_a_bad_cell_is_named(old: str, new: str, words: str) -> None:
    """A number without a source, or no number, is refused with line, column and value."""
    path = Path(devices.__file__).parent / "library.csv"
    head, first, *_ = path.read_text().splitlines()
    assert old in first

    with pytest.raises(ValueError, match=f"^device library {words}"):
        rows.read_library(head + "\n" + first.replace(old, new, 1))


@pytest.mark.parametrize("name", devices.MIXES)
def test_a_mix_has_its_shares(name: str) -> None:
    """Kinds and, where the kind has all three, tiers have the shares the mix states; nothing is newer than the mix."""
    mix = devices.MIXES[name]
    share = devices.weights(mix)

    def of(**wanted: str) -> float:
        return float(sum(s for s, r in zip(share, devices.LIBRARY, strict=True)
                         if all(getattr(r, k) == v for k, v in wanted.items())))  # fmt: skip

    assert share.sum() == pytest.approx(1.0)
    for kind, wanted in mix.kinds.items():
        assert of(kind=kind) == pytest.approx(wanted)
    for tier, wanted in mix.tiers.items():
        assert of(kind="phone", tier=tier) == pytest.approx(wanted * mix.kinds["phone"])
    assert all(s == 0.0 for s, r in zip(share, devices.LIBRARY, strict=True) if r.year > mix.year)
    assert set(mix.sources) == {"kinds", "tiers", "life_years"}


def test_draws_are_keyed_by_device_and_follow_the_mix() -> None:
    """A device's model depends neither on how many are drawn nor on chunks; 100,000 draws are within 5 sigma."""
    n = 100_000
    drawn = devices.draw_mix(7, "global_2024", n)
    share = devices.weights(devices.MIXES["global_2024"])
    count = np.bincount(drawn, minlength=share.size)

    assert drawn.dtype == np.int64
    assert np.array_equal(devices.draw_mix(7, "global_2024", 10), drawn[:10])
    assert np.array_equal(devices.draw_mix(7, "global_2024", 500, first=1000), drawn[1000:1500])
    assert not np.array_equal(devices.draw_mix(8, "global_2024", n), drawn)
    assert np.all(np.abs(count - n * share) <= 5.0 * np.sqrt(n * share * (1.0 - share)) + 1e-9)


def test_columns_gather_the_rows() -> None:
    """Element i of every column is that of the library's row i asked for."""
    which = np.array([3, 100, 3, 40])
    gathered = devices.columns(which)

    for i, row in enumerate(which.tolist()):
        device = devices.LIBRARY[row]
        assert devices.KIND_NAMES[gathered.kind[i]] == device.kind
        assert devices.PACK_NAMES[gathered.pack[i]] == device.pack
        for field in ("idle_w", "screen_w", "charger_w", "exponent", "leak_w_per_k", "battery_wh", "year", "has_gpu"):
            assert getattr(gathered, field)[i] == getattr(device, field)
        assert gathered.trip_c[i] == devices.KINDS[device.kind].trip_c
    assert devices.compute(gathered).flops.shape == (4,)
    with pytest.raises(ValueError, match=r"^row 0\.\.999 is not in the library; allowed: 0 to 108$"):
        devices.columns([0, 999])


def test_a_mix_that_does_not_add_up_is_refused() -> None:
    """Shares that miss 1, unknown kinds, negative shares and missing sources are refused in one line."""
    good = devices.MIXES["global_2024"]
    for change, words in (
        ({"kinds": {"phone": 0.7}}, "kinds add to 0.7; allowed: 1"),
        ({"kinds": {"watch": 1.0}}, "kinds has 'watch'; allowed: phone"),
        ({"tiers": {"mid": 2.0, "high": -1.0}}, r"tiers\['high'\] is -1.0; allowed: numbers above 0"),
        ({"sources": {"kinds": "x", "tiers": "y"}}, "life_years has no source"),
    ):
        with pytest.raises(ValueError, match=f"^mix of world: {words}"):
            dataclasses.replace(good, **change)
    with pytest.raises(ValueError, match=r"^mix is 'mars'; allowed: global_2024"):
        devices.draw_mix(1, "mars", 3)
