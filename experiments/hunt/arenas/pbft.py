"""PBFT's committee of four, one of which may lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from experiments.hunt.arenas.byzantine import ByzantineArena
from policies.config import PbftConfig
from policies.port import Policy
from scenarios.adversaries import behaviours as b
from scenarios.checks.votes import PBFT
from scenarios.defects.byzantine import PbftForgets
from scenarios.trial import Trial

AT = "consensus"
VOTES = ("prepare", "commit")
LIES: dict[str, tuple[b.Behaviour, ...]] = {
    "silent": (b.Silent(path=AT),),
    "deaf": (b.Silent(path=AT, side="receive"),),
    "half silent": (b.Silent(path=AT, share=0.5),),
    "withholds proposals": (b.Withhold(path=AT, tags=("pre_prepare",)),),
    "withholds commits": (b.Withhold(path=AT, tags=("commit",)),),
    "withholds the newest": (b.Withhold(path=AT, tags=("pre_prepare", "new_view"), lag=2),),
    "delays": (b.Delay(path=AT, bound_s=0.3),),
    "delays just below the time-out": (b.Delay(path=AT, bound_s=0.24, exactly=True),),
    "reorders": (b.Reorder(path=AT),),
    "replays": (b.Replay(path=AT, every_s=0.05, age_s=0.5, burst=5),),
    "replays what it heard": (b.Replay(path=AT, every_s=0.05, age_s=0.5, burst=5, heard=True),),
    "floods views": (b.Flood(path=AT, tags=("prepare", "commit", "status", "view_change"), every_s=0.02, by=7),),
    "floods places": (b.Flood(path=AT, tags=("pre_prepare", *VOTES), field=(1,), every_s=0.02),),
    "jumps views": (b.Corrupt(path=AT, tags=("pre_prepare", *VOTES, "status"), field=(0,), by=1000, resign=True),),
    "places + 1": (b.Corrupt(path=AT, tags=("pre_prepare",), field=(1,), resign=True),),
    "other digests": (b.Corrupt(path=AT, tags=VOTES, field=(2,), change="digest", resign=True),),
    "old digests": (b.Corrupt(path=AT, tags=VOTES, field=(2,), change="old", resign=True),),
    "checkpoint lies": (b.Corrupt(path=AT, tags=("checkpoint",), field=(0, 2), change="digest", resign=True),),
    "checkpoint jumps": (b.Corrupt(path=AT, tags=("checkpoint",), field=(0, 0), by=1000, resign=True),),
    "status lies": (b.Corrupt(path=AT, tags=("status",), field=(3,), change="set", to=-5),),
    "always impatient": (b.Corrupt(path=AT, tags=("status",), field=(2,), change="set", to=True),),
    "malformed": (b.Corrupt(path=AT, tags=("pre_prepare", "commit", "status"), field=(1,), change="set", to="x"),),
    "splits places": (b.Split(path=AT, tags=("pre_prepare",), field=(1,), resign=True),),
    "splits votes": (b.Split(path=AT, tags=VOTES, field=(2,), resign=True),),
    "splits checkpoints": (b.Split(path=AT, tags=("checkpoint",), field=(0, 2), resign=True),),
    "double votes": (b.DoubleVote(path=AT, tags=VOTES, field=(2,), resign=True),),
    "double proposals": (b.DoubleVote(path=AT, tags=("pre_prepare",), field=(1,), resign=True),),
    "twins": (b.Twins(),),
    "forgets all": (b.OldState(nothing=True),),
    "old state": (b.OldState(),),
    "wrong key": (b.WrongKey(path=AT),),
    "impersonates": (b.Impersonate(path=AT, victim="n2", forward=True),),
    "duplicate signers": (b.ForgeCertificate(path=AT, tags=("decided",), field=(3,)),),
    "half a quorum": (b.ForgeCertificate(path=AT, tags=("decided",), field=(3,), how="below_quorum"),),
    "view of duplicates": (b.ForgeCertificate(path=AT, tags=("new_view",), field=(1,)),),
    "sybil": (b.Sybil(path=AT, tags=VOTES),),
    "skewed clock": (b.SkewedClock(shape="linear", ppm=500_000, monotonic=True),),
    "much at once": (b.Delay(path=AT, bound_s=0.05), b.Replay(path=AT, every_s=0.1), b.Silent(path=AT, share=0.3)),
}
"""What the liar does: kinds of behaviour that the protocol has an answer to, each at the messages where it hurts."""


class PbftArena(ByzantineArena):
    """Four members with small batches and checkpoints, so that a storm sees many of them."""

    name = "pbft"
    what = "a PBFT committee with one liar of four, crashes, partitions, bad links and bad disks"
    rules = PbftConfig(timeout_s=0.25, resend_s=0.2, checkpoint_every=4, in_flight=4, max_batch=8, pool_max=50)
    reading = PBFT
    mutants: ClassVar[Mapping[str, Callable[..., Policy]]] = {"forgets_its_votes": PbftForgets}
    defects: ClassVar[Mapping[str, str]] = {"forgets_its_votes": "a member forgets at a crash what it accepted"}
    shape = Trial(arena="pbft", nodes=4, requests=40, storm_s=4.0, calm_s=6.0)
    timeouts_s = (rules.timeout_s, rules.resend_s)
    lies = LIES
