"""Devices in odd states, of odd owners, under odd limits: whatever is left out for some rows changes none of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from policies.config import HarvestConfig
from scenarios.fleet import FleetPolicies
from sim.fleet import day, stock
from sim.fleet.again import own
from sim.fleet.day import Lot, Share
from sim.fleet.window import run_numpy
from tests.sim.fleet.fleets import small
from tests.sim.fleet.test_quiet import leaves

LIMITS = [
    HarvestConfig(),
    HarvestConfig(hour_start=0.0, hour_end=24.0, drain_s=0.0, max_session_h=0.3, cooldown_min=0.0, idle_min=0.0),
    HarvestConfig(
        hour_start=23.0, hour_end=22.0, wifi_only=False, allow_metered=True, min_bandwidth_mbps=0.0, idle_min=0.0
    ),
    HarvestConfig(hour_start=9.0, hour_end=8.0, require_charging=False, min_battery=0.0),
    HarvestConfig(hour_start=0.0, hour_end=24.0, require_screen_off=False, min_battery=0.9, max_cpu=1.0),
    HarvestConfig(hour_start=8.0, hour_end=22.5, max_cpu=0.0, drain_s=300.0),
]
SOCS = [0.0, 1e-6, 1e-4, 0.0299, 0.03, 0.19999, 0.2, 0.5, 0.8, 0.95, 1.0, np.nan]  # thresholds, ends, a failed sensor


def disturbed(lot: Lot, draw: np.random.Generator) -> Lot:
    """Return a chunk in which many a device is somewhere else than it would come by itself."""
    device, battery, rows = lot.device, np.asarray(lot.what.has_battery), lot.what.has_battery.size
    body, memory, fixed = device.body, device.memory, lot.chunk.fixed

    def some(share: float) -> Any:
        return draw.random(rows) < share

    def put(where: Any, new: Any, old: Any) -> Any:
        return np.where(where, new, old).astype(np.asarray(old).dtype)

    soc = put(some(0.3) & battery, draw.choice(SOCS, rows), body.charge.soc)
    pair_v = put(some(0.2) & battery, draw.uniform(-0.3, 0.8, rows), body.charge.relaxing_v)
    hot_c = draw.uniform(-30.0, 90.0, rows)
    runs = put(some(0.15), some(0.6), memory.contributing)
    body = body._replace(
        charge=body.charge._replace(soc=soc, relaxing_v=pair_v), die_c=put(some(0.2), hot_c + 3.0, body.die_c),
        board_c=put(some(0.2), hot_c, body.board_c), skin_c=put(some(0.2), hot_c - 3.0, body.skin_c),
        level=put(some(0.02), 1.0, body.level), off=put(some(0.1), some(0.5), body.off),
    )  # fmt: skip
    memory = memory._replace(
        contributing=runs, draining=~runs & (memory.draining | some(0.05)), cool=memory.cool & ~some(0.1),
        since_s=put(some(0.2), np.rint(draw.uniform(0.0, 40000.0, rows)), memory.since_s),
        unthrottled=memory.unthrottled & ~some(0.1), safe=memory.safe & ~some(0.1),
        charged=memory.charged & ~some(0.2), dedicated=memory.dedicated | some(0.02),
    )  # fmt: skip
    charger_w = put(some(0.2), draw.uniform(0.0, 3.0, rows), np.broadcast_to(fixed.charger_w, rows).astype(soc.dtype))
    return lot._replace(
        chunk=lot.chunk._replace(fixed=fixed._replace(charger_w=charger_w)),
        device=own(device._replace(body=body, memory=memory)), last=own(lot.last._replace(contribute=runs)),
    )  # fmt: skip


def other_owners(flags: Any, draw: np.random.Generator) -> Any:
    """Return flags in which owners keep to something all window, or change it for one reading."""
    flags = flags.copy()
    steps, rows = flags.shape
    for bit in (np.uint8(1 << place) for place in range(8)):
        flags[:, draw.random(rows) < 0.15] |= bit
        flags[:, draw.random(rows) < 0.15] &= ~bit
        flags[draw.integers(steps), draw.random(rows) < 0.05] ^= bit
    return flags


@pytest.mark.parametrize("number", range(len(LIMITS)))
def test_short_ways_end_to_the_bit_as_the_whole_law(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weak chargers, dead batteries, governors, sensors that fail, network and owners that change, windows of any size.

    State, sums and counts of every row are those of the policy asked at every reading and the physics in full.
    """
    monkeypatch.setattr(day, "MANY", 0)
    draw, steps = np.random.default_rng(number), [1, 15, 5, 2, 60, 15][number]
    reading_s = [600.0, 60.0, 7.0, 30.0, 60.0, 1.0][number]
    scenario = small(
        devices=300, time_zones_h=(0.0, 5.5, -11.75, 13.0), start_minute=[1430, 0, 1435, 470, 600, 1349][number],
        reading_s=reading_s, window_s=steps * reading_s, duration_s=3 * steps * reading_s,
        precision=["float64", "float32"][number % 2], policy=FleetPolicies(harvest=LIMITS[number]),
    )  # fmt: skip
    share = Share(scenario, [np.arange(120), np.arange(120, 300)], stock.roster(scenario))
    for window in range(3):
        share.lots = [disturbed(lot, draw) for lot in share.lots]
        signals = share.signals(window, [1.0, 0.7, 0.0][window])
        starts = [share._start(i, window) for i in range(2)]
        starts = [start._replace(flags=other_owners(start.flags, draw)) for start in starts]
        with np.errstate(all="ignore"), monkeypatch.context() as patch:
            full = [run_numpy(share.policy, start, signals)[0] for start in starts]
            patch.setattr(share, "_start", lambda i, _, starts=starts: starts[i])
            found = share._lived(window, signals)
        for ours, theirs in zip(leaves(tuple(found)), leaves(tuple(full)), strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype
        share.lots = [
            lot._replace(device=device, last=last) for lot, (device, _, _, last) in zip(share.lots, found, strict=True)
        ]
