"""A shard that runs in torch, on the CPU or on CUDA.

The sessions of a step are joined row by row: norms, products and the feed-forward see all new tokens of all sessions
as one matrix, and only attention runs session by session, each over its own blocks. The pool of a layer is one array
for the keys of each head and one for the values, so that blocks that lie one behind another are read in place. Besides
the reference this is the only executor module that imports torch; reach it through `make_shard`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from policies.serving.batching import BLOCK_TOKENS
from real_backends.executors.checkpoint import Weights, shard_weights
from real_backends.executors.pool import Cache, SessionTable
from real_backends.executors.precision import check_dtype, quantise_rows
from real_backends.executors.shard import ExecutorUnavailable, Part, build_layer, check_input
from real_backends.executors.spec import ModelSpec, rope_table

_COMPUTE = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32}


class TorchMatrix(NamedTuple):
    """A matrix [output, input] with its bias [output]; `scales` [output] where `values` are int8."""

    values: torch.Tensor
    scales: torch.Tensor | None = None
    bias: torch.Tensor | None = None


class TorchLayer(NamedTuple):
    """One layer's weights; q, k, v and gate, up are joined so that each norm is followed by one product."""

    attn_norm: torch.Tensor
    qkv: TorchMatrix
    o: TorchMatrix
    ffn_norm: torch.Tensor
    gate_up: TorchMatrix
    down: TorchMatrix


class TorchSpan(NamedTuple):
    """Where the tokens of one session are in the pool: slices where its blocks lie one behind another, else indices.

    `new` are the places of its new tokens. Of all its tokens up to the newest there is `read`: their places, or the
    blocks that have them; `length` says how many they are.
    """

    new: slice | torch.Tensor
    read: slice | torch.Tensor
    length: int


def product(x: torch.Tensor, matrix: TorchMatrix) -> torch.Tensor:
    """x [n, input] times the matrix, plus its bias: [n, output]."""
    if matrix.scales is None:
        return F.linear(x, matrix.values, matrix.bias)
    result = F.linear(x, matrix.values.to(x.dtype)) * matrix.scales
    return result if matrix.bias is None else result + matrix.bias


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (arXiv 1910.07467, equation 4), the root in float32."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype) * weight


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
    mixed = torch.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype) @ values
    return mixed.view(kv_heads, -1, count, width).permute(2, 0, 1, 3).reshape(count, heads * width)


def write(pool: torch.Tensor, span: TorchSpan, rows: torch.Tensor) -> None:
    """Put a session's new rows [n, kv_heads, head_dim] into the pool [kv_heads, tokens, head_dim] of a layer."""
    if isinstance(span.new, slice):
        pool[:, span.new] = rows.transpose(0, 1)
    else:
        pool.index_copy_(1, span.new, rows.transpose(0, 1))


def read(pool: torch.Tensor, span: TorchSpan) -> torch.Tensor:
    """Return all rows of a session, [kv_heads, length, head_dim]: in place, or a copy of its blocks."""
    if isinstance(span.read, slice):
        return pool[:, span.read]
    blocks = pool.view(len(pool), -1, BLOCK_TOKENS * pool.shape[2]).index_select(1, span.read)
    return blocks.view(len(pool), -1, pool.shape[2])[:, : span.length]


def pick_device(device: str) -> torch.device:
    """`auto` is CUDA when present, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ExecutorUnavailable("device 'cuda' is not present for torch: use 'cpu' or 'auto'")
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device: {device!r} is not allowed, expected 'auto', 'cpu' or 'cuda'")
    return torch.device(device)


def demand_precision() -> None:
    """Forbid what trades digits for speed; these are settings of the whole process."""
    torch.set_float32_matmul_precision("highest")  # no TF32, no bfloat16 inside float32 products
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


class TorchShard:
    """Layers [first, last) in torch; see `Shard` for what it promises."""

    backend = "torch"

    def __init__(
        self, spec: ModelSpec, weights: Weights, first: int, last: int, *,
        threads: int, device: str, dtype: str, blocks: int | None,
    ) -> None:  # fmt: skip
        check_dtype(dtype)
        part = shard_weights(spec, weights, first, last)
        self.spec, self.first, self.last, self.threads, self.dtype = spec, first, last, threads, dtype
        self._device, self._compute = pick_device(device), _COMPUTE[dtype]
        self.device = self._device.type
        demand_precision()

        def vector(*names: str) -> torch.Tensor:
            joined = np.concatenate([np.asarray(part[name]) for name in names])
            return torch.tensor(joined).to(self._device, self._compute)

        def matrix(*names: str) -> TorchMatrix:
            biases = [f"{name}_bias" for name in names if f"{name}_bias" in part]
            bias = vector(*biases) if biases else None
            if dtype != "int8":
                return TorchMatrix(vector(*names), None, bias)
            values, scales = zip(*(quantise_rows(np.asarray(part[name])) for name in names), strict=True)
            return TorchMatrix(
                torch.tensor(np.concatenate(values), device=self._device),
                torch.tensor(np.concatenate(scales), device=self._device),
                bias,
            )

        self._layers = [build_layer(index, vector, matrix, TorchLayer) for index in range(first, last)]
        self._embed = vector("embed") if first == 0 else None
        self._norm = vector("norm") if last == spec.layers else None
        self._head = matrix("embed" if spec.tied_head else "head") if last == spec.layers else None
        self._rope = tuple(torch.tensor(table).to(self._device, self._compute) for table in rope_table(spec))
        self.table = SessionTable(spec, blocks)
        self._pool = self._new_pool(len(self.table.blocks))

    def warm_up(self, sessions: int = 1) -> None:
        """See `Shard.warm_up`: the first product starts torch's threads and allocator; nothing is compiled."""
        x = np.zeros(1, np.int64) if self.first == 0 else np.zeros((1, self.spec.hidden), np.float32)
        self._run([Part("", x, 0)], [TorchSpan(slice(0, 1), slice(0, 1), 1)], self._new_pool(1))

    def forward(self, session: str, x: npt.NDArray[Any], position: int) -> npt.NDArray[np.float32]:
        """See `Shard.forward`."""
        return self.step([Part(session, x, position)])[0]

    def step(self, parts: Sequence[Part]) -> list[npt.NDArray[np.float32]]:
        """See `Shard.step`."""
        for part in parts:
            check_input(self.spec, self.first, part.x)
        caches = self.table.claim(parts)
        spans = [self._span(part, cache) for part, cache in zip(parts, caches, strict=True)]
        results = self._run(parts, spans, self._pool)
        for span, cache in zip(spans, caches, strict=True):
            cache.length = span.length
        return results

    def cached(self, session: str, begin: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """See `Shard.cached`."""
        cache = self.table.find(session)
        places = torch.from_numpy(cache.places(begin, cache.length)).to(self._device)
        keys, values = (part[:, :, places].transpose(1, 2).float().cpu().contiguous().numpy() for part in self._pool)
        return keys, values

    def restore(self, session: str, keys: npt.NDArray[Any], values: npt.NDArray[Any], position: int) -> None:
        """See `Shard.restore`."""
        part, cache = self.table.claim_rows(session, keys, position)
        span = self._span(part, cache)
        with torch.inference_mode():
            for pool, rows in zip(self._pool, (keys, values), strict=True):
                for layer, of_layer in zip(pool, torch.tensor(rows).to(self._device, self._compute), strict=True):
                    write(layer, span, of_layer)
        cache.length = span.length

    def rename(self, session: str, name: str) -> None:
        """See `Shard.rename`."""
        self.table.rename(session, name)

    def drop(self, session: str) -> None:
        """See `Shard.drop`."""
        self.table.drop(session)

    def sessions(self) -> int:
        """See `Shard.sessions`."""
        return len(self.table)

    def kv_bytes(self) -> int:
        """See `Shard.kv_bytes`."""
        return self.pool_bytes() // len(self.table.blocks) * self.table.held

    def pool_bytes(self) -> int:
        """See `Shard.pool_bytes`."""
        return self._pool.nbytes

    def _new_pool(self, blocks: int) -> torch.Tensor:
        """Keys and values [2, layers, kv_heads, tokens, head_dim]; what no session wrote there is never read."""
        spec = self.spec
        shape = (2, self.last - self.first, spec.kv_heads, blocks * BLOCK_TOKENS, spec.head_dim)
        return torch.empty(shape, dtype=self._compute, device=self._device)

    def _span(self, part: Part, cache: Cache) -> TorchSpan:
        end = part.position + len(part.x)
        if (span := cache.span(end)) is not None:
            return TorchSpan(slice(span.stop - len(part.x), span.stop), span, end)
        new = torch.from_numpy(cache.places(part.position, end)).to(self._device)
        return TorchSpan(new, torch.tensor(cache.blocks, device=self._device), end)

    def _run(
        self, parts: Sequence[Part], spans: Sequence[TorchSpan], pool: torch.Tensor
    ) -> list[npt.NDArray[np.float32]]:
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)  # a setting of the process: the shard that runs decides
        counts = [len(part.x) for part in parts]
        with torch.inference_mode():
            joined = parts[0].x if len(parts) == 1 else np.concatenate([part.x for part in parts])
            h = torch.tensor(joined, device=self._device)
            h = h.to(self._compute) if self._embed is None else self._embed[h]
            rows = [slice(part.position, part.position + count) for part, count in zip(parts, counts, strict=True)]
            cos, sin = (torch.cat([table[at] for at in rows]) for table in self._rope)
            for index, layer in enumerate(self._layers):
                h = self._layer(layer, h, pool[0, index], pool[1, index], spans, counts, cos, sin)
            if self._norm is None or self._head is None:
                return list(np.split(h.float().cpu().numpy(), np.cumsum(counts)[:-1]))
            last = torch.tensor(np.cumsum(counts) - 1, device=self._device)
            logits = product(rms_norm(h[last], self._norm, self.spec.norm_eps), self._head)
            return list(logits.float().cpu().numpy())

    def _layer(
        self,
        layer: TorchLayer,
        h: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        spans: Sequence[TorchSpan],
        counts: Sequence[int],
        cos: torch.Tensor,
        sin: torch.Tensor,
    ) -> torch.Tensor:
        spec = self.spec
        joined = product(rms_norm(h, layer.attn_norm, spec.norm_eps), layer.qkv)
        parts = [spec.heads, spec.kv_heads, spec.kv_heads]
        q, k, v = torch.split(joined.view(len(h), -1, spec.head_dim), parts, dim=1)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        mixed, done = [], 0
        for span, count in zip(spans, counts, strict=True):
            mine = slice(done, done := done + count)
            write(keys, span, k[mine])
            write(values, span, v[mine])
            mixed.append(attend(q[mine], read(keys, span), read(values, span), span.length - count))
        h = h + product(mixed[0] if len(mixed) == 1 else torch.cat(mixed), layer.o)
        gate, up = product(rms_norm(h, layer.ffn_norm, spec.norm_eps), layer.gate_up).chunk(2, dim=-1)
        return h + product(F.silu(gate) * up, layer.down)
