"""Shapes of decoder-only transformers, and what follows from counting: weights, cache, activations.

Per layer: h hidden, q heads, k key-value heads, d head size, f feed-forward width; a mixture of experts has E
feed-forward blocks of width f of which each token uses some, a router, and perhaps a block that all tokens share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.arrays import ArrayLike


@dataclass(frozen=True)
class Shape:
    """A decoder-only transformer: counts, and bytes per number. Norms and biases (0.1 % at most) are left out.

    Attributes:
        ffn: width of the feed-forward block; of one expert where there are experts.
        gated: three feed-forward matrices rather than two.
        tied: the head's matrix is the embedding's.
        experts: feed-forward blocks of a layer of which each token uses `top_k`; 0 is a dense model.
        shared_ffn: width of the block that every token uses beside its experts.
        window: tokens to which layers with a sliding window attend; 0 is none.
        windowed_share: share of the layers that have the window.
        bytes_per_head, bytes_per_expert: where the head or the experts are stored otherwise; 0 is as the other weights.
    """

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    gated: bool = True
    tied: bool = True
    bytes_per_weight: float = 2.0
    bytes_per_kv: float = 2.0
    bytes_per_activation: float = 2.0
    experts: int = 0
    top_k: int = 0
    shared_ffn: int = 0
    window: int = 0
    windowed_share: float = 0.0
    bytes_per_head: float = 0.0
    bytes_per_expert: float = 0.0

    def attention_params(self) -> int:
        """Return the weights of one layer's attention: queries and output, keys and values."""
        return 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)

    def expert_params(self) -> int:
        """Return the weights of one feed-forward block."""
        return (3 if self.gated else 2) * self.hidden * self.ffn

    def _common_params(self) -> int:
        """Return the weights that every token uses: attention, router and shared block of a mixture."""
        common = self.attention_params() + self.experts * self.hidden
        return common + (3 if self.gated else 2) * self.hidden * self.shared_ffn

    def layer_params(self) -> int:
        """Return the weights of one layer, all experts counted."""
        return self._common_params() + max(self.experts, 1) * self.expert_params()

    def active_params(self) -> int:
        """Return the weights of one layer that one token uses: two operations each."""
        return self._common_params() + (self.top_k if self.experts else 1) * self.expert_params()

    def touched_params(self, tokens: ArrayLike) -> Any:
        """Return the expected weights of one layer that a batch of tokens reads.

        Of E experts, n tokens that choose k each, evenly and independently, touch E (1 - (1 - k / E)^n) (the form
        that Parallax uses); a dense layer is read in full.
        """
        if not self.experts:
            return self.layer_params()
        missed = (1.0 - self.top_k / self.experts) ** np.asarray(tokens, dtype=np.float64)
        return self._common_params() + self.experts * (1.0 - missed) * self.expert_params()

    def head_params(self) -> int:
        """Return the weights of the language-model head."""
        return self.vocab * self.hidden

    def total_params(self) -> int:
        """Return all weights; a tied head is stored once."""
        return self.layers * self.layer_params() + self.head_params() * (1 if self.tied else 2)

    def layer_bytes(self) -> float:
        """Return the bytes of one layer's weights, all experts counted."""
        return float(self._stored(self.layer_params()))

    def touched_bytes(self, tokens: ArrayLike) -> Any:
        """Return the bytes of one layer's weights that a batch of tokens reads."""
        return self._stored(self.touched_params(tokens))

    def _stored(self, params: Any) -> Any:
        """Return the bytes of so many weights of a layer; what is beyond the common ones are experts'."""
        if not (self.experts and self.bytes_per_expert):
            return params * self.bytes_per_weight
        common = self._common_params()
        return common * self.bytes_per_weight + (params - common) * self.bytes_per_expert

    def head_bytes(self) -> float:
        """Return the bytes of the language-model head, of which a tied one is also the embedding."""
        return self.vocab * self.hidden * (self.bytes_per_head or self.bytes_per_weight)

    def total_bytes(self) -> float:
        """Return the bytes of all weights; a tied head is stored once."""
        embedding = 0.0 if self.tied else self.vocab * self.hidden * self.bytes_per_weight
        return self.layers * self.layer_bytes() + self.head_bytes() + embedding

    def kv_bytes_per_token_layer(self) -> float:
        """Return the bytes that one token leaves in one layer's cache."""
        return 2 * self.kv_heads * self.head_dim * self.bytes_per_kv

    def kept_tokens(self, context: ArrayLike) -> Any:
        """Return the tokens of a stream that a layer still attends to, mean over layers with and without window."""
        full = np.asarray(context, dtype=np.float64)
        if not self.window:
            return full
        return (1.0 - self.windowed_share) * full + self.windowed_share * np.minimum(full, self.window)

    def activation_bytes(self) -> float:
        """Return the bytes that one token carries from layer to layer."""
        return self.hidden * self.bytes_per_activation
