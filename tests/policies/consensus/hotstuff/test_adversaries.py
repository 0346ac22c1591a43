"""One liar of four, each way of lying in turn: the others agree, and go on once the liar leads no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest

from scenarios.adversaries import behaviours as b
from tests.policies.consensus.hotstuff.small_log import SmallLog

HALF = (("n2",), ("n3",))
SIGNED = ("proposal", "vote", "time_out")
LIES: dict[str, Sequence[Any]] = {
    "silent": [b.Silent(path="consensus")],
    "silent to one": [b.Silent(path="consensus", peers=("n3",))],
    "falls silent": [b.Silent(path="consensus", from_s=1.0)],
    "deaf for a while": [b.Silent(path="consensus", side="receive", from_s=1.0, until_s=3.0)],
    "proposes to nobody": [b.Silent(path="consensus", tags=("proposal",))],
    "orders no command of others": [b.Silent(path="consensus", side="receive", tags=("forward",))],
    "withholds certificates": [b.Withhold(path="consensus", tags=("status",))],
    "withholds its newest proposal": [b.Withhold(path="consensus", tags=("proposal",), lag=1)],
    "withholds its newest lock": [b.Withhold(path="consensus", tags=("time_out", "status"), lag=1)],
    "withholds votes": [b.Withhold(path="consensus", tags=("vote", "time_out"))],
    "delay": [b.Delay(path="consensus", bound_s=0.1)],
    "delay just below the time-out": [b.Delay(path="consensus", bound_s=0.19, exactly=True)],
    "delay to one": [b.Delay(path="consensus", bound_s=0.3, exactly=True, peers=("n3",))],
    "reorder": [b.Reorder(path="consensus")],
    "replay": [b.Replay(path="consensus", every_s=0.05, age_s=0.5, burst=3, heard=True)],
    "replay in the same view": [b.Replay(path="consensus", every_s=0.02, age_s=0.0, burst=3, heard=True)],
    "flood of views": [b.Flood(path="consensus", tags=("vote",), field=(1,), by=1000, every_s=0.01)],
    "flood of terms": [b.Flood(path="consensus", tags=("time_out",), field=(1,), every_s=0.01)],
    "jump of views": [b.Corrupt(path="consensus", tags=("vote", "time_out"), field=(1,), by=1000, resign=True)],
    "earlier views": [b.Corrupt(path="consensus", tags=("vote", "time_out"), field=(1,), by=-1, resign=True)],
    "next views, unsigned": [b.Corrupt(path="consensus", tags=("vote", "time_out"), field=(1,))],
    "other block": [b.Corrupt(path="consensus", tags=("vote",), field=(2,), change="digest", resign=True)],
    "changed commands": [b.Corrupt(path="consensus", tags=("proposal",), field=(0, 5, 0, 4), change="flip")],
    "changed height": [b.Corrupt(path="consensus", tags=("proposal",), field=(0, 3))],
    "next epoch": [b.Corrupt(path="consensus", tags=("vote", "time_out", "status"), field=(0,), resign=True)],
    "earlier epoch": [b.Corrupt(path="consensus", tags=("vote", "time_out", "status"), field=(0,), by=-1, resign=True)],
    "old certificate": [b.Corrupt(path="consensus", tags=("proposal",), field=(0, 4), change="old")],
    "high certificate of old": [b.Corrupt(path="consensus", tags=("time_out", "status"), field=(2,), change="old")],
    "malformed": [b.Corrupt(path="consensus", tags=SIGNED, field=(1,), change="set", to="x")],
    "split proposals": [b.Split(path="consensus", tags=("proposal",), field=(0, 5), groups=HALF, resign=True)],
    "split votes": [b.Split(path="consensus", tags=("vote",), field=(2,), groups=HALF, resign=True)],
    "double votes": [b.DoubleVote(path="consensus", tags=("vote",), field=(2,), resign=True)],
    "split checkpoints": [b.Split(path="consensus", tags=("checkpoint_vote",), field=(5,), resign=True)],
    "false checkpoints": [
        b.Corrupt(path="consensus", tags=("checkpoint_vote",), field=(5,), change="digest", resign=True),
    ],
    "checkpoints of the future": [
        b.Corrupt(path="consensus", tags=("checkpoint_vote",), field=(1,), by=1000, resign=True),
    ],
    "false states": [b.Corrupt(path="consensus", tags=("chunk",), field=(2,), change="flip")],
    "twins": [b.Twins(peers=("n3",))],
    "twins later": [b.Twins(peers=("n2", "n3"), from_s=1.0)],
    "wrong key": [b.WrongKey(path="consensus")],
    "impersonate": [b.Impersonate(path="consensus", victim="n2", forward=True)],
    "certificate of one signer": [
        b.ForgeCertificate(path="consensus", tags=("proposal",), field=(0, 4, 4)),
        b.ForgeCertificate(path="consensus", tags=("status",), field=(1, 4)),
    ],
    "certificate below quorum": [
        b.ForgeCertificate(path="consensus", tags=("proposal",), field=(0, 4, 4), how="below_quorum"),
        b.ForgeCertificate(path="consensus", tags=("status",), field=(1, 4), how="below_quorum"),
    ],
    "forged time-outs": [
        b.ForgeCertificate(path="consensus", tags=("proposal",), field=(1, 3)),
        b.ForgeCertificate(path="consensus", tags=("status",), field=(2, 3)),
    ],
    "sybil": [b.Sybil(path="consensus", tags=("vote", "time_out"))],
    "false blocks": [b.Corrupt(path="consensus", tags=("blocks",), field=(0, 0, 3))],
    "skewed clock": [b.SkewedClock(shape="linear", ppm=-300_000, monotonic=True)],
    "swinging clock": [b.SkewedClock(shape="periodic", amount_s=0.3, period_s=2.0, monotonic=True)],
    "stepped clock": [b.SkewedClock()],
    "forgets all": [b.OldState(nothing=True)],
    "old state": [b.OldState(from_s=0.5)],
    "all at once": [
        b.Delay(path="consensus", bound_s=0.05), b.Replay(path="consensus", every_s=0.1),
        b.Silent(path="consensus", share=0.3), b.Reorder(path="consensus"),
    ],
}  # fmt: skip


def require_outcome(lie: str, liar: str, chain: Literal[2, 3]) -> None:
    """Honest members agree, and all that was asked of them is committed by all of them; evidence names the liar.

    Who leads before the liar is away for a while, so that there is something to give up, to fetch and to take over.
    """
    log = SmallLog(chain=chain, adversaries={liar: LIES[lie]}, snapshot_every=5, checkpoint_every=5, tenure=4)
    honest = [name for name in log.members if name != liar]
    away = log.members[log.members.index(liar) - 1]
    asked = log.run(2, every=0.2, at=honest)
    if any(isinstance(one, b.OldState) for one in LIES[lie]):
        log.cluster.crash(liar)
        log.cluster.restart(liar)
    log.run(2)  # what it was asked is agreed, or it would be lost with it
    log.cluster.crash(away)
    asked += log.run(2, every=0.1, at=[name for name in honest if name != away])
    log.cluster.restart(away)
    log.run(14)

    log.require_safe()
    log.require_live(asked, honest)
    assert {evidence[1] for evidence in log.evidence()} <= {liar}


@pytest.mark.parametrize(("lie", "chain"), [(lie, 2 + k % 2) for k, lie in enumerate(LIES)])
def test_a_first_leader_that_lies_breaks_nothing_and_stops_nothing(lie: str, chain: Literal[2, 3]) -> None:
    """Each way of lying in turn; the two-chain and the three-chain by turns."""
    require_outcome(lie, "n0", chain)


@pytest.mark.nightly
@pytest.mark.parametrize("chain", [2, 3])
@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("liar", ["n0", "n1"])
def test_one_liar_of_four_breaks_nothing_and_stops_nothing(lie: str, liar: str, chain: Literal[2, 3]) -> None:
    """All of them: the first leader or the second, with either rule."""
    require_outcome(lie, liar, chain)
