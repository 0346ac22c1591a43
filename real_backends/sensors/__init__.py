"""Sensors of real devices: each gives `policies.readings.Row`, the very readings that a policy sees in the twin.

`open_sensors` makes them by name. `fields` says what a sensor is and what unknown looks like, `composite` merges
sources; `sysfs`, `host` (psutil), `nvml`, `termux` and `trace` are the sources. A value that cannot be read is unknown,
and with an unknown value a device is not eligible; nothing is invented. What is assumed is assumed
explicitly and said in the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from policies.readings import Row
from scenarios.sensors import TRACE, check

if TYPE_CHECKING:
    from real_backends.sensors.fields import Partial


class Sensors(Protocol):
    """Reads a device.

    Attributes:
        missing: sensors it never had.
        gone: sensor to the number of readings that lacked it although it had been there.
    """

    missing: tuple[str, ...]
    gone: Any  # Mapping[str, int]

    def read(self, now_ns: int) -> Row:
        """Return the readings now."""
        ...


def open_sensors(
    names: str | Sequence[str], *, assume: Partial | None = None, root: Path | str = "/sys"
) -> Sensors:  # fmt: skip
    """Open sensors by name.

    Args:
        names: of `scenarios.sensors.NAMES`: ``host`` (this machine, with the assumptions of `host.DESK`), ``trace`` (a
            cool desk on the mains), ``trace:FILE`` (a recording), or one or more of ``sysfs``, ``psutil``, ``nvml``,
            ``termux``, merged.
        assume: values for what is missing, by field of `Row`; laid over a name's own assumptions.
        root: where sysfs is.

    Raises:
        ValueError: an unknown name, names that do not go together, a bad assumption, or a bad recording.
        OSError: a source that is not there; says which and why in one line.
    """
    check(names, assume or {})
    return _open([names] if isinstance(names, str) else list(names), assume or {}, root)


def _open(chosen: list[str], assume: Partial, root: Path | str) -> Sensors:
    from real_backends.sensors.composite import Composite, Source

    if chosen == ["host"]:
        from real_backends.sensors.host import DESK, HostSensors

        return HostSensors(root, {**DESK, **assume})
    if chosen == ["trace"]:
        from real_backends.sensors.trace import MAINS_DESK, TraceSensors

        return TraceSensors([(0.0, MAINS_DESK)])
    if chosen[0].startswith(TRACE):
        from real_backends.sensors.trace import open_trace

        return open_trace(chosen[0].removeprefix(TRACE), assume)
    sources: list[Source] = []
    for name in chosen:
        if name == "sysfs":
            from real_backends.sensors.sysfs import SysfsSource

            sources.append(SysfsSource(root))
        elif name == "psutil":
            from real_backends.sensors.host import PsutilSource

            sources.append(PsutilSource())
        elif name == "nvml":
            from real_backends.sensors.nvml import NvmlSource

            sources.append(NvmlSource())
        else:
            from real_backends.sensors.termux import TermuxSource

            sources.append(TermuxSource())
    return Composite(sources, assume)


def report(sensors: Any) -> Mapping[str, Any]:
    """Return what a manifest says about sensors: missing, gone, and where there are any, assumed and absent ones."""
    if hasattr(sensors, "report"):
        found: Mapping[str, Any] = sensors.report()
        return found
    return {"missing": list(getattr(sensors, "missing", ())), "gone": dict(getattr(sensors, "gone", {}))}
