"""Tests of models.power."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import power

UNIT = st.floats(0.0, 1.0)


@given(idle=st.floats(0.0, 5.0), up=st.floats(0.0, 50.0), share=UNIT, load=UNIT, speed=UNIT)
def test_the_chip_stays_between_idle_and_its_limit(
    idle: float, up: float, share: float, load: float, speed: float
) -> None:
    """Chip and idle together never exceed the sustained power, and grow with load."""
    peak, sustained = idle + up, idle + up * share

    draw = power.draw_w(idle, sustained, peak, 1.0, 0, load, speed)
    more = power.draw_w(idle, sustained, peak, 1.0, 0, min(1.0, load + 0.1), speed)

    assert 0.0 <= float(draw.die_w) <= sustained - idle + 1e-9
    assert float(more.die_w) >= float(draw.die_w)
    assert float(draw.board_w) == idle


def test_screen_and_radio_warm_the_board() -> None:
    """Idle, screen and radio are board power; the die has only the work."""
    die_w, board_w = power.draw_w(0.15, 4.5, 10.0, 1.0, [0, 1], 0.2, 1.0, radio_w=0.5)

    assert board_w.tolist() == pytest.approx([0.65, 1.65])
    assert die_w.tolist() == pytest.approx([1.97, 1.97])


@given(idle=st.floats(0.0, 5.0), up=st.floats(0.1, 50.0), share=UNIT, load=st.floats(0.01, 1.0))
def test_sustained_speed_is_where_the_limit_bites(idle: float, up: float, share: float, load: float) -> None:
    """At the sustained speed a load draws the limit exactly, or runs at full speed below it."""
    peak, sustained = idle + up, idle + up * share

    speed = power.sustained_speed(idle, sustained, peak, load)
    draw = power.draw_w(idle, sustained, peak, 0.0, 0, load, speed)

    assert 0.0 <= float(speed) <= 1.0
    wanted_w = up * load * float(speed) ** 2
    assert float(draw.die_w) == pytest.approx(wanted_w, abs=1e-9)
    assert speed == 1.0 or wanted_w == pytest.approx(up * share, abs=1e-9)


def test_half_the_speed_takes_a_quarter_of_the_power() -> None:
    """Dynamic power follows the square of the speed, as measured on phone cores."""
    full, half = power.draw_w(1.0, 100.0, 9.0, 0.0, 0, 1.0, np.array([1.0, 0.5])).die_w

    assert half == pytest.approx(full / 4)


def test_jax_draws_the_same() -> None:
    """Under jax.numpy, jitted, the law gives what NumPy gives."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)

    idle, sustained, peak = np.array([0.15, 5.0, 20.0]), np.array([3.5, 28.0, 450.0]), np.array([9.0, 64.0, 450.0])
    load, speed, lit = np.array([1.0, 0.3, 0.9]), np.array([1.0, 0.7, 0.5]), np.array([True, False, True])
    columns = (idle, sustained, peak, np.array([1.0, 3.5, 0.0]), lit, load, speed)

    numpy_draw = power.draw_w(*columns)
    jax_draw = jax.jit(power.draw_w)(*columns)

    np.testing.assert_allclose(jax_draw.die_w, numpy_draw.die_w, rtol=1e-14)
    np.testing.assert_allclose(jax_draw.board_w, numpy_draw.board_w, rtol=1e-14)
    np.testing.assert_allclose(
        jax.jit(power.sustained_speed)(idle, sustained, peak, load),
        power.sustained_speed(idle, sustained, peak, load),
        rtol=1e-14,
    )


def test_float32_stays_float32() -> None:
    """A float32 column meets scalars without becoming float64, in both array libraries."""
    for library in (np, pytest.importorskip("jax.numpy")):
        idle = library.asarray([0.15, 5.0], dtype=library.float32)

        draw = power.draw_w(idle, 2.0 * idle, 3.0 * idle, 1.0, True, 0.5, 1.0)

        assert draw.die_w.dtype == draw.board_w.dtype == np.float32


def test_a_device_has_its_own_exponent() -> None:
    """With the exponent of the Pixel 8 half the speed takes a sixth of the power, and sustained speed follows it."""
    half = power.draw_w(1.0, 100.0, 9.0, 0.0, 0, 1.0, 0.5, exponent=2.65).die_w
    speed = power.sustained_speed(1.0, 3.0, 9.0, exponent=2.65)

    assert half == pytest.approx(8.0 * 0.5**2.65)
    assert power.draw_w(1.0, 100.0, 9.0, 0.0, 0, 1.0, speed, exponent=2.65).die_w == pytest.approx(2.0)


def test_leakage_is_a_line_through_nothing_at_25_c() -> None:
    """Leakage on top of the rated powers is 0 at 25 C and grows by the slope a kelvin."""
    slope = power.leak_slope_w_per_k(0.15, 3.5)

    assert power.leak_w([25.0, 65.0, 15.0], slope).tolist() == pytest.approx([0.0, 40.0 * slope, -10.0 * slope])
    assert 0.0 < slope < 0.02  # W/K: far below the 0.16 W/K that a phone's skin gives off, else it would run away
