"""A fleet as SimPy teaches it: one process a device, the fleet's laws in plain Python floats.

What `sim.fleet` computes for all rows at once is written here once more for one device: battery, heat, governor, owner
and the documented harvest rule. Both are given the same constants and the same owners' days and must end at the same
charge; then their CPU times are compared.
"""

from __future__ import annotations

from math import exp, nan, sqrt
from typing import Any

import numpy as np
import simpy
from simpy.events import ProcessGenerator

from models.battery import reading as battery
from models.battery.cell import CELSIUS_K
from models.governors.reading import Response, step_wise_reading
from models.governors.step_wise import POLL_S
from policies.config import HarvestConfig
from sim.fleet import physics
from sim.fleet.day import IDLE_AT_START_S, Share
from sim.fleet.reading import USER_LOAD
from sim.fleet.stock import Roster
from sim.fleet.window import Air
from sim.owners.crowd import NETWORK, PLUGGED, SCREEN, WIFI

MBPS = 125_000.0
LONG_AGO_S = float(1 << 22)


class Rule:
    """The documented harvest rule for one device without a battery of exceptions: an owner's, not set aside."""

    def __init__(self, config: HarvestConfig, has_battery: bool) -> None:
        self.c, self.has_battery = config, has_battery
        self.contributing, self.since_s = False, LONG_AGO_S
        self.cool = self.unthrottled = self.safe = self.charged = True
        self.reentry = max(config.optimal_battery, min(1.0, config.min_battery + config.hysteresis_battery))
        self.rest_s = max(config.cooldown_min, config.dwell_min) * 60.0

    def decide(
        self, soc: float, plugged: bool, die_c: float, wifi: bool, metered: bool, bytes_per_s: float, screen: bool,
        idle_s: float, minute: float, dt_s: float,
    ) -> float:  # fmt: skip
        """Return the share of compute that is lent."""
        c, band = self.c, self.c.hysteresis_c
        self.cool = die_c < c.max_cpu_temp_c and (self.cool or die_c < c.max_cpu_temp_c - band)
        self.unthrottled = die_c < c.throttle_temp_c and (self.unthrottled or die_c < c.throttle_temp_c - band)
        self.safe = die_c < c.critical_temp_c and (self.safe or die_c < c.critical_temp_c - band)
        self.charged = soc >= c.min_battery and (self.charged or soc >= self.reentry)
        power = (self.charged and (plugged or not c.require_charging)) or not self.has_battery
        network = (
            bytes_per_s >= c.min_bandwidth_mbps * MBPS
            and (wifi or not c.wifi_only)
            and (c.allow_metered or not metered)
        )
        owner = idle_s >= c.idle_min * 60.0 and not (c.require_screen_off and screen)
        start, end = c.hour_start * 60.0, c.hour_end * 60.0
        in_hours = (start <= minute < end) if start < end else (minute >= start or minute < end)
        self.since_s += dt_s
        was = self.contributing
        ready = self.since_s < c.max_session_h * 3600.0 if was else self.cool and self.since_s >= self.rest_s
        self.contributing = self.safe and power and network and owner and ready and in_hours
        if self.contributing != was:
            self.since_s = 0.0
        return c.max_cpu * (1.0 if self.unthrottled else 0.5) if self.contributing else 0.0


class Plain:
    """A few hundred devices of a fleet as SimPy processes.

    Args:
        share: holds the same devices, not yet advanced, in one chunk; with float64 NumPy arrays.
        flags: what owners do, (reading, device).
        air: what surrounds each device, held for the whole run.
        minutes: local minute of each device at each reading, (reading, device).
    """

    def __init__(self, share: Share, flags: Any, air: Air, minutes: Any) -> None:
        (lot,) = share.lots
        self.env = simpy.Environment()
        self.step_s = share.scenario.reading_s
        self.table = battery.Tables(*(column.tolist() for column in lot.chunk.table))
        self.soc = np.asarray(lot.device.body.charge.soc).tolist()
        config = share.scenario.policy.harvest
        assert isinstance(config, HarvestConfig)
        air_c = physics.surroundings(lot.chunk.fixed, *air)
        rows = len(self.soc)
        for i in range(rows):
            fixed, site = _row(lot.chunk.fixed, i), _row(lot.chunk.site, i)
            rule = Rule(config, bool(fixed.has_battery))
            from_air = air_c[:, i].tolist()
            days = (flags[:, i].tolist(), minutes[:, i].tolist())
            self.env.process(self.device(i, fixed, site, rule, float(air.ambient_c[i]), from_air, *days))

    def device(
        self, i: int, f: Any, site: Any, rule: Rule, ambient_c: float, from_air_c: Any, flags: list[int], minutes: Any
    ) -> ProcessGenerator:
        """Live one device's day, reading by reading."""
        cell, table, step_s = f.cell, self.table, self.step_s
        soc, relaxing_v, off, level = self.soc[i], 0.0, False, 0.0
        die_c = board_c = skin_c = ambient_c
        idle_s, since_s = IDLE_AT_START_S, 0.0
        per_interval, max_place = battery.INTERVALS, int(cell.first)
        (k00, k10, k20), (k01, k11, k21), (k02, k12, k22) = f.keep
        (w00, w10, w20), (w01, w11, w21), _ = f.warm_k_per_w
        for flag, minute in zip(flags, minutes, strict=True):
            plugged, wifi = bool(flag & PLUGGED), bool(flag & WIFI)
            screen = bool(flag & SCREEN) and not off
            idle_s = 0.0 if screen else idle_s + since_s
            user_load = USER_LOAD if screen else 0.0
            mobile = bool(flag & NETWORK) and not wifi
            up = site.home_bytes_per_s if wifi else site.mobile_bytes_per_s if mobile else 0.0
            share = rule.decide(
                nan if off else soc, plugged, die_c, wifi, mobile, up, screen, idle_s, minute, since_s,
            )  # fmt: skip
            since_s = step_s

            load = user_load + min(share, 1.0 - user_load)
            wanted_w = f.dynamic_w * load
            screen_w = f.screen_w if screen else 0.0
            base_w = (0.0 if off else f.idle_w) + screen_w
            die_w = min(wanted_w, f.room_w)
            if board_c + f.reach_k_per_w * die_w > f.trip_c or level > 0.0:
                found = step_wise_reading(
                    Response(*f.response), (die_c, board_c, skin_c),
                    tuple(ambient_c + k * base_w for k in f.idle_k_per_w), 0.0, wanted_w, f.trip_c, f.hysteresis_k,
                    f.levels, level, POLL_S,
                )  # fmt: skip
                die_w, level = min(float(found.mean_power_w), f.room_w), float(found.level)
            total_w = die_w + base_w + (0.0 if off else f.leak_w_per_k * (die_c - physics.LEAK_REFERENCE_C))
            power_w = (total_w - (f.charger_w if plugged else 0.0)) * f.per_cell

            place = int(soc * per_interval) + max_place
            slope_v = table.ocv_slope_v[place]
            ocv_v = table.ocv_at_zero_v[place] + slope_v * soc
            warmth = exp(cell.activation_k / (board_c + CELSIUS_K) - cell.activation_at_25c)
            r0, r = table.r0_ohm[place] * warmth, table.r_ohm[place] * warmth
            sag = (0.5 * cell.soc_per_a) * slope_v
            slack_v, give = relaxing_v * cell.half, r * cell.rise_half
            floor_a = 0.0
            if power_w < 0.0:
                hot = (battery.CHARGE_MAX_C - board_c) * (1.0 / battery.HOT_TAPER_K)
                cold = (board_c - battery.CHARGE_MIN_C) * (1.0 / battery.COLD_TAPER_K)
                limit_a = cell.current_min_a * min(hot, cold, 1.0)
                room_a = (soc - cell.full_soc) * cell.a_per_soc
                held_a = (ocv_v - slack_v - cell.v_max) / (sag + give + r0)
                floor_a = min(max(held_a, limit_a, room_a), 0.0)
            guess_a = max(power_w / (ocv_v - relaxing_v), floor_a)
            ocv_v_middle = ocv_v - sag * guess_a
            slow_v = slack_v + give * guess_a
            middle_v = ocv_v_middle - slow_v
            half_v = max(0.5 * middle_v, cell.half_min_v)
            current_a = power_w / (half_v + sqrt(max(half_v * half_v - r0 * power_w, 0.0)))
            current_a = max(current_a, floor_a)
            at_once_v = r0 * current_a
            heat_w = current_a * (cell.heat_share * at_once_v + cell.slow_heat_share * slow_v) * f.cells
            moved = current_a * cell.soc_per_a
            relaxing_v = relaxing_v * cell.whole + (r * cell.rise_whole) * current_a
            cut = ocv_v - slope_v * moved - relaxing_v - at_once_v < cell.v_min or soc - moved <= 0.0
            soc = min(max(soc - moved, 0.0), 1.0)

            board_w = base_w + heat_w - (1.0 - physics.SCREEN_HEAT_SHARE) * screen_w
            d, b, s = die_c, board_c, skin_c
            die_c = from_air_c[0] + k00 * d + k01 * b + k02 * s + w00 * die_w + w01 * board_w
            board_c = from_air_c[1] + k10 * d + k11 * b + k12 * s + w10 * die_w + w11 * board_w
            skin_c = from_air_c[2] + k20 * d + k21 * b + k22 * s + w20 * die_w + w21 * board_w
            off = (off or cut or not (f.has_battery or plugged)) and not (plugged and soc >= physics.BOOT_SOC)
            self.soc[i] = soc
            yield self.env.timeout(step_s)


def _row(columns: Any, i: int) -> Any:
    """Return row i of a named tuple of columns as plain Python numbers, one list for a column of (node, device)."""
    if isinstance(columns, tuple):
        parts = [_row(column, i) for column in columns]
        return type(columns)(*parts) if hasattr(columns, "_fields") else tuple(parts)
    value = np.asarray(columns)
    return value[..., i].tolist() if value.ndim else value.item()


def roster_of(roster: Roster, rows: Any) -> Roster:
    """Return some rows of a roster."""
    return Roster(*(column[rows] for column in roster))
