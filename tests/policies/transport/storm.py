"""Bad weather for transports: a keyed schedule of letters, crashes, partitions and loss, and then calm."""

from __future__ import annotations

from models import draws
from policies.transport.messages import Post
from sim.cluster import Cluster

KINDS = 6


def storm(cluster: Cluster, seed: int, rounds: int, path: str = "", gap_s: float = 1.0) -> int:
    """Post a letter a round between nodes at random while they crash and are cut off; returns how many were posted.

    At the end every node is up and nobody is cut off; loss and copies are the cluster's own, throughout.
    """
    names = cluster.names
    posted = 0
    for number in range(rounds):
        dice = draws.integers(seed, "storm", number, range(4), 1 << 30).tolist()
        origin, to = names[dice[0] % len(names)], names[dice[1] % len(names)]
        if origin != to and cluster.world.by_name[origin].up:
            cluster.request(origin, "client", str(number), Post(to, str(number).encode()), path)
            posted += 1
        cluster.run(gap_s * (dice[2] % 1000) / 1000 + 1e-4)
        victim = names[dice[3] % len(names)]
        match dice[3] // len(names) % KINDS:
            case 0:
                if cluster.world.by_name[victim].up:
                    cluster.crash(victim, torn=0.5)
            case 1 | 2:
                if not cluster.world.by_name[victim].up:
                    cluster.restart(victim)
            case 3:
                cluster.partition([victim])
            case 4:
                cluster.heal()
    cluster.heal()
    for name in names:
        if not cluster.world.by_name[name].up:
            cluster.restart(name)
    return posted
