"""A shard that runs in torch, on the CPU or on CUDA.

Besides the reference this is the only executor module that imports torch; reach it through `make_shard`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from real_backends.executors.checkpoint import Weights, shard_weights
from real_backends.executors.shard import ExecutorUnavailable, SessionTable, check_input
from real_backends.executors.spec import ModelSpec, rope_table


class TorchLayer(NamedTuple):
    """One layer's weights; q, k, v and gate, up are joined so that each pair of norms costs one product."""

    attn_norm: torch.Tensor
    qkv: torch.Tensor
    o: torch.Tensor
    ffn_norm: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor


class TorchCache(NamedTuple):
    """Keys and values, each [layers, kv_heads, context, head_dim]."""

    keys: torch.Tensor
    values: torch.Tensor


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (arXiv 1910.07467, equation 4)."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn each pair (i, i + head_dim / 2) of x [n, heads, head_dim] by its position's angle.

    `cos` and `sin` are [n, head_dim / 2], the rows of `rope_table` for the n positions.
    """
    low, high = x.chunk(2, dim=-1)
    cos, sin = cos[:, None, :], sin[:, None, :]
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)


def attend(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, position: int) -> torch.Tensor:
    """Causal grouped-query attention of the newest tokens over the cache.

    Args:
        q: queries [n, heads, head_dim] of the tokens at position .. position + n - 1.
        keys: [kv_heads, position + n, head_dim].
        values: shaped as the keys.
        position: index of the first query.

    Returns:
        [n, heads * head_dim].
    """
    count, heads, width = q.shape
    kv_heads, length, _ = keys.shape
    # [kv_heads, group * n, head_dim]: the queries of one group share the same keys, so they are one product.
    grouped = q.view(count, kv_heads, -1, width).permute(1, 2, 0, 3).reshape(kv_heads, -1, width)
    scores = (grouped @ keys.transpose(1, 2)) * width**-0.5
    if count > 1:
        row = torch.arange(position, position + count, device=q.device)[:, None]
        future = torch.arange(length, device=q.device)[None, :] > row
        scores = scores.view(kv_heads, -1, count, length).masked_fill(future, -torch.inf)
        scores = scores.view(kv_heads, -1, length)
    mixed = torch.softmax(scores, dim=-1) @ values
    return mixed.view(kv_heads, -1, count, width).permute(2, 0, 1, 3).reshape(count, heads * width)


def pick_device(device: str) -> torch.device:
    """`auto` is CUDA when present, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ExecutorUnavailable("device 'cuda' is not present for torch: use 'cpu' or 'auto'")
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device: {device!r} is not allowed, expected 'auto', 'cpu' or 'cuda'")
    return torch.device(device)


class TorchShard:
    """Layers [first, last) in torch; see `Shard` for what it promises."""

    backend = "torch"

    def __init__(self, spec: ModelSpec, weights: Weights, first: int, last: int, *, threads: int, device: str) -> None:
        part = shard_weights(spec, weights, first, last)
        self.spec, self.first, self.last, self.threads = spec, first, last, threads
        self._device = pick_device(device)
        self.device = self._device.type

        def load(*names: str) -> torch.Tensor:
            return torch.tensor(np.concatenate([part[name] for name in names]), device=self._device)

        self._layers = []
        for index in range(first, last):
            at = f"layers.{index}."
            self._layers.append(
                TorchLayer(
                    load(at + "attn_norm"),
                    load(at + "q", at + "k", at + "v"),
                    load(at + "o"),
                    load(at + "ffn_norm"),
                    load(at + "gate", at + "up"),
                    load(at + "down"),
                )
            )
        self._embed = load("embed") if first == 0 else None
        self._norm = load("norm") if last == spec.layers else None
        self._head = load("embed" if spec.tied_head else "head") if last == spec.layers else None
        cos, sin = rope_table(spec)
        self._cos = torch.tensor(cos, device=self._device)
        self._sin = torch.tensor(sin, device=self._device)
        self._table: SessionTable[TorchCache] = SessionTable(spec)

    def forward(self, session: str, x: npt.NDArray[Any], position: int) -> npt.NDArray[np.float32]:
        """See `Shard.forward`."""
        check_input(self.spec, self.first, x)
        cache = self._table.find(session, position, len(x)) or self._new_cache()
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)  # a setting of the process: the shard that runs decides
        with torch.inference_mode():
            h = torch.tensor(x, device=self._device)
            if self._embed is not None:
                h = self._embed[h]
            for index, layer in enumerate(self._layers):
                h = self._layer(layer, h, cache.keys[index], cache.values[index], position)
            if self._norm is not None and self._head is not None:
                h = F.linear(rms_norm(h[-1], self._norm, self.spec.norm_eps), self._head)
            result: npt.NDArray[np.float32] = h.cpu().numpy()
        self._table.store(session, cache, position + len(x))
        return result

    def drop(self, session: str) -> None:
        """See `Shard.drop`."""
        self._table.drop(session)

    def sessions(self) -> int:
        """See `Shard.sessions`."""
        return len(self._table)

    def _new_cache(self) -> TorchCache:
        spec = self.spec
        shape = (self.last - self.first, spec.kv_heads, spec.context, spec.head_dim)
        return TorchCache(torch.zeros(shape, device=self._device), torch.zeros(shape, device=self._device))

    def _layer(
        self, layer: TorchLayer, h: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, position: int
    ) -> torch.Tensor:
        spec, count = self.spec, len(h)
        end = position + count
        cos, sin = self._cos[position:end], self._sin[position:end]
        joined = F.linear(rms_norm(h, layer.attn_norm, spec.norm_eps), layer.qkv)
        parts = [spec.heads, spec.kv_heads, spec.kv_heads]
        q, k, v = torch.split(joined.view(count, -1, spec.head_dim), parts, dim=1)
        keys[:, position:end] = rotate(k, cos, sin).transpose(0, 1)
        values[:, position:end] = v.transpose(0, 1)
        mixed = attend(rotate(q, cos, sin), keys[:, :end], values[:, :end], position)
        h = h + F.linear(mixed, layer.o)
        gate, up = F.linear(rms_norm(h, layer.ffn_norm, spec.norm_eps), layer.gate_up).chunk(2, dim=-1)
        return h + F.linear(F.silu(gate) * up, layer.down)
