"""A shard that runs in JAX, on the CPU or an accelerator. The only executor module that imports jax; reach it
through `make_shard`.

One layer is one compiled program, called once per layer with that layer's weights. All layers and all shards
of a spec share it, so a new cut of the model never compiles anything. Shapes are static: the cache has the
full context, a prompt runs alone and is padded to a power of two, and the sessions that decode run together, padded
to a power of two of sessions. So a process compiles a dozen programs, and `warm_up` runs every one of them.
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

from real_backends.executors.checkpoint import Weights, shard_weights
from real_backends.executors.precision import check_dtype, quantise_rows
from real_backends.executors.shard import ExecutorUnavailable, Part, SessionTable, build_layer, check_input
from real_backends.executors.spec import ModelSpec, rope_table

# Full float32 products everywhere: the default precision of an accelerator may drop to bfloat16 or TF32.
_einsum = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
_COMPUTE = {"fp32": jnp.float32, "bf16": jnp.bfloat16, "fp16": jnp.float16, "int8": jnp.float32}
BUCKET_MIN = 16  # a shorter prompt is padded to it: on a CPU 16 rows cost little more than one, a program 0.8 s
BATCH_MAX = 8  # assumption: more sessions in one program save little and compile long; a larger step runs in several


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
    """Keys and values of one layer, each [kv_heads, context, head_dim]."""

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


@partial(jax.jit, static_argnames="spec", donate_argnames="caches")
def _layer(
    spec: ModelSpec,
    layer: JaxLayer,
    rope: tuple[jax.Array, jax.Array],
    caches: tuple[LayerCache, ...],
    h: jax.Array,
    positions: jax.Array,
) -> tuple[list[LayerCache], jax.Array]:
    """One layer over h [sessions, n, hidden], the first token of each session at its entry of `positions`."""
    sessions, count, _ = h.shape
    joined = product(rms_norm(h, layer.attn_norm, spec.norm_eps), layer.qkv)
    joined = joined.reshape(sessions, count, -1, spec.head_dim)
    mixed, extended = [], []
    for index, cache in enumerate(caches):  # unrolled: each session's cache is extended in place
        position = positions[index]
        cos, sin = (jax.lax.dynamic_slice_in_dim(table, position, count) for table in rope)
        q, k, v = jnp.split(joined[index], (spec.heads, spec.heads + spec.kv_heads), axis=1)
        keys = jnp.swapaxes(rotate(k, cos, sin), 0, 1)
        grown = LayerCache(
            jax.lax.dynamic_update_slice_in_dim(cache.keys, keys, position, axis=1),
            jax.lax.dynamic_update_slice_in_dim(cache.values, jnp.swapaxes(v, 0, 1), position, axis=1),
        )
        extended.append(grown)
        mixed.append(attend(rotate(q, cos, sin), grown, position))
    h = h + product(jnp.stack(mixed), layer.o)
    gate, up = jnp.split(product(rms_norm(h, layer.ffn_norm, spec.norm_eps), layer.gate_up), 2, axis=-1)
    return extended, h + product(jax.nn.silu(gate) * up, layer.down)


@jax.jit
def _look_up(embed: jax.Array, tokens: jax.Array) -> jax.Array:
    return embed[tokens]


@partial(jax.jit, static_argnames="eps")
def _logits(h: jax.Array, rows: jax.Array, norm: jax.Array, head: JaxMatrix, eps: float) -> jax.Array:
    """float32 logits [sessions, vocab] of row `rows[s]` of each session of h [sessions, n, hidden]."""
    newest = jnp.take_along_axis(h, rows[:, None, None], axis=1)[:, 0]
    return product(rms_norm(newest, norm, eps), head).astype(jnp.float32)


def chunk_size(count: int, room: int) -> tuple[int, int]:
    """(tokens, padded size) of the next chunk of a prompt; the size is 1 or a power of two from `BUCKET_MIN` on.

    Usually all `count` tokens, padded up. When the padding would run over the `room` left in the cache, where
    the update would be shifted back over good entries, the largest size that `count` fills.
    """
    if count == 1:
        return 1, 1
    padded = max(BUCKET_MIN, 1 << (count - 1).bit_length())
    if padded <= room:
        return count, padded
    whole = 1 << (count.bit_length() - 1)
    return (whole, whole) if whole >= BUCKET_MIN else (1, 1)


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

    def __init__(self, spec: ModelSpec, weights: Weights, first: int, last: int, *, device: str, dtype: str) -> None:
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
        self._table: SessionTable[list[LayerCache]] = SessionTable(spec)
        self._padding: list[list[LayerCache]] = []  # caches of the sessions that only fill a batch up

    def warm_up(self, sessions: int = 1) -> None:
        """See `Shard.warm_up`. One layer is enough: all layers share its programs."""
        x = np.zeros(1, np.int64) if self.first == 0 else np.zeros((1, self.spec.hidden), np.float32)
        batches = 1 + (min(sessions, BATCH_MAX) - 1).bit_length()
        sizes = [(1 << n, 1) for n in range(batches)]
        prompts = range(BUCKET_MIN.bit_length() - 1, self.spec.context.bit_length())
        for count, padded in [*sizes, *((1, 1 << n) for n in prompts)]:
            self._run([self._new_caches()[:1] for _ in range(count)], [x] * count, [0] * count, padded)

    def forward(self, session: str, x: npt.NDArray[Any], position: int) -> npt.NDArray[np.float32]:
        """See `Shard.forward`."""
        return self.step([Part(session, x, position)])[0]

    def step(self, parts: Sequence[Part]) -> list[npt.NDArray[np.float32]]:
        """See `Shard.step`."""
        for part in parts:
            check_input(self.spec, self.first, part.x)
        caches = self._table.claim(parts, self._new_caches)
        results: dict[int, npt.NDArray[np.float32]] = {}
        try:
            decoding = [index for index, part in enumerate(parts) if len(part.x) == 1]
            for begin in range(0, len(decoding), BATCH_MAX):
                together = decoding[begin : begin + BATCH_MAX]
                xs, positions = [parts[i].x for i in together], [parts[i].position for i in together]
                results |= zip(together, self._run([caches[i] for i in together], xs, positions, 1), strict=True)
            for index, part in enumerate(parts):
                if len(part.x) > 1:
                    results[index] = self._prompt(caches[index], part)
        except BaseException:
            for part in parts:
                self._table.drop(part.session)  # the old caches were given away and the new ones are half written
            self._padding.clear()
            raise
        for part, cache in zip(parts, caches, strict=True):
            self._table.store(part.session, cache, part.position + len(part.x))
        return [results[index] for index in range(len(parts))]

    def cached(self, session: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """See `Shard.cached`."""
        layers, length = self._table.find(session)

        def joined(parts: Sequence[jax.Array]) -> npt.NDArray[np.float32]:
            # Cut on the host: every length would be a program of its own.
            return np.stack([np.asarray(part)[:, :length].swapaxes(0, 1).astype(np.float32) for part in parts])

        return joined([layer.keys for layer in layers]), joined([layer.values for layer in layers])

    def drop(self, session: str) -> None:
        """See `Shard.drop`."""
        self._table.drop(session)

    def sessions(self) -> int:
        """See `Shard.sessions`."""
        return len(self._table)

    def kv_bytes(self) -> int:
        """See `Shard.kv_bytes`."""
        return self._table.allocated_bytes()

    def _new_caches(self) -> list[LayerCache]:
        shape = (self.spec.kv_heads, self.spec.context, self.spec.head_dim)

        def zeros() -> jax.Array:
            return jnp.zeros(shape, self._compute, device=self._device)

        return [LayerCache(zeros(), zeros()) for _ in self._layers]

    def _prompt(self, caches: list[LayerCache], part: Part) -> npt.NDArray[np.float32]:
        """Run several tokens of one session, in padded chunks."""
        outputs: list[npt.NDArray[np.float32]] = []
        done = 0
        while done < len(part.x):
            size, padded = chunk_size(len(part.x) - done, self.spec.context - part.position - done)
            outputs += self._run([caches], [part.x[done : done + size]], [part.position + done], padded)
            done += size
        return outputs[-1] if self._head is not None or len(outputs) == 1 else np.concatenate(outputs)

    def _run(
        self, caches: Sequence[list[LayerCache]], xs: Sequence[npt.NDArray[Any]], positions: Sequence[int], padded: int
    ) -> list[npt.NDArray[np.float32]]:
        """Run one padded block, replacing each entry of `caches`; fewer of them than layers run these layers only."""
        sessions = 1 << (len(xs) - 1).bit_length()
        while len(self._padding) < sessions - len(xs):
            self._padding.append(self._new_caches())
        caches = [*caches, *self._padding[: sessions - len(xs)]]
        kind = np.int32 if self._embed is not None else np.float32  # int32: JAX has no int64 unless asked for
        block = np.zeros((sessions, padded, *xs[0].shape[1:]), kind)
        starts, rows = np.zeros((2, sessions), np.int32)
        for index, (x, position) in enumerate(zip(xs, positions, strict=True)):
            block[index, : len(x)], starts[index], rows[index] = x, position, len(x) - 1
        h, start = jax.device_put(block, self._device), jax.device_put(starts, self._device)
        h = h.astype(self._compute) if self._embed is None else _look_up(self._embed, h)
        for index, layer in enumerate(self._layers[: len(caches[0])]):
            extended, h = _layer(self.spec, layer, self._rope, tuple(own[index] for own in caches), h, start)
            for own, cache in zip(caches, extended, strict=True):
                own[index] = cache
        if self._norm is not None and self._head is not None:
            row = jax.device_put(rows, self._device)
            logits = np.array(_logits(h, row, self._norm, self._head, self.spec.norm_eps))
            return list(logits[: len(xs)])
        out = np.array(h.astype(jnp.float32))
        return [out[index, : len(x)] for index, x in enumerate(xs)]
