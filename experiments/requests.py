"""`twin requests`: an engine's requests, replayed by the batcher that ships, and a prediction for each.

The file has one request a row, as JSON lines or CSV, gzipped or not. A request's tokens in and out are taken as given;
when it came is seconds, or a date. Where a row also says when its first and last token came, the prediction is held
against that.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.compose import UsageError
from experiments.folders import show_path
from experiments.present import show
from experiments.progress import progress
from experiments.whole import check_file, write_whole
from models.devices.rows import find
from models.devices.table import compute, table
from models.engines import KernelTables, Law, Linear, TableError
from models.inference import SHAPES
from policies.serving.batching import BatchRules, Request
from sim.batches import Arrival, Fidelity, Outcome, Served
from sim.fidelity import engine

COLUMNS = {
    "key": ("request_id", "id"),
    "prompt": ("input_toks", "input_tokens", "input_length", "ContextTokens", "num_prefill_tokens"),
    "wanted": ("output_toks", "output_tokens", "output_length", "GeneratedTokens", "num_decode_tokens"),
    "at": ("queued_ts", "arrival_time", "arrival_s", "TIMESTAMP", "timestamp"),
    "first": ("first_token_ts",),
    "last": ("last_token_ts",),
    "hashes": ("hash_ids",),
}
"""What is read, and the columns that may hold it, the first one found. Of vLLM's own record (LLMServingSim's bench), of
the Azure traces, of Mooncake's, and of Vidur's lengths."""
HASHED_TOKENS = 512
"""Tokens that one of Mooncake's ``hash_ids`` stands for (kvcache-ai/Mooncake, FAST25-release/traces)."""
TOKENS_MAX = 1_000_000_000
"""Of a prompt or an answer: far above any context."""
OVERHEAD_MAX_US = 1e6
"""Of an iteration beside its kernels: a second, far above any engine's."""
FIGURES = ("ttft_s", "tpot_s", "end_to_end_s")
NAMES = {"ttft_s": "time to first token", "tpot_s": "time per token after it", "end_to_end_s": "end to end"}


def main(options: argparse.Namespace) -> int:
    """Replay, and print what came of it.

    Raises:
        UsageError: one line that names what is wrong with the words or the file.
    """
    if not 0.0 <= options.overhead_us <= OVERHEAD_MAX_US:
        raise UsageError(f"--overhead-us {options.overhead_us:g}: allowed: 0 to {OVERHEAD_MAX_US:g}")
    check_file("--out", options.out)
    size = BatchRules(1).block_tokens
    if options.kv_tokens < size:
        raise UsageError(f"--kv-tokens {options.kv_tokens}: allowed: from {size}, one block of the cache")
    rows = read(options.file)
    try:
        law = _law(options)
        rules = BatchRules(
            options.kv_tokens // size, options.tokens_max, options.requests_max, share=not options.no_sharing
        )
        hashes = rows["hashes"] if "hashes" in rows else [()] * len(rows)
        arrivals = [
            Arrival(float(at), Request(str(key), int(prompt), int(wanted), names=Beginning(ids, HASHED_TOKENS // size)))
            for key, at, prompt, wanted, ids in zip(
                *(rows[k] for k in ("key", "at", "prompt", "wanted")), hashes, strict=True
            )
        ]
        with progress("requests", quiet=options.quiet) as report:
            done = _serve(law, rules, arrivals, options.fidelity, report)
    except (TableError, ValueError) as error:
        raise UsageError(f"requests: {error}") from None
    if options.out:
        lines = [json.dumps(_plain(one) | {"fidelity": done.fidelity}) for one in done.served]
        write_whole(options.out, "\n".join(lines) + "\n")
    computed = sum(one.request.prompt for one in done.served)
    plain = {
        "requests": len(rows), "fidelity": done.fidelity, "iterations": done.iterations, "events": done.events,
        "shared_share": sum(one.request.shared for one in done.served) / computed, **_figures(rows, done),
    }  # fmt: skip
    show(plain, _text(plain, options.out), options.json)
    return 0


class Beginning(Sequence[tuple[int, int]]):
    """Names of a prompt's blocks, of which each given one stands for ``each``; made when they are asked for."""

    def __init__(self, given: Sequence[int], each: int) -> None:
        self.given, self.each = given, each

    def __len__(self) -> int:
        return len(self.given) * self.each

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[number] for number in range(*at.indices(len(self)))]
        return self.given[at // self.each], at % self.each


def read(path: Path) -> pd.DataFrame:
    """Return a file's requests in order of arrival: key, at (s from the first), prompt, wanted; first, last and hashes
    where it has them.

    Raises:
        UsageError: the file cannot be read, lacks a column, or has a row that is no request.
    """
    kinds = {".csv": pd.read_csv, ".jsonl": lambda file: pd.read_json(file, lines=True, dtype=False)}
    ending = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if ending not in kinds:
        raise UsageError(f"requests: {path}: allowed are .jsonl and .csv, .gz or not")
    try:
        file = kinds[ending](path)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise UsageError(f"requests: {path}: {error}") from None
    except TypeError:  # pandas' word for a line that is a number, or a list
        raise UsageError(f"requests: {path}: allowed: a JSON object a line") from None
    found = {name: next((one for one in columns if one in file), None) for name, columns in COLUMNS.items()}
    for name in ("prompt", "wanted", "at"):
        if found[name] is None:
            raise UsageError(f"requests: {path}: no column {' or '.join(COLUMNS[name])}")
    rows = pd.DataFrame({name: file[column] for name, column in found.items() if column is not None})
    if "key" not in rows:
        rows["key"] = [f"r{number}" for number in range(len(rows))]
    if not len(rows):
        raise UsageError(f"requests: {path}: no rows")
    for name in ("prompt", "wanted"):
        given = pd.to_numeric(rows[name], errors="coerce")
        bad = ~((given >= 1) & (given <= TOKENS_MAX)) | (given != np.floor(given))
        if bad.any():
            line = int(np.flatnonzero(bad)[0])
            value = rows[name].iloc[line]
            where = f"requests: {path}, row {line + 1}"
            raise UsageError(f"{where}: {found[name]} is {value}; allowed: whole tokens from 1 to {TOKENS_MAX}")
        rows[name] = given.astype(int)
    rows["at"] = _seconds(rows["at"].rename(found["at"]), path)
    if found["at"] == "timestamp":  # Mooncake's are milliseconds
        rows["at"] /= 1000.0
    begun_s = rows["at"].min()
    rows["at"] -= begun_s
    for name in ("first", "last"):
        if name in rows:
            rows[name] = _measured(rows[name].rename(found[name]), path) - begun_s
    if "hashes" in rows:
        rows["hashes"] = [_names(given, line, path) for line, given in enumerate(rows["hashes"], start=1)]
    return rows.sort_values("at", kind="stable").reset_index(drop=True)


def _seconds(column: pd.Series, path: Path) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce")
    if numbers.notna().all() and np.isfinite(numbers).all():
        return numbers.astype(float)
    dates = pd.to_datetime(column, errors="coerce")
    if dates.isna().any():
        line = int(np.flatnonzero(dates.isna())[0])
        given = str(column.iloc[line])
        raise UsageError(f"requests: {path}, row {line + 1}: {column.name} is {given!r}; allowed: seconds or a date")
    return (dates - dates.min()).dt.total_seconds()


def _measured(column: pd.Series, path: Path) -> pd.Series:
    """Return when tokens were seen, in seconds; a request without one of these times is not measured."""
    numbers = pd.to_numeric(column, errors="coerce")
    bad = np.flatnonzero(column.notna() & ~np.isfinite(numbers))
    if bad.size:
        given = column.iloc[bad[0]]
        raise UsageError(f"requests: {path}, row {bad[0] + 1}: {column.name} is {given}; allowed: seconds, or nothing")
    return numbers.astype(float)


def _names(given: Any, line: int, path: Path) -> list[Any]:
    """Return the blocks that a row's prompt begins with; none where it says nothing of them."""
    if given is None or (isinstance(given, float) and np.isnan(given)):
        return []
    if not isinstance(given, list):
        raise UsageError(f"requests: {path}, row {line}: hash_ids is {given!r}; allowed: a list, or nothing")
    return given


def _law(options: argparse.Namespace) -> Law:
    if options.kernels is not None:
        if options.layers is None:
            raise ValueError("--layers: needed beside --kernels")
        return KernelTables(options.kernels, options.layers, options.overhead_us * 1e-6)
    if options.device is None or options.model is None:
        raise ValueError("--kernels and --layers, or --device and --model: one of both is needed")
    if options.model not in SHAPES:
        raise ValueError(f"--model {options.model}: allowed: {', '.join(sorted(SHAPES))}")
    device = replace(compute(table((find(options.device),))), overhead_s_step=options.overhead_us * 1e-6)
    return Linear.of(SHAPES[options.model], device, SHAPES[options.model].layers)


def _serve(law: Law, rules: BatchRules, arrivals: Sequence[Arrival], fidelity: Fidelity, report: Any) -> Outcome:
    total, told = len(arrivals), 0

    def watch(now_s: float, iterations: int) -> None:
        nonlocal told
        if iterations - told >= 1000:
            told = iterations
            begun = sum(1 for one in arrivals if one.request.state in ("done", "cancelled", "expired"))
            report(begun / total, f"{begun} of {total} requests, {now_s:.0f} s of virtual time")

    return engine(law, rules, fidelity, watch).serve(arrivals)


def _plain(one: Served) -> dict[str, Any]:
    request = one.request
    return {
        "request_id": request.key, "state": request.state, "arrival_s": one.at_s, "input_toks": request.prompt,
        "output_toks": request.wanted, **{name: getattr(one, name) for name in FIGURES},
        "preempted": request.preempted, "shared_toks": request.shared,
    }  # fmt: skip


def _figures(rows: pd.DataFrame, done: Outcome) -> dict[str, Any]:
    """Return mean, median and tail of each figure, measured and predicted, and the errors of both kinds."""
    found: dict[str, Any] = {}
    measured: dict[str, np.ndarray] = {}
    if "first" in rows and "last" in rows:
        first, last, at = (rows[name].to_numpy(float) for name in ("first", "last", "at"))
        with np.errstate(divide="ignore", invalid="ignore"):
            measured = dict(
                zip(FIGURES, (first - at, (last - first) / (rows["wanted"].to_numpy() - 1), last - at), strict=True)
            )
    for name in FIGURES:
        ours = np.array([np.nan if (v := getattr(one, name)) is None else v for one in done.served], dtype=float)
        found[name] = {"predicted": _summary(ours)}
        if measured:
            theirs = measured[name]
            both = np.isfinite(ours) & np.isfinite(theirs) & (theirs > 0)
            summary = _summary(theirs)
            predicted = found[name]["predicted"]
            found[name] |= {
                "measured": summary,
                "error": {key: predicted[key] / value - 1.0 for key, value in summary.items() if key in predicted},
            }
            if both.any():
                errors = np.abs(ours[both] / theirs[both] - 1.0)
                each = {"median": float(np.median(errors)), "p90": float(np.quantile(errors, 0.9))}
                found[name]["error_per_request"] = each
    return found


def _summary(values: np.ndarray) -> dict[str, float]:
    given = values[np.isfinite(values)]
    if not len(given):
        return {}
    return {"mean": float(given.mean()), "p50": float(np.median(given)), "p90": float(np.quantile(given, 0.9))}


def _text(plain: dict[str, Any], out: Path | None) -> str:
    events = f"{plain['events']} events ({plain['fidelity']})"
    lines = [f"{plain['requests']} requests, {plain['iterations']} iterations, {events}"]
    lines += [f"{plain['shared_share']:.1%} of the tokens of prompts were in the cache", ""]
    lines.append(f"{'':24} {'':4} {'predicted':>11} {'measured':>11} {'error':>8}")
    for name in FIGURES:
        for key, value in plain[name]["predicted"].items():
            line = f"{NAMES[name] if key == 'mean' else '':24} {key:4} {value:9.4f} s"
            if key in plain[name].get("error", {}):
                line += f" {plain[name]['measured'][key]:9.4f} s {plain[name]['error'][key]:+8.1%}"
            lines.append(line)
        if "error_per_request" in plain[name]:
            each = plain[name]["error_per_request"]
            lines.append(f"{'':24} a request: median error {each['median']:.1%}, p90 {each['p90']:.1%}")
    if out:
        lines += ["", f"a prediction per request: {show_path(out)}"]
    return "\n".join(lines)
