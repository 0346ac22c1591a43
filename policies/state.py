"""The village's replicated state: registry, shard placements, requests and the contribution ledger.

`VillageState.apply` is deterministic: the same commands in the same order give the same state on every node. It never
asks who speaks or what time it is. A request has one outcome: the first `Complete` or `Refuse` that
arrives settles it, later ones change nothing. The ledger counts token-layers (one token through one layer); it
is credited in the same command that settles the request, so no acknowledged entry is lost or counted twice.
"""

from __future__ import annotations

from hashlib import blake2b

from policies.commands import Accept, Attach, Command, Complete, Dissolve, Evict, Join, Place, Refuse
from policies.wire import encode

OpKey = tuple[str, str]  # (client, op_id)


class VillageState:
    """State after some prefix of the log.

    Attributes:
        members: nodes of the registry, in order of joining, true while in good standing.
        placements: pipeline number to the command that placed it.
        requests: (client, op_id) to the accepted request, while it is owed an outcome.
        outcomes: (client, op_id) to the `Complete` or `Refuse` that settled it.
        ledger: node to token-layers earned.
        applied: number of commands applied.
    """

    def __init__(self) -> None:
        self.members: dict[str, bool] = {}
        self.placements: dict[int, Place] = {}
        self.requests: dict[OpKey, Accept] = {}
        self.outcomes: dict[OpKey, Complete | Refuse] = {}
        self.ledger: dict[str, int] = {}
        self.earned = 0  # token-layers of all settled receipts; equals the ledger's sum
        self.applied = 0

    def apply(self, command: Command) -> bool:
        """Apply one command; return whether it changed anything."""
        self.applied += 1
        if isinstance(command, Complete | Refuse):
            return self._settle(command)
        if isinstance(command, Accept):
            key = (command.client, command.op_id)
            if key in self.requests or key in self.outcomes:
                return False
            self.requests[key] = command
        elif isinstance(command, Attach):
            return self._attach(command)
        elif isinstance(command, Place):
            busy = {stage.node for placed in self.placements.values() for stage in placed.stages}
            nodes = [stage.node for stage in command.stages]
            if command.pipeline in self.placements or not busy.isdisjoint(nodes) or len(set(nodes)) < len(nodes):
                return False
            if not all(self.members.get(node, False) for node in nodes):
                return False  # one was evicted after the leader planned with it
            self.placements[command.pipeline] = command
        elif isinstance(command, Dissolve):
            return self.placements.pop(command.pipeline, None) is not None
        elif isinstance(command, Join):
            if command.node in self.members:
                return False
            self.members[command.node] = True
        elif isinstance(command, Evict):
            if not self.members.get(command.node, False):
                return False
            self.members[command.node] = False
        return True

    def _settle(self, command: Complete | Refuse) -> bool:
        done = command.receipt if isinstance(command, Complete) else command
        key = (done.client, done.op_id)
        if key in self.outcomes or key not in self.requests:
            return False
        del self.requests[key]
        self.outcomes[key] = command
        if isinstance(command, Complete):
            for stage in command.receipt.stages:
                work = command.receipt.tokens * (stage.last - stage.first)
                self.ledger[stage.node] = self.ledger.get(stage.node, 0) + work
                self.earned += work
        return True

    def _attach(self, command: Attach) -> bool:
        key = (command.client, command.op_id)
        accepted = self.requests.get(key)
        if accepted is None or accepted.source == command.source:
            return False
        fields = {name: getattr(accepted, name) for name in accepted.__struct_fields__}
        self.requests[key] = Accept(**{**fields, "source": command.source})
        return True

    def digest(self) -> str:
        """Digest of the whole state, for checks that compare nodes."""
        parts = (
            sorted(self.members.items()), sorted(self.placements.items()), sorted(self.requests.items()),
            sorted(self.outcomes.items()), sorted(self.ledger.items()),
        )  # fmt: skip
        return blake2b(encode(parts), digest_size=20).hexdigest()
