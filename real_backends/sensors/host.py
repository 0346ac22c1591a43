"""Readings of this machine, from psutil and sysfs.

What a machine cannot say gets a neutral value, listed in ``missing`` for the manifest: no battery means
mains; an unknown temperature is `NEUTRAL_C`; nothing portable tells metered links, link speed, screen or
owner's input, so those are the values of an idle wired machine.
"""

from __future__ import annotations

import time
from typing import Any

import psutil

from policies.readings import Row

NEUTRAL_C = 40.0  # assumption: warm enough to be plausible at work, below every documented limit
NEUTRAL_BYTES_PER_S = 12.5e6  # assumption: 100 Mbit/s Ethernet
NEUTRAL_IDLE_S = 86_400.0  # assumption: a machine that runs a node without a desktop session
_DIE = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal", "acpitz")  # hwmon names, best first
_SKIN_BELOW_DIE_C = 5.0  # assumption where no skin sensor exists: the case is a little cooler than the chip


class HostSensors:
    """Reads this machine; ``missing`` names what it cannot read."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._user_load()  # the first call only begins the measurement
        self.missing = tuple(
            name
            for name, found in (
                ("battery", _battery() is not None),
                ("die_c", _die_c() is not None),
                ("skin_c", False),
                ("metered", False),
                ("link_speed", _link_bytes_per_s() is not None),
                ("screen", False),
                ("idle", False),
            )
            if not found
        )

    def read(self, now_ns: int) -> Row:
        """Return the machine's readings now; ``now_ns`` is not needed."""
        battery, die_c, speed = _battery(), _die_c(), _link_bytes_per_s()
        clock = time.localtime()
        die_c = NEUTRAL_C if die_c is None else die_c
        return Row(
            has_battery=battery is not None,
            soc=1.0 if battery is None else battery.percent / 100,
            plugged=True if battery is None else bool(battery.power_plugged),
            die_c=die_c,
            skin_c=die_c - _SKIN_BELOW_DIE_C,
            on_wifi=True,  # wired counts as Wi-Fi
            metered=False,
            bandwidth_bytes_per_s=NEUTRAL_BYTES_PER_S if speed is None else speed,
            screen_on=False,
            idle_s=NEUTRAL_IDLE_S,
            local_minute=clock.tm_hour * 60 + clock.tm_min + clock.tm_sec / 60,
            user_load=self._user_load(),
        )

    def _user_load(self) -> float:
        """Return the load that is not this node's own, or harvesting would look like its owner at work."""
        own_percent = self._process.cpu_percent(interval=None) / (psutil.cpu_count() or 1)
        others_percent = float(psutil.cpu_percent(interval=None)) - own_percent
        return min(1.0, max(0.0, others_percent) / 100)


def _battery() -> Any:
    read = getattr(psutil, "sensors_battery", None)  # absent on some platforms
    return read() if read is not None else None


def _die_c() -> float | None:
    read = getattr(psutil, "sensors_temperatures", None)
    groups = read() if read is not None else {}
    for name in _DIE:
        if values := [entry.current for entry in groups.get(name, ()) if entry.current is not None]:
            return float(max(values))
    return None


def _link_bytes_per_s() -> float | None:
    speeds = [s.speed for name, s in psutil.net_if_stats().items() if s.isup and name != "lo" and s.speed > 0]
    return max(speeds) * 1e6 / 8 if speeds else None  # psutil gives Mbit/s
