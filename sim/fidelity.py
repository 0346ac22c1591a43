"""The ways to compute what a serving engine does in virtual time, by name: every result says which one it is of."""

from __future__ import annotations

from models.engines import Law
from policies.serving.batching import BatchRules
from sim.batches import Engine, Fidelity, Watch
from sim.fluid import Fluid


def engine(
    law: Law, rules: BatchRules, fidelity: Fidelity, watch: Watch = lambda now_s, iterations: None
) -> Engine | Fluid:
    """Return an engine of a fidelity.

    Args:
        law: what an iteration takes.
        rules: the batch's limits.
        fidelity: ``iterations``, the reference, one by one; ``leaps``, the same schedule in fewer events; ``fluid``, in
            the fewest, to nearly the same schedule.
        watch: told the time and the iterations so far before each event.
    """
    if fidelity == "fluid":
        return Fluid(law, rules, watch=watch)
    return Engine(law, rules, leaps=fidelity == "leaps", watch=watch)
