"""A shard that runs in JAX, on the CPU or an accelerator. The only executor module that imports jax; reach it
through `make_shard`.

One layer is one compiled program, called once per layer with that layer's weights and its blocks of the pool. All
layers and all shards of a spec share it, so a new cut of the model never compiles anything. Shapes are static: a
session's blocks are gathered to the full context, a prompt runs alone and is padded to a power of two, and the sessions
that decode run together, padded to a power of two of sessions; what only fills up is written nowhere. So a process
compiles a dozen programs, and `warm_up` runs every one of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from policies.serving.batching import BLOCK_TOKENS
from real_backends.executors.checkpoint import Weights, shard_weights
from real_backends.executors.pool import Cache, SessionTable
from real_backends.executors.precision import check_dtype, quantise_rows
from real_backends.executors.shard import ExecutorUnavailable, Part, build_layer, check_input
from real_backends.executors.spec import ModelSpec, rope_table
from scenarios.starts import BATCH_MAX, padded_size, warmed_sizes

# Full float32 products everywhere: the default precision of an accelerator may drop to bfloat16 or TF32.
_einsum = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
_COMPUTE = {"fp32": jnp.float32, "bf16": jnp.bfloat16, "fp16": jnp.float16, "int8": jnp.float32}
PUT_TOKENS = 64  # rows that are put into a pool at once; a copy has a few, or hundreds (`Shard.restore`)


class JaxMatrix(NamedTuple):
    """A matrix [output, input] with its bias [output]; `scales` [output] where `values` are int8."""

    values: jax.Array
    scales: jax.Array | None = None
    bias: jax.Array | None = None


class JaxLayer(NamedTuple):
    """One layer's weights; q, k, v and gate, up are joined so that each norm is followed by one product."""

    attn_norm: jax.Array
    qkv: JaxMatrix
    o: JaxMatrix
    ffn_norm: jax.Array
    gate_up: JaxMatrix
    down: JaxMatrix


class LayerCache(NamedTuple):
    """Keys and values of one layer, each [kv_heads, tokens, head_dim]: of a session, or of the pool."""

    keys: jax.Array
    values: jax.Array


def product(x: jax.Array, matrix: JaxMatrix) -> jax.Array:
    """x [..., input] times the matrix, plus its bias: [..., output]."""
    result = _einsum("...i,oi->...o", x, matrix.values.astype(x.dtype))
    if matrix.scales is not None:
        result = result * matrix.scales
    return result if matrix.bias is None else result + matrix.bias


def rms_norm(x: jax.Array, weight: jax.Array, eps: float) -> jax.Array:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (arXiv 1910.07467, equation 4), the root in float32."""
    wide = x.astype(jnp.float32)
    return (wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + eps)).astype(x.dtype) * weight


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
    share = jax.nn.softmax(jnp.where(future, -jnp.inf, scores).astype(jnp.float32), axis=-1)
    return _einsum("kgnt,ktd->nkgd", share.astype(q.dtype), cache.values).reshape(count, heads * width)


class Places(NamedTuple):
    """Where the tokens of a step are in the pool.

    `positions` [sessions] of each session's first new token; `new` [sessions, n], the place of each new token, the size
    of the pool for what is only padding; `blocks` [sessions, context / 16], those that a session holds, then any.
    """

    positions: jax.Array
    new: jax.Array
    blocks: jax.Array


@partial(jax.jit, static_argnames="spec", donate_argnames="pool")
def _layer(
    spec: ModelSpec, layer: JaxLayer, rope: tuple[jax.Array, jax.Array], pool: LayerCache, h: jax.Array, places: Places
) -> tuple[LayerCache, jax.Array]:
    """One layer over h [sessions, n, hidden]; the pool's arrays are extended in place."""
    sessions, count, _ = h.shape
    joined = product(rms_norm(h, layer.attn_norm, spec.norm_eps), layer.qkv)
    joined = joined.reshape(sessions, count, -1, spec.head_dim)
    q, k, v = jnp.split(joined, (spec.heads, spec.heads + spec.kv_heads), axis=2)
    rows = places.positions[:, None] + jnp.arange(count, dtype=jnp.int32)
    cos, sin = (jnp.take(table, rows, axis=0, mode="clip") for table in rope)  # what is beyond is padding
    turn = jax.vmap(rotate)
    q, k = turn(q, cos, sin), turn(k, cos, sin)
    grown = LayerCache(*(_write(kept, new, places.new) for kept, new in zip(pool, (k, v), strict=True)))
    own = LayerCache(*(_read(kept, places.blocks) for kept in grown))
    mixed = jax.vmap(attend, in_axes=(0, 1, 0))(q, own, places.positions)
    h = h + product(mixed, layer.o)
    gate, up = jnp.split(product(rms_norm(h, layer.ffn_norm, spec.norm_eps), layer.gate_up), 2, axis=-1)
    return grown, h + product(jax.nn.silu(gate) * up, layer.down)


def _write(kept: jax.Array, new: jax.Array, places: jax.Array) -> jax.Array:
    """Put rows new [sessions, n, kv_heads, head_dim] at their places; one that is beyond the pool goes nowhere."""
    rows = jnp.moveaxis(new, 2, 0).reshape(kept.shape[0], -1, kept.shape[2])
    return kept.at[:, places.reshape(-1)].set(rows, mode="drop")


def _read(kept: jax.Array, blocks: jax.Array) -> jax.Array:
    """Return what sessions hold, [kv_heads, sessions, context, head_dim]."""
    heads, _, width = kept.shape
    found = kept.reshape(heads, -1, BLOCK_TOKENS, width)[:, blocks]
    return found.reshape(heads, len(blocks), -1, width)


@jax.jit
def _look_up(embed: jax.Array, tokens: jax.Array) -> jax.Array:
    return embed[tokens]


@partial(jax.jit, static_argnames="eps")
def _logits(h: jax.Array, rows: jax.Array, norm: jax.Array, head: JaxMatrix, eps: float) -> jax.Array:
    """float32 logits [sessions, vocab] of row `rows[s]` of each session of h [sessions, n, hidden]."""
    newest = jnp.take_along_axis(h, rows[:, None, None], axis=1)[:, 0]
    return product(rms_norm(newest, norm, eps), head).astype(jnp.float32)


@partial(jax.jit, donate_argnums=0)
def _put(pool: jax.Array, places: jax.Array, rows: jax.Array) -> jax.Array:
    """Put rows [n, kv_heads, head_dim] into a pool [kv_heads, tokens, head_dim]; places past its end take none."""
    return pool.at[:, places].set(rows.swapaxes(0, 1), mode="drop")


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

    def __init__(
        self, spec: ModelSpec, weights: Weights, first: int, last: int, *,
        device: str, dtype: str, blocks: int | None,
    ) -> None:  # fmt: skip
        check_dtype(dtype)
        part = shard_weights(spec, weights, first, last)
        self.spec, self.first, self.last, self.dtype = spec, first, last, dtype
        self.threads = pool_threads()
        self._device, self._compute = pick_device(device), _COMPUTE[dtype]
        self.device = "cpu" if self._device.platform == "cpu" else "cuda"

        def vector(*names: str) -> jax.Array:
            joined = np.concatenate([np.asarray(part[name]) for name in names])
            return jnp.asarray(joined, dtype=self._compute, device=self._device)

        def matrix(*names: str) -> JaxMatrix:
            biases = [f"{name}_bias" for name in names if f"{name}_bias" in part]
            bias = vector(*biases) if biases else None
            if dtype != "int8":
                return JaxMatrix(vector(*names), None, bias)
            values, scales = zip(*(quantise_rows(np.asarray(part[name])) for name in names), strict=True)
            return JaxMatrix(
                jnp.asarray(np.concatenate(values), device=self._device),
                jnp.asarray(np.concatenate(scales), device=self._device),
                bias,
            )

        self._layers = [build_layer(index, vector, matrix, JaxLayer) for index in range(first, last)]
        self._embed = vector("embed") if first == 0 else None
        self._norm = vector("norm") if last == spec.layers else None
        self._head = matrix("embed" if spec.tied_head else "head") if last == spec.layers else None
        cos, sin = (jnp.asarray(table, dtype=self._compute, device=self._device) for table in rope_table(spec))
        self._rope = (cos, sin)
        self.table = SessionTable(spec, blocks)
        self._pool = self._new_pool()

    def warm_up(self, sessions: int = 1) -> None:
        """See `Shard.warm_up`. One layer is enough: all layers share its programs."""
        x = np.zeros(1, np.int64) if self.first == 0 else np.zeros((1, self.spec.hidden), np.float32)
        for count, padded in warmed_sizes("jax", self.spec.context, sessions):
            self._run([], [x] * count, padded, 1)
        layer, nowhere = self._pool[0], np.full(1, self._pool[0].keys.shape[1])
        rows = np.zeros((1, self.spec.kv_heads, self.spec.head_dim))
        self._pool[0] = LayerCache(self._put(layer.keys, nowhere, rows), layer.values)

    def forward(self, session: str, x: npt.NDArray[Any], position: int) -> npt.NDArray[np.float32]:
        """See `Shard.forward`."""
        return self.step([Part(session, x, position)])[0]

    def step(self, parts: Sequence[Part]) -> list[npt.NDArray[np.float32]]:
        """See `Shard.step`."""
        for part in parts:
            check_input(self.spec, self.first, part.x)
        caches = self.table.claim(parts)
        results: dict[int, npt.NDArray[np.float32]] = {}
        decoding = [index for index, part in enumerate(parts) if len(part.x) == 1]
        groups = [decoding[begin : begin + BATCH_MAX] for begin in range(0, len(decoding), BATCH_MAX)]
        groups += [[index] for index, part in enumerate(parts) if len(part.x) > 1]
        try:
            for group in groups:
                xs = [parts[index].x for index in group]
                found = self._run([caches[index] for index in group], xs, padded_size(len(xs[0])), len(self._layers))
                results |= zip(group, found, strict=True)
        except BaseException:
            self.table.clear()  # the pool was given away, and a new one has nothing in it
            self._pool = self._new_pool()
            raise
        for part, cache in zip(parts, caches, strict=True):
            cache.length = part.position + len(part.x)
        return [results[index] for index in range(len(parts))]

    def cached(self, session: str, begin: int = 0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """See `Shard.cached`."""
        cache = self.table.find(session)
        places = cache.places(begin, cache.length)

        def joined(parts: Sequence[jax.Array]) -> npt.NDArray[np.float32]:
            # Cut on the host: every length would be a program of its own.
            return np.stack([np.asarray(part)[:, places].swapaxes(0, 1).astype(np.float32) for part in parts])

        return joined([layer.keys for layer in self._pool]), joined([layer.values for layer in self._pool])

    def restore(self, session: str, keys: npt.NDArray[Any], values: npt.NDArray[Any], position: int) -> None:
        """See `Shard.restore`."""
        part, cache = self.table.claim_rows(session, keys, position)
        places = cache.places(position, position + len(part.x))
        for index, layer in enumerate(self._pool):
            self._pool[index] = LayerCache(
                self._put(layer.keys, places, keys[index]), self._put(layer.values, places, values[index])
            )
        cache.length = position + len(part.x)

    def _put(self, pool: jax.Array, places: npt.NDArray[np.int64], rows: npt.NDArray[Any]) -> jax.Array:
        """Put rows [n, kv_heads, head_dim] into a layer's keys or values, some at a time: one program does for all."""
        for begin in range(0, len(places), PUT_TOKENS):
            some = slice(begin, begin + PUT_TOKENS)
            at = np.full(PUT_TOKENS, pool.shape[1], np.int32)  # past the end, where nothing is written
            block = np.zeros((PUT_TOKENS, *rows.shape[1:]), np.float32)
            at[: len(places[some])], block[: len(places[some])] = places[some], rows[some]
            on_device = jax.device_put(block, self._device).astype(self._compute)
            pool = _put(pool, jax.device_put(at, self._device), on_device)
        return pool

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
        return sum(array.nbytes for layer in self._pool for array in layer)

    def _new_pool(self) -> list[LayerCache]:
        shape = (self.spec.kv_heads, len(self.table.blocks) * BLOCK_TOKENS, self.spec.head_dim)

        def zeros() -> jax.Array:
            return jnp.zeros(shape, self._compute, device=self._device)

        return [LayerCache(zeros(), zeros()) for _ in self._layers]

    def _places(self, caches: Sequence[Cache], xs: Sequence[npt.NDArray[Any]], sessions: int, padded: int) -> Places:
        positions = np.zeros(sessions, np.int32)
        new = np.full((sessions, padded), len(self.table.blocks) * BLOCK_TOKENS, np.int32)
        blocks = np.zeros((sessions, -(-self.spec.context // BLOCK_TOKENS)), np.int32)
        for index, (cache, x) in enumerate(zip(caches, xs, strict=False)):
            begin = positions[index] = cache.length
            new[index, : len(x)] = cache.places(begin, begin + len(x))
            blocks[index, : len(cache.blocks)] = cache.blocks
        return Places(*(jax.device_put(array, self._device) for array in (positions, new, blocks)))

    def _run(
        self, caches: Sequence[Cache], xs: Sequence[npt.NDArray[Any]], padded: int, layers: int
    ) -> list[npt.NDArray[np.float32]]:
        """Run one padded block of rows behind what caches hold, over so many layers; without caches nothing is kept."""
        sessions = 1 << (len(xs) - 1).bit_length()
        kind = np.int32 if self._embed is not None else np.float32  # int32: JAX has no int64 unless asked for
        block, rows = np.zeros((sessions, padded, *xs[0].shape[1:]), kind), np.zeros(sessions, np.int32)
        for index, x in enumerate(xs):
            block[index, : len(x)], rows[index] = x, len(x) - 1
        h = jax.device_put(block, self._device)
        h = h.astype(self._compute) if self._embed is None else _look_up(self._embed, h)
        places = self._places(caches, xs, sessions, padded)
        for index, layer in enumerate(self._layers[:layers]):
            self._pool[index], h = _layer(self.spec, layer, self._rope, self._pool[index], h, places)
        if self._norm is not None and self._head is not None:
            row = jax.device_put(rows, self._device)
            logits = np.array(_logits(h, row, self._norm, self._head, self.spec.norm_eps))
            return list(logits[: len(xs)])
        out = np.array(h.astype(jnp.float32))
        return [out[index, : len(x)] for index, x in enumerate(xs)]
