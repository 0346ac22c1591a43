"""The table of behaviours for people, made of their docstrings: ``python -m scenarios.adversaries.table``."""

from __future__ import annotations

import inspect
from typing import get_args

import msgspec

from scenarios.adversaries.behaviours import Behaves, Behaviour

HEAD = """# Adversaries

An adversary is an honest node with wrappers around it, in either world. A scenario says who, and what they do:

```yaml
adversaries_max: 2            # a budget: a scenario with more adversaries, members and workers, is refused
adversaries:
  - {behaviour: silent, kind: laptop, count: 1, from_s: 300}   # one word for the two commonest
  - committee: [4]            # members by index; or names: [phone-3]; or kind and count, drawn by the seed
    coalition: ring           # those of one coalition share keys and a plan
    behaviours:               # in their order: the first stands next to the node
      - {kind: delay, bound_s: 0.2, peers: [desktop-0], path: consensus}
      - {kind: collude, turn_s: 60}
```

Every behaviour has `from_s` and `until_s` (seconds of the run; in `world: local` from the launcher's start) and, unless
it is the whole node's, `path`: one mounted policy, or all. Raft here tolerates crashes, not lies: what is expected of a
Byzantine protocol it need not hold, and `tests/scenarios/adversaries/test_outcomes.py` shows where it does not. Under
HotStuff and PBFT a scenario in which more than f = (n - 1) // 3 of the committee's n members lie is refused, unless it
says `adversaries_beyond_f: true`: then no promise is owed, and checks may break. Who does wrong in its work alone
(`wrong_results` to `forge_receipts` below) does not count as one of them; nor does a device that may only be elected
later, for which [council.md](council.md) has a bound.

Each behaviour has also stood on one of four real nodes (`tests/real_backends/test_adversaries.py`), beside a broadcast
that promises something whatever one of four does; the honest three kept the promise and went on. What committees of
HotStuff and PBFT make of liars over real sockets, way of lying by way of lying, is in [byzantine.md](byzantine.md).

What a committee member that lies announces is neither a promise nor a fact, so checks hear honest members only. What a
liar's executor hands on in others' pipelines is wrong in the twin; in `world: local` a wrapper changes what the node
says of its jobs, not the activations that it passes on, and only `shirk` is done by the executor itself
(`tests/real_backends/test_checking.py`).

The table is made of docstrings in `scenarios/adversaries/behaviours.py` by `python -m scenarios.adversaries.table`.

| behaviour | what the node does | parameters | catalogue | expected |
|---|---|---|---|---|
"""


def table() -> str:
    """Return the page."""
    return HEAD + "".join(f"{row(kind)}\n" for kind in get_args(Behaviour))


def row(kind: type[Behaves]) -> str:
    """Return one behaviour's row."""
    what, _, rest = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")
    catalogue, _, expected = rest.partition("Expected:")
    fields = [field for field in msgspec.structs.fields(kind) if field.name not in ("from_s", "until_s", "path")]
    shown = ", ".join(f"`{f.name}`" + ("" if f.required else f" = {_plain(f.default)}") for f in fields)
    cells = (f"`{kind.__struct_config__.tag}`", what, shown, catalogue.removeprefix("Catalogue:"), expected)
    return "| " + " | ".join(" ".join(cell.replace("``", "`").split()) for cell in cells) + " |"


def _plain(default: object) -> str:
    return msgspec.json.encode(default).decode()


if __name__ == "__main__":
    print(table(), end="")
