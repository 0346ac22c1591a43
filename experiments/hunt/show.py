"""`twin replay` of a hunted trial: run it again and show what happened around the failure."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from experiments.compose import UsageError
from experiments.hunt.arenas import arena
from experiments.hunt.columns import around, columns, replay
from experiments.hunt.line import FORM, read_line
from experiments.present import show
from scenarios.trial import Trial, build_trial, plain

BEFORE, AFTER = 30, 5
"""Events shown before and after a failure."""


def is_trial(word: str) -> bool:
    """Whether a word names a hunted trial rather than a Run: a line, or a scenario file of one."""
    return word.startswith(f"{FORM}:") or word.endswith((".yaml", ".yml"))


def replay_trial(word: str, *, as_json: bool, any_version: bool = False) -> int:
    """Run a trial again; 0 if no promise breaks, 3 if one does."""
    trial = read_line(word, any_version=any_version) if word.startswith(f"{FORM}:") else read_file(Path(word))
    place = arena(trial.arena)
    place.check(trial)
    outcome, events = replay(place, trial)
    shown = around(events, outcome.at_s, BEFORE, AFTER)
    width = max(80, shutil.get_terminal_size((160, 24)).columns)
    lines = [
        f"{trial.arena} · {trial.policy} · seed {trial.seed} · {len(trial.faults)} faults · "
        f"digest {outcome.digest[:16]}",
        columns(shown, trial.names, width=width, broken_at_s=outcome.at_s if outcome.broken else -1.0),
        f"BROKEN {outcome.check}: {outcome.why}" if outcome.broken else "nothing broke",
    ]
    result: dict[str, Any] = {"trial": plain(trial), "check": outcome.check, "why": outcome.why,
                              "at_s": outcome.at_s, "digest": outcome.digest, "steps": outcome.steps}  # fmt: skip
    show(result, "\n".join(lines), as_json)
    return 3 if outcome.broken else 0


def read_file(file: Path) -> Trial:
    """Read a trial's scenario file.

    Raises:
        UsageError: no such file, or it is not YAML.
        scenarios.schema.ScenarioError: it is no trial.
    """
    if not file.is_file():
        raise UsageError(f"replay: {file}: no such file")
    try:
        data = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise UsageError(f"replay: {file}: {' '.join(str(error).split())}") from None
    return build_trial(data)
