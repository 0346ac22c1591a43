"""Tests of models.thermal.network against SciPy's ODE solver and matrix exponential."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from models.thermal.bodies import NETWORKS, body_scale
from models.thermal.crossing import time_to_c
from models.thermal.network import Network, advance, modes, propagator, steady_c

KINDS = st.sampled_from(sorted(NETWORKS))
SIZES = st.sampled_from([2, 3])
SHARES = st.floats(0.0, 2.0)  # of the sustained power
TEMPS_C = st.floats(-20.0, 110.0)
SCALES = st.floats(0.5, 2.0)
FORTY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def chain(kind: str, size: int) -> Network:
    """Return a kind's network, or its two outer nodes as one."""
    network = NETWORKS[kind].network
    if size == 3:
        return network
    heat, links = network.heat_j_per_k, network.links_w_per_k
    return Network((heat[0], heat[1] + heat[2]), (1 / (1 / links[0] + 1 / links[1]), links[2]))


def system(
    network: Network, powers_w: list[float], air_c: float, c: float, g: float, leak: float, leak_c: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return A and b of dT/dt = A T + b, written down link by link."""
    size = len(network.heat_j_per_k)
    matrix, drive = np.zeros((size, size)), np.asarray(powers_w, float).copy()
    for i, link in enumerate(network.links_w_per_k):
        matrix[i, i] -= g * link
        if i + 1 < size:
            matrix[i, i + 1] += g * link
            matrix[i + 1, i] += g * link
            matrix[i + 1, i + 1] -= g * link
        else:
            drive[i] += g * link * air_c
    matrix[0, 0] += g * leak
    drive[0] -= g * leak * leak_c
    heat = c * np.asarray(network.heat_j_per_k)
    return matrix / heat[:, None], drive / heat


def leak_of(network: Network, share: float) -> float:
    """Return a leakage that is a share of the one at which the die runs away."""
    return share / network.die_to_ambient_k_per_w


@pytest.mark.parametrize("kind", sorted(NETWORKS))
@pytest.mark.parametrize("size", [2, 3])
def test_switching_loads_agree_with_an_ode_solver(kind: str, size: int, physics: Callable[..., None]) -> None:
    """End and mean temperatures stay within 1e-6 K of an ODE solver at 1e-12 through twenty changes of load."""
    random = np.random.default_rng(7)
    network, top_w, c, g = chain(kind, size), NETWORKS[kind].sustained_w, 1.2, 0.85
    leak = leak_of(network, 0.2)
    kind_modes = modes(network, leak)
    temps = (20.0, 22.0, 25.0)[:size]
    exact = np.asarray([*temps, *([0.0] * size)])

    for _ in range(20):
        powers = (random.uniform(0, 2.5, size) * top_w * np.array([1.0, 0.2, 0.3])[:size]).tolist()
        air_c, dt_s = random.uniform(-10, 40), random.choice([0.3, 5.0, 60.0, 900.0])
        matrix, drive = system(network, powers, air_c, c, g, leak, 60.0)

        def slope(_t: float, y: np.ndarray, matrix: np.ndarray = matrix, drive: np.ndarray = drive) -> np.ndarray:
            return np.concatenate([matrix @ y[:size] + drive, y[:size]])

        exact[size:] = 0.0
        exact = solve_ivp(slope, (0, dt_s), exact, method="DOP853", rtol=1e-12, atol=1e-11).y[:, -1]
        goal = steady_c(network, tuple(powers), air_c, g, leak, 60.0)
        got = advance(propagator(kind_modes, dt_s, c / g), temps, goal)
        temps = got.end_c

        off = np.abs([*np.subtract(got.end_c, exact[:size]), *np.subtract(got.mean_c, exact[size:] / dt_s)]).max()
        physics("heat: end and mean of two and three nodes", "SciPy ODE solver, 1e-12", off, "K", 1e-6)
        assert np.allclose(got.end_c, exact[:size], rtol=0, atol=1e-6)
        assert np.allclose(got.mean_c, exact[size:] / dt_s, rtol=0, atol=1e-6)


@FORTY
@given(KINDS, SIZES, TEMPS_C, TEMPS_C, SHARES, SHARES, st.floats(0, 0.5), SCALES, SCALES, st.floats(1e-3, 5000.0))
def test_advance_is_the_matrix_exponential(
    physics: Callable[..., None],
    kind: str,
    size: int,
    die_c: float,
    skin_c: float,
    u: float,
    sun: float,
    leak: float,
    c: float,
    g: float,
    dt_s: float,
) -> None:
    """Any chain, state, load, leakage and device factors: the end agrees with scipy.linalg.expm to 1e-7 K."""
    network, top_w = chain(kind, size), NETWORKS[kind].sustained_w
    slope = leak_of(network, leak)
    powers = (u * top_w, 0.1 * top_w, sun * top_w)[:size]
    temps = (die_c, 30.0, skin_c)[:size]

    goal = steady_c(network, powers, 25.0, g, slope, 50.0)
    got = advance(propagator(modes(network, slope), dt_s, c / g), temps, goal)

    matrix, drive = system(network, list(powers), 25.0, c, g, slope, 50.0)
    augmented = np.zeros((size + 1, size + 1))
    augmented[:size, :size], augmented[:size, size] = matrix, drive
    want = (expm(augmented * dt_s) @ np.array([*temps, 1.0]))[:size]
    off = np.abs(np.asarray(got.end_c, float) - want).max()
    physics("heat: any chain, load, leakage and device", "scipy.linalg.expm", off, "K", 1e-7)
    assert np.allclose(np.asarray(got.end_c, float), want, rtol=0, atol=1e-7)


@FORTY
@given(KINDS, SIZES, TEMPS_C, TEMPS_C, SHARES, st.floats(0.0, 1e5), st.floats(0.0, 1.0))
def test_cutting_an_interval_changes_nothing(
    physics: Callable[..., None], kind: str, size: int, die_c: float, skin_c: float, u: float, dt_s: float, cut: float
) -> None:
    """Two steps in a row end where one does, and their means add up, to rounding."""
    network = chain(kind, size)
    kind_modes = modes(network)
    goal = steady_c(network, (u * NETWORKS[kind].sustained_w, 0.0, 1.0)[:size], 25.0)
    temps = (die_c, 30.0, skin_c)[:size]
    first_s = dt_s * cut

    whole = advance(propagator(kind_modes, dt_s), temps, goal)
    first = advance(propagator(kind_modes, first_s), temps, goal)
    second = advance(propagator(kind_modes, dt_s - first_s), first.end_c, goal)

    off = np.abs(np.subtract(second.end_c, whole.end_c)).max()
    physics("heat: cutting an interval", "the interval uncut", off, "K", 1e-9)
    assert np.allclose(second.end_c, whole.end_c, rtol=0, atol=1e-9)
    area = np.asarray(first.mean_c) * first_s + np.asarray(second.mean_c) * (dt_s - first_s)
    assert np.allclose(area, np.asarray(whole.mean_c) * dt_s, rtol=1e-10, atol=1e-8)


@settings(max_examples=40, deadline=None)
@given(KINDS, SIZES, SHARES, st.floats(-20, 45), st.floats(0, 0.5), SCALES)
def test_the_steady_state_sheds_what_it_takes_in(
    kind: str, size: int, u: float, air_c: float, leak: float, g: float
) -> None:
    """Heat through the skin equals all heat put in, leakage included."""
    network = chain(kind, size)
    slope = leak_of(network, leak)
    powers = (u * NETWORKS[kind].sustained_w, 0.5, 1.5)[:size]

    temps = steady_c(network, powers, air_c, g, slope, 40.0)

    out_w = (temps[-1] - air_c) * network.links_w_per_k[-1] * g
    in_w = sum(powers) + g * slope * (temps[0] - 40.0)
    assert out_w == pytest.approx(in_w, rel=1e-9, abs=1e-9)


def first_crossing(temps: np.ndarray, matrix: np.ndarray, drive: np.ndarray, node: int, level_c: float) -> float:
    """Return the first crossing as an ODE solver finds it, s; inf if there is none within 1e5 s."""

    def slope(_t: float, y: np.ndarray) -> np.ndarray:
        return matrix @ y + drive

    def solve(until_s: float, **more: Any) -> Any:
        return solve_ivp(slope, (0, until_s), temps, method="DOP853", rtol=1e-12, atol=1e-12, **more)

    def meets(_t: float, y: np.ndarray) -> float:
        return float(y[node] - level_c)

    meets.terminal = True  # type: ignore[attr-defined]
    hits = solve(1e5, events=meets).t_events[0]
    if not hits.size:
        return np.inf
    at_s = float(hits[0])
    for _ in range(3):  # the solver's interpolation inside a step is good to 1e-8 K only: go there in whole steps
        end = solve(at_s).y[:, -1]
        at_s -= float((end[node] - level_c) / slope(at_s, end)[node])
    return at_s


@pytest.mark.parametrize("kind", sorted(NETWORKS))
@pytest.mark.parametrize("size", [2, 3])
def test_crossings_agree_with_an_ode_solver(kind: str, size: int, physics: Callable[..., None]) -> None:
    """First crossings of any node, from above and below, are within 0.1 ms of an ODE solver's events at 1e-12."""
    random = np.random.default_rng(11)
    network, top_w = chain(kind, size), NETWORKS[kind].sustained_w
    kind_modes = modes(network)
    crossed = 0
    for _ in range(8):
        temps = random.uniform(10, 90, size)
        powers = random.uniform(0, 1.5, size) * top_w * np.array([1.0, 0.1, 0.2])[:size]
        node, c, g = int(random.integers(size)), random.uniform(0.7, 1.4), random.uniform(0.7, 1.4)
        goal = steady_c(network, tuple(powers.tolist()), 25.0, g)
        level_c = random.uniform(min(temps[node], goal[node]) - 2, max(temps[node], goal[node]) + 2)

        got_s = float(time_to_c(kind_modes, node, tuple(temps.tolist()), goal, level_c, c / g))

        want_s = first_crossing(temps, *system(network, powers.tolist(), 25.0, c, g, 0.0, 0.0), node, level_c)
        crossed += np.isfinite(want_s)
        if np.isfinite(want_s):
            physics("heat: first crossing of a level", "SciPy ODE solver, 1e-12", 1e3 * abs(got_s - want_s), "ms", 0.1)
        assert got_s == pytest.approx(want_s, abs=1e-4)
    assert crossed >= 4  # the cases are not all trivial


@settings(max_examples=40, deadline=None)
@given(KINDS, SIZES, TEMPS_C, TEMPS_C, TEMPS_C, SHARES, TEMPS_C, st.integers(0, 2))
def test_no_crossing_is_earlier_than_the_one_returned(
    kind: str, size: int, die_c: float, board_c: float, skin_c: float, u: float, level_c: float, node: int
) -> None:
    """The node meets the level at the time returned and never before; inf means not at all."""
    network, node = chain(kind, size), min(node, size - 1)
    kind_modes = modes(network)
    temps = (die_c, board_c, skin_c)[:size]
    goal = steady_c(network, (u * NETWORKS[kind].sustained_w, 0.0, 0.0)[:size], 25.0)
    assume(abs(goal[node] - level_c) > 1e-6)
    assume(abs(temps[node] - level_c) > 1e-6)

    at_s = float(time_to_c(kind_modes, node, temps, goal, level_c))

    until_s = at_s if np.isfinite(at_s) else 1e5
    grid_s = until_s * np.concatenate([np.linspace(0, 0.999, 1000), 1 - np.geomspace(1, 1e-3, 300)])
    before_k = np.asarray(advance(propagator(kind_modes, grid_s), temps, goal).end_c[node]) - level_c
    side = np.sign(temps[node] - level_c)
    assert np.all((np.sign(before_k) == side) | (np.abs(before_k) < 1e-9))
    if np.isfinite(at_s):
        hit_c = advance(propagator(kind_modes, at_s), temps, goal).end_c[node]
        assert float(hit_c) == pytest.approx(level_c, abs=1e-7)


@pytest.mark.parametrize("kind", sorted(NETWORKS))
@pytest.mark.parametrize("node", [0, 1, 2])
def test_no_crossing_of_two_thousand_devices_is_missed(kind: str, node: int) -> None:
    """On a grid of times nobody crosses its level before the time returned; there, everybody is at it."""
    random, count = np.random.default_rng(5), 2000
    top_w, network = NETWORKS[kind]
    kind_modes = modes(network)
    temps = tuple(random.uniform(10, 90, (3, count)))
    powers = tuple(share * top_w * random.uniform(0, 1, count) for share in (1.5, 0.1, 0.3))
    goal = steady_c(network, powers, 25.0)
    level_c = random.uniform(np.minimum(temps[node], goal[node]) - 2, np.maximum(temps[node], goal[node]) + 2)

    at_s = time_to_c(kind_modes, node, temps, goal, level_c)

    side = np.sign(temps[node] - level_c)
    for grid_s in np.geomspace(0.05, 3e4, 300):
        away_k = advance(propagator(kind_modes, float(grid_s)), temps, goal).end_c[node] - level_c
        assert not np.any((side * away_k < -1e-9) & (at_s > grid_s))
    met = np.isfinite(at_s)
    hit_c = advance(propagator(kind_modes, np.where(met, at_s, 0.0)), temps, goal).end_c[node]
    assert np.allclose(hit_c[met], level_c[met], rtol=0, atol=1e-9)


def test_an_overshoot_of_the_middle_node_is_found() -> None:
    """A board between a hot skin and a cold die dips, rises and falls again: each side is caught at its first visit."""
    network = NETWORKS["phone"].network
    kind_modes = modes(network)
    temps, goal = (0.0, 40.0, 52.0), (25.0, 25.0, 25.0)

    got = time_to_c(kind_modes, 1, temps, goal, np.array([39.8, 40.0, 42.0, 43.0, 80.0, 26.0]))

    assert np.isfinite(got).tolist() == [True, True, True, True, False, True]
    assert got[1] == 0.0
    assert got[0] < got[2] < got[3] < got[5]


def test_numpy_and_jax_agree(physics: Callable[..., None]) -> None:
    """The same laws under jax.jit give what NumPy gives, to 1e-9."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    network = NETWORKS["phone"].network
    kind_modes = modes(network, 0.01)
    random = np.random.default_rng(3)
    scale, power = random.uniform(0.7, 1.4, 50), random.uniform(0, 9, 50)
    state = tuple(random.uniform(20, 60, (3, 50)))

    def law(scale: object, power: object, state: tuple[object, ...]) -> tuple[object, ...]:
        goal = steady_c(network, (power, 0.0 * power, 1.0 + 0.0 * power), 25.0, scale, 0.01, 50.0)
        warm = advance(propagator(kind_modes, 60.0, 1.0 / scale), state, goal)
        return *warm.end_c, *warm.mean_c, time_to_c(kind_modes, 0, state, goal, 55.0, 1.0 / scale)

    want = law(scale, power, state)
    got = jax.jit(law)(scale, power, state)

    off = max(np.abs(one - np.asarray(other)).max() for one, other in zip(want[:6], got[:6], strict=True))
    physics("heat: the same law under jax.jit", "NumPy", off, "K", 1e-6)
    for one, other in zip(want, got, strict=True):
        assert np.allclose(one, np.asarray(other), rtol=1e-9, atol=1e-9)


def test_scaled_bodies_keep_their_time_constants() -> None:
    """A body built for twice the power is as warm at twice the power, at every time."""
    network = NETWORKS["laptop"].network
    scale = body_scale("laptop", 56.0)
    kind_modes = modes(network)

    one = advance(propagator(kind_modes, 777.0), (25.0,) * 3, steady_c(network, (28.0, 1.0, 2.0), 25.0))
    two = advance(
        propagator(kind_modes, 777.0, scale / scale), (25.0,) * 3, steady_c(network, (56.0, 2.0, 4.0), 25.0, scale)
    )

    assert np.allclose(one.end_c, two.end_c, rtol=1e-12)


def test_a_phone_at_its_sustained_power_warms_its_skin_by_eighteen_kelvin() -> None:
    """The phone was chosen by +18 K at 3 W and a time constant of 10 to 20 minutes."""
    network = NETWORKS["phone"].network

    rise_k = steady_c(network, (3.0, 0.0, 0.0), 25.0)[2] - 25.0

    assert 17.0 < rise_k < 20.0
    assert 600.0 < 1.0 / modes(network).rates_per_s[-1] < 1200.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Network((1.0,), (1.0,)), "heat_j_per_k has 1 values; allowed: 2 or 3"),
        (lambda: Network((1.0, 2.0), (1.0, 2.0, 3.0)), "links_w_per_k has 3 values; allowed: 2"),
        (lambda: Network((1.0, float("nan")), (1.0, 2.0)), r"heat_j_per_k\[1\] is nan; allowed: finite"),
        (lambda: Network((1.0, 2.0), (1.0, -2.0)), r"links_w_per_k\[1\] is -2.0; allowed: finite"),
        (lambda: modes(NETWORKS["phone"].network, 0.2), "leakage_w_per_k is 0.2; allowed: below 0.108"),
        (lambda: modes(NETWORKS["phone"].network, -0.1), "leakage_w_per_k is -0.1; allowed: finite"),
        (lambda: body_scale("toaster", 5.0), "kind is 'toaster'; allowed: phone, tablet"),
        (lambda: body_scale("phone", 0.0), "sustained_w is 0.0; allowed: finite"),
    ],
)
def test_bad_input_is_named(make: object, message: str) -> None:
    """A bad value raises one line that names it and what is allowed."""
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
