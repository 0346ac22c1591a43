"""The physics of one reading interval, elementwise: power, charge, heat and the governor of every row.

The order within an interval is fixed: temperature-dependent coefficients frozen at its start, power, electric advance,
heat (the battery's mean), thermal advance. Leakage, the die's own draw that grows with its temperature, is in the heat
network's conductances (`models.thermal`). Runs under NumPy and jax.numpy alike.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from models.arrays import on_rows
from models.battery import reading as battery
from models.governors.reading import Response, step_wise_reading
from models.governors.step_wise import POLL_S

Array = Any  # of NumPy or JAX, one element a device

SCREEN_HEAT_SHARE = 0.8  # of a screen's power that is not light (assumption: displays emit a few per cent to a fifth)
BOOT_SOC = 0.03
"""Charge from which an empty device starts again (assumption: phones show their charging sign up to 1-3 %)."""
_TINY_W = 1e-9  # keeps a ratio of two zeros at zero


class Fixed(NamedTuple):
    """What is fixed about each device for one interval length; one element a device, or one number for all.

    Attributes:
        cell: the battery's cells (`models.battery.reading.Rows`); any, where there is no battery.
        cells, per_cell: number of cells, and one over it; both 0 where there is no battery.
        has_battery: whether there is one.
        idle_w: awake, screen off.
        dynamic_w: what full load at full speed adds.
        room_w: what the chip may add for ever.
        screen_w: screen at its usual brightness.
        charger_w: what the plug gives at the battery's terminals.
        keep: what an interval makes of one node's temperature in each of the three, (node, device): of die's, board's,
            skin's. The three nodes stand in one array, since a call of NumPy costs what a thousand sums do.
        warm_k_per_w: what a power held over it adds to each, (node, device): of one into die, board, skin.
        leak_w_per_k: slope of the die's leakage.
        response: how the die answers power within an interval (`models.governors.reading`).
        reach_k_per_w: the most that a watt lifts the die over its board within an interval.
        idle_k_per_w: steady temperature of each node over ambient, for a power into the board.
        trip_c, hysteresis_k, levels: of the step-wise governor.
    """

    cell: battery.Rows
    cells: Array
    per_cell: Array
    has_battery: Array
    idle_w: Array
    dynamic_w: Array
    room_w: Array
    screen_w: Array
    charger_w: Array
    keep: tuple[Array, Array, Array]
    warm_k_per_w: tuple[Array, Array, Array]
    leak_w_per_k: Array
    response: Response
    reach_k_per_w: Array
    idle_k_per_w: tuple[Array, Array, Array]
    trip_c: Array
    hysteresis_k: Array
    levels: Array


class State(NamedTuple):
    """What changes, one element a device.

    Attributes:
        level: cooling level of the governor.
        off: ran empty and has not been charged since.
    """

    charge: battery.Charge
    die_c: Array
    board_c: Array
    skin_c: Array
    level: Array
    off: Array


class Demand(NamedTuple):
    """What is asked of each device over the interval.

    Attributes:
        plugged: a plug with power behind it.
        lit: 1 where the screen is on, else 0, a number.
        user_load: share of the chip that the owner uses.
        village_load: share that the village asks for; it gets what the owner leaves.
        ambient_c: air around the device.
        from_air_c: what the air and the sun make of each node's temperature over an interval (`surroundings`),
            (node, device).
    """

    plugged: Array
    lit: Array
    user_load: Array
    village_load: Array
    ambient_c: Array
    from_air_c: Array


class Outcome(NamedTuple):
    """Means over the interval, one element a device.

    Attributes:
        total_w: draw of the device.
        village_w: the village's part of it.
        plug_w: taken from the plug.
        done: share of the chip at full speed that the village got.
        speed: of the chip, 0 to 1.
        current_a: out of one cell.
        asked: the governor had a say, or would have had one.
    """

    total_w: Array
    village_w: Array
    plug_w: Array
    done: Array
    speed: Array
    current_a: Array
    asked: Array


LEAK_REFERENCE_C = 25.0  # idle_w is quoted at room temperature: leakage counts from there


def surroundings(fixed: Fixed, ambient_c: Array, sun_w: Array) -> Array:
    """Return what air and sun make of each node over an interval, (node, device), for as long as both hold.

    Leakage counts from `LEAK_REFERENCE_C`; the network's own is about ambient, and the rest is a power of the air's.
    """
    leak_w = fixed.leak_w_per_k * (ambient_c - LEAK_REFERENCE_C)
    keep, warm = fixed.keep, fixed.warm_k_per_w
    return ambient_c * (1.0 - (keep[0] + keep[1] + keep[2])) + warm[0] * leak_w + warm[2] * sun_w


def advance(
    table: battery.Tables, fixed: Fixed, state: State, demand: Demand, xp: Any = np, *, governed: bool = True
) -> tuple[State, Outcome]:
    """Advance every device by the interval that ``fixed`` was made for.

    ``governed`` false leaves the governors out: right for every row that is not `Outcome.asked`.

    A device that is off asks for nothing: its owner cannot use it, and its policy reads nothing and does not lend it.
    """
    village_load = xp.minimum(demand.village_load, 1.0 - demand.user_load)
    wanted_w = fixed.dynamic_w * (demand.user_load + village_load)
    on, plugged = (bits.astype(state.die_c.dtype) for bits in (~state.off, demand.plugged))  # cheaper than a choice
    screen_w = fixed.screen_w * demand.lit
    base_w = fixed.idle_w * on
    base_w += screen_w
    die_w = xp.minimum(wanted_w, fixed.room_w)
    asked = (state.board_c + fixed.reach_k_per_w * die_w > fixed.trip_c) | (state.level > 0.0)
    level = state.level
    if governed:
        die_w, level = _governed(fixed, state, asked, die_w, wanted_w, base_w, demand.ambient_c, xp)
    granted = granted_share(die_w, wanted_w, xp)
    speed = xp.sqrt(granted)  # power goes with its square
    total_w = state.die_c - LEAK_REFERENCE_C
    total_w *= fixed.leak_w_per_k
    total_w *= on
    total_w += die_w + base_w

    plug_w = fixed.charger_w * plugged
    power_w = total_w - plug_w
    power_w *= fixed.per_cell
    charge, flow = battery.advance(table, fixed.cell, state.charge, power_w, state.board_c, xp)
    board_w = flow.heat_w * fixed.cells
    board_w += base_w
    screen_w *= 1.0 - SCREEN_HEAT_SHARE
    board_w -= screen_w
    nodes_c = (state.die_c, state.board_c, state.skin_c)
    die_c, board_c, skin_c = _warmed(fixed, nodes_c, die_w, board_w, demand.from_air_c, xp)
    off = state.off | flow.cut | ~(fixed.has_battery | demand.plugged)
    off &= ~(demand.plugged & (charge.soc >= BOOT_SOC))
    plug_w = xp.minimum(total_w, plug_w)
    plug_w -= xp.minimum(flow.power_w, 0.0) * fixed.cells
    return (
        State(charge, die_c, board_c, skin_c, level, off),
        Outcome(
            total_w=total_w,
            village_w=fixed.dynamic_w * village_load * granted,
            plug_w=plug_w,
            done=village_load * speed,
            speed=speed,
            current_a=flow.current_a,
            asked=asked,
        ),
    )


def granted_share(die_w: Array, wanted_w: Array, xp: Any) -> Array:
    """Return the share of the power asked for that is granted: 1 but for chips that are held back."""

    def share(granted_w: Array, asked_w: Array) -> tuple[Array]:
        return ((granted_w + _TINY_W) / (asked_w + _TINY_W),)

    (granted,) = on_rows(die_w < wanted_w, share, (xp.ones_like(die_w),), die_w, wanted_w, xp=xp)
    return granted


def drift(fixed: Fixed, nodes_c: Array, from_air_c: Array, out: Array, some: Array) -> None:
    """Write what the nodes and the air make of the nodes within an interval, (node, device), under NumPy.

    With what powers add, the die's and then the board's, that is where `advance` takes them, to the bit.

    Args:
        from_air_c: see `Demand`.
        out: where to write.
        some: to write on.
    """
    np.multiply(fixed.keep[0], nodes_c[0], out=out)
    out += from_air_c
    for keep, node_c in zip(fixed.keep[1:], nodes_c[1:], strict=True):
        out += np.multiply(keep, node_c, out=some)


def _warmed(fixed: Fixed, nodes_c: Any, die_w: Array, board_w: Array, from_air_c: Array, xp: Any) -> Any:
    """Return the three nodes' temperatures after an interval: as one array under NumPy, else one a node.

    A call of NumPy for all three costs less than three; a compiler joins only what has one shape into one loop.
    """
    keep, warm = fixed.keep, fixed.warm_k_per_w
    if xp is np:
        return _mixed(keep, warm, nodes_c, die_w, board_w, from_air_c)
    return tuple(
        _mixed([part[node] for part in keep], [part[node] for part in warm], nodes_c, die_w, board_w, from_air_c[node])
        for node in range(3)
    )


def _mixed(keep: Any, warm: Any, nodes_c: Any, die_w: Array, board_w: Array, from_air_c: Array) -> Array:
    """Return what nodes, powers and air make of one node, or of all, (node, device)."""
    warmed_c = keep[0] * nodes_c[0]
    warmed_c += from_air_c
    warmed_c += keep[1] * nodes_c[1]
    warmed_c += keep[2] * nodes_c[2]
    warmed_c += warm[0] * die_w
    warmed_c += warm[1] * board_w
    return warmed_c


def _governed(
    fixed: Fixed, state: State, asked: Array, die_w: Array, wanted_w: Array, base_w: Array, ambient_c: Array, xp: Any
) -> tuple[Array, Array]:
    """Return the chip's mean power under its governor, W, and the governor's level after the interval.

    Only dies that may meet their trip within the interval, and those already throttled, are asked about. The battery's
    heat of this interval is not known yet and is left out of where they drift; it is in the board's temperature.
    """

    def throttled(*columns: Array) -> tuple[Array, Array]:
        rows = iter(columns)
        die_c, board_c, skin_c, level, air_c, full_w, room_w, board_w, trip_c, hysteresis_k, levels = (
            next(rows) for _ in range(11)
        )
        idle_c = tuple(air_c + next(rows) * board_w for _ in range(3))
        response = Response(
            tuple(next(rows) for _ in range(3)), tuple(next(rows) for _ in range(3)), *(next(rows) for _ in range(3))
        )
        found = step_wise_reading(
            response, (die_c, board_c, skin_c), idle_c, 0.0, full_w, trip_c, hysteresis_k, levels, level, POLL_S
        )
        return xp.minimum(found.mean_power_w, room_w), found.level

    die_w, level = on_rows(
        asked, throttled, (die_w, state.level), state.die_c, state.board_c, state.skin_c, state.level, ambient_c,
        wanted_w, fixed.room_w, base_w, fixed.trip_c, fixed.hysteresis_k, fixed.levels, *fixed.idle_k_per_w,
        *fixed.response.start, *fixed.response.mean, *fixed.response[2:], xp=xp,
    )  # fmt: skip
    return die_w, level
