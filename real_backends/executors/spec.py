"""The shape of a model: sizes, tensor names and the rotary table. No weights and no framework live here."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class RopeScaling:
    """Rotary frequencies slowed for long contexts, the rule "llama3" of Llama 3.1's published configuration.

    Waves longer than `original_context` / `low` positions are slowed by `factor`, those shorter than
    `original_context` / `high` are kept, and in between the two are mixed.

    Source of the rule: `rope_scaling` in meta-llama/Llama-3.1-8B's config.json, as Transformers reads it.
    """

    factor: float
    low: float
    high: float
    original_context: int

    def __post_init__(self) -> None:
        if not (self.factor >= 1 and 0 < self.low < self.high < math.inf and self.original_context >= 1):
            raise ValueError(f"rope_scaling: {self} is not allowed, need factor >= 1, 0 < low < high, context >= 1")


@dataclass(frozen=True)
class ModelSpec:
    """A decoder-only transformer of the Llama family (Touvron et al. 2023, arXiv 2302.13971).

    RMSNorm before each block, rotary positions, grouped-query attention, SwiGLU feed-forward.

    Attributes:
        name: label used in messages and records.
        layers: transformer layers.
        hidden: width of the residual stream.
        heads: query heads.
        kv_heads: key/value heads; each serves heads / kv_heads query heads (Ainslie et al. 2023, arXiv
            2305.13245).
        head_dim: width of one head, even because rotary positions turn pairs.
        ffn: inner width of the feed-forward block.
        vocab: number of token ids.
        context: longest session in tokens.
        rope_theta: base of the rotary frequencies (Su et al. 2021, arXiv 2104.09864 use 10000).
        norm_eps: added to the mean square in RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467).
        tied_head: true when the output head is the embedding table.
        qkv_bias: true when q, k and v add a bias, as in Qwen2 (Yang et al. 2024, arXiv 2407.10671).
        rope_scaling: how the rotary frequencies are slowed, None for not at all.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    context: int = 256
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    tied_head: bool = False
    qkv_bias: bool = False
    rope_scaling: RopeScaling | None = None

    def __post_init__(self) -> None:
        for field in ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab", "context"):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{field}: {value!r} is not allowed, expected an integer of at least 1")
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads: {self.kv_heads} is not allowed, it must divide heads ({self.heads})")
        if self.head_dim % 2:
            raise ValueError(f"head_dim: {self.head_dim} is not allowed, it must be even")
        for field in ("rope_theta", "norm_eps"):
            number = getattr(self, field)
            if not (math.isfinite(number) and number > 0):
                raise ValueError(f"{field}: {number!r} is not allowed, expected a finite number above 0")

    def check_cut(self, first: int, last: int) -> None:
        """Refuse a layer range that is empty or outside the model."""
        if not 0 <= first < last <= self.layers:
            raise ValueError(
                f"shard: layers [{first}, {last}) are not allowed, need 0 <= first < last <= {self.layers}"
            )

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain data, in the order of their definition."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelSpec:
        """The inverse of `as_dict`; an unknown or missing field is one clear error."""
        known = {field.name for field in fields(cls)}
        if set(data) != known:
            raise ValueError(f"spec: fields {sorted(set(data) ^ known)} are unknown or missing")
        scaling = data["rope_scaling"]
        return cls(**{**data, "rope_scaling": None if scaling is None else RopeScaling(**scaling)})


# Sizes are an assumption: small enough that one token costs about a millisecond on one core, and with every
# feature of a large model present (8 query heads share 2 key/value heads; the feed-forward ratio is 3).
DESK_TINY = ModelSpec(
    name="desk-tiny", layers=8, hidden=128, heads=8, kv_heads=2, head_dim=16, ffn=384, vocab=512, context=256
)

# What serves where desk-tiny does not fit: the same vocabulary and context, an eighth of the layers' bytes.
DESK_MINI = replace(DESK_TINY, name="desk-mini", layers=4, hidden=64, heads=4, kv_heads=1, ffn=192)

BIASES = ("q_bias", "k_bias", "v_bias")


def layer_parts(spec: ModelSpec) -> tuple[str, ...]:
    """Names of one layer's tensors, without `layers.N.` before them."""
    return ("attn_norm", "q", "k", "v", *(BIASES if spec.qkv_bias else ()), "o", "ffn_norm", "gate", "up", "down")


def cut_evenly(spec: ModelSpec, shards: int) -> list[tuple[int, int]]:
    """Layer ranges [first, last) of so many shards; sizes differ by one layer at most."""
    if not 1 <= shards <= spec.layers:
        raise ValueError(
            f"shards: {shards} are not allowed, {spec.name!r} has {spec.layers} layers: 1 to {spec.layers}"
        )
    bounds = [spec.layers * index // shards for index in range(shards + 1)]
    return list(itertools.pairwise(bounds))


def tensor_shapes(spec: ModelSpec, first: int, last: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the float32 tensors a shard of layers [first, last) needs.

    Matrices are stored as [output, input]. The first shard holds the embedding, the last one the final norm
    and the head (the embedding again when the head is tied).
    """
    spec.check_cut(first, last)
    queries, values = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    layer = {
        "attn_norm": (spec.hidden,),
        "q": (queries, spec.hidden),
        "k": (values, spec.hidden),
        "v": (values, spec.hidden),
        "q_bias": (queries,),
        "k_bias": (values,),
        "v_bias": (values,),
        "o": (spec.hidden, queries),
        "ffn_norm": (spec.hidden,),
        "gate": (spec.ffn, spec.hidden),
        "up": (spec.ffn, spec.hidden),
        "down": (spec.hidden, spec.ffn),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    if first == 0 or (last == spec.layers and spec.tied_head):
        shapes["embed"] = (spec.vocab, spec.hidden)
    for index in range(first, last):
        shapes |= {f"layers.{index}.{part}": layer[part] for part in layer_parts(spec)}
    if last == spec.layers:
        shapes["norm"] = (spec.hidden,)
        if not spec.tied_head:
            shapes["head"] = (spec.vocab, spec.hidden)
    return shapes


def rope_table(spec: ModelSpec) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Cosines and sines, each [context, head_dim / 2], of position * theta^(-2 i / head_dim).

    Frequencies and angles are rounded to float32 where Transformers rounds them, because published models were trained
    so; what lies between is computed in float64, so that every machine and backend turns by the same angles. Element i
    of a head is paired with element i + head_dim / 2, as in the published Llama checkpoints for Transformers.
    """
    exponent = np.arange(0, spec.head_dim, 2, dtype=np.float32) / np.float32(spec.head_dim)
    inverse = 1 / np.power(spec.rope_theta, exponent.astype(np.float64)).astype(np.float32)
    if (scaling := spec.rope_scaling) is not None:
        waves = scaling.original_context * inverse / (2 * math.pi)  # of each frequency in the original context
        kept = np.clip((waves - scaling.low) / (scaling.high - scaling.low), 0.0, 1.0)
        inverse = kept * inverse + (1 - kept) * inverse / scaling.factor
    angle = (np.arange(spec.context, dtype=np.float32)[:, None] * inverse.astype(np.float32)).astype(np.float64)
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
