"""Fed rows: what is left out for them changes nothing, and who does anything else is not fed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sim.fleet import stock
from sim.fleet.day import Share
from sim.fleet.fed import may_be_fed, run_fed
from sim.fleet.lasting import may_last
from sim.fleet.quiet import nothing
from sim.fleet.window import Start, run_numpy
from sim.owners.crowd import NETWORK, PLUGGED, SCREEN, WIFI
from tests.sim.fleet.fleets import small
from tests.sim.fleet.test_quiet import leaves

OPEN, CLOSED = 1290, 600  # minutes of the day at which the run begins: hours open at 22:00


def of_kind(kind: str, **changes: Any) -> Share:
    """Return a share of one kind of device in a fleet of the small size."""
    scenario = small(time_zones_h=(0.0,), **changes)
    roster = stock.roster(scenario)
    rows = dict(stock.kind_slices(roster.kind))[kind]
    return Share(scenario, [np.arange(rows.start, rows.stop)], roster)


def fed_rows(share: Share, start: Start, number: int) -> Any:
    """Return what a window leaves of fed rows, and which they are."""
    signals = share.signals(number, 0.7)
    result, fed = run_fed(share.policy, start, signals, nothing(start))
    return result, fed & may_be_fed(start, may_last(share.policy, start, signals))


def is_as_in_full(share: Share, start: Start, number: int) -> np.ndarray:
    """Hold fed rows against the whole law and the policy, to the bit; return which they are."""
    found, fed = fed_rows(share, start, number)
    full, asked = run_numpy(share.policy, start, share.signals(number, 0.7), governed=False)
    for ours, theirs in zip(leaves(found), leaves(full), strict=True):
        np.testing.assert_array_equal(ours[fed], theirs[fed])
        assert ours.dtype == theirs.dtype
    assert not asked[fed].any()
    return np.asarray(fed)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("kind", ["phone", "laptop", "desktop"])
@pytest.mark.parametrize("minute", [OPEN, CLOSED])
def test_fed_rows_end_to_the_bit_as_in_full(kind: str, minute: int, precision: str) -> None:
    """Through three hours, by day and at night, state, memory, sums and counts are those of law and policy."""
    share, seen, lent = of_kind(kind, precision=precision, start_minute=minute), 0, 0
    for number in range(12):
        start = share._start(0, number)
        fed = is_as_in_full(share, start, number)
        seen, lent = seen + int(fed.sum()), lent + int((fed & start.device.memory.contributing).sum())
        share.advance(number, 0.7)

    assert seen > 0
    assert (lent > 0) == (minute == OPEN)


def test_desktops_without_mains_are_fed_and_end_to_the_bit_as_in_full() -> None:
    """A desktop that is off all window cools, lends nothing, and stays off."""
    share = of_kind("desktop", start_minute=CLOSED)
    start = share._start(0, 1)
    body = start.device.body._replace(off=np.ones(start.flags.shape[1], dtype=bool))
    dark = start._replace(flags=start.flags & ~np.uint8(PLUGGED), device=start.device._replace(body=body))

    assert is_as_in_full(share, dark, 1).all()


@pytest.mark.parametrize("what", [
    "unplugged once", "not full", "throttled", "off", "drains", "hours end", "weak charger",
])  # fmt: skip
def test_who_does_anything_else_is_not_fed(what: str) -> None:
    """A phone off its plug at one reading, charging, throttled, off, draining, stopped or on a weak charger is not."""
    share = of_kind("phone", start_minute=6 * 60 + 50 if what == "hours end" else CLOSED)
    start = share._start(0, 0)
    body, memory = start.device.body, start.device.memory
    rows = start.flags.shape[1]
    full = body._replace(charge=body.charge._replace(soc=np.ones(rows)), die_c=np.full(rows, 30.0))
    flags = (start.flags | np.uint8(PLUGGED | WIFI)) & ~np.uint8(SCREEN | NETWORK)
    memory = memory._replace(contributing=np.full(rows, what == "hours end"))
    rest = start._replace(flags=flags, device=start.device._replace(body=full, memory=memory))
    calm = fed_rows(share, rest, 0)[1]
    if what == "unplugged once":
        flags = flags.copy()
        flags[7] &= ~np.uint8(PLUGGED)
    elif what == "not full":
        full = full._replace(charge=full.charge._replace(soc=np.full(rows, 0.5)))
    elif what == "throttled":
        full = full._replace(level=np.ones(rows))
    elif what == "off":
        full = full._replace(off=np.ones(rows, dtype=bool))
    elif what == "drains":
        memory = memory._replace(draining=np.ones(rows, dtype=bool))
    chunk = start.chunk
    if what == "weak charger":
        chunk = chunk._replace(fixed=chunk.fixed._replace(charger_w=np.full(rows, 0.01)))
    disturbed = start._replace(chunk=chunk, flags=flags, device=start.device._replace(body=full, memory=memory))

    assert calm.any() == (what != "hours end")
    assert not fed_rows(share, disturbed, 0)[1].any()
