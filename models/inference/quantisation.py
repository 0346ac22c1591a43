"""Formats of weights by name: `quantisation.csv`, bytes a weight with its scales."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from models.inference.names import unknown, words
from models.inference.shapes import Shape


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        bytes_per_weight: scales and zeros counted, mean over a layer's tensors.
        bytes_per_head: of the language-model head, which llama.cpp's formats up to Q5 keep in Q6_K; 0 is as the others.
        bytes_per_expert: of a mixture's experts; 0 is as the others.
        packing: ``none`` of floating point; ``fp8`` of 8-bit floating point, which newer tensor cores multiply at twice
            the rate of 16 bits; ``plain`` integers with a scale a block; ``k`` ggml's, whose scales are packed as well
            and cost more to unpack.
    """

    name: str
    bytes_per_weight: float
    packing: str
    source: str
    bytes_per_head: float = 0.0
    bytes_per_expert: float = 0.0

    @property
    def packed(self) -> bool:
        """Tell whether weights are integers that have to be unpacked."""
        return self.packing in ("plain", "k")

    def of(self, shape: Shape) -> Shape:
        """Return a model's shape in this format; a dense model is stored as experts are."""
        each = self.bytes_per_weight if shape.experts else self.bytes_per_expert or self.bytes_per_weight
        return replace(
            shape, bytes_per_weight=each, bytes_per_head=self.bytes_per_head, bytes_per_expert=self.bytes_per_expert
        )


def _read(text: str) -> tuple[dict[str, Format], dict[str, Format]]:
    formats: dict[str, Format] = {}
    by_key: dict[str, Format] = {}
    for row in csv.DictReader(text.splitlines()):
        made = Format(
            row["name"], float(row["bytes_per_weight"]), row["packing"], row["source"],
            float(row["bytes_per_head"] or 0.0), float(row["bytes_per_expert"] or 0.0),
        )  # fmt: skip
        formats[made.name] = made
        by_key |= dict.fromkeys((_plain(row["name"]), *filter(None, row["aliases"].split(";"))), made)
    return formats, by_key


def _plain(text: str) -> str:
    return "".join(words(text))


FORMATS, _BY_KEY = map(
    MappingProxyType, _read((Path(__file__).parent / "quantisation.csv").read_text(encoding="utf-8"))
)
"""Name to format; and every spelling of it to the same."""


_NEVER = re.compile(r"q\d_[2-9](?!\d)|q\d_k_(?!(?:s|m|l|xs|xl|xxl|p|medium|small|large)(?![a-z]))[a-z]")
"""Kinds that ggml never had, of which a part would be one: ``q4_9``, ``Q4_K_Q``."""


def find_format(name: str) -> Format:
    """Return the format of this name, however it is spelt: `Q4_K_M`, `q4_k - medium`, `FP16`, `4-bit`, `INT4 (AWQ)`.

    The whole name is tried, then runs of its words, the longest and first of them before the others. ``EXL2 4.25 bpw``
    says itself how many bits a weight has.

    Raises:
        UnknownName: none of it is a format; names the nearest.
    """
    told = re.search(r"(\d{1,2}(?:\.\d+)?)\s*(?:bpw|bits? per weight)", name.lower())
    if told and 1.0 <= float(told[1]) <= 16.0:
        return Format(f"{told[1]}bpw", float(told[1]) / 8.0, "plain", "as given; EXL2's head has 6 bits", 0.75)
    if _NEVER.search(name.lower()):
        raise unknown("quant", name, FORMATS)
    parts = words(name)
    for length in range(len(parts), 0, -1):
        for start in range(len(parts) - length + 1):
            found = _BY_KEY.get("".join(parts[start : start + length]))
            if found:
                return found
    raise unknown("quant", name, FORMATS)
