"""How often workers are lost, as a leader has seen it."""

from __future__ import annotations

PRIOR_S = 86_400.0  # assumption: one loss in a worker's day counts as seen before anything was


class Mishaps:
    """Counts losses over the seconds that workers were there, beginning with one in `PRIOR_S`."""

    def __init__(self) -> None:
        self._lost, self._watched_s = 1, PRIOR_S

    @property
    def per_s(self) -> float:
        """Losses a second of one worker."""
        return self._lost / self._watched_s

    def watch(self, worker_s: float) -> None:
        """So many more seconds of workers have passed."""
        self._watched_s += worker_s

    def lost(self) -> None:
        """One more was lost."""
        self._lost += 1
