"""Tests of models.thermal.phone_fit: the law against an ODE solver, the shipped numbers against the measured runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import solve_ivp

from models.thermal.phone_fit import BOARD_J_PER_K, DIE_BOARD_W_PER_K, PHONE_FIT, heat_w, predict_battery_zone


def a_run() -> tuple[np.ndarray, ...]:
    """Return t_s, little_khz, big_khz, gpu_hz, gpu_load and cpu_load of a made-up run."""
    random, count = np.random.default_rng(1), 40
    return (
        np.concatenate([[0.0], np.cumsum(random.uniform(0.5, 3.0, count - 1))]), random.uniform(7e5, 3.5e6, count),
        random.uniform(1e6, 4e6, count), random.uniform(2e8, 1.2e9, count), random.uniform(0, 100, count),
        random.uniform(0, 100, count),
    )  # fmt: skip


def test_heat_grows_with_load_and_with_the_square_of_frequency() -> None:
    """Half the load at half the highest frequencies draws an eighth of what full load draws on top of idle."""
    law = PHONE_FIT._replace(idle_w=1.0, little_w=8.0, big_w=4.0, gpu_w=16.0)

    full = heat_w(law, 3_532_800.0, 4_473_600.0, 1.2e9, 100.0, 100.0)
    part = heat_w(law, 1_766_400.0, 2_236_800.0, 0.6e9, 50.0, 50.0)

    assert full == pytest.approx(29.0)
    assert part == pytest.approx(1.0 + 28.0 / 8.0)


def test_the_prediction_is_the_ode_solvers(physics: Callable[..., None]) -> None:
    """Each sample is within 1e-6 K of SciPy's solver run from sample to sample at 1e-12."""
    t_s, *logs = a_run()
    watts, p = heat_w(PHONE_FIT, *logs), PHONE_FIT
    above = 31.0 - p.ambient_c
    state = np.array([31.0 + p.idle_w / DIE_BOARD_W_PER_K, 31.0, p.ambient_c + p.skin_share * above])
    want = [31.0]
    for i in range(1, t_s.size):

        def slope(_t: float, y: np.ndarray, w: float = watts[i]) -> list[float]:
            inner, outer = DIE_BOARD_W_PER_K * (y[0] - y[1]), p.board_skin_w_per_k * (y[1] - y[2])
            lost = p.skin_ambient_w_per_k * (y[2] - p.ambient_c)
            return [(w - inner) / p.die_j_per_k, (inner - outer) / BOARD_J_PER_K, (outer - lost) / p.skin_j_per_k]

        span = (0.0, t_s[i] - t_s[i - 1])
        state = solve_ivp(slope, span, state, method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
        want.append(state[1])

    got = predict_battery_zone(t_s, *logs, 31.0)

    off = np.abs(got - want).max()
    physics("heat: phone of the language-model runs, law", "SciPy ODE solver, 1e-12", off, "K", 1e-6)
    assert np.allclose(got, want, rtol=0, atol=1e-6)


def test_runs_together_and_under_jax_are_what_they_are_alone() -> None:
    """A block of runs, in NumPy and in JAX, gives each run's own prediction."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    columns = a_run()
    starts = np.array([25.0, 35.0])

    block = [np.stack([column, column]) for column in columns]
    got = predict_battery_zone(*block, starts)
    traced = jax.jit(predict_battery_zone)(*map(jax.numpy.asarray, block), jax.numpy.asarray(starts))

    for place, start in enumerate(starts):
        assert np.allclose(got[place], predict_battery_zone(*columns, start), rtol=0, atol=1e-10)
    assert np.allclose(got, np.asarray(traced), rtol=0, atol=1e-9)


def test_a_single_sample_is_its_own_prediction() -> None:
    """A run of one sample has nothing to predict."""
    one = tuple(column[:1] for column in a_run())

    assert predict_battery_zone(*one, 30.0).tolist() == [30.0]


def test_the_shipped_fit_describes_the_measured_runs(data_folder: Path, physics: Callable[..., None]) -> None:
    """On the runs it was fitted to, of at least a minute: pooled 0.8 K, worst 1.2 K, and a fifth of doing nothing."""
    table = pd.read_csv(data_folder / "phone_thermal" / "galaxy_llm_runs.csv.gz")
    table["zone"] = table["battery_C"].fillna(table["temp_C"])
    table = table.fillna({"cpu_load": 42.0, "gpu_load": 18.0})
    squares, still, roots = [], [], []
    for _, rows in table.groupby("run"):
        if rows["t_s"].max() < 60.0:
            continue
        columns = rows[["t_s", "little_kHz", "big_kHz", "gpu_Hz", "gpu_load", "cpu_load"]].to_numpy(float).T
        zone_c = rows["zone"].to_numpy()
        squares.append((predict_battery_zone(*columns, zone_c[0]) - zone_c) ** 2)
        still.append((zone_c - zone_c[0]) ** 2)
        roots.append(np.sqrt(squares[-1].mean()))

    pooled, persistence = (float(np.sqrt(np.concatenate(parts).mean())) for parts in (squares, still))
    law, note = "heat: phone battery zone, runs of its fit", f'"it stays as it was": {persistence:.2f} K'
    physics(law, "measured Galaxy runs", pooled, "K", 0.8, worst=max(roots), note=f"{len(roots)} runs; {note}")
    assert pooled < 0.8
    assert max(roots) < 1.2
    assert pooled < 0.2 * persistence
