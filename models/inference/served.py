"""The models that scenarios may name, with their formats: those that ordinary devices hold, and the desk's own."""

from __future__ import annotations

from dataclasses import replace

from models.inference.catalogue import CATALOGUE
from models.inference.quantisation import FORMATS
from models.inference.shapes import Shape

# The models that the desk experiments really run: small enough for any laptop, weights and cache in float32. The second
# takes about an eighth of the first one's layers' bytes.
_DESK_TINY = Shape(
    "desk-tiny", 8, 128, 8, 2, 16, 384, 512, bytes_per_weight=4.0, bytes_per_kv=4.0, bytes_per_activation=4.0
)
_DESK_MINI = replace(_DESK_TINY, name="desk-mini", layers=4, hidden=64, heads=4, kv_heads=1, ffn=192)
_Q4_K_M = 0.61  # mean over a whole file, head included (Llama 3.1 8B: 4.92 GB)
_SERVED = ("llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b")


def _formats(name: str) -> tuple[Shape, Shape]:
    shape = CATALOGUE[name].shape
    packed = replace(shape, bytes_per_weight=_Q4_K_M)
    return packed, replace(shape, name=f"{name}-f16", bytes_per_weight=FORMATS["f16"].bytes_per_weight)


SHAPES = {shape.name: shape for shape in (*(one for name in _SERVED for one in _formats(name)), _DESK_TINY, _DESK_MINI)}
"""Names without a suffix are Q4_K_M."""
