"""What adversaries do, as data: one struct a behaviour. ``docs/adversaries.md`` is made from this file.

Each docstring says first what the node does; then ``Catalogue`` names the rows of the catalogue of Byzantine
behaviours that it covers, and ``Expected`` what a protocol built against such nodes must do with it.

Messages are arrays that begin with a tag. ``tags`` names those meant (none: all); ``field`` is a path into one, and
``(2,)`` its third field after the tag. Arrays inside are indexed as they stand, with their own tag, if they have one,
at 0. ``peers`` names the nodes meant (none: all). Defaults are assumptions: round numbers that show the behaviour.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

import msgspec
from msgspec import Meta

Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Index = Annotated[int, Meta(ge=0)]
Many = Annotated[int, Meta(ge=1, le=1000)]
Field = Annotated[tuple[Index, ...], Meta(min_length=1, max_length=8)]
Tags = Annotated[tuple[str, ...], Meta(min_length=1)]


class Behaves(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """When a node misbehaves, in seconds of the run, and where: at one mounted path, or ``""`` for the whole node."""

    from_s: NonNegative = 0.0
    until_s: Positive | None = None
    path: str = ""

    def __post_init__(self) -> None:
        if self.until_s is not None and self.until_s <= self.from_s:
            raise ValueError(f"until_s={self.until_s}: expected > from_s={self.from_s}")

    def starting(self, from_s: float) -> Any:
        """Return the same, not before ``from_s``."""
        return msgspec.structs.replace(self, from_s=max(from_s, self.from_s))


class Whole(Behaves, frozen=True):
    """A behaviour of the whole node; it has no path."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path:
            raise ValueError(f"path={self.path!r}: this behaviour is the whole node's, allowed: ''")


class Silent(Behaves, frozen=True, tag="silent"):
    """Drops what it should say (``send``), what it is told (``receive``), or both; replies to clients too, unless
    ``peers`` are named. A ``share`` below 1 drops that share, by keyed draws.

    Catalogue: silence / omission.
    Expected: safe; live while at most f are silent.
    """

    side: Literal["send", "receive", "both"] = "send"
    tags: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    share: Share = 1.0


class Withhold(Behaves, frozen=True, tag="withhold"):
    """Keeps back messages of these tags: for good, or, with ``lag`` n, each until n newer ones to that peer exist.

    Catalogue: withholding.
    Expected: safe; live after the next change of view.
    """

    tags: Tags
    lag: Index = 0


class Delay(Behaves, frozen=True, tag="delay"):
    """Holds messages for up to ``bound_s``, uniformly, or ``exactly`` so long (just below a time-out, say).

    Catalogue: delay.
    Expected: safe; a bounded slowdown.
    """

    bound_s: Annotated[float, Meta(ge=1e-6)]
    exactly: bool = False
    tags: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()


class Reorder(Behaves, frozen=True, tag="reorder"):
    """Collects ``window`` messages to a peer and sends them in another order, after ``at_most_s`` at the latest.

    Catalogue: replay / outdated / reorder.
    Expected: safe and live: no order is promised by the port.
    """

    window: Annotated[int, Meta(ge=2, le=1000)] = 4
    at_most_s: Annotated[float, Meta(ge=1e-6)] = 0.1


class Replay(Behaves, frozen=True, tag="replay"):
    """Sends ``burst`` messages again ``every_s``, drawn from its last 256 that are at least ``age_s`` old, or from its
    ``first`` 256; with ``heard`` also those that others sent to it or to its coalition, to all peers and as its own.

    Catalogue: replay / outdated / reorder.
    Expected: ignored: terms, views and names in messages tell old from new.
    """

    every_s: Annotated[float, Meta(ge=0.001)] = 1.0
    age_s: NonNegative = 5.0
    burst: Many = 1
    first: bool = False
    heard: bool = False
    tags: tuple[str, ...] = ()


class Flood(Behaves, frozen=True, tag="flood"):
    """Sends its newest message of these tags (or the newest that it heard) to all peers ``every_s``, with a number in
    it higher by ``by`` each time.

    Catalogue: view-change spam, view jump.
    Expected: bounded memory, no runaway views. Crash-fault protocols follow every higher term: safe, not live.
    """

    tags: Tags
    field: Field = (0,)
    by: Many = 1
    every_s: Annotated[float, Meta(ge=0.001)] = 0.1


class Corrupt(Behaves, frozen=True, tag="corrupt"):
    """Changes one field of what it says, asks of its executor (``submit``) or is told by it (``outcome``): ``add``s
    ``by``, puts another ``digest`` of the same length there, ``flip``s a bit, ``set``s it ``to`` a value, or gives the
    ``old`` value of its first message of that tag. ``resign`` signs what this node had signed anew. Jobs keep their
    form: a node's own executor is no peer.

    Catalogue: corrupt; view jump (add 1000); checkpoint / snapshot lies; next-epoch votes; wrong blobs by digest.
    Expected: rejected or harmless. Crash-fault protocols believe every well-formed field: unsafe.
    """

    tags: Tags
    field: Field
    change: Literal["add", "digest", "flip", "set", "old"] = "add"
    by: int = 1
    to: Any = None
    peers: tuple[str, ...] = ()
    share: Share = 1.0
    on: Literal["send", "reply", "submit", "outcome"] = "send"
    resign: bool = False


class Split(Behaves, frozen=True, tag="split"):
    """Equivocates: each of the ``groups`` of peers hears another value in this field, all others hear the right one.
    Without groups a draw sends every peer to one of two; a coalition draws once for all its members.

    Catalogue: equivocation (split payload per peer set); conflicting checkpoints.
    Expected: safe, evidence produced. Crash-fault protocols: unsafe.
    """

    tags: Tags
    field: Field
    groups: tuple[tuple[str, ...], ...] = ()
    resign: bool = False


class DoubleVote(Behaves, frozen=True, tag="double_vote"):
    """Says two things to everybody: each message of these tags, and again with another value in this field.

    Catalogue: nullify + finalize, conflicting votes.
    Expected: evidence; one of the two counts. Crash-fault protocols: unsafe.
    """

    tags: Tags
    field: Field
    resign: bool = False


class Twins(Whole, frozen=True, tag="twins"):
    """Two Cells under one key: from ``from_s`` on a second one lives on the first one's durable state, and speaks with
    ``peers`` (none: a drawn half of them), the first one with the others. Clients speak with the first.

    Catalogue: equivocation (twins of one identity).
    Expected: safe, evidence produced. Crash-fault protocols: unsafe, a twin votes twice.
    """

    peers: tuple[str, ...] = ()


class OldState(Whole, frozen=True, tag="old_state"):
    """At each restart after ``from_s`` begins with what was durable at ``from_s``, or with ``nothing`` at all.

    Catalogue: crash, amnesia.
    Expected: safe unless more than f forget. Crash-fault protocols: unsafe, a vote may be given twice.
    """

    nothing: bool = False


class WrongKey(Behaves, frozen=True, tag="wrong_key"):
    """Puts signatures of no key in the place of its own; with ``mate`` those of the next member of its coalition.

    Catalogue: impersonation / forged certificate (wrong key).
    Expected: rejected.
    """

    mate: bool = False


class Impersonate(Behaves, frozen=True, tag="impersonate"):
    """Writes ``victim`` wherever its own name stands in its messages; with ``forward`` it also hands what the victim
    told it to all other peers.

    Catalogue: impersonation.
    Expected: rejected: the transport tells the sender, and a signature its signer.
    """

    victim: str
    forward: bool = False


class ForgeCertificate(Behaves, frozen=True, tag="forge_certificate"):
    """Sends certificates that certify nothing: the list in this field holds its first element over and over
    (``duplicate``), or only its first (``below_quorum``).

    Catalogue: impersonation / forged certificate (duplicate signers, below quorum).
    Expected: rejected: signers are counted once, and counted.
    """

    tags: Tags
    field: Field
    how: Literal["duplicate", "below_quorum"] = "duplicate"
    resign: bool = False


class Sybil(Behaves, frozen=True, tag="sybil"):
    """Says everything once more for each of its ``identities``: invented names without keys, or, ``keyed``, the other
    members of its coalition with theirs.

    Catalogue: sybil (with and without keys).
    Expected: rejected without keys; with more than f keys: detection and forensics only.
    """

    identities: Many = 3
    keyed: bool = False
    tags: tuple[str, ...] = ()


class Collude(Whole, frozen=True, tag="collude"):
    """Tells its coalition whatever it hears (``whisper``), over the network like any message. With ``turn_s`` the
    members misbehave in turns of that length. Members are honest with one another, and share keys and draws.

    Catalogue: collusion.
    Expected: safe while the coalition has at most f members.
    """

    whisper: bool = True
    turn_s: NonNegative = 0.0


class SkewedClock(Whole, frozen=True, tag="skewed_clock"):
    """A wrong wall clock: off by a ``step`` of ``amount_s``, drifting by ``ppm`` (``linear``), or swinging by
    ``amount_s`` to both sides in a triangle of ``period_s`` (``periodic``). With ``monotonic`` the monotonic clock is
    skewed alike, and timers fire early or late; at ``until_s`` wall clocks are right again, monotonic ones go on
    at the right rate.

    Catalogue: clock skew.
    Expected: leases safe or refused; agreement untouched.
    """

    shape: Literal["step", "linear", "periodic"] = "step"
    amount_s: float = 3600.0
    ppm: Annotated[int, Meta(gt=-1_000_000, le=10_000_000)] = 0
    period_s: Annotated[float, Meta(ge=0.001)] = 600.0
    monotonic: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.monotonic and self.shape == "step":
            raise ValueError("shape='step': a monotonic clock does not step, allowed: linear, periodic")
        if self.monotonic and self.shape == "periodic" and 4 * abs(self.amount_s) >= self.period_s:
            raise ValueError(f"amount_s={self.amount_s}: a monotonic clock allows less than period_s / 4")


class WrongResults(Behaves, frozen=True, tag="wrong_results"):
    """Answers at once and with confidence, but not what the model said: its sessions' outputs are replaced, the same
    output always by the same lie. Where the twin draws activations, those it passes on are wrong as well.

    Catalogue: lazy / wrong compute (wrong digest).
    Expected: audited, quarantined.
    """


class Shirk(Whole, frozen=True, tag="shirk"):
    """Computes something else than its layers and says that it did not: its last layer by a neighbour's weights, or not
    at all, all of them in four bits, or from a cache of which the first block is another session's. A real executor
    does so from its start, and the whole time; in the twin the odds that a check finds it are the calibrated ones, and
    four bits change no token (an assumption: the hardest to find). It may also withhold from who would check it the
    ``input`` of its stage, or its ``output``: what it gave to the next stage and, as a head, its answer, which it hands
    to its client alone; a real one with ``output`` hands out nothing at all.

    Catalogue: lazy / wrong compute (cheaper model).
    Expected: checked, and evicted where checks are mounted.
    """

    cheat: Literal["wrong_layer", "skipped_layer", "four_bits", "stale_cache"] = "wrong_layer"
    withholds: Literal["nothing", "input", "output"] = "nothing"


class Lazy(Behaves, frozen=True, tag="lazy"):
    """Reports these jobs done after ``after_s`` without running them; what it names as output is made up.

    Catalogue: lazy / wrong compute (votes without executing).
    Expected: audited, quarantined.
    """

    jobs: Annotated[tuple[Literal["session", "load"], ...], Meta(min_length=1)] = ("session",)
    after_s: NonNegative = 0.1


class Overclaim(Behaves, frozen=True, tag="overclaim"):
    """Claims ``memory`` times the memory and ``speed`` times the speed that it lends.

    Catalogue: lazy / wrong compute (claims resources it lacks).
    Expected: found by late or lost attempts, not by the claim.
    """

    memory: Annotated[float, Meta(ge=1, le=1e6)] = 4.0
    speed: Annotated[float, Meta(ge=1, le=1e6)] = 4.0


class FreeRide(Behaves, frozen=True, tag="free_ride"):
    """Lends itself and renews its lease, but gives every session up at once, as lost.

    Catalogue: lazy / wrong compute (free-rides in harvest).
    Expected: earns nothing; requests are answered by others.
    """


class ForgeReceipts(Behaves, frozen=True, tag="forge_receipts"):
    """Claims ``factor`` times the tokens it made in each report of work, and signs that.

    Catalogue: lazy / wrong compute (claims rewards).
    Expected: refused where the ledger knows what was asked for.
    """

    factor: Annotated[int, Meta(ge=2, le=1_000_000)] = 10


class Usurp(Behaves, frozen=True, tag="usurp"):
    """Says to workers that it leads: gives a lease to whoever asks it, where it would point to the leader, and unasked
    to all it knows `every_s`. It gives out no work.

    Catalogue: none (ours): an office that it does not hold.
    Expected: safe; live, as workers believe who leads of f + 1 members where the protocol bears liars.
    """

    every_s: Annotated[float, Meta(ge=0.01)] = 1.0


class Meddle(Behaves, frozen=True, tag="meddle"):
    """Asks every member `every_s` for what is the leader's alone to ask of the log, whoever leads: to evict all others,
    to dissolve the pipelines that it heard of last, and of the requests that it heard of last to refuse some, and to
    take for others an answer that it made up and signed.

    Catalogue: none (ours): an office that it does not hold.
    Expected: safe; live, as members take such commands from no other member where the protocol bears liars.
    """

    every_s: Annotated[float, Meta(ge=0.01)] = 1.0


Behaviour = Union[  # noqa: UP007
    Silent, Withhold, Delay, Reorder, Replay, Flood, Corrupt, Split, DoubleVote, Twins, OldState, WrongKey,
    Impersonate, ForgeCertificate, Sybil, Collude, SkewedClock, WrongResults, Shirk, Lazy, Overclaim, FreeRide,
    ForgeReceipts, Usurp, Meddle,
]  # fmt: skip


OF_WORK = (WrongResults, Shirk, Lazy, Overclaim, FreeRide, ForgeReceipts)
"""What a worker does wrong in its work: nothing that a committee hears of its members."""


def kind_of(behaviour: Behaves) -> str:
    """Return the name a behaviour has in scenarios."""
    return str(behaviour.__struct_config__.tag)


def needs_coalition(behaviour: Behaves) -> bool:
    """Whether a behaviour means nothing for a node alone."""
    if isinstance(behaviour, WrongKey):
        return behaviour.mate
    return isinstance(behaviour, Collude) or (isinstance(behaviour, Sybil) and behaviour.keyed)
