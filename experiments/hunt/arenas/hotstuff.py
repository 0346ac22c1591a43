"""HotStuff's committee of four, one of which may lie: the two-chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from experiments.hunt.arenas.byzantine import ByzantineArena
from policies.config import HotstuffConfig
from policies.port import Policy
from scenarios.adversaries import behaviours as b
from scenarios.checks.votes import HOTSTUFF
from scenarios.defects.byzantine import HotStuffForgets
from scenarios.trial import Trial

AT = "consensus"
SIGNED = ("proposal", "vote", "time_out")
LIES: dict[str, tuple[b.Behaviour, ...]] = {
    "silent": (b.Silent(path=AT),),
    "deaf": (b.Silent(path=AT, side="receive"),),
    "half silent": (b.Silent(path=AT, share=0.5),),
    "proposes to nobody": (b.Silent(path=AT, tags=("proposal",)),),
    "orders nothing of others": (b.Silent(path=AT, side="receive", tags=("forward",)),),
    "withholds certificates": (b.Withhold(path=AT, tags=("status",)),),
    "withholds its newest proposal": (b.Withhold(path=AT, tags=("proposal",), lag=1),),
    "withholds votes": (b.Withhold(path=AT, tags=("vote", "time_out")),),
    "delays": (b.Delay(path=AT, bound_s=0.3),),
    "delays just below the time-out": (b.Delay(path=AT, bound_s=0.19, exactly=True),),
    "reorders": (b.Reorder(path=AT),),
    "replays": (b.Replay(path=AT, every_s=0.05, age_s=0.5, burst=3, heard=True),),
    "floods views": (b.Flood(path=AT, tags=("vote",), field=(1,), by=1000, every_s=0.02),),
    "floods terms": (b.Flood(path=AT, tags=("time_out",), field=(1,), every_s=0.02),),
    "jumps views": (b.Corrupt(path=AT, tags=("vote", "time_out"), field=(1,), by=1000, resign=True),),
    "votes for other blocks": (b.Corrupt(path=AT, tags=("vote",), field=(2,), change="digest", resign=True),),
    "changes commands": (b.Corrupt(path=AT, tags=("proposal",), field=(0, 5, 0, 4), change="flip"),),
    "changes heights": (b.Corrupt(path=AT, tags=("proposal",), field=(0, 3)),),
    "next epoch": (b.Corrupt(path=AT, tags=("vote", "time_out", "status"), field=(0,), resign=True),),
    "old certificates": (b.Corrupt(path=AT, tags=("proposal",), field=(0, 4), change="old"),),
    "old high certificates": (b.Corrupt(path=AT, tags=("time_out", "status"), field=(2,), change="old"),),
    "malformed": (b.Corrupt(path=AT, tags=SIGNED, field=(1,), change="set", to="x"),),
    "splits proposals": (b.Split(path=AT, tags=("proposal",), field=(0, 5), resign=True),),
    "splits votes": (b.Split(path=AT, tags=("vote",), field=(2,), resign=True),),
    "double votes": (b.DoubleVote(path=AT, tags=("vote",), field=(2,), resign=True),),
    "splits checkpoints": (b.Split(path=AT, tags=("checkpoint_vote",), field=(5,), resign=True),),
    "twins": (b.Twins(),),
    "forgets all": (b.OldState(nothing=True),),
    "old state": (b.OldState(),),
    "wrong key": (b.WrongKey(path=AT),),
    "impersonates": (b.Impersonate(path=AT, victim="n2", forward=True),),
    "one signer": (b.ForgeCertificate(path=AT, tags=("proposal",), field=(0, 4, 4)),),
    "below a quorum": (b.ForgeCertificate(path=AT, tags=("proposal",), field=(0, 4, 4), how="below_quorum"),),
    "forges time-outs": (b.ForgeCertificate(path=AT, tags=("proposal", "status"), field=(1, 3)),),
    "sybil": (b.Sybil(path=AT, tags=("vote", "time_out")),),
    "false blocks": (b.Corrupt(path=AT, tags=("blocks",), field=(0, 0, 3)),),
    "skewed clock": (b.SkewedClock(shape="linear", ppm=-300_000, monotonic=True),),
    "much at once": (b.Delay(path=AT, bound_s=0.05), b.Replay(path=AT, every_s=0.1), b.Silent(path=AT, share=0.3)),
}
"""What the liar does: kinds of behaviour that the protocol has an answer to, each at the messages where it hurts."""


class HotstuffArena(ByzantineArena):
    """Four members in short tenures, so that leaders change without any fault as well."""

    name = "hotstuff"
    what = "a HotStuff committee (two-chain) with one liar of four, crashes, partitions, bad links and bad disks"
    rules = HotstuffConfig(
        chain=2, tenure=16, timeout_s=0.2, timeout_max_s=1.6, heartbeat_s=0.2, checkpoint_every=16, batch_max=8
    )
    reading = HOTSTUFF
    mutants: ClassVar[Mapping[str, Callable[..., Policy]]] = {"forgets_its_votes": HotStuffForgets}
    defects: ClassVar[Mapping[str, str]] = {"forgets_its_votes": "a member forgets at a crash what it voted for"}
    shape = Trial(arena="hotstuff", nodes=4, requests=40, storm_s=4.0, calm_s=6.0)
    timeouts_s = (rules.timeout_s, rules.heartbeat_s)
    lies = LIES
