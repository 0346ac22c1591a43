"""Harvest: who lends idle compute, when and how much.

`elementwise` decides for a row or a fleet, `agent` carries the decision out on one node, `envelope` says
what a decision must never break, and `messages` is what an agent announces.
"""

from policies.harvest.agent import HarvestAgent
from policies.harvest.elementwise import Devices, Harvest, HarvestState
from policies.harvest.envelope import violations
from policies.harvest.messages import Session

__all__ = ["Devices", "Harvest", "HarvestAgent", "HarvestState", "Session", "violations"]
