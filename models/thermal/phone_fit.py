"""The battery zone of a phone that runs a language model, fitted to measured runs, from load and frequency alone.

Heat into the die is idle + load * (little f^2 + big f^2) + gpu load * f^2, frequencies over their highest; the chain of
`models.thermal.network` carries it to the battery zone, its middle node. Nothing but the first sample tells where the
phone starts: board and battery at the first reading, the die above it by the idle power, the skin on its way from room
temperature to the board. Watts are known up to the board's heat capacity, which is held at the phone body's 60 J/K.

Not validated: skin, which no run logs, die, which two runs log, and runs longer than five minutes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from models.arrays import namespace
from models.thermal.network import Values, decompose

# Highest frequencies in the logs of that phone, kHz and Hz.
LITTLE_KHZ, BIG_KHZ, GPU_HZ = 3_532_800.0, 4_473_600.0, 1.2e9
# Held: board and battery, and the link from the die, of the phone body in `models.thermal.bodies`.
BOARD_J_PER_K, DIE_BOARD_W_PER_K = 60.0, 0.55
# What is taken where a log lacks the loads: their means over the runs that have them (phone_thermal), percent.
ASSUMED_CPU_LOAD, ASSUMED_GPU_LOAD = 42.0, 18.0


class PhoneFit(NamedTuple):
    """Parameters of the law.

    Attributes:
        idle_w: heat at no load, screen and radio included, W.
        little_w, big_w: added by the processor at full load with that cluster at its highest frequency, W.
        gpu_w: added by the GPU at full load and highest frequency, W.
        die_j_per_k, skin_j_per_k: heat capacities, J/K.
        board_skin_w_per_k, skin_ambient_w_per_k: conductances, W/K.
        ambient_c: room, C.
        skin_share: the skin's share at the start of the way from ambient to the board.
    """

    idle_w: Values
    little_w: Values
    big_w: Values
    gpu_w: Values
    die_j_per_k: Values
    skin_j_per_k: Values
    board_skin_w_per_k: Values
    skin_ambient_w_per_k: Values
    ambient_c: Values
    skin_share: Values


# `twin calibrate thermal` on phone_thermal/galaxy_llm_runs.csv.gz (hedone21/llm_rs2, a Galaxy phone; 83 runs with
# loads of 85). Battery zone over the 11 runs of at least 60 s: 0.73 K fitted (worst 1.15), 1.42 K (worst 1.95) with a
# run's whole experiment and others kept out of the fit, where "it stays as it was" errs by 5.06 K. Errors are standard
# errors with one independent residual a run. The big cluster's own part is nothing these logs can tell: its clock rises
# and falls with the little one's, and the fit puts all on that.
PHONE_FIT = PhoneFit(
    idle_w=2.102,  # ± 0.68
    little_w=12.75,  # ± 3.1
    big_w=0.0,  # ± 3.3
    gpu_w=12.01,  # ± 1.4
    die_j_per_k=4.946,  # ± 1
    skin_j_per_k=96.25,  # ± 12
    board_skin_w_per_k=0.5379,  # ± 0.1
    skin_ambient_w_per_k=0.1663,  # ± 0.024
    ambient_c=26.05,  # ± 2.1
    skin_share=0.3235,  # ± 0.11
)


def heat_w(
    fit: PhoneFit, little_khz: Values, big_khz: Values, gpu_hz: Values, gpu_load: Values, cpu_load: Values
) -> Values:
    """Return the heat put into the die, W; loads in percent."""
    processor_w = fit.little_w * (little_khz / LITTLE_KHZ) ** 2 + fit.big_w * (big_khz / BIG_KHZ) ** 2
    return fit.idle_w + cpu_load / 100.0 * processor_w + gpu_load / 100.0 * fit.gpu_w * (gpu_hz / GPU_HZ) ** 2


def predict_battery_zone(
    t_s: Values,
    little_khz: Values,
    big_khz: Values,
    gpu_hz: Values,
    gpu_load: Values,
    cpu_load: Values,
    start_c: Values,
    fit: PhoneFit | None = None,
) -> Values:
    """Return the battery zone's temperature at each sample, C.

    A sample's loads and frequencies hold since the sample before, as loads are logged.

    Args:
        t_s: times from 0 up, shape (..., samples); the same shape for all logs.
        little_khz, big_khz, gpu_hz: frequencies.
        gpu_load, cpu_load: percent.
        start_c: battery zone at the first sample, shape (...).
        fit: parameters; the shipped ones if left out.
    """
    law = PHONE_FIT if fit is None else fit
    xp = namespace(t_s, law.idle_w)
    capacities = (law.die_j_per_k, BOARD_J_PER_K, law.skin_j_per_k)
    links = (DIE_BOARD_W_PER_K, law.board_skin_w_per_k, law.skin_ambient_w_per_k)
    rates, to_modal, from_modal = decompose(xp, capacities, links)
    start_c = xp.asarray(start_c) - law.ambient_c
    power_w = xp.moveaxis(heat_w(law, little_khz, big_khz, gpu_hz, gpu_load, cpu_load), -1, 0)
    steps_s = xp.moveaxis(xp.diff(xp.asarray(t_s), axis=-1), -1, 0)
    above_k = xp.stack(
        [start_c + law.idle_w / DIE_BOARD_W_PER_K, start_c + 0.0 * law.idle_w, law.skin_share * start_c], axis=-1
    )
    # Each mode ends at this many modal kelvin for a watt into the die.
    ends = to_modal[:, 0] / (law.die_j_per_k * rates)

    def step(modal: Values, row: tuple[Values, Values]) -> tuple[Values, Values]:
        dt_s, watts = row
        goal = watts[..., None] * ends
        modal = goal + (modal - goal) * xp.exp(-rates * dt_s[..., None])
        return modal, modal @ from_modal[1]

    rise_k = _scan(step, above_k @ to_modal.T, (steps_s, power_w[1:]))
    return law.ambient_c + xp.moveaxis(xp.concatenate([start_c[None], rise_k]), 0, -1)


def _scan(step: Any, state: Values, rows: tuple[Values, Values]) -> Values:
    """Return what `step` yields for each row: `jax.lax.scan`, or a plain loop for NumPy."""
    if not isinstance(state, np.ndarray):
        from jax import lax

        return lax.scan(step, state, rows)[1]
    found = []
    for row in zip(*rows, strict=True):
        state, value = step(state, row)
        found.append(value)
    return np.stack(found) if found else np.zeros((0, *state.shape[:-1]))
