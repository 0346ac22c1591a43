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

    def switch(self, node: Node, to: str, on: bool) -> None:
        """Put a device on its mobile network or on none, or end that; it is home again after the last."""
        rows = self.fleet.around.mobile if to == "mobile" else self.fleet.around.offline
        rows[node.number] += 1 if on else -1

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
        self._cuts: dict[int, list[Cut]] = {}  # of devices on no network
        self._home: dict[int, Access] = {}  # of devices on the mobile one

    def switch(self, node: Node, to: str, on: bool) -> None:
        """Put a device on its mobile network or on none, or end that. Where that moves it, its sessions end: an address
        is gone. On none it is cut off, whatever else it would be on."""
        super().switch(node, to, on)
        row, network = node.number, self.world.network
        was = row in self._cuts, row in self._home
        offline, mobile = (bool(rows[row]) for rows in (self.fleet.around.offline, self.fleet.around.mobile))
        if offline and row not in self._cuts:
            self._cuts[row] = network.cut_off([row])
        elif not offline:
            network.heal(self._cuts.pop(row, []))
        if mobile and row not in self._home:
            self._home[row] = network.access(row)
            up, down = (float(rates[row]) for rates in self.fleet.stock.mobile)
            network.relink(row, Access(self.mobile.one_way_s, up, down, self.mobile.loss))
        elif not mobile and row in self._home:
            network.relink(row, self._home.pop(row))
        if was != (offline, mobile):
            self.compute.leave(node.name, offline)
