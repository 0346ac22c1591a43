"""Promises of harvest, asked at every reading of a fleet; each names the device, what was read, and what is allowed.

They know the configuration and what was read and decided, and share no code with the rules: the envelope is
`policies.harvest.envelope`, which remembers nothing; what these remember is when sessions began and ended.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from policies.config import EdgeConfig, HarvestConfig
from policies.edge.ladder import LadderState
from policies.harvest.envelope import violations
from policies.harvest.rows import DRAINING, THERMAL_THROTTLE, Devices
from policies.readings import Decision, Readings
from scenarios.checks.language import Check, Event, Sometimes, told

READ = told("read")
S_PER_H, S_PER_MIN = 3600.0, 60.0


class Reading(NamedTuple):
    """A fleet's reading, as the world tells it; arrays of one element a device.

    Attributes:
        time_s: since the start.
        off: devices without power; what their policies decide happens nowhere.
        rungs: the edge ladders' state after this reading.
    """

    time_s: float
    readings: Readings
    decision: Decision
    off: np.ndarray
    rungs: LadderState


class FleetCheck(Check):
    """A promise about every device of a fleet.

    Args:
        name: what must hold.
        names: the devices'.
        devices: what is fixed about them.
    """

    def __init__(self, name: str, names: Sequence[str], devices: Devices) -> None:
        super().__init__(name, READ)
        self.names, self.devices, self.before_s = names, devices, 0.0

    def take(self, event: Event) -> str:
        reading: Reading = event.value
        why = self.read(reading, reading.time_s - self.before_s)
        self.before_s = reading.time_s
        return why

    @abstractmethod
    def read(self, reading: Reading, dt_s: float) -> str:
        """Take in a reading, ``dt_s`` after the one before; return what is wrong, or ""."""

    def first(self, broken: np.ndarray, says: Callable[[int], str]) -> str:
        """Word the first device that breaks the promise."""
        if not broken.any():
            return ""
        row = int(np.argmax(broken))
        return f"{self.names[row]}: {says(row)}"


class NeverPastTheEnvelope(FleetCheck):
    """No device lends while a reading forbids it, nor more than its owner allows (`policies.harvest.envelope`)."""

    def __init__(self, names: Sequence[str], devices: Devices, config: HarvestConfig) -> None:
        super().__init__("never_past_the_envelope", names, devices)
        self.config = config

    def read(self, reading: Reading, dt_s: float) -> str:
        for line in violations(self.config, self.devices, reading.readings, reading.decision):
            row, _, what = line.removeprefix("row ").partition(": ")
            if not reading.off[int(row)]:
                return f"{self.names[int(row)]}: {what}"
        return ""


class SessionsAreShort(FleetCheck):
    """An owner's device lends for no longer than the longest session, to the next reading."""

    def __init__(self, names: Sequence[str], devices: Devices, config: HarvestConfig) -> None:
        super().__init__("sessions_are_short", names, devices)
        self.longest_s = config.max_session_h * S_PER_H
        self.began_s = np.full(len(names), np.inf)

    def read(self, reading: Reading, dt_s: float) -> str:
        self.began_s = _since(reading.decision.contribute, self.began_s, reading.time_s)
        length_s = reading.time_s - self.began_s
        return self.first(
            ~self.devices.dedicated & (length_s >= self.longest_s),
            lambda row: f"its session has lasted {length_s[row]:g} s; allowed: below {self.longest_s:g}",
        )


class RestsBetweenSessions(FleetCheck):
    """After a session none starts before the dwell is over, on an owner's device before the cool-down is."""

    def __init__(self, names: Sequence[str], devices: Devices, config: HarvestConfig) -> None:
        super().__init__("rests_between_sessions", names, devices)
        dwell_s, cooldown_s = config.dwell_min * S_PER_MIN, config.cooldown_min * S_PER_MIN
        self.rest_s = np.where(devices.dedicated, dwell_s, max(dwell_s, cooldown_s))
        self.lent = np.zeros(len(names), dtype=bool)
        self.ended_s = np.full(len(names), -np.inf)

    def read(self, reading: Reading, dt_s: float) -> str:
        lends = reading.decision.contribute
        rested_s = reading.time_s - self.ended_s
        starts = lends & ~self.lent
        self.ended_s = np.where(self.lent & ~lends, reading.time_s, self.ended_s)
        self.lent = lends
        return self.first(
            starts & (rested_s < self.rest_s),
            lambda row: f"starts {rested_s[row]:g} s after its last session; allowed: from {self.rest_s[row]:g}",
        )


class HandsBackInOrder(FleetCheck):
    """A session that only time has ended drains: what it holds is handed back, not dropped."""

    def __init__(self, names: Sequence[str], devices: Devices, config: HarvestConfig) -> None:
        super().__init__("hands_back_in_order", names, devices)
        self.config = config
        self.lent = np.zeros(len(names), dtype=bool)

    def read(self, reading: Reading, dt_s: float) -> str:
        decision, ended = reading.decision, self.lent & ~reading.decision.contribute
        self.lent = decision.contribute
        held = (decision.state == DRAINING) & (decision.memory_share > 0.0)
        return self.first(
            ended & ~held & allowed(self.config, self.devices, reading.readings, beyond_bands=False, but_time=True),
            lambda row: "its session ended by time alone and holds no memory to hand back; allowed: draining",
        )


class FreeDevicesLend(FleetCheck):
    """Where every limit has been kept away from, beyond its band, a device lends as soon as it has rested.

    So one that was too hot comes back when it has cooled, and one without a battery lends in calm hours.
    """

    family = "liveness"

    def __init__(self, names: Sequence[str], devices: Devices, config: HarvestConfig) -> None:
        super().__init__("free_devices_lend", names, devices)
        self.config = config
        dwell_s, cooldown_s = config.dwell_min * S_PER_MIN, config.cooldown_min * S_PER_MIN
        self.rest_s = np.where(devices.dedicated, dwell_s, max(dwell_s, cooldown_s))
        self.free_s = np.full(len(names), np.inf)

    def read(self, reading: Reading, dt_s: float) -> str:
        free = allowed(self.config, self.devices, reading.readings, beyond_bands=True) & ~reading.off
        self.free_s = _since(free & ~reading.decision.contribute, self.free_s, reading.time_s)
        waited_s, most_s = reading.time_s - self.free_s, self.rest_s + dt_s  # the rest ends between two readings
        return self.first(
            waited_s > most_s,
            lambda row: f"has not lent for {waited_s[row]:g} s, and nothing forbids it; allowed: {most_s[row]:g}",
        )


class KeepsItsBands(FleetCheck):
    """What has reached a limit stays bound until its reading is beyond the band: one that trembles changes nothing.

    Asked of the start, of full compute, of any session above the critical heat and below the floor, and of each rung
    that an edge ladder comes down from.
    """

    def __init__(self, names: Sequence[str], devices: Devices, config: HarvestConfig, edge: EdgeConfig) -> None:
        super().__init__("keeps_its_bands", names, devices)
        self.config, self.edge = config, edge
        self.reached = {limit: np.zeros(len(names), dtype=bool) for limit in ("start", "throttle", "critical", "floor")}
        self.lent = np.zeros(len(names), dtype=bool)
        self.rungs: LadderState | None = None

    def read(self, reading: Reading, dt_s: float) -> str:
        c, r, d, reached = self.config, reading.readings, reading.decision, self.reached
        for name, limit_c in (("start", c.max_cpu_temp_c), ("throttle", c.throttle_temp_c),
                              ("critical", c.critical_temp_c)):  # fmt: skip
            reached[name] = (r.die_c >= limit_c) | (reached[name] & (r.die_c >= limit_c - c.hysteresis_c))
        clear = max(c.optimal_battery, min(1.0, c.min_battery + c.hysteresis_battery))
        low = ~(r.soc >= c.min_battery) | (reached["floor"] & ~(r.soc >= clear))
        reached["floor"] = low & self.devices.has_battery
        full = d.compute_share > 0.5 * c.max_cpu
        wrong = {"start": d.contribute & ~self.lent, "throttle": full, "critical": d.contribute, "floor": d.contribute}
        self.lent = d.contribute
        for name, does in wrong.items():
            why = self.first(
                does & reached[name],
                lambda row, name=name: (
                    f"die is {r.die_c[row]:.1f} C, soc {r.soc[row]:g}: within the band of the "  # type: ignore[misc]
                    f"{name} limit it has reached"
                ),
            )
            if why:
                return why
        return self._ladders(reading)

    def _ladders(self, reading: Reading) -> str:
        before, now, edge = self.rungs, reading.rungs, self.edge
        self.rungs = now
        if before is None:
            return ""
        heat_c = _hottest_c(reading.readings, self.devices)
        hot = sum((heat_c >= c - edge.hysteresis_c) for c in (edge.warm_c, edge.hot_c, edge.critical_c))
        limits = (edge.battery_conservative, edge.battery_low, edge.battery_critical)
        low = sum((reading.readings.soc <= limit + edge.hysteresis_battery) for limit in limits)
        return self.first(
            (now.heat < before.heat) & (now.heat < hot),
            lambda row: f"down to heat rung {now.heat[row]} at {heat_c[row]:.1f} C, within its band",
        ) or self.first(
            self.devices.has_battery & (now.battery < before.battery) & (now.battery < low),
            lambda row: (
                f"down to battery rung {now.battery[row]} at soc {reading.readings.soc[row]:g}, within its band"
            ),
        )


class ClimbsAtOnce(FleetCheck):
    """An edge ladder stands at least as high as what is read demands: at 0 % it is as careful as can be."""

    def __init__(self, names: Sequence[str], devices: Devices, edge: EdgeConfig) -> None:
        super().__init__("climbs_at_once", names, devices)
        self.battery = (edge.battery_conservative, edge.battery_low, edge.battery_critical)
        self.heat = (edge.warm_c, edge.hot_c, edge.critical_c)

    def read(self, reading: Reading, dt_s: float) -> str:
        r, battery = reading.readings, self.devices.has_battery
        hottest_c = _hottest_c(r, self.devices)
        low = battery & (reading.rungs.battery < sum(r.soc <= limit for limit in self.battery))
        hot = reading.rungs.heat < sum(hottest_c >= limit for limit in self.heat)
        return self.first(low, lambda row: f"soc is {r.soc[row]:g} on rung {reading.rungs.battery[row]}") or self.first(
            hot, lambda row: f"heat is {hottest_c[row]:g} C on rung {reading.rungs.heat[row]}"
        )


def _hottest_c(r: Readings, devices: Devices) -> np.ndarray:
    """Return what an edge ladder goes by: the hotter of die and, where there is one, battery."""
    battery_c = np.where(devices.has_battery, r.battery_c, -np.inf)
    return np.maximum(r.die_c, battery_c)


def allowed(
    c: HarvestConfig, devices: Devices, r: Readings, *, beyond_bands: bool, but_time: bool = False
) -> np.ndarray:
    """Return which devices every limit allows to lend.

    Args:
        beyond_bands: by so much that no latch still holds; else as a running session needs it.
        but_time: leave the hours out, though not a clock that tells none.
    """
    battery, guest = devices.has_battery | r.has_battery, ~devices.dedicated
    floor = max(c.optimal_battery, min(1.0, c.min_battery + c.hysteresis_battery)) if beyond_bands else c.min_battery
    charged = (r.soc >= floor) & (r.plugged | ~guest | (not c.require_charging))
    hottest_c = c.max_cpu_temp_c - c.hysteresis_c if beyond_bands else c.critical_temp_c
    network = (r.on_wifi | (not c.wifi_only)) & (~r.metered | c.allow_metered)
    network &= r.bandwidth_bytes_per_s * 8 / 1e6 >= c.min_bandwidth_mbps
    owner = ~guest | (((~r.screen_on) | (not c.require_screen_off)) & (r.idle_s >= c.idle_min * S_PER_MIN))
    found: np.ndarray = (charged | ~battery) & (r.die_c < hottest_c) & network & owner
    found &= ~guest | (r.local_minute >= 0.0)
    if not but_time:
        start, end = c.hour_start * 60, c.hour_end * 60
        after, before = r.local_minute >= start, r.local_minute < end
        found &= ~guest | (after & before if start < end else after | before)
    return found


def _since(holds: np.ndarray, since_s: np.ndarray, now_s: float) -> np.ndarray:
    """Return since when something has held without a break, infinity where it does not."""
    held: np.ndarray = np.where(holds, np.minimum(since_s, now_s), np.inf)
    return held


def rare() -> tuple[Sometimes, ...]:
    """What a campaign must have met: heat within a session, a drain, a battery that reads 0 %, and ladders on top."""

    def when(name: str, happened: Callable[[Reading], np.ndarray]) -> Sometimes:
        return Sometimes(name, READ, when=lambda event: bool(happened(event.value).any()))

    return (
        when("a_session_was_throttled", lambda now: now.decision.contribute & (now.decision.state == THERMAL_THROTTLE)),
        when("a_session_drained", lambda now: now.decision.state == DRAINING),
        when("a_battery_read_zero", lambda now: now.readings.has_battery & (now.readings.soc == 0.0)),
        when("a_device_was_off", lambda now: now.off),
        when("a_ladder_was_as_careful_as_can_be", lambda now: (now.rungs.battery == 3) | (now.rungs.heat == 3)),
    )
