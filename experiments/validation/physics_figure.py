"""The figure of docs/physics.md: four laws beside their references.

python -m experiments.validation.physics_figure docs/physics.png

Measurements come from VILLAGETWIN_DATA, or ``shared/data`` beside the checkout; a panel without them shows the law
alone and says so.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.plots import AMBER, BLUE, GREEN, INK, MUTED, RED, dress

CHECKOUT = Path(__file__).resolve().parents[2]
RATES = (("T25/cRate_0p5C", 2.5, BLUE, "C/2, 25 °C"), ("T10/cRate_1C", 5.0, GREEN, "1C, 10 °C"),
         ("T25/cRate_2C", 10.0, AMBER, "2C, 25 °C"))  # fmt: skip
SOLID = {"linewidth": 1.7}
DASHED = {"linewidth": 1.2, "linestyle": (0, (4, 2)), "color": INK}


def draw(out: Path, data: Path) -> None:
    """Draw a battery's discharges, a governor's cycle, a phone's heat and the availability of phones.

    Args:
        out: a .png, .svg or .pdf.
        data: the folder of measurements; may be absent.
    """
    figure = Figure(figsize=(11, 7.2), layout="constrained")
    (a, b), (c, d) = figure.subplots(2, 2)
    battery(a, data / "cell_tests")
    governor(b)
    heat(c, data / "phone_thermal" / "galaxy_llm_runs.csv.gz")
    availability(d, data / "phone_availability" / "availability_30min.csv.gz")
    figure.savefig(out, dpi=130)


def battery(ax: Axes, folder: Path) -> None:
    """Draw the laptop cell's discharges, beside measured LG M50 cells."""
    from experiments.calibration import lgm50
    from models.battery.packs import LG_M50
    from models.battery.protocol import Step, run

    rates = lgm50.rate_tests(folder) if folder.is_dir() else {}
    for name, amps, colour, label in RATES:
        soc0, ambient_c = 0.99, float(name[1:3])
        if name in rates:
            rows = rates[name]
            loaded = rows[(rows["i_A"] > 0.1) & (rows["v_V"] > LG_M50.v_min)]
            hours = (loaded["t_s"] - loaded["t_s"].iloc[0]) / 3600.0
            soc0 = float(np.interp(rows["v_V"].iloc[0], LG_M50.ocv_v, LG_M50.ocv_soc))
            ambient_c = float(rows["temp_C"].iloc[0])
            ax.plot(hours, loaded["v_V"], color=colour, label=label, **SOLID)
        course = run(LG_M50, [Step("cc", amps, ambient_c=ambient_c)], soc0, temp0_c=ambient_c)
        ax.plot(course.t_s / 3600.0, course.v_v, **DASHED)
    ax.plot([], [], label="law", **DASHED)
    dress(ax, "hours of discharge", "LG M50 cells, measured (V)" + _or_none(rates), legend=True)


def governor(ax: Axes) -> None:
    """Draw a die under the step-wise rule, poll by poll, beside the closed form of its cycle."""
    from models.governors.speed import power_of_speed, speed_of_level
    from models.governors.step_wise import cycle, poll

    base_c, k_per_w, tau_s, fixed_w, dynamic_w = 45.0, 3.0, 5.0, 0.3, 8.0  # a die of a phone
    trip_c, hysteresis_k, levels, poll_s = 58.5, 1.0, 8.0, 0.1
    die = (np.array([base_c]), k_per_w, tau_s, fixed_w, np.array([dynamic_w]))
    law = cycle(*die, trip_c, hysteresis_k, levels, poll_s)
    level, temp_c, before_c, watts = 0.0, base_c, base_c, []
    for _ in range(round(30.0 / poll_s)):
        watts.append(float(power_of_speed(speed_of_level(level, levels), fixed_w, dynamic_w)))
        goal_c = base_c + k_per_w * watts[-1]
        temp_c = goal_c + (temp_c - goal_c) * float(np.exp(-poll_s / tau_s))
        level = float(poll(level, temp_c, before_c, trip_c, hysteresis_k, levels))
        before_c = temp_c
    t_s = poll_s * np.arange(1, len(watts) + 1)
    later = t_s > 10.0  # the warm-up is not part of the cycle
    ax.step(t_s, watts, where="pre", color=BLUE, alpha=0.45, linewidth=1.0, label="polled")
    means = np.cumsum(np.array(watts)[later]) / np.arange(1, later.sum() + 1)
    ax.plot(t_s[later], means, color=BLUE, label="its mean from 10 s on", **SOLID)
    ax.axhline(float(law.mean_power_w[0]), label="closed form", **DASHED)
    dress(ax, "time (s)", "die power, step-wise governor (W)", legend=True)


def heat(ax: Axes, file: Path) -> None:
    """Draw the battery zone of a phone over three measured runs, beside what the shipped fit predicts."""
    if not file.exists():
        ax.text(0.5, 0.5, f"no data ({file.name})", ha="center", color=MUTED, transform=ax.transAxes)
        dress(ax, "time (s)", "battery zone (°C)")
        return
    from experiments.calibration.thermal import read_runs

    runs = read_runs(file)
    predicted_c = np.asarray(runs.predict(None))
    longest = np.argsort(np.where(runs.assumed, 0.0, runs.t_s[:, -1] - runs.t_s[:, 0]))[-3:]
    for place, colour in zip(longest, (GREEN, AMBER, RED), strict=True):
        there = runs.there[place]
        t_s = runs.t_s[place][there] - runs.t_s[place][0]
        ax.plot(
            t_s, runs.zone_c[place][there], color=colour, label="measured" if place == longest[0] else None, **SOLID
        )
        ax.plot(t_s, predicted_c[place][there], **DASHED)
    ax.plot([], [], label="law, from first sample, load, frequency", **DASHED)
    dress(ax, "time (s)", "battery zone (°C), runs of the fit", legend=True)


def availability(ax: Axes, file: Path) -> None:
    """Draw the share of phones that are idle, charging and on Wi-Fi by hour, measured and simulated."""
    from models.availability import load, simulate_conjunction, with_gaps
    from models.availability.score import hour_profile

    hours, simulated = np.arange(25), simulate_conjunction(1, np.arange(12_000), 5)
    if file.exists():
        observed = load(file)
        share = 100.0 * hour_profile(observed)
        ax.stairs(share, hours, baseline=None, color=GREEN, label=f"measured, {observed.shape[1]} phones", **SOLID)
        simulated = with_gaps(simulate_conjunction(1, np.arange(20 * observed.shape[1]), 5), observed)
    ax.stairs(100.0 * hour_profile(simulated), hours, baseline=None, label="fitted law", **DASHED)
    ax.set_ylim(bottom=0.0)
    ax.set_xlim(0, 24)
    dress(ax, "hour of the day", "idle, charging, on Wi-Fi (%)" + _or_none(file.exists()), legend=True)


def _or_none(there: object) -> str:
    return "" if there else " — no data"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m experiments.validation.physics_figure OUT.png")
    draw(Path(sys.argv[1]), Path(os.environ.get("VILLAGETWIN_DATA") or CHECKOUT.parent / "shared" / "data"))
