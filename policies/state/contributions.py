"""Contributions: what each node has done, in token-layers (one token through one layer), and the sum of it."""

from __future__ import annotations

from typing import Any

from policies.commands import Receipt
from policies.state.part import Part

TOTAL_MAX = 2**63 - 1
"""What is written down of the sum, at most. Liars reach it with millions of receipts, anybody else never."""


def work(receipt: Receipt) -> list[tuple[str, int]]:
    """Return (node, token-layers) of each stage of a receipt."""
    return [(stage.node, receipt.tokens * (stage.last - stage.first)) for stage in receipt.stages]


class Contributions(Part):
    """What settled receipts say that nodes have done.

    Attributes:
        by_node: node to token-layers.
        total: token-layers of all settled receipts, counted apart, so that a check can compare.
    """

    name, form = "contributions", tuple[tuple[tuple[str, int], ...], int]

    def __init__(self) -> None:
        self.by_node: dict[str, int] = {}
        self.total = 0

    def add(self, receipt: Receipt) -> None:
        """Count a settled receipt, all of it or nothing: nothing, once `TOTAL_MAX` would be exceeded."""
        done = work(receipt)
        if self.total + sum(token_layers for _, token_layers in done) > TOTAL_MAX:
            return
        for node, token_layers in done:
            self.by_node[node] = self.by_node.get(node, 0) + token_layers
            self.total += token_layers

    def saved(self) -> Any:
        return tuple(self.by_node.items()), self.total

    def load(self, saved: Any) -> None:
        items, self.total = saved
        self.by_node = dict(items)
        if len(self.by_node) < len(items) or sum(self.by_node.values()) != self.total:
            raise ValueError(f"{self.total} token-layers, the nodes' sum is {sum(self.by_node.values())}")
