"""Why the row of 1 KB at 16 members is off: what a view of ours is made of there, and what any such model could meet.

A view is what 400 operations take at the throughput of a row. From 32 members on it grows with the members; taken as a
straight line through the row of 32, which is fitted, only its share that does not grow is free. `constants` gives the
bounds on that share, in published numbers alone.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.published.hotstuff import BATCH, EMPTY, FREE, MACHINE, PAYLOAD, PUBLISHED, Row, measure

ASKED = 16
"""The size whose row is off."""


def view_ms(row: Row) -> float:
    """Return how long a view takes."""
    return BATCH / row.kops


def parts() -> list[tuple[str, float]]:
    """Return how long a view takes at 16 members, with all costs and with one of them gone."""
    near = replace(PAYLOAD, one_way_s=0.0)
    variants = (
        ("all", PAYLOAD, MACHINE),
        ("steps", PAYLOAD, replace(MACHINE, step_ns=0)),
        ("signatures", PAYLOAD, replace(MACHINE, crypto_ns=0)),
        ("sending", PAYLOAD, replace(MACHINE, bytes_per_s=FREE.bytes_per_s)),
        ("the ways between members", near, MACHINE),
    )
    return [(name, view_ms(measure(ASKED, setting, machine))) for name, setting, machine in variants]


def line_ms(n: int, constant_ms: float) -> float:
    """Return a view at ``n`` members: a share that does not grow, and one in proportion, through the row of 32."""
    at_32 = view_ms(PUBLISHED[PAYLOAD][32])
    return constant_ms + (at_32 - constant_ms) * n / 32


def longest_ms(n: int, within: float) -> float:
    """Return the longest view with which both numbers of the row of ``n`` members are met, in our closed loop."""
    theirs = PUBLISHED[PAYLOAD][n]
    return min(view_ms(theirs) / (1 - within), theirs.ms * (1 + within) * BATCH / PAYLOAD.outstanding)


def constants(within: float) -> dict[str, float]:
    """Return what bounds the share that does not grow (ms).

    ``most``: of the row of 16; ``least``: of the row of 128; ``seen``: what a view of empty operations at 4 members
    takes beside its two ways of 10 ms, taken to be on top of the machines' own; ``ours``: two ways of 1 ms.
    """
    at_32 = view_ms(PUBLISHED[PAYLOAD][32])
    return {
        "most": (longest_ms(16, within) - at_32 * 16 / 32) / (1 - 16 / 32),
        "least": (at_32 * 128 / 32 - longest_ms(128, within)) / (128 / 32 - 1),
        "seen": view_ms(PUBLISHED[EMPTY][4]) - 2 * EMPTY.one_way_s * 1000,
        "ours": 2 * PAYLOAD.one_way_s * 1000,
    }
