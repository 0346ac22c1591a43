"""What later builds of engines changed where the fitted rows are of 2023 and May 2024: published gains, not fits.

llama.cpp's CUDA graphs (pull request 6766, 8 May 2024) launch a token at once. Products with integer weights run on the
integer tensor cores (pull requests 7676 and 7860, June 2024) and read the packed weights where they lie; the gains were
published for dense models, and experts keep the fitted prices.

Metal fuses norms with what follows (pull request 14596, July 2025), reorders what may run at once (19555) and, in
kernels tuned since (16057, 16074), unpacks weights while others are read. On the M1 family rows of late builds show
none of it: its prices stay the fitted ones.

Until version 0.6.0 vLLM's devices waited for its host (vLLM blog, 5 September 2024: 1.8 to 2.7 times the throughput). A
row of vLLM that dates itself before takes the prices of Splitwise's engine of 2023, whose host shows in the fit.
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

METAL_S_LAYER = 28e-6
"""What fusing and reordering save a layer and token on Metal: 21 and 25 us (pull request 14596, gemma3 4B 90.39 to
96.76 and qwen3moe 30B 70.12 to 76.68 tokens/s), and 4 and 6 us (19555, gemma3 4B and 1B), all on an M2 Ultra."""

CUDA = (3150, (2024, 6))
METAL = (5870, (2025, 7))
VLLM = (0, (2024, 9))
"""Number and month of the first build with these changes; vLLM's 0.6.0 of 5 September 2024."""

_LATER = re.compile(
    r"llama[- ]?(?:3\.[1-9]|4)|qwen[- ]?(?:2\.5|[3-9])|gemma[- ]?[2-9](?!b)|phi[- ]?[4-9]|gpt[- ]?oss|deepseek"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def is_old(text: str, first: tuple[int, tuple[int, int]] = CUDA) -> bool | None:
    """Tell whether a row's words date it before some build: ``May 2024 build``, ``2023-12``, ``build 2100``.

    None is without a date.
    """
    lower = text.lower()
    number = re.search(r"\bb(?:uild)?[ :#]*(\d{3,5})\b", lower)
    if number and not 2020 <= int(number[1]) <= 2030:
        return int(number[1]) < first[0]
    named = re.search(rf"\b({'|'.join(_MONTHS)})[a-z]*\.?\s+(20\d\d)\b", lower)
    if named:
        return (int(named[2]), _MONTHS.index(named[1]) + 1) < first[1]
    dated = re.search(r"\b(20[123]\d)(?:-(\d\d))?\b", lower)  # `out 2048` is no year
    return None if dated is None else (int(dated[1]), int(dated[2] or 12)) < first[1]


def is_old_metal(text: str, model: str) -> bool:
    """Tell whether a row is of Metal's builds before July 2025.

    The table that most rows of Macs come from holds its build of 2023; it is of Llama 2. A row without a date is of
    today where the model is younger than mid-2024.
    """
    old = is_old(text, METAL)
    return not _LATER.search(model.lower()) if old is None else old


def of_today(found: Prices, chip: Chip, phase: str, *, packed: bool) -> Prices:
    """Return fitted prices of llama.cpp on CUDA or Metal as later builds have them."""
    if chip.kind.startswith("apple"):
        if phase != "decode" or " M1" in f" {chip.name}":
            return found
        return replace(found, layer_s=max(0.0, found.layer_s - METAL_S_LAYER), joint=2.0)
    if phase == "decode":
        return replace(found, layer_s=max(0.0, found.layer_s - GRAPH_S_LAYER))
    if not packed or chip.kind == "hbm":  # the integer kernels are written for GeForce's cores; HBM's keep the fitted
        return found
    return replace(found, unpacked=0.0, linear_j=INTEGER_ENERGY * found.linear_j)
