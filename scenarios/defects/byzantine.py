"""Byzantine protocols with one thing wrong: what a campaign must be able to see."""

from __future__ import annotations

from collections.abc import Mapping

from policies.consensus import HotStuff, Pbft


class HotStuffForgets(HotStuff):
    """A member forgets at a crash what it voted for: it votes twice in one view."""

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        super().on_start({key: value for key, value in saved.items() if key != "safety"})


class PbftForgets(Pbft):
    """A member forgets at a crash what it accepted and prepared: it votes twice at one place in one view."""

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        super().on_start({key: value for key, value in saved.items() if key[0] not in "ap"})
