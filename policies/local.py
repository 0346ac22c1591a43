"""Messages between the policies of one node: typed, delivered first-in first-out within the step.

They never travel, but they are what lets one family be replaced without touching another.
"""

from __future__ import annotations

from policies.commands import Pledge
from policies.jobs import Sampling, Stage
from policies.wire import Message


class Lend(Message, frozen=True, tag="lend"):
    """harvest to worker: this device is lent to the village, or taken back (``reason`` names the harvest state)."""

    on: bool
    compute_share: float
    memory_share: float
    reason: str


class Speaks(Message, frozen=True, tag="speaks"):
    """prover to worker: this member speaks as if it led; does it?"""

    member: str


class Led(Message, frozen=True, tag="led"):
    """worker to prover, at once: f + 1 members bear out that this one leads, "" for nobody."""

    leader: str


# -- to a replicated log ---------------------------------------------------------------------------------------------
# What every protocol of `policies.consensus` takes and tells, whichever it is; `policies.consensus` has the contract.


class Propose(Message, frozen=True, tag="propose"):
    """state machine to log: replicate this command, opaque to consensus.

    It may be lost, and it may be committed twice: whoever proposes watches what is committed and proposes again, and
    the state machine's client sessions make it happen once.
    """

    command: bytes


class Read(Message, frozen=True, tag="read"):
    """state machine to log: which index must I have applied to answer a read that begins now?"""

    token: int


class Snapshot(Message, frozen=True, tag="snapshot"):
    """state machine to log: ``state`` holds every command up to ``index``, which need not be kept any more.

    ``place`` is that of the `SnapshotDue` that it answers; 0 where the state machine takes it of its own accord.
    """

    index: int
    state: bytes
    place: int = 0


class Reconfigure(Message, frozen=True, tag="reconfigure"):
    """state machine to log: let these be the members; ``learners`` hear everything and do not vote."""

    members: tuple[str, ...]
    learners: tuple[str, ...] = ()


class Allow(Message, frozen=True, tag="allow"):
    """state machine to log: from now on vote for no change of members but this one; ``members`` of nobody: for none.

    Under liars any member may ask for a change, and what a quorum's state machines decided must be told from what one
    member wants. A protocol that trusts its leader passes over it.
    """

    members: tuple[str, ...] = ()
    learners: tuple[str, ...] = ()


class Transfer(Message, frozen=True, tag="transfer"):
    """state machine to log: let ``to`` lead, if this member does and the protocol has leaders by choice."""

    to: str


class GiveUp(Message, frozen=True, tag="give_up"):
    """state machine to log: what the leader of ``term`` owes has not come; let another lead, if a quorum says so.

    A log sees to it that commands are ordered, whoever leads; only its state machine knows what a leader owes besides.
    Said again while it is true. A protocol that trusts its leader passes over it.
    """

    term: int


# -- from a replicated log -------------------------------------------------------------------------------------------


class Committed(Message, frozen=True, tag="committed"):
    """log to state machine: the command at ``index`` is agreed for ever; told once a life, in order, without gaps."""

    index: int
    term: int
    command: bytes


class SnapshotDue(Message, frozen=True, tag="snapshot_due"):
    """log to state machine: answer with your `Snapshot` as you are now, whatever you took before.

    State machines take snapshots after commands, and a log may hold much that is none, such as reads. All are asked at
    the same places of the log, so that their snapshots can be compared. Who never answers lets the log grow.
    """

    index: int
    place: int


class Readable(Message, frozen=True, tag="readable"):
    """log to state machine: what was applied up to ``index`` answers read ``token``; an ``index`` of -1: ask elsewhere.

    It comes after the `Committed` of ``index``.
    """

    token: int
    index: int


class Restore(Message, frozen=True, tag="restore"):
    """log to state machine: replace your state by this one, which holds every command up to ``index``.

    What was proposed before and waited in the log may be lost with it: who proposed it looks for it in the state, and
    proposes again what is not there.
    """

    index: int
    state: bytes


class Configured(Message, frozen=True, tag="configured"):
    """log to state machine: from ``index`` on these are the members and learners."""

    index: int
    members: tuple[str, ...]
    learners: tuple[str, ...]


class Accused(Message, frozen=True, tag="accused"):
    """log to state machine: ``culprit`` broke the protocol, and ``evidence``, in the protocol's form, proves it."""

    culprit: str
    evidence: bytes


class Leadership(Message, frozen=True, tag="leadership"):
    """log to state machine and watchers: who leads ``term``, ``""`` while nobody is known."""

    term: int
    leader: str


class Seen(Message, frozen=True, tag="seen"):
    """failure detector to watchers: ``peer`` is held ``alive``, ``suspect`` or ``dead`` from now on.

    ``incarnation`` is the life of the peer that this is about; it never falls, as long as this node lives.
    """

    peer: str
    status: str
    incarnation: int


class Ask(Message, frozen=True, tag="ask"):
    """gateway to coordination: see that this request is accepted and answered once."""

    client: str
    op_id: str
    model: str
    prompt: str
    source: str
    prompt_tokens: int
    new_tokens: int
    priority: int
    deadline_wall_ns: int
    sampling: Sampling | None = None


class Withdraw(Message, frozen=True, tag="withdraw_ask"):
    """gateway to coordination: its client wants no answer any more."""

    client: str
    op_id: str


class Tokens(Message, frozen=True, tag="tokens"):
    """coordination to gateway: an attempt has these tokens, from ``position`` of the answer on; another may follow.

    They are no outcome: an attempt that is run again brings them again, and nobody has vouched for them.
    """

    client: str
    op_id: str
    position: int
    tokens: tuple[int, ...]
    model: str = ""  # as in `Settlement`


class Settlement(Message, frozen=True, tag="settlement"):
    """coordination to gateway: the one outcome of a request; an empty ``refused`` means it was answered.

    ``model`` names what answered, where it is not what was asked for (`policies.commands.CompleteBy`).
    """

    client: str
    op_id: str
    refused: str
    output: str
    tokens: int
    first_token_ns: int
    holder: str
    model: str = ""


class Answered(Message, frozen=True, tag="answered"):
    """coordination to examiner: a pipeline has answered this; its work may be checked.

    ``rates`` are the shares of each stage's sessions to check, ``verifiers`` workers of no part in it that could. As
    in `policies.jobs.Transcript` an answer is ``greedy`` if none of its tokens was drawn.
    """

    client: str
    op_id: str
    attempt: int
    model: str
    stages: tuple[Stage, ...]
    prompt: str
    source: str
    prompt_tokens: int
    output: str
    tokens: int
    greedy: bool
    rates: tuple[float, ...]
    verifiers: tuple[str, ...]


class Pledged(Message, frozen=True, tag="pledged"):
    """coordination to examiner: these commitments stand in the log, as its ``applied``-th command."""

    applied: int
    pledge: Pledge


class Examined(Message, frozen=True, tag="examined"):
    """examiner to coordination: what a check of a worker, asked since ``asked_ns``, has come to.

    ``word`` is a verdict's, confirmed by another worker unless it is ``honest``, or one of the examiner's own
    (`policies.checking.examiner`).
    """

    node: str
    word: str
    asked_ns: int


class Busy(Message, frozen=True, tag="busy"):
    """coordination to gateway: not now; nothing was recorded, the client may come again."""

    client: str
    op_id: str
    reason: str
