"""MLflow: a finished Run as one tracked run in the project's SQLite file, after the Run is complete."""

from __future__ import annotations

import json
import logging
import math
import os
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.compose import UsageError
from experiments.folders import project_root, show_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from experiments.results import Run

ARTIFACTS = (
    "summary.json",
    "manifest.json",
    "report.html",
    "requests.parquet",
    "decisions.parquet",
    "faults.parquet",
    "fleet.parquet",
)
PARAM_CHARS_MAX = 6000  # MLflow's own limit of a parameter's value


def open_client(root: Path | None = None) -> MlflowClient:
    """Open the project's mlflow.db, made on first use; write-ahead logging halves the time of writes.

    Raises:
        UsageError: what is there is no database, or cannot be opened.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    db = (root or project_root()).absolute() / "mlflow.db"
    try:
        with closing(sqlite3.connect(db)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.DatabaseError as error:
        raise UsageError(f"{show_path(db)}: cannot be used: {error}; moved away, it is made anew") from None
    from mlflow import MlflowClient

    for noisy in ("alembic", "mlflow"):  # after the import, which sets levels of its own
        logging.getLogger(noisy).setLevel(logging.WARNING)
    uri = f"sqlite:///{db}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.search_experiments(max_results=1)  # makes the tables, where they are not there yet
    return client


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return the experiment of this name, made on first use with its artifacts beside mlflow.db."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    place = (project_root().absolute() / "mlartifacts" / name).as_uri()
    return str(client.create_experiment(name, artifact_location=place))


def log_run(run: Run, *, parent: str = "", client: MlflowClient | None = None) -> str:
    """Log a Run (config as params, summary as metrics, files as artifacts) and return MLflow's run id."""
    client = client or open_client()
    tags = {
        "digest": run.digest,
        "world": run.world,
        "seed": str(run.seed),
        "key": str(run.manifest.get("run", {}).get("key", "")),
        "checks": "passed" if _passed(run) else "failed",
        "folder": str(run.folder or ""),
    }
    if parent:
        tags["mlflow.parentRunId"] = parent
    run_id = _log(client, run.name, f"{run.name}-{run.seed}", run.summary, flatten(run.config), tags)
    for name in ARTIFACTS if run.folder else ():
        assert run.folder is not None
        if (run.folder / name).exists():
            client.log_artifact(run_id, str(run.folder / name))
    client.set_terminated(run_id)
    return run_id


def open_parent(client: MlflowClient, experiment: str, name: str, words: list[str]) -> str:
    """Begin the parent run of a sweep; its points are its children."""
    return _log(client, experiment, name, {}, {"sweep": " ".join(words)}, {"kind": "sweep"})


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested plain data as dotted names.

    >>> flatten({"fleet": {"phones": 3}, "backends": ["torch"]})
    {'fleet.phones': '3', 'backends': '["torch"]'}
    """
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def _log(
    client: MlflowClient, experiment: str, name: str,
    metrics: Mapping[str, float], params: Mapping[str, str], tags: Mapping[str, str],
) -> str:  # fmt: skip
    """Begin a run and log everything it has in one batch."""
    from mlflow.entities import Metric, Param, RunTag

    created = client.create_run(experiment_id(client, experiment), run_name=name)
    run_id = str(created.info.run_id)
    now_ms = int(time.time() * 1000)
    client.log_batch(
        run_id,
        metrics=[Metric(k, float(v), now_ms, 0) for k, v in metrics.items() if math.isfinite(v)],
        params=[Param(k, v[:PARAM_CHARS_MAX]) for k, v in params.items() if v],
        tags=[RunTag(k, v) for k, v in tags.items()],
    )
    return run_id


def _passed(run: Run) -> bool:
    from experiments.verdict import passed

    return passed(run)
