"""The same fleet over Raft: nobody lies, and who leads is believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from experiments.hunt.arenas.byzantine import asked_in_calm_is_chosen
from experiments.hunt.arenas.council import RULES, SEATS, CouncilArena, facts
from policies.config import RaftConfig
from scenarios.adversaries.behaviours import Behaviour
from scenarios.checks import Check, consensus, council, logs
from scenarios.checks.progress import EverybodyCatchesUp, ViewsConverge
from scenarios.checks.state import EqualStates, LedgerConserved, NoOverdraft
from scenarios.trial import Trial


class CouncilRaftArena(CouncilArena):
    """Nine devices whose committee changes by joint consensus; commands may be lost and are asked for again."""

    name = "council_raft"
    what = "a fleet of nine that changes its Raft committee of four by epochs, under crashes, partitions, bad links"
    rules = RaftConfig(heartbeat_s=0.05, election_min_s=0.15, election_max_s=0.30)
    defects: ClassVar[Mapping[str, str]] = {"own_opinion": CouncilArena.defects["own_opinion"]}
    expects: ClassVar[Mapping[str, str]] = {"own_opinion": CouncilArena.expects["own_opinion"]}
    shape = Trial(arena="council_raft", nodes=9, requests=60, storm_s=4.0, calm_s=8.0)
    timeouts_s = (0.05, 0.2, 0.3, RULES.retry_s)
    liars_max = 0
    lies: ClassVar[Mapping[str, tuple[Behaviour, ...]]] = {}

    def promises(self, trial: Trial) -> tuple[Check, ...]:
        """Return the promises of the log, of the state, and of the council."""
        founders = trial.names[: SEATS.size]
        return (
            *consensus.safety(), logs.LogsMatch(), logs.StateInOrder(), EqualStates("council"),
            LedgerConserved("council"), NoOverdraft("council"),
            *council.safety(founders, {name: facts(name) for name in trial.names}, SEATS, ()),
            consensus.commits_after_healing(), asked_in_calm_is_chosen(), EverybodyCatchesUp(), ViewsConverge(),
            council.CommitteesTakeOffice(2), *consensus.rare(), *council.rare(founders, evidence=False),
        )  # fmt: skip
