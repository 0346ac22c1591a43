"""The building blocks of both backends against torch's own functions, and the law of rotary positions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed")
jax = pytest.importorskip("jax", reason="jax is not installed")

import torch.nn.functional as F  # noqa: E402  (the imports below need torch and jax)

from real_backends.executors import DESK_TINY, jax_shard, torch_shard  # noqa: E402
from real_backends.executors.spec import rope_table  # noqa: E402


def attend_jax(q: np.ndarray, k: np.ndarray, v: np.ndarray, position: int) -> np.ndarray:
    # Poison after the last position: a mask that leaks would show.
    poison = np.full((k.shape[0], 3, k.shape[2]), 50.0, np.float32)
    cache = jax_shard.LayerCache(*(jax.numpy.asarray(np.concatenate((a, poison), axis=1)) for a in (k, v)))
    return np.asarray(jax_shard.attend(jax.numpy.asarray(q), cache, jax.numpy.int32(position)))


def attend_torch(q: np.ndarray, k: np.ndarray, v: np.ndarray, position: int) -> np.ndarray:
    return torch_shard.attend(torch.tensor(q), torch.tensor(k), torch.tensor(v), position).numpy()


@pytest.mark.parametrize("attend", [attend_torch, attend_jax])
@pytest.mark.parametrize(("count", "position"), [(1, 0), (1, 9), (4, 0), (4, 6)])
def test_attention_is_torchs(attend: object, count: int, position: int) -> None:
    """Grouped-query causal attention equals torch's scaled dot product with an explicit mask."""
    draw = np.random.Generator(np.random.PCG64(count + position))
    q = draw.standard_normal((count, 6, 8), dtype=np.float32)
    k, v = draw.standard_normal((2, 3, position + count, 8), dtype=np.float32)
    seen = torch.ones(count, position + count, dtype=torch.bool).tril(position)
    swapped = torch.tensor(q).transpose(0, 1)[None]
    expected = F.scaled_dot_product_attention(
        swapped, torch.tensor(k)[None], torch.tensor(v)[None], attn_mask=seen, enable_gqa=True
    )

    result = attend(q, k, v, position)  # type: ignore[operator]

    np.testing.assert_allclose(result, expected[0].transpose(0, 1).flatten(1).numpy(), atol=2e-6)


def test_norm_is_torchs() -> None:
    """RMSNorm of both backends equals torch.nn.RMSNorm, also where eps matters."""
    draw = np.random.Generator(np.random.PCG64(0))
    x = draw.standard_normal((5, 32), dtype=np.float32) * np.float32([[1e-3], [1e-2], [1], [10], [1e3]])
    weight = draw.standard_normal(32, dtype=np.float32)
    norm = torch.nn.RMSNorm(32, eps=1e-5)
    norm.weight.data = torch.tensor(weight)
    expected = norm(torch.tensor(x)).detach().numpy()

    np.testing.assert_allclose(torch_shard.rms_norm(torch.tensor(x), torch.tensor(weight), 1e-5), expected, rtol=1e-5)
    np.testing.assert_allclose(jax_shard.rms_norm(x, weight, 1e-5), expected, rtol=1e-5)


@pytest.mark.parametrize("module", [torch_shard, jax_shard])
@given(near=st.integers(0, 100), apart=st.integers(0, 100), shift=st.integers(0, 55))
@settings(max_examples=25, deadline=None)
def test_rotary_scores_depend_on_distance_only(module: object, near: int, apart: int, shift: int) -> None:
    """Moving a query and a key by the same distance changes neither their score nor their lengths."""
    draw = np.random.Generator(np.random.PCG64(1))
    q, k = draw.standard_normal((2, 1, 1, 16), dtype=np.float32)
    cos, sin = rope_table(DESK_TINY)
    array = torch.tensor if module is torch_shard else jax.numpy.asarray

    def turned(x: np.ndarray, at: int) -> np.ndarray:
        angle = array(cos[at : at + 1]), array(sin[at : at + 1])
        return np.asarray(module.rotate(array(x), *angle)).ravel()  # type: ignore[attr-defined]

    before = turned(q, near + apart) @ turned(k, near)
    after = turned(q, near + apart + shift) @ turned(k, near + shift)

    assert after == pytest.approx(before, abs=2e-5)
    assert np.linalg.norm(turned(q, near)) == pytest.approx(np.linalg.norm(q), rel=1e-6)
