"""The village's surroundings, for faults: what heat, a power cut, a network switch or an owner does to a node."""

from __future__ import annotations

from models import links
from scenarios.schema import Scenario
from sim.compute import Compute
from sim.fleet.village import Fleet
from sim.network import Access, Cut
from sim.world import Node, World


class FleetAround:
    """Carries out what befalls a device from outside (`sim.faults.Around`), as far as its sensors tell.

    Args:
        fleet: the run's; a node's number is its row in it.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def warm(self, node: Node, by_c: float) -> None:
        """Make the air warmer, or cooler again."""
        self.fleet.warm(node.number, by_c)

    def mains(self, node: Node, on: bool) -> None:
        """Take the mains away, or give them back; at its next reading what has no battery stops, or starts."""
        self.fleet.around.dark[node.number] += -1 if on else 1

    def switch(self, node: Node, to: str) -> None:
        """Put a device on its mobile network or on none; ``""`` is home again."""
        around, row = self.fleet.around, node.number
        if to == "mobile":
            around.mobile[row] += 1
        elif to == "none":
            around.offline[row] += 1
        else:
            around.mobile[row] = around.offline[row] = 0

    def take(self, node: Node, taken: bool) -> None:
        """Its owner takes a device in hand, or lays it down; its sensors tell at the next reading."""
        self.fleet.around.taken[node.number] += 1 if taken else -1


class VillageAround(FleetAround):
    """The same for a village: a device on another network is reached over it.

    Args:
        scenario: which mobile network there is.
        world, fleet, compute: the run's; a node's number is its row in the fleet.
    """

    def __init__(self, scenario: Scenario, world: World, fleet: Fleet, compute: Compute) -> None:
        super().__init__(fleet)
        self.world, self.compute = world, compute
        self.mobile = links.LINKS[scenario.network.mobile]
        self._cuts: dict[int, list[Cut]] = {}
        self._home: dict[int, Access] = {}

    def switch(self, node: Node, to: str) -> None:
        """Put a device on its mobile network or on none; ``""`` is home again. Its sessions end: an address is gone."""
        super().switch(node, to)
        row, network = node.number, self.world.network
        if to == "mobile":
            self._home.setdefault(row, network.access(row))
            up, down = (float(rates[row]) for rates in self.fleet.stock.mobile)
            network.relink(row, Access(self.mobile.one_way_s, up, down, self.mobile.loss))
        elif to == "none":
            self._cuts.setdefault(row, []).extend(network.cut_off([row]))
        else:
            network.heal(self._cuts.pop(row, []))
            if row in self._home:
                network.relink(row, self._home.pop(row))
        self.compute.leave(node.name)
