"""Rounds of a study on this machine: calibrate, run every cell once in an order of the round's own, calibrate again.

A folder a round, ``before.json`` and ``after.json`` its profiles, ``SCENARIO--POLICY`` the Runs, and beside each the
CPU that others took while it ran. What is there is not done again, so that a study that was stopped goes on. A round in
which the machine drifted, or others worked, is kept and does not count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.compose import UsageError
from experiments.folders import is_run, show_path
from experiments.gap.quiet import cpu, drift, foreign_share, void
from experiments.results import Run
from models import draws
from scenarios.hosts import read_profile

SCENARIOS: dict[str, tuple[str, ...]] = {
    "equal": (),
    "slow": ("fleet=desks_slow",),
    "tight": ("fleet=desks_tight",),
    "far": ("fleet=desks_far",),
    "bursts": ("fleet=desks_mixed", "workload.burst=6"),
}
POLICIES: dict[str, tuple[str, ...]] = {
    f"{planner}-{slots}": (f"policy/sharding={planner}", f"policy.sharding.slots={slots}")
    for planner in ("latency_dp", "memory_ring", "exo_nodes")
    for slots in (2, 4)
}
"""Five scenarios and six policies: a planner each, and how many sessions a pipeline takes at once. Fewer of them leave
memory for more layers a worker, hence shorter pipelines."""
STUDY = "study.json"
"""What a study's folder says of it."""
CALIBRATION_S = 40.0  # our choice: a quarter of it is sessions; paced, half of it is not used
Report = Callable[[float, str], None]


class Cell(NamedTuple):
    """One policy on one scenario."""

    scenario: str
    policy: str


@dataclass(frozen=True)
class Plan:
    """A study.

    Attributes:
        folder: where it is kept.
        executor: ``paced`` or ``model``.
        cells: what a round runs.
        rounds: how many that count are wanted.
        attempts: rounds at most, void ones included.
        extra: further words of every run.
        seed: of all runs, so that repeats have the same arrivals.
    """

    folder: Path
    executor: str
    cells: tuple[Cell, ...]
    rounds: int
    attempts: int
    extra: tuple[str, ...] = ()
    seed: int = 1

    def words(self, cell: Cell) -> list[str]:
        """Return the words of `twin run` for a cell, without its world, profile and folder."""
        chosen = (*SCENARIOS[cell.scenario], *POLICIES[cell.policy], *self.extra)
        return ["scenario=gap", f"executor={self.executor}", f"seed={self.seed}", *chosen]


class Round(NamedTuple):
    """What one round left.

    Attributes:
        number: from 0.
        runs: by cell.
        drift: between its two calibrations, a share.
        foreign: share of the cores that others took during its runs; ``worst`` of one of them.
        void: why it does not count, or nothing.
    """

    number: int
    runs: dict[Cell, Run]
    drift: float
    foreign: float
    worst: float
    void: str


def folder_of(plan: Plan, number: int) -> Path:
    """Return a round's folder."""
    return plan.folder / f"round-{number:02d}"


def read_round(plan: Plan, number: int) -> Round | None:
    """Return a finished round; None if it is not finished."""
    folder = folder_of(plan, number)
    places = {cell: folder / f"{cell.scenario}--{cell.policy}" for cell in plan.cells}
    if not (folder / "after.json").exists() or not all(is_run(place) for place in places.values()):
        return None
    profiles = [read_profile(str(folder / f"{when}.json")) for when in ("before", "after")]
    loads = [json.loads(place.with_suffix(".cpu.json").read_text()) for place in places.values()]
    wall_s = sum(load["wall_s"] for load in loads)
    foreign = sum(load["foreign"] * load["wall_s"] for load in loads) / wall_s
    drifted = drift(*profiles)
    runs = {cell: Run(folder=place) for cell, place in places.items()}
    worst = max(load["foreign"] for load in loads)
    return Round(number, runs, drifted, foreign, worst, void(drifted, foreign))


def check_plan(plan: Plan) -> None:
    """Refuse what no round could be run with, before anything is measured or written.

    Raises:
        UsageError, scenarios.schema.ScenarioError: one line on a word of a run, or on the folder.
    """
    from experiments.folders import check_place
    from experiments.job import prepare

    check_place(plan.folder, f"out={show_path(plan.folder)}")
    _same_study(plan)
    for cell in plan.cells:
        words = ["profile=", *plan.words(cell)]  # none, or the user's; else the scenario's would be measured here
        prepare([*words, "world=local", "track=none", "--fresh", "-q"])


def run_rounds(plan: Plan, report: Report) -> list[Round]:
    """Run what is missing until enough rounds count, or all attempts are made; return every finished round.

    Raises:
        UsageError: the folder holds another study.
        KeyboardInterrupt: the user stopped; what was finished is kept.
    """
    _claim(plan)
    done: list[Round] = []
    for number in range(plan.attempts):
        if sum(not one.void for one in done) >= plan.rounds:
            break
        _run_round(plan, number, report)
        found = read_round(plan, number)
        assert found is not None
        done.append(found)
    return done


def sequence(plan: Plan, number: int) -> Sequence[Cell]:
    """Return a round's order of cells: drawn anew for each, so that no policy always runs after the same one."""
    drawn = draws.uniform(plan.seed, "gap order", number, np.arange(len(plan.cells)))
    return [plan.cells[k] for k in np.argsort(drawn, kind="stable")]


def _claim(plan: Plan) -> None:
    """Write the study down, or find it as it was."""
    said = _same_study(plan)
    plan.folder.mkdir(parents=True, exist_ok=True)
    (plan.folder / STUDY).write_text(json.dumps(said, indent=2, sort_keys=True) + "\n")


def _same_study(plan: Plan) -> dict[str, Any]:
    """Return what the folder says of this study; refuse a folder that says it of another."""
    said = {"executor": plan.executor, "cells": [list(c) for c in plan.cells], "extra": list(plan.extra),
            "seed": plan.seed}  # fmt: skip
    file = plan.folder / STUDY
    try:
        there = json.loads(file.read_text()) if file.exists() else said
    except ValueError:
        raise UsageError(f"out={plan.folder}: its {STUDY} cannot be read; choose another folder") from None
    if there != said:
        raise UsageError(f"out={plan.folder}: holds another study; choose another folder")
    return said


def _run_round(plan: Plan, number: int, report: Report) -> None:
    folder = folder_of(plan, number)
    folder.mkdir(exist_ok=True)
    cells = sequence(plan, number)

    def tell(done: int, text: str) -> None:
        share = (number + done / (len(cells) + 2)) / plan.attempts
        report(share, f"round {number + 1}: {text}")

    before = folder / "before.json"
    if not before.exists():
        tell(0, "calibrating")
        _calibrate(plan.executor, before)
    for k, cell in enumerate(cells, start=1):
        place = folder / f"{cell.scenario}--{cell.policy}"
        if not (is_run(place) and place.with_suffix(".cpu.json").exists()):
            tell(k, f"{k} of {len(cells)}, {cell.policy} on {cell.scenario}")
            _run_cell([*plan.words(cell), f"profile={before}"], place)
    if not (folder / "after.json").exists():
        tell(len(cells) + 1, "calibrating again")
        _calibrate(plan.executor, folder / "after.json")


def _calibrate(executor: str, out: Path) -> None:
    from experiments.calibration.executor import PACED_BACKEND, calibrate_executor

    calibrate_executor(PACED_BACKEND if executor == "paced" else "torch", CALIBRATION_S, out)


def _run_cell(words: list[str], place: Path) -> None:
    from experiments.job import perform, prepare
    from real_backends.host_probe import core_count

    job = prepare([*words, "world=local", "track=none", f"out={place}", "--fresh", "-q"])
    begun = cpu()
    perform(job, lambda share, text: None)
    ended = cpu()
    load: dict[str, Any] = {
        "foreign": foreign_share(begun, ended, core_count()),
        "wall_s": ended.wall_s - begun.wall_s,
    }
    place.with_suffix(".cpu.json").write_text(json.dumps(load) + "\n")
