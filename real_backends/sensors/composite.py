"""Several sources as one set of sensors: merge what they give, and say what is missing, assumed or gone.

* A sensor that no source has when it is opened is *missing*. It may be assumed, explicitly; then it is listed in
  both ``missing`` and ``assumed``. Else it is unknown.
* A sensor that was there and gives nothing, or nonsense, at a reading is *gone* at that reading: unknown, never
  assumed, and counted. If it comes back it is read again: buses and drivers do hiccup.
* A battery that was seen once is never believed to be away: a device does not become a mains machine by losing a
  driver.

Two bounds are used where no sensor exists, because they are careful and not invented: the case of a machine without
a skin sensor is as hot as its chip, which heats it; a machine without a battery is full and plugged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from policies.readings import Row
from real_backends.sensors.fields import SENSOR_OF, SENSORS, UNKNOWN, Partial
from scenarios.sensors import check_assumed, plausible

HOTTEST = ("die_c", "skin_c", "battery_c", "user_load")
"""Fields of which the highest binds where several sources give one; of the others the first source's counts."""


class Source(Protocol):
    """Where readings come from.

    Attributes:
        fields: what it could give when it was opened.
    """

    fields: frozenset[str]

    def read(self, now_ns: int) -> Partial:
        """Return what can be read now; what cannot is left out. Raises nothing of the sensors' own."""
        ...


class Composite:
    """Reads sources and gives whole rows.

    Args:
        sources: in order of trust.
        assume: values for missing sensors, by field.
        absent: lines on optional sources that are not there, for the manifest.

    Attributes:
        missing: sensors that no source has.
        assumed: field to the value assumed for it.
        gone: sensor to the number of readings that lacked it although it had been there.

    Raises:
        ValueError: an assumption that is no reading.
    """

    def __init__(self, sources: Sequence[Source], assume: Partial | None = None, absent: Sequence[str] = ()) -> None:
        check_assumed(assume or {})
        self._sources, self.absent = tuple(sources), tuple(absent)
        self._seen = {field for source in sources for field in source.fields}
        self._has_battery = False
        self.missing = tuple(sensor for sensor, fields in SENSORS.items() if self._seen.isdisjoint(fields))
        if "battery" not in self.missing and "soc" not in self._seen:
            self.missing = ("battery", *self.missing)  # known to have none
        self.assumed = {field: value for field, value in (assume or {}).items() if field not in self._seen}
        self.gone: Counter[str] = Counter()

    def read(self, now_ns: int) -> Row:
        """Return the readings now, from every source."""
        given = self._merge(now_ns)
        self._seen |= given.keys()
        battery_seen, self._has_battery = self._has_battery, self._has_battery or bool(given.get("has_battery"))
        if battery_seen and not given.get("has_battery"):
            given = {field: value for field, value in given.items() if field not in SENSORS["battery"]}
        expected = set(self._seen)
        row = {**self.assumed, **given}
        if row.get("has_battery") is False:
            row.update(soc=1.0, plugged=True)
            row.setdefault("battery_c", row.get("die_c", UNKNOWN.battery_c))
            expected -= {"soc", "plugged", "battery_c"}
        if "skin_c" not in self._seen and "skin_c" not in row and "die_c" in given:
            row["skin_c"] = given["die_c"]
        for sensor in {SENSOR_OF[field] for field in expected - given.keys()}:
            self.gone[sensor] += 1
        whole: Any = {field: row.get(field, getattr(UNKNOWN, field)) for field in SENSOR_OF}
        return Row(**whole)

    def _merge(self, now_ns: int) -> dict[str, float | bool]:
        merged: dict[str, float | bool] = {}
        for source in self._sources:
            for field, value in source.read(now_ns).items():
                if not plausible(field, value):
                    continue
                if field not in merged:
                    merged[field] = value
                elif field in HOTTEST:
                    merged[field] = max(merged[field], value)
        return merged

    def report(self) -> dict[str, Any]:
        """Return what the manifest says about these sensors."""
        return {
            "missing": list(self.missing), "assumed": dict(self.assumed), "gone": dict(sorted(self.gone.items())),
            "absent": list(self.absent),
        }  # fmt: skip
