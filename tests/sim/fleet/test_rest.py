"""Rows at rest: what is left out for them changes nothing, and who is cut off, governed or may be lent is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sim.fleet.day import Share
from sim.fleet.lasting import may_last
from sim.fleet.quiet import nothing
from sim.fleet.rest import may_rest, run_rest
from sim.fleet.window import Start, run_numpy
from sim.owners.crowd import NETWORK, PLUGGED, SCREEN, WIFI
from tests.sim.fleet.test_fed import CLOSED, OPEN, of_kind
from tests.sim.fleet.test_quiet import leaves


def rows_at_rest(share: Share, start: Start, number: int) -> Any:
    """Return what a window leaves of rows at rest, and which they are."""
    signals = share.signals(number, 0.7)
    result, rests = run_rest(share.policy, start, signals, nothing(start))
    return result, rests & may_rest(start, may_last(share.policy, start, signals))


def is_as_in_full(share: Share, start: Start, number: int) -> np.ndarray:
    """Hold rows at rest against the whole law and the policy, to the bit; return which they are."""
    found, rests = rows_at_rest(share, start, number)
    full, asked = run_numpy(share.policy, start, share.signals(number, 0.7), governed=False)
    for ours, theirs in zip(leaves(found), leaves(full), strict=True):
        np.testing.assert_array_equal(ours[rests], theirs[rests])
        assert ours.dtype == theirs.dtype
    assert not asked[rests].any()
    return np.asarray(rests)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("kind", ["phone", "laptop"])
@pytest.mark.parametrize("minute", [OPEN, CLOSED])
def test_rows_at_rest_end_to_the_bit_as_in_full(kind: str, minute: int, precision: str) -> None:
    """Through three hours, by day and at night, charging or not, all is that of law and policy."""
    share, seen, charged = of_kind(kind, precision=precision, start_minute=minute), 0.0, 0
    for number in range(12):
        start = share._start(0, number)
        rests = is_as_in_full(share, start, number)
        before = start.device.body.charge.soc.copy()
        seen += rests.mean() / 12
        share.advance(number, 0.7)
        charged += int((rests & (share.lots[0].device.body.charge.soc > before)).sum())

    assert seen > (0.9 if minute == CLOSED else 0.1)
    assert charged > 0


def test_phones_away_from_wifi_are_at_rest_by_night() -> None:
    """Hours are open, but none is where it may lend."""
    share = of_kind("phone", start_minute=0)
    start = share._start(0, 0)
    away = start._replace(flags=(start.flags & ~np.uint8(WIFI)) | np.uint8(NETWORK))

    assert is_as_in_full(share, away, 0).mean() > 0.9


@pytest.mark.parametrize(
    "what", ["runs empty", "off", "throttled", "at its trip", "in a session", "drains", "hours open"]
)
def test_who_may_do_anything_else_is_not_at_rest(what: str) -> None:
    """A phone that is cut off, off, under its governor, lent, or may be lent is not left to the short way."""
    share = of_kind("phone", start_minute=0 if what == "hours open" else CLOSED)
    start = share._start(0, 0)
    body, memory = start.device.body, start.device.memory
    rows = start.flags.shape[1]
    flags = start.flags | np.uint8(WIFI)
    if what in ("runs empty", "off"):
        flags = flags & ~np.uint8(PLUGGED)
    elif what == "hours open":
        flags = (flags | np.uint8(PLUGGED)) & ~np.uint8(SCREEN)
    if what == "runs empty":
        body = body._replace(charge=body.charge._replace(soc=np.full(rows, 1e-4)))
    elif what == "off":
        body = body._replace(off=np.ones(rows, dtype=bool))
    elif what == "throttled":
        body = body._replace(level=np.ones(rows))
    elif what == "at its trip":
        body = body._replace(board_c=np.full(rows, 120.0))
    elif what == "in a session":
        memory = memory._replace(contributing=np.ones(rows, dtype=bool))
    elif what == "drains":
        memory = memory._replace(draining=np.ones(rows, dtype=bool))
    disturbed = start._replace(flags=flags, device=start.device._replace(body=body, memory=memory))

    assert rows_at_rest(share, start, 0)[1].any()
    assert not rows_at_rest(share, disturbed, 0)[1].any()
