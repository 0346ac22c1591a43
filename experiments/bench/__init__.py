"""Benchmarks of the twin: each module measures one thing, and its table holds every figure to its bar.

A benchmark is a module with a `TITLE`, the `LINES` of its table and `measure() -> {key: figure}`. Run them with
`twin bench [NAME ...]` or `python -m experiments.bench [NAME ...]`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from typing import Any

NAMES = (
    "engine", "sharing", "churn", "batches", "raft", "twins", "hunt", "membership", "fleet_spec", "determinism",
    "planners", "overhead", "first_village", "million_day",
)  # fmt: skip
"""The benchmarks, quick ones first."""


def main(names: Sequence[str] = (), *, as_json: bool = False) -> int:
    """Run benchmarks and print their tables; none named is all of them.

    Args:
        names: out of `NAMES`.
        as_json: print one JSON object {name: {key: figure}} instead of tables.

    Returns:
        0 if every bar is met, else 3 (finished, with points that failed).

    Raises:
        ValueError: no benchmark of that name.
    """
    from experiments.bench.table import missed, show

    results: dict[str, dict[str, float]] = {}
    failed: list[str] = []
    for name, module in _modules(names):
        results[name] = figures = module.measure()
        if not as_json:
            show(module.TITLE, figures, module.LINES)
        failed += [f"{name}.{key}" for key in missed(figures, module.LINES)]
    if as_json:
        print(json.dumps(results, indent=2))
    else:
        print(f"below their bar: {', '.join(failed)}" if failed else "every bar is met")
    return 3 if failed else 0


def figures(names: Sequence[str] = ()) -> dict[str, float]:
    """Run benchmarks and return their figures as "name.key"; none named is all of them.

    Raises:
        ValueError: no benchmark of that name.
    """
    return {f"{name}.{key}": value for name, module in _modules(names) for key, value in module.measure().items()}


def _modules(names: Sequence[str]) -> list[tuple[str, Any]]:
    for name in names:
        if name not in NAMES:
            raise ValueError(f"bench {name}: no such benchmark; allowed: {', '.join(NAMES)}")
    return [(name, import_module(f"experiments.bench.{name}")) for name in names or NAMES]
