"""What the study's fleets could have lent at most, and how the predictive policy stands to that and to its bar.

Two bounds, on the owners of the very run, under the owner's hard rules alone, with heat and charge relaxed. Nothing is
simulated but the owners; all readings of a device are needed at once, so it is for small fleets.

- **The clairvoyant** (`sim.clairvoyant`) sees the owners in advance, and so interrupts nobody.
- **The causal** bound holds for whoever does not: who knows every owner's laws as well as they can be known
  (`sim.owners.returns`), but not what they will draw, and interrupts no more sessions than a budget on average.
  Lagrange: at any price of an interruption, the budget's price and the most that harvest less its interruptions'
  price can be expected to be are together no less than what such a policy can be expected to harvest. What is lent now
  changes nothing about when its owner comes, so that most is had reading by reading: by lending wherever that is worth
  more than the chance of an interruption at the next reading costs. All that is left out (dwell, drain, heat, charge,
  other harm, and that a policy has to learn its owners) makes it no smaller.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.study import BASE, CAUSAL, CLAIRVOYANT, COLUMNS, HARM, paired
from policies.config import OwnerLimits, PredictiveConfig
from policies.harvest import Devices
from policies.readings import UNKNOWN, Readings

if TYPE_CHECKING:
    import pandas as pd

    from scenarios.fleet import FleetScenario

AT_A_TIME = 500  # devices: bounds memory at a few hundred MB a week
DAY_S = 86_400.0
WORTH = 1.5  # clairvoyant over documented, from which the predictive policy must harvest `GAIN` times the documented
GAIN = 1.3
REACH = 0.85  # of the clairvoyant
# Of an interruption. Any price gives a bound; these give about the least one for the documented policy's interruptions,
# on seeds 901 to 903. In chip-hours it means to lend below 0.375 returns an hour.
PRICE_CHIP_S = 4800.0
PRICE_FLOP = 1.5e16


def clairvoyant_point(scenario: FleetScenario, config: OwnerLimits | None = None) -> dict[str, Any]:
    """Return the bound on a fleet's harvest as a row of `experiments.study.table_of`; harm and energy are not known.

    Args:
        scenario: its devices, owners, seed and duration count; outages are not seen, which only raises the bound.
        config: the envelope; default the hard rules of `PredictiveConfig`.
    """
    from sim.clairvoyant import clairvoyant

    config = PredictiveConfig() if config is None else config
    chip_s = flop = 0.0
    for _, rows, what in _parts(scenario):
        devices = Devices(what.dedicated, what.has_battery)
        bound_s = clairvoyant(config, devices, owners_ahead(scenario, rows), scenario.reading_s)
        chip_s, flop = chip_s + float(bound_s.sum()), flop + float((bound_s * what.flops).sum())
    return _point(scenario, CLAIRVOYANT, chip_s, flop)


def causal_point(scenario: FleetScenario, interrupted: float) -> dict[str, Any]:
    """Return the bound for who does not know the future as a row of `experiments.study.table_of`.

    Args:
        scenario: its devices, owners, seed and duration count; no outages.
        interrupted: sessions that may be interrupted, over the fleet and its duration.

    Raises:
        ValueError: there are outages, which interrupt as owners do.
    """
    from sim.clairvoyant import allowed
    from sim.fleet import stock
    from sim.owners.returns import chances

    if scenario.outages:
        raise ValueError(f"outages: {len(scenario.outages)}; allowed: none, as they interrupt sessions too")
    config, who = PredictiveConfig(), stock.roster(scenario)
    steps, gain_s = round(scenario.duration_s / scenario.reading_s), scenario.reading_s * config.max_cpu
    chance = chances(
        scenario.decomposition, scenario.seed, who.entity, who.kind, stock.traits(scenario, who).zone_min,
        scenario.start_minute, scenario.weekday, steps, int(scenario.reading_s),
    )  # fmt: skip
    chip_s, flop = PRICE_CHIP_S * interrupted, PRICE_FLOP * interrupted
    for place, rows, what in _parts(scenario):
        may = allowed(config, Devices(what.dedicated, what.has_battery), owners_ahead(scenario, rows))
        chip_s += float(np.maximum(gain_s - PRICE_CHIP_S * chance[:, place], 0.0).sum(where=may))
        flop += float(np.maximum(gain_s * what.flops - PRICE_FLOP * chance[:, place], 0.0).sum(where=may))
    point = _point(scenario, CAUSAL, chip_s, flop)
    return point | {"interrupted_sessions": interrupted,
                    "harm_interrupted_per_device_day": interrupted / point["device_days"]}  # fmt: skip


def _parts(scenario: FleetScenario) -> Iterator[tuple[slice, Any, Any]]:
    """Return parts of the fleet: their place in its order, who they are, and what."""
    from sim.fleet import stock

    who = stock.roster(scenario)
    for first in range(0, scenario.devices, AT_A_TIME):
        place = slice(first, first + AT_A_TIME)
        rows = stock.Roster(*(column[place] for column in who))
        yield place, rows, stock.traits(scenario, rows)


def _point(scenario: FleetScenario, name: str, chip_s: float, flop: float) -> dict[str, Any]:
    days = scenario.duration_s / DAY_S
    return dict.fromkeys(COLUMNS, np.nan) | {
        "seed": scenario.seed, "decomposition": scenario.decomposition, "policy": name,
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
        memory_free_bytes=np.broadcast_to(UNKNOWN, shape),
    )


def bar(table: pd.DataFrame, policy: str = "predictive", harvest: str = "chip_h") -> pd.DataFrame:
    """Hold a policy against its bar, by decomposition.

    What it must do: nowhere more harm than the documented policy, in any component; where the clairvoyant harvests at
    least `WORTH` times the documented policy, `GAIN` times the latter's harvest; everywhere `REACH` of the clairvoyant.
    Beside it, where the table has it, how far the causal bound reaches.

    Args:
        table: of points, with those of the clairvoyant, and perhaps of the causal bound.
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
    bounded = None
    if CAUSAL in set(table["policy"]):
        pairs = (paired(table, CAUSAL, against=CLAIRVOYANT), paired(table, policy, against=CAUSAL))
        bounded = [pair.xs(harvest, level="measure") for pair in pairs]
    rows = []

    def ratio(line: str, row: Any, at_least: float | None) -> None:
        value, low, high = row["ratio"], row["ratio_low"], row["ratio_high"]
        if at_least is None:
            rows.append((line, row.name, value, low, high, "", ""))
            return
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
        if bounded is not None:
            ratio(f"{CAUSAL} / {CLAIRVOYANT}", bounded[0].loc[decomposition], REACH)
            ratio(f"{policy} / {CAUSAL}", bounded[1].loc[decomposition], None)
    names = ("line", "decomposition", "value", "low", "high", "wanted", "met")
    order = list(dict.fromkeys(row[0] for row in rows))
    return pd.DataFrame(rows, columns=list(names)).set_index(["line", "decomposition"]).loc[order]
