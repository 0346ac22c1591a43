"""The figure of a battery calibration: residuals over time, and the fitted curves with their errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.calibration.circuit_fit import CircuitFit
from experiments.calibration.heat_fit import HeatFit
from experiments.compose import UsageError
from experiments.whole import whole
from models.battery.cell import Cell

FORMATS = (".png", ".svg", ".pdf")


def save_figure(path: Path, cell: Cell, circuit: CircuitFit, heat: HeatFit) -> None:
    """Draw residuals of voltage and temperature, the open-circuit curve and the resistances.

    Raises:
        UsageError: another kind of file.
    """
    if path.suffix not in FORMATS:
        raise UsageError(f"--figure {path}: allowed: {', '.join(FORMATS)}")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 7.0), layout="constrained")
    (volts, curve), (temps, ohms) = figure.subplots(2, 2)
    for course, values in zip(circuit.courses, circuit.residual_mv, strict=True):
        volts.plot(course.soc, values, lw=0.6, label=course.name)
    volts.set(xlabel="state of charge", ylabel="predicted less measured, mV", title=f"{cell.name}: voltage")
    volts.legend(fontsize="x-small")
    ocv_error, r_error, _, _ = circuit.errors
    curve.errorbar(circuit.shape.ocv_soc, circuit.ocv_v, yerr=np.nan_to_num(ocv_error, posinf=0.0), fmt=".-", lw=0.8)
    curve.set(xlabel="state of charge", ylabel="V", title="open-circuit voltage")
    for course, values in zip(heat.courses, heat.residual_k, strict=True):
        temps.plot(course.t_s / 3600.0, values, lw=0.6, label=course.name)
    temps.set(xlabel="h", ylabel="predicted less measured, K", title="temperature")
    for row, (values, errors) in enumerate(zip(circuit.r_ohm, r_error, strict=True)):
        label = "R0" if row == 0 else f"R{row}, {circuit.tau_s[row - 1]:.3g} s"
        ohms.errorbar(circuit.shape.r_soc, 1e3 * values, yerr=1e3 * np.nan_to_num(errors, posinf=0.0), label=label)
    ohms.set(xlabel="state of charge", ylabel="mohm at 25 C", yscale="log", title="resistance")
    ohms.legend(fontsize="x-small")
    with whole(path) as part:
        figure.savefig(part, dpi=150)
