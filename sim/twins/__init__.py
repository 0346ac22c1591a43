"""Twins: a Byzantine member is two correct ones that share an identity and its keys (Bano et al., OPODIS 2021).

A scenario is a script of rounds, each with its leader, who can reach whom, and a firewall. After the script everybody
reaches everybody. `scenario` reads and writes scenarios, `generate` makes them, `play` runs one.
"""

from __future__ import annotations

from sim.twins.generate import Generator
from sim.twins.play import Outcome, Protocol, play
from sim.twins.scenario import Round, Scenario, read, write

__all__ = ["Generator", "Outcome", "Protocol", "Round", "Scenario", "play", "read", "write"]
