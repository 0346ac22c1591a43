"""The bench data of real LG M50 cells, in the columns that a battery calibration reads.

Open-circuit voltage, pulses and rate tests at 0, 10, 25 and 45 C, 22 cells (PyBOP's examples/data/LG_M50_ECM,
BSD-3-Clause). There discharge is negative, runs start where a full charge at their temperature ends, and pulses say
only in which tenth of charge they are: where a run starts is read off the open-circuit curve, as all begin rested.

The cells have hysteresis (silicon: up to 70 mV at 4 % of charge, a few mV from 35 % up), the circuit has none. It is
fitted to the discharge branch: the open-circuit curve is the mean less half of the hysteresis, and of the rate tests
only the discharge and the rest after it are taken. What it says of charging is off by the hysteresis.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

CAPACITY_AH = 4.96  # between rest at 4.175 V and rest at 2.872 V; C/10 takes out 4.95 at 25 and 45 C
V_MIN, V_MAX = 2.5, 4.2
OCV_FILE, PULSE_FILE, RATE_FILE = "lgm50_ocv.csv", "lgm50_pulse.csv.gz", "lgm50_ratetest.csv.gz"
PULSE_CELLS = 2  # at each temperature; they differ by a few mV
_CHARGE_A = 0.05
_APART_S = 1e5  # between pulses of a cell: everything has relaxed


def open_circuit(folder: Path) -> pd.DataFrame:
    """Return the rested voltages as a discharge without current."""
    soc, volts = (values[::-1] for values in _discharge_branch(folder))
    return pd.DataFrame({
        "ambient_C": 25.0, "t_s": np.arange(soc.size) * 600.0, "v_V": volts, "i_A": 0.0,
        "q_Ah": (1.0 - soc) * CAPACITY_AH, "soc0": 1.0,
    })  # fmt: skip


def rate_tests(folder: Path) -> dict[str, pd.DataFrame]:
    """Return the rate tests by name, e.g. ``T25/cRate_0p5C``: discharge and the rest after it."""
    table = pd.read_csv(folder / RATE_FILE)
    found = {}
    for name, rows in table.groupby("group", sort=True):
        charged = np.flatnonzero(rows["currVec"].to_numpy() > _CHARGE_A)
        rows = rows.iloc[: charged[0] if charged.size else None]
        t_s, i_a = rows["timeVec"].to_numpy(), -rows["currVec"].to_numpy()
        gone_ah = np.concatenate([[0.0], np.cumsum(np.diff(t_s) * 0.5 * (i_a[1:] + i_a[:-1]))]) / 3600.0
        found[str(name)] = pd.DataFrame({
            "ambient_C": float(str(name).split("/")[0][1:]), "run": str(name), "t_s": t_s,
            "v_V": rows["volVec"].to_numpy(), "i_A": i_a, "q_Ah": gone_ah,
            "temp_C": rows["cellTemp_mid"].ffill().bfill().to_numpy(),
            "soc0": _soc_at(folder, float(rows["volVec"].iloc[0])),
        })  # fmt: skip
    return found


def pulses(folder: Path, cells: int = PULSE_CELLS) -> pd.DataFrame:
    """Return the pulses of the first cells at each temperature, one run a cell."""
    table = pd.read_csv(folder / PULSE_FILE).dropna()
    table[["ambient", "part"]] = table["group"].str.split("/", expand=True)[[0, 1]]
    runs = [
        _one_cell(folder, float(str(ambient)[1:]), str(cell), rows[rows["cell"] == cell])
        for ambient, rows in table.groupby("ambient", sort=True)
        for cell in sorted(rows["cell"].unique())[:cells]
    ]
    return pd.concat(runs, ignore_index=True)


def _one_cell(folder: Path, ambient_c: float, cell: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Return all pulses of a cell one after another, from full to empty."""
    parts, start_s = [], 0.0
    for _, pulse in sorted(rows.groupby("part"), key=lambda part: str(part[0]), reverse=True):
        # Rest (its last row only), load, rest. The time of a step starts anew with each, at 10 C already in the first
        # rest's row. The tester writes the load's first row with the voltage under load but a current of 0, and the
        # second rest's first rows (at its time 0) with the voltage under load, too: the current is that of the step
        # that the voltage belongs to.
        step_s = pulse["StepTime"].to_numpy()
        anew = np.diff(step_s) < 0.0
        anew[0] = True
        number = np.concatenate([[0], np.cumsum(anew)])
        loaded = (number == 1) | ((number == 2) & (step_s == 0.0))
        i_a = np.where(loaded, -float(pulse["Current"].to_numpy()[number == 1].min()), 0.0)
        t_s = np.concatenate([[0.0], np.cumsum(np.where(anew, step_s[1:], np.diff(step_s)))])
        soc = _soc_at(folder, float(pulse["Voltage"].iloc[0]))
        gone_ah = np.concatenate([[0.0], np.cumsum(np.diff(t_s) * i_a[1:])]) / 3600.0
        parts.append(pd.DataFrame({
            "ambient_C": ambient_c, "run": cell, "t_s": start_s + t_s, "v_V": pulse["Voltage"].to_numpy(),
            "i_A": i_a, "q_Ah": (1.0 - soc) * CAPACITY_AH + gone_ah, "temp_C": ambient_c,
        }))  # fmt: skip
        start_s += float(t_s[-1]) + _APART_S
    made = pd.concat(parts, ignore_index=True)
    made["soc0"] = 1.0 - float(made["q_Ah"].iloc[0]) / CAPACITY_AH
    return made


def _discharge_branch(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return charge, rising, and the open-circuit voltage met while discharging."""
    table = pd.read_csv(folder / OCV_FILE).sort_values("refSoC")
    # At the very ends the two branches meet; the stored difference changes sign there (noise of the method).
    half = 0.5 * np.maximum(table["meanHys"].to_numpy(), 0.0)
    return table["refSoC"].to_numpy() / 100.0, np.asarray(table["meanOCV"].to_numpy() - half)


def _soc_at(folder: Path, rested_v: float) -> float:
    soc, volts = _discharge_branch(folder)
    return float(np.interp(rested_v, volts, soc))
