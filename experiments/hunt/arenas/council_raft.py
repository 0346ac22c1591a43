"""The same fleet over Raft: nobody lies, and who leads is believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from experiments.hunt.arena import Play
from experiments.hunt.arenas.byzantine import asked_in_calm_is_chosen
from experiments.hunt.arenas.council import RULES, SEATS, CouncilArena, facts
from policies.config import RaftConfig
from policies.local import Propose
from policies.port import NS_PER_S
from policies.wire import encode
from scenarios.adversaries.behaviours import Behaviour
from scenarios.checks import Check, consensus, council, logs
from scenarios.checks.progress import Bounded, EverybodyCatchesUp, ViewsConverge
from scenarios.checks.state import EqualStates, LedgerConserved, NoOverdraft
from scenarios.trial import Trial

AGAIN_S = 0.6  # two elections at the longest


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
            consensus.commits_after_healing(), asked_in_calm_is_chosen(trial), EverybodyCatchesUp(), ViewsConverge(),
            council.CommitteesTakeOffice(2), Bounded(), *consensus.rare(),
            *council.rare(founders, evidence=False),
        )  # fmt: skip

    def ask(self, play: Play, number: int) -> None:
        """Ask as over the other logs, and once more: what reaches a leader that is voted out just then is lost.

        Who proposes comes again (`policies.local.Propose`); an epoch lasts longer than this takes.
        """
        super().ask(play, number)
        play.world.engine.call_at(play.now_ns + int(AGAIN_S * NS_PER_S), lambda k: self._ask_again(play, k), number)

    def _ask_again(self, play: Play, number: int) -> None:
        names = play.trial.names
        payload = encode(Propose(self.command(play, number)))
        play.request(names[(number + 1) % len(names)], self.machine, "client", str(number), payload)
