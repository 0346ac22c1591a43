"""The report: one HTML file, below 3 MB, that needs no network. The verdict comes first."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.results import number
from experiments.whole import write_whole
from scenarios.schema import PRIORITIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from experiments.results import Run

REPORT_BYTES_MAX = 3_000_000

_STYLE = """
:root{color-scheme:light}body{margin:0;background:#f5f7fa;color:#1f2933;font:15px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 20px 60px}h1{font-size:26px;margin:0 0 2px}
h2{font-size:16px;margin:0 0 10px}.sub{color:#697586;margin:0 0 18px}
section{background:#fff;border:1px solid #e6e9ee;border-radius:10px;padding:16px 18px;margin:0 0 16px}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:16px}.grid section{margin:0}
.grid{margin-bottom:16px}.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));
gap:10px}
.tile{background:#f5f7fa;border-radius:8px;padding:10px 12px}.tile b{display:block;font-size:20px}
.tile span{color:#697586;font-size:12.5px}table{border-collapse:collapse;width:100%;font-size:14px}
td,th{text-align:left;padding:4px 10px 4px 0;border-bottom:1px solid #eef1f5;vertical-align:top}
th{color:#697586;font-weight:500}.n{text-align:right;font-variant-numeric:tabular-nums}
.ok{color:#1e7f55}.bad{color:#b3362b;font-weight:600}svg{width:100%;height:auto;display:block}
code{background:#f0f2f5;border-radius:4px;padding:1px 5px;font-size:13px;overflow-wrap:anywhere}
.banner{font-size:18px;font-weight:600;margin:0 0 10px}details summary{cursor:pointer;color:#697586}
pre{font-size:12.5px;overflow:auto;background:#f5f7fa;padding:12px;border-radius:8px}
"""


def write_report(run: Run, path: Path) -> Path:
    """Write the report of ``run`` to ``path``, whole or not at all, and return ``path``."""
    write_whole(path, render(run))
    return path


def render(run: Run) -> str:
    """Return the report of ``run`` as one HTML page."""
    from experiments.fleet_report import fleet_body

    title = f"{run.name} · seed {run.seed}"
    finished = run.manifest.get("run", {}).get("finished", "")
    sub = f"{WORLDS.get(run.world, run.world)} · digest {run.digest[:16]}{f' · {finished}' if finished else ''}"
    head = f"<h1>{html.escape(title)}</h1><p class=sub>{html.escape(sub)}</p>"
    body = fleet_body(run) if run.is_fleet else village_body(run)
    meta = f"<meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
    page = f"<!doctype html><html lang=en><head>{meta}</head><body><main>{head}{body}</main></body></html>"
    assert len(page.encode()) < REPORT_BYTES_MAX, f"report of {len(page.encode()):,} bytes"
    return page


def village_body(run: Run) -> str:
    """Return the sections of a village's report."""
    figures: list[tuple[str, Callable[[Axes], Any]]] = [
        ("The fleet over time", run.plot.fleet),
        ("What became of the requests", run.plot.timeline),
        ("Latency of answers, by class", run.plot.latency),
        ("Who contributed most", run.plot.contributors),
        ("State of charge", run.plot.battery),
        ("Temperature", run.plot.temperature),
    ]
    return "".join([
        verdict_html(run),
        section("Numbers", tiles_html(run)),
        section("Faults and leaders", figure_html(run.plot.events, 11.0, _events_height_in(run))),
        _agreement(run),
        "<div class=grid>" + "".join(section(name, figure_html(draw)) for name, draw in figures) + "</div>",
        "<div class=grid>" + section("Refusals and losses, by reason", _reasons(run)) + section(
            "Requests by class", _classes(run)
        ) + "</div>",
        section("How to reproduce", reproduce_html(run)),
        section("Provenance", provenance_html(run)),
    ])  # fmt: skip


WORLDS = {"sim": "simulated world", "local": "real world: processes on one machine"}


def svg(ax: Axes) -> str:
    """Return the figure of ``ax`` as an inline SVG: no outside references, the same text every time."""
    import matplotlib

    figure = ax.get_figure(root=True)
    assert figure is not None
    out = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "villagetwin", "font.family": "sans-serif"}
    with matplotlib.rc_context(settings):
        figure.savefig(out, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    return re.sub(r' xmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")


def figure_html(draw: Callable[[Axes], Any], width_in: float = 6.4, height_in: float = 2.9) -> str:
    """A figure as inline SVG with ids of its own."""
    from experiments.plots import new_axes

    ax = new_axes(width_in, height_in)
    draw(ax)
    # Each figure has ids of its own: the page holds several, and a clip path of another figure would cut it.
    return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{draw.__name__}-", svg(ax))


def section(title: str, body: str) -> str:
    """One titled section of the page."""
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def _events_height_in(run: Run) -> float:
    return 0.9 + 0.32 * (1 + len(set(run.faults["kind"])))


def _agreement(run: Run) -> str:
    if not len(run.commits):
        return ""  # a policy of one's own, without a replicated log
    from experiments.council_plot import epochs, who_sat

    height_in = 1.2 + 0.42 * (2 + len(who_sat(run)) + bool(epochs(run)))
    return section("Agreement: views, leaders, faults, commits", figure_html(run.plot.agreement, 11.0, height_in))


def verdict_html(run: Run) -> str:
    """The verdict's section."""
    failed = [check for check in run.checks if not check.passed]
    text = f"{len(failed)} of {len(run.checks)} checks failed" if failed else f"All {len(run.checks)} checks passed"
    rows = "".join(
        f"<tr><td class={'ok' if c.passed else 'bad'}>{'passed' if c.passed else 'FAILED'}</td>"
        f"<td>{html.escape(c.name)}</td><td>{html.escape(c.detail)}</td></tr>"
        for c in run.checks
    )
    banner = f"<p class='banner {'bad' if failed else 'ok'}'>{text}</p>"
    return section("Verdict", f"{banner}<table>{rows}</table>")


def tiles_html(run: Run) -> str:
    """The summary's numbers as tiles."""
    tiles = "".join(
        f"<div class=tile><b>{number(value)}</b><span>{html.escape(label(name))}</span></div>"
        for name, value in run.summary.items()
    )
    return f"<div class=tiles>{tiles}</div>"


UNITS = {
    "_tokens_per_s": "tokens/s", "_per_s": "/s", "_s": "s", "_h": "h", "_min": "min",
    "_c": "°C", "_w": "W", "_j": "J", "_wh": "Wh", "_kwh": "kWh", "_bytes": "bytes",
}  # fmt: skip
"""Ending of a summary's name to its unit; longer endings first."""


def label(name: str) -> str:
    """Return a summary's name as words, its unit in brackets.

    >>> label("latency_p95_s"), label("throughput_tokens_per_s"), label("requests_total")
    ('latency p95 (s)', 'throughput (tokens/s)', 'requests total')
    """
    for ending, unit in UNITS.items():
        if name.endswith(ending):
            return f"{name.removesuffix(ending).replace('_', ' ')} ({unit})"
    return name.replace("_", " ")


def _reasons(run: Run) -> str:
    rows = run.requests[~run.requests["status"].isin(["answered"])]
    counts = rows.assign(reason=rows["reason"].fillna("").replace("", "–")).groupby(["status", "reason"]).size()
    if counts.empty:
        return "<p>Every request was answered in time.</p>"
    lines = "".join(
        f"<tr><td>{html.escape(str(status))}<td>{html.escape(str(reason))}<td class=n>{count:,}</tr>"
        for (status, reason), count in counts.sort_values(ascending=False).head(15).items()
    )
    return f"<table><tr><th>outcome<th>reason<th class=n>requests</tr>{lines}</table>"


def _classes(run: Run) -> str:
    lines = []
    found = dict(list(run.requests.groupby("priority")))
    models = _models(run)
    for priority in sorted(found, key=lambda name: PRIORITIES.index(name) if name in PRIORITIES else len(PRIORITIES)):
        rows = found[priority]
        counts = rows["status"].value_counts()
        done = rows.loc[rows["status"].isin(["answered", "late"]), "latency_s"].astype(float)
        cells = [f"{counts.get(status, 0):,}" for status in ("answered", "late", "refused", "lost")]
        cells += [number(float(done.quantile(q))) if len(done) else "–" for q in (0.5, 0.95)]
        cells += [f"{int((rows['model'] == model).sum()):,}" for model in models]
        lines.append(f"<tr><td>{html.escape(str(priority))}" + "".join(f"<td class=n>{cell}" for cell in cells))
    names = ("answered", "late", "refused", "lost", "p50 (s)", "p95 (s)", *(f"by {model}" for model in models))
    head = "<tr><th>class" + "".join(f"<th class=n>{html.escape(name)}" for name in names)
    return f"<table>{head}{''.join(lines)}</table>"


def _models(run: Run) -> list[str]:
    """Return who answered, where that was more than one model: the first one asked for, then the others."""
    scenario = run.manifest.get("config", {})
    named = set(run.requests["model"]) - {""} if scenario.get("smaller") else set()
    return sorted(named, key=lambda model: (model != scenario["model"], model))


def reproduce_html(run: Run) -> str:
    """The line that repeats the run."""
    command = run.manifest.get("run", {}).get("command") or f"twin run scenario={run.name} seed={run.seed}"
    note = (
        f"The same sources, lock and seed give the event digest <code>{html.escape(run.digest)}</code>."
        if run.world == "sim"
        else "A real run never repeats exactly; repeat it and compare with <code>twin compare</code>."
    )
    return f"<p><code>{html.escape(command)}</code></p><p>{note}</p>"


def provenance_html(run: Run) -> str:
    """Where the result comes from."""
    import json

    manifest = {key: value for key, value in run.manifest.items() if key not in ("checks", "ledger", "config")}
    policies = manifest.pop("policies", {})
    rows = "".join(
        f"<tr><td>{html.escape(path)}</td><td>{html.escape(str(row.get('class', '')))}</td>"
        f"<td><code>{html.escape(str(row.get('source_sha256', ''))[:16])}</code></td></tr>"
        for path, row in policies.items()
    )
    facts = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(_plain(value))}</td></tr>" for key, value in manifest.items()
    )
    config = html.escape(json.dumps(run.config, indent=1))
    return (
        f"<table>{facts}</table><h2 style='margin-top:14px'>Policies</h2><table>{rows}</table>"
        f"<details><summary>The whole scenario</summary><pre>{config}</pre></details>"
    )


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(inner) for inner in value)
    return str(value)
