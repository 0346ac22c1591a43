"""The twin's prediction of a finished local Run: its scenario, arrivals and lengths, at a calibrated profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from experiments.compose import UsageError
from experiments.results import Run, simulate

if TYPE_CHECKING:
    from scenarios.schema import Scenario


def twin_of(run: Run, profile: str = "") -> Scenario:
    """Return the scenario that the twin runs to predict a local Run.

    Args:
        run: of world=local, in a folder.
        profile: a profile's file instead of the Run's own.

    Raises:
        UsageError: the Run is not of that world, is in no folder, or its profile is not there any more.
    """
    from scenarios.schema import build

    if run.world != "local" or run.folder is None:
        raise UsageError(
            f"compare {run.folder or run!s}: world={run.world}: the twin predicts a finished Run of world=local"
        )
    config = run.config
    try:
        kept = {key: config["workload"][key] for key in ("mix", "deadline_s", "clients", "retry_s")}
        record = {**config["record"], "journals": "none"}
    except (KeyError, TypeError) as error:
        raise UsageError(f"compare {run.folder}: its manifest's config has no {error}; run it again") from None
    kept["shared_tokens"] = config["workload"].get("shared_tokens", 0)  # manifests of before have none
    workload = {"kind": "recorded", "path": str(run.folder / "requests.parquet"), **kept}
    changes: dict[str, Any] = {
        "world": "sim", "workload": workload, "profile": profile or _own_profile(run), "cuts": "tls",
        "sensors": "trace", "assume": {}, "record": record,
    }  # fmt: skip
    return build({**config, **changes})


def predict(run: Run, profile: str = "") -> Run:
    """Return the twin's prediction of a local Run; see `twin_of`."""
    return simulate(twin_of(run, profile))


def _own_profile(run: Run) -> str:
    from scenarios.hosts import profile_hash, read_profile
    from scenarios.schema import ScenarioError

    path, measured = str(run.config.get("profile", "")), str(run.manifest.get("profile", ""))
    try:
        found: Mapping[str, Any] = read_profile(path)
    except ScenarioError as error:
        raise UsageError(f"compare: {error}; give one with --profile") from None
    if profile_hash(found) != measured:
        raise UsageError(
            f"compare: profile={path!r} is not the one that the Run names any more; give one with --profile"
        )
    return path
