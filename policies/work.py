"""The work protocol: what workers and the leader say to one another, and what the leader announces."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from policies.jobs import Name, Rank, Sampling, Stage, Standby
from policies.port import NS_PER_S
from policies.wire import Message

RESEND_NS = 2 * NS_PER_S
"""After this long without an answer an assignment or a report is sent again (our choice: far above any round trip,
far below any deadline)."""
LEFT_MAX_NS = 1 << 60
"""Of a request's time, 36 years (our bound): added to a node's clock it is a number that can be written down."""

Amount = Annotated[float, Meta(ge=0, le=1e18)]
AboveZero = Annotated[float, Meta(ge=1e-18, le=1e18)]
"""Claims that a planner can use: finite, as is what is divided by them, and what `policies.problem.Worker` allows; the
bounds are beyond any device (an exabyte). One lying renewal must not spoil the plan of all."""


class Capability(Message, frozen=True):
    """What a worker lends, at the share it lends it (see `models.inference` for the terms).

    A decode step over n layers takes ``step_s + n * layer_s``; prefill ``prefill_s_token_layer`` a token and layer.
    """

    memory_bytes: Amount
    layer_s: AboveZero
    step_s: Amount
    prefill_s_token_layer: Amount
    bytes_per_s: AboveZero
    one_way_s: Amount


# worker to leader (path "coordination")


class Renew(Message, frozen=True, tag="renew"):
    """Keeps a lease alive; ``loaded`` is the pipeline whose shard is in memory, 0 for none."""

    capability: Capability
    loaded: int


class Leave(Message, frozen=True, tag="leave"):
    """The device goes; its owner comes first."""

    reason: str


class Began(Message, frozen=True, tag="began"):
    """The assignment arrived; it need not be sent again."""

    client: str
    op_id: str
    attempt: int


class Emitted(Message, frozen=True, tag="emitted"):
    """An attempt that runs has these tokens; the first of them stands at ``position`` of the answer."""

    client: str
    op_id: str
    attempt: int
    position: int
    tokens: tuple[int, ...]


class Report(Message, frozen=True, tag="report"):
    """An attempt ended: answered if ``reason`` is empty, else lost, with the node that failed where known.

    A lost one brings the tokens it had (``emitted``, from the answer's first on), for the next to go on from.
    """

    client: str
    op_id: str
    attempt: int
    reason: str
    node: str
    output: Name
    tokens: int
    first_token_ns: int
    signature: bytes
    emitted: tuple[int, ...] = ()


# leader to worker (path "worker")


class Leased(Message, frozen=True, tag="leased"):
    """The lease runs until the leader has heard nothing for its length."""


class NotLeader(Message, frozen=True, tag="not_leader"):
    """Ask ``leader`` instead; ``""`` while nobody is known."""

    leader: str


class Load(Message, frozen=True, tag="load_shard"):
    """Hold these layers for this pipeline, and take part in the sessions of its ``stages`` alone.

    There are none for whoever stands by; pipeline 0 frees the memory.
    """

    pipeline: int
    model: str
    first: int
    last: int
    stages: tuple[Stage, ...] = ()


class Assign(Message, frozen=True, tag="assign"):
    """Run this request as head of these stages; its answer begins with ``forced`` (`policies.jobs.SessionJob`).

    ``left_ns`` is the time to its deadline as this is sent: that stands on the leader's wall clock, and the worker's
    may be another. So the worker's deadline is later than the leader's by the message's way, and never earlier.
    """

    client: str
    op_id: str
    attempt: int
    model: str
    stages: tuple[Stage, ...]
    prompt: str
    source: str
    prompt_tokens: int
    new_tokens: int
    report_every: int
    forced: tuple[int, ...] = ()
    sampling: Sampling | None = None
    rank: Rank = 0
    left_ns: Annotated[int, Meta(ge=0, le=LEFT_MAX_NS)] | None = None


class Keep(Load, frozen=True, tag="keep_shard"):
    """As `Load`, but where these layers are in memory already they need not be read again."""


class AssignPrepared(Assign, frozen=True, tag="assign_prepared"):
    """An assignment that is prepared for the death of a stage (`policies.jobs.PreparedJob`)."""

    standbys: tuple[Standby, ...] = ()
    resume: bool = False


class Cover(Message, frozen=True, tag="cover"):
    """These have come up and stand by, too, for the stages of an attempt that runs."""

    client: str
    op_id: str
    attempt: int
    standbys: tuple[Standby, ...]


class Expect(Message, frozen=True, tag="expect"):
    """Stand by in this attempt: copies of the request come from ``sender``, and from nobody else."""

    client: str
    op_id: str
    attempt: int
    sender: str


class Free(Message, frozen=True, tag="free"):
    """The request has its outcome: forget what is kept of it."""

    client: str
    op_id: str


class Settled(Message, frozen=True, tag="settled"):
    """The report of this attempt is dealt with; forget it, and stop the attempt if it still runs."""

    client: str
    op_id: str
    attempt: int


# announced by the leader (decide), for records and checks


class Placed(Message, frozen=True, tag="placed"):
    """A pipeline was placed."""

    pipeline: int
    stages: tuple[Stage, ...]


class PlacedOf(Placed, frozen=True, tag="placed_of"):
    """A pipeline was placed, of another model than the village's first."""

    model: str


class Offered(Message, frozen=True, tag="offered"):
    """What shall stand from now on: pipelines by model, the best model first, and the classes whose promises it keeps.

    ``availability`` is how often any of it answers.
    """

    lines: tuple[tuple[str, int], ...]
    availability: float
    kept: tuple[str, ...]


class Gone(Message, frozen=True, tag="gone"):
    """A pipeline was dissolved."""

    pipeline: int
    reason: str


class SettledOp(Message, frozen=True, tag="settled_op"):
    """A request got its outcome, on this node."""

    client: str
    op_id: str
    refused: str
    output: str
    tokens: int
    nodes: tuple[str, ...]
    attempts: int


class SettledBy(SettledOp, frozen=True, tag="settled_by"):
    """A request was answered by another model than the village's first; see `policies.commands.CompleteBy`."""

    model: str


class FoundFalse(Message, frozen=True, tag="found_false"):
    """Checks have proved a worker false so often that its eviction is proposed."""

    node: str
    found: int


# announced by every member of the committee


class Credited(Message, frozen=True, tag="credited"):
    """As its ``command``-th command this member credited a request's work, and the rewards where it was verified."""

    client: str
    op_id: str
    command: int
    token_layers: int
    micro_credits: int
