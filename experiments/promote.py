"""Promotion: a Run's policies become the registry's ``candidate`` when every gate is green, or not at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.compose import UsageError
from experiments.folders import show_path
from experiments.results import Run
from scenarios.digests import digest_of

MODEL = "village-policies"
ALIAS = "candidate"


class GateRefused(Exception):
    """A gate is not green; the message says which and why, in one line."""


@dataclass(frozen=True)
class Gate:
    """One gate, whether it is green, and why."""

    name: str
    passed: bool
    detail: str


def gates(run: Run, baseline: Run | None = None) -> list[Gate]:
    """Return the gates of a Run: its checks, the replay of its journals, and the comparison with a baseline.

    Args:
        run: the Run whose policies ask for promotion.
        baseline: a Run with the same seed and scenario, of the policies in use; without one there is nothing
            to be worse than, and the gate says so.
    """
    from experiments.comparison import compare
    from experiments.replay import replay

    failed = [check.name for check in run.checks if not check.passed]
    found = [Gate("checks", not failed, f"failed: {', '.join(failed)}" if failed else f"{len(run.checks)} passed")]
    try:
        replayed = replay(run.journals)
    except UsageError as error:
        found.append(Gate("replay", False, str(error).removeprefix("replay: ")))
    else:
        first = str(replayed.divergences[0]) if replayed.divergences else ""
        changed = f"sources changed since the run: {', '.join(replayed.changed)}" if replayed.changed else ""
        steps = f"{sum(replayed.steps.values()):,} steps equal on {len(replayed.steps)} nodes"
        found.append(Gate("replay", replayed.passed and not changed, first or changed or steps))
    if baseline is None:
        found.append(Gate("compare", True, "no earlier candidate to compare with"))
    else:
        worse = compare(baseline, run).worse
        found.append(
            Gate(
                "compare",
                not worse,
                f"worse in {', '.join(worse)}" if worse else f"no worse than {baseline!r}",
            )
        )
    return found


def promote(run: Run, against: str = "") -> dict[str, Any]:
    """Give the policies of ``run`` the alias ``candidate`` in MLflow's registry.

    Args:
        run: a finished Run.
        against: a Run to compare with; default, the Run of the present candidate.

    Returns:
        alias, version, digest of the policies, and the gates.

    Raises:
        GateRefused: a gate is red; the registry is unchanged.
    """
    from experiments.folders import find_run
    from experiments.track import open_client

    policies = run.manifest.get("policies", {})
    if not policies:
        raise GateRefused("promote: the run's manifest names no policies")
    client = open_client()
    baseline = Run(folder=find_run(against)) if against else _candidate_run(client, run)
    results = gates(run, baseline)
    for gate in results:
        if not gate.passed:
            raise GateRefused(f"promote: {gate.name}: {gate.detail}")
    report = {"policies": policies, "digest": digest_of(policies), "gates": [vars(g) for g in results],
              "run": run.digest, "config": run.config.get("policy", {})}  # fmt: skip
    return _register(client, run, report)


def require_alias(alias: str, policies: Mapping[str, Mapping[str, str]] | None = None) -> None:
    """Refuse any policies but those registered under ``alias``.

    Args:
        alias: an alias of the registry.
        policies: a run's manifest of policies; without it, today's sources of the registered classes.

    Raises:
        GateRefused: nothing has this alias, or the digests differ.
    """
    from experiments.replay import changed_sources
    from experiments.track import open_client

    version = _version(open_client(), alias)
    if version is None:
        raise GateRefused(f"policy.alias={alias}: nothing is registered under it; `twin promote RUN` does that")
    registered = json.loads(version.tags["policies"])
    if policies is None:
        changed = list(changed_sources(registered))
    else:
        paths = sorted({*policies, *registered})
        changed = [p for p in paths if _source(policies, p) != _source(registered, p)]
    if changed:
        raise GateRefused(
            f"policy.alias={alias}: version {version.version} has other digests than the sources here "
            f"({', '.join(changed)})"
        )


def _source(policies: Mapping[str, Mapping[str, str]], path: str) -> str:
    return policies.get(path, {}).get("source_sha256", "")


def _version(client: Any, alias: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(MODEL, alias)
    except MlflowException:
        return None


def _candidate_run(client: Any, run: Run) -> Run | None:
    """Return the present candidate's Run, if it is of the same scenario and world and still there."""
    version = _version(client, ALIAS)
    folder = Path(version.tags.get("folder", "")) if version else None
    if folder is None or not (folder / "manifest.json").exists():
        return None
    found = Run(folder=folder)
    same = (found.name, found.seed, found.world) == (run.name, run.seed, run.world)
    return found if same and found.digest != run.digest else None


def _register(client: Any, run: Run, report: dict[str, Any]) -> dict[str, Any]:
    from mlflow.exceptions import MlflowException

    from experiments.track import experiment_id

    created = client.create_run(experiment_id(client, "promotions"), run_name=f"{run.name}-{run.seed}")
    run_id = created.info.run_id
    with tempfile.TemporaryDirectory() as folder:
        for name in ("policies", "gates"):
            file = Path(folder) / f"{name}.json"
            file.write_text(json.dumps(report[name], indent=2) + "\n")
            client.log_artifact(run_id, str(file), "policy")
    client.set_terminated(run_id)
    try:
        client.get_registered_model(MODEL)
    except MlflowException:
        client.create_registered_model(MODEL, description="Policies that passed their gates.")
    tags = {"policies": json.dumps(report["policies"]), "digest": report["digest"], "run": run.digest,
            "folder": str(run.folder.absolute()) if run.folder else ""}  # fmt: skip
    version = client.create_model_version(MODEL, f"{created.info.artifact_uri}/policy", run_id=run_id, tags=tags)
    client.set_registered_model_alias(MODEL, ALIAS, version.version)
    return {"alias": ALIAS, "version": int(version.version), "digest": report["digest"],
            "gates": report["gates"], "run": show_path(run.folder) if run.folder else ""}  # fmt: skip
