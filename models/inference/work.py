"""Work of one pass through some layers: bytes and operations, counted before any device is named.

A pass takes tokens of one or more streams. Its time on a device is a price for each kind of work (see
`models.inference.prices`), so the counts here are the columns of every fit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from models.inference.shapes import Shape


@dataclass(frozen=True)
class Work:
    """What one pass moves and computes.

    Attributes:
        weight_bytes: of weights read; of a mixture those of the experts that the tokens are expected to choose.
        linear_flops: of products with weights.
        kv_bytes: of cache read.
        kv_head_bytes: of cache read where each query head reads for itself, though several share keys and values.
        attention_flops: of products with the cache.
        unpacked_bytes: of 16-bit weights written and read again where packed ones meet many tokens.
        activation_bytes: written and read between matrix products, 16 bits a number.
        score_bytes: of attention's scores, 32 bits each, moved once, of all pairs of a chunk's tokens with those up to
            its end (what is masked is computed as well); engines with fused attention never store them.
        whole_attention_flops: `attention_flops` once more, which a tensor-parallel group does not divide.
        layers: how many layers were entered.
        passes: 1.
    """

    weight_bytes: float = 0.0
    linear_flops: float = 0.0
    kv_bytes: float = 0.0
    kv_head_bytes: float = 0.0
    attention_flops: float = 0.0
    unpacked_bytes: float = 0.0
    activation_bytes: float = 0.0
    score_bytes: float = 0.0
    whole_attention_flops: float = 0.0
    layers: float = 0.0
    passes: float = 0.0

    def __add__(self, other: Work) -> Work:
        """Return the work of one pass after another."""
        return Work(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Work)))

    def split(self, parts: int) -> Work:
        """Return what each of some devices does that cut every matrix between them; all of them enter each layer."""
        cut = {field.name: getattr(self, field.name) / parts for field in fields(Work)[:-3]}
        whole = self.whole_attention_flops
        return Work(**cut, whole_attention_flops=whole, layers=self.layers, passes=self.passes)


def decode_work(
    shape: Shape, layers: float, batch: float, context: float, *, head: bool = False, packed: bool = False
) -> Work:
    """Return the work of one new token for each stream of a batch.

    Args:
        layers: how many layers are here.
        batch: streams.
        context: cached tokens of a stream, mean.
        head: the language-model head is here.
        packed: the format's weights are integers.
    """
    pairs = batch * context
    return _work(shape, layers, batch, pairs, pairs, pairs, batch if head else 0.0, packed)


def prefill_work(
    shape: Shape, layers: float, tokens: float, *, before: float = 0.0, streams: float = 1.0, head: bool = False,
    packed: bool = False, tile_tokens: int = 0,
) -> Work:  # fmt: skip
    """Return the work of taking in the prompts of some streams; the head speaks for the last token of each.

    Args:
        layers: how many layers are here.
        tokens: of a stream.
        before: cached tokens of a stream when the pass begins.
        streams: prompts in the pass.
        head: the language-model head is here.
        packed: the format's weights are integers.
        tile_tokens: what a product computes at once: each expert's tokens are filled up to a whole tile, which is half
            of one on average.
    """
    # A token attends to those before it: half of the chunk on average.
    pairs, scores = streams * tokens * (before + 0.5 * tokens), streams * tokens * (before + tokens)
    made = _work(shape, layers, streams * tokens, streams * before, pairs, scores, streams if head else 0.0, packed)
    if not shape.experts:
        return made
    touched = float(shape.touched_params(streams * tokens)) - (
        shape.active_params() - shape.top_k * shape.expert_params()
    )
    return replace(made, linear_flops=made.linear_flops + layers * tile_tokens * touched)


def _work(
    shape: Shape, layers: float, tokens: float, cached: float, pairs: float, scores: float, spoken: float, packed: bool
) -> Work:
    has_head = 1.0 if spoken > 0.0 else 0.0
    share = float(shape.kept_tokens(pairs / max(tokens, 1.0))) / max(pairs / max(tokens, 1.0), 1e-9)
    weight_bytes = layers * float(shape.touched_bytes(tokens)) + has_head * shape.head_bytes()
    flops = 2.0 * (layers * shape.active_params() * tokens + shape.head_params() * spoken)
    unpacked = layers * float(shape.touched_params(tokens)) + has_head * shape.head_params()
    kv_bytes = layers * shape.kv_bytes_per_token_layer() * cached * share
    width = 4 * shape.hidden + 2 * shape.head_dim * (shape.heads + shape.kv_heads)
    width += (3 if shape.gated else 2) * (shape.ffn * (shape.top_k or 1) + shape.shared_ffn)
    attention_flops = layers * 4.0 * shape.heads * shape.head_dim * pairs * share
    return Work(
        weight_bytes=weight_bytes,
        linear_flops=flops,
        kv_bytes=kv_bytes,
        kv_head_bytes=kv_bytes * shape.heads / shape.kv_heads,
        attention_flops=attention_flops,
        unpacked_bytes=4.0 * unpacked if packed else 0.0,
        activation_bytes=layers * 2.0 * width * tokens,
        score_bytes=layers * 4.0 * shape.heads * scores * share,
        whole_attention_flops=attention_flops,
        layers=layers,
        passes=1.0,
    )
