"""The village's replicated state: registry, placements, requests, contributions, ledger, configuration, sessions,
council.

`VillageState.apply` is deterministic: the same commands in the same order give the same state on every node. It never
asks what time it is. A request has one outcome: the first `Complete` or `Refuse` that arrives settles it, later ones
change nothing, and it is credited in the same command, so that nothing acknowledged is lost or counted twice.

Who speaks is judged here too, not where a command is proposed: a proposer may lie, and with f liars of 3f+1 one may
lead. Every member therefore checks the signatures of receipts and payments as it applies them. That is as
deterministic as the rest, because a signature is good or not for everybody who holds the same public keys. A
certificate of f+1 members who had checked would save the others the work, at the price of f+1 signatures to check.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from types import MappingProxyType

from policies.commands import (
    Accept,
    Add,
    Attach,
    Attend,
    Command,
    CompareAndSet,
    Complete,
    Configure,
    Convict,
    Dissolve,
    Evict,
    InSession,
    Join,
    Pay,
    Place,
    Pledge,
    Put,
    Receipt,
    Refuse,
    Stand,
    decode,
    unsigned,
    verifiers_receipt,
)
from policies.state import snapshot
from policies.state.configuration import Configuration
from policies.state.contributions import Contributions
from policies.state.council import Council, Verify
from policies.state.ledger import Ledger
from policies.state.members import Members
from policies.state.part import Part
from policies.state.placements import Placements, follow
from policies.state.requests import OpKey, Requests, key_of
from policies.state.rewards import rewards
from policies.state.sessions import Sessions
from policies.wire import WireError, encode

NO_MODELS: Mapping[str, int] = MappingProxyType({})


class VillageState:
    """State after some prefix of the log.

    Args:
        council: who may change the committee and how; None in a village whose committee stays.
        seats: the committee at the beginning, where its members may lie; () where each is believed.
        layers: models that are served, and how many each has: only the whole of one is placed, and paid for. {} where
            nobody tells.

    Attributes:
        applied: number of commands applied, whatever they came to.
    """

    def __init__(
        self,
        council: Council | None = None,
        seats: tuple[str, ...] = (),
        layers: Mapping[str, int] = NO_MODELS,
    ) -> None:
        self.seats, self.layers = seats, dict(layers)
        self.registry, self.pipelines, self.work = Members(), Placements(), Requests()
        self.contributions, self.credits = Contributions(), Ledger()
        self.configuration, self.sessions = Configuration(), Sessions()
        self.council = council or Council()
        self.applied = 0

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts, in the order of a snapshot."""
        return (
            self.registry, self.pipelines, self.work, self.contributions, self.credits, self.configuration,
            self.sessions, self.council,
        )  # fmt: skip

    # -- commands ------------------------------------------------------------------------------------

    def apply_encoded(self, command: bytes, verify: Verify) -> tuple[Command | None, bool]:
        """Apply a command as the log gives it; bytes that are no command (a liar's) count and change nothing.

        Returns:
            The command, None if it is none, and whether it changed anything.
        """
        try:
            decoded = decode(command)
        except WireError:
            self.applied += 1
            return None, False
        return decoded, self.apply(decoded, verify)

    def apply(self, command: Command, verify: Verify) -> bool:
        """Apply one command; return whether it changed anything."""
        self.applied += 1
        if isinstance(command, Complete | Refuse):
            return self._settle(command, verify)
        if isinstance(command, Accept):
            return self.work.accept(command)
        if isinstance(command, Attach):
            return self.work.attach(command)
        if isinstance(command, Place):
            return self.pipelines.place(command, self.members, self.layers)
        if isinstance(command, Dissolve):
            return self.pipelines.dissolve(command.pipeline)
        if isinstance(command, Join):
            return self.registry.join(command.node)
        if isinstance(command, Evict):
            return self._evict(command, verify)
        if isinstance(command, Pay):
            payment = command.payment
            return verify(payment.source, encode(payment), command.signature) and self.credits.pay(payment)
        if isinstance(command, InSession):
            return self._in_session(command)
        if isinstance(command, Stand):
            return self.council.stand(command, verify)
        if isinstance(command, Attend):
            return self.council.attend(command, verify, self.credits.earned, self.applied)
        if isinstance(command, Convict):
            return self.council.convict(command, verify)
        if isinstance(command, Pledge):
            return _binds(command, verify)
        assert isinstance(command, Configure | Put | CompareAndSet | Add)
        return self.configuration.apply(command).ok

    def _evict(self, command: Evict, verify: Verify) -> bool:
        """Put a worker out, or hear one of those who must agree to it: any may lead for a while, and lie."""
        if not self.seats:
            return self.registry.evict(command.node)
        seats = self.council.sitting or self.seats
        return verify(command.by, unsigned(command), command.signature) and self.registry.accuse(
            command.node, command.by, seats
        )

    def _in_session(self, command: InSession) -> bool:
        if not self.sessions.due(command):
            return False
        self.sessions.done(command, self.configuration.apply(command.operation), self.applied)
        return True

    def _settle(self, command: Complete | Refuse, verify: Verify) -> bool:
        accepted = self.work.owed.get(key_of(command))
        if accepted is None or (isinstance(command, Complete) and not self._genuine(command, accepted, verify)):
            return False
        self.work.settle(command)
        if isinstance(command, Complete):
            self.contributions.add(command.receipt)
            self._reward(command)
        return True

    def _genuine(self, command: Complete, accepted: Accept, verify: Verify) -> bool:
        """Whether a receipt claims no more than was asked, and everybody who is said to have signed it did."""
        receipt, vouched = command.receipt, command.vouched
        if not 0 <= receipt.tokens <= accepted.new_tokens or not follow(receipt.stages):
            return False
        layers = (receipt.stages[0].first, receipt.stages[-1].last)
        if self.layers and layers not in [(0, count) for count in self.layers.values()]:
            return False
        if vouched is not None and not (
            follow(vouched.stages)
            and vouched.stages[-1].last - vouched.stages[0].first == receipt.stages[-1].last - receipt.stages[0].first
            and _nodes(receipt).isdisjoint(_nodes(verifiers_receipt(receipt, vouched)))
            and _signed(verifiers_receipt(receipt, vouched), vouched.signature, verify)
        ):
            return False
        return _signed(receipt, command.signature, verify)

    def _reward(self, command: Complete) -> None:
        """Pay a verified receipt, if every node of it is a member in good standing."""
        if command.vouched is None:
            return
        receipt = command.receipt
        verifier = verifiers_receipt(receipt, command.vouched)
        if all(self.members.get(node, False) for node in _nodes(receipt) | _nodes(verifier)):
            standing = sum(self.members.values())
            amounts = rewards(receipt, verifier, self.credits.earned, standing)
            self.credits.reward(f"reward {receipt.client}/{receipt.op_id}", amounts)

    def holds(self, command: Command) -> bool:
        """Return whether this state shows that a command was done, or that nothing can come of it any more.

        Who is given a state in place of commands so tells which of them need not be asked for again. Of a command that
        leaves no trace nothing is known, and the answer is False.
        """
        if isinstance(command, Accept):
            return self.work.knows((command.client, command.op_id))
        if isinstance(command, Complete | Refuse):
            return key_of(command) in self.work.outcomes
        if isinstance(command, Join):
            return command.node in self.members
        if isinstance(command, Pay):
            payment = command.payment
            return payment.number <= self.credits.numbers.get(payment.source, 0)
        if isinstance(command, InSession):
            return command.sequence <= self.sessions.last(command.client)
        return isinstance(command, Stand) and command.node in self.council.candidates

    # -- the whole as bytes --------------------------------------------------------------------------

    def digest(self) -> str:
        """Digest of the whole state, for checks that compare nodes."""
        return blake2b(b"".join(part.digest() for part in self.parts), digest_size=20).hexdigest()

    def snapshot(self) -> bytes:
        """Return the whole state as canonical bytes (`policies.state.snapshot`)."""
        return snapshot.pack(self.applied, self.parts)

    @classmethod
    def restore(
        cls,
        data: bytes,
        council: Council | None = None,
        seats: tuple[str, ...] = (),
        layers: Mapping[str, int] = NO_MODELS,
    ) -> VillageState:
        """Return the state that `snapshot` gave; the other arguments are as for a new one, ``council`` a new council.

        Raises:
            SnapshotError: the bytes are no snapshot, or damaged; the message says how in one line.
        """
        state = cls(council, seats, layers)
        state.applied = snapshot.unpack(data, state.parts)
        return state

    # -- what is asked of it -------------------------------------------------------------------------

    @property
    def members(self) -> dict[str, bool]:
        """Nodes of the registry in order of joining, true while in good standing."""
        return self.registry.standing

    @property
    def placements(self) -> dict[int, Place]:
        """Pipeline number to the command that placed it."""
        return self.pipelines.by_number

    @property
    def requests(self) -> dict[OpKey, Accept]:
        """(client, op_id) to the accepted request, while it is owed an outcome."""
        return self.work.owed

    @property
    def outcomes(self) -> dict[OpKey, Complete | Refuse]:
        """(client, op_id) to what settled it."""
        return self.work.outcomes

    @property
    def ledger(self) -> dict[str, int]:
        """The contribution ledger: node to token-layers of settled receipts."""
        return self.contributions.by_node

    @property
    def earned(self) -> int:
        """Token-layers of all settled receipts; equals the sum of `ledger`."""
        return self.contributions.total

    @property
    def balances(self) -> dict[str, int]:
        """Account to micro-credits (`policies.state.ledger`)."""
        return self.credits.balances

    @property
    def wrong_books(self) -> str:
        """Which law of the ledger does not hold, or ""."""
        return self.credits.wrong()


def _binds(pledge: Pledge, verify: Verify) -> bool:
    """Whether every stage has signed its own commitment; that is kept by the log, and nothing of the state changes."""
    words = (pledge.stages, pledge.commitments, pledge.signatures)
    return len({len(part) for part in words}) == 1 and all(
        (c.first, c.last) == (stage.first, stage.last) and verify(stage.node, encode(c), signature)
        for stage, c, signature in zip(*words, strict=True)
    )


def _nodes(receipt: Receipt) -> set[str]:
    return {stage.node for stage in receipt.stages}


def _signed(receipt: Receipt, signature: bytes, verify: Verify) -> bool:
    return verify(receipt.stages[0].node, encode(receipt), signature)
