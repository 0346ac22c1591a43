"""Linux's sensors under /sys: batteries and chargers, thermal zones and hwmon chips, network interfaces.

Units are those of the kernel's documentation (Documentation/ABI/testing/sysfs-class-power, -thermal, hwmon's
sysfs-interface): capacity in percent, a battery's ``temp`` in tenths of a degree, thermal zones and hwmon in
thousandths, an interface's ``speed`` in Mbit/s.

Zones are told apart by their type's name, which every vendor chooses anew; names that are not known here give
nothing. Some "zones" are no temperatures at all: Qualcomm's ``soc`` is a state of charge, ``vbat`` and ``ibat`` are
volts and amperes. A temperature of exactly 0, or below one degree in a zone of thousandths, is a stub
or a kernel with other units, and counts as missing.
"""

from __future__ import annotations

import re
from pathlib import Path

from real_backends.sensors.fields import Partial

BYTES_PER_S_PER_MBPS = 125_000.0
NO_TEMPERATURE = re.compile(r"soc|.*(vbat|ibat|bcl|lvl).*", re.IGNORECASE)
SKIN = re.compile(r".*(skin|quiet|shell|case[-_]|back[-_]t|front[-_]t).*|tskn", re.IGNORECASE)
BATTERY = re.compile(r".*bat(tery|t)?.*", re.IGNORECASE)
DIE = re.compile(
    r"x86_pkg_temp|coretemp|tcpu.*|.*cpu.*|.*gpu.*|soc[-_](thermal|max).*|ap|big|mid|little|exynos.*|tsens.*|mtk.*soc.*",
    re.IGNORECASE,
)
LAST_RESORT = "acpitz"  # a board sensor on most machines: the chip's only where nothing better is there
HWMON_DIE = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal", "amdgpu", "nouveau")
VIRTUAL = ("lo", "docker", "veth", "br-", "virbr", "tun", "tap", "wg", "ifb", "dummy")
MOBILE = ("wwan", "rmnet", "ppp", "ccmni")


class SysfsSource:
    """Reads sysfs below ``root``."""

    def __init__(self, root: Path | str = "/sys") -> None:
        self._class = Path(root) / "class"
        self.fields = frozenset(self.read(0))

    def read(self, now_ns: int) -> Partial:
        """Return what sysfs says now."""
        return {**self._zones(), **self._power(), **self._network()}

    # -- power ---------------------------------------------------------------------------------------

    def _power(self) -> dict[str, float | bool]:
        supplies = self._folders("power_supply")
        if supplies is None:
            return {}
        batteries, online, charging = [], [], []
        for supply in supplies:
            kind = _text(supply / "type")
            if kind == "Battery":
                # A mouse's battery has the scope "Device"; an empty bay is not present.
                if _text(supply / "scope") != "Device" and _text(supply / "present") != "0":
                    batteries.append(supply)
            elif kind is not None and (state := _number(supply / "online")) is not None:
                online.append(state > 0)
        found: dict[str, float | bool] = {"has_battery": bool(batteries)}
        charges = [(_number(b / "capacity"), _full(b)) for b in batteries]
        if known := [(percent, full) for percent, full in charges if percent is not None]:
            weight = sum(full for _, full in known)
            found["soc"] = sum(percent * full for percent, full in known) / weight / 100
        for battery in batteries:
            charging += [status in ("Charging", "Full")] if (status := _text(battery / "status")) else []
        if online or charging:
            found["plugged"] = any(online) or any(charging)
        warmth = [tenths / 10 for b in batteries if (tenths := _number(b / "temp"))]
        if warmth:
            found["battery_c"] = max(warmth)
        return found

    # -- heat ----------------------------------------------------------------------------------------

    def _zones(self) -> dict[str, float | bool]:
        found: dict[str, list[float]] = {}
        for zone in self._folders("thermal") or ():
            kind, celsius = _text(zone / "type"), _celsius(zone / "temp")
            if kind is None or celsius is None or not zone.name.startswith("thermal_zone"):
                continue
            if (field := zone_field(kind)) is not None:
                found.setdefault(field, []).append(celsius)
        for chip in self._folders("hwmon") or ():
            if _text(chip / "name") in HWMON_DIE:
                inputs = [_celsius(file) for file in sorted(chip.glob("temp*_input"))]
                found.setdefault("die_c", []).extend(celsius for celsius in inputs if celsius is not None)
        hottest: dict[str, float | bool] = {field: max(values) for field, values in found.items() if values}
        board = hottest.pop(LAST_RESORT, None)
        if board is not None:
            hottest.setdefault("die_c", board)
        return hottest

    # -- network -------------------------------------------------------------------------------------

    def _network(self) -> dict[str, float | bool]:
        interfaces = self._folders("net")
        if interfaces is None:
            return {}
        up = [i for i in interfaces if not i.name.startswith(VIRTUAL) and _text(i / "operstate") in ("up", "unknown")]
        home = [i for i in up if not _is_mobile(i)]
        found: dict[str, float | bool] = {"on_wifi": bool(home)}  # wired counts as Wi-Fi
        speeds = [mbps for i in home if (mbps := _number(i / "speed")) is not None and mbps > 0]
        if speeds:
            found["bandwidth_bytes_per_s"] = max(speeds) * BYTES_PER_S_PER_MBPS
        return found

    def _folders(self, kind: str) -> list[Path] | None:
        try:
            return sorted((self._class / kind).iterdir())
        except OSError:
            return None


def zone_field(kind: str) -> str | None:
    """Return the reading that a thermal zone of this type is, `LAST_RESORT`, or None."""
    if NO_TEMPERATURE.fullmatch(kind):
        return None
    if kind == LAST_RESORT:
        return LAST_RESORT
    for field, pattern in (("skin_c", SKIN), ("battery_c", BATTERY), ("die_c", DIE)):
        if pattern.fullmatch(kind):
            return field
    return None


def _is_mobile(interface: Path) -> bool:
    return interface.name.startswith(MOBILE) or "DEVTYPE=wwan" in (_text(interface / "uevent") or "")


def _full(battery: Path) -> float:
    """Return a battery's size, to weigh it among several; alike where it is not told."""
    return _number(battery / "energy_full") or _number(battery / "charge_full") or 1.0


def _celsius(file: Path) -> float | None:
    thousandths = _number(file)
    return None if thousandths is None or abs(thousandths) < 1000 else thousandths / 1000


def _number(file: Path) -> float | None:
    text = _text(file)
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _text(file: Path) -> str | None:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return None
