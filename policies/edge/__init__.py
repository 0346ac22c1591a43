"""Edge: the life of a lent device, the room on it, and how much of it is lent at its charge, heat and memory.

`lifecycle` is the automaton as data, `reservations` who holds what, `ladder` the elementwise limits, `agent` carries
them out on one device, `watch` is the committee's side, and `messages` is what they say.
"""

from policies.edge.agent import EdgeAgent, check_edge
from policies.edge.ladder import LadderState, Limits, begin, ladder
from policies.edge.lifecycle import TRANSITIONS, Lifecycle, table
from policies.edge.messages import Deploy, Ended, Maintain, Phase, Place, Presence, Recall
from policies.edge.reservations import Reservations, Room
from policies.edge.watch import EdgeWatch

__all__ = [
    "TRANSITIONS", "Deploy", "EdgeAgent", "EdgeWatch", "Ended", "LadderState", "Lifecycle", "Limits", "Maintain",
    "Phase", "Place", "Presence", "Recall", "Reservations", "Room", "begin", "check_edge",
    "ladder", "table",
]  # fmt: skip
