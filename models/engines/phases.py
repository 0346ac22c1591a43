"""An iteration of one layer from two measured curves: seconds by tokens of prompts, and by requests that decode.

Helix's profiles are of this kind (Thesys-lab/Helix-ASPLOS25; Mei et al., ASPLOS 2025): an engine that runs prompts and
decodes one after another, so that both times add. Between points they are linear; beyond the last they go on with its
slope. What a decode reads of its cache is in the curve, at the mean context of whoever measured it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from models.engines.kernels import Interpolated


class Phases:
    """One layer on one device.

    Args:
        prompt_s: seconds by tokens of prompts, at least one point.
        decode_s: seconds by requests that decode, at least one point.

    Raises:
        ValueError: a curve has no point, or one that is negative.
    """

    def __init__(self, prompt_s: Mapping[float, float], decode_s: Mapping[float, float]) -> None:
        for name, curve in (("prompt_s", prompt_s), ("decode_s", decode_s)):
            if not curve or min(*curve, *curve.values(), 0.0) < 0.0:
                raise ValueError(f"{name} is {dict(curve)}; allowed: points from 0, at least one")
        self._prompt_s = Interpolated({(tokens,): seconds for tokens, seconds in prompt_s.items()})
        self._decode_s = Interpolated({(count,): seconds for count, seconds in decode_s.items()})

    def iteration_s(
        self, chunks: Sequence[tuple[float, float]], decodes: float, context: float, speaks: float
    ) -> float:
        """Return the seconds of one iteration (`models.engines.Law`)."""
        tokens = sum(new for new, _ in chunks)
        return (self._prompt_s(tokens) if tokens else 0.0) + (self._decode_s(decodes) if decodes else 0.0)
