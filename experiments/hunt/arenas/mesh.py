"""A town of radios, each in reach of few: a street whose far end is as far as a letter may go, and a square."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import networkx as nx

from experiments.hunt.arena import CORRECT, MessageArena, Play
from policies.config import MeshConfig
from policies.port import Policy
from policies.transport import Mesh
from policies.transport.messages import EVERYONE, Post
from policies.wire import encode
from scenarios import faults as f
from scenarios.checks import Check
from scenarios.checks import transport as checks
from scenarios.defects.g30 import DEFECTS
from scenarios.trial import Trial

FASTER = 20
"""The village's mesh, every time a twentieth, so that a round is 50 ms at its shortest; every ratio stays."""
LONG = MeshConfig()
TIMES = MeshConfig(gossip_s=LONG.gossip_s / FASTER, quiet_s=LONG.quiet_s / FASTER, ttl_s=LONG.ttl_s / FASTER)
STREET = 8
"""Nodes in the street, n0 at the square to n7: from n7 the square's n0 is seven hops away, its others are eight."""
Radios = Mapping[str, tuple[str, ...]]


def town(nodes: int) -> Radios:
    """Return who is in whose reach: along the street its neighbours, on the square everybody, n0 among them.

    >>> town(10)["n0"], town(10)["n7"], town(10)["n9"]
    (('n1', 'n8', 'n9'), ('n6',), ('n0', 'n8'))
    """
    street = [(k, k + 1) for k in range(min(STREET, nodes) - 1)]
    square = [0, *range(STREET, nodes)]
    pairs = street + [(a, b) for a in square for b in square if a < b]
    near: dict[str, tuple[str, ...]] = {f"n{k}": () for k in range(nodes)}
    for a, b in pairs:
        near[f"n{a}"] += (f"n{b}",)
        near[f"n{b}"] += (f"n{a}",)
    return near


def within(radios: Radios, origin: str, hops: int) -> list[str]:
    """Return who is at most so many hops away, the nearest first."""
    return [other for other in nx.single_source_shortest_path_length(nx.Graph(radios), origin, hops) if other != origin]


class MeshArena(MessageArena):
    """Letters go to who is in reach within the hops allowed, each fourth to everyone."""

    name = "mesh"
    what = "short-range radio mesh: a street and a square, letters and broadcasts under churn and bad links"
    defects: ClassVar[Mapping[str, str]] = {name: what for name, (_, what) in DEFECTS.items()}
    expects: ClassVar[Mapping[str, str]] = {
        "g30_next_hop": "everything_arrives", "g30_same_three": "everyone_hears",
        "g30_no_hop_count": "no_letter_goes_too_far",
    }  # fmt: skip
    canary = "g30_no_hop_count"
    shape = Trial(arena="mesh", nodes=13, requests=12, storm_s=4.0, calm_s=16.0)
    fewest = 4
    # No rot: an open letter's one durable copy is on its origin's disk.
    kinds = (f.Crash, f.Pause, f.Slow, f.Clock, f.Cascade, *f.NETWORKS, f.SlowDisk, f.FailingDisk, f.FullDisk)

    def mount(self, trial: Trial, name: str) -> Mapping[str, Policy]:
        """Mount a radio."""
        kind = Mesh if trial.policy == CORRECT else DEFECTS[trial.policy][0]
        return {"mesh": kind(town(trial.nodes), TIMES)}

    def promises(self, trial: Trial) -> tuple[Check, ...]:
        """Return the promises of the mesh among those in reach, and what is rare."""
        radios, hops = town(trial.nodes), TIMES.hops_max
        reach = {name: within(radios, name, hops) for name in trial.names}
        return (
            *checks.mesh("mesh", hops), checks.everything_arrives("mesh"),
            checks.EveryoneHears("mesh", reach.__getitem__), *checks.rare_in_mesh("mesh"),
        )  # fmt: skip

    def ask(self, play: Play, number: int) -> None:
        """Post a letter, from one node after another, to one of those in reach or to all."""
        names = play.trial.names
        origin = names[5 * number % len(names)]  # 5 has no divisor in common with 13: each has its turn
        reach = within(town(len(names)), origin, TIMES.hops_max)
        to = EVERYONE if number % 4 == 3 else reach[-1 - number % len(reach)]
        play.request(origin, "mesh", "client", str(number), encode(Post(to, b"%04d" % number)))
