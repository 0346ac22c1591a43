"""Rewards: what a verified receipt pays, under the documented rates and multipliers; a pure function of the state.

Only what two pipelines without a common node have both signed is paid: no node supplies its own measure. The
documented bonuses for success, satisfaction and peer review are therefore left out: their inputs were what callers
said of themselves.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping

from policies.commands import Receipt
from policies.state.contributions import work
from policies.state.ledger import MICRO, Entry

CREDITS_PER_H = 10
"""Documented: 10 an hour of compute (the contribution ledger and the token system; one file says 100)."""
REFERENCE_TOKEN_LAYERS_PER_H = 360_000
"""An hour of compute in the unit that receipts measure. Assumption: 100 token-layers a second, about a phone that
decodes 4 tokens a second through 24 layers; faster devices earn their hour sooner."""
COMPUTE_PERCENT, VALIDATOR_PERCENT = 100, 200
"""Documented multipliers by type of contribution: compute 1, validator 2."""
TIERS = (0, 100, 500, 2000, 10_000)
TIER_PERCENT = (100, 120, 150, 200, 300)
"""Documented tiers: from so many credits on, earned in the past, so much is paid (that the documented points are
credits is our reading)."""
SCARCITY_NODES = 10
"""Documented: rewards are larger by max(1, 10 / (n + 1)) in a village of n contributors; n is taken as the members in
good standing."""


def rewards(executor: Receipt, verifier: Receipt, earned: Mapping[str, int], members: int) -> tuple[Entry, ...]:
    """Return what each node of a verified receipt is paid, in micro-credits.

    Args:
        executor: what was answered.
        verifier: the same, run by other nodes.
        earned: node to micro-credits of its rewards so far, which give its tier.
        members: members in good standing.
    """
    scarcity_percent = max(100, SCARCITY_NODES * 100 // (members + 1))
    entries: list[Entry] = []
    for receipt, type_percent in ((executor, COMPUTE_PERCENT), (verifier, VALIDATOR_PERCENT)):
        for node, token_layers in work(receipt):
            tier = bisect_right(TIERS, earned.get(node, 0) // MICRO) - 1
            percents = type_percent * TIER_PERCENT[tier] * scarcity_percent
            amount = token_layers * CREDITS_PER_H * MICRO * percents // (REFERENCE_TOKEN_LAYERS_PER_H * 100**3)
            entries.append((node, amount))
    return tuple(entries)
