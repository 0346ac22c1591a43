"""The harvest envelope: what a decision must never break, whatever the policy's memory.

It knows the documented limits and one reading, and no state: a decision inside the envelope may still be
wrong about time (session length, cool-down, hysteresis), one outside is always wrong. It shares no rule with
`policies.harvest.elementwise`, so that it can check that one and any other harvest policy.
"""

from __future__ import annotations

import numpy as np

from policies.config import HarvestConfig
from policies.harvest.elementwise import Devices
from policies.readings import Array, Decision, Readings

_SHARE_TOLERANCE = 1e-6  # a share computed in float32 may round above its cap


def violations(config: HarvestConfig, devices: Devices, readings: Readings, decision: Decision) -> list[str]:
    """Return one line for every limit a row's decision breaks; an empty list is good.

    Args:
        config: the limits.
        devices: one element a row, or scalars.
        readings: what the policy read.
        decision: what it decided on that.

    Returns:
        Lines of the form ``row 3: die_c is 66; allowed while contributing: below 65``.
    """
    rows = np.size(decision.contribute)

    def column(values: Array) -> Array:
        return np.broadcast_to(np.asarray(values), (rows,))

    r = Readings(*(column(field) for field in readings))
    d = Decision(*(column(field) for field in decision))
    dedicated = column(devices.dedicated)
    battery = column(devices.has_battery) | r.has_battery
    minute, start, end = r.local_minute, config.hour_start * 60, config.hour_end * 60
    closed = ~((start <= minute) & (minute < end)) if start < end else ~((start <= minute) | (minute < end))
    mbps = r.bandwidth_bytes_per_s * 8 / 1e6
    on, guest = d.contribute, d.contribute & ~dedicated
    slow = r.die_c >= config.throttle_temp_c
    compute_max = np.where(on, config.max_cpu * np.where(slow, 0.5, 1.0), 0.0)
    memory_max = np.where(on, config.max_memory, 0.0)
    cap_bytes_per_s = config.max_bandwidth_mbps * 1e6 / 8

    laws = [
        ("die_c", on & ~(r.die_c < config.critical_temp_c), r.die_c, f"below {config.critical_temp_c:g}"),
        ("soc", on & battery & ~(r.soc >= config.min_battery), r.soc, f"from {config.min_battery:g}"),
        ("plugged", guest & battery & ~r.plugged & config.require_charging, r.plugged, "true"),
        ("on_wifi", on & ~r.on_wifi & config.wifi_only, r.on_wifi, "true"),
        ("metered", on & r.metered & (not config.allow_metered), r.metered, "false"),
        ("Mbit/s", on & ~(mbps >= config.min_bandwidth_mbps), mbps, f"from {config.min_bandwidth_mbps:g}"),
        ("screen_on", guest & r.screen_on & config.require_screen_off, r.screen_on, "false"),
        ("idle_s", guest & ~(r.idle_s >= config.idle_min * 60), r.idle_s, f"from {config.idle_min * 60:g}"),
        ("local_minute", guest & closed, minute, f"{config.hour_start:g}-{config.hour_end:g} h"),
    ]
    found = [
        f"row {row}: {name} is {values[row]}; allowed while contributing: {allowed}"
        for name, broken, values, allowed in laws
        for row in np.flatnonzero(broken)
    ]
    caps = [
        ("compute_share", d.compute_share, compute_max),
        ("memory_share", d.memory_share, memory_max),
        ("bandwidth_bytes_per_s", d.bandwidth_bytes_per_s, np.full(rows, cap_bytes_per_s)),
    ]
    found += [
        f"row {row}: {name} is {values[row]}; allowed: 0 to {limit[row]:g}"
        for name, values, limit in caps
        for row in np.flatnonzero(~((values >= 0) & (values <= limit * (1 + _SHARE_TOLERANCE))))
    ]
    return found
