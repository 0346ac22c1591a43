"""Commands: what goes through consensus, opaque to it, and is applied by `policies.state`.

A proposer may lie, so a command carries what every member needs to judge it for itself: receipts and payments carry
their signatures, a change of a register names the version it is meant for.
"""

from __future__ import annotations

from typing import Annotated, Literal, Union

import msgspec
from msgspec import Meta

from policies.jobs import NAME_MAX, Name, Sampling, Stage, TokenCount
from policies.verification.commitment import Commitment
from policies.wire import Message, WireError, encode

Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""What MessagePack, and every machine that may apply the state, holds as a signed integer."""
Value = Int | str
"""What a register holds."""
PRIORITY_MAX = 99
"""Our bound, far above any use."""
Priority = Annotated[int, Meta(ge=0, le=PRIORITY_MAX)]


Text = Annotated[str, Meta(max_length=4 * NAME_MAX)]
"""A reason in words, or several names."""


class Join(Message, frozen=True, tag="join"):
    """A device is a member of the village."""

    node: Name


class Evict(Message, frozen=True, tag="evict"):
    """A member's results were proved wrong too often; it gets no more work.

    Where members of the committee may lie, ``by`` is one of them and signs it, and it takes f + 1 of them.
    """

    node: str
    reason: str
    by: str = ""
    signature: bytes = b""


class Place(Message, frozen=True, tag="place"):
    """A pipeline exists: these stages hold the model."""

    pipeline: int
    model: Name
    stages: tuple[Stage, ...]
    token_s: Annotated[float, Meta(ge=0, le=1e18)]  # planned latency of one token


class Dissolve(Message, frozen=True, tag="dissolve"):
    """A pipeline is gone."""

    pipeline: int
    reason: str


class Accept(Message, frozen=True, tag="accept"):
    """A client's request is owed an outcome."""

    client: Name
    op_id: Name
    model: Name
    prompt: Name
    source: Name
    prompt_tokens: TokenCount
    new_tokens: TokenCount
    priority: Priority
    accepted_wall_ns: int
    deadline_wall_ns: int
    sampling: Sampling | None = None


class Attach(Message, frozen=True, tag="attach"):
    """The same request came again elsewhere: its prompt is now held by ``source``."""

    client: Name
    op_id: Name
    source: Name


class Receipt(Message, frozen=True):
    """The head of a pipeline vouches for the work done on one request."""

    client: Name
    op_id: Name
    output: Name
    tokens: TokenCount
    stages: tuple[Stage, ...]


class Vouched(Message, frozen=True):
    """Another pipeline ran the same request to the same output: its head signed the receipt with these stages."""

    stages: tuple[Stage, ...]
    signature: bytes


class Complete(Message, frozen=True, tag="complete"):
    """A request is answered; the stages of its receipt earn token-layers, and rewards if a verifier vouched for it."""

    receipt: Receipt
    first_token_ns: int
    signature: bytes
    vouched: Vouched | None = None


class CompleteBy(Complete, frozen=True, tag="complete_by"):
    """A request is answered by another model than the one that was asked for.

    ``model`` joins two with a plus where the first began the answer and was lost, and the second ended it. The leader
    vouches for it: it is not in the receipt that the pipeline's head signs.
    """

    model: Text = ""


def verifiers_receipt(receipt: Receipt, vouched: Vouched) -> Receipt:
    """Return the receipt that the verifier signed: the executor's, with the verifier's own stages."""
    return msgspec.structs.replace(receipt, stages=vouched.stages)


class Refuse(Message, frozen=True, tag="refuse"):
    """A request will not be answered, for this reason."""

    client: Name
    op_id: Name
    reason: Text


class Pledge(Message, frozen=True, tag="pledge"):
    """The stages of an attempt are bound to what they did: what will be looked at is drawn when this is agreed.

    One commitment and one signature for each stage that gave its word, in the order of the pipeline.
    """

    client: str
    op_id: str
    attempt: int
    stages: tuple[Stage, ...]
    commitments: tuple[Commitment, ...]
    signatures: tuple[bytes, ...]


# -- credits ---------------------------------------------------------------------------------------------------------


class Payment(Message, frozen=True):
    """The owner of ``source`` pays; ``number`` is one more than that of the account's last payment."""

    source: Name
    to: Name
    micro_credits: int
    number: int


class Pay(Message, frozen=True, tag="pay"):
    """A payment, signed by the node that pays."""

    payment: Payment
    signature: bytes


# -- registers: the dynamic configuration ----------------------------------------------------------------------------


class Configure(Message, frozen=True, tag="configure"):
    """Let ``key`` be ``value``, if its version is still this one; 0: it is not set yet."""

    key: str
    value: Value
    expected_version: int


class Put(Message, frozen=True, tag="put"):
    """Let ``key`` be ``value``, whatever it was."""

    key: str
    value: Value


class CompareAndSet(Message, frozen=True, tag="compare_and_set"):
    """Let ``key`` be ``value``, if it is ``expected``."""

    key: str
    expected: Value
    value: Value


class Add(Message, frozen=True, tag="add"):
    """Add to a number; a register that is not set counts as 0."""

    key: str
    amount: Int


Operation = Configure | Put | CompareAndSet | Add


class InSession(Message, frozen=True, tag="in_session"):
    """A client's operation, to be done once however often it is proposed.

    ``sequence`` counts the client's operations from 1; ``seen`` is how many commands the proposer had applied.
    """

    client: str
    sequence: int
    seen: int
    operation: Operation


# -- the council: who agrees for the village -------------------------------------------------------------------------


class Facts(Message, frozen=True):
    """What a device says of itself, and its owner answers for: how it is attested, and what it may fail by."""

    attestation: Literal["self", "mobile", "tpm", "tee"]
    network: str
    vendor: str
    region: str
    country: str


class Stand(Message, frozen=True, tag="stand"):
    """A device may be voted into the committee; ``commitment`` is the digest of its first secret for the beacon."""

    node: str
    facts: Facts
    commitment: bytes
    signature: bytes


class Attend(Message, frozen=True, tag="attend"):
    """A member holds that an epoch has lasted long enough, and says whom it heard in it.

    ``secret`` is what the member had committed to, ``commitment`` the digest of the next one.
    """

    node: str
    epoch: int
    heard: tuple[str, ...]
    secret: bytes
    commitment: bytes
    signature: bytes


class Convict(Message, frozen=True, tag="convict"):
    """Somebody signed two things of which a correct member signs one; the protocol's evidence proves it by itself."""

    evidence: bytes


def unsigned(command: Stand | Attend | Evict) -> bytes:
    """Return what the device signs: the command without its signature."""
    return encode(msgspec.structs.replace(command, signature=b""))


Command = Union[  # noqa: UP007
    Join, Evict, Place, Dissolve, Accept, Attach, Complete, CompleteBy, Refuse, Pay, Configure, Put, CompareAndSet, Add,
    InSession, Stand, Attend, Convict, Pledge,
]  # fmt: skip

_leaders = frozenset((Join, Evict, Place, Dissolve, Attach, Complete, CompleteBy, Refuse, Pledge))
"""What coordination asks of the log only while it leads; the state takes most of it at its word."""

_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)


def decode(command: bytes) -> Command:
    """Return the command in ``command``.

    Raises:
        WireError: the bytes are no command.
    """
    try:
        return _decoder.decode(command)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WireError(str(error)) from None


def is_leaders(command: bytes) -> bool:
    """Whether a command is the leader's alone to ask (`policies.consensus.reserved`); bytes that are none are nobody's.

    It decodes as the state will: a tag alone can be written in several ways, and looking at it takes as long.

    >>> is_leaders(encode(Dissolve(7, "gone"))), is_leaders(encode(Put("key", 7)))
    (True, False)
    """
    try:
        return type(decode(command)) in _leaders
    except WireError:
        return False
