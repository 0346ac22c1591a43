"""The owner's hard limits over one reading, shared by the rules that obey them; constants are folded at birth."""

from __future__ import annotations

from typing import Any

from policies.config import OwnerLimits
from policies.harvest.rows import BYTES_PER_S_PER_MBPS, DISABLED, Gates, state_code
from policies.readings import Array, Decision, Readings

THROTTLED_FACTOR = 0.5  # documented: compute is halved from the throttle temperature


def check_limits(config: OwnerLimits) -> None:
    """Raise a ValueError if the limits contradict each other."""
    if not config.max_cpu_temp_c <= config.throttle_temp_c <= config.critical_temp_c:
        raise ValueError(
            f"max_cpu_temp_c, throttle_temp_c, critical_temp_c are {config.max_cpu_temp_c:g}, "
            f"{config.throttle_temp_c:g}, {config.critical_temp_c:g}; allowed: values that do not fall"
        )


class Limits:
    """The gates of an `OwnerLimits`; each answers true while nothing forbids."""

    def __init__(self, config: OwnerLimits) -> None:
        self.config = config
        self.lends = config.max_cpu > 0 and config.max_memory > 0
        self.bandwidth_cap = config.max_bandwidth_mbps * BYTES_PER_S_PER_MBPS
        self._bandwidth_min = config.min_bandwidth_mbps * BYTES_PER_S_PER_MBPS
        self._slow_share = config.max_cpu * THROTTLED_FACTOR
        self._extra_share = config.max_cpu - self._slow_share

    def power(self, r: Readings, has_battery: Array, own: Array, charged: Array) -> Array:
        """Return whether charge and charger allow a session; ``own`` machines need no charger."""
        if self.config.require_charging:
            charged = charged & (r.plugged | own)
        return charged | ~(r.has_battery | has_battery)

    def network(self, r: Readings) -> Array:
        """Return whether the network allows one."""
        allowed = r.bandwidth_bytes_per_s >= self._bandwidth_min
        if self.config.wifi_only:
            allowed = allowed & r.on_wifi
        return allowed if self.config.allow_metered else allowed & ~r.metered

    def decision(
        self, contribute: Array, draining: Array, unthrottled: Array, gates: Gates, like: Array, xp: Any
    ) -> Decision:
        """Return the documented caps, halved where throttled. ``like`` gives the shape and type of a share."""
        full = contribute & unthrottled
        lent = xp.astype(contribute, like.dtype)
        compute = lent * self._slow_share + xp.astype(full, like.dtype) * self._extra_share
        return self.answer(contribute, draining, full, compute, lent, gates, xp)

    def answer(
        self, contribute: Array, draining: Array, full: Array, compute: Array, lent: Array, gates: Gates, xp: Any
    ) -> Decision:
        """Return the decision that lends ``compute``; a session that is not ``full`` is told as throttled."""
        held = xp.astype(contribute | draining, lent.dtype) * self.config.max_memory
        # The bandwidth cap holds at rest as well: hand-backs and heartbeats are the village's traffic too.
        cap = xp.full_like(lent, self.bandwidth_cap)
        if self.lends:
            code = state_code(contribute, full, draining, gates, xp)
        else:
            code = xp.full_like(contribute, DISABLED, dtype=xp.int8)
        return Decision(contribute, compute, held, cap, code)
