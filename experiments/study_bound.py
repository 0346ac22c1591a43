"""What the study's fleets could have lent at most, and how the predictive policy stands to that and to its bar.

The bound is `sim.clairvoyant`'s: the owners of the very run, seen in advance, under the owner's hard rules alone, with
heat and charge relaxed. Nothing is simulated but the owners, so it costs a fraction of a run; it needs all readings of
a device at once, so it is for small fleets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.study import BASE, CLAIRVOYANT, COLUMNS, HARM, paired
from policies.config import OwnerLimits, PredictiveConfig
from policies.harvest import Devices
from policies.readings import Readings

if TYPE_CHECKING:
    import pandas as pd

    from scenarios.fleet import FleetScenario

AT_A_TIME = 500  # devices: bounds memory at a few hundred MB a week
DAY_S = 86_400.0
WORTH = 1.5  # clairvoyant over documented, from which the predictive policy must harvest `GAIN` times the documented
GAIN = 1.3
REACH = 0.85  # of the clairvoyant


def clairvoyant_point(scenario: FleetScenario, config: OwnerLimits | None = None) -> dict[str, Any]:
    """Return the bound on a fleet's harvest as a row of `experiments.study.table_of`; harm and energy are not known.

    Args:
        scenario: its devices, owners, seed and duration count; outages are not seen, which only raises the bound.
        config: the envelope; default the hard rules of `PredictiveConfig`.
    """
    from sim.clairvoyant import clairvoyant
    from sim.fleet import stock

    config = PredictiveConfig() if config is None else config
    who = stock.roster(scenario)
    chip_s = flop = 0.0
    for first in range(0, scenario.devices, AT_A_TIME):
        rows = stock.Roster(*(column[first : first + AT_A_TIME] for column in who))
        what = stock.traits(scenario, rows)
        devices = Devices(what.dedicated, what.has_battery)
        bound_s = clairvoyant(config, devices, owners_ahead(scenario, rows), scenario.reading_s)
        chip_s, flop = chip_s + float(bound_s.sum()), flop + float((bound_s * what.flops).sum())
    days = scenario.duration_s / DAY_S
    return dict.fromkeys(COLUMNS, np.nan) | {
        "seed": scenario.seed, "decomposition": scenario.decomposition, "policy": CLAIRVOYANT,
        "devices": scenario.devices, "days": days, "device_days": scenario.devices * days,
        "harvested_chip_h": chip_s / 3600.0, "harvested_flop": flop, "digest": "", "key": "",
    }  # fmt: skip


def owners_ahead(scenario: FleetScenario, who: Any) -> Readings:
    """Return what owners do throughout the run, by (reading, device), as the policy would read it.

    Args:
        who: devices of the fleet, `sim.fleet.stock.Roster`. Their charge is full and their temperature low throughout.
    """
    from models.availability import DECOMPOSITIONS
    from sim.fleet import stock
    from sim.fleet.day import DAY_MIN, IDLE_AT_START_S
    from sim.fleet.reading import USER_LOAD, bandwidth
    from sim.fleet.window import owners
    from sim.owners import crowd

    what, site = stock.traits(scenario, who), stock.site(scenario, who)
    habits, seed, step_s = DECOMPOSITIONS[scenario.decomposition], scenario.seed, scenario.reading_s
    people = crowd.start(habits, seed, who.entity, who.kind, what.zone_min, scenario.start_minute, scenario.weekday)
    count, steps = round(scenario.duration_s / step_s), round(scenario.window_s / step_s)
    flags = np.empty((count, who.entity.size), dtype=np.uint8)
    for k in range(0, count, steps):
        flags[k : k + steps], people = crowd.window(habits, seed, people, who.entity, who.kind, k, steps, step_s)
    owner = owners(flags, np.ones(who.entity.size, dtype=bool))
    reading = np.arange(count)[:, None]
    last_lit = np.maximum.accumulate(np.where(owner.screen, reading, -round(IDLE_AT_START_S / step_s)), axis=0)
    minute = scenario.start_minute + reading * (step_s / 60.0) + what.zone_min
    shape = flags.shape
    low_c, full = np.broadcast_to(20.0, shape), np.broadcast_to(1.0, shape)
    return Readings(
        has_battery=np.broadcast_to(what.has_battery, shape),
        soc=full,
        plugged=owner.plugged,
        die_c=low_c,
        skin_c=low_c,
        battery_c=low_c,
        on_wifi=owner.wifi,
        metered=owner.metered,
        bandwidth_bytes_per_s=bandwidth(site, owner.wifi, owner.metered, np),
        screen_on=owner.screen,
        idle_s=(reading - last_lit) * step_s,
        local_minute=minute % DAY_MIN,
        user_load=USER_LOAD * owner.screen,
    )


def bar(table: pd.DataFrame, policy: str = "predictive", harvest: str = "chip_h") -> pd.DataFrame:
    """Hold a policy against its bar, by decomposition.

    What it must do: nowhere more harm than the documented policy, in any component; where the clairvoyant harvests at
    least `WORTH` times the documented policy, `GAIN` times the latter's harvest; everywhere `REACH` of the clairvoyant.

    Args:
        table: of points, with those of the clairvoyant.
        policy: the one that is held against it.
        harvest: the measure of `HARVEST` that counts.

    Returns:
        One row a line and decomposition: ``value`` with its 95 % interval over paired seeds, ``wanted``, and ``met``:
        ``yes``, ``no``, or ``noise`` where the interval holds the limit. Harm is the difference, harvest a ratio.
    """
    import pandas as pd

    over = paired(table, CLAIRVOYANT).xs(harvest, level="measure")
    of = paired(table, policy, against=CLAIRVOYANT).xs(harvest, level="measure")
    against = paired(table, policy)
    rows = []

    def ratio(line: str, row: Any, at_least: float) -> None:
        value, low, high = row["ratio"], row["ratio_low"], row["ratio_high"]
        met = "yes" if low >= at_least else "no" if high < at_least else "noise"
        rows.append((line, row.name, value, low, high, f"at least {at_least:g}", met))

    for decomposition in over.index:
        found = over.loc[decomposition]
        ratio(f"{CLAIRVOYANT} / {BASE}", found, WORTH)
        mine = against.loc[decomposition]
        ratio(f"{policy} / {BASE}", mine.loc[harvest].rename(decomposition), GAIN)
        for name in HARM:
            row = mine.loc[name]
            met = {"higher": "no", "lower": "yes", "equal": "yes"}.get(row["verdict"], "noise")
            rows.append((f"{name} less {BASE}'s", decomposition, row["difference"], row["low"], row["high"],
                         "at most 0", met))  # fmt: skip
        ratio(f"{policy} / {CLAIRVOYANT}", of.loc[decomposition], REACH)
    names = ("line", "decomposition", "value", "low", "high", "wanted", "met")
    order = list(dict.fromkeys(row[0] for row in rows))
    return pd.DataFrame(rows, columns=list(names)).set_index(["line", "decomposition"]).loc[order]
