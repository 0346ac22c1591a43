"""Jobs: how a policy asks for compute. Inputs and outputs are blobs by digest, never tensors."""

from __future__ import annotations

from typing import Annotated, Literal, Union

import msgspec
from msgspec import Meta

from policies.wire import Message

LAYERS_MAX, TOKENS_MAX = 1 << 16, 1 << 24
"""Of a model, and of a prompt or an answer (our bounds, far above any): a liar may name any number, and what they all
come to must be one that can be written down."""
NAME_MAX = 256
"""Characters of a name that the village's state keeps: of a node, a client, an operation, a model, a blob (our bound).
Thousands of them must stay far below what a snapshot may hold, whoever chose them."""
Name = Annotated[str, Meta(max_length=NAME_MAX)]
Layer = Annotated[int, Meta(ge=0, le=LAYERS_MAX)]
TokenCount = Annotated[int, Meta(ge=0, le=TOKENS_MAX)]
Rank = Annotated[int, Meta(ge=0, le=1 << 16)]
"""A request's class; lower ones come first (the bound is ours, far above any class)."""
EXPIRED = "deadline passed"
"""Why a session is lost, and a request refused, that waited beyond its deadline."""


class Stage(Message, frozen=True):
    """Layers ``first`` (inclusive) to ``last`` (exclusive) of a model on ``node``."""

    node: Name
    first: Layer
    last: Layer


TEMPERATURE_MAX = 2.0  # OpenAI API reference, "Create chat completion"
ENDS_MAX = 16  # assumption: published checkpoints name one to four


class Sampling(Message, frozen=True):
    """How an answer's tokens are chosen, and which end it; where it is None they are the likeliest, and none ends it.

    At ``temperature`` 0 the likeliest token is chosen. Else logits are divided by it, and a token is drawn from the
    smallest set of the likeliest whose probabilities reach ``top_p`` (Holtzman et al. 2020, arXiv 1904.09751). The draw
    is keyed by ``seed`` and the token's position, so that an attempt that runs again draws the same. An answer ends
    with the first token of ``ends``, which is part of it.
    """

    temperature: Annotated[float, Meta(ge=0, le=TEMPERATURE_MAX)]
    top_p: Annotated[float, Meta(gt=0, le=1)]
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    ends: Annotated[tuple[Annotated[int, Meta(ge=0, lt=2**31)], ...], Meta(max_length=ENDS_MAX)] = ()


class SessionJob(Message, frozen=True, tag="session"):
    """Prefill a prompt and decode through a pipeline of stages; stage 0 is the submitting node.

    ``source`` is the node that holds the prompt's blob. Progress arrives every ``report_every`` tokens. ``forced`` are
    the answer's first tokens, which an earlier attempt decided: they go in with the prompt, and the answer begins with
    them. There are fewer than ``new_tokens``.

    Where sessions wait for one another, those of a lower ``rank`` come first, and one that still waits at
    ``deadline_ns`` of the submitting node's monotonic clock is lost as `EXPIRED`; None: it waits for ever.
    """

    op: str
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
    deadline_ns: int | None = None


class Standby(Message, frozen=True):
    """``node`` stands by for stage ``index``: of the session's first ``until`` tokens it gets a copy as they come.

    By ``checkpoint`` that is what entered the stage, and the standby computes the keys and values from it; by ``buddy``
    the stage sends those. A copy goes out when ``every`` tokens have come since the one before.
    """

    index: int
    node: str
    way: Literal["checkpoint", "buddy"]
    every: Annotated[int, Meta(ge=1)]
    until: Annotated[int, Meta(ge=1)]


class PreparedJob(SessionJob, frozen=True, tag="prepared_session"):
    """A session that another attempt can go on from: caches and copies outlive it as ``kept``, until a `FreeJob`.

    With ``resume`` it begins where its stages have the caches of an earlier attempt, each from its own or from a copy;
    what they have counts only if it is of the same request, model, layers and tokens.
    """

    kept: str = ""
    standbys: tuple[Standby, ...] = ()
    resume: bool = False


class CoverJob(Message, frozen=True, tag="cover_session"):
    """From now on these stand by, too, for stages of the prepared session that runs here as job ``session``."""

    session: int
    standbys: tuple[Standby, ...]


class FreeJob(Message, frozen=True, tag="free_session"):
    """Forget what this node has of the request ``kept``; "" is whatever is kept here."""

    kept: str


class ExpectJob(Message, frozen=True, tag="expect_copies"):
    """Take copies of the request ``kept`` from ``sender`` alone, until a later attempt's word or a `FreeJob`."""

    kept: str
    attempt: int
    sender: str


class AdmitJob(Message, frozen=True, tag="admit"):
    """Take part in sessions of this pipeline of a model from now on, and of no other; without stages, in none."""

    model: str
    stages: tuple[Stage, ...]


class LoadJob(Message, frozen=True, tag="load"):
    """Bring a shard of a model into memory."""

    model: str
    first: int
    last: int


class PlanJob(Message, frozen=True, tag="plan"):
    """Run a registered planner on an encoded problem, limited by iterations, never by seconds."""

    planner: str
    problem: bytes
    budget: int


class Transcript(Message, frozen=True):
    """What one session said, by blobs, and which layers of it are meant.

    Attributes:
        op: client, operation and attempt, as in `SessionJob`.
        model: which was run.
        stage: whose work it is, and its layers.
        last: whether these are the model's last, and choose the tokens.
        prompt, source: the prompt's blob, and the node that holds it.
        prompt_tokens: of the prompt.
        output, holder: the answer's blob, and the node that holds it.
        tokens: of the answer.
        greedy: every token of the answer should be the likeliest.
    """

    op: str
    model: str
    stage: Stage
    last: bool
    prompt: str
    source: str
    prompt_tokens: int
    output: str
    holder: str
    tokens: int
    greedy: bool

    def wherever(self) -> Transcript:
        """Return what is meant, whoever holds its blobs."""
        return msgspec.structs.replace(self, source="", holder="")


class CommitJob(Message, frozen=True, tag="commit"):
    """Bind this node to what it did in a session (`policies.verification.Commitment`), and keep the evidence."""

    of: Transcript


class OpenJob(Message, frozen=True, tag="open"):
    """Show a place of what `CommitJob` bound this node to; the result is a `Shown`, and no other place is shown."""

    op: str
    block: int
    layer: int


class ReleaseJob(Message, frozen=True, tag="release"):
    """Nobody will ask for the evidence of this session."""

    op: str


class HandJob(Message, frozen=True, tag="hand"):
    """Put what this node gave to the next stage, which is that one's input, among its blobs; ``output`` names it."""

    op: str


class BringJob(Message, frozen=True, tag="bring"):
    """Fetch a blob from its holder and keep it, for others to fetch it here.

    It is of so many ``tokens``. With an encoded ``commitment`` it must be what that stage of the ``model`` took, at as
    many positions; what its neighbour gave it has the same digests. A blob of another size is not what is wanted.
    """

    blob: str
    holder: str
    model: str
    tokens: int
    commitment: bytes = b""


class RecheckJob(Message, frozen=True, tag="recheck"):
    """Compute a place of another node's work again; the result is a `policies.verification.Verdict`.

    ``commitment`` and ``opening`` are encoded, ``came`` is as in `Shown`, and to be had from ``holder``.
    """

    of: Transcript
    commitment: bytes
    block: int
    layer: int
    opening: bytes
    came: str
    holder: str


class Shown(Message, frozen=True):
    """An encoded opening, and the name of the blob of what the stage took, "" for the first one, which took tokens."""

    opening: bytes
    came: str


Job = Union[  # noqa: UP007
    SessionJob, PreparedJob, CoverJob, FreeJob, ExpectJob, AdmitJob, LoadJob, PlanJob, CommitJob, OpenJob, ReleaseJob,
    HandJob, BringJob, RecheckJob,
]  # fmt: skip


class Progress(Message, frozen=True, tag="progress"):
    """``tokens`` have been produced so far; ``emitted`` are the last of them, those since the report before."""

    tokens: int
    emitted: tuple[int, ...] = ()


class Done(Message, frozen=True, tag="done"):
    """The job ended well. ``output`` names the result's blob; ``result`` is the answer of jobs that have no blob."""

    output: str
    tokens: int
    first_token_ns: int
    result: bytes = b""


class Lost(Message, frozen=True, tag="lost"):
    """The job cannot end: ``reason`` in one line, and the node that failed it where one is known.

    ``emitted`` are all tokens of a session's answer that were decided before, forced ones included.
    """

    reason: str
    node: str = ""
    emitted: tuple[int, ...] = ()


class Lacking(Lost, frozen=True, tag="lacking"):
    """The job needs this blob, and ``node``, which holds it, does not hand it out."""

    blob: str = ""


class Disowned(Lost, frozen=True, tag="disowned"):
    """This stage, the last one, did not choose the tokens of the answer that ``node``, the head, has reported."""


Outcome = Union[Progress, Done, Lost, Lacking, Disowned]  # noqa: UP007
