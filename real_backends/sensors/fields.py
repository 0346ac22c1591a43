"""What the sensors are called, which fields of a `policies.readings.Row` they give, and what "unknown" looks like.

What a field can be is in `scenarios.sensors`.

A source gives only the fields it can read, so an absent field is an unknown one; nothing is invented. In a `Row` an
unknown number is NaN, and an unknown yes-or-no is the answer with which a policy does not lend: no charger, no
Wi-Fi, metered, the screen on, a battery that must be obeyed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from policies.readings import Row

Partial = Mapping[str, float | bool]
"""Some fields of a Row."""

SENSORS: dict[str, tuple[str, ...]] = {
    "battery": ("has_battery", "soc", "plugged"),
    "die_c": ("die_c",),
    "skin_c": ("skin_c",),
    "battery_c": ("battery_c",),
    "network": ("on_wifi",),
    "metered": ("metered",),
    "link_speed": ("bandwidth_bytes_per_s",),
    "screen": ("screen_on",),
    "idle": ("idle_s",),
    "clock": ("local_minute",),
    "load": ("user_load",),
    "memory": ("memory_free_bytes",),
}
"""Sensor to the fields it gives."""

SENSOR_OF: dict[str, str] = {field: sensor for sensor, fields in SENSORS.items() for field in fields}

UNKNOWN = Row(
    has_battery=True, soc=math.nan, plugged=False, die_c=math.nan, skin_c=math.nan, battery_c=math.nan, on_wifi=False,
    metered=True, bandwidth_bytes_per_s=math.nan, screen_on=True, idle_s=math.nan, local_minute=math.nan,
    user_load=math.nan, memory_free_bytes=math.nan,
)  # fmt: skip
"""A row of which nothing is known."""
