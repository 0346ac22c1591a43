"""The harvest envelope: what a decision must never break, whatever the policy's memory.

It knows a configuration and one reading, and no state: a decision inside the envelope may still be wrong about time
(session length, cool-down, dwell, hysteresis), one outside is always wrong. It shares no code with the rules that it
checks. Each configuration has its own envelope:

- documented and predecessor: every documented limit (the predecessor leaves it, which is the point of keeping it);
- predictive: the owner's hard limits, without hours and idle time; it may not lend without a skin sensor either;
- boinc and federated: their own conditions and caps.

While a session drains the same holds, hours excepted (but not a clock that has failed), and no compute may be lent.
A number that a limit asks for and that no sensor can mean (`policies.readings.RANGES`) is outside, as a missing one is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from policies.config import BoincConfig, FederatedConfig, HarvestConfig, HarvestRules, OwnerLimits, PredictiveConfig
from policies.harvest.rows import DRAINING, Devices
from policies.readings import RANGES, Array, Decision, Readings, plausible

_SHARE_TOLERANCE = 1e-6  # a share computed in float32 may round above its cap


class _Law(NamedTuple):
    name: str
    broken: Array  # rows whose reading forbids to lend
    allowed: str


class _View(NamedTuple):
    """What is known of all rows, with what the laws derive from it."""

    r: Readings  # what cannot be is NaN
    guest: Array  # bool: an owner's device
    battery: Array  # bool
    mbps: Array


def violations(config: HarvestRules, devices: Devices, readings: Readings, decision: Decision) -> list[str]:
    """Return one line for every limit a row's decision breaks; an empty list is good.

    Args:
        config: the limits.
        devices: one element a row, or scalars.
        readings: what the policy read.
        decision: what it decided on that.

    Returns:
        Lines of the form ``row 3: die_c is 66; allowed while contributing: below 65``; of a number that cannot be, they
        say so.
    """
    rows = np.size(decision.contribute)

    def column(values: Array) -> Array:
        values = np.asarray(values)
        return values if values.shape == (rows,) else np.broadcast_to(values, (rows,))

    r, d = Readings(*(column(field) for field in readings)), Decision(*(column(field) for field in decision))
    battery = column(devices.has_battery) | r.has_battery
    fair = _known(r)
    read, known = _by_name(r), _by_name(fair)
    view = _View(fair, ~column(devices.dedicated), battery, known["Mbit/s"])
    laws, compute, memory, cap_bytes_per_s = _envelope(config, view)

    drains = (d.state == DRAINING) & ~d.contribute
    lends = d.contribute | drains

    def says(name: str, row: int) -> str:
        value = read[name][row]
        as_read = np.array_equal(value, known[name][row], equal_nan=True)
        return f"{name} is {value}{'' if as_read else ', which no sensor can mean'}"

    found = [
        f"row {row}: {says(law.name, row)}; "
        f"allowed while {'draining' if drains[row] else 'contributing'}: {law.allowed}"
        for law in laws
        for row in (law.broken & (d.contribute if law.name == "local_minute" else lends)).nonzero()[0]
    ]
    caps = [
        ("compute_share", d.compute_share, np.where(d.contribute, compute, 0.0)),
        ("memory_share", d.memory_share, np.where(lends, memory, 0.0)),
        ("bandwidth_bytes_per_s", d.bandwidth_bytes_per_s, np.full(rows, cap_bytes_per_s)),
    ]
    found += [
        f"row {row}: {name} is {values[row]}; allowed: 0 to {limit[row]:g}"
        for name, values, limit in caps
        for row in (~((values >= 0) & (values <= limit * (1 + _SHARE_TOLERANCE)))).nonzero()[0]
    ]
    return found


def _known(r: Readings) -> Readings:
    """Return the readings with NaN in place of what no sensor can mean."""

    columns = {name: getattr(r, name) for name in RANGES}
    return r._replace(**{name: np.where(plausible(name, value), value, np.nan) for name, value in columns.items()})


def _by_name(r: Readings) -> dict[str, Array]:
    """Return the columns by what the laws call them."""
    return {**r._asdict(), "Mbit/s": r.bandwidth_bytes_per_s / 1e6 * 8, "clock": r.local_minute}


def _envelope(config: HarvestRules, v: _View) -> tuple[list[_Law], Array, Array, float]:
    """Return the laws, the caps of compute and memory a row, and the cap of bandwidth."""
    if isinstance(config, BoincConfig):
        return _boinc(config, v)
    if isinstance(config, FederatedConfig):
        return _federated(config, v)
    laws, slow = _hard(config, v), v.r.die_c >= config.throttle_temp_c
    if isinstance(config, PredictiveConfig):
        laws.append(_Law("skin_c", np.isnan(v.r.skin_c), "a number"))
    elif isinstance(config, HarvestConfig):
        span = f"{config.hour_start:g}-{config.hour_end:g} h"
        closed = v.guest & _closed(v.r.local_minute, config.hour_start, config.hour_end)
        laws += [_idle(config.idle_min, v), _Law("local_minute", closed, span)]
    compute = config.max_cpu * np.where(slow, 0.5, 1.0)
    return laws, compute, np.full(slow.shape, config.max_memory), config.max_bandwidth_mbps * 1e6 / 8


def _hard(c: OwnerLimits, v: _View) -> list[_Law]:
    r, uncharged = v.r, v.guest & v.battery & ~v.r.plugged & c.require_charging
    return [
        _Law("die_c", ~(r.die_c < c.critical_temp_c), f"below {c.critical_temp_c:g}"),
        _Law("soc", v.battery & ~(r.soc >= c.min_battery), f"from {c.min_battery:g}"),
        _Law("plugged", uncharged, "true"),
        _Law("on_wifi", ~r.on_wifi & c.wifi_only, "true"),
        _Law("metered", r.metered & (not c.allow_metered), "false"),
        _Law("Mbit/s", ~(v.mbps >= c.min_bandwidth_mbps), f"from {c.min_bandwidth_mbps:g}"),
        _Law("screen_on", v.guest & r.screen_on & c.require_screen_off, "false"),
        _Law("clock", v.guest & ~(r.local_minute >= 0.0), "from 0"),
    ]


def _boinc(c: BoincConfig, v: _View) -> tuple[list[_Law], Array, Array, float]:
    r, floor = v.r, c.battery_charge_min_pct / 100
    used = v.guest & ~(r.idle_s >= c.idle_time_to_run * 60)
    load = np.where(used, c.suspend_cpu_usage or 100, c.niu_suspend_cpu_usage or 100) / 100
    closed = np.zeros(used.shape, dtype=bool)
    if c.start_hour != c.end_hour:
        closed = v.guest & _closed(r.local_minute, c.start_hour, c.end_hour)
    laws = [
        _Law("battery_c", v.battery & ~(r.battery_c < c.battery_max_temperature),
             f"below {c.battery_max_temperature:g}"),
        _Law("soc", v.battery & ~(r.soc >= floor), f"from {floor:g}"),
        _Law("plugged", v.battery & ~r.plugged & (not c.run_on_batteries), "true"),
        _Law("on_wifi", ~r.on_wifi & c.network_wifi_only, "true"),
        _Law("metered", r.metered & c.network_wifi_only, "false"),
        _Law("Mbit/s", ~(v.mbps > 0), "above 0"),
        _Law("screen_on", v.guest & r.screen_on & c.suspend_when_screen_on, "false"),
        _Law("idle_s", used & (not c.run_if_user_active), f"from {c.idle_time_to_run * 60:g}"),
        _Law("user_load", v.guest & ~(r.user_load <= load), "up to suspend_cpu_usage"),
        _Law("local_minute", closed, f"{c.start_hour:g}-{c.end_hour:g} h"),
    ]  # fmt: skip
    busy = c.max_ncpus_pct * c.cpu_usage_limit / 1e4
    idle = c.niu_max_ncpus_pct * c.niu_cpu_usage_limit / 1e4
    memory = np.where(used, c.ram_max_used_busy_pct, c.ram_max_used_idle_pct) / 100
    return laws, np.where(used, busy, idle), memory, c.max_bytes_sec or np.inf


def _federated(c: FederatedConfig, v: _View) -> tuple[list[_Law], Array, Array, float]:
    r, every = v.r, np.ones(v.guest.shape)
    laws = [
        _Law("skin_c", ~(r.skin_c < c.severe_skin_c), f"below {c.severe_skin_c:g}"),
        _Law("soc", v.battery & ~(r.soc >= c.low_battery), f"from {c.low_battery:g}"),
        _Law("plugged", v.battery & ~r.plugged, "true"),
        _Law("metered", r.metered, "false"),
        _Law("Mbit/s", ~(v.mbps > 0), "above 0"),
        _Law("screen_on", v.guest & r.screen_on, "false"),
        _idle(c.idle_min, v),
    ]
    return laws, every * c.max_cpu, every * c.max_memory, c.max_bandwidth_mbps * 1e6 / 8


def _idle(minutes: float, v: _View) -> _Law:
    return _Law("idle_s", v.guest & ~(v.r.idle_s >= minutes * 60), f"from {minutes * 60:g}")


def _closed(minute: Array, start_h: float, end_h: float) -> Array:
    start, end = start_h * 60, end_h * 60
    if start < end:
        return ~((start <= minute) & (minute < end))
    return ~((start <= minute) | (minute < end))
