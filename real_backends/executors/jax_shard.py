"""A shard that runs in JAX, on the CPU or an accelerator. The only executor module that imports jax; reach it
through `make_shard`.

One layer is one compiled program, called once per layer with that layer's weights. All layers and all shards
of a spec share it, so a new cut of the model never compiles anything. Shapes are static: the cache has the
full context, and a prefill is padded to a power of two, so a process compiles log2(context) + 1 programs at
most, and decode one.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from real_backends.executors.checkpoint import Weights, shard_weights
from real_backends.executors.shard import ExecutorUnavailable, SessionTable, check_input
from real_backends.executors.spec import ModelSpec, rope_table

# Full float32 products everywhere: the default precision of an accelerator may drop to bfloat16 or TF32.
_einsum = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


class JaxLayer(NamedTuple):
    """One layer's weights; q, k, v and gate, up are joined so that each norm is followed by one product."""

    attn_norm: jax.Array
    qkv: jax.Array
    o: jax.Array
    ffn_norm: jax.Array
    gate_up: jax.Array
    down: jax.Array


class LayerCache(NamedTuple):
    """Keys and values of one layer, each [kv_heads, context, head_dim]."""

    keys: jax.Array
    values: jax.Array


def rms_norm(x: jax.Array, weight: jax.Array, eps: float) -> jax.Array:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (arXiv 1910.07467, equation 4)."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + eps) * weight


def rotate(x: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Turn each pair (i, i + head_dim / 2) of x [n, heads, head_dim] by its position's angle.

    `cos` and `sin` are [n, head_dim / 2], the rows of `rope_table` for the n positions.
    """
    low, high = jnp.split(x, 2, axis=-1)
    cos, sin = cos[:, None, :], sin[:, None, :]
    return jnp.concatenate((low * cos - high * sin, high * cos + low * sin), axis=-1)


def attend(q: jax.Array, cache: LayerCache, position: jax.Array) -> jax.Array:
    """Causal grouped-query attention of q [n, heads, head_dim], the first at `position`, over a whole cache.

    Entries of the cache past a query's own position, filled or not, are masked out. Returns [n, heads *
    head_dim].
    """
    count, heads, width = q.shape
    kv_heads, context, _ = cache.keys.shape
    grouped = q.reshape(count, kv_heads, heads // kv_heads, width)
    scores = _einsum("nkgd,ktd->kgnt", grouped, cache.keys) * width**-0.5
    row = position + jnp.arange(count, dtype=jnp.int32)
    future = jnp.arange(context, dtype=jnp.int32)[None, :] > row[:, None]
    share = jax.nn.softmax(jnp.where(future, -jnp.inf, scores), axis=-1)
    return _einsum("kgnt,ktd->nkgd", share, cache.values).reshape(count, heads * width)


@partial(jax.jit, static_argnames="spec", donate_argnames="cache")
def _layer(
    spec: ModelSpec,
    layer: JaxLayer,
    rope: tuple[jax.Array, jax.Array],
    cache: LayerCache,
    h: jax.Array,
    position: jax.Array,
) -> tuple[LayerCache, jax.Array]:
    count, eps = h.shape[0], spec.norm_eps
    cos, sin = (jax.lax.dynamic_slice_in_dim(table, position, count) for table in rope)
    joined = _einsum("nh,oh->no", rms_norm(h, layer.attn_norm, eps), layer.qkv)
    joined = joined.reshape(count, -1, spec.head_dim)
    q, k, v = jnp.split(joined, (spec.heads, spec.heads + spec.kv_heads), axis=1)
    keys = jnp.swapaxes(rotate(k, cos, sin), 0, 1)
    cache = LayerCache(
        jax.lax.dynamic_update_slice_in_dim(cache.keys, keys, position, axis=1),
        jax.lax.dynamic_update_slice_in_dim(cache.values, jnp.swapaxes(v, 0, 1), position, axis=1),
    )
    mixed = attend(rotate(q, cos, sin), cache, position)
    h = h + _einsum("no,ho->nh", mixed, layer.o)
    gate, up = jnp.split(_einsum("nh,oh->no", rms_norm(h, layer.ffn_norm, eps), layer.gate_up), 2, axis=-1)
    return cache, h + _einsum("no,ho->nh", jax.nn.silu(gate) * up, layer.down)


@jax.jit
def _look_up(embed: jax.Array, tokens: jax.Array) -> jax.Array:
    return embed[tokens]


@partial(jax.jit, static_argnames="eps")
def _logits(h: jax.Array, row: jax.Array, norm: jax.Array, head: jax.Array, eps: float) -> jax.Array:
    return _einsum("h,vh->v", rms_norm(h[row], norm, eps), head)


def chunk_size(count: int, room: int) -> tuple[int, int]:
    """(tokens, padded size) of the next chunk of a prefill, the size a power of two.

    Usually all `count` tokens, padded up. When the padding would run over the `room` left in the cache, where
    the update would be shifted back over good entries, the largest power of two that `count` fills.
    """
    padded = 1 << (count - 1).bit_length()
    if padded <= room:
        return count, padded
    whole = 1 << (count.bit_length() - 1)
    return whole, whole


def pool_threads() -> int:
    """CPU threads in XLA's pool: NPROC, which it reads once when it starts, else one per usable core."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(os.environ.get("NPROC", usable))


def pick_device(device: str) -> jax.Device:
    """`auto` is what JAX prefers: an accelerator when present, else the CPU."""
    if device == "auto":
        return jax.devices()[0]
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device: {device!r} is not allowed, expected 'auto', 'cpu' or 'cuda'")
    try:
        return jax.devices(device)[0]
    except RuntimeError as error:
        raise ExecutorUnavailable(f"device {device!r} is not present for jax: use 'cpu' or 'auto'") from error


class JaxShard:
    """Layers [first, last) in JAX; see `Shard` for what it promises."""

    backend = "jax"

    def __init__(self, spec: ModelSpec, weights: Weights, first: int, last: int, *, device: str) -> None:
        part = shard_weights(spec, weights, first, last)
        self.spec, self.first, self.last = spec, first, last
        self.threads = pool_threads()
        self._device = pick_device(device)
        self.device = "cpu" if self._device.platform == "cpu" else "cuda"

        def load(*names: str) -> jax.Array:
            joined = np.concatenate([part[name] for name in names])
            return jnp.asarray(joined, device=self._device)

        self._layers = []
        for index in range(first, last):
            at = f"layers.{index}."
            self._layers.append(
                JaxLayer(
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
        self._rope = (jax.device_put(cos, self._device), jax.device_put(sin, self._device))
        self._table: SessionTable[list[LayerCache]] = SessionTable(spec)

    def forward(self, session: str, x: npt.NDArray[Any], position: int) -> npt.NDArray[np.float32]:
        """See `Shard.forward`."""
        check_input(self.spec, self.first, x)
        caches = self._table.find(session, position, len(x)) or self._new_caches()
        outputs: list[npt.NDArray[np.float32]] = []
        done = 0
        try:
            while done < len(x):
                size, padded = chunk_size(len(x) - done, self.spec.context - position - done)
                outputs.append(self._chunk(caches, x[done : done + size], padded, position + done))
                done += size
        except BaseException:
            self._table.drop(session)  # the old caches were given away and the new ones are half written
            raise
        self._table.store(session, caches, position + len(x))
        return outputs[-1] if self._head is not None or len(outputs) == 1 else np.concatenate(outputs)

    def drop(self, session: str) -> None:
        """See `Shard.drop`."""
        self._table.drop(session)

    def sessions(self) -> int:
        """See `Shard.sessions`."""
        return len(self._table)

    def _new_caches(self) -> list[LayerCache]:
        shape = (self.spec.kv_heads, self.spec.context, self.spec.head_dim)

        def zeros() -> jax.Array:
            return jnp.zeros(shape, jnp.float32, device=self._device)

        return [LayerCache(zeros(), zeros()) for _ in self._layers]

    def _chunk(
        self, caches: list[LayerCache], x: npt.NDArray[Any], padded: int, position: int
    ) -> npt.NDArray[np.float32]:
        """Run one padded chunk, replacing each entry of `caches`."""
        count = len(x)
        kind = np.int32 if self._embed is not None else np.float32  # int32: JAX has no int64 unless asked for
        block = np.zeros((padded, *x.shape[1:]), kind)
        block[:count] = x
        h = jax.device_put(block, self._device)
        start = jax.device_put(np.int32(position), self._device)
        if self._embed is not None:
            h = _look_up(self._embed, h)
        for index, layer in enumerate(self._layers):
            caches[index], h = _layer(self.spec, layer, self._rope, caches[index], h, start)
        if self._norm is not None and self._head is not None:
            row = jax.device_put(np.int32(count - 1), self._device)
            return np.array(_logits(h, row, self._norm, self._head, self.spec.norm_eps))
        return np.array(h)[:count]
