"""The documented limits as the village's predecessor applied them: a bad example, kept to be measured.

It looked at six limits only (battery floor, charging, 45 °C, Wi-Fi, screen, hours), once, when a session started; then
nothing ended a session: not heat, not an unplugged charger, not the owner, not the eight hours. Cool-down, idle time,
optimum, metering, bandwidth, throttling and bands were fields that nothing read. A machine without a battery reported
0 % and was refused. Two things are ours, without which it could not run in the twin at all: a session is lost when the
battery is empty, for the device is off; and the caps are announced as configured, for the worker holds itself to them.
A third is the interface's: what no sensor can mean is unknown (`rows.known`) and starts nothing. It is kept for what it
made of true readings, and a fleet's are; a session that runs ends by nonsense no more than by heat, but for a charge
that is unknown, which is an empty battery's.
"""

from __future__ import annotations

from typing import NamedTuple

from models.arrays import namespace
from policies.config import PredecessorConfig
from policies.harvest.limits import Limits, check_limits
from policies.harvest.rows import Devices, Gates, known, within_hours
from policies.readings import Array, Decision, Readings


class PredecessorState(NamedTuple):
    """One element a device: it remembered nothing but whether a session runs."""

    contributing: Array  # bool
    shape_of: Array  # zeros, of a share's type


class Predecessor:
    """The predecessor's harvest policy.

    Args:
        config: the documented limits.

    Raises:
        ValueError: limits that contradict each other.
    """

    def __init__(self, config: PredecessorConfig) -> None:
        check_limits(config)
        self.config = config
        self._limits = Limits(config)

    def init(self, devices: Devices) -> PredecessorState:
        """Return the state of devices that have not been read yet; it knew nothing else of them."""
        xp = namespace(*devices)
        off = xp.zeros_like(xp.asarray(devices.dedicated))
        return PredecessorState(off, xp.zeros(off.shape))

    def decide(self, state: PredecessorState, readings: Readings, dt_s: Array) -> tuple[Decision, PredecessorState]:
        """Decide for every row; see `policies.harvest.rows.HarvestRule`. Time passes unnoticed."""
        config, xp = self.config, namespace(state.shape_of)
        r = known(readings, xp)
        power = r.has_battery & (r.soc >= config.min_battery)
        if config.require_charging:
            power = power & r.plugged
        cool = r.die_c < config.max_cpu_temp_c
        network = r.on_wifi if config.wifi_only else r.on_wifi | True
        owner = ~r.screen_on if config.require_screen_off else r.screen_on | True
        hours = within_hours(r.local_minute, config.hour_start, config.hour_end)
        start = power & cool & network & owner & hours & self._limits.lends
        contribute = start | (state.contributing & (~r.has_battery | (r.soc > 0.0)))  # an empty device says NaN
        never = contribute & False
        gates = Gates(power, cool, network, owner)
        decision = self._limits.decision(contribute, never, contribute, gates, state.shape_of, xp)
        return decision, state._replace(contributing=contribute)
