"""The Termux reader over outputs made here in the formats of Termux:API and Android's dumpsys, whole and broken."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from real_backends.sensors import termux
from real_backends.sensors.composite import Composite
from real_backends.sensors.termux import TermuxSource, run_command

BATTERY = """{
  "health": "GOOD", "percentage": 83, "plugged": "PLUGGED_AC", "status": "CHARGING",
  "temperature": 31.400001525878906, "current": 412000
}"""
WIFI = """{
  "bssid": "02:00:00:00:00:00", "frequency_mhz": 5180, "ip": "192.0.2.17", "link_speed_mbps": 433,
  "network_id": 3, "rssi": -52, "ssid": "<unknown ssid>", "ssid_hidden": true, "supplicant_state": "COMPLETED"
}"""
POWER = """POWER MANAGER (dumpsys power)

Power Manager State:
  mWakefulness=Asleep
  mIsPowered=true
  mLastUserActivityTime=81234567 (654321 ms ago)
  mLastUserActivityTimeNoChangeLights=81134567 (754321 ms ago)

Display Power: state=OFF
"""
THERMAL = """IsStatusOverride: false
Thermal Status: 0
Cached temperatures:
	Temperature{mValue=99.0, mType=0, mName=CPU0, mStatus=0}
HAL Ready: true
Current temperatures from HAL:
	Temperature{mValue=38.5, mType=0, mName=CPU0, mStatus=0}
	Temperature{mValue=40.25, mType=0, mName=CPU7, mStatus=0}
	Temperature{mValue=39.0, mType=1, mName=GPU0, mStatus=0}
	Temperature{mValue=33.0, mType=2, mName=battery, mStatus=0}
	Temperature{mValue=0.0, mType=2, mName=subbattery, mStatus=0}
	Temperature{mValue=32.5, mType=3, mName=skin, mStatus=0}
	Temperature{mValue=NaN, mType=3, mName=back, mStatus=0}
	Temperature{mValue=55.0, mType=5, mName=modem, mStatus=0}
Current cooling devices from HAL:
	CoolingDevice{mValue=0, mType=2, mName=cpu0}
"""
CONNECTIVITY = """Active default network: 104
Current Networks:
  NetworkAgentInfo{network{100} handle{1} ni{MOBILE CONNECTED} nc{[ Transports: CELLULAR Capabilities: SUPL&INTERNET]}}
  NetworkAgentInfo{network{104} handle{2} ni{WIFI CONNECTED} nc{[ Transports: WIFI Capabilities: NOT_METERED&INTERNET]}}
"""
DENIED = "Permission Denial: can't dump power from from pid=1234, uid=10150 due to missing android.permission.DUMP"


class Device:
    """Answers commands with recorded text; a command it lacks is not there."""

    def __init__(self, **said: str) -> None:
        self.said = {name.replace("_", " ").replace("termux ", "termux-"): text for name, text in said.items()}
        self.asked: list[str] = []

    def __call__(self, command: Sequence[str]) -> str:
        name = " ".join(command)
        self.asked.append(name)
        if name not in self.said:
            raise FileNotFoundError(name)
        return self.said[name]


def device() -> Device:
    """A rooted phone: everything answers."""
    found = Device(dumpsys_power=POWER, dumpsys_thermalservice=THERMAL, dumpsys_connectivity=CONNECTIVITY)
    found.said |= {"termux-battery-status": BATTERY, "termux-wifi-connectioninfo": WIFI}
    return found


def test_a_rooted_phone_gives_all_but_load_and_clock() -> None:
    """In the policy's units; the hotter of two battery sensors counts, stubs and the cache do not."""
    source = TermuxSource(device())

    assert source.read(0) == {
        "has_battery": True, "soc": 0.83, "plugged": True, "battery_c": 33.0, "on_wifi": True,
        "bandwidth_bytes_per_s": 433 * 125_000.0, "screen_on": False, "idle_s": 654.321, "die_c": 40.25,
        "skin_c": 32.5, "metered": False,
    }  # fmt: skip
    assert Composite([source]).missing == ("clock", "load", "memory")


def test_a_plain_phone_gives_what_the_api_gives() -> None:
    """Denied dumps are missing sensors, and are not asked again."""
    phone = device()
    for command in list(phone.said):
        if command.startswith("dumpsys"):
            phone.said[command] = DENIED
    sensors = Composite([TermuxSource(phone)])
    phone.asked.clear()
    row = sensors.read(0)

    assert (row.soc, row.on_wifi, row.screen_on, row.metered) == (0.83, True, True, True)
    assert math.isnan(row.die_c)
    assert sensors.missing == ("die_c", "skin_c", "metered", "screen", "idle", "clock", "load", "memory")
    assert phone.asked == ["termux-battery-status", "termux-wifi-connectioninfo"]


MEMINFO = "MemTotal:        7654321 kB\nMemFree:          200000 kB\nMemAvailable:    3000000 kB\nBuffers: 1 kB\n"
STATUS = "Name:\tpython\nVmRSS:\t  500000 kB\nRssAnon:\t  400000 kB\nRssFile:\t  100000 kB\n"


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (MEMINFO + STATUS, {"memory_free_bytes": 3_400_000 * 1024.0}),
        (MEMINFO, {"memory_free_bytes": 3_000_000 * 1024.0}),
        (STATUS, {}),
        (MEMINFO.replace("MemAvailable", "MemAvail"), {}),
    ],
)
def test_free_memory_is_what_is_available_and_the_nodes_own(text: str, known: dict[str, float | bool]) -> None:
    """The kernel's own estimate, as of 3.14, and the pages that this node holds; of an older kernel nothing."""
    assert termux.memory(text) == known


def test_memory_alone_makes_no_termux_and_beside_the_rest_it_is_read() -> None:
    """Every Linux has a /proc/meminfo."""
    asks = f"cat /proc/meminfo /proc/{os.getpid()}/status"
    desk, phone = Device(), device()
    desk.said[asks] = phone.said[asks] = MEMINFO + STATUS
    with pytest.raises(OSError, match="termux: none of termux-battery-status"):
        TermuxSource(desk)

    assert TermuxSource(phone).read(0)["memory_free_bytes"] == 3_400_000 * 1024.0


def test_commands_that_stop_answering_are_unknown_and_counted() -> None:
    """The app is removed, or prints half a line: unknown from then on."""
    phone = device()
    sensors = Composite([TermuxSource(phone)])
    sensors.read(0)
    phone.said["termux-battery-status"] = BATTERY[:40]
    del phone.said["dumpsys thermalservice"]
    row = sensors.read(1)

    assert (row.has_battery, row.plugged) == (True, False)
    assert all(math.isnan(value) for value in (row.soc, row.die_c, row.skin_c, row.battery_c))
    assert sensors.gone == {"battery": 1, "die_c": 1, "skin_c": 1, "battery_c": 1}


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ('{"API_ERROR": "Wi-Fi is off"}', {}),
        ('{"supplicant_state": "DISCONNECTED", "link_speed_mbps": -1}', {"on_wifi": False}),
        ('{"supplicant_state": "COMPLETED", "link_speed_mbps": -1}', {"on_wifi": True}),
        ('{"supplicant_state": 7}', {}),
    ],
)
def test_wifi_that_is_off_is_known_to_be_off(text: str, known: dict[str, bool]) -> None:
    """Disconnected is an answer; an error is none."""
    assert termux.wifi_info(text) == known


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (
            '{"percentage": 50, "plugged": "UNPLUGGED", "temperature": 0.0}',
            {"has_battery": True, "soc": 0.5, "plugged": False},
        ),
        ('{"percentage": "50"}', {}),
        ('{"percentage": true, "plugged": null}', {}),
        ("{}", {}),
    ],
)
def test_a_battery_status_is_read_as_far_as_it_goes(text: str, known: dict[str, float | bool]) -> None:
    """Wrong types are no readings, and a status without any is no battery."""
    assert termux.battery_status(text) == known


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("mWakefulness=Awake\n", {"screen_on": True}),
        ("mWakefulness=Awake\nDisplay Power: state=DOZE\n", {"screen_on": False}),
        ("  lastUserActivityTime=81234567 (now)\n", {"idle_s": 0.0}),
        (DENIED, {}),
    ],
)
def test_power_dumps_of_other_versions(text: str, known: dict[str, float | bool]) -> None:
    """Without a display line wakefulness counts; an always-on display is off; "now" is no time at all."""
    assert termux.power(text) == known


def test_a_metered_default_network_is_metered() -> None:
    """The capabilities of the default network count, not another's; without one nothing is known."""
    assert termux.connectivity(CONNECTIVITY.replace("network: 104", "network: 100")) == {"metered": True}
    assert termux.connectivity(CONNECTIVITY.replace("network: 104", "network: none")) == {}
    assert termux.connectivity("Active default network: 9\n") == {}


@pytest.mark.parametrize("text", ["[]", "null", "3", '"x"', "{", ""])
def test_json_of_another_shape_is_no_reading(text: str) -> None:
    """Whatever a command prints, the source raises nothing."""
    phone = device()
    source = TermuxSource(phone)
    phone.said["termux-battery-status"] = phone.said["termux-wifi-connectioninfo"] = text

    assert "soc" not in source.read(0)


def test_a_machine_without_termux_is_refused_in_one_line() -> None:
    """Names the commands."""
    with pytest.raises(OSError, match="termux: none of termux-battery-status"):
        TermuxSource(Device())


def test_commands_are_run_and_their_failures_are_one_kind(tmp_path: Path) -> None:
    """Output comes back; a missing, failing or silent command is an OSError."""
    assert run_command(["echo", "yes"]) == "yes\n"
    for command in (["false"], [str(tmp_path / "nothing")]):
        with pytest.raises(OSError, match=r".+"):
            run_command(command)
