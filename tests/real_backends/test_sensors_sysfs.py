"""sysfs, over trees that look like real machines' and lose parts while they are read."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from real_backends.sensors.composite import Composite
from real_backends.sensors.sysfs import LAST_RESORT, SysfsSource, zone_field


def tree(root: Path, **files: Any) -> Path:
    """Write files of /sys/class: names with ``__`` between folders."""
    for name, value in files.items():
        path = root / "class" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


def phone(root: Path) -> Path:
    """A phone at 57 % on a charger, warm, on Wi-Fi with mobile data up as well."""
    return tree(
        root,
        power_supply__battery__type="Battery", power_supply__battery__capacity=57,
        power_supply__battery__status="Charging", power_supply__battery__temp=312,
        power_supply__usb__type="USB", power_supply__usb__online=1,
        thermal__thermal_zone0__type="cpu-0-0-usr", thermal__thermal_zone0__temp=44100,
        thermal__thermal_zone1__type="gpuss-0-usr", thermal__thermal_zone1__temp=41000,
        thermal__thermal_zone2__type="quiet-therm-adc", thermal__thermal_zone2__temp=36200,
        thermal__thermal_zone3__type="soc", thermal__thermal_zone3__temp=57,
        thermal__thermal_zone4__type="vbat", thermal__thermal_zone4__temp=4112000,
        thermal__thermal_zone5__type="battery", thermal__thermal_zone5__temp=33900,
        thermal__thermal_zone6__type="modem-lte-sub6", thermal__thermal_zone6__temp=91000,
        thermal__cooling_device0__type="cpu-cooling",
        net__wlan0__operstate="up", net__wlan0__speed=-1,
        net__rmnet_data0__operstate="unknown", net__lo__operstate="unknown",
    )  # fmt: skip


def laptop(root: Path) -> Path:
    """A laptop with two batteries, unplugged, on a cable; the mouse has a battery as well."""
    return tree(
        root,
        power_supply__BAT0__type="Battery", power_supply__BAT0__capacity=80, power_supply__BAT0__energy_full=30000000,
        power_supply__BAT0__status="Discharging", power_supply__BAT0__present=1,
        power_supply__BAT1__type="Battery", power_supply__BAT1__capacity=20, power_supply__BAT1__energy_full=10000000,
        power_supply__BAT1__status="Unknown",
        power_supply__BAT2__type="Battery", power_supply__BAT2__present=0,
        power_supply__AC__type="Mains", power_supply__AC__online=0,
        power_supply__hidpp_battery_0__type="Battery", power_supply__hidpp_battery_0__scope="Device",
        power_supply__hidpp_battery_0__capacity=5,
        thermal__thermal_zone0__type="acpitz", thermal__thermal_zone0__temp=27800,
        thermal__thermal_zone1__type="x86_pkg_temp", thermal__thermal_zone1__temp=52000,
        thermal__thermal_zone2__type="iwlwifi_1", thermal__thermal_zone2__temp=61000,
        hwmon__hwmon3__name="coretemp", hwmon__hwmon3__temp1_input=53000, hwmon__hwmon3__temp2_input=51000,
        hwmon__hwmon4__name="nvme", hwmon__hwmon4__temp1_input=70000,
        net__enp0s31f6__operstate="up", net__enp0s31f6__speed=1000, net__wlp2s0__operstate="down",
        net__docker0__operstate="up", net__docker0__speed=10000,
    )  # fmt: skip


def test_a_phone_is_read_in_the_policys_units(tmp_path: Path) -> None:
    """Percent, tenths and thousandths become shares and degrees; volts and a state of charge are no temperatures."""
    assert SysfsSource(phone(tmp_path)).read(0) == {
        "has_battery": True, "soc": 0.57, "plugged": True, "battery_c": 31.2, "die_c": 44.1, "skin_c": 36.2,
        "on_wifi": True,
    }  # fmt: skip


def test_a_laptop_is_read_with_its_own_batteries_only(tmp_path: Path) -> None:
    """Two batteries weigh by their energy; an empty bay, the mouse and the disk's heat do not count."""
    assert SysfsSource(laptop(tmp_path)).read(0) == {
        "has_battery": True, "soc": 0.65, "plugged": False, "die_c": 53.0, "on_wifi": True,
        "bandwidth_bytes_per_s": 125e6,
    }  # fmt: skip


def test_a_desktop_without_a_battery_says_so(tmp_path: Path) -> None:
    """An empty folder of supplies is knowledge; no folder is none. The board's sensor stands in for the chip's."""
    (tmp_path / "class" / "power_supply").mkdir(parents=True)
    tree(tmp_path, thermal__thermal_zone0__type="acpitz", thermal__thermal_zone0__temp=27800)

    assert SysfsSource(tmp_path).read(0) == {"has_battery": False, "die_c": 27.8}
    assert SysfsSource(tmp_path / "nowhere").read(0) == {}


def test_mobile_data_alone_is_no_wifi(tmp_path: Path) -> None:
    """Neither by the interface's name nor by the kernel's word for it."""
    assert SysfsSource(tree(tmp_path / "a", net__rmnet0__operstate="up")).read(0) == {"on_wifi": False}
    modem = tree(tmp_path / "b", net__wwp0s20__operstate="up", net__wwp0s20__uevent="DEVTYPE=wwan\nINTERFACE=wwp0s20")
    assert SysfsSource(modem).read(0) == {"on_wifi": False}


@pytest.mark.parametrize(
    ("kind", "field"),
    [("x86_pkg_temp", "die_c"), ("cpu-thermal", "die_c"), ("cpu_thermal", "die_c"), ("soc-thermal", "die_c"),
     ("tsens_tz_sensor3", "die_c"), ("BIG", "die_c"), ("G3D", None), ("mtktscpu", "die_c"), ("gpu0", "die_c"),
     ("skin-therm", "skin_c"), ("TSKN", "skin_c"), ("quiet_therm", "skin_c"), ("mtktsbattery", "battery_c"),
     ("batt_temp", "battery_c"), ("soc", None), ("pm8998_vbat_low", None), ("ibat-high", None), ("bcl-lvl0", None),
     ("acpitz", LAST_RESORT), ("iwlwifi_1", None), ("pa_therm0", None), ("nvme", None)],
)  # fmt: skip
def test_zones_are_told_apart_by_type(kind: str, field: str | None) -> None:
    """Names of real vendors; what is not known gives nothing."""
    assert zone_field(kind) == field


@pytest.mark.parametrize("text", ["", "garbage", "0", "44", "-274000", "9999999999"])
def test_a_zone_that_gives_no_temperature_is_unknown(tmp_path: Path, text: str) -> None:
    """Empty, a stub, other units or beyond all temperatures: unknown and counted as gone, not an exception."""
    sensors = Composite([SysfsSource(phone(tmp_path))])
    assert sensors.read(0).die_c == 44.1
    for zone in ("thermal_zone0", "thermal_zone1"):
        (tmp_path / "class" / "thermal" / zone / "temp").write_text(text)

    assert math.isnan(sensors.read(1).die_c)
    assert sensors.gone == {"die_c": 1}


def test_what_vanishes_is_unknown_from_then_on_and_counted(tmp_path: Path) -> None:
    """Battery, zones and network go one after another; each reading that lacks a sensor counts once."""
    sensors = Composite([SysfsSource(phone(tmp_path))])
    assert sensors.read(0).soc == 0.57
    shutil.rmtree(tmp_path / "class" / "power_supply" / "battery")
    row = sensors.read(1)
    assert (row.has_battery, row.plugged, row.battery_c) == (True, False, 33.9)
    assert math.isnan(row.soc)
    shutil.rmtree(tmp_path / "class")
    row = sensors.read(2)

    assert (row.on_wifi, row.has_battery) == (False, True)
    assert all(math.isnan(value) for value in (row.soc, row.die_c, row.skin_c, row.battery_c))
    assert sensors.gone == {"battery": 2, "die_c": 1, "skin_c": 1, "battery_c": 1, "network": 1}
    assert set(sensors.missing) == {"metered", "link_speed", "screen", "idle", "clock", "load", "memory"}


def test_a_sensor_that_comes_back_is_read_again(tmp_path: Path) -> None:
    """A driver that hiccups costs the readings it missed and no more."""
    sensors = Composite([SysfsSource(phone(tmp_path))])
    file = tmp_path / "class" / "thermal" / "thermal_zone2" / "temp"
    file.unlink()
    assert math.isnan(sensors.read(0).skin_c)
    file.write_text("37000")
    assert sensors.read(1).skin_c == 37.0
    assert sensors.gone == {"skin_c": 1}
