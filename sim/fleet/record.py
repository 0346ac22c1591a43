"""From a fleet's result to its Record: summary, manifest, tables, and the checks that the run asked of itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from models import devices
from models.battery import ageing
from models.battery.packs import PACKS
from policies.harvest import make
from scenarios.digests import policies_manifest, versions
from scenarios.fleet import FleetScenario
from scenarios.record import FLEET_TABLES, RECORD_VERSION, Record
from scenarios.schema import KINDS
from sim.fleet.run import FleetResult, Progress, run_fleet
from sim.fleet.stock import cells_of_kinds

Array = Any

FIDELITY = {
    "battery": "two-pair circuit, its fast pair in R0; one exponential-midpoint step a reading; no ageing in the run",
    "thermal": "three nodes, exact over a reading; case and size by two factors a device",
    "governor": "step-wise limit cycle in closed form, on the drift of a reading",
    "power": "idle, screen, and a chip whose power goes with the square of its speed",
    "owners": "semi-Markov habits under one decomposition of the measured conjunction",
    "network": "a rate for Wi-Fi and one for mobile; nothing is sent",
}
ALONE_TOLERANCE = 1e-6
"""Between a device alone under NumPy and in a chunk under JAX, in charge (0 to 1) and K; under NumPy it is 0."""
HOUR_S, KWH_J, YEAR_S = 3600.0, 3.6e6, 365 * 86_400.0
TOP_UP_DEPTH = 0.1


def simulate_fleet(
    scenario: FleetScenario, folder: Path | None = None, progress: Progress = lambda share, text: None
) -> Record:
    """Run a fleet in the twin; arguments as for `sim.fleet.run.run_fleet`."""
    return record(run_fleet(scenario, folder, progress))


def record(result: FleetResult) -> Record:
    """Return what a fleet's run leaves behind."""
    scenario = result.scenario
    policy = make(scenario.policy.harvest)
    manifest = {
        "kind": "fleet",
        "record_version": RECORD_VERSION,
        "world": "sim",
        "seed": scenario.seed,
        "digest": result.digest,
        "config": msgspec.to_builtins(scenario),
        "fidelity": {
            **FIDELITY,
            "array_backend": f"{scenario.backend} {scenario.precision}",
            "decomposition": scenario.decomposition,
        },
        "policies": policies_manifest({"harvest": policy}),
        "versions": versions(),
        "checks": _checks(result),
        "timing": {
            "setup_s": round(result.setup_s, 3), "compile_s": round(result.compile_s, 3),
            "windows_s": round(result.wall_s, 3),
            "rss_kib": result.rss_kib, "resumed_at_s": result.resumed_at_s,
        },
    }  # fmt: skip
    return Record(summary(result), manifest, {
        "fleet": _columns(result.windows), "totals": _totals(result), "histories": result.histories
        if result.sampled.size else {name: [] for name in FLEET_TABLES["histories"]},
        "receipts": dict(zip(FLEET_TABLES["receipts"], zip(*result.receipts, strict=True), strict=True))
        if result.receipts else {name: [] for name in FLEET_TABLES["receipts"]},
    })  # fmt: skip


def summary(result: FleetResult) -> dict[str, float]:
    """Return the run's figures; what is harm to owners is a vector, never one number."""
    scenario, d = result.scenario, result.devices
    days = scenario.duration_s / 86_400.0
    battery = d["battery_wh"] > 0.0
    owned = max(1, int(battery.sum()))
    lent_h = float(d["lent_s"].sum()) / HOUR_S
    cycles = equivalent_full_cycles(d)[battery]
    hours = d["lent_s"][battery] / HOUR_S
    ended = float(d["sessions"].sum())
    last = [row for row in result.windows if row["time_s"] == scenario.duration_s]
    return {
        "devices": float(scenario.devices),
        "device_days": scenario.devices * days,
        "lent_device_h": lent_h,
        "lent_share": lent_h / (scenario.devices * days * 24.0),
        "harvested_chip_h": float(d["chip_s"].sum()) / HOUR_S,
        "harvested_flop": float(d["flop"].sum()),
        "sessions": ended,
        "interrupted_sessions": float(d["interrupted"].sum()),
        "interrupted_share": float(d["interrupted"].sum()) / ended if ended else 0.0,
        "sessions_per_device_day": ended / (scenario.devices * days),
        "harm_hot_min_per_device_day": float(d["hot_s"][battery].sum()) / 60.0 / (owned * days),
        "harm_hot_min_worst_device": float(d["hot_s"][battery].max(initial=0.0)) / 60.0,
        "harm_times_low_per_device_day": float(d["times_low"][battery].sum()) / (owned * days),
        "harm_interrupted_per_device_day": float(d["interrupted"].sum()) / (scenario.devices * days),
        "harm_full_cycles_per_100h": float(cycles.sum()) / (owned * days * 24.0) * 100.0,
        "battery_cycles_per_100h_lent": float((cycles * (hours > 0)).sum() / hours.sum() * 100.0)
        if hours.sum()
        else 0.0,
        "capacity_fade_share_per_year": capacity_fade_per_year(result),
        "energy_kwh": float(d["total_j"].sum()) / KWH_J,
        "village_kwh": float(d["village_j"].sum()) / KWH_J,
        "plug_kwh": float(d["plug_j"].sum()) / KWH_J,
        **({"plug_cost": sum(row["cost_micro"] for row in result.windows) / 1e6} if scenario.price_per_kwh else {}),
        "village_j_per_tflop": float(d["village_j"].sum()) / max(float(d["flop"].sum()) * 1e-12, 1e-12),
        "skin_max_c": max(row["skin_c_max"] for row in result.windows),
        "die_max_c": max(row["die_c_max"] for row in result.windows),
        "soc_mean": sum(row["soc_ppm"] for row in last) / max(1, sum(row["batteries"] for row in last)) * 1e-6,
        "off_devices_at_end": float(d["off"].sum()),
        "demand_mean": float(np.mean([row["demand"] for row in result.windows])),
        "work_done_flop": result.desk.done * 1e6,
        "work_dropped_flop": result.desk.dropped * 1e6,
    }


def equivalent_full_cycles(d: dict[str, Array]) -> Array:
    """Return full cycles by charge moved: half of what went in and out over the capacity; 0 on the mains."""
    capacity_ah = np.where(d["battery_wh"] > 0.0, d["capacity_ah"], np.inf)
    return 0.5 * d["through_ah"] / capacity_ah


def _checks(result: FleetResult) -> dict[str, bool | str]:
    """Ask of the run what must hold whatever its policy."""
    d, windows = result.devices, result.windows
    alone = 0.0 if result.scenario.backend == "numpy" else ALONE_TOLERANCE
    if result.scenario.precision == "float32":
        alone = max(alone, 0.02)
    sessions = sum(row["sessions"] for row in windows)
    energy_mj = sum(row["total_mj"] for row in windows)
    energy_j = float(d["total_j"].sum())
    return {
        "sampled_rows_alone_equal_the_batch": result.alone_differs <= alone or f"differ by {result.alone_differs:g}",
        "totals_sum_to_the_windows": (
            int(d["sessions"].sum()) == sessions
            and math.isclose(energy_mj * 1e-3, energy_j, rel_tol=1e-6, abs_tol=1.0)
        ) or f"{int(d['sessions'].sum())} sessions for {sessions}, {energy_j:g} J for {energy_mj * 1e-3:g}",
        "charge_within_0_and_1": bool(np.all((d["soc"] >= 0.0) & (d["soc"] <= 1.0))) or "a charge is outside",
        "temperatures_are_numbers": bool(np.all(np.isfinite(d["die_c"]) & np.isfinite(d["skin_c"]))) or "one is not",
        **({"sampled_rows_stay_in_their_envelope": not result.violations or "; ".join(result.violations[:3])}),
    }  # fmt: skip


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def _totals(result: FleetResult) -> dict[str, Any]:
    d = result.devices
    names = np.array([row.name for row in devices.LIBRARY], dtype=object)
    columns = {name: column for name, column in d.items() if name not in ("kind", "model")}
    return {
        "device": columns.pop("device"), "kind": np.array(KINDS, dtype=object)[d["kind"]], "model": names[d["model"]],
        "full_cycles": equivalent_full_cycles(d), **columns,
    }  # fmt: skip


def capacity_fade_per_year(result: FleetResult) -> float:
    """Return the mean share of capacity that a new battery loses in a year of such days.

    By the run's mean charge and temperature and the charge moved (`models.battery.ageing`); cycles are taken as deep as
    a tenth of the capacity, since top-ups are shallow (assumption).
    """
    d, scenario = result.devices, result.scenario
    owned = d["battery_wh"] > 0.0
    if not owned.any():
        return 0.0
    windows = scenario.duration_s / scenario.window_s
    cells = cells_of_kinds()
    volts = np.empty(int(owned.sum()))
    soc, kind = d["soc_sum"][owned] / windows, d["kind"][owned]
    for k, cell in enumerate(cells):
        volts[kind == k] = np.interp(soc[kind == k], cell.ocv_soc, cell.ocv_v)
    year = YEAR_S / scenario.duration_s
    factor = np.array([PACKS[name].ageing_factor if name in PACKS else 1.0 for name in KINDS])[kind]
    aged = ageing.rest(ageing.new(volts.size), volts, d["board_c_sum"][owned] / windows, YEAR_S, factor)
    aged = ageing.use(aged, d["through_ah"][owned] * year, d["capacity_ah"][owned], volts, TOP_UP_DEPTH, factor)
    return float(np.mean(1.0 - ageing.capacity_share(aged)))
