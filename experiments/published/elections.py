"""How long a Raft election takes: the measurement of Ongaro and Ousterhout (2014, section 9.3, figure 16), simulated.

They crashed the leader of five real servers a thousand times for each range of time-outs. What passes from a time-out
to the arrival of its ballots decides how often votes split; the paper gives only the sum of the whole broadcast (about
15 ms). Here it is one way of 1 ms after a sync of 2 ms, fitted to the first median; all else is predicted. The members
run without PreVote, which all but ends the split votes that the paper measures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models import draws
from policies import port as p
from policies.cell import Cell
from policies.config import RaftConfig
from policies.consensus import Raft
from policies.consensus.raft.messages import Append
from policies.log import record
from policies.port import NS_PER_S
from policies.wire import encode
from scenarios.schema import Network
from sim.keys import KeyRing
from sim.network import Links, MessageNetwork
from sim.world import StepCost, World

NAMES = tuple(f"n{i + 1}" for i in range(5))
ONE_WAY = Network(backbone_s=0.001, loss=0.0, duplicate=0.0)
COST = StepCost(fsync_ns=2_000_000)


@dataclass(frozen=True)
class Published:
    """One number of the paper's figure.

    Attributes:
        low_ms, high_ms: range of the election time-outs.
        what: ``median``, ``mean``, ``worst`` or ``shortest`` of the time without a leader.
        ms: as published.
        source: where.
        fitted: whether our two free numbers were chosen by it.
    """

    low_ms: float
    high_ms: float
    what: str
    ms: float
    source: str
    fitted: bool = False


PAPER = "Ongaro and Ousterhout 2014, section 9.3"
DISSERTATION = "Ongaro 2014, leaderelection/real.tex"
PUBLISHED = (
    Published(150, 155, "median", 287.0, PAPER, fitted=True),
    Published(150, 200, "worst", 513.0, PAPER),
    Published(12, 24, "mean", 35.0, PAPER),
    Published(12, 24, "worst", 152.0, PAPER),
)
"""Of a thousand trials each."""
CHANCELESS, CHANCELESS_TRIALS = Published(150, 150, "shortest", 10_000.0, DISSERTATION), 100
"""Without any chance in the time-outs elections took longer than this. Our trials are fewer, as each lasts so long."""
GIVE_UP_S = 11.0
"""Nobody waits longer for a member to be elected without chance."""


def downtime_s(trial: int, low_s: float, high_s: float, give_up_s: float = 60.0) -> float:
    """Return how long five members are without a leader after its crash, in the set-up of the paper.

    The leader's last heartbeat reaches all at once; it crashes uniformly within the heartbeat interval, half of the
    shortest time-out, after it. All logs have different lengths, so that two of the four survivors cannot win.

    Args:
        trial: seed.
        low_s, high_s: range of the election time-outs.
        give_up_s: returned if nobody was elected by then.
    """
    world = World(MessageNetwork(trial, Links.alike(5, 0.0, 1e9), ONE_WAY))
    config = RaftConfig(
        heartbeat_s=low_s / 2, election_min_s=low_s, election_max_s=high_s, pre_vote=False, check_quorum=False
    )
    elected: list[int] = []
    world.on_decide.append(lambda now, node, effect: elected.append(now) if effect[2] == "leader" else None)
    keys = KeyRing(trial)
    for number, name in enumerate(NAMES[:4]):
        peers = tuple(n for n in NAMES if n != name)

        def make(name: str = name, peers: tuple[str, ...] = peers) -> Cell:
            return Cell(Raft(config, NAMES), name, peers, seed=trial, keys=keys.handle(name))

        node = world.add(name, make, COST)
        node.disk.append(_saved_log(number + 1))
        node.disk.sync()
    for node in world.nodes:
        world.start(node)
        world.give_at(1_000_000, node, (p.MESSAGE, "", "n5", encode(Append(1, 0, 0, 0, ()))))
    crashed_s = 0.001 + low_s / 2 * float(draws.uniform(trial, "crash", 0, 0))
    while not elected and world.engine.now < give_up_s * NS_PER_S:
        world.run(world.engine.now / NS_PER_S + low_s)
    return elected[0] / NS_PER_S - crashed_s if elected else give_up_s


def _saved_log(length: int) -> bytes:
    """Return a disk's bytes: term 1 was joined, and ``length`` entries of it are there."""
    entries = tuple((f"/{index:012d}", encode((1, b"x"))) for index in range(1, length + 1))
    return record((("/meta", encode((1, "n5"))), *entries))


def downtimes_ms(low_ms: float, high_ms: float, trials: int = 1000, give_up_s: float = 60.0) -> NDArray[np.float64]:
    """Return the downtimes of so many trials, in ms."""
    return 1000 * np.array([downtime_s(trial, low_ms / 1000, high_ms / 1000, give_up_s) for trial in range(trials)])


def of(what: str, times_ms: NDArray[np.float64]) -> float:
    """Return the number of a `Published` row over these trials."""
    return float(
        np.max(times_ms) if what == "worst" else np.median(times_ms) if what == "median" else np.mean(times_ms)
    )
