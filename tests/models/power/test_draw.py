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
