"""A committee of Raft members that clients give commands to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from experiments.hunt.arena import CORRECT, MessageArena, Play
from policies.config import RaftConfig
from policies.consensus import Raft
from policies.local import Propose
from policies.port import Policy
from policies.wire import encode
from scenarios import faults as f
from scenarios.checks import Check, consensus, logs
from scenarios.checks.bounds import traffic
from scenarios.checks.progress import EverybodyCatchesUp, MessagesPerDecision, ViewsConverge
from scenarios.defects.raft import DEFECTS
from scenarios.trial import Trial

TIMES = RaftConfig(heartbeat_s=0.05, election_min_s=0.15, election_max_s=0.30)
"""The time-outs of the Raft paper (Ongaro and Ousterhout 2014, section 9.3)."""


class Door(Policy):
    """Takes commands from clients and proposes them."""

    requests = (Propose,)

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        """Hand the command to consensus."""
        self.port.tell("consensus", operation)


class RaftArena(MessageArena):
    """Five members, ten commands a second, to whoever was last heard to lead."""

    name = "raft"
    what = "a Raft committee under crashes, partitions, bad links, bad clocks and bad disks"
    defects: ClassVar[Mapping[str, str]] = {name: (kind.__doc__ or "").split(":")[0] for name, kind in DEFECTS.items()}
    expects: ClassVar[Mapping[str, str]] = {
        "half_is_a_quorum": "one_leader_per_term", "ignores_the_log": "committed_stays",
        "cuts_on_every_append": "committed_stays",
    }  # fmt: skip
    canary = "half_is_a_quorum"
    shape = Trial(arena="raft", nodes=5, requests=80, storm_s=6.0, calm_s=4.0)
    fewest = 3
    timeouts_s = (TIMES.heartbeat_s, TIMES.election_min_s, TIMES.election_max_s)
    kinds = (f.Crash, f.Pause, f.Slow, f.Clock, f.Churn, f.Cascade, *f.NETWORKS, *f.DISKS)

    def mount(self, trial: Trial, name: str) -> Mapping[str, Policy]:
        """Mount a member and its door."""
        kind = Raft if trial.policy == CORRECT else DEFECTS[trial.policy]
        return {"consensus": kind(TIMES, trial.names), "door": Door()}

    def promises(self, trial: Trial) -> tuple[Check, ...]:
        """Return the promises of consensus, of logs, and of what must come about after the storm."""
        return (
            *consensus.safety(), *logs.safety(trial.names, every=2), logs.OnlyWhatWasAskedFor(),
            consensus.commits_after_healing(), EverybodyCatchesUp(), ViewsConverge(),
            MessagesPerDecision(*traffic(TIMES, trial.nodes)), *consensus.rare(),
        )  # fmt: skip

    def ask(self, play: Play, number: int) -> None:
        """Give a command to the leader."""
        node, command = play.leader or play.trial.names[number % play.trial.nodes], b"%04d" % number + b"x" * 36
        play.checks.tell(play.now_ns, node, logs.PROPOSED.kind, command)
        play.request(node, "door", "client", str(number), encode(Propose(command)))
