"""Owners: when devices are plugged in, looked at, and on which network.

``habits``: by the scenario's stated habits, for villages; ``crowd``: by a decomposition of the fitted availability, for
up to a million devices; ``agents``: owners who respond to heat, rewards and each other, for tens of thousands;
``returns``: how likely owners of the crowd are to be back, for who knows their laws.
"""

from sim.owners.habits import Habits, habits

__all__ = ["Habits", "habits"]
