"""An iteration as a sum: reading the weights, products, reading the cache, attention, and the output head.

The terms are those of `models.inference`, added and not maximised, for the reason given there. They are linear in what
takes part, so that all streams of a batch advance one token each ``base + token n + context (sum of contexts)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.inference import Device, Shape
from models.inference.law import step_s

SPAN = 1000.0
"""Tokens, contexts or pairs over which a term is evaluated; any number would do."""


@dataclass(frozen=True)
class Linear:
    """Seconds of the five terms.

    Attributes:
        base_s: of an iteration, whoever takes part: weights read once, launches.
        token_s: of a token's products in all layers.
        context_s: of reading one cached token in all layers.
        pair_s: of one token that attends to one other, in all layers.
        spoken_s: of the head's product for one token.

    Raises:
        ValueError: one is negative or not finite.
    """

    base_s: float
    token_s: float
    context_s: float
    pair_s: float
    spoken_s: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0.0 <= value < float("inf"):
                raise ValueError(f"{name} is {value}; allowed: from 0")

    @classmethod
    def of(cls, shape: Shape, device: Device, layers: int, *, head: bool = True) -> Linear:
        """Return the law of ``layers`` layers of a model on one device, with its output head or without.

        Args:
            shape: the model.
            device: one device: scalars.
            layers: how many it holds.
            head: whether it also holds the output head.

        Raises:
            ValueError: a mixture of experts, which reads more weights the more tokens there are.
        """
        if shape.experts:
            raise ValueError(f"{shape.name}: a mixture of experts is no sum of five terms; allowed: dense models")

        def law_s(tokens: float, cached: float, attended: float, spoken: float) -> float:
            return np.asarray(step_s(shape, layers, device, tokens, cached, attended, spoken, 1.0)).item()

        none_s, few, many = law_s(0, 0, 0, 0), float(head), head * (1.0 + SPAN)
        spoken_s = (law_s(0, 0, 0, many) - law_s(0, 0, 0, few)) / SPAN
        return cls(
            base_s=law_s(0, 0, 0, few) - head * spoken_s,
            token_s=(law_s(SPAN, 0, 0, 0) - none_s) / SPAN,
            context_s=(law_s(0, SPAN, 0, 0) - none_s) / SPAN,
            pair_s=(law_s(0, 0, SPAN, 0) - none_s) / SPAN,
            spoken_s=spoken_s,
        )

    def iteration_s(
        self, chunks: Sequence[tuple[float, float]], decodes: float, context: float, speaks: float
    ) -> float:
        """Return the seconds of one iteration (`models.engines.Law`)."""
        tokens, read, pairs = float(decodes), context, context
        for new, before in chunks:
            tokens += new
            read += before
            pairs += new * before + 0.5 * new * new  # a token attends to those before it: half of the chunk
        return (
            self.base_s + self.token_s * tokens + self.context_s * read + self.pair_s * pairs + self.spoken_s * speaks
        )
