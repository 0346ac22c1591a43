"""Quiet rows: what is left out for them changes nothing, and who is near a threshold is not quiet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sim.fleet import stock
from sim.fleet.again import pick
from sim.fleet.day import Share
from sim.fleet.idle import lit_first
from sim.fleet.quiet import may_be_quiet, nothing, run_quiet, told
from sim.fleet.window import Start, run_numpy
from sim.owners.crowd import SCREEN
from tests.sim.fleet.fleets import small

PHONES = 300  # the first of the small fleet, whose order is by kind


def phones(**changes: Any) -> Share:
    """Return a share of phones only, its first window lived."""
    scenario = small(**changes)
    share = Share(scenario, [np.arange(PHONES)], stock.roster(scenario))
    share.advance(0, 1.0)
    return share


def leaves(tree: Any) -> list[Any]:
    """Return the arrays of a tree of tuples."""
    return [leaf for part in tree for leaf in leaves(part)] if isinstance(tree, tuple) else [np.asarray(tree)]


def quiet_rows(share: Share, start: Start, number: int) -> Any:
    """Return what a window leaves of quiet rows, and which they are."""
    found = run_quiet(start, share.policy.rest_below_c)
    result, quiet = told(share.policy, start, found, share.signals(number, 1.0), nothing(start))
    return result, quiet & may_be_quiet(share.policy, start)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_quiet_rows_end_to_the_bit_as_in_full(precision: str) -> None:
    """Through three hours, state, memory, sums and counts of quiet rows are those of the whole law and the policy."""
    share, seen = phones(precision=precision), 0.0
    for number in range(1, 12):
        start = share._start(0, number)
        found, quiet = quiet_rows(share, start, number)
        full, _ = run_numpy(share.policy, start, share.signals(number, 1.0))
        for ours, theirs in zip(leaves(found), leaves(full), strict=True):
            np.testing.assert_array_equal(ours[quiet], theirs[quiet])
            assert ours.dtype == theirs.dtype
        seen += quiet.mean() / 11
        share.advance(number, 1.0)

    assert seen > 0.5


def test_rows_that_are_off_are_quiet_and_end_to_the_bit_as_in_full() -> None:
    """Phones that ran empty and are not on a charger cool, whatever their owners do, as they do in full."""
    share = phones()
    start = share._start(0, 1)
    body = start.device.body
    empty = body.charge._replace(soc=np.where(np.arange(PHONES) % 2, 0.0, 1e-3))
    dead = start._replace(device=start.device._replace(body=body._replace(charge=empty, off=np.ones(PHONES, bool))))

    found, quiet = quiet_rows(share, dead, 1)
    full, _ = run_numpy(share.policy, dead, share.signals(1, 1.0))

    assert quiet.mean() > 0.5
    for ours, theirs in zip(leaves(found), leaves(full), strict=True):
        np.testing.assert_array_equal(ours[quiet], theirs[quiet])


def test_where_lit_rows_stand_changes_nothing() -> None:
    """Rows whose screens are on come first so that others need not be asked; in any other order all is the same."""
    share = phones()
    start = share._start(0, 1)
    order = lit_first(start, np.ones(PHONES, dtype=bool))
    found, _ = quiet_rows(share, start, 1)
    sorted_found, _ = quiet_rows(share, pick(start, order), 1)

    lit = (start.flags & SCREEN != 0).any(axis=0)[order]
    assert 0 < lit.sum() < PHONES
    assert lit.tolist() == sorted(lit.tolist(), reverse=True)
    for ours, theirs in zip(leaves(found), leaves(sorted_found), strict=True):
        np.testing.assert_array_equal(ours[order], theirs)


@pytest.mark.parametrize("what", ["nearly empty", "hot", "throttled", "plugged for one reading", "in a session"])
def test_who_is_near_a_threshold_is_not_quiet(what: str) -> None:
    """A phone that would be cut off, is hot, under its governor, plugged or lent is not left to the short way."""
    share = phones()
    start = share._start(0, 1)
    calm = quiet_rows(share, start, 1)[1]
    body, memory, flags = start.device.body, start.device.memory, start.flags.copy()
    if what == "nearly empty":
        body = body._replace(charge=body.charge._replace(soc=np.full(PHONES, 1e-4)))
    elif what == "hot":
        body = body._replace(die_c=np.full(PHONES, 42.0))
    elif what == "throttled":
        body = body._replace(level=np.ones(PHONES))
    elif what == "plugged for one reading":
        flags[7] |= 1
    else:
        memory = memory._replace(contributing=np.ones(PHONES, dtype=bool))
    disturbed = start._replace(flags=flags, device=start.device._replace(body=body, memory=memory))

    assert calm.sum() > PHONES // 2
    assert not quiet_rows(share, disturbed, 1)[1].any()
