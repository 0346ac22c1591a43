"""Fit of three costs to three throughputs, at 4 and 32 members; no other number of the table is looked at.

- a step's cost: 1 KB at 4 members, where the leader's processor is the limit;
- the interface's rate: 1 KB at 32 members, where sending is;
- a signature's cost: 10 ms at 32 members, where certificates of 22 signatures are verified one after another.

Each hangs on the other two a little: one is solved for after another, twice over.

python -m experiments.published.hotstuff_fit
"""

from __future__ import annotations

from dataclasses import replace

from experiments.published.hotstuff import EMPTY, MACHINE, PAYLOAD, PUBLISHED, Machine, Setting, measure

ROUNDS = 2
STEPS = (("step_ns", 4, PAYLOAD), ("crypto_ns", 32, EMPTY), ("bytes_per_s", 32, PAYLOAD))


def fit(machine: Machine) -> Machine:
    """Return a machine of these costs' kind that meets the three throughputs to about a hundredth."""
    for _ in range(ROUNDS):
        for cost, n, setting in STEPS:
            machine = solve(machine, cost, n, setting)
    return machine


def solve(machine: Machine, cost: str, n: int, setting: Setting) -> Machine:
    """Return the machine with one cost changed by a step of the secant method, to at most half or twice of it."""
    target, x0 = PUBLISHED[setting][n].kops, float(getattr(machine, cost))
    x1 = 1.1 * x0
    y0, y1 = (measure(n, setting, replace(machine, **{cost: x})).kops for x in (x0, x1))
    x2 = x0 + (target - y0) * (x1 - x0) / (y1 - y0)
    return replace(machine, **{cost: min(max(x2, x0 / 2), x0 * 2)})


if __name__ == "__main__":
    print(fit(MACHINE))
