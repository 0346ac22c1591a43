"""Fluid sharing: flows over shared resources get max-min fair rates, and end at exact times.

`Sharing` runs flows on an engine; `max_min_rates` and `completion_times` answer without one. Each works in a named
mode (`sim.sharing.modes`), and whatever comes out says which.
"""

from sim.sharing.alone import Demand, Ends, Planned, completion_times, max_min_rates
from sim.sharing.fluid import Flow, Sharing
from sim.sharing.modes import MODES, Mode

__all__ = ["MODES", "Demand", "Ends", "Flow", "Mode", "Planned", "Sharing", "completion_times", "max_min_rates"]
