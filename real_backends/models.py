"""The models that workers of a local run can load: the seeded one by its name, or a checkpoint's folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from models.inference import Shape
from real_backends.executors import (
    DEFAULT_SEED,
    DESK_TINY,
    ModelSpec,
    Weights,
    make_checkpoint,
    open_checkpoint,
    shard_weights,
)
from scenarios.schema import Scenario, ScenarioError

BYTES = 4.0
"""Of a weight, of a number of the cache and of an activation: workers compute in float32."""


def spec_of(scenario: Scenario) -> ModelSpec:
    """Return the served model without its weights; no tensor is looked for.

    Raises:
        ScenarioError: it is not one that can be loaded.
    """
    return _open(scenario)[0] if scenario.checkpoint else _seeded(scenario)


def open_model(scenario: Scenario) -> tuple[ModelSpec, Weights]:
    """Return the served model; of a checkpoint no tensor is read yet.

    Raises:
        ScenarioError: as `spec_of`.
    """
    return _open(scenario) if scenario.checkpoint else (_seeded(scenario), make_checkpoint(DESK_TINY, DEFAULT_SEED))


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


def _seeded(scenario: Scenario) -> ModelSpec:
    if scenario.model != DESK_TINY.name:
        raise ScenarioError(f"model={scenario.model!r}: world=local can run {DESK_TINY.name!r}, or a checkpoint")
    return DESK_TINY


def _open(scenario: Scenario) -> tuple[ModelSpec, Weights]:
    try:
        spec, weights = open_checkpoint(Path(scenario.checkpoint))
    except (ValueError, OSError) as error:
        raise ScenarioError(str(error)) from None
    # Caches are allocated whole, and sessions are as long as the policies reckon with.
    return replace(spec, context=min(spec.context, scenario.policy.sharding.context_tokens)), weights
