"""`twin calibrate battery`: a cell's circuit and heat from its pulses and its slow discharge, as a file.

twin calibrate battery --hppc pulses.csv.gz --ocv slow.csv.gz --params cells.json --name okane2022 --out cell.json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from experiments.calibration import Outcome
from experiments.calibration.cells_io import Course, Given, courses, discharged_ah, one_cell, read_given, read_table
from experiments.calibration.circuit_fit import ONE_TEMPERATURE_K, CircuitFit, choose_pairs, fit_circuit
from experiments.calibration.heat_fit import HeatFit, fit_heat
from experiments.calibration.low_charge import below_last_load
from experiments.calibration.stored_cell import file_digests, save_cell, software
from experiments.compose import UsageError
from experiments.whole import check_file
from models.battery.cell import Cell, Pair

SOC0_PULSES = 0.98  # where the pulse tests of the data set begin, unless a column soc0 says
COULOMB_EFFICIENCY = 1.0  # stated, not fitted: neither file holds a cycle long enough to show a loss of charge
_REST_S, _REST_TOLERANCE_V = 1800.0, 0.03  # of the check that the pulses start at the charge that they are said to


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    columns = "columns ambient_C, t_s, v_V, i_A (discharge > 0) and optional cell, run, q_Ah, temp_C, soc0"
    parser.add_argument("--hppc", type=Path, required=True, metavar="CSV", help=f"pulses and rests; {columns}")
    parser.add_argument("--ocv", type=Path, required=True, metavar="CSV", help="slow discharge from full; same columns")
    parser.add_argument("--params", type=Path, required=True, metavar="JSON",
                        help="vmin, vmax; if known Q_esoh_Ah, h_W_m2K, A_m2, rho_c_J_m3K, V_m3")  # fmt: skip
    parser.add_argument("--name", default="", metavar="CELL", help="which cell, where the files hold several")
    parser.add_argument("--chemistry", default="li-ion", help="of the cell, for people (nmc, lco, lfp)")
    parser.add_argument("--soc0", type=float, default=SOC0_PULSES, help=f"charge the pulses start at ({SOC0_PULSES})")
    parser.add_argument("--pairs", type=int, choices=(2, 3), default=None, help="do not choose, take this many")
    parser.add_argument("--out", type=Path, default=Path("cell.json"), metavar="FILE")
    parser.add_argument("--figure", type=Path, default=None, metavar="FILE", help="residuals, as .png, .svg or .pdf")


def run(options: argparse.Namespace) -> Outcome:
    """Calibrate a cell and write its file.

    Raises:
        UsageError: an input that cannot be; one line.
    """
    if not 0.0 < options.soc0 <= 1.0:
        raise UsageError(f"--soc0 {options.soc0:g}: allowed: above 0 and up to 1")
    for option, path in (("--out", options.out), ("--figure", options.figure)):
        check_file(option, path)
    frames = {path: read_table(path) for path in (options.hppc, options.ocv)}
    name, kept = one_cell(frames, options.name)
    given = read_given(options.params, name)
    capacity_ah = given.capacity_ah or discharged_ah(kept[options.ocv])
    pulses = courses(options.hppc, kept[options.hppc], "pulses", options.soc0, capacity_ah)
    slow = courses(options.ocv, kept[options.ocv], "open circuit", 1.0, capacity_ah)
    source = f"twin calibrate battery on {options.hppc.name} and {options.ocv.name}"
    cell, circuit, heat, scores = calibrate(
        name, slow, pulses, given, capacity_ah, pairs=options.pairs, chemistry=options.chemistry, source=source
    )
    fit = _fit_record(circuit, heat, scores, pulses)
    provenance = {
        "inputs": file_digests({"hppc": options.hppc, "ocv": options.ocv, "params": options.params}),
        "software": software(),
        "options": {"name": name, "soc0": options.soc0, "pairs": options.pairs},
        "ambients_c": sorted({course.ambient_c for course in pulses}),
        "stated": _stated(circuit, heat, given, pulses),
    }
    save_cell(options.out, cell, fit, provenance)
    if options.figure is not None:
        from experiments.calibration.battery_figure import save_figure

        save_figure(options.figure, cell, circuit, heat)
    plain = {"out": str(options.out), "cell": name, "fit": fit, "provenance": provenance}
    return Outcome(plain, _text(options.out, cell, circuit, heat, scores, provenance["stated"]))


def calibrate(
    name: str,
    slow: Sequence[Course],
    pulses: Sequence[Course],
    given: Given,
    capacity_ah: float,
    *,
    pairs: int | None = None,
    chemistry: str = "li-ion",
    source: str = "",
) -> tuple[Cell, CircuitFit, HeatFit, dict[int, float]]:
    """Fit a cell to its courses.

    Args:
        name: of the cell.
        slow: slow discharges from full, or rested voltages over the whole range of charge.
        pulses: all other courses.
        given: what is known beforehand.
        capacity_ah: charge between state of charge 0 and 1.
        pairs: 2 or 3; None is what predicts left-out pulses best.

    Returns:
        The cell, both fits, and the error on left-out pulses by number of pairs, mV (empty where not chosen).
    """
    scores: dict[int, float] = {}
    chosen = pairs
    if chosen is None:
        chosen, scores = choose_pairs(slow, pulses, given)
    circuit = fit_circuit(slow, pulses, given, chosen)
    r_soc, r_ohm = below_last_load(
        circuit.shape.r_soc, circuit.r_ohm, circuit.tau_s, circuit.shape.ocv_soc, circuit.ocv_v
    )
    cell = Cell(
        name=name,
        chemistry=chemistry,
        source=source,
        capacity_ah=capacity_ah,
        v_min=given.v_min,
        v_max=given.v_max,
        ocv_soc=_digits(circuit.shape.ocv_soc),
        ocv_v=_digits(circuit.ocv_v),
        r_soc=_digits(r_soc),
        r0_ohm=_digits(r_ohm[0]),
        r0_activation_j_mol=float(circuit.activation_j_mol[0]),
        pairs=tuple(
            Pair(float(tau), _digits(ohm), float(energy))
            for tau, ohm, energy in zip(circuit.tau_s, r_ohm[1:], circuit.activation_j_mol[1:], strict=True)
        ),
        coulomb_efficiency=COULOMB_EFFICIENCY,
        r0_knee_v=circuit.shape.r0_knee_v,
    )
    heat = fit_heat(pulses, cell, given)
    warmed = replace(
        cell,
        pairs=tuple(replace(pair, heat_share=share) for pair, share in zip(cell.pairs, heat.pair_shares, strict=True)),
        heat_j_per_k=heat.heat_j_per_k,
        cooling_w_per_k=heat.cooling_w_per_k,
        entropic_soc=heat.entropic_soc,
        entropic_v_per_k=_digits(np.array(heat.entropic_v_per_k)),
    )
    return warmed, circuit, heat, scores


def _digits(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.7g}") for value in values)


def _fit_record(
    circuit: CircuitFit, heat: HeatFit, scores: dict[int, float], pulses: Sequence[Course]
) -> dict[str, Any]:
    """Return the errors of the fit as plain data; an error that the data cannot give is null."""
    by_course = {
        course.name: {
            "rms_mv": float(np.sqrt(np.nanmean(values**2))),
            "worst_mv": float(np.nanmax(np.abs(values))),
        }
        for course, values in zip(circuit.courses, circuit.residual_mv, strict=True)
    }
    ocv_v, r_ohm, tau_s, activation = circuit.errors
    return {
        "pairs": len(circuit.tau_s),
        "held_out_pulses_rms_mv": {str(pairs): score for pairs, score in scores.items()},
        "voltage": by_course,
        "temperature_rms_k": _known(heat.rms_k),
        "converged": circuit.fitted.converged,
        "standard_errors": {
            "ocv_v": [_known(value) for value in ocv_v],
            "r_soc": circuit.shape.r_soc.tolist(),
            "r_ohm": [[_known(value) for value in row] for row in r_ohm],
            "tau_s": [_known(value) for value in tau_s],
            "activation_j_mol": [_known(value) for value in activation],
            **{name: _known(value) for name, value in heat.errors.items()},
        },
    }


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _stated(circuit: CircuitFit, heat: HeatFit, given: Given, pulses: Sequence[Course]) -> list[str]:
    """Return what was assumed rather than fitted, and what looks wrong."""
    lines = [f"coulomb_efficiency {COULOMB_EFFICIENCY:g}: assumed, the files hold no full cycle"]
    if circuit.shape.activation_j_mol is not None:
        lines.append(
            f"activation energies {circuit.shape.activation_j_mol:g} J/mol: assumed, ambients span less than "
            f"{ONE_TEMPERATURE_K:g} K"
        )
    if (knee_v := circuit.shape.r0_knee_v) is None:
        lines.append("R0 is the same at any current: no run holds short loads of several currents")
    else:
        lines.append(f"R0 bends at {knee_v:g} V: assumed, as for every cell whose pulses are of several currents")
    if not np.isfinite(heat.rms_k):
        lines.append(
            "heat: all that is lost, no entropy; heat_j_per_k, cooling_w_per_k assumed where not given: no temperature "
            "was measured"
        )
    if given.capacity_ah is None:
        lines.append("capacity: the most charge that the slow discharge took out, as none is given")
    off = _rest_offset_v(circuit, pulses)
    if off > _REST_TOLERANCE_V:
        lines.append(
            f"check --soc0: after long rests the voltage is {1e3 * off:.0f} mV off the open-circuit curve (median)"
        )
    return lines


def _rest_offset_v(circuit: CircuitFit, pulses: Sequence[Course]) -> float:
    """Return the median distance of voltages after long rests from the fitted curve, V; 0 without such rests."""
    found = []
    for course in pulses:
        resting = course.i_a == 0.0
        begins = np.flatnonzero(resting & np.append(True, ~resting[:-1]))
        ends = np.flatnonzero(resting & np.append(~resting[1:], True))
        long = course.t_s[ends] - course.t_s[begins] >= _REST_S
        rows = ends[long]
        found.append(np.abs(np.interp(course.soc[rows], circuit.shape.ocv_soc, circuit.ocv_v) - course.v_v[rows]))
    distances = np.concatenate(found)
    return float(np.median(distances)) if distances.size else 0.0


def _text(
    out: Path, cell: Cell, circuit: CircuitFit, heat: HeatFit, scores: dict[int, float], stated: list[str]
) -> str:
    _, r_error, tau_error, energy_error = circuit.errors
    lines = [f"{cell.name}: {cell.capacity_ah:.4g} A.h, {cell.v_min:g} to {cell.v_max:g} V, {len(cell.pairs)} pairs"]
    if scores:
        lines.append("left-out pulses: " + ", ".join(f"{pairs} pairs {mv:.2f} mV" for pairs, mv in scores.items()))
    lines.append(f"{'':6}{'tau s':>18}{'R at 50 % mohm':>20}{'activation kJ/mol':>22}")
    middle = int(np.argmin(np.abs(circuit.shape.r_soc - 0.5)))
    for row in range(len(cell.pairs) + 1):
        tau = "" if row == 0 else f"{circuit.tau_s[row - 1]:.4g} ± {tau_error[row - 1]:.2g}"
        ohm = f"{1e3 * circuit.r_ohm[row, middle]:.3g} ± {1e3 * r_error[row, middle]:.2g}"
        energy = f"{circuit.activation_j_mol[row] / 1e3:.3g}"
        if np.isfinite(energy_error[row]):
            energy += f" ± {energy_error[row] / 1e3:.2g}"
        lines.append(f"R{row:<5}{tau:>18}{ohm:>20}{energy:>22}")
    for course, values in zip(circuit.courses, circuit.residual_mv, strict=True):
        rms, worst = np.sqrt(np.nanmean(values**2)), np.nanmax(np.abs(values))
        lines.append(f"{course.name:24} rms {rms:6.2f} mV   worst {worst:6.1f} mV")
    measured = f", rms {heat.rms_k:.2g} K" if np.isfinite(heat.rms_k) else ""
    shares = ", ".join(f"R{k} {share:.2f}" for k, share in enumerate((cell.heat_share, *heat.pair_shares)))
    lines.append(f"shares of heat {shares}; {heat.heat_j_per_k:.4g} J/K, {heat.cooling_w_per_k:.3g} W/K{measured}")
    if heat.entropic_soc:
        table = zip(heat.entropic_soc, heat.entropic_v_per_k, strict=True)
        lines.append("entropy mV/K " + ", ".join(f"{1e3 * value:.3f} at {soc:g}" for soc, value in table))
    lines += stated
    lines.append(f"written: {out}")
    return "\n".join(lines)
