"""What later builds of llama.cpp changed on CUDA, where the fitted rows are of May 2024: published gains, not fits.

CUDA graphs (pull request 6766, 8 May 2024) launch a whole token at once. Products with integer weights run on the
integer tensor cores (pull requests 7676 and 7860, June 2024) and read the packed weights where they lie; the gains were
published for dense models, and experts keep the fitted prices.
"""

from __future__ import annotations

import re
from dataclasses import replace

from models.inference.chips import Chip
from models.inference.prices import Prices

GRAPH_S_LAYER = 25e-6
"""What graphs save a layer and token: median of the gains published with them, 27 us on an H100 PCIe (143.35 to 163.83
tokens/s; issue 6763), 25 us on an RTX 3090 and 13 us on an RTX 4090 (pull request 6766), all of Llama 2 7B."""

INTEGER_ENERGY = 0.5
"""Energy of an operation on 8-bit integers beside one on 16 bits: half as many bits are moved (assumption)."""

_FIRST_BUILD, _FIRST_MONTH = 3150, (2024, 6)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def is_old(text: str) -> bool:
    """Tell whether a row's words date it before these builds: ``May 2024 build``, ``2023-12``, ``build 2100``.

    Words without a date are of today.
    """
    lower = text.lower()
    number = re.search(r"\bb(?:uild)?[ :#]*(\d{3,5})\b", lower)
    if number and not 2020 <= int(number[1]) <= 2030:
        return int(number[1]) < _FIRST_BUILD
    named = re.search(rf"\b({'|'.join(_MONTHS)})[a-z]*\.?\s+(20\d\d)\b", lower)
    if named:
        return (int(named[2]), _MONTHS.index(named[1]) + 1) < _FIRST_MONTH
    dated = re.search(r"\b(20\d\d)(?:-(\d\d))?\b", lower)
    return dated is not None and (int(dated[1]), int(dated[2] or 12)) < _FIRST_MONTH


def of_today(found: Prices, chip: Chip, phase: str, *, packed: bool) -> Prices:
    """Return fitted prices of llama.cpp on CUDA as later builds have them."""
    if phase == "decode":
        return replace(found, layer_s=max(0.0, found.layer_s - GRAPH_S_LAYER))
    if not packed or chip.kind == "hbm":  # the integer kernels are written for GeForce's cores; HBM's keep the fitted
        return found
    return replace(found, unpacked=0.0, linear_j=INTEGER_ENERGY * found.linear_j)
