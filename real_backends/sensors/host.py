"""Readings of this machine: sysfs on Linux, psutil elsewhere and for load, NVML where there is a GPU.

What no desktop can tell is taken from `DESK`, an explicit assumption that ``missing`` and ``assumed`` list and that the
caller may replace. Temperatures are not in it: a machine that cannot say how hot it is does not lend.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from real_backends.sensors.composite import Composite, Source
from real_backends.sensors.fields import Partial
from real_backends.sensors.nvml import NvmlSource
from real_backends.sensors.sysfs import SysfsSource

DESK: Partial = {
    "on_wifi": True,  # wired counts as Wi-Fi; Linux tells, other systems do not
    "metered": False,  # a home's or office's line
    "bandwidth_bytes_per_s": 12.5e6,  # 100 Mbit/s Ethernet
    "screen_on": False,
    "idle_s": 86_400.0,  # a machine that runs a node without a desktop session
}
"""What is assumed of a desk where nothing tells: its owner is away and its line is paid for."""


class PsutilSource:
    """Reads what psutil tells on any system.

    Args:
        linux: the system is Linux, whose battery and network `SysfsSource` reads.
    """

    def __init__(self, *, linux: bool = sys.platform == "linux") -> None:
        self._linux = linux
        self._process = psutil.Process()
        _try(self._user_load)  # the first call only begins the measurement
        self.fields = frozenset(self.read(0))

    def read(self, now_ns: int) -> Partial:
        """Return load, free memory and the local time; elsewhere than on Linux also battery and link."""
        clock = time.localtime()
        found: dict[str, float | bool] = {"local_minute": clock.tm_hour * 60 + clock.tm_min + clock.tm_sec % 60 / 60}
        load = _try(self._user_load)
        if load is not None:
            found["user_load"] = load
        free_bytes = _try(self._memory_free_bytes)
        if free_bytes is not None:
            found["memory_free_bytes"] = free_bytes
        if not self._linux:
            found.update(_try(_battery) or {})
            found.update(_try(_link) or {})
        return found

    def _user_load(self) -> float:
        """Return the load that is not this node's own, or harvesting would look like its owner at work."""
        own_percent = self._process.cpu_percent(interval=None) / (psutil.cpu_count() or 1)
        others_percent = float(psutil.cpu_percent(interval=None)) - own_percent
        return float(min(1.0, max(0.0, others_percent) / 100))

    def _memory_free_bytes(self) -> float:
        """Return what can be had without swapping, and what this node holds alone: that is the village's."""
        own = self._process.memory_info()
        # Shared pages are files for the most part, which are available already. Only Linux tells them.
        return float(psutil.virtual_memory().available + own.rss - getattr(own, "shared", 0))


class HostSensors(Composite):
    """Reads this machine.

    Args:
        root: where sysfs is.
        assume: values for what is missing; `DESK` if none are given.
    """

    def __init__(self, root: Path | str = "/sys", assume: Partial | None = None) -> None:
        sources: list[Source] = [SysfsSource(root), PsutilSource()]
        absent: list[str] = []
        try:
            sources.append(NvmlSource())
        except OSError as error:
            absent.append(str(error))
        super().__init__(sources, DESK if assume is None else assume, absent)


def _battery() -> dict[str, float | bool]:
    battery = psutil.sensors_battery()
    if battery is None:
        return {"has_battery": False}
    found: dict[str, float | bool] = {"has_battery": True, "soc": battery.percent / 100}
    if battery.power_plugged is not None:
        found["plugged"] = bool(battery.power_plugged)
    return found


def _link() -> dict[str, float | bool]:
    speeds = [s.speed for name, s in psutil.net_if_stats().items() if s.isup and name != "lo" and s.speed > 0]
    return {"bandwidth_bytes_per_s": max(speeds) * 1e6 / 8} if speeds else {}  # psutil gives Mbit/s


def _try(read: Callable[[], Any]) -> Any:
    """Return what psutil reads, or None where this system or its permissions have none."""
    try:
        return read()
    except (psutil.Error, OSError, AttributeError, NotImplementedError):
        return None
