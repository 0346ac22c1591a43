"""Mobile federated learning: work while the device is idle, charging and on an unmetered network, and not else.

The three conditions are those of Bonawitz et al. 2019 ("Towards federated learning at scale: system design", section
3), which aborts work when one of them ends; what they mean is Android's: idle is screen off for 31 minutes
(JobScheduler's inactivity threshold), charging is plugged and not low (its "stable power"), and jobs stop from
THERMAL_STATUS_SEVERE. JobScheduler's execution quota and the server's pacing of devices are not in.
"""

from __future__ import annotations

from typing import NamedTuple

from models.arrays import namespace
from policies.config import FederatedConfig
from policies.harvest.rows import (
    BYTES_PER_S_PER_MBPS,
    LONG_AGO_S,
    S_PER_MIN,
    Devices,
    Gates,
    above,
    below,
    known,
    state_code,
)
from policies.readings import Array, Decision, Readings


class FederatedState(NamedTuple):
    """One element a device."""

    dedicated: Array  # bool, from Devices
    has_battery: Array  # bool, from Devices
    contributing: Array  # bool
    since_s: Array  # seconds since ``contributing`` changed
    cool: Array  # bool, latch: below SEVERE
    charged: Array  # bool, latch: battery not low


class Federated:
    """Idle, charging, unmetered; ``dedicated`` machines have no owner at them.

    Args:
        config: thresholds and caps.
    """

    def __init__(self, config: FederatedConfig) -> None:
        self.config = config
        self._dwell_s = min(LONG_AGO_S, config.dwell_min * S_PER_MIN)
        self._okay = min(1.0, config.low_battery + config.low_battery_bump)
        self._cap = config.max_bandwidth_mbps * BYTES_PER_S_PER_MBPS

    def init(self, devices: Devices) -> FederatedState:
        """Return the state of devices that have not been read yet."""
        xp = namespace(*devices)
        dedicated, has_battery = xp.asarray(devices.dedicated), xp.asarray(devices.has_battery)
        off, on = xp.zeros_like(dedicated), xp.ones_like(dedicated)
        return FederatedState(dedicated, has_battery, off, xp.full(dedicated.shape, LONG_AGO_S), on, on)

    def decide(self, state: FederatedState, readings: Readings, dt_s: Array) -> tuple[Decision, FederatedState]:
        """Decide for every row; see `policies.harvest.rows.HarvestRule`."""
        config, xp = self.config, namespace(state.since_s)
        r = known(readings, xp)
        own = state.dedicated
        cool = below(state.cool, r.skin_c, config.severe_skin_c, config.hysteresis_c)
        charged = above(state.charged, r.soc, config.low_battery, self._okay)
        power = (charged & r.plugged) | ~(r.has_battery | state.has_battery)
        network = ~r.metered & (r.bandwidth_bytes_per_s > 0.0)
        owner = (~r.screen_on & (r.idle_s >= config.idle_min * S_PER_MIN)) | own

        since_s = state.since_s + dt_s
        rested = state.contributing | (since_s >= self._dwell_s)
        contribute = power & cool & network & owner & rested
        since_s = since_s * xp.astype(state.contributing == contribute, since_s.dtype)
        lent = xp.astype(contribute, since_s.dtype)
        gates = Gates(power, cool, network, owner)
        decision = Decision(
            contribute,
            lent * config.max_cpu,
            lent * config.max_memory,
            xp.full_like(lent, self._cap),
            state_code(contribute, contribute, contribute & False, gates, xp),
        )
        return decision, FederatedState(own, state.has_battery, contribute, since_s, cool, charged)
