"""Councils with one thing wrong: what a campaign must be able to see."""

from __future__ import annotations

from typing import Any

import msgspec

from policies.council import Councillor
from policies.state import VillageState
from policies.state.council import Council


class OwnOpinion(Councillor):
    """Who stood up in the last epoch is what this device heard itself, not what the log holds."""

    def on_local(self, sender: str, message: Any) -> None:
        council = self.state.council
        council.roll = tuple(
            msgspec.structs.replace(elector, stability=90 if self.beats.get(elector.node) else 0)
            for elector in council.roll
        )
        super().on_local(sender, message)


class ForgivingCouncil(Council):
    """Evidence is noted, and nobody is struck off the roll for it."""

    def _end_epoch(self, earned: Any, applied: int) -> None:
        barred, self.barred = self.barred, {}
        super()._end_epoch(earned, applied)
        self.barred = barred


class SeatsTheGuilty(Councillor):
    """Whoever was convicted may be chosen again."""

    def _new_state(self, snapshot: bytes = b"") -> VillageState:
        council = ForgivingCouncil(self.founders, self.chooser, self.convicts)
        return VillageState.restore(snapshot, council) if snapshot else VillageState(council)
