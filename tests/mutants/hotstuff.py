"""Published bugs of Byzantine protocols in our HotStuff: one member by hand, or a few seconds of a small cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from policies import port as p
from policies.cell import Cell
from policies.config import HotstuffConfig
from policies.consensus.hotstuff import HotStuff, certificates
from policies.consensus.hotstuff.epoch import genesis
from policies.consensus.hotstuff.messages import Block, Certificate, Entry, Proposal
from policies.consensus.hotstuff.pacemaker import Pacemaker
from policies.consensus.hotstuff.view_change import ViewChange
from policies.consensus.quorum import byzantine_quorum, faults
from policies.wire import encode
from scenarios.adversaries import behaviours as b
from scenarios.adversaries.behaviours import Behaves
from scenarios.checks import Checks
from scenarios.checks.byzantine import CertificatesHaveQuorums, NoDoubleVote
from scenarios.checks.votes import HOTSTUFF
from scenarios.defects.byzantine import HotStuffForgets
from sim.keys import KeyRing
from tests.mutants.record import Mutant, Patch, require
from tests.policies.consensus.hotstuff.small_log import CALM, FAST, Appender, SmallLog

Kind = type[HotStuff]
NAMES = ("n0", "n1", "n2", "n3")
RING = KeyRing(1)


def require_agreement(log: SmallLog) -> None:
    """No two honest members committed different commands at an index."""
    chosen: dict[int, tuple[int, str]] = {}
    for decision in log.cluster.decisions:
        if decision.kind == "commit" and decision.node not in log.liars:
            _, index, _, checksum = decision.value
            first, who = chosen.setdefault(index, (checksum, decision.node))
            require(first == checksum, f"S1: {decision.node} and {who} committed different commands at {index}")


def require_live(log: SmallLog, asked: Sequence[bytes], at: Sequence[str], number: str) -> None:
    """All that was asked is committed at these members."""
    for name in at:
        missing = [command for command in asked if command not in log.app(name).state]
        require(not missing, f"{number}: {name} lacks {len(missing)} of {len(asked)} commands")


def small_log(kind: Kind, adversaries: Mapping[str, Sequence[Behaves]] | None = None, **more: Any) -> SmallLog:
    """Return four members on a network without loss."""
    return SmallLog(4, network=CALM, kind=kind, adversaries=adversaries, **more)


# -- B3: what a quorum is --------------------------------------------------------------------------------------------


def two_halves(kind: Kind) -> None:
    """Two of four are cut off from the other two, and clients ask both."""
    log = small_log(kind, tenure=1)
    log.cluster.partition(["n0", "n1"])
    for name in NAMES:
        log.put(name)
    log.run(3)
    require_agreement(log)


def counts_signatures(members: tuple[str, ...], count: int, signers: set[str]) -> bool:
    """Whether there are enough signatures, be they of one signer."""
    return byzantine_quorum(len(members)) <= count and signers <= set(members)


class OneSigner(HotStuff):
    """A member whose certificates hold one signature over and over; its blocks name such ones, and are signed so."""

    def learn(self, qc: Certificate, sender: str) -> None:
        super().learn(qc, sender)
        high = self.safety.high
        self.safety.high = msgspec.structs.replace(high, votes=high.votes[:1] * len(high.votes))


def one_signer(kind: Kind) -> None:
    """The first leader shows certificates with one signature three times."""
    rules = HotstuffConfig(**FAST)
    liar = {"consensus": lambda: OneSigner(rules, NAMES, "app", ("app",)), "app": Appender}
    log = small_log(kind, others={"n0": lambda: {path: make() for path, make in liar.items()}})
    log.run(1.5, every=0.1, at=NAMES[1:])
    checks = Checks(CertificatesHaveQuorums(NAMES, HOTSTUFF), honest=NAMES[1:])
    for event in log.cluster.events:
        for effect in event.effects:
            if effect[0] == p.SEND:
                checks.said(event.now_ns, event.node, effect[1], effect[2], effect[3])
    require(checks.first_broken is None, f"S13: {checks.checks[0].broken}")


# -- B8, B10: time-outs ----------------------------------------------------------------------------------------------


def slower_than_the_time_out(kind: Kind) -> None:
    """A message takes 250 ms, a leader has 200 ms at first."""
    log = small_log(kind, one_way_s=0.125, heartbeat_s=0.1)
    asked = [log.put(name) for name in NAMES]
    log.run(10)
    require_live(log, asked, NAMES, "L1")


def says_it_once(self: ViewChange, term: int) -> None:
    """Give a term up, and never say so again."""
    if self.node.pace.given_up >= term:
        self.node.pace.give_up(term, self.node.port.now)
    else:
        _give_up(self, term)


_give_up = ViewChange.give_up


def time_outs_are_lost(kind: Kind) -> None:
    """The leader is gone, and what the three others say of that is lost on a cut that heals."""
    log = small_log(kind)
    log.run(0.5)
    log.cluster.crash("n0")
    log.cluster.partition(["n1"])
    asked = [log.put(name) for name in NAMES[1:]]
    log.run(2)
    log.cluster.heal()
    log.run(8)
    require_live(log, asked, NAMES[1:], "L1")


# -- B9: what a crash must not take ----------------------------------------------------------------------------------


def proposal(command: bytes) -> Proposal:
    """Return a block of the first leader's for the first view."""
    root = genesis(NAMES)[1].root
    block = Block(0, 1, 1, root, (Entry("n0", 1, 0, command),))
    data = certificates.vote_bytes(root.block, 0, 1, certificates.block_digest(block))
    return Proposal(block, None, RING.signature("n0", data))


def two_blocks_two_lives(kind: Kind) -> None:
    """n2 votes for a block, loses its power, and is shown another block of the same view."""
    disk: dict[str, bytes] = {}
    checks = Checks(NoDoubleVote(HOTSTUFF))
    for life, command in enumerate((b"a", b"b")):
        others = tuple(name for name in NAMES if name != "n2")
        cell = Cell({"consensus": kind(HotstuffConfig(), NAMES)}, "n2", others, seed=1, keys=RING.handle("n2"))
        inputs: list[Any] = [
            (p.START, "", dict(disk), life), (p.MESSAGE, "consensus", "n0", encode(proposal(command))),
        ]  # fmt: skip
        while inputs:
            for effect in cell.step(0, 0, inputs.pop(0)):
                if effect[0] == p.SEND:
                    checks.said(0, "n2", effect[1], effect[2], effect[3])
                elif effect[0] == p.SAVE:
                    disk.update({key: value for key, value in effect[3] if value is not None})
                    inputs.append((p.DURABLE, effect[1], effect[2]))
    assert any("safety" in key for key in disk)
    require(checks.first_broken is None, f"S14: {checks.checks[0].broken}")


# -- the village's predecessor ---------------------------------------------------------------------------------------


def two_faced_leader(kind: Kind) -> None:
    """The first leader and its twin tell the two halves of the others two stories."""
    log = small_log(kind, {"n0": [b.Twins(peers=("n2", "n3"))]})
    for _ in range(10):
        for name in NAMES[1:]:
            log.put(name)
        log.run(0.05)
        require_agreement(log)


def in_hotstuff(
    id: str, what: str, source: str, property: str, scenario: Callable[[Kind], None], broken: str,
    *patches: Patch, wrong: Kind = HotStuff,
) -> Mutant:  # fmt: skip
    """Return a mutant of a HotStuff member."""
    return Mutant(id, what, source, property, scenario, HotStuff, wrong, broken, patches)


MUTANTS = (
    in_hotstuff(
        "B3", "2f of 3f + 1 members are a quorum", "mutation", "S1", two_halves, "S1",
        (certificates, "byzantine_quorum", lambda n: 2 * faults(n)),
    ),
    in_hotstuff(
        "B3", "a signer counts as often as it signs", "mutation", "S13", one_signer, "S13",
        (certificates, "_enough", counts_signatures),
    ),
    in_hotstuff(
        "B8", "time-outs do not grow", "mutation", "L1", slower_than_the_time_out, "L1",
        (Pacemaker, "lengthen", lambda self: None),
    ),
    in_hotstuff(
        "B9", "the last vote is not remembered through a crash", "cometbft pull request 5953", "S14",
        two_blocks_two_lives, "S14", wrong=HotStuffForgets,
    ),
    in_hotstuff(
        "B10", "what may be lost is said once (polka not said again)", "circlefin/malachite pull request 850", "L1",
        time_outs_are_lost, "L1", (ViewChange, "give_up", says_it_once),
    ),
    in_hotstuff(
        "G05", "agreement that always says yes: one voice is a quorum", "village, agent consensus", "S1",
        two_faced_leader, "S1", (certificates, "byzantine_quorum", lambda n: 1),
    ),
)  # fmt: skip
