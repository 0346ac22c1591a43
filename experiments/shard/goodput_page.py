"""Tables of simulated goodput, on a screen and as a page.

A place of the page is ``<!-- goodput: TESTBED MODEL -->`` up to ``<!-- /goodput -->``; what stands between is replaced,
and one that is not there yet is added at the end. All other words of a page are left as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby

from experiments.shard.goodput import LIMITS, Shown

PLACE = re.compile(r"<!-- goodput: (?P<name>[^>]*?) -->\n.*?<!-- /goodput -->\n", re.DOTALL)

HEAD = (
    "planner", "drawn", "iteration", "decode tokens/s", "times petals", "times swarm", "prompt s, p99", "wait s, p99",
    "ms/token, p99", "preempted",
)  # fmt: skip
TITLES = {"offline": "all at once", "poisson": "Poisson", "azure_code": "gaps of Azure's code assistant (CV 13)"}
PAGE = """\
# Goodput of placements, simulated

"""


def page(text: str, shown: Sequence[Shown], made: str, cpu_s: Mapping[tuple[str, str], float]) -> str:
    """Return a page with its tables made anew.

    Args:
        text: of the page as it is; empty for a new one.
        made: the command and its settings, in words.
        cpu_s: what choosing the plan that is `simulated` took, by testbed and model.
    """
    text = text or PAGE
    for (bed, model), group in groupby(shown, key=lambda one: (one.testbed, one.model)):
        words = f" The plan `simulated` took {cpu_s[bed, model]:.0f} CPU seconds." if (bed, model) in cpu_s else ""
        lines = [f"<!-- goodput: {bed} {model} -->", f"Made by {made}.{words}", ""]
        for title, body in _tables(list(group)):
            lines += [f"## {title}", "", f"| {' | '.join(HEAD)} |", "|---|---|" + "---:|" * (len(HEAD) - 2)]
            lines += [*(f"| {' | '.join(words)} |" for words in body), ""]
        place = "\n".join([*lines[:-1], "<!-- /goodput -->", ""])
        known = {found["name"]: found for found in PLACE.finditer(text)}
        at = known.get(f"{bed} {model}")
        text = text[: at.start()] + place + text[at.end() :] if at else f"{text}\n{place}"
    return text


def text(shown: Sequence[Shown]) -> str:
    """Return the tables for a screen."""
    lines = []
    for title, body in _tables(shown):
        lines += [title, "", *("".join(f"{word:<17}" for word in words).rstrip() for words in (HEAD, *body)), ""]
    return "\n".join(lines).rstrip()


def _tables(shown: Sequence[Shown]) -> list[tuple[str, list[list[str]]]]:
    """Return each table's title and rows: of a plan under several limits its best and the usual one."""
    tables = []
    for (bed, model, coming), group in groupby(shown, key=lambda one: (one.testbed, one.model, one.coming)):
        own = list(group)
        ordered = sorted(own, key=lambda one: -one.result.decode_tokens_per_s)
        best = {(one.planner, one.router): one.limit for one in reversed(ordered)}
        rows = [_words(own, one) for one in ordered if one.limit in (best[one.planner, one.router], LIMITS[0])]
        tables.append((f"{bed}, {model}: {TITLES[coming]}", rows))
    return tables


def _words(own: Sequence[Shown], one: Shown) -> list[str]:
    result = one.result
    return [
        one.planner,
        one.router,
        f"{one.limit.requests} / {one.limit.tokens}",
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
