"""How much work is expected: as much in the next horizon as came in the last, older work counting less and less.

Each token counts exp(-age / horizon), so that work which comes at a steady rate counts rate x horizon, without a list
of what came when. That tomorrow is like today is the plainest of forecasts; a daily rhythm is not in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from policies.port import NS_PER_S


@dataclass
class Outlook:
    """A count that fades.

    Attributes:
        count: tokens, as of ``at_ns``.
    """

    count: float = 0.0
    at_ns: int = 0

    def tokens(self, now_ns: int, horizon_s: float) -> float:
        """Return the tokens expected within the horizon from now."""
        return self.count * math.exp(-(now_ns - self.at_ns) / (horizon_s * NS_PER_S))

    def take(self, now_ns: int, horizon_s: float, tokens: int) -> None:
        """Count tokens that are asked for now."""
        self.count, self.at_ns = self.tokens(now_ns, horizon_s) + tokens, now_ns
