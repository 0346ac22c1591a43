"""G06, inference manager: a node that was ever offline stays offline."""

from __future__ import annotations

from typing import Any

from policies.coordination import Coordination
from policies.work import Renew


class ForgetsTheOffline(Coordination):
    """A worker whose lease ran out is never heard again: its predecessor took heartbeats of nodes ONLINE only.

    Breaks `checks.leader.CapacityRecovers` when a worker is silent for a lease and comes back.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.offline: set[str] = set()
        super().__init__(*args, **kwargs)

    def _worker_gone(self, node: str, reason: str) -> None:
        if reason == "lease expired":
            self.offline.add(node)
        super()._worker_gone(node, reason)

    def _on_renew(self, node: str, renew: Renew) -> None:
        if node not in self.offline:
            super()._on_renew(node, renew)
