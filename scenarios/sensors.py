"""The words for sensors of a real run: which readers there are, and what can be assumed of a device that lacks one.

The readers themselves are `real_backends.sensors`; here their names and what they are said to read are checked, so that
a scenario is refused before anything is opened. What a number can be is in `policies.readings`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from policies import readings
from policies.readings import RANGES, Row

NAMES = ("host", "trace", "trace:FILE", "sysfs", "psutil", "nvml", "termux")
"""``host``: this machine, with the assumptions of a desk; ``trace``: a cool desk on the mains; ``trace:FILE``: a
recording; the others are sources that may be merged."""

MERGED = NAMES[3:]
TRACE = "trace:"

FIELDS = Row.__struct_fields__
BOOLS = frozenset(field.name for field in msgspec.structs.fields(Row) if field.type is bool)


def chosen(sensors: str | Sequence[str]) -> tuple[str, ...]:
    """Return the readers that a scenario asks for.

    Raises:
        ValueError: none, an unknown one, or readers that do not go together; one line.
    """
    names = (sensors,) if isinstance(sensors, str) else tuple(sensors)
    for name in names:
        if (name not in NAMES and not name.startswith(TRACE)) or name in (TRACE, "trace:FILE"):
            raise ValueError(f"sensors={name!r}: {_nearest(name, NAMES)}")
    if not names:
        raise ValueError(f"sensors=[]: allowed: {', '.join(NAMES)}")
    alone = [name for name in names if name not in MERGED]
    if alone and len(names) > 1:
        raise ValueError(f"sensors={', '.join(names)}: {alone[0]} stands alone")
    if len(set(names)) < len(names):
        raise ValueError(f"sensors={', '.join(names)}: one of them is named twice")
    return names


def check_assumed(assume: Mapping[str, Any]) -> None:
    """Refuse assumptions that are no readings.

    Raises:
        ValueError: the field, the value and what is allowed; one line.
    """
    for field, value in assume.items():
        if field not in FIELDS:
            raise ValueError(f"assume: {field!r} is no reading; {_nearest(field, FIELDS)}")
        if not plausible(field, value):
            raise ValueError(f"assume: {field} is {value!r}; allowed: {allowed(field)}")


def check(sensors: str | Sequence[str], assume: Mapping[str, Any]) -> None:
    """Refuse readers and assumptions that no real run could have.

    Raises:
        ValueError: as `chosen` and `check_assumed`, or nothing can be missing that is assumed; one line.
    """
    check_assumed(assume)
    if chosen(sensors) == ("trace",) and assume:
        raise ValueError(f"assume={dict(assume)}: sensors=trace lacks nothing; assume it of another reader")


def plausible(field: str, value: Any) -> bool:
    """Return whether ``value`` can be a reading of ``field``."""
    if field in BOOLS:
        return isinstance(value, bool)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return bool(readings.plausible(field, value))


def allowed(field: str) -> str:
    """Return in words what a field can be."""
    if field in BOOLS:
        return "true or false"
    low, high = RANGES[field]
    return f"from {low:g}, below {high:g}" if field == "local_minute" else f"{low:g} to {high:g}"


def _nearest(word: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}allowed: {', '.join(names)}"
