"""What one iteration of a serving engine takes: many requests at once, prompts and decodes mixed.

- `linear`: a sum of five terms, from a device's data sheet and an engine's factors, or fitted.
- `kernels`: measured times of an engine's kernels, interpolated;
- `phases`: one layer, from measured times of prompts and of decodes.

All answer `Law.iteration_s`. `models.inference` says what one stream alone takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from models.engines.kernels import KernelTables, TableError
from models.engines.linear import Linear
from models.engines.phases import Phases

__all__ = ["KernelTables", "Law", "Linear", "Phases", "TableError"]


class Law(Protocol):
    """What an iteration takes."""

    def iteration_s(
        self, chunks: Sequence[tuple[float, float]], decodes: float, context: float, speaks: float
    ) -> float:
        """Return seconds.

        Args:
            chunks: pieces of prompts: (new tokens, tokens in the cache before them).
            decodes: requests that decode one token each.
            context: cached tokens that those read, the new ones included, all together.
            speaks: requests for which the output head is evaluated.
        """
        ...
