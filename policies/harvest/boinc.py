"""Volunteer computing, by BOINC's global preferences and the client's rules for them.

Source: BOINC/boinc, `lib/prefs.cpp` (defaults), `client/cs_prefs.cpp` and ``CLIENT_STATE::check_suspend_processing``.

In: run_on_batteries, run_if_user_active, the Android manager's suspend-when-screen-on, idle_time_to_run,
suspend_cpu_usage, start and end hour, battery_charge_min_pct and battery_max_temperature (devices with a battery),
max_ncpus_pct, cpu_usage_limit, ram_max_used_busy and _idle, their niu_ ("not in use") twins, network_wifi_only,
max_bytes_sec, and the back-off after a battery's suspension.
Not in: GPUs, disk limits, work buffers, daily transfer quotas, hours by weekday, hours of the network, exclusive
applications, suspend_if_no_recent_input. Different: BOINC computes on while the network is closed; serving needs it, so
here a session ends with it. A sensor that failed means no, where BOINC would compute on.
"""

from __future__ import annotations

from typing import NamedTuple

from models.arrays import namespace
from policies.config import BoincConfig
from policies.harvest.rows import LONG_AGO_S, S_PER_MIN, Devices, Gates, known, state_code, within_hours
from policies.readings import Array, Decision, Readings

UNCAPPED_BYTES_PER_S = 125e6  # 1 Gbit/s, above any home uplink: what "no limit" is announced as


class BoincState(NamedTuple):
    """One element a device."""

    dedicated: Array  # bool, from Devices
    has_battery: Array  # bool, from Devices
    contributing: Array  # bool
    since_s: Array  # seconds since ``contributing`` changed


class Boinc:
    """BOINC's preferences as a harvest policy; ``dedicated`` machines have no owner at them and no hours.

    Args:
        config: the preferences.
    """

    def __init__(self, config: BoincConfig) -> None:
        self.config = config
        self._dwell_s = min(LONG_AGO_S, config.dwell_min * S_PER_MIN)
        self._busy_share = config.max_ncpus_pct * config.cpu_usage_limit / 1e4
        self._idle_share = config.niu_max_ncpus_pct * config.niu_cpu_usage_limit / 1e4
        self._busy_memory, self._idle_memory = config.ram_max_used_busy_pct / 100, config.ram_max_used_idle_pct / 100

    def init(self, devices: Devices) -> BoincState:
        """Return the state of devices that have not been read yet."""
        xp = namespace(*devices)
        dedicated, has_battery = xp.asarray(devices.dedicated), xp.asarray(devices.has_battery)
        return BoincState(dedicated, has_battery, xp.zeros_like(dedicated), xp.full(dedicated.shape, LONG_AGO_S))

    def decide(self, state: BoincState, readings: Readings, dt_s: Array) -> tuple[Decision, BoincState]:
        """Decide for every row; see `policies.harvest.rows.HarvestRule`."""
        config, xp = self.config, namespace(state.since_s)
        r = known(readings, xp)
        own, mains = state.dedicated, ~(r.has_battery | state.has_battery)

        power = r.soc >= config.battery_charge_min_pct / 100
        if not config.run_on_batteries:
            power = power & r.plugged
        power = power | mains
        cool = (r.battery_c < config.battery_max_temperature) | mains
        network = r.bandwidth_bytes_per_s > 0.0
        if config.network_wifi_only:
            network = network & r.on_wifi & ~r.metered

        unused = r.idle_s >= config.idle_time_to_run * S_PER_MIN
        owner = self._quiet(r.user_load, unused)
        if not config.run_if_user_active:
            owner = owner & unused
        if config.suspend_when_screen_on:
            owner = owner & ~r.screen_on
        owner = owner | own
        unused = unused | own

        since_s = state.since_s + dt_s
        rested = state.contributing | (since_s >= self._dwell_s)
        contribute = power & cool & network & owner & rested
        if config.start_hour != config.end_hour:
            contribute = contribute & (own | within_hours(r.local_minute, config.start_hour, config.end_hour))
        since_s = since_s * xp.astype(state.contributing == contribute, since_s.dtype)

        lent = xp.astype(contribute, since_s.dtype)
        more = xp.astype(contribute & unused, since_s.dtype)
        cap = config.max_bytes_sec or UNCAPPED_BYTES_PER_S
        decision = Decision(
            contribute,
            lent * self._busy_share + more * (self._idle_share - self._busy_share),
            lent * self._busy_memory + more * (self._idle_memory - self._busy_memory),
            xp.full_like(lent, cap),
            state_code(contribute, contribute, contribute & False, Gates(power, cool, network, owner), xp),
        )
        return decision, BoincState(own, state.has_battery, contribute, since_s)

    def _quiet(self, user_load: Array, unused: Array) -> Array:
        """Return whether programs other than ours use no more than suspend_cpu_usage; 0 means any use will do."""
        busy, idle = self.config.suspend_cpu_usage or 100.0, self.config.niu_suspend_cpu_usage or 100.0
        in_use = user_load <= busy / 100
        return in_use if busy == idle else (in_use & ~unused) | ((user_load <= idle / 100) & unused)
