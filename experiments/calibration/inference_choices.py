"""Which terms the serving engines' law has: each choice scored on what its fit has not seen, calibration data alone.

A choice is kept where the error falls with one model (or one number of devices) left out of the calibration data at a
time. The published rows of `experiments.validation` have no part in it.

python -m experiments.calibration.inference_choices [--data FOLDER]
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

from experiments.calibration import inference, inference_fit
from experiments.calibration import inference_samples as samples
from experiments.calibration.distributions import data_folder
from experiments.calibration.inference_fit import Plan, predicted
from experiments.calibration.inference_samples import Sample
from models.inference.chips import CHIPS
from models.inference.conditions import Conditions
from models.inference.predict import predict
from models.inference.prices import REGIMES

DISTSERVE = f"{samples.PROFILES}/distserve_a100_fits.json.gz"
PROMPTS = samples.PROMPT_TOKENS
EVERY = (1, PROMPTS[1])
BATCHES = (1, 256)
"""Streams of a step: vLLM's max_num_seqs unless told."""


@dataclass(frozen=True)
class Choice:
    """One way to fit, and what it is off by where its fit has not seen the like.

    Attributes:
        what: which samples are predicted.
        how: what was fitted, or which form.
        unseen: name of what is left out at a time, to the mean relative error.
    """

    what: str
    how: str
    unseen: dict[str, float]


def layers(folder: Path) -> Iterator[Choice]:
    """Return what layers of unseen models are off by, by the passes that the fit sees and by how terms overlap.

    Means over the cards, those with several models where a model is left out: every card counts alike. A card that is
    left out gets the medians of the others, as one does that nobody measured.
    """
    most = EVERY[1]
    for what, asked, ranges, best in (
        ("decode, 1 to 256 tokens", BATCHES, (EVERY, (1, 128), (1, 256), (1, 512), (1, 1024)), samples.STEP_TOKENS),
        ("prompts, 128 tokens and more", PROMPTS, (EVERY, (64, most), PROMPTS, (256, most)), PROMPTS),
    ):
        for seen in ranges:
            yield _layers_choice(folder, what, asked, seen, 2.0)
        for joint in (1.5, 3.0):
            yield _layers_choice(folder, what, asked, best, joint)


def _layers_choice(folder: Path, what: str, asked: tuple[int, int], seen: tuple[int, int], joint: float) -> Choice:
    plan = replace(inference.LAYERS, joint=joint)
    by_model, by_devices = [], []
    table_of = {
        card: [list(samples.serving_layers(folder, card, tokens)) for tokens in (seen, asked)]
        for card in inference.SERVED
    }
    for rows, wanted in table_of.values():
        if len({row.model for row in rows}) > 1:
            by_model.append(unseen(rows, wanted, plan, lambda row: row.model))
            by_devices.append(unseen(rows, wanted, plan, lambda row: row.name.rsplit(", ", 1)[1]))
    last = "and more" if seen[1] == EVERY[1] else f"to {seen[1]}"
    how = f"{seen[0]} {last}" + (f", exponent {joint:g} for 2" if joint != 2.0 else "")
    prices = {card: inference_fit.fit(rows, plan) for card, (rows, _) in table_of.items()}
    by_card = []
    for card, (_, wanted) in table_of.items():
        others = [found for other, found in prices.items() if other != card]
        of_any = {name: median(found[name] for found in others) for name in prices[card]}
        by_card.append(np.mean([abs(predicted(row, of_any, plan) / row.seconds - 1.0) for row in wanted]))
    off = {"model": by_model, "devices in parallel": by_devices, "card": by_card}
    return Choice(what, how, {left: float(np.mean(errors)) for left, errors in off.items()})


def unseen(rows: Sequence[Sample], wanted: Sequence[Sample], plan: Plan, by: Callable[[Sample], str]) -> float:
    """Return the mean error on the samples of each group by a fit to the others' rows."""
    off: list[float] = []
    for group in sorted({by(row) for row in rows}):
        found = inference_fit.fit([row for row in rows if by(row) != group], plan)
        off += [abs(predicted(row, found, plan) / row.seconds - 1.0) for row in wanted if by(row) == group]
    return float(np.mean(off))


def all_reduces(folder: Path) -> Iterator[Choice]:
    """Return what all-reduces of an unseen number of devices are off by; every doubling of the bytes counts alike."""
    for board in samples.NVLINK:
        table = samples.nvlink(folder, board)
        for how, starts in (("a start for each further device", lambda n: n - 1.0), ("one launch", lambda n: 1.0)):
            groups: dict[int, inference.Moves] = {
                int(n): [(starts(n), 2 * (n - 1) / n * row.bytes, row.seconds) for row in some.itertuples()]
                for n, some in table.groupby("devices")
            }
            yield Choice(f"all-reduces of {board}", how, {"devices": inference.unseen_number(groups)})


def hosts(folder: Path) -> Iterator[Choice]:
    """Return what vLLM's kernels, and Splitwise's engine fitted to its other model, make of Splitwise's rows."""
    for chip, hardware in inference.SPLITWISE.items():
        table = pd.read_csv(folder / samples.SPLITWISE)
        for phase, column in (("decode", "token_time"), ("prefill", "prompt_time")):
            some = table[(table["hardware"] == hardware) & ((phase == "decode") | (table["batch_size"] == 1))]
            keys = ["model", "tensor_parallel", "prompt_size", "batch_size", "token_size"]
            off = []
            for (model, devices, prompt, batch, out), ms in some.groupby(keys)[column].median().items():
                asked = Conditions(int(prompt), int(out), int(batch))
                found = predict("vLLM", model, "fp16", [CHIPS[chip]] * int(devices), None, asked)
                off.append(abs((found.decode_step_s if phase == "decode" else found.prefill_s) * 1e3 / ms - 1.0))
            what = f"Splitwise's {phase} on {chip}"
            yield Choice(what, "vLLM's kernels", {"engine": float(np.mean(off))})
            yield Choice(
                what, "Splitwise's host", {"model": REGIMES[f"splitwise/{chip}/{phase}"].errors["unseen model"]["mean"]}
            )


def whole_engine(folder: Path) -> Iterator[Choice]:
    """Return what an engine that no fit has seen is off by: DistServe's lines of OPT 13B and 66B on 1 to 8 A100."""
    for phase in ("decode", "prefill"):
        off = []
        for model, by_devices in json.loads(gzip.decompress((folder / DISTSERVE).read_bytes())).items():
            for devices, laws in by_devices.items():
                chips = [CHIPS["A100 SXM 80GB"]] * int(devices)
                for count in (1, 16, 32, 64) if phase == "decode" else (128, 512, 1024, 2048):
                    if phase == "decode":
                        start, cached, stream = laws["decoding_smallbs"]
                        ms, asked = start + cached * count * 512 + stream * count, Conditions(512, 1, count, 512)
                    else:
                        start, token, squared = laws["prefill"]
                        ms, asked = start + token * count + squared * count**2, Conditions(count, 1)
                    found = predict("vLLM", model, "fp16", chips, None, asked)
                    off.append((found.decode_step_s if phase == "decode" else found.prefill_s) * 1e3 / ms - 1.0)
        yield Choice(f"DistServe's {phase}", "the stored prices", {"engine": float(np.mean(np.abs(off)))})


def table(choices: Iterable[Choice]) -> str:
    """Return choices as a table of Markdown."""
    lines = ["| predicted | fitted to, or form | mean error, by what was left out |", "|---|---|---|"]
    for one in choices:
        errors = ", ".join(f"{left} {error:.1%}" for left, error in one.unseen.items())
        lines.append(f"| {one.what} | {one.how} | {errors} |")
    return "\n".join(lines)


def main() -> None:
    """Print every choice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, metavar="FOLDER", default=data_folder(), help="folder of the data sets")
    folder = parser.parse_args().data
    for part in (layers, all_reduces, hosts, whole_engine):
        print(table(part(folder)), end="\n\n")


if __name__ == "__main__":
    main()
