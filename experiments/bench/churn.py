"""What churn does to requests: deaths got over by the recovery policy, beside plain replay with the same deaths.

Four phones at homes hold a quarter of a model each, four workers stand in each stage's pool, and a request decides 200
tokens. A death loses the stage's cache and its worker for 30 s and is noticed after 1 s. Plain replay is Petals': what
entered the lost stage is sent to a spare in one transfer and goes through it as one prefill. Bytes are all that nodes
send one another.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from experiments.bench.table import Line
from models import inference
from models.devices.rows import find_index
from models.devices.table import columns, compute
from models.links.access import LINKS
from sim import churn

MODEL, STAGES, NEW_TOKENS = "llama-3.1-8b", 4, 200
DEVICE = "Snapdragon 8 Gen 3 (OnePlus 12)"
ACCESS = "cable"
BACKBONE_S = 0.012
"""Between two homes' access lines: the default of `conf/network/home.yaml`."""
PROMPTS = {"chat": 1020, "code": 2048, "full": 3896}
"""Median prompt of Azure's 2023 conversations and mean prompt of its code requests (Patel et al., ISCA 2024), and what
fills the context a village reserves (4,096 tokens)."""
RATES = {"1e-4": 1e-4, "1e-3": 1e-3, "1e-2": 1e-2}
P99_AT_MOST = {"1e-4": 1.0, "1e-3": 0.7, "1e-2": 0.7}
REQUESTS = 8_000
SEED = 1

TITLE = f"churn: {MODEL} on {STAGES} phones, {NEW_TOKENS} tokens, deaths a token-hop; the policy beside plain replay"
LINES = tuple(
    line
    for prompt, tokens in PROMPTS.items()
    for rate in RATES
    for line in (
        Line(f"plain_p99_s_{prompt}_{rate}", f"{tokens:,} tokens, {rate}: plain replay's p99, s", 1),
        Line(f"p99_{prompt}_{rate}", "  p99 / plain's", 3, at_most=P99_AT_MOST[rate]),
        Line(f"bytes_{prompt}_{rate}", "  bytes / plain's", 3, at_most=1.5),
        Line(f"finished_{prompt}_{rate}", "  finished within 300 s, %", 2, at_least=99.9),
        Line(f"plain_finished_{prompt}_{rate}", "  plain replay's, %", 2),
    )
)


def setting(prompt_tokens: int, failures_per_token_hop: float) -> churn.Churn:
    """Return the pipeline and what it meets."""
    row = compute(columns(np.array([find_index(DEVICE)])))
    device = inference.Device(**{f.name: float(np.ravel(getattr(row, f.name))[0]) for f in fields(row)})
    link = LINKS[ACCESS]
    return churn.pipeline(
        inference.SHAPES[MODEL], device, STAGES, min(link.up_bytes_per_s, link.down_bytes_per_s),
        2 * link.one_way_s + BACKBONE_S, prompt_tokens, NEW_TOKENS, failures_per_token_hop,
    )  # fmt: skip


def measure(requests: int = REQUESTS, prompts: tuple[str, ...] = tuple(PROMPTS)) -> dict[str, float]:
    """Serve requests both ways, for each prompt and rate.

    Returns:
        The figures of `LINES`.
    """
    figures: dict[str, float] = {}
    for prompt in prompts:
        for rate, chance in RATES.items():
            met = setting(PROMPTS[prompt], chance)
            plain = churn.serve(met, churn.STRATEGIES["plain"], requests, SEED)
            chosen = churn.serve(met, churn.STRATEGIES["chosen"], requests, SEED)
            plain_s, chosen_s = (float(np.quantile(each.latency_s, 0.99)) for each in (plain, chosen))
            figures |= {
                f"plain_p99_s_{prompt}_{rate}": plain_s,
                f"p99_{prompt}_{rate}": chosen_s / plain_s,
                f"bytes_{prompt}_{rate}": float(chosen.sent_bytes.sum() / plain.sent_bytes.sum()),
                f"finished_{prompt}_{rate}": 100.0 * float((chosen.latency_s <= met.deadline_s).mean()),
                f"plain_finished_{prompt}_{rate}": 100.0 * float((plain.latency_s <= met.deadline_s).mean()),
            }
    return figures
