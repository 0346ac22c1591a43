"""An Android device from inside Termux: Termux:API's commands, and ``dumpsys`` where the device allows it.

``termux-battery-status`` and ``termux-wifi-connectioninfo`` (package ``termux-api`` and the app Termux:API) give
charge, plug, battery temperature, Wi-Fi and link speed. ``dumpsys`` needs the permission DUMP (granted
over adb, or root): ``power`` gives screen and last touch, ``thermalservice`` the thermal HAL's temperatures (types as
in android.hardware.thermal: 0 CPU, 1 GPU, 2 battery, 3 skin, 9 NPU), ``connectivity`` whether the network is metered.
Free memory is the kernel's, which every app may read; it alone makes no Termux. What is denied when the source is
opened is not asked again.

A temperature of exactly 0 is a stub of the vendor's (some devices list sensors they do not have) and counts as missing.
The time since the last touch is counted by Android's uptime, which stands still in deep sleep, so the true one is
longer. A command takes 0.1 to 1 s and the node waits for it: keep ``reading_s`` well above that.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from real_backends.sensors.fields import Partial

Run = Callable[[Sequence[str]], str]
"""Runs a command and returns what it printed; raises OSError where that failed."""

TIMEOUT_S = 2.0  # Termux:API hangs for ever where its app is not installed
BYTES_PER_S_PER_MBPS = 125_000.0
THERMAL_TYPES = {0: "die_c", 1: "die_c", 2: "battery_c", 3: "skin_c", 9: "die_c"}
_TEMPERATURE = re.compile(r"Temperature\{mValue=(-?[\d.]+|NaN), mType=(\d+),")
_TOUCH = re.compile(r"astUserActivityTime\S*=\d+ \((?:(\d+) ms ago|now)\)")
_DISPLAY = re.compile(r"Display Power: state=(\w+)")
_WAKEFULNESS = re.compile(r"mWakefulness=(\w+)")
_AVAILABLE = re.compile(r"^MemAvailable:\s+(\d+) kB$", re.MULTILINE)
_OWN = re.compile(r"^RssAnon:\s+(\d+) kB$", re.MULTILINE)
_DEFAULT_NETWORK = re.compile(r"Active default network: (\d+)")


def run_command(command: Sequence[str]) -> str:
    """Run a command.

    Raises:
        OSError: not there, denied, failed, or silent for `TIMEOUT_S`.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    except subprocess.SubprocessError as error:
        raise OSError(str(error)) from None
    return done.stdout


class TermuxSource:
    """Reads an Android device.

    Args:
        run: runs a command.

    Raises:
        OSError: not one of the commands answers: this is no Termux.
    """

    def __init__(self, run: Run = run_command) -> None:
        self._run = run
        readers: tuple[tuple[tuple[str, ...], Callable[[str], Partial]], ...] = (
            (("termux-battery-status",), battery_status),
            (("termux-wifi-connectioninfo",), wifi_info),
            (("dumpsys", "power"), power),
            (("dumpsys", "thermalservice"), thermal),
            (("dumpsys", "connectivity"), connectivity),
            (("cat", "/proc/meminfo", f"/proc/{os.getpid()}/status"), memory),
        )
        opened = [(command, parse, self._ask(command, parse)) for command, parse in readers]
        self._readers = [(command, parse) for command, parse, given in opened if given]
        self.fields = frozenset(field for _, _, given in opened for field in given)
        if self.fields <= {"memory_free_bytes"}:
            raise OSError("termux: none of termux-battery-status, termux-wifi-connectioninfo and dumpsys answers")

    def read(self, now_ns: int) -> Partial:
        """Ask every command that answered when the source was opened."""
        found: dict[str, float | bool] = {}
        for command, parse in self._readers:
            for field, value in self._ask(command, parse).items():
                # The thermal HAL's battery may be another sensor than the battery's own: the hotter counts.
                found[field] = max(found[field], value) if field in found and field.endswith("_c") else value
        return found

    def _ask(self, command: tuple[str, ...], parse: Callable[[str], Partial]) -> Partial:
        try:
            return parse(self._run(command))
        except (OSError, ValueError, TypeError, AttributeError):  # absent or denied; not the text that was expected
            return {}


def battery_status(text: str) -> Partial:
    """Read ``termux-battery-status``.

    Raises:
        ValueError: no JSON.
    """
    status = msgspec.json.decode(text)
    found: dict[str, float | bool] = {"has_battery": True}
    if _is_number(status.get("percentage")):
        found["soc"] = status["percentage"] / 100
    if isinstance(status.get("plugged"), str):
        found["plugged"] = status["plugged"].startswith("PLUGGED")
    if _is_number(status.get("temperature")) and status["temperature"] != 0:
        found["battery_c"] = float(status["temperature"])
    return found if len(found) > 1 else {}


def wifi_info(text: str) -> Partial:
    """Read ``termux-wifi-connectioninfo``; without a connection the device is known not to be on Wi-Fi.

    Raises:
        ValueError: no JSON.
    """
    info = msgspec.json.decode(text)
    state = info.get("supplicant_state")
    if not isinstance(state, str):
        return {}
    found: dict[str, float | bool] = {"on_wifi": state == "COMPLETED"}
    speed = info.get("link_speed_mbps")
    if found["on_wifi"] and _is_number(speed) and speed > 0:
        found["bandwidth_bytes_per_s"] = speed * BYTES_PER_S_PER_MBPS
    return found


def power(text: str) -> Partial:
    """Read ``dumpsys power``: the display's state or else the device's wakefulness, and the last touch."""
    found: dict[str, float | bool] = {}
    display, wakefulness = _DISPLAY.search(text), _WAKEFULNESS.search(text)
    if display is not None:
        found["screen_on"] = display[1] not in ("OFF", "DOZE", "DOZE_SUSPEND")  # always-on displays doze
    elif wakefulness is not None:
        found["screen_on"] = wakefulness[1] == "Awake"
    touches = [int(ms or 0) / 1000 for ms in _TOUCH.findall(text)]
    if touches:
        found["idle_s"] = min(touches)
    return found


def thermal(text: str) -> Partial:
    """Read ``dumpsys thermalservice``: the hottest of each type from the HAL now, not from the cache."""
    _, _, current = text.partition("Current temperatures from HAL:")
    found: dict[str, float | bool] = {}
    for value, kind in _TEMPERATURE.findall(current.partition("Current cooling devices")[0]):
        field = THERMAL_TYPES.get(int(kind))
        if field is not None and value != "NaN" and float(value) != 0:
            found[field] = max(float(value), found.get(field, float("-inf")))
    return found


def connectivity(text: str) -> Partial:
    """Read ``dumpsys connectivity``: the default network's capabilities name NOT_METERED, or it is metered."""
    default = _DEFAULT_NETWORK.search(text)
    if default is None:
        return {}
    for line in text.splitlines():
        if f"network{{{default[1]}}}" in line and "Capabilities:" in line:
            return {"metered": "NOT_METERED" not in line.partition("Capabilities:")[2].split("]")[0]}
    return {}


def memory(text: str) -> Partial:
    """Read ``/proc/meminfo`` and this node's own ``status``: what is available, and what the node itself holds."""
    available, own = _AVAILABLE.search(text), _OWN.search(text)
    if available is None:
        return {}
    return {"memory_free_bytes": 1024.0 * (int(available[1]) + (int(own[1]) if own is not None else 0))}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
