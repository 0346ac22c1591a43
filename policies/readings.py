"""Readings and verdicts: what a device's sensors say, and what its harvest policy answers.

The same field names serve one row on a device (a `Row` of scalars) and a fleet (`Readings`, arrays with
one element a device), so that one elementwise policy reads both.

What a number can be stands here once (`RANGES`, `plausible`), for readers of sensors and for policies alike. A number
that cannot be is unknown, as one that is missing (NaN).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from policies.wire import Message

UNKNOWN = float("nan")
Array = Any  # any array of the Array API standard, or a scalar of the same meaning


class Readings(NamedTuple):
    """Struct of arrays, one element a device.

    Devices on the mains without a battery report ``has_battery`` false and any ``soc``. Free memory is read by the edge
    ladder alone, and is unknown where nobody tells it.
    """

    has_battery: Array
    soc: Array  # state of charge, 0..1
    plugged: Array  # bool
    die_c: Array
    skin_c: Array
    battery_c: Array
    on_wifi: Array  # bool; wired counts as Wi-Fi
    metered: Array  # bool
    bandwidth_bytes_per_s: Array
    screen_on: Array  # bool
    idle_s: Array  # seconds since the owner last touched the device
    local_minute: Array  # 0..1439, in the owner's time zone
    user_load: Array  # share of compute the owner uses, 0..1
    memory_free_bytes: Array = UNKNOWN  # what the owner and the system leave; what the village holds counts as free


class Plausible(Readings):
    """Readings whose maker vouches that every number is `plausible` or NaN, so that nobody asks again.

    Those of a fleet are: its laws make no others (a test lives through a day). Of sensors nobody can vouch.
    """

    __slots__ = ()


COLDEST_C, HOTTEST_C = -40.0, 150.0  # beyond these a sensor is broken (industrial range; silicon's maximum)
RANGES: dict[str, tuple[float, float]] = {
    "soc": (0.0, 1.0),
    "die_c": (COLDEST_C, HOTTEST_C),
    "skin_c": (COLDEST_C, HOTTEST_C),
    "battery_c": (COLDEST_C, HOTTEST_C),
    "bandwidth_bytes_per_s": (0.0, 1e12),
    "idle_s": (0.0, 1e12),
    "local_minute": (0.0, 1440.0),
    "user_load": (0.0, 1.0),
    "memory_free_bytes": (0.0, 2.0**60),  # 1 EiB: more than any machine has
}
"""Number to what it can be, both ends included (of ``local_minute`` the upper one is not)."""


def plausible(field: str, value: Array) -> Array:
    """Return, elementwise, whether a number can be a reading of ``field``; NaN cannot."""
    low, high = RANGES[field]
    return (value >= low) & ((value < high) if field == "local_minute" else (value <= high))


class Row(Message, frozen=True):
    """One device's readings on the wire and in a journal; fields as in `Readings`."""

    has_battery: bool
    soc: float
    plugged: bool
    die_c: float
    skin_c: float
    battery_c: float
    on_wifi: bool
    metered: bool
    bandwidth_bytes_per_s: float
    screen_on: bool
    idle_s: float
    local_minute: float
    user_load: float
    memory_free_bytes: float = UNKNOWN


class Decision(NamedTuple):
    """What harvest decides, elementwise."""

    contribute: Array  # bool: a session runs
    compute_share: Array  # share of the device's compute lent, 0..1
    memory_share: Array  # share of its memory lent, 0..1; while draining too, so that work can be handed back
    bandwidth_bytes_per_s: Array  # cap on the village's traffic
    state: Array  # index into HARVEST_STATES


HARVEST_STATES = (
    "idle", "harvesting", "charging_low", "thermal_throttle", "user_active", "network_metered", "disabled", "draining",
)  # fmt: skip
"""HarvestState as documented for the village (``idle`` also covers closed hours and cool-down), and ``draining``: a
session that ended in order hands its work back; nothing is computed and nothing new is taken."""


class Verdict(Message, frozen=True):
    """One row of a `Decision` on the wire."""

    contribute: bool
    compute_share: float
    memory_share: float
    bandwidth_bytes_per_s: float
    state: int
