"""A cell through a list of steps: conditions, limits, samples, and the coupled course against an ODE solver."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.battery.protocol import Step, run

CYCLE = [
    Step("cc", -2.5, until_v_v=4.2),
    Step("cv", 4.2, until_i_a=0.25),
    Step("rest", until_t_s=1800.0),
    Step("cp", 8.0, until_t_s=600.0, ambient_c=10.0),
    Step("cc", 5.0, until_v_v=3.2, ambient_c=10.0),
    Step("rest", until_t_s=600.0),
]
MOVES = [
    ("cc", -2.5, 1e6, 4.2, None, 25.0), ("cv", 4.2, 1e6, None, 0.25, 25.0), ("cc", 0.0, 1800.0, None, None, 25.0),
    ("cp", 8.0, 600.0, None, None, 10.0), ("cc", 5.0, 1e6, 3.2, None, 10.0), ("cc", 0.0, 600.0, None, None, 25.0),
]  # fmt: skip
"""The same cycle, as the solver of `reference` takes it."""


def test_a_coupled_course_agrees_with_an_ode_solver(flat, reference, physics):
    """Charge, taper, rest and two discharges with self-heating: temperature to 0.1 K, charge to 1e-4, times to 3e-4."""
    other = reference(flat, 25.0, 0.2)
    course = run(flat, CYCLE, 0.2)
    for end, move in zip(course.steps, MOVES, strict=True):
        other.move(*move)
        at = np.flatnonzero(course.t_s <= end.end_s)[-1]
        late, warm_k = abs(end.end_s / other.t_s - 1.0), abs(course.temp_c[at] - other.temp_c)
        physics("battery: course with self-heating, ends of steps", "SciPy ODE solver, 1e-12", late, "rel.", 3e-4)
        physics("battery: course with self-heating, temperature", "SciPy ODE solver, 1e-12", warm_k, "K", 0.1)
        np.testing.assert_allclose(end.end_s, other.t_s, rtol=3e-4)
        np.testing.assert_allclose(course.soc[at], other.soc, rtol=0, atol=1e-4)
        np.testing.assert_allclose(course.temp_c[at], other.temp_c, rtol=0, atol=0.1)
    np.testing.assert_allclose(course.energy_wh, other.terminal_j / 3600.0, rtol=0, atol=2e-3)
    assert [end.reason for end in course.steps] == ["voltage", "current", "time", "time", "voltage", "time"]


def test_shares_of_heat_and_entropy_agree_with_an_ode_solver(hot, reference, physics):
    """With a share for each pair and an entropic table the same course keeps its temperature to 0.1 K."""
    other = reference(hot, 25.0, 0.2)
    course = run(hot, CYCLE, 0.2)
    warmest_k = 0.0
    for end, move in zip(course.steps, MOVES, strict=True):
        other.move(*move)
        at = np.flatnonzero(course.t_s <= end.end_s)[-1]
        warm_k = abs(course.temp_c[at] - other.temp_c)
        warmest_k = max(warmest_k, abs(other.temp_c - move[-1]))
        physics("battery: shares of heat and entropy, temperature", "SciPy ODE solver, 1e-12", warm_k, "K", 0.1)
        np.testing.assert_allclose(end.end_s, other.t_s, rtol=3e-4)
        assert warm_k < 0.1
    assert warmest_k > 3.0  # there is something to be wrong about


def test_a_knee_in_r0_agrees_with_an_ode_solver(bent, reference, physics):
    """R0 that bends is frozen over a substep: ends of steps and charge to 5e-4, temperature to 0.1 K."""
    other = reference(bent, 25.0, 0.2)
    moves = [
        ("cc", -2.5, 1e6, 4.2, None, 25.0), ("cv", 4.2, 1e6, None, 0.25, 25.0), ("cc", 0.0, 1800.0, None, None, 25.0),
        ("cp", 8.0, 600.0, None, None, 10.0), ("cc", 5.0, 1e6, 3.2, None, 10.0), ("cc", 0.0, 600.0, None, None, 25.0),
    ]  # fmt: skip
    course, straight = run(bent, CYCLE, 0.2), run(replace(bent, r0_knee_v=None), CYCLE, 0.2)
    for end, move in zip(course.steps, moves, strict=True):
        other.move(*move)
        at = np.flatnonzero(course.t_s <= end.end_s)[-1]
        late, warm_k = abs(end.end_s / other.t_s - 1.0), abs(course.temp_c[at] - other.temp_c)
        physics("battery: course with a knee in R0, ends of steps", "SciPy ODE solver, 1e-12", late, "rel.", 5e-4)
        physics("battery: course with a knee in R0, temperature", "SciPy ODE solver, 1e-12", warm_k, "K", 0.1)
        assert late < 5e-4
        np.testing.assert_allclose(course.soc[at], other.soc, rtol=0, atol=5e-4)
        assert warm_k < 0.1
    assert abs(straight.state.soc[0] - course.state.soc[0]) > 5e-3  # there is something to be wrong about


def test_samples_show_the_course_and_do_not_change_it(two):
    """Asked for other times, the course ends at the same second and the samples lie on the same curve."""
    course = run(two, CYCLE, 0.2)
    times = np.concatenate([np.linspace(0.0, course.t_end_s, 777), [course.t_end_s + 1.0]])
    other = run(two, CYCLE, 0.2, sample_s=times)
    assert other.t_end_s == course.t_end_s
    np.testing.assert_array_equal(other.t_s, times)
    assert np.isnan(other.v_v[-1])
    assert np.isfinite(other.v_v[:-1]).all()
    by_time = np.interp(times[:-1], course.t_s, course.soc)
    np.testing.assert_allclose(other.soc[:-1], by_time, rtol=0, atol=2e-4)
    # A sample within a substep comes from the same law as the course: its end is the next sample's start.
    np.testing.assert_allclose(other.soc[-2], course.soc[-1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(other.temp_c[-2], course.temp_c[-1], rtol=0, atol=1e-9)


def test_both_sides_of_a_change_of_load_are_there(two):
    """On the default grid an instant where the load changes has the voltage before and after."""
    course = run(two, [Step("cc", 5.0, until_t_s=15.0), Step("rest", until_t_s=15.0)], 0.8)
    both = np.flatnonzero(course.t_s == 15.0)
    assert course.i_a[both].tolist() == [5.0, 0.0]
    np.testing.assert_allclose(np.diff(course.v_v[both]), 5.0 * 0.022, rtol=1e-2)
    np.testing.assert_array_equal(course.t_s, [0.0, 10.0, 15.0, 15.0, 20.0, 30.0])


@pytest.mark.parametrize(
    ("step", "reason", "v_end"),
    [
        (Step("cc", 5.0), "v_min", 3.0),
        (Step("cc", 5.0, until_v_v=2.7), "v_min", 3.0),
        (Step("cc", 5.0, until_v_v=3.0), "voltage", 3.0),
        (Step("cp", 10.0, until_i_a=3.0), "voltage", 10.0 / 3.0),
        (Step("cp", 10.0, until_t_s=60.0), "time", None),
        (Step("cc", -5.0), "v_max", 4.2),
        (Step("cv", 4.1), "current", 4.1),
        (Step("cp", 900.0), "brown-out", None),
    ],
)
def test_a_step_ends_at_its_first_condition_or_the_cells_limit(two, step, reason, v_end):
    """Each condition ends its step with its name; the cell's own limits hold beside it."""
    course = run(two, [step], 0.6)
    assert course.steps[-1].reason == reason
    if v_end is not None:
        np.testing.assert_allclose(course.v_v[-1], v_end, rtol=0, atol=1e-6)


def test_an_empty_cell_ends_the_run_and_a_full_one_does_not(two):
    """After v_min no later step is begun; after v_max the next one is."""
    drained = run(two, [Step("cc", 5.0), Step("rest", until_t_s=60.0)], 0.3)
    assert [end.reason for end in drained.steps] == ["v_min"]
    filled = run(two, [Step("cc", -5.0), Step("cv", 4.2), Step("rest", until_t_s=60.0)], 0.7)
    assert [end.reason for end in filled.steps] == ["v_max", "current", "time"]
    weak = run(two, [Step("cp", 900.0), Step("rest", until_t_s=60.0)], 0.7)
    assert [end.reason for end in weak.steps] == ["brown-out"]
    assert run(two, [Step("cc", 5.0)], 0.0).t_end_s == 0.0  # 0 % is a value


def test_charge_and_energy_add_up(two):
    """Steps sum to the run; charge out of the terminals is that of the state, with Coulomb efficiency on the way in."""
    lossy = replace(two, coulomb_efficiency=0.98)
    course = run(lossy, CYCLE, 0.2)
    np.testing.assert_allclose(sum(end.energy_wh for end in course.steps), course.energy_wh)
    into_ah = -sum(min(end.charge_ah, 0.0) for end in course.steps)
    out_ah = sum(max(end.charge_ah, 0.0) for end in course.steps)
    np.testing.assert_allclose((course.state.soc[0] - 0.2) * 5.0, 0.98 * into_ah - out_ah, atol=1e-9)


def test_isothermal_stays_at_ambient(two):
    """Without self-heating the temperature is ambient in each step."""
    course = run(two, CYCLE, 0.2, isothermal=True)
    assert set(course.temp_c.tolist()) == {25.0, 10.0}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Step("ccc", 1.0), r"mode is 'ccc'; allowed: cc, cp, cv, rest"),
        (lambda: Step("cc", float("nan")), r"value is nan in a cc step"),
        (lambda: Step("cv", -4.2), r"value is -4.2 in a cv step"),
        (lambda: Step("cc", 1.0, until_t_s=-1.0), r"until_t_s is -1.0"),
        (lambda: Step("rest"), r"a rest step without current has no until_t_s"),
        (lambda: Step("cc", 1.0, ambient_c=float("nan")), r"ambient_c is nan"),
    ],
)
def test_a_step_that_cannot_be_is_refused(make, message):
    """One line names the field and its value."""
    with pytest.raises(ValueError, match=message):
        make()


def test_a_run_that_cannot_be_is_refused(two):
    """No steps, a charge outside 0..1 and times that fall are refused."""
    with pytest.raises(ValueError, match=r"steps is empty"):
        run(two, [], 0.5)
    with pytest.raises(ValueError, match=r"soc of row 0 is 1.5"):
        run(two, CYCLE, 1.5)
    with pytest.raises(ValueError, match=r"sample_s falls"):
        run(two, CYCLE, 0.5, sample_s=[3.0, 2.0])
