"""Tests of models.thermal against SciPy's matrix exponential."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.linalg import expm

from models import thermal

KINDS = st.sampled_from(sorted(thermal.BODIES))
TEMPS_C = st.floats(-20.0, 110.0)
POWERS = st.floats(0.0, 1.0)  # as a share of three times the sustained power
TIMES_S = st.floats(0.0, 1e5)


def by_expm(
    body: thermal.Body, die_c: float, skin_c: float, die_w: float, skin_w: float, air_c: float, dt_s: float
) -> np.ndarray:
    """Return the end temperatures and the time integrals by one exponential of the augmented 5x5 system."""
    cd, cs = float(body.die_j_per_k), float(body.skin_j_per_k)
    across, out = float(body.die_skin_w_per_k), float(body.skin_ambient_w_per_k)
    system = np.zeros((5, 5))
    system[0] = [-across / cd, across / cd, die_w / cd, 0, 0]
    system[1] = [across / cs, -(across + out) / cs, (skin_w + out * air_c) / cs, 0, 0]
    system[3, 0] = system[4, 1] = 1.0
    return expm(system * dt_s) @ np.array([die_c, skin_c, 1.0, 0.0, 0.0])


@given(KINDS, TEMPS_C, TEMPS_C, POWERS, POWERS, st.floats(-20, 45), st.floats(1e-3, 5000.0))
def test_advance_is_the_matrix_exponential(
    kind: str, die_c: float, skin_c: float, die_u: float, skin_u: float, air_c: float, dt_s: float
) -> None:
    """End and mean temperatures agree with scipy.linalg.expm to 1e-7 K."""
    top_w = 3 * thermal.BODIES[kind].sustained_w
    body = thermal.BODIES[kind].body

    got = thermal.advance(body, die_c, skin_c, die_u * top_w, skin_u * top_w, air_c, dt_s)

    want = by_expm(body, die_c, skin_c, die_u * top_w, skin_u * top_w, air_c, dt_s)
    assert float(got.die_c) == pytest.approx(want[0], abs=1e-7)
    assert float(got.skin_c) == pytest.approx(want[1], abs=1e-7)
    assert float(got.mean_die_c) * dt_s == pytest.approx(want[3], rel=1e-9, abs=1e-6)
    assert float(got.mean_skin_c) * dt_s == pytest.approx(want[4], rel=1e-9, abs=1e-6)


@given(KINDS, TEMPS_C, TEMPS_C, POWERS, TIMES_S, st.floats(0.0, 1.0))
def test_cutting_an_interval_changes_nothing(
    kind: str, die_c: float, skin_c: float, load: float, dt_s: float, cut: float
) -> None:
    """Two steps in a row end where one does, to rounding."""
    reference = thermal.BODIES[kind]
    power_w = 3 * reference.sustained_w * load
    first_s = dt_s * cut

    whole = thermal.advance(reference.body, die_c, skin_c, power_w, 1.0, 25.0, dt_s)
    first = thermal.advance(reference.body, die_c, skin_c, power_w, 1.0, 25.0, first_s)
    second = thermal.advance(reference.body, first.die_c, first.skin_c, power_w, 1.0, 25.0, dt_s - first_s)

    assert float(second.die_c) == pytest.approx(float(whole.die_c), abs=1e-9)
    assert float(second.skin_c) == pytest.approx(float(whole.skin_c), abs=1e-9)


@given(KINDS, POWERS, POWERS, st.floats(-20, 45))
def test_steady_is_where_advance_ends(kind: str, die_u: float, skin_u: float, air_c: float) -> None:
    """The steady state does not move, and heat out equals heat in."""
    reference = thermal.BODIES[kind]
    die_w, skin_w = die_u * reference.sustained_w, skin_u * reference.sustained_w

    die_c, skin_c = thermal.steady(reference.body, die_w, skin_w, air_c)
    later = thermal.advance(reference.body, die_c, skin_c, die_w, skin_w, air_c, 1e4)

    assert float(later.die_c) == pytest.approx(float(die_c), abs=1e-9)
    assert float(later.skin_c) == pytest.approx(float(skin_c), abs=1e-9)
    out_w = (float(skin_c) - air_c) * float(reference.body.skin_ambient_w_per_k)
    assert out_w == pytest.approx(die_w + skin_w, abs=1e-9)


@given(KINDS, TEMPS_C, TEMPS_C, POWERS, TEMPS_C)
def test_crossing_time_is_the_first_time_at_the_target(
    kind: str, die_c: float, skin_c: float, load: float, target_c: float
) -> None:
    """The die meets the target at the time returned and never before; inf means not at all."""
    reference = thermal.BODIES[kind]
    power_w = 3 * reference.sustained_w * load
    end_c, _ = thermal.steady(reference.body, power_w, 0.0, 25.0)
    assume(abs(float(end_c) - target_c) > 1e-6)
    assume(abs(die_c - target_c) > 1e-6)
    args = (die_c, skin_c, power_w, 0.0, 25.0)

    at_s = float(thermal.time_to_die_c(reference.body, *args, target_c))

    until_s = at_s if np.isfinite(at_s) else 1e5
    before = thermal.advance(reference.body, *args, until_s * np.linspace(0.0, 0.999, 2000)).die_c
    assert np.all(np.sign(before - target_c) == np.sign(die_c - target_c))
    if np.isfinite(at_s):
        hit = thermal.advance(reference.body, *args, at_s).die_c
        assert float(hit) == pytest.approx(target_c, abs=1e-7)


def test_crossing_of_an_overshoot_is_found() -> None:
    """A die that rises through the target and falls back again is caught on its way up, and vice versa."""
    body = thermal.BODIES["phone"].body
    # A hot skin warms a cool die at once, then both cool down towards 25 C.
    up = thermal.time_to_die_c(body, 20.0, 60.0, 0.0, 0.0, 25.0, [50.0, 57.5, 59.9, 22.0, 20.0])
    down = thermal.time_to_die_c(body, 60.0, 26.0, 0.0, 0.0, 25.0, [25.5, 24.0])

    assert np.isfinite(up).tolist() == [True, True, False, True, True]
    assert float(up[0]) < 60.0
    assert float(up[4]) == 0.0
    assert np.isfinite(down).tolist() == [True, False]


def test_a_phone_at_its_sustained_power_warms_its_skin_by_eighteen_kelvin() -> None:
    """The phone body was chosen by +18 K at 3 W and a time constant of 10 to 20 minutes."""
    body = thermal.BODIES["phone"].body

    _, skin_c = thermal.steady(body, 3.0, 0.0, 25.0)
    after = thermal.advance(body, 25.0, 25.0, 3.0, 0.0, 25.0, [600.0, 1200.0]).skin_c - 25.0

    assert 17.0 < float(skin_c) - 25.0 < 20.0
    risen = after / (float(skin_c) - 25.0)
    assert risen[0] < 1 - np.exp(-1) < risen[1]


def test_bodies_scale_without_changing_their_time_constants() -> None:
    """A body built for twice the power is as warm at twice the power, at every time."""
    single, double = thermal.body("laptop", [28.0]), thermal.body("laptop", [56.0])

    one = thermal.advance(single, 25.0, 25.0, 28.0, 2.0, 25.0, 777.0)
    two = thermal.advance(double, 25.0, 25.0, 56.0, 4.0, 25.0, 777.0)

    assert np.allclose(one.die_c, two.die_c, rtol=1e-12)


@pytest.mark.parametrize(
    ("level", "die_c", "after"),
    [(0, 94.9, 0), (0, 95.0, 1), (2, 120.0, 3), (4, 120.0, 4), (3, 93.0, 3), (3, 91.9, 2), (0, 20.0, 0)],
)
def test_throttle_moves_one_level_a_poll(level: int, die_c: float, after: int) -> None:
    """One level up from the trip on, one down below trip less hysteresis, and never out of range."""
    assert int(thermal.throttle(level, die_c, 95.0, 3.0, 5)) == after


def test_speed_falls_evenly_and_stays_above_zero() -> None:
    """Level 0 is full speed and the last level still runs."""
    assert thermal.speed_factor([0, 1, 2, 3], 4).tolist() == [1.0, 0.75, 0.5, 0.25]


def test_an_unknown_kind_is_named() -> None:
    """A kind that does not exist raises an error that lists those that do."""
    with pytest.raises(ValueError, match="kind is 'toaster'; allowed: phone, tablet"):
        thermal.body("toaster", 5.0)
