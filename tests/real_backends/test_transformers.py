"""The executors against Transformers on the same checkpoints: its recorded logits, and the library where installed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
jax = pytest.importorskip("jax", reason="jax is not installed")

from tests.real_backends.transformers_logits import (  # noqa: E402
    KEPT,
    MODELS,
    RECORD,
    our_logits,
    transformers_logits,
)

BAR = 1e-4


@pytest.mark.parametrize("backend", ["torch", pytest.param("jax", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_that_transformers_gave(name: str, backend: str) -> None:
    """Each model's recorded logits, up to position 399, are found again within 1e-4 in float32."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    positions, ids = KEPT
    found = our_logits(name, backend, positions)[:, ids]

    assert record["transformers"]
    np.testing.assert_allclose(found, record["logits"][name], atol=BAR, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_transformers_reads_our_checkpoints_and_agrees(name: str, tmp_path: Path) -> None:
    """The library itself, on the checkpoint as written, gives our logits within 1e-4 at every position."""
    pytest.importorskip("transformers", reason="transformers is not installed: pip install transformers")
    theirs = transformers_logits(name, tmp_path / "model")
    for backend in ("torch", "jax"):
        ours = our_logits(name, backend, [0, *range(255, 400)])

        np.testing.assert_allclose(ours, theirs[[0, *range(255, 400)]], atol=BAR, rtol=0)
