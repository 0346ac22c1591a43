"""The village over a committee of four that agrees by HotStuff, of whom one may lie to whom it serves.

What liars do to the log itself is hunted in `hotstuff`. Here they order commands as they should, and keep work from
workers, or clients from being heard, or say that they lead. When all is well again a fresh request is answered all the
same, and every request ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from experiments.hunt.arenas.byzantine import ByzantineArena
from experiments.hunt.arenas.village import CARD, GATE, VillageArena, problem
from policies.config import ConsensusRules, HotstuffConfig
from scenarios.adversaries import behaviours as b
from scenarios.checks import Check, Sometimes, consensus, leader, requests, told
from scenarios.checks.state import EqualStates, LedgerConserved, NoOverdraft, credited_once
from scenarios.defects.village import EXPECTS, OF_LIARS, Village
from scenarios.trial import Trial


class VillageHotstuffArena(VillageArena):
    """Four members, one of whom may lie, and four workers."""

    name = "village_hotstuff"
    what = "a village over HotStuff, one of whose four members keeps workers or clients from being served"
    villages: ClassVar[Mapping[str, Village]] = OF_LIARS
    defects: ClassVar[Mapping[str, str]] = {name: village.what for name, village in OF_LIARS.items()}
    expects: ClassVar[Mapping[str, str]] = {name: EXPECTS[name] for name in OF_LIARS}
    canary = "watches_nobody"
    shape = Trial(arena="village_hotstuff", nodes=8, requests=40, storm_s=16.0, calm_s=48.0)
    seats: ClassVar[int] = 4
    rules: ClassVar[ConsensusRules] = HotstuffConfig(timeout_s=0.5, timeout_max_s=4.0, heartbeat_s=0.1)
    # A leader that does no work is given up after 9 s, or twice that, if one was given up in the storm.
    settled_after_s: ClassVar[float] = 40.0
    fewest = 4
    kinds = ByzantineArena.kinds  # whose disks do not rot: a damaged log keeps a member down, and one lies already
    liars_max = 1
    lies: ClassVar[Mapping[str, tuple[b.Behaviour, ...]]] = {
        "gives out no work": (b.Silent(path="coordination"),),
        "hears no worker": (b.Silent(path="coordination", side="receive"),),
        "hears no client": (b.Silent(path="gateway", side="both"),),
        "says it leads": (b.Usurp(every_s=0.5),),
        "asks as if it led": (b.Meddle(every_s=0.5),),
        "points to itself": (b.Corrupt(tags=("not_leader",), field=(1,), change="set", to="n0"),),
        "lets workers load nothing": (b.Silent(path="coordination", tags=("load_shard",)),),
    }

    def promises(self, trial: Trial) -> tuple[Check, ...]:
        """Return the promises to clients, and of consensus.

        What a leader promises (`VillageArena.promises` has those) is one member's promise, which a liar breaks.
        """
        whole = problem(trial)
        return (
            *consensus.safety(), LedgerConserved(), NoOverdraft(), EqualStates(), credited_once(),
            requests.fresh_requests_are_answered(), requests.every_request_ends(), requests.one_outcome_per_request(),
            requests.shards_cover_the_model(CARD.layers), requests.shards_fit_the_memory(whole),
            requests.AdmitsWithinItsRate(GATE.requests_per_min / 60.0, GATE.burst), leader.LeasesEnd(slack_s=1.0),
            Sometimes("a_node_came_back", told("restart"), when=lambda e: True), *requests.rare(), *consensus.rare(),
        )  # fmt: skip
