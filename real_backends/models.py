"""The models that workers of a local run can load: the seeded ones by their names, or a checkpoint's folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from models.inference import Shape
from real_backends.executors import (
    DEFAULT_SEED,
    DESK_MINI,
    DESK_TINY,
    ModelSpec,
    Weights,
    make_checkpoint,
    open_checkpoint,
    shard_weights,
)
from scenarios.hosts import StepLaw, of_model, read_profile, step_law
from scenarios.schema import Scenario, ScenarioError

BYTES = 4.0
"""Of a weight, of a number of the cache and of an activation: workers compute in float32."""


SEEDED = {spec.name: spec for spec in (DESK_TINY, DESK_MINI)}
"""Models that are made from a seed, by name."""


def spec_of(scenario: Scenario, model: str = "") -> ModelSpec:
    """Return a served model without its weights, the first one if none is named; no tensor is looked for.

    Raises:
        ScenarioError: it is not one that can be loaded.
    """
    name, checkpoint = _named(scenario, model)
    return _open(scenario, checkpoint)[0] if checkpoint else _seeded(name)


def open_model(scenario: Scenario, model: str = "") -> tuple[ModelSpec, Weights]:
    """Return a served model, the first one if none is named; of a checkpoint no tensor is read yet.

    Raises:
        ScenarioError: as `spec_of`.
    """
    name, checkpoint = _named(scenario, model)
    if checkpoint:
        return _open(scenario, checkpoint)
    return (spec := _seeded(name)), make_checkpoint(spec, DEFAULT_SEED)


def law_of(scenario: Scenario, model: str) -> StepLaw:
    """Return what a served model's steps take by the scenario's profile, which is of the first one."""
    law, shapes = step_law(read_profile(scenario.profile)), scenario.models
    return law if model not in shapes else of_model(law, scenario.served, shapes[model])


def check_checkpoint(folder: Path, context: int | None = None) -> ModelSpec:
    """Return what a folder holds, once every tensor was found and has the right shape; values are not read.

    Args:
        folder: the checkpoint.
        context: longest session, tokens; None is the model's own, within `open_checkpoint`'s bound.

    Raises:
        ScenarioError: one line that says what is wrong with it.
    """
    try:
        spec, weights = open_checkpoint(folder, context)
        shard_weights(spec, weights, 0, spec.layers)
    except (ValueError, OSError) as error:
        text = str(error).removeprefix("weights: ")
        raise ScenarioError(text if text.startswith("checkpoint ") else f"checkpoint {folder.name}: {text}") from None
    return spec


def shape_of(spec: ModelSpec) -> Shape:
    """Return what planners and the twin count with."""
    return Shape(
        spec.name, spec.layers, spec.hidden, spec.heads, spec.kv_heads, spec.head_dim, spec.ffn, spec.vocab,
        tied=spec.tied_head, bytes_per_weight=BYTES, bytes_per_kv=BYTES, bytes_per_activation=BYTES,
    )  # fmt: skip


def _named(scenario: Scenario, model: str) -> tuple[str, str]:
    """Return a served model's name and its checkpoint's folder, if it has one."""
    for one in scenario.smaller:
        if one.model == model:
            return one.model, one.checkpoint
    return scenario.model, scenario.checkpoint


def _seeded(name: str) -> ModelSpec:
    if name not in SEEDED:
        raise ScenarioError(f"model={name!r}: world=local can run {', '.join(map(repr, SEEDED))}, or a checkpoint")
    return SEEDED[name]


def _open(scenario: Scenario, checkpoint: str) -> tuple[ModelSpec, Weights]:
    try:
        spec, weights = open_checkpoint(Path(checkpoint))
    except (ValueError, OSError) as error:
        raise ScenarioError(str(error)) from None
    # Pools have blocks for sessions as long as the policies reckon with, and a longer one is refused.
    return replace(spec, context=min(spec.context, scenario.policy.sharding.context_tokens)), weights
