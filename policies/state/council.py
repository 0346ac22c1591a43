"""The council: who may agree for the village, who does, and how the next committee comes from the log alone.

Devices stand (`Stand`) with signed facts. In each epoch the members say by signed roll call (`Attend`) that it has
lasted long enough and whom they heard. The roll call that makes a quorum ends the epoch: then every replica chooses
the next committee from the same roll by the same lots, or keeps the old one and says why. Either is a `Decision`.

- *When an epoch ends.* A quorum of n - f members say so, each by its own clock. So f liars end none early, as f + 1
  correct clocks must have run, and hold none up. A number of commands would let whoever speaks most set the pace, and
  leave an idle village with one committee for ever; a time that a leader proposes needs a bound that others judge by
  their clocks anyhow.
- *Trust* is that of a device's attestation and what its vouched receipts earned; *stability* the share of the last
  epochs in which f + 1 members heard it, one of them correct, or in which its own roll call ended the epoch. Liars can
  neither keep up who is down, nor put down whom all correct members hear: f + 1 of a quorum are correct.
- *The roll* of an epoch is fixed at its beginning. Nobody's secret is known then, so nobody can stand, earn or be
  heard to fit the lots. Only guilt counts at once: who is convicted is struck off.
- *The beacon* is the digest of the secrets in the roll calls that ended the epoch. Members committed to them an epoch
  before or more, and f + 1 of them are correct: nobody can compute it before a correct member has spoken. Whoever leads
  speaks last, though: it orders the roll calls, so it picks which n - f of n make the beacon, and a liar's silence is
  one of these choices. That is one of C(n, f) committees, 4 of n = 4, and the bound is multiplied by as much; one that
  leads at the end of k epochs running steers along as many to the power of k paths, since most members stay. It is
  RANDAO's remaining bias, where each of the last revealers has the choice of one bit by silence
  (eth2book.info/altair/part2/building_blocks/randomness). A digest of the state would leave a leader as many choices
  as it can hash, for it writes into the state. Ed25519 signatures, though those of correct members are functions of
  key and message, are not unique for a liar, so they cannot replace the commitment as a VRF does in Algorand (Gilad et
  al., SOSP 2017); from there is the roll that is fixed before the lots are known. A coalition can convict a device of
  its own to strike it off after the secrets are known: each such choice costs it the device for ever, and is not in
  the bound.

What is not judged here is whether facts are true: a device's attestation says so or nobody does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from math import comb
from typing import Any, Protocol

from policies.commands import Attend, Convict, Facts, Stand, unsigned
from policies.state.part import Part
from policies.wire import Message, encode

Verify = Callable[[str, bytes, bytes], bool]
"""Whether a signature is this identity's over these bytes; the same answer on every member (`port.keys.verify`)."""
Convicts = Callable[[bytes, Verify], str]
"""Whom evidence proves guilty, "" if nobody."""
BASE_TRUST = {"self": 30, "mobile": 50, "tpm": 70, "tee": 90}
"""In hundredths, by attestation: documented for the village (.3, .5, .7, .9)."""
EARNED_MAX = 20
"""Hundredths of trust that work adds: one each time that what was earned doubles, all of them for a credit, 2^20
micro-credits (our choice: work alone lifts a device by one class and not by two)."""
EPOCHS = 8
"""Epochs that stability looks back on (our choice); `stability` is Laplace's rule of succession over them."""
CANDIDATES_MAX = 256
"""Our bound: with members, half of what HotStuff's epochs hold."""
NAME_BYTES_MAX, SECRET_BYTES = 128, 32
CERTAIN = 10**9
"""A probability of one, in parts of a billion."""


class Candidate(Message, frozen=True):
    """A device that stands.

    Attributes:
        commitment: digest of the secret that it reveals next; ``number`` says which.
        heard: the last epochs, the newest in the lowest bit: whether it was heard; ``epochs`` of them count.
    """

    facts: Facts
    commitment: bytes
    number: int
    heard: int
    epochs: int

    @property
    def stability(self) -> int:
        """Hundredths: (heard + 1) / (epochs + 2)."""
        return 100 * (self.heard.bit_count() + 1) // (self.epochs + 2)


class Elector(Message, frozen=True):
    """A line of an epoch's roll; trust and stability in hundredths."""

    node: str
    trust: int
    stability: int
    facts: Facts


class Choice(Message, frozen=True):
    """What a chooser says: ``members`` of nobody and a ``reason`` where no committee obeys the rules.

    ``failure_ppb`` bounds the probability, in parts of a billion, that more than f are faulty, if ``faulty`` of the
    roll are and the choice does not know which.
    """

    members: tuple[str, ...]
    reason: str
    faulty: int
    failure_ppb: int


class Decision(Message, frozen=True, tag="decision"):
    """The committee of ``epoch``, decided by the ``command``-th command.

    Attributes:
        learners: who stands by: hears the log and may be voted in.
        reason: why the old committee stays, "" if this one was chosen.
        roll: how many devices could be chosen.
        faulty: of them, how many are assumed faulty; ``failure_ppb`` is `Choice`'s.
        picks: committees among which a lying leader may have picked; ``picked_ppb`` is the bound with them all.
    """

    epoch: int
    command: int
    members: tuple[str, ...]
    learners: tuple[str, ...]
    reason: str
    roll: int
    faulty: int
    failure_ppb: int
    picks: int
    picked_ppb: int


class Chooser(Protocol):
    """Chooses a committee; a pure function of what it is given, the same on every replica."""

    def choose(self, roll: Sequence[Elector], epoch: int, beacon: bytes, sitting: Sequence[str]) -> Choice:
        """Return the committee of an epoch."""
        ...


class Council(Part):
    """Candidates, the sitting committee, and the epoch's roll calls.

    Args:
        founders: the committee of epoch 0; () for a village whose committee never changes.
        chooser: who chooses; the same on every replica, as ``founders`` are.
        convicts: returns whom evidence proves guilty, or "" (`policies.consensus`).

    Attributes:
        barred: who was convicted, in order.
        last: the newest decision.
        roll: who can be chosen at the end of this epoch.
        attended: of this epoch, member to (whom it heard, its secret).
    """

    name = "council"
    form = tuple[
        tuple[tuple[str, Candidate], ...], tuple[str, ...], Decision, tuple[Elector, ...],
        tuple[tuple[str, tuple[str, ...], bytes], ...],
    ]  # fmt: skip

    def __init__(
        self,
        founders: tuple[str, ...] = (),
        chooser: Chooser | None = None,
        convicts: Convicts | None = None,
    ) -> None:
        self.founders, self.chooser, self.convicts = founders, chooser, convicts
        self.candidates: dict[str, Candidate] = {}
        self.barred: dict[str, None] = {}
        self.last = Decision(0, 0, founders, (), "", 0, 0, CERTAIN, 1, CERTAIN)
        self.roll: tuple[Elector, ...] = ()
        self.attended: dict[str, tuple[tuple[str, ...], bytes]] = {}

    @property
    def epoch(self) -> int:
        """The present one."""
        return self.last.epoch

    @property
    def sitting(self) -> tuple[str, ...]:
        """The committee of this epoch."""
        return self.last.members

    @property
    def quorum(self) -> int:
        """Roll calls that end the epoch."""
        return len(self.sitting) - (len(self.sitting) - 1) // 3

    # -- commands ------------------------------------------------------------------------------------

    def stand(self, command: Stand, verify: Verify) -> bool:
        """Let a device stand, once for ever; return whether it does now."""
        node, facts = command.node, command.facts
        words = (node, facts.network, facts.vendor, facts.region, facts.country)
        if (
            not self.sitting
            or not node
            or node in self.candidates
            or len(self.candidates) >= CANDIDATES_MAX
            or len(command.commitment) != SECRET_BYTES
            or any(len(word.encode()) > NAME_BYTES_MAX for word in words)
            or not verify(node, unsigned(command), command.signature)
        ):
            return False
        self.candidates[node] = Candidate(facts, command.commitment, 0, 0, 0)
        return True

    def convict(self, command: Convict, verify: Verify) -> bool:
        """Bar whom the evidence proves guilty, at once and for ever: anybody who sits, sat, or may sit one day."""
        culprit = self.convicts(command.evidence, verify) if self.convicts is not None else ""
        if culprit in self.barred or not (culprit in self.candidates or culprit in self.founders):
            return False
        self.barred[culprit] = None
        self.attended.pop(culprit, None)
        return True

    def attend(self, command: Attend, verify: Verify, earned: Mapping[str, int], applied: int) -> bool:
        """Count a member's roll call; the one that makes a quorum ends the epoch.

        Args:
            earned: node to micro-credits that its work was rewarded with.
            applied: the number of this command.
        """
        node, candidate = command.node, self.candidates.get(command.node)
        if (
            candidate is None
            or node not in self.sitting
            or node in self.barred
            or node in self.attended
            or command.epoch != self.epoch
            or len(command.heard) > CANDIDATES_MAX
            or len(command.commitment) != SECRET_BYTES
            or commitment_of(command.secret) != candidate.commitment
            or not verify(node, unsigned(command), command.signature)
        ):
            return False
        known = tuple(name for name in dict.fromkeys(command.heard) if name in self.candidates)
        self.attended[node] = (known, command.secret)
        self.candidates[node] = Candidate(
            candidate.facts, command.commitment, command.epoch + 1, candidate.heard, candidate.epochs
        )
        if len(self.attended) >= self.quorum:
            self._end_epoch(earned, applied)
        return True

    # -- the end of an epoch -------------------------------------------------------------------------

    def _end_epoch(self, earned: Mapping[str, int], applied: int) -> None:
        epoch, sitting = self.epoch + 1, self.sitting
        roll = tuple(elector for elector in self.roll if elector.node not in self.barred)
        secrets = sorted((node, secret) for node, (_, secret) in self.attended.items())
        beacon = blake2b(encode((epoch, tuple(secrets))), digest_size=32).digest()
        assert self.chooser is not None  # nobody sits otherwise
        choice = self.chooser.choose(roll, epoch, beacon, sitting)
        members = choice.members or sitting
        picks = comb(len(sitting), self.quorum)
        self._count_heard()
        standing = tuple(node for node in self.candidates if node not in members and node not in self.barred)
        self.last = Decision(
            epoch, applied, members, standing, choice.reason, len(roll), choice.faulty, choice.failure_ppb, picks,
            min(CERTAIN, picks * choice.failure_ppb),
        )  # fmt: skip
        self.attended = {}
        self.roll = tuple(
            Elector(node, trust(candidate.facts, earned.get(node, 0)), candidate.stability, candidate.facts)
            for node, candidate in self.candidates.items()
            if node not in self.barred
        )

    def _count_heard(self) -> None:
        """Note of every candidate whether it was heard in the epoch that ends."""
        needed = (len(self.sitting) - 1) // 3 + 1
        for node, c in self.candidates.items():
            times = sum(node in heard for heard, _ in self.attended.values())
            there = node in self.attended or times >= needed
            heard = (c.heard << 1 | there) & ((1 << EPOCHS) - 1)
            self.candidates[node] = Candidate(c.facts, c.commitment, c.number, heard, min(EPOCHS, c.epochs + 1))

    # -- the whole -----------------------------------------------------------------------------------

    def saved(self) -> Any:
        attended = tuple((node, *said) for node, said in self.attended.items())
        return tuple(self.candidates.items()), tuple(self.barred), self.last, self.roll, attended

    def load(self, saved: Any) -> None:
        candidates, barred, self.last, self.roll, attended = saved
        self.candidates, self.barred = dict(candidates), dict.fromkeys(barred)
        self.attended = {node: (heard, secret) for node, heard, secret in attended}
        if len(self.candidates) < len(candidates) or len(candidates) > CANDIDATES_MAX:
            raise ValueError(f"{len(candidates)} candidates of {len(self.candidates)} names, at most {CANDIDATES_MAX}")
        if self.sitting and not len(self.attended) < self.quorum:
            raise ValueError(f"{len(self.attended)} members attended, and the epoch has not ended")


def trust(facts: Facts, earned: int) -> int:
    """Return a device's trust in hundredths; ``earned`` are micro-credits for vouched work."""
    return min(100, BASE_TRUST[facts.attestation] + min(EARNED_MAX, earned.bit_length()))


def commitment_of(secret: bytes) -> bytes:
    """Return what commits to a secret."""
    return blake2b(secret, digest_size=SECRET_BYTES).digest()
