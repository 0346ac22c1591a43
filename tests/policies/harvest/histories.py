"""Histories for harvest rules: readings around every limit, sensors that fail or talk nonsense, how to stack them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from policies.config import (
    BoincConfig,
    FederatedConfig,
    HarvestConfig,
    HarvestRules,
    PredecessorConfig,
    PredictiveConfig,
)
from policies.harvest import Devices
from policies.readings import Readings

MBPS = 125_000.0
NAN, INF = float("nan"), float("inf")
GOOD = Readings(True, 0.95, True, 30.0, 28.0, 28.0, True, False, 20 * MBPS, False, 3600.0, 120.0, 0.0)

# Numbers that no sensor can mean, beside what can be. All are exact in float32.
NONSENSE: dict[str, list[float]] = {
    "soc": [INF, -INF, 1.5, -0.125],
    "die_c": [INF, -INF, 150.5, -40.5, -273.0],
    "skin_c": [INF, -INF, 150.5, -40.5, -273.0],
    "battery_c": [INF, -INF, 150.5, -40.5, -273.0],
    "bandwidth_bytes_per_s": [INF, -INF, 2.0**40, -1.0],
    "idle_s": [INF, -INF, 2.0**40, -60.0],
    "local_minute": [INF, -INF, 1440.0, 5000.0, -1.0],
    "user_load": [INF, -INF, 1.5, -0.125],
}

# Values around every limit of every rule, so that random sequences cross them often. All are exact in float32.
AROUND: dict[str, list[Any]] = {
    "has_battery": [True, False],
    "soc": [0.125, 0.1875, 0.25, 0.5, 0.875, 0.9375, 1.0, 0.0, NAN],
    "plugged": [True, True, True, False],
    "die_c": [30.0, 41.0, 44.0, 45.0, 53.0, 55.0, 63.0, 65.0, 80.0, NAN],
    "skin_c": [28.0, 30.0, 41.0, 42.5, 44.0, 45.0, NAN],
    "battery_c": [30.0, 39.5, 40.0, NAN],
    "on_wifi": [True, True, True, False],
    "metered": [False, False, False, True],
    "bandwidth_bytes_per_s": [20 * MBPS, 20 * MBPS, 5 * MBPS, 4 * MBPS, 0.0, NAN],
    "screen_on": [False, False, False, True],
    "idle_s": [3600.0, 3600.0, 1860.0, 300.0, 299.0, 0.0, NAN],
    "local_minute": [0.0, 60.0, 300.0, 419.0, 420.0, 1319.0, 1320.0, 1439.0, NAN],
    "user_load": [0.0, 0.0, 0.5, 0.75, NAN],
}
wild = {
    field: st.sampled_from([*values, *NONSENSE.get(field, ())]) | (st.floats() if field in NONSENSE else st.nothing())
    for field, values in AROUND.items()
}
"""What may be read of a field: any float, where it is a number."""
rows = st.tuples(*(st.sampled_from(values) for values in AROUND.values())).map(lambda row: Readings(*row))
# Half of the rows are good but for one field, or nothing would ever run.
nearly_good = st.sampled_from(list(AROUND)).flatmap(
    lambda field: wild[field].map(lambda value: GOOD._replace(**{field: value}))
)
any_row = st.one_of(st.just(GOOD), nearly_good, rows, st.tuples(*wild.values()).map(lambda row: Readings(*row)))
steps_s = st.sampled_from([0.0, 60.0, 60.0, 300.0, 900.0, 3600.0])

switches = {
    "require_charging": st.booleans(), "wifi_only": st.booleans(), "allow_metered": st.booleans(),
    "require_screen_off": st.booleans(), "dwell_min": st.sampled_from([0.0, 5.0, 20.0]),
    "drain_s": st.sampled_from([0.0, 60.0, 600.0]),
}  # fmt: skip
clocks = {
    "hour_start": st.sampled_from([0.0, 1.0, 22.0]), "hour_end": st.sampled_from([5.0, 7.0, 24.0]),
    "max_session_h": st.sampled_from([0.5, 8.0]), "cooldown_min": st.sampled_from([0.0, 30.0]),
}  # fmt: skip
CONFIGS: dict[str, st.SearchStrategy[HarvestRules]] = {
    "documented": st.builds(HarvestConfig, **switches, **clocks),
    "predecessor": st.builds(PredecessorConfig, **switches, **clocks),
    "boinc": st.builds(
        BoincConfig, run_on_batteries=st.booleans(), run_if_user_active=st.booleans(),
        suspend_when_screen_on=st.booleans(), network_wifi_only=st.booleans(),
        suspend_cpu_usage=st.sampled_from([0.0, 50.0]),
        start_hour=st.sampled_from([0.0, 22.0]), end_hour=st.sampled_from([0.0, 7.0]),
        niu_max_ncpus_pct=st.sampled_from([50.0, 100.0]), battery_charge_min_pct=st.sampled_from([25.0, 90.0]),
        dwell_min=st.sampled_from([0.0, 5.0, 20.0]),
    ),
    "federated": st.builds(
        FederatedConfig, idle_min=st.sampled_from([5.0, 31.0]), dwell_min=st.sampled_from([0.0, 5.0, 20.0])
    ),
    "predictive": st.builds(
        PredictiveConfig, start_hazard_per_h=st.sampled_from([0.4, 5.0]), stop_hazard_per_h=st.just(5.0),
        compute_weight=st.sampled_from([0.0, 0.5]), **switches
    ),
}  # fmt: skip
RULES = list(CONFIGS)

History = list[tuple[float, list[Readings]]]


def columns(fleet: list[Readings], xp: Any = np) -> Readings:
    """Stack rows into arrays of ``xp``."""
    return Readings(*(xp.asarray(np.array(column).tolist()) for column in zip(*fleet, strict=True)))


@st.composite
def histories(draw: st.DrawFn, rule: str, rows_max: int = 4) -> tuple[HarvestRules, Devices, History]:
    """Draw a configuration of ``rule``, a few devices, and what each reads over time."""
    count = draw(st.integers(1, rows_max))
    flags = st.lists(st.booleans(), min_size=count, max_size=count)
    step = st.tuples(steps_s, st.lists(any_row, min_size=count, max_size=count))
    flops = st.lists(st.sampled_from([0.0, 1e12, 1e14]), min_size=count, max_size=count)
    devices = Devices(np.array(draw(flags)), np.array(draw(flags)), np.array(draw(flops)))
    return draw(CONFIGS[rule]), devices, draw(st.lists(step, min_size=1, max_size=15))
