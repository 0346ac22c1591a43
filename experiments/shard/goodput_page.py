"""Tables of simulated goodput, on a screen and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from experiments.shard.goodput import Shown

HEAD = (
    "planner", "drawn", "decode tokens/s", "times petals", "times swarm", "prompt s, p99", "wait s, p99",
    "ms/token, p99", "preempted",
)  # fmt: skip
TITLES = {"offline": "all at once", "poisson": "Poisson", "azure_code": "gaps of Azure's code assistant (CV 13)"}
PAGE = """\
# Goodput of placements, simulated

Made by `{command}`. Requests are served over each planner's placement in virtual time (`sim/pipelines`): every node an
engine of its own that takes what has reached it into one iteration, by the layer times of the testbed; caches of all
nodes counted in blocks of 16 tokens; links one message after another. Requests are Azure's conversations up to 2048
tokens in and 1024 out (763 and 232 on average), the lengths that the testbeds state. They come all at once, or at
{load} times the requests a second that the best plan serves then; each run lasts {seconds:.0f} virtual seconds, of
which the first quarter is not counted.

- `simulated` is the plan that serves most of the sixteen that a steady state's arithmetic names
  (`policies/sharding/goodput`), tried with requests of another seed than those shown here.
- Drawn `weighted`: Helix's interleaved weighted round robin over the maximum flow. `own`: Petals' client takes the
  shortest way, SWARM's sends to who has been given least. Ratios are to the better of a baseline's two.
- `prompt` is from a request's admission to its first token, `wait` from its coming to its admission; of requests that
  spoke. Tokens a second are of decodes: first tokens are not among them.
"""


def page(command: str, shown: Sequence[Shown], load: float, seconds: float) -> str:
    """Return the page."""
    lines = [PAGE.format(command=command, load=load, seconds=seconds)]
    for title, body in _tables(shown):
        lines += [f"## {title}", "", f"| {' | '.join(HEAD)} |", "|---|---|" + "---:|" * (len(HEAD) - 2)]
        lines += [*(f"| {' | '.join(words)} |" for words in body), ""]
    return "\n".join(lines)


def text(shown: Sequence[Shown]) -> str:
    """Return the tables for a screen."""
    lines = []
    for title, body in _tables(shown):
        lines += [title, "", *("".join(f"{word:<17}" for word in words).rstrip() for words in (HEAD, *body)), ""]
    return "\n".join(lines).rstrip()


def _tables(shown: Sequence[Shown]) -> list[tuple[str, list[list[str]]]]:
    tables = []
    for (bed, model, coming), group in groupby(shown, key=lambda one: (one.testbed, one.model, one.coming)):
        own = list(group)
        ordered = sorted(own, key=lambda one: -one.result.decode_tokens_per_s)
        tables.append((f"{bed}, {model}: {TITLES[coming]}", [_words(own, one) for one in ordered]))
    return tables


def _words(own: Sequence[Shown], one: Shown) -> list[str]:
    result = one.result
    return [
        one.planner,
        one.router,
        f"{result.decode_tokens_per_s:.1f}",
        *(_times(own, one, name) for name in ("petals", "swarm")),
        f"{result.prompt_s:.1f}, {result.prompt_p99_s:.1f}",
        f"{result.wait_s:.1f}, {result.wait_p99_s:.1f}",
        f"{result.decode_s * 1e3:.0f}, {result.decode_p99_s * 1e3:.0f}",
        str(result.preempted),
    ]


def _times(own: Sequence[Shown], one: Shown, name: str) -> str:
    theirs = [other.result.decode_tokens_per_s for other in own if other.planner == name]
    return f"{one.result.decode_tokens_per_s / max(theirs):.2f}" if theirs and max(theirs) > 0 else ""
