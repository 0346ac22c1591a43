"""What came of each lie over real sockets: measured into liars.json, and shown in docs/byzantine.md.

``python -m tests.real_backends.liar_table`` writes the page; with ``measure`` it first runs every lie, or those that
are named after it, for some ten minutes in all.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from tests.real_backends.catalogue import CATALOGUE, Row
from tests.real_backends.liars import Seen

PAGE = Path(__file__).parents[2] / "docs" / "byzantine.md"
MEASURED = Path(__file__).parent / "liars.json"
HEAD = """# Liars over real sockets

Every row of the catalogue of Byzantine behaviours, in the twin and in a committee of real nodes: TLS 1.3 sockets,
fsynced logs, Ed25519 signatures, clients that ask the honest without a pause ([adversaries.md](adversaries.md) says how
a node is made a liar). One of four lies from the start, as the first leader; it is started anew on the way. Where a lie
is about giving up or catching up, an honest member is away for a while and then hears the liar alone.

A row is written only if all of this held over sockets (`tests/real_backends/test_committee_liars.py`, nightly but for
five); the same lies stand in the twin (`test_adversaries.py` and `test_pbft_cluster.py` in `tests/policies/consensus`):

- **safe**: what clients saw is linearizable; one order, one leader a term, every operation once (S1, S3 to S5, S18); no
  honest double vote, certificates with quorums, equal checkpoints (S13, S14, S19); evidence names nobody honest (S16);
  honest members end with equal registers; all journals replay to equal effects.
- **live**: clients of the honest were answered before, during and after, reads at every honest member too; in HotStuff
  every member has led since.
- **it happened**: *steps* is how often the liar did what an honest Cell, told the same, would not have done (0 where no
  member looks at what is lied about).

*Seen by*: **evidence** that names the liar and convinces anybody; the promises S13, S14 or S19 that are broken if the
liar's word counts as an honest one's (an auditor of the journals sees as much); what honest members **dropped**, noted
once with its reason. *Nobody*: the lie changed nothing that is told apart from a slow or unlucky honest member, or
what it changed counted for nothing.

"""
COLUMNS = "| catalogue | lie | in the twin | over sockets | steps | seen by |\n|---|---|---|---|---|---|\n"


def plain(seen: Seen) -> dict[str, Any]:
    """Return what is kept of a run."""
    return {
        "steps": seen.deviations,
        "accused": sorted(seen.accused),
        "dropped": list(seen.notes),
        "broken": list(seen.checks),
        "term": seen.terms,
    }


def measured() -> dict[str, dict[str, dict[str, Any]]]:
    """Return protocol to lie to what came of it."""
    found: dict[str, dict[str, dict[str, Any]]] = msgspec.json.decode(MEASURED.read_bytes())
    return found


def page(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return the page."""
    parts = [HEAD]
    for protocol, name in (("hotstuff", "HotStuff"), ("pbft", "PBFT")):
        parts.append(f"## {name}, one of four\n\n{COLUMNS}")
        for row in CATALOGUE:
            for lie in getattr(row, protocol):
                one = found[protocol][lie]
                held = f"safe, live | safe, live | {one['steps']}"
                parts.append(f"| {row.behaviour}: {row.what} | {lie} | {held} | {_seen(one)} |\n")
        parts.append("\n")
    parts.append("## Elsewhere, or not\n\n| catalogue | test of real nodes | |\n|---|---|---|\n")
    parts += [_elsewhere(row) for row in CATALOGUE if row.elsewhere or row.why]
    parts.append("\nWritten by `python -m tests.real_backends.liar_table` (`measure` runs every lie again).\n")
    return "".join(parts)


def _seen(one: Mapping[str, Any]) -> str:
    said = ["**evidence**"] if one["accused"] else []
    said += [f"`{name}`" for name in one["broken"]]
    said += [f"dropped: {reason}" for reason in one["dropped"]]
    return "; ".join(said) or "nobody"


def _elsewhere(row: Row) -> str:
    test = f"`{row.elsewhere.removeprefix('tests/real_backends/')}`" if row.elsewhere else "as above"
    return f"| {row.behaviour}: {row.what} | {test} | {row.why} |\n"


def measure(only: tuple[str, ...]) -> None:
    """Run every lie, or those named, and keep what came of it."""
    from tests.real_backends.test_committee_liars import WAYS, live

    found = measured() if MEASURED.exists() else {}
    for protocol, lies in WAYS.items():
        earlier = found.get(protocol, {})
        found[protocol] = {lie: earlier[lie] for lie in lies if lie in earlier}
        for lie in lies:
            if only and lie not in only:
                continue
            with tempfile.TemporaryDirectory() as folder:
                found[protocol][lie] = plain(live(Path(folder), protocol, lie))
            print(protocol, lie, found[protocol][lie], flush=True)
            MEASURED.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(tuple(sys.argv[2:]))
    PAGE.write_text(page(measured()), encoding="utf-8")
