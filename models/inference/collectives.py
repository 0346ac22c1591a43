"""What devices say to one another: all-reduces of tensor parallelism, hops of a pipeline.

Two all-reduces a layer (after attention and after the feed-forward block; Megatron-LM, arXiv 1909.08053).
"""

from __future__ import annotations

from dataclasses import dataclass

ALL_REDUCES_A_LAYER = 2
CROWD_BYTES = 4096 * 1.0625
"""4,096 numbers in Q8_0."""


@dataclass(frozen=True)
class Link:
    """Links between devices of one kind.

    Attributes:
        bytes_per_s: each way.
        start_s: of one all-reduce or hop before any byte moves, for each further device.
        launch_s: of one all-reduce before any byte moves, however many devices take part.
        serialise_s: packing and unpacking at a hop.
        star: all-reduces go through one root, as in distributed-llama; otherwise round a ring.
        crowd_s: of an all-reduce through a root: what the collision of N replies costs is `crowd_s` N^3, times the
            square of what they carry in units of `CROWD_BYTES`.
    """

    bytes_per_s: float
    start_s: float
    serialise_s: float = 0.0
    star: bool = False
    crowd_s: float = 0.0
    launch_s: float = 0.0


def all_reduce_s(link: Link, devices: int, size_bytes: float) -> float:
    """Return the time until every device has the sum.

    A ring sends 2 (N - 1) / N of the data over each link and starts N - 1 times (Patarasu and Yuan, 2009). Within one
    machine's NVLink the launch outlasts the ring's starts and is paid once. A root sends and takes the data of N - 1
    others, one after another.
    """
    if devices < 2:
        return 0.0
    if link.star:
        crowd_s = link.crowd_s * devices**3 * (size_bytes / CROWD_BYTES) ** 2
        return link.start_s + crowd_s + 2 * (devices - 1) * size_bytes / link.bytes_per_s
    moved = 2.0 * (devices - 1) / devices * size_bytes
    return link.launch_s + (devices - 1) * link.start_s + moved / link.bytes_per_s


def layer_all_reduce_s(link: Link, devices: int, layers: int, size_bytes: float) -> float:
    """Return the time of the all-reduces of some layers, one after another."""
    return layers * ALL_REDUCES_A_LAYER * all_reduce_s(link, devices, size_bytes)


def pipeline_rate(stages_s: list[float], hops_s: list[float], in_flight: int) -> float:
    """Return passes a second with some passes in flight: at most one in the slowest stage at a time."""
    around_s = sum(stages_s) + sum(hops_s)
    return min(1.0 / max(*stages_s, 0.0, *hops_s), in_flight / around_s)
