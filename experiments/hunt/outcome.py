"""What one trial came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Outcome:
    """What one trial came to; plain, so that it travels between processes.

    Attributes:
        check: name of the promise that broke first, "" if none did.
        why: the first event that broke it.
        at_s: when that was.
        digest: of everything that happened.
        steps: port steps taken, or readings decided.
        simulated_s: how far the run came.
        checks_share: share of the run's time that went into asking checks.
        sometimes: what is interesting, and whether it happened.
        kinds: kinds of fault that struck.
    """

    check: str
    why: str
    at_s: float
    digest: str
    steps: int
    simulated_s: float
    checks_share: float = 0.0
    sometimes: Mapping[str, bool] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()

    @property
    def broken(self) -> bool:
        """Whether a promise broke."""
        return bool(self.check)
