"""Fed rows: on the plug for a whole window, their battery full or none, their policy's decision the same throughout.

So are desktops, and what was left on its charger. Nothing flows through their cells, so that no battery is advanced,
and the policy is asked at the window's first reading alone. What that takes for granted is held against what comes
out; other rows are run in full. To the bit nothing changes (a test compares): temperatures are those of
`physics.advance`, decisions those of the policy at each reading. Machines without a battery that are off for lack of
mains are among them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from policies.readings import Decision
from sim.fleet import physics
from sim.fleet.idle import screens
from sim.fleet.lasting import Lasting
from sim.fleet.quiet import idle_s
from sim.fleet.reading import LOW_SOC, SKIN_HOT_C, USER_LOAD, Device, sense
from sim.fleet.window import Result, Signals, Start, owners
from sim.owners.crowd import PLUGGED, SCREEN, WIFI

Array = Any


class _Loads(NamedTuple):
    """What the chip does all window long, one element a device."""

    die_w: Array
    village_w: Array
    done: Array


def may_be_fed(start: Start, lasting: Array) -> Array:
    """Return the rows that may be fed in a window, of those whose decision may last."""
    fixed, body, memory = start.chunk.fixed, start.device.body, start.device.memory
    always, ever = np.bitwise_and.reduce(start.flags, axis=0), np.bitwise_or.reduce(start.flags, axis=0)
    soc = body.charge.soc
    inert = ~fixed.has_battery | ((soc >= fixed.cell.full_soc) & (soc >= LOW_SOC))
    alive = (always & PLUGGED != 0) & inert & ~body.off
    dead = (ever & PLUGGED == 0) & ~fixed.has_battery & body.off & ~memory.contributing
    alike = ~memory.contributing | ((always & WIFI != 0) & (ever & SCREEN == 0))
    return (alive | dead) & alike & lasting & (body.level == 0.0)


def run_fed(policy: Lasting, start: Start, signals: Signals, before: Result) -> tuple[Result, Array]:
    """Return what a window leaves of its fed rows, and which they are; of others the result means nothing.

    Args:
        before: the result of a window in which nothing happens.
    """
    _, fixed, _ = start.chunk
    body, lit_at = start.device.body, screens(start)
    was, on = start.device.memory.contributing, ~body.off
    decision, memory = _first_decision(policy, start, signals)
    right = (decision.contribute == was) & ~memory.draining & policy.lasts(memory)
    loads = _loads(fixed, decision, signals.demand)

    # Only the first rows, up to the last one whose screen is on at some reading, have more than their idle draw.
    first = slice(int(np.max(np.flatnonzero(lit_at.any(axis=0)), initial=-1)) + 1)
    lit = lit_at[:, first].astype(body.die_c.dtype)
    lit_w = np.minimum(fixed.dynamic_w * (USER_LOAD * np.ones_like(body.die_c)), fixed.room_w)[first]
    used = lit_at.any(axis=0)[first]
    screen_full_w = fixed.screen_w if np.ndim(fixed.screen_w) == 0 else fixed.screen_w[first]
    idle_w, leak_w_per_k = fixed.idle_w * on, fixed.leak_w_per_k * on
    plug_most_w = fixed.charger_w * on
    air_c = physics.surroundings(fixed, *start.air)
    die_w, base_w, board_w = loads.die_w, idle_w.copy(), idle_w.copy()
    reach_k = fixed.reach_k_per_w * die_w
    reach_k[first] = np.where(used, (fixed.reach_k_per_w * np.ones_like(die_w))[first] * lit_w, reach_k[first])
    from_die_c, from_board_c = fixed.warm_k_per_w[0] * die_w, fixed.warm_k_per_w[1] * board_w
    chip_w = die_w + base_w

    nodes_c = np.stack([body.die_c, body.board_c, body.skin_c])
    next_c, some_c = np.empty_like(nodes_c), np.empty_like(nodes_c)
    total_w, relaxing_v = np.empty_like(idle_w), body.charge.relaxing_v.copy()
    sum_w, plug_w, village_w, done = (np.zeros_like(idle_w) for _ in range(4))
    hot = np.zeros(idle_w.shape, dtype=np.uint8)
    soc = np.where(body.off, np.nan, body.charge.soc)
    for k, on_now in enumerate(lit):
        if k:
            memory = policy.later(memory, nodes_c[0], soc, signals.step_s)
            right &= policy.lasts(memory)
        right &= ~(nodes_c[1] + reach_k > fixed.trip_c)
        screen_w = screen_full_w * on_now
        base_w[first] = idle_w[first] + screen_w
        die_w[first] = np.where(used, lit_w * on_now, die_w[first])
        chip_w[first] = die_w[first] + base_w[first]
        board_w[first] = base_w[first] - screen_w * (1.0 - physics.SCREEN_HEAT_SHARE)
        from_die_c[:, first] = fixed.warm_k_per_w[0][:, first] * die_w[first]
        from_board_c[:, first] = fixed.warm_k_per_w[1][:, first] * board_w[first]

        np.subtract(nodes_c[0], physics.LEAK_REFERENCE_C, out=total_w)
        total_w *= leak_w_per_k
        total_w += chip_w
        right &= (total_w <= plug_most_w) | ~fixed.has_battery
        relaxing_v *= fixed.cell.whole
        physics.drift(fixed, nodes_c, air_c, next_c, some_c)
        next_c += from_die_c
        next_c += from_board_c
        nodes_c, next_c = next_c, nodes_c
        sum_w += total_w
        plug_w += np.minimum(total_w, plug_most_w, out=some_c[0])
        village_w += loads.village_w
        done += loads.done
        hot += nodes_c[2] > SKIN_HOT_C

    low = body.charge.soc < LOW_SOC
    _, sums, counts, last = before
    sums = sums._replace(total_w=sum_w, village_w=village_w, plug_w=plug_w, done=done)
    lent = decision.contribute * np.uint8(len(start.flags))
    counts = counts._replace(lent=lent, hot=hot, low=(low & ~last.low).astype(np.uint8))
    body = body._replace(
        charge=body.charge._replace(relaxing_v=relaxing_v), die_c=nodes_c[0], board_c=nodes_c[1], skin_c=nodes_c[2]
    )
    return (Device(body, memory, idle_s(start, signals)), sums, counts, last._replace(low=low)), right


def _first_decision(policy: Lasting, start: Start, signals: Signals) -> tuple[Decision, Any]:
    """Return what the policy decides at the window's first reading, and its state, as `reading.step` asks it."""
    _, fixed, site = start.chunk
    owner = type(owners(start.flags[:1]))(*(bits[0] for bits in owners(start.flags[:1])))
    owner = owner._replace(screen=owner.screen & ~start.device.body.off)
    lit = owner.screen.astype(start.device.body.die_c.dtype)
    device = start.device._replace(idle_s=(start.device.idle_s + signals.since_s) * (1.0 - lit))
    readings = sense(fixed, site, device, owner, lit, signals.zone_minute[0][site.zone], np)
    return policy.decide(device.memory, readings, signals.since_s)


def _loads(fixed: physics.Fixed, decision: Decision, demand: float) -> _Loads:
    """Return what the chip does for the village while its owner does not use it, as `physics.advance`."""
    load = np.minimum(decision.compute_share * demand, 1.0)
    wanted_w = fixed.dynamic_w * load
    die_w = np.minimum(wanted_w, fixed.room_w)
    granted = physics.granted_share(die_w, wanted_w, np)
    return _Loads(die_w, fixed.dynamic_w * load * granted, load * np.sqrt(granted))
