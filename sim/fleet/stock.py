"""A fleet's devices: which model each is, and the arrays of a chunk of them. Every draw is keyed by the device.

Device i is the same device whatever the fleet's size. The fleet's fixed order is by kind, then by number, so that most
chunks hold one kind only; constants that all rows of a chunk share are kept as one number, which changes no value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from models import devices, draws
from models.battery import reading as battery
from models.battery.cell import Cell
from models.battery.packs import PACKS
from models.governors.reading import Response, response
from models.links import LINKS
from models.power.draw import leak_slope_w_per_k
from models.thermal.bodies import NETWORKS
from models.thermal.network import modes, propagator, steady_c
from scenarios.fleet import FleetScenario
from scenarios.schema import KINDS
from sim.fleet.physics import Fixed
from sim.fleet.reading import Site

Array = Any

CASE_SIGMA = 0.10  # spread of cases and covers: log-normal factors on heat capacities and conductances (assumption)
CHARGE_LIMITED_SHARE = 0.15  # owners who stop charging at 80 % (assumption; phones offer it since about 2020)
CHARGE_LIMIT_SOC = 0.80
FADE_PER_YEAR = 0.05  # of capacity (assumption, between the calendar and cycle laws of models.battery.ageing)
OLDEST_SHARE = 0.6  # of capacity, at which owners change the battery or the device (assumption)
TODAY = 2026  # from which ages are counted
BOARD = 1  # the node


class Roster(NamedTuple):
    """Who is in the fleet, in its fixed order; one element a device.

    Attributes:
        entity: the device's number, by which everything is drawn.
        kind: index in `scenarios.fleet.KINDS`.
        model: row of the device library.
    """

    entity: Array
    kind: Array
    model: Array


class Traits(NamedTuple):
    """What a device is beside its physics; one element a device.

    Attributes:
        dedicated: set aside for the village; none in a fleet.
        has_battery: whether there is a battery.
        flops: dense FP16 peak, FLOP/s.
        zone, zone_min: index of its time zone, and minutes from the run's clock to local time.
        region: which mains it hangs on.
        climate_c: its own mean of the air, less the fleet's.
        battery_wh, capacity_ah: energy when full, and charge over all cells together, as old as they are.
    """

    dedicated: Array
    has_battery: Array
    flops: Array
    zone: Array
    zone_min: Array
    region: Array
    climate_c: Array
    battery_wh: Array
    capacity_ah: Array


def roster(scenario: FleetScenario) -> Roster:
    """Draw the fleet's models and put it in order."""
    model = devices.draw_mix(scenario.seed, scenario.mix, scenario.devices)
    kind = _kind_of_model()[model]
    order = np.argsort(kind, kind="stable")
    # A million devices are in every process: small integers save it 13 bytes a device.
    return Roster(order.astype(np.int64), kind[order].astype(np.int8), model[order].astype(np.int16))


def kind_slices(kind: Array) -> list[tuple[str, slice]]:
    """Return where each kind stands in ordered rows; kinds that are not there are left out."""
    edges = np.searchsorted(kind, np.arange(len(KINDS) + 1))
    return [(KINDS[k], slice(int(edges[k]), int(edges[k + 1]))) for k in range(len(KINDS)) if edges[k] < edges[k + 1]]


def cells_of_kinds() -> list[Cell]:
    """Return the reference cell of each kind; devices on the mains have the laptop's, and nothing flows through it."""
    return [PACKS.get(kind, PACKS["laptop"]).cell for kind in KINDS]


def cell_tables() -> battery.Tables:
    """Return the cells' curves on the fleet's grid."""
    return battery.tables(cells_of_kinds())


def traits(scenario: FleetScenario, who: Roster) -> Traits:
    """Draw what the devices are."""
    seed, entity = scenario.seed, who.entity
    library = devices.columns(who.model)
    zones = np.array(scenario.time_zones_h) * 60.0
    zone = _zone(scenario, entity)
    years = np.maximum(0.0, TODAY - library.year) * draws.uniform(seed, "age", entity, 0)
    battery_wh = library.battery_wh * np.maximum(OLDEST_SHARE, 1.0 - FADE_PER_YEAR * years)
    mean_v = np.array([_mean_v(cell) for cell in cells_of_kinds()])[who.kind]
    return Traits(
        dedicated=np.zeros(entity.shape, dtype=bool),
        has_battery=battery_wh > 0.0,
        flops=library.flops,
        zone=zone,
        zone_min=zones[zone],
        region=draws.integers(seed, "region", entity, 0, scenario.regions),
        climate_c=draws.normal(seed, "climate", entity, 0) * scenario.climate.spread_c,
        battery_wh=battery_wh,
        capacity_ah=battery_wh / mean_v,
    )


def site(scenario: FleetScenario, who: Roster) -> Site:
    """Draw where the devices are used."""
    cable, lte = LINKS["cable"], LINKS["lte"]
    home = draws.lognormal(scenario.seed, "home link", who.entity, 0, cable.up_bytes_per_s, cable.sigma)
    return Site(_zone(scenario, who.entity), home, np.full(who.entity.shape, lte.up_bytes_per_s))


def first_soc(scenario: FleetScenario, who: Roster, has_battery: Array) -> Array:
    """Draw the state of charge at the start: 0.35 to 0.95, uniform (assumption); 1 on the mains."""
    drawn = draws.uniform(scenario.seed, "initial charge", who.entity, 0) * 0.6 + 0.35
    return np.where(has_battery, drawn, 1.0)


def fixed(seed: int, who: Roster, battery_wh: Array, step_s: float) -> Fixed:
    """Return the physics' constants for intervals of ``step_s``; decay factors are computed here, once a chunk.

    Args:
        battery_wh: of each device when full and as old as it is; 0 on the mains.
    """
    entity = who.entity
    library = devices.columns(who.model)

    def of(values: Sequence[float]) -> Array:
        return np.array(values, dtype=np.float64)[who.kind]

    heat_scale = np.exp(CASE_SIGMA * draws.normal(seed, "case heat", entity, 0))
    cooling_scale = np.exp(CASE_SIGMA * draws.normal(seed, "case cooling", entity, 0))
    limited = draws.uniform(seed, "charge limit", entity, 0) < CHARGE_LIMITED_SHARE
    limit_soc = np.where(limited, CHARGE_LIMIT_SOC, 1.0)
    cells = cells_of_kinds()
    cell_wh = [cell.capacity_ah * _mean_v(cell) for cell in cells]
    number = battery_wh / of(cell_wh)
    heat = _heat(who.kind, library.sustained_w, heat_scale, cooling_scale, step_s)
    return Fixed(
        cell=battery.rows(cells, who.kind, step_s, charge_limit_soc=limit_soc),
        cells=number,
        per_cell=np.divide(1.0, number, out=np.zeros_like(number), where=number > 0.0),
        has_battery=battery_wh > 0.0,
        idle_w=library.idle_w,
        dynamic_w=library.peak_w - library.idle_w,
        room_w=library.sustained_w - library.idle_w,
        screen_w=library.screen_w,
        charger_w=library.charger_w,
        keep=heat.keep,
        warm_k_per_w=heat.warm_k_per_w,
        leak_w_per_k=heat.leak_w_per_k,
        response=heat.response,
        reach_k_per_w=heat.reach_k_per_w,
        idle_k_per_w=heat.idle_k_per_w,
        trip_c=library.trip_c,
        hysteresis_k=library.hysteresis_k,
        levels=library.levels.astype(np.float64),
    )


class _Warmth(NamedTuple):
    """The heat network's constants; fields as in `Fixed`."""

    keep: tuple[Array, ...]
    warm_k_per_w: tuple[Array, ...]
    leak_w_per_k: Array
    response: Response
    reach_k_per_w: Array
    idle_k_per_w: tuple[Array, Array, Array]


def _heat(kind: Array, sustained_w: Array, heat_scale: Array, cooling_scale: Array, step_s: float) -> _Warmth:
    """Return each row's network: its kind's, times the device's size, times its case's two factors."""
    n = kind.size
    keep, warm = np.zeros((3, 3, n)), np.zeros((3, 3, n))
    start, mean, idle = (np.zeros((3, n)) for _ in range(3))
    leak, k_per_w, drift, tau_s = (np.zeros(n) for _ in range(4))
    for name, rows in kind_slices(kind):
        reference = NETWORKS[name]
        network, leak_w_per_k = reference.network, leak_slope_w_per_k(0.0, reference.sustained_w)
        its_modes = modes(network, leak_w_per_k)
        conductance_scale = sustained_w[rows] / reference.sustained_w * cooling_scale[rows]
        time_scale = heat_scale[rows] / cooling_scale[rows]
        keep[:, :, rows] = propagator(its_modes, step_s, time_scale).end
        for source in range(3):  # a power's rise is what the interval does not keep of the steady rise
            powers_w = tuple(float(node == source) for node in range(3))
            steady_k = steady_c(network, powers_w, 0.0, conductance_scale, leak_w_per_k)
            for node in range(3):
                kept_k = sum(keep[node, other, rows] * steady_k[other] for other in range(3))
                warm[node, source, rows] = steady_k[node] - kept_k
                if source == BOARD:
                    idle[node, rows] = steady_k[node]
        leak[rows] = leak_w_per_k * conductance_scale
        answer = response(network, its_modes, step_s, time_scale, conductance_scale)
        start[:, rows], mean[:, rows] = np.array(answer.start)[:, None], answer.mean
        k_per_w[rows], drift[rows], tau_s[rows] = answer.k_per_w, answer.drift_k_per_w, answer.tau_s
    by_source = (tuple(np.ascontiguousarray(of[:, source]) for source in range(3)) for of in (keep, warm))
    return _Warmth(
        *by_source, leak,
        Response(tuple(start), tuple(mean), k_per_w, drift, tau_s), k_per_w + 2.0 * drift, tuple(idle),
    )  # fmt: skip


def of_kind(fixed: Fixed) -> Fixed:
    """Return the constants with those that a whole kind shares as one number; the same ones for every chunk."""
    return fixed._replace(
        cell=shared(fixed.cell)._replace(full_soc=fixed.cell.full_soc),
        response=fixed.response._replace(start=shared(fixed.response.start)),
        **{name: shared(getattr(fixed, name)) for name in ("trip_c", "hysteresis_k", "levels")},
    )


def shared(values: Any) -> Any:
    """Return a named tuple of columns with each column of equal numbers as one number."""
    if isinstance(values, tuple):
        parts = [shared(value) for value in values]
        return type(values)(*parts) if hasattr(values, "_fields") else tuple(parts)
    if values.ndim == 1 and values.dtype.kind in "fi" and np.all(values == values[0]):
        return values[0]  # of its own type: a plain number would bring single precision back to double
    return values


def _mean_v(cell: Cell) -> float:
    return float(np.trapezoid(cell.ocv_v, cell.ocv_soc))


def _zone(scenario: FleetScenario, entity: Array) -> Array:
    return draws.integers(scenario.seed, "time zone", entity, 0, len(scenario.time_zones_h))


def _kind_of_model() -> Array:
    """Return each library row's index in `scenarios.fleet.KINDS`."""
    return np.array([KINDS.index(row.kind) for row in devices.LIBRARY])
