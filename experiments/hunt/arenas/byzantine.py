"""A committee of which one member may lie: what the arenas of Byzantine protocols share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar
from zlib import crc32

from experiments.hunt.arena import CORRECT, MessageArena, Play
from experiments.hunt.arenas.machine import Machine
from policies.config import ConsensusRules
from policies.consensus import replicated_log
from policies.local import Propose
from policies.port import NS_PER_S, Policy
from policies.wire import encode
from scenarios import faults as f
from scenarios.checks import Check, byzantine, consensus, logs, told
from scenarios.checks.bounds import traffic
from scenarios.checks.consensus import CHOSEN
from scenarios.checks.progress import (
    Bounded,
    DecidesWithinViews,
    EndsWithin,
    EverybodyCatchesUp,
    MessagesPerDecision,
    ViewsConverge,
)
from scenarios.checks.state import EqualStates
from scenarios.checks.votes import Reading
from scenarios.trial import Trial

CALM = told("asked_in_calm")
"""A client gave a correct member a command when all was well again; the value is the command's checksum."""

TURNS = 2
"""Turns of leadership in which something must be decided when all is well: one may pass while time-outs grow (ours)."""
SOON = 0.75
"""Of the calm (ours): HotStuff gives two leaders up in 4 s of 6, after its longest time-out and two heartbeats each."""
BACKLOG_NS = NS_PER_S // 20
"""A disk that is behind by no more than this is as fast as ever: some tens of writes of 2 ms each."""


class ByzantineArena(MessageArena):
    """Four members, any of which takes commands; when all is well again each command is committed, whoever lies.

    Disks do not rot here: a member whose log is damaged stays down for good, which with a liar makes two of four.
    """

    machine: ClassVar[str] = "machine"  # path of the state machine
    rules: ClassVar[ConsensusRules]
    reading: ClassVar[Reading]
    mutants: ClassVar[Mapping[str, Callable[..., Policy]]]
    expects: ClassVar[Mapping[str, str]] = {"forgets_its_votes": "no_double_vote"}
    canary = "forgets_its_votes"
    fewest = 4
    liars_max = 1
    kinds = (f.Crash, f.Pause, f.Slow, f.Clock, f.Churn, f.Cascade, *f.NETWORKS, f.SlowDisk, f.FailingDisk, f.FullDisk)

    def mount(self, trial: Trial, name: str) -> Mapping[str, Policy]:
        """Mount a member of the log and its state machine."""
        if trial.policy == CORRECT:
            return {"consensus": replicated_log(self.rules, trial.names, "machine"), "machine": Machine()}
        return {"consensus": self.mutants[trial.policy](self.rules, trial.names, "machine"), "machine": Machine()}

    def promises(self, trial: Trial) -> tuple[Check, ...]:
        """Return the promises that no coalition of f members breaks, and what must come about after the storm.

        A liar that leads may order what nobody asked for, so without liars alone that is a promise.
        """
        return (
            *consensus.safety(), *byzantine.safety(trial.names, trial.liars, self.reading), logs.StateInOrder(),
            EqualStates("machine"), *(() if trial.liars else (logs.OnlyWhatWasAskedFor(),)),
            consensus.commits_after_healing(), asked_in_calm_is_chosen(trial), EverybodyCatchesUp(), ViewsConverge(),
            DecidesWithinViews(TURNS * trial.nodes), Bounded(),
            MessagesPerDecision(*traffic(self.rules, trial.nodes)),
            *consensus.rare(), *byzantine.rare(),
        )  # fmt: skip

    def ask(self, play: Play, number: int) -> None:
        """Give a command to any member; when all is well, to a correct one."""
        trial, command = play.trial, self.command(play, number)
        well = [name for name in trial.names if name not in trial.liars and self._is_well(play, name)]
        calm = play.now_ns >= trial.storm_s * NS_PER_S and bool(well)
        node = (well if calm else trial.names)[number % len(well if calm else trial.names)]
        play.checks.tell(play.now_ns, node, "proposed", command)
        if calm:
            play.checks.tell(play.now_ns, node, CALM.kind, crc32(command))
        play.request(node, self.machine, "client", str(number), encode(Propose(command)))

    def command(self, play: Play, number: int) -> bytes:
        """Return what the client asks for."""
        return b"%04d" % number + b"x" * 36

    def _is_well(self, play: Play, name: str) -> bool:
        """Whether a member can keep promises now: one whose disk was slow must first write what waits for it."""
        node = play.world.by_name[name]
        return node.up and node.synced_at <= play.now_ns + BACKLOG_NS


def asked_in_calm_is_chosen(trial: Trial) -> EndsWithin:
    """What a correct member was asked for when all was well is soon chosen, whoever leads (L2, L6).

    It has `SOON` of the calm, in which two leaders may be given up: the one that lies, and one that the storm confused.
    """
    return EndsWithin(
        "asked_in_calm_is_chosen", CALM, CHOSEN, within_s=SOON * trial.calm_s,
        key=lambda e: e.value if e.kind == CALM.kind else e.value.checksum,
    )  # fmt: skip
