"""G28, message delivery: a queue that no restart survives, retries at any rate, and silence taken for success.

Each mutant breaks its promise between two nodes on a lossy link; the first needs a restart of the origin as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from policies.transport.delivery import Delivery
from policies.transport.outbox import ACKNOWLEDGED, Letter


class ForgetsItsQueue(Delivery):
    """Its predecessor wrote queued messages with one codec (pickle) and read them with another (JSON).

    What it cannot read it skips, so that a restart begins with an empty queue. Breaks
    `nothing_accepted_is_lost` when the origin restarts before the acknowledgement.
    """

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        """Go on with what JSON makes of the queue."""
        super().on_start({key: value for key, value in saved.items() if not key.startswith("out/") or _is_json(value)})


class IgnoresBackoff(Delivery):
    """Its predecessor computed the time of the next try and then did not look at it.

    Every pass over the queue tried everything again. Breaks `tries_back_off` when a copy, or its
    acknowledgement, is lost.
    """

    def backoff_s(self, tries: int) -> float:
        """Return one pass over the queue."""
        return self.config.backoff_first_s / 10


class TakesSilenceForSuccess(Delivery):
    """Its predecessor set a message to delivered when the wait for the acknowledgement timed out.

    Breaks `acknowledged_is_delivered`, and with it the loss is silent, when the copy is lost.
    """

    def unheard(self, letter: Letter) -> None:
        """Nobody complained."""
        self._end(letter, ACKNOWLEDGED)


def _is_json(value: bytes) -> bool:
    try:
        json.loads(value)
    except ValueError:
        return False
    return True


DEFECTS: dict[str, tuple[type[Delivery], str]] = {
    "g28_codec": (ForgetsItsQueue, "the queue is written by one codec and read by another, so it survives no restart"),
    "g28_backoff": (IgnoresBackoff, "the time of the next try is computed and not looked at"),
    "g28_silence": (TakesSilenceForSuccess, "a wait for the acknowledgement that times out counts as delivered"),
}
"""Defect's name to its mutant, and what is wrong with it."""
