"""Published bugs of what a HotStuff member believes of others, and of what its words are signed for."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from policies import port as p
from policies.config import HotstuffConfig
from policies.consensus import convicts
from policies.consensus.chunks import Chunk, digest_of, manifest_of
from policies.consensus.hotstuff import HotStuff, certificates, evidence, node, proposing, view_change
from policies.consensus.hotstuff.epoch import Epoch
from policies.consensus.hotstuff.messages import Block, Blocks, Certificate, Evidence, Status, Transferred
from policies.consensus.hotstuff.sync import Sync
from policies.consensus.hotstuff.transfer import Transfer
from policies.wire import encode
from sim.keys import KeyRing
from tests.mutants.hotstuff import NAMES, Kind, in_hotstuff, require_agreement, require_live, small_log
from tests.mutants.record import Patch, require

RING = KeyRing(1)


# -- B11: what is believed of others ---------------------------------------------------------------------------------


def trusts_the_state(self: Transfer, epoch: Epoch, given: Transferred) -> bool:
    """Take whatever state is sent for proved."""
    return True


def forged_state(kind: Kind) -> None:
    """n3 lags behind a checkpoint, and is sent a state that no quorum signed."""
    log = small_log(kind, snapshot_every=5, checkpoint_every=5)
    log.run(0.1)
    log.cluster.partition(["n3"])
    log.run(1, every=0.05, at=NAMES[:3])
    true: Transferred = log.member("n0").catch_up.transfer.offer
    lagging, forged = log.member("n3"), encode([b"forged"])
    manifest = manifest_of(forged, lagging.config.chunk_bytes)
    point = msgspec.structs.replace(true.stable, state=digest_of(manifest))
    lagging.catch_up.sync.want(true.qc)
    lagging.on_message("n0", msgspec.structs.replace(true, stable=point, manifest=manifest))
    lagging.on_message("n0", Chunk(point.state, 0, forged))
    require(lagging.applied == 0, f"S19: n3 took over a state of index {lagging.applied} that nobody signed")


class BelievesCertificates(HotStuff):
    """B11: the height that a peer claims is believed, whoever signed for it."""

    def believe(self, qc: Certificate) -> bool:
        return True


def claimed_height(kind: Kind) -> None:
    """n2 is told of a certificate a thousand views ahead that nobody signed, and must still follow the others."""
    log = small_log(kind)
    log.run(0.1)
    claim = Status(0, Certificate(0, 1000, b"no block", ()), None)
    log.cluster.world.give(log.cluster.world.by_name["n2"], (p.MESSAGE, "consensus", "n3", encode(claim)))
    asked = log.run(0.5, every=0.1, at=("n0", "n1"))
    log.run(1)
    require_live(log, asked, ("n0", "n1", "n2"), "L4")


def takes_what_comes(self: Sync, blocks: tuple[Block, ...]) -> bool:
    """Take the blocks of an answer for those that were asked for, whatever they say."""
    if self.missing is None or not blocks:
        return False
    self.parts += zip((self.missing, *(block.qc.block for block in blocks)), blocks, strict=False)
    self.tries = 0
    self._count(blocks)
    return True


def forged_blocks(kind: Kind) -> None:
    """n3 lags, and hears of a certificate from n0, who then sends what leads to it with other commands."""
    log = small_log(kind)
    log.run(0.1)
    log.cluster.partition(["n3"])
    log.run(0.5, every=0.05, at=NAMES[:3])
    status = log.member("n0").status()
    true = log.member("n0").trunk.tree.down(status.high.block, log.member("n3").trunk.tree.height)
    forged = tuple(
        msgspec.structs.replace(
            block, entries=tuple(msgspec.structs.replace(entry, data=b"forged") for entry in block.entries)
        )
        for block in true
    )
    for said in (status, Blocks(forged)):
        log.cluster.world.give(log.cluster.world.by_name["n3"], (p.MESSAGE, "consensus", "n0", encode(said)))
        log.run(0.01)
    log.cluster.heal()
    log.run(1)
    require_agreement(log)
    assert log.app("n3").state


# -- B12: what is signed ---------------------------------------------------------------------------------------------


def instead(of: Callable[..., bytes]) -> tuple[Patch, ...]:
    """Return what makes every module take this for what a vote signs."""
    return tuple((module, "vote_bytes", of) for module in (certificates, evidence, node, proposing, view_change))


def without_the_log(log: bytes, epoch: int, view: int, block: bytes) -> bytes:
    """Return what a vote signs, the log's name left out."""
    return encode(("hotstuff vote", epoch, view, block))


def without_the_epoch(log: bytes, epoch: int, view: int, block: bytes) -> bytes:
    """Return what a vote signs, the epoch left out."""
    return encode(("hotstuff vote", log, view, block))


def without_the_view(log: bytes, epoch: int, view: int, block: bytes) -> bytes:
    """Return what a vote signs, the view left out."""
    return encode(("hotstuff vote", log, epoch, block))


def replayed_elsewhere(epoch: int, view: int) -> Callable[[Kind], None]:
    """Return a scenario: three votes of epoch 0 and view 7 are shown as a certificate of another epoch or view."""

    def scenario(kind: Kind) -> None:
        data = certificates.vote_bytes(b"log", 0, 7, b"block")
        votes = tuple((name, RING.signature(name, data)) for name in NAMES[:3])
        shown = Certificate(epoch, view, b"block", votes)
        believed = certificates.Verifier(b"log").certificate(RING.handle("n3"), NAMES, shown)
        require(not believed, f"S14: votes of epoch 0, view 7 count in epoch {epoch}, view {view}")

    return scenario


def one_key_in_two_logs(kind: Kind) -> None:
    """n1 sits in the logs of four and of five founders, and votes once in view 7 of each: nobody may convict it."""
    signed = []
    for founders in (NAMES, (*NAMES, "n4")):
        log = kind(HotstuffConfig(), founders).log_name
        block = b"a block of %d founders" % len(founders)
        signed.append((log, (block, RING.signature("n1", certificates.vote_bytes(log, 0, 7, block)))))
    (log, first), (_, second) = signed
    culprit = convicts(encode(Evidence("n1", log, 0, 7, first, second)), RING.handle("n0").verify)
    require(culprit == "", f"S16: {culprit} is convicted for its votes in two logs")


MUTANTS = (
    in_hotstuff(
        "B11", "a peer's checkpoint is taken over unproved", "snarkOS issue 3226", "S19", forged_state, "S19",
        (Transfer, "_leads_to", trusts_the_state),
    ),
    in_hotstuff(
        "B11", "a peer's height is believed", "CometBFT ASA-2025-001, issue 5801", "L4", claimed_height, "L4",
        wrong=BelievesCertificates,
    ),
    in_hotstuff(
        "B11", "a peer's blocks are taken for those that were asked for", "snarkOS issue 3226", "S1", forged_blocks,
        "S1", (Sync, "take", takes_what_comes),
    ),
    in_hotstuff(
        "B12", "the log's name is not in what a vote signs", "mutation", "S16", one_key_in_two_logs, "S16",
        *instead(without_the_log),
    ),
    in_hotstuff(
        "B12", "the epoch is not in what a vote signs", "mutation", "S14", replayed_elsewhere(1, 7), "S14",
        *instead(without_the_epoch),
    ),
    in_hotstuff(
        "B12", "the view is not in what a vote signs", "mutation", "S14", replayed_elsewhere(0, 8), "S14",
        *instead(without_the_view),
    ),
)  # fmt: skip
