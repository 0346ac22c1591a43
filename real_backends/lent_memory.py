"""The memory that a node lends, and what shards take of it.

Both are counted as planners count them (`policies.sharding.check`): what a plan holds to fit, fits here.
"""

from __future__ import annotations

from collections.abc import Mapping

from policies.problem import Problem


class LentMemory:
    """A share of what the node could lend.

    Args:
        total_bytes: of the whole device, as its capability says.
        cards: what layers of each model take, by its name.
        slots: sessions whose caches are reserved with each layer.

    Attributes:
        share: that is lent; all of it until a policy holds itself to less.
    """

    def __init__(self, total_bytes: float, cards: Mapping[str, Problem], slots: int) -> None:
        self.total_bytes, self.share = total_bytes, 1.0
        self._cards, self._slots = cards, slots

    @property
    def lent_bytes(self) -> float:
        """What shards may take together; a byte more is rounding."""
        return self.share * self.total_bytes + 1

    def need_bytes(self, model: str, first: int, last: int, sessions: int | None = None) -> float:
        """Return what layers [first, last) take, with caches for so many sessions, for all slots by default."""
        card = self._cards[model]
        cache_bytes = card.kv_bytes_layer * ((self._slots if sessions is None else sessions) / self._slots)
        ends = (first == 0) + (last == card.layers)
        return (last - first) * (card.layer_bytes + cache_bytes) + ends * card.head_bytes
