"""Tests of models.links.backbone: made-up nodes are found again, and a fleet needs no matrix."""

from __future__ import annotations

import numpy as np
import pytest

from models.links.backbone import CITIES, Places, delay, draw_nodes, fit_places, held_out_errors, place

RNG = np.random.default_rng(7)
TRUE = Places(RNG.normal(0.0, 50.0, (40, 5)), RNG.uniform(1.0, 8.0, 40))
DELAYS = np.where(np.eye(40, dtype=bool), 0.0, delay(Places(TRUE.points[:, None], TRUE.heights[:, None]), TRUE))


def test_delays_of_made_up_nodes_are_found_again() -> None:
    """Delays that such a space can make are fitted to within half a per cent, in the median far less."""
    found = fit_places(DELAYS, iterations=1000)
    i, j = np.triu_indices(40, 1)
    errors = np.abs(delay(found.at(i), found.at(j)) / DELAYS[i, j] - 1.0)

    assert float(np.median(errors)) < 1e-3
    assert float(np.quantile(errors, 0.95)) < 5e-3


def test_a_new_node_finds_its_place() -> None:
    """From its delays to 12 landmarks, a node's delays to all the others follow."""
    newcomer = place(TRUE.at(np.arange(12)), DELAYS[39, :12])
    errors = np.abs(delay(newcomer, TRUE.at(np.arange(12, 39))) / DELAYS[39, 12:39] - 1.0)

    assert float(np.median(errors)) < 0.01


def test_nodes_held_out_are_judged_by_pairs_among_them() -> None:
    """Five nodes held out are ten pairs; unknown delays are not asked."""
    some = DELAYS.copy()
    some[0, 1] = some[1, 0] = np.nan

    assert held_out_errors(some, np.array([0, 1, 2, 3, 4]), 16).size == 9


def test_a_fleets_delays_come_from_six_numbers_a_node() -> None:
    """A million pairs are computed from cities and two numbers a device; half the world is within 200 ms one way."""
    devices = np.arange(1_000_000)
    cities = draw_nodes(3, devices, len(CITIES.heights))
    far_s = delay(CITIES.at(cities[:-1]), CITIES.at(cities[1:]))

    assert far_s.shape == (999_999,)
    assert 0.03 < float(np.median(far_s)) < 0.12
    assert float(far_s.min()) >= 0.0
    assert float(far_s.max()) < 0.5


def test_jax_computes_the_same_delays() -> None:
    """The law is elementwise under jax.numpy, too."""
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        other = Places(*(jax.numpy.asarray(part) for part in TRUE))

        assert np.asarray(delay(other, other, jax.numpy)) == pytest.approx(delay(TRUE, TRUE))
