"""The same fleet over PBFT: states are taken over whole, and commands that may be in them are asked for again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from experiments.hunt.arenas.council import OF_THE_COUNCIL, RULES, CouncilArena
from experiments.hunt.arenas.pbft import LIES, PbftArena
from scenarios.adversaries.behaviours import Behaviour
from scenarios.checks.votes import PBFT
from scenarios.trial import Trial

OF_THE_LOG = (
    "silent", "deaf", "half silent", "withholds proposals", "withholds the newest", "delays", "replays",
    "checkpoint lies", "status lies", "always impatient", "splits places", "splits votes", "splits checkpoints",
    "double votes", "double proposals", "twins", "forgets all", "old state", "duplicate signers",
)  # fmt: skip
"""What may hurt a change of members or a state that is taken over, and what leaves evidence; the others are the arena
pbft's."""


class CouncilPbftArena(CouncilArena):
    """Nine devices whose committee changes by the end of a log and the beginning of another."""

    name = "council_pbft"
    what = "a fleet of nine that changes its PBFT committee of four by epochs, with a liar, crashes, partitions"
    rules = PbftArena.rules
    reading = PBFT
    shape = Trial(arena="council_pbft", nodes=9, requests=60, storm_s=4.0, calm_s=8.0)
    timeouts_s = (*PbftArena.timeouts_s, RULES.retry_s)
    lies: ClassVar[Mapping[str, tuple[Behaviour, ...]]] = {
        **{what: LIES[what] for what in OF_THE_LOG}, **OF_THE_COUNCIL
    }  # fmt: skip
