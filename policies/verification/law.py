"""What checks cost, what they find, and how often and in which way to check, given how far a worker is trusted.

Counts are operations and bytes (`models.inference.work`), so that any device's prices can be put on them. A recheck
does the operations of a decoding as one prefill: it reads the weights once where the worker read them for every token,
which is why it is cheap on machines that wait for memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from models.inference.shapes import Shape
from models.inference.work import Work, decode_work, prefill_work
from policies.verification.hashtree import HASH_BYTES
from policies.verification.sketch import BLOCK, PROJECTIONS


class CheckCost(NamedTuple):
    """What one check of a stage costs, expected over the challenge.

    Attributes:
        flops: operations of the verifier.
        moved_bytes: weights and cache that the verifier reads.
        sent_bytes: the opening, and what the stage took, from the worker or its neighbour.
        kept_bytes: held by the worker from its commitment until the challenge.
        served_flops: operations of the stage for the session itself.
        served_bytes: weights and cache that the stage read for it, one session at a time.
    """

    flops: float
    moved_bytes: float
    sent_bytes: float
    kept_bytes: float
    served_flops: float
    served_bytes: float


def check_cost(shape: Shape, layers: int, prompt_tokens: int, new_tokens: int, *, from_tokens: bool) -> CheckCost:
    """Return the cost of a check on a stage of ``layers`` layers that is not the last one.

    Args:
        shape: the model.
        layers: of the stage, or from layer 0 to its end where the check starts from the tokens.
        prompt_tokens: of the session.
        new_tokens: of the session.
        from_tokens: the verifier gets tokens rather than activations in float32.
    """
    positions = prompt_tokens + new_tokens - 1
    blocks = -(-positions // BLOCK)
    mean = sum(min((block + 1) * BLOCK, positions) for block in range(blocks)) / blocks
    again = prefill_work(shape, layers, mean)
    served = prefill_work(shape, layers, prompt_tokens)
    for token in range(1, new_tokens):
        served = served + decode_work(shape, layers, 1, prompt_tokens + token)
    number_bytes = 2 * shape.kv_heads * shape.head_dim * shape.bytes_per_kv
    sketch = HASH_BYTES + 4 * PROJECTIONS * BLOCK
    paths = HASH_BYTES * (2 * math.ceil(math.log2(max(blocks, 2))) + math.ceil(math.log2(max(blocks * layers, 2))))
    came = mean * (8 if from_tokens else 4 * shape.hidden)
    return CheckCost(
        _flops(again),
        again.weight_bytes + again.kv_bytes,
        came + sketch + BLOCK * number_bytes + paths,
        positions * layers * number_bytes + blocks * sketch,
        _flops(served),
        served.weight_bytes + served.kv_bytes,
    )


def _flops(work: Work) -> float:
    return work.linear_flops + work.attention_flops


def found_within(checks: int, share: float, found: float) -> float:
    """Return the probability that so many independent checks notice a worker at least once.

    Args:
        checks: how many.
        share: of the blocks that are falsified.
        found: probability that a check of a falsified block notices it.
    """
    return 1.0 - (1.0 - share * found) ** checks


def lying(prior: float, passed: int, found: float) -> float:
    """Return the probability that a worker lies which has passed so many checks (Bayes' rule).

    Args:
        prior: before any check.
        passed: checks in a row.
        found: probability that a check would have noticed a liar.
    """
    slipped = prior * (1.0 - found) ** passed
    return slipped / (slipped + 1.0 - prior)


class SpotChecks(NamedTuple):
    """How often to check a worker, and what comes of it.

    Attributes:
        rate: share of its sessions that are checked.
        noticed: probability that a falsified session is noticed.
        falsified: sessions a liar falsifies, on average, until it has been noticed often enough.
        cost: of the checks, a session.
    """

    rate: float
    noticed: float
    falsified: float
    cost: float


def spot_checks(
    lies: float, *, harm: float, cost: float, found: float, horizon: int, strikes: int = 1, floor: float = 0.0
) -> SpotChecks:
    """Return the rate at which checks and what slips through them cost least together.

    Over n sessions checks cost r c n, and a liar does harm h in each session until it was noticed s times, s / (r d) of
    them. The sum is least at r = sqrt(p h s / (c d n)): twice as frequent checks for a worker four times as suspect.

    Args:
        lies: probability p that the worker lies (`lying`).
        harm: h of a falsified session, in the unit of ``cost``.
        cost: c of a check.
        found: probability d that a check of a falsified session notices it.
        horizon: n sessions that the worker is expected to serve.
        strikes: s times that it must be noticed before it is out.
        floor: the rate is never below, so that nobody can earn trust and then spend it.

    Raises:
        ValueError: a number that no such law has.
    """
    shares = {"lies": lies, "found": found, "floor": floor}
    if bad := [name for name, value in shares.items() if not 0 <= value <= 1]:
        raise ValueError(f"{bad[0]} is {shares[bad[0]]:g}; allowed: 0 to 1")
    if not (harm >= 0 and cost > 0 and found > 0 and horizon >= 1 and strikes >= 1):
        raise ValueError(
            f"harm={harm:g}, cost={cost:g}, found={found:g}, horizon={horizon}, strikes={strikes}; "
            "allowed: harm from 0, the others above 0"
        )
    rate = min(1.0, max(floor, math.sqrt(lies * harm * strikes / (cost * found * horizon))))
    noticed = rate * found
    return SpotChecks(rate, noticed, strikes / noticed if noticed > 0 else math.inf, rate * cost)


class Redundancy(NamedTuple):
    """A way to check: its cost for a session it is used on, and the probability that it notices a falsified one."""

    name: str
    cost: float
    found: float


def cheapest(ways: Sequence[Redundancy], noticed: float) -> tuple[Redundancy, float]:
    """Return the way, and the rate at which it must be used, to notice falsified sessions at least expense.

    Args:
        ways: such as a recheck of a block, a second run on other devices, or two more for a majority.
        noticed: the probability asked for.

    Raises:
        ValueError: no way notices so much.
    """
    able = [way for way in ways if way.found >= noticed > 0]
    if not able:
        best = max((way.found for way in ways), default=0.0)
        raise ValueError(f"noticed is {noticed:g}; allowed: above 0, up to {best:g}, what the best way finds")
    best_way = min(able, key=lambda way: (noticed / way.found * way.cost, way.name))
    return best_way, noticed / best_way.found
