"""The tables of docs/agreement.md and its figure, from what commands recorded and from short simulations made now.

A place is ``<!-- published: NAME -->`` up to ``<!-- /published -->``; what stands between is replaced.

python -m experiments.published.page docs/agreement.md
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from experiments.present import markdown
from experiments.published import elections, hotstuff, hotstuff_parts, regions
from experiments.published.detection import first_suspicion_s, suspicion_s
from experiments.published.false_positives import SHOWN
from experiments.published.figures import DOCS, draw
from policies.config import SwimConfig

WANTED = {"elections": 0.10, "closed": 0.03, "hotstuff": 0.25, "regions": 0.05}
"""Largest errors wanted of each table (the project's plan)."""
PLACE = re.compile(r"(<!-- published: (?P<name>\w+) -->\n).*?(<!-- /published -->)", re.DOTALL)


def recorded(name: str) -> pd.DataFrame:
    """Return a table that a command wrote into docs, by the name of its file."""
    return pd.read_csv(DOCS / f"{name}.csv")


def error(ours: float, theirs: float) -> str:
    """Return an error in percent."""
    return f"{100 * (ours / theirs - 1):+.1f} %"


def verdict(ours: float, theirs: float, wanted: float, *, fitted: bool = False) -> str:
    """Return whether a row is as close as wanted, or was fitted."""
    return "fitted" if fitted else "met" if abs(ours / theirs - 1) <= wanted else "MISSED"


def election_table() -> str:
    """Return the published election times beside a thousand simulated ones each; only medians and the bound of equal
    time-outs are judged."""
    rows = [_chanceless()]
    times = {(r.low_ms, r.high_ms): elections.downtimes_ms(r.low_ms, r.high_ms) for r in elections.PUBLISHED}
    for r in elections.PUBLISHED:
        ours = elections.of(r.what, times[r.low_ms, r.high_ms])
        judged = verdict(ours, r.ms, WANTED["elections"], fitted=r.fitted) if r.what == "median" else "-"
        name = f"{r.low_ms:g}-{r.high_ms:g} ms"
        rows.append((name, r.what, f"{r.ms:.0f}", f"{ours:.0f}", error(ours, r.ms), judged))
    return markdown(("time-outs", "", "theirs (ms)", "ours (ms)", "error", ""), rows)


def _chanceless() -> tuple[str, ...]:
    """Return the row of equal time-outs: how long nobody is elected at least, in theirs and in ours."""
    r, most_ms = elections.CHANCELESS, 1000 * elections.GIVE_UP_S
    ours = float(elections.downtimes_ms(r.low_ms, r.high_ms, elections.CHANCELESS_TRIALS, elections.GIVE_UP_S).min())
    shown = f"above {most_ms:,.0f}" if ours >= most_ms else f"{ours:,.0f}"
    return (f"{r.low_ms:g} ms, no chance", r.what, f"above {r.ms:,.0f}", shown, "-", "met" if ours > r.ms else "MISSED")


def closed_table() -> str:
    """Return one operation's latency where only ways take time, beside the count of the ways."""
    rows = []
    for chain, ways in ((3, 8), (2, 6)):
        for n in (4, 16):
            ours = hotstuff.alone_ms(n, chain)  # type: ignore[arg-type]
            rows.append((f"{chain} certificates", n, ways, f"{10 * ways}", f"{ours:.2f}", error(ours, 10 * ways),
                         verdict(ours, 10 * ways, WANTED["closed"])))  # fmt: skip
    return markdown(("commit rule", "n", "ways of 10 ms", "closed form (ms)", "ours (ms)", "error", ""), rows)


def hotstuff_table() -> str:
    """Return throughput and latency by group size."""
    rows = []
    for (setting, n), both in recorded("hotstuff").groupby(["setting", "n"], sort=False):
        for _, r in both.iterrows():
            what = {"kops": "thousand operations/s", "ms": "latency (ms)"}[r["what"]]
            judged = verdict(r["ours"], r["theirs"], WANTED["hotstuff"], fitted=bool(r["fitted"]))
            rows.append((setting, n, what, f"{r['theirs']:g}", f"{r['ours']:g}", error(r["ours"], r["theirs"]),
                         error(r["shadow"], r["theirs"]), judged))  # fmt: skip
    return markdown(("setting", "n", "", "theirs", "ours", "error", "Shadow's error", ""), rows)


def machine_table() -> str:
    """Return the fitted costs."""
    m = hotstuff.MACHINE
    rows = [("a step: an operation, a message, an answer", f"{m.step_ns / 1000:.2f} µs"),
            ("a signature made or verified", f"{m.crypto_ns / 1000:.1f} µs"),
            ("a sender's interface", f"{m.bytes_per_s / 1e9:.2f} GB/s")]  # fmt: skip
    return markdown(("cost", "fitted"), rows)


def part_table() -> str:
    """Return what a view takes at 16 members, and with each cost gone."""
    rows = [(name, f"{ms:.2f}") for name, ms in hotstuff_parts.parts()]
    (_, whole), *without = rows
    return markdown(("what costs nothing", "a view (ms)"), [("-", whole), *without])


def constant_table() -> str:
    """Return the bounds on what of a view does not grow with the members."""
    bound = hotstuff_parts.constants(WANTED["hotstuff"])
    what = {"most": "for the row of 16 to be met, at most", "least": "for the row of 128 to be met, at least",
            "seen": "left by the row of 10 ms at 4, at most", "ours": "ours: two ways of 1 ms"}  # fmt: skip
    return markdown(("of a view does not grow", "ms"), [(what[name], f"{ms:.2f}") for name, ms in bound.items()])


def region_table() -> str:
    """Return the latencies by region."""
    rows = [
        (r.what, f"{r.real:.1f}", f"{ours:.1f}", error(ours, r.real), error(r.shadow, r.real),
         verdict(ours, r.real, WANTED["regions"]))
        for r, ours in regions.table()
    ]  # fmt: skip
    return markdown(("client in", "theirs (ms)", "ours (ms)", "error", "Shadow's error", ""), rows)


def membership_table() -> str:
    """Return detection by group size, beside what is expected of SWIM."""
    swim = SwimConfig()
    rows = []
    for _, r in recorded("membership").iterrows():
        n = int(r["n"])
        is_swim = r["detector"] == "swim"
        low, high = suspicion_s(swim, n)
        rows.append((r["detector"], n, f"{r['first_s']:.2f}", f"{first_suspicion_s(swim):.2f}" if is_swim else "-",
                     f"{r['all_s']:.1f}", f"{low:.1f} to {high:.1f}" if is_swim else "-",
                     f"{r['false_suspect_per_h']:.2g}", f"{r['false_dead']:.0f}",
                     f"{r['bytes_per_s']:.0f}"))  # fmt: skip
    head = ("detector", "n", "first suspicion (s)", "expected", "known to all, worst (s)", "suspicion lasts",
            "false suspicions/member/h", "false deaths", "bytes/s a member")  # fmt: skip
    return markdown(head, rows)


def wrong_table() -> str:
    """Return how healthy members are wronged by a group of whom a quarter is slow: means, and the worst seed."""
    rows = recorded("false_positives")
    each = rows[["dead", "dead_by_healthy", "suspected"]].div(rows["n"], axis=0)
    by_size = each.groupby([rows["detector"], rows["n"]], sort=False)
    mean, worst, shown = by_size.mean(), by_size["dead"].max(), []
    for (name, n), one in mean.iterrows():
        fewer = f"{mean.loc[('plain', n), 'dead'] / one['dead']:,.1f}" if one["dead"] else "all"
        shown.append((SHOWN[name], n, f"{one['dead']:.2f}", f"{worst[name, n]:.2f}", f"{one['dead_by_healthy']:.2f}",
                      f"{one['suspected']:.1f}", "-" if name == "plain" else fewer))  # fmt: skip
    head = ("detector", "n", "false deaths/member", "worst seed", "by healthy members", "false suspicions/member",
            "times fewer deaths than the first")  # fmt: skip
    return markdown(head, shown)


def recovery_table() -> str:
    """Return how long requests under way wait after their worker's crash, with each detector and without one."""
    rows = []
    for name, times in recorded("recovery").groupby("detector", sort=False)["recovered_s"]:
        quartile, median, most, worst = times.quantile([0.25, 0.5, 0.75, 1.0])
        rows.append((name, len(times), f"{median:.1f}", f"{quartile:.1f} to {most:.1f}", f"{worst:.1f}"))
    return markdown(("`policy/membership`", "crashes", "median (s)", "middle half (s)", "worst (s)"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "elections": election_table, "closed": closed_table, "machine": machine_table, "hotstuff": hotstuff_table,
    "parts": part_table, "constants": constant_table, "regions": region_table, "membership": membership_table,
    "wrong": wrong_table, "recovery": recovery_table,
}  # fmt: skip


def rewrite(text: str) -> str:
    """Return a page with every table made anew."""
    return PLACE.sub(lambda place: f"{place[1]}{TABLES[place['name']]()}{place[3]}", text)


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(rewrite(page.read_text()))
    draw(page.with_suffix(".png"))
