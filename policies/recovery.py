"""How a request gets over the death of a worker: what it costs to be prepared, and what it costs not to be.

A dying stage takes the keys and values (KV) of all tokens so far with it. Three ways to have them again on a spare:

- *replay*: nothing is done before. What entered the stage is kept where it was sent from (Petals keeps it at the
  client: Borzunov et al., NeurIPS 2023), and all of it is sent to the spare, which computes it again.
- *buddy*: the stage streams each token's KV to a standby (DejaVu: Strati et al., ICML 2024).
- *checkpoint*: what enters the stage goes to the standby as well, a few tokens at a time, and the standby computes its
  KV from it in the background. Fewer bytes where a stage has several layers, but the standby works too.

The standby is then behind by what was not copied yet, and only that is replayed. `choose` takes the way whose expected
cost is least; `cover` says how many tokens to copy where the bytes that may be sent are bounded. Detecting the death
takes the same time whichever way was chosen, and stands in no cost here.

All costs are seconds of the request's time, expected over the tokens it has still to decide. A second in which a
standby or the link to it works in the background is priced at `Rules.price`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, NamedTuple

Way = Literal["replay", "buddy", "checkpoint"]


class Exposure(NamedTuple):
    """One stage of a pipeline, and what its successor would have to do.

    Attributes:
        failures_per_token: chance that the stage dies at one token, 0 up to 1.
        input_bytes: what enters the stage for a token: an activation, or 4 bytes of token at the first stage.
        kv_bytes: what the stage keeps of a token, over all its layers.
        bytes_per_s: the way to the spare.
        prefill_s_token: the spare's computing, for each token of many at once.
        step_s: the spare's, for a pass of any length: it reads the stage's weights once.
        others_s_token: computing of other stages that a replayed token goes through again.
    """

    failures_per_token: float
    input_bytes: float
    kv_bytes: float
    bytes_per_s: float
    prefill_s_token: float
    step_s: float
    others_s_token: float = 0.0


class Rules(NamedTuple):
    """What all stages of a request share.

    Attributes:
        token_s: the pipeline's time for a token.
        price: what a second of background work is worth, in seconds of the request. Our ASSUMPTION: a village has idle
            devices, but not for nothing.
    """

    token_s: float
    price: float = 0.05


class Choice(NamedTuple):
    """A way, its expected cost in seconds, and the bytes a copied token takes.

    ``interval_tokens`` is how many tokens a checkpoint waits for; 1 for a buddy, 0 for a replay.
    """

    way: Way
    cost_s: float
    copy_bytes: float
    interval_tokens: int


def replay_s(stage: Exposure, tokens: float) -> float:
    """Return the seconds until a spare has ``tokens`` again: they travel while those before them are computed.

    The slower of the two decides; the faster one is done with all but the last of about eight chunks by then
    (ASSUMPTION of ours: more chunks read the weights more often than they save).
    """
    if tokens <= 0:
        return 0.0
    return tokens * _token_s(stage) + stage.step_s


CHUNKS = 8


def backlog_tokens(held: float, left: float, rules: Rules, copied_per_s: float) -> float:
    """Return how many tokens a standby is behind on average, if copying begins now.

    ``held`` tokens wait, ``left`` come at the pipeline's pace, and ``copied_per_s`` are copied: a line that falls to 0
    or does not, averaged over the decoding.
    """
    whole_s = left * rules.token_s
    gain_per_s = copied_per_s - 1.0 / rules.token_s
    if gain_per_s * whole_s >= held:
        return held * held / (2.0 * gain_per_s * whole_s) if held else 0.0
    return held - gain_per_s * whole_s / 2.0


def idle_bytes_per_s(stage: Exposure, rules: Rules) -> float:
    """Return what the way to the spare has left beside the request's own tokens.

    At least a hundredth of it (ASSUMPTION): a full link still lets something by, and a copy comes some time.
    """
    return max(stage.bytes_per_s - stage.input_bytes / rules.token_s, 0.01 * stage.bytes_per_s)


def interval_tokens(stage: Exposure, left: float, rules: Rules) -> int:
    """Return the tokens between two checkpoints, at least 1, and no more than are left to decide.

    A checkpoint costs delta, a failure half an interval of work: tau = sqrt(2 delta M) (Young, CACM 17(9), 1974;
    Daly, FGCS 22(3), 2006, whose higher terms vanish here, as a checkpoint holds nobody up). In tokens: delta is the
    standby's pass, at its price, and 1 / M the failures a token times the seconds of computing a token again.
    """
    loss_s = stage.failures_per_token * _token_s(stage)
    pass_s = rules.price * stage.step_s
    if 2.0 * pass_s >= loss_s * left * left:
        return max(1, round(left))
    return max(1, round(math.sqrt(2.0 * pass_s / loss_s)))


def replay(stage: Exposure, held: float, left: float, rules: Rules) -> Choice:
    """Return what doing nothing before costs: each failure replays the tokens of its time."""
    failures = stage.failures_per_token * left
    mean = held + left / 2.0
    sent_s = mean * stage.input_bytes / stage.bytes_per_s
    return Choice("replay", failures * (replay_s(stage, mean) + rules.price * sent_s), stage.input_bytes, 0)


def buddy(stage: Exposure, held: float, left: float, rules: Rules) -> Choice:
    """Return what streaming the KV costs: all is copied once, and again after each failure."""
    behind = 1.0 + backlog_tokens(held, left, rules, idle_bytes_per_s(stage, rules) / stage.kv_bytes)
    copied_s = (held + left) * stage.kv_bytes / stage.bytes_per_s
    return Choice("buddy", _prepared_s(stage, left, rules, behind, copied_s, 0.0), stage.kv_bytes, 1)


def checkpoint(stage: Exposure, held: float, left: float, rules: Rules) -> Choice:
    """Return what checkpoints at Young's interval cost: as a buddy's, and the standby computes what it is sent."""
    every = interval_tokens(stage, left, rules)
    per_s = idle_bytes_per_s(stage, rules) / stage.input_bytes
    if stage.prefill_s_token > 0.0:
        per_s = min(per_s, 1.0 / stage.prefill_s_token)
    behind = every / 2.0 + backlog_tokens(held, left, rules, per_s)
    copied_s = (held + left) * (stage.input_bytes / stage.bytes_per_s + stage.prefill_s_token)
    passes_s = left / every * stage.step_s
    return Choice("checkpoint", _prepared_s(stage, left, rules, behind, copied_s, passes_s), stage.input_bytes, every)


WAYS: Mapping[Way, Callable[[Exposure, float, float, Rules], Choice]] = {
    "replay": replay,
    "buddy": buddy,
    "checkpoint": checkpoint,
}


def choose(
    stage: Exposure, held: float, left: float, rules: Rules, among: Collection[Way] = ("buddy", "checkpoint")
) -> Choice:
    """Return the way of least expected cost; of equal ones the one that does less before.

    Args:
        held: tokens whose KV the stage holds.
        left: tokens the request has still to decide.
        among: ways there are beside replay.

    Raises:
        ValueError: a chance that is none, or a number below what is allowed.
    """
    _check(stage, held, left, rules)
    ways = [way for name, way in WAYS.items() if name == "replay" or name in among]
    return min((way(stage, held, left, rules) for way in ways), key=lambda choice: choice.cost_s)


class Copying(NamedTuple):
    """A stage's choice, and what of it is done: ``held`` tokens it has, ``copied`` of them are at its standby."""

    stage: Exposure
    choice: Choice
    held: float
    copied: float


def cover(stages: Sequence[Copying], left: float, rules: Rules, allowance_bytes: float) -> tuple[float, ...]:
    """Return up to which token each stage is to be copied, so that no more than ``allowance_bytes`` are sent.

    What is left over is least in the expected square of the time that a death costs: the mean alone would copy stages
    one after another, whole, and a death in one that was not reached would cost all (a request is late for its worst
    death, and several add up). With m tokens of a stage missing, each c seconds, f deaths expected and b bytes a token,
    that is the sum of f (c m)^2 under a bound on the sum of b m, so that where it is least m = x b / (f c^2) for one x,
    or all there are: stages that are alike are copied alike, and one whose tokens are small is copied first. Each token
    of a stage is worth as much as another: one fewer to replay. What is copied already stays.
    """
    until = [each.copied for each in stages]
    missing = [each.held + left - each.copied for each in stages]
    dear: dict[int, float] = {}  # stage to b / (f c^2)
    for k, each in enumerate(stages):
        saved_s = replay(each.stage, each.held, left, rules).cost_s - each.choice.cost_s
        if each.choice.way != "replay" and saved_s > 0.0 and missing[k] > 0.0:
            dear[k] = each.choice.copy_bytes / (each.stage.failures_per_token * left * _token_s(each.stage) ** 2)
    room = max(0.0, allowance_bytes)
    level = _level({k: (missing[k], dear[k], stages[k].choice.copy_bytes) for k in dear}, room)
    for k, share in dear.items():
        until[k] += max(0.0, missing[k] - level * share)
    return tuple(until)


def _level(stages: Mapping[int, tuple[float, float, float]], room_bytes: float) -> float:
    """Return the least x at which all but x ``dear`` tokens of each stage, of those that are missing, have room.

    Args:
        stages: to (missing tokens, dear, bytes a token).
    """
    # The bytes that go are linear in x between the levels at which a stage is left alone.
    rest = sorted(stages.values(), key=lambda stage: -stage[0] / stage[1])
    bytes_at_0 = fall = 0.0
    for k, (missing, dear, copy_bytes) in enumerate(rest):
        bytes_at_0 += missing * copy_bytes
        fall += dear * copy_bytes
        level = max(0.0, (bytes_at_0 - room_bytes) / fall)
        if k + 1 == len(rest) or level >= rest[k + 1][0] / rest[k + 1][1]:
            return level
    return 0.0


def allowance_bytes(live_bytes: float, replayed_bytes: float, ratio: float) -> float:
    """Return what may be sent to get over failures, so that all bytes stay within ``ratio`` of plain replay's.

    Args:
        live_bytes: the request's own traffic, from the prompt to the last token.
        replayed_bytes: what plain replay would have sent for the failures so far. So each failure makes room for the
            next copy, and the bound holds whatever fails, not in the mean.
    """
    return (ratio - 1.0) * live_bytes + ratio * replayed_bytes


def _token_s(stage: Exposure) -> float:
    travel_s, compute_s = stage.input_bytes / stage.bytes_per_s, stage.prefill_s_token + stage.others_s_token
    return max(travel_s, compute_s) + min(travel_s, compute_s) / CHUNKS


def _prepared_s(stage: Exposure, left: float, rules: Rules, behind: float, copied_s: float, passes_s: float) -> float:
    failures = stage.failures_per_token * left
    return failures * replay_s(stage, behind) + rules.price * ((1.0 + failures) * copied_s + passes_s)


def _check(stage: Exposure, held: float, left: float, rules: Rules) -> None:
    if not 0.0 <= stage.failures_per_token <= 1.0:
        raise ValueError(f"failures_per_token is {stage.failures_per_token}; allowed: 0 to 1")
    from_0 = ("prefill_s_token", "step_s", "others_s_token")  # as workers may claim (`policies.work.Capability`)
    above = {name: getattr(stage, name) for name in ("input_bytes", "kv_bytes", "bytes_per_s")}
    for name, value in {**above, "token_s": rules.token_s, "left": left}.items():
        if not 0.0 < value < math.inf:
            raise ValueError(f"{name} is {value}; allowed: above 0")
    rest = {name: getattr(stage, name) for name in from_0}
    for name, value in {**rest, "price": rules.price, "held": held}.items():
        if not 0.0 <= value < math.inf:
            raise ValueError(f"{name} is {value}; allowed: from 0")
