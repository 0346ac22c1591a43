"""Councils with one thing wrong: what a campaign must be able to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from policies.council import Councillor
from policies.state.council import Choice, Chooser, Council, Elector


class Hearsay:
    """Chooses among those whom its own device has heard since the epoch began."""

    def __init__(self, chooser: Chooser, beats: dict[str, int]) -> None:
        self.chooser, self.beats = chooser, beats

    def choose(self, roll: Sequence[Elector], epoch: int, beacon: bytes, sitting: Sequence[str]) -> Choice:
        """Return the committee as the chooser would, had the log never heard of the others."""
        heard = [elector for elector in roll if self.beats.get(elector.node)]
        return self.chooser.choose(heard, epoch, beacon, sitting)


class OwnOpinion(Councillor):
    """The next committee comes from whom this device heard itself, not from what the log holds."""

    def _new_council(self) -> Council:
        charter = self.charter
        return Council(charter.founders, Hearsay(charter.chooser, self.beats), charter.convicts)


class ForgivingCouncil(Council):
    """Evidence is noted, and nobody is struck off the roll for it."""

    def _end_epoch(self, earned: Mapping[str, int], applied: int) -> None:
        barred, self.barred = self.barred, {}
        super()._end_epoch(earned, applied)
        self.barred = barred


class SeatsTheGuilty(Councillor):
    """Whoever was convicted may be chosen again."""

    def _new_council(self) -> Council:
        return ForgivingCouncil(self.charter.founders, self.charter.chooser, self.charter.convicts)
