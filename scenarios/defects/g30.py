"""G30, mesh: a path that repeats one next hop, gossip to the same three for ever, and no bound on going round.

The predecessor kept routes and scores where the village's mesh draws neighbours at random and counts hops. The defects
are put back where the same question is answered: who is told next, and what a copy knows of its way.
"""

from __future__ import annotations

from collections.abc import Collection

from policies.transport.buffer import Packet
from policies.transport.mesh import Mesh


class RepeatsOneNextHop(Mesh):
    """Its predecessor's path finder filled a path of several hops with one and the same next hop.

    So does each node here: whatever the letter and wherever it came from, the next hop is its first neighbour. Breaks
    `everything_arrives` from one end of a line of 5 nodes to the other.
    """

    def pick(self, count: int, without: Collection[str] = ()) -> list[str]:
        """Return the one next hop."""
        return list(self.neighbours[: min(count, 1)])


class GossipsToTheSameThree(Mesh):
    """Its predecessor sorted its peers by score and gossiped to the top three, which no gossip ever changed.

    Scores are equal here, so the order is that of the names. Breaks `everyone_hears` among 50
    nodes with 8 neighbours each: who is nobody's favourite is told by nobody.
    """

    def pick(self, count: int, without: Collection[str] = ()) -> list[str]:
        """Return the neighbours with the best scores."""
        return list(self.neighbours[:count])


class CountsNoHops(Mesh):
    """Its predecessor's distance vector had no guard against counting to infinity: no largest distance, no split
    horizon. A destination that is gone was for ever one hop further away, and letters went on towards it.

    So do they here, since a copy does not know how far it has come. Breaks `no_letter_goes_too_far` in a
    line of 10 nodes.
    """

    def onward(self, packet: Packet) -> Packet:
        """Return the copy as it came."""
        return packet


DEFECTS: dict[str, tuple[type[Mesh], str]] = {
    "g30_next_hop": (RepeatsOneNextHop, "whatever the letter, the next hop is one and the same"),
    "g30_same_three": (GossipsToTheSameThree, "gossip goes to the same three neighbours for ever"),
    "g30_no_hop_count": (CountsNoHops, "a copy does not know how far it has come"),
}
"""Defect's name to its mutant, and what is wrong with it."""
