"""A fleet that changes its committee: devices stand, work, fall silent and lie, and the log votes them in and out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from experiments.hunt.arena import CORRECT, Play
from experiments.hunt.arenas.byzantine import ByzantineArena, asked_in_calm_is_chosen
from experiments.hunt.arenas.hotstuff import LIES, HotstuffArena
from policies.commands import Accept, Complete, Facts, Join, Receipt, Vouched, verifiers_receipt
from policies.committee.electoral import Electoral
from policies.config import CommitteeConfig, ConsensusRules, CouncilConfig
from policies.consensus import convicts, replicated_log
from policies.council import Charter, Councillor
from policies.jobs import Stage
from policies.port import Policy
from policies.wire import encode
from scenarios.adversaries import behaviours as b
from scenarios.checks import Check, byzantine, consensus, council, logs
from scenarios.checks.progress import Bounded, EverybodyCatchesUp
from scenarios.checks.state import EqualStates, LedgerConserved, NoOverdraft
from scenarios.checks.votes import HOTSTUFF
from scenarios.defects.council import OwnOpinion, SeatsTheGuilty
from scenarios.trial import Trial
from sim.keys import KeyRing

SEATS = CommitteeConfig()
"""Four members under the documented rules of diversity."""
RULES = CouncilConfig(seats=SEATS, epoch_s=1.0, alive_s=0.2, retry_s=0.3, byzantine_share=0.2)
DEFECTS: dict[str, type[Councillor]] = {"own_opinion": OwnOpinion, "seats_the_guilty": SeatsTheGuilty}
AT = "council"
OF_THE_LOG = (
    "silent", "half silent", "proposes to nobody", "orders nothing of others", "delays", "replays", "next epoch",
    "splits proposals", "splits votes", "double votes", "twins", "forgets all", "old state", "false blocks",
)  # fmt: skip
"""What may hurt a change of members, and what leaves evidence; the others are the arena hotstuff's."""
OF_THE_COUNCIL: dict[str, tuple[b.Behaviour, ...]] = {
    "is not there": (b.Silent(path=AT),),
    "hears nobody": (b.Silent(path=AT, side="receive"),),
    "stands in others' names": (b.Impersonate(path=AT, victim="n1", forward=True),),
    "lies about itself": (b.Corrupt(path=AT, tags=("speak",), field=(0, 1, 1), change="flip"),),
}
"""What a liar does as a councillor, whatever the log."""
TOKENS, LAYERS = 1000, 24


def facts(name: str) -> Facts:
    """Return what a device is: six networks, three vendors, four regions, two countries; one in three has a TPM."""
    k = int(name[1:])
    return Facts("tee" if k % 3 else "tpm", f"as{k % 6}", f"vendor {k % 3}", f"region {k % 4}", f"country {k % 2}")


class CouncilArena(ByzantineArena):
    """Nine devices, of which the first four found the committee, and clients who have them work.

    The liar is a founder: it lies in office, and is voted out and in again like others, or convicted.
    """

    name = "council"
    what = "a fleet of nine that changes its HotStuff committee of four by epochs, with a liar, crashes, partitions"
    machine = "council"
    rules: ClassVar[ConsensusRules] = HotstuffArena.rules
    reading = HOTSTUFF
    mutants: ClassVar[Mapping[str, type[Policy]]] = {}
    defects: ClassVar[Mapping[str, str]] = {
        "own_opinion": "a device chooses by whom it heard itself, instead of by what the log holds",
        "seats_the_guilty": "who was proved guilty may be chosen again",
    }
    expects: ClassVar[Mapping[str, str]] = {
        "own_opinion": "one_committee_per_epoch", "seats_the_guilty": "the_guilty_sit_no_more",
    }  # fmt: skip
    canary = "own_opinion"
    shape = Trial(arena="council", nodes=9, requests=60, storm_s=4.0, calm_s=8.0)
    fewest = 6
    timeouts_s: ClassVar[tuple[float, ...]] = HotstuffArena.timeouts_s
    lies: ClassVar[Mapping[str, tuple[b.Behaviour, ...]]] = {
        **{what: LIES[what] for what in OF_THE_LOG}, **OF_THE_COUNCIL
    }  # fmt: skip

    def committee(self, trial: Trial) -> int:
        """Return how many, the first ones, are founders: one of them may lie, and sits from the beginning."""
        return SEATS.size

    def mount(self, trial: Trial, name: str) -> Mapping[str, Policy]:
        """Mount a device's log and its part in the council."""
        kind = Councillor if trial.policy == CORRECT else DEFECTS[trial.policy]
        founders, chooser = trial.names[: SEATS.size], Electoral(SEATS, RULES.byzantine_share)
        return {
            "consensus": replicated_log(self.rules, founders, "council", ("council",)),
            "council": kind(Charter(RULES, founders, facts(name), chooser, convicts), snapshot_every=16),
        }

    def promises(self, trial: Trial) -> tuple[Check, ...]:
        """Return the promises of the log, of the state, and of the council."""
        founders = trial.names[: SEATS.size]
        return (
            *consensus.safety(), *byzantine.safety(trial.names, trial.liars, self.reading, SEATS.size),
            logs.StateInOrder(), EqualStates("council"), LedgerConserved("council"), NoOverdraft("council"),
            *council.safety(founders, {name: facts(name) for name in trial.names}, SEATS, trial.liars),
            consensus.commits_after_healing(), asked_in_calm_is_chosen(trial), EverybodyCatchesUp(),
            council.ViewsConvergeInEpochs(), council.CommitteesTakeOffice(2), Bounded(),
            *consensus.rare(), *byzantine.rare(), *council.rare(founders),
        )  # fmt: skip

    def command(self, play: Play, number: int) -> bytes:
        """Let every device join; then requests are accepted, and answered by two devices and two that verify."""
        names, ring = play.trial.names, KeyRing(play.trial.seed)
        if number < len(names):
            return encode(Join(names[number]))
        request = (number - len(names)) // 2
        if (number - len(names)) % 2 == 0:
            return encode(Accept("client", str(request), "model", "prompt", names[0], 1, TOKENS, 0, 0, 0))
        one, two, three, four = (names[(request + k) % len(names)] for k in range(4))
        receipt = Receipt("client", str(request), "output", TOKENS, _stages(one, two))
        vouched = Vouched(_stages(three, four), b"")
        signature = ring.signature(three, encode(verifiers_receipt(receipt, vouched)))
        vouched = Vouched(vouched.stages, signature)
        return encode(Complete(receipt, 0, ring.signature(one, encode(receipt)), vouched))


def _stages(head: str, tail: str) -> tuple[Stage, ...]:
    return Stage(head, 0, LAYERS // 2), Stage(tail, LAYERS // 2, LAYERS)
