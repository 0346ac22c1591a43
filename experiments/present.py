"""Results on stdout: a Run as a table of at most 80 columns, or as JSON; and the tables of pages, in Markdown."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from experiments.folders import show_path
from experiments.results import Run, number


def summary(run: Run) -> str:
    """Return a Run as a table of at most 80 columns, verdict first."""
    failed = [check for check in run.checks if not check.passed]
    lines = [f"{run.name} · seed {run.seed} · {run.world} · digest {run.digest[:16]}"]
    if failed:
        lines += [f"FAILED  {check.name}: {check.detail}"[:80] for check in failed]
    else:
        lines.append(f"all {len(run.checks)} checks passed")
    lines.append(table(run.summary))
    if run.folder is not None:
        lines.append(f"report: {show_path(run.folder / 'report.html')}")
    return "\n".join(lines)


def table(values: dict[str, Any]) -> str:
    """Return names and numbers in two columns."""
    return "\n".join(f"  {name[:52]:52} {number(value)[:23]:>23}" for name, value in values.items())


def markdown(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown, each line ended.

    >>> print(markdown(("kind", "n"), [("phone", 3)]), end="")
    | kind | n |
    | --- | --- |
    | phone | 3 |
    """
    every: list[Sequence[object]] = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in row)} |\n" for row in every)


def plain(run: Run) -> dict[str, Any]:
    """Return a Run's result as plain data."""
    return {
        "run": str(run.folder),
        "scenario": run.name,
        "seed": run.seed,
        "world": run.world,
        "digest": run.digest,
        "checks": {check.name: check.passed for check in run.checks},
        "summary": run.summary,
    }


def show(data: Any, text: str, as_json: bool) -> None:
    """Print the result: as one line of JSON, or as text."""
    sys.stdout.write((json.dumps(_finite(data)) if as_json else text) + "\n")


def _finite(data: Any) -> Any:
    """Return ``data`` with null for what JSON has no number for."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
