"""Logits that Transformers computes for seeded checkpoints of ours, and the file they are recorded in.

`python -m tests.real_backends.transformers_logits` computes them again, where the library is installed, and writes
transformers_logits.json with the versions it used.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from real_backends import executors as ex
from real_backends.executors import seeded
from real_backends.executors.agreement import draw_streams

RECORD = Path(__file__).with_suffix(".json")
TINY = seeded.RECIPES["tiny"].spec
SCALING = ex.RopeScaling(8.0, 1.0, 4.0, 64)
MODELS = {
    "tiny": TINY,
    "tied, one key head": replace(TINY, tied_head=True, kv_heads=1, rope_theta=5e5),
    "qwen2 biases": replace(TINY, qkv_bias=True, head_dim=32),
    "llama3 rope": replace(TINY, rope_theta=5e5, rope_scaling=SCALING),
}
TOKENS = draw_streams(TINY.vocab, 1, 400, 5)[0]
KEPT = np.s_[[0, 1, 63, 200, 399], ::16]  # positions and token ids whose logits are recorded
SEED = 1


def weights(name: str) -> dict[str, Any]:
    """The seeded weights of one of the models."""
    return ex.make_checkpoint(MODELS[name], SEED, seeded.HEAD_GAIN)


def transformers_logits(name: str, folder: Path) -> np.ndarray:
    """Logits [400, vocab] by Transformers in float32, from a checkpoint written into an empty folder."""
    import torch
    from transformers import AutoModelForCausalLM

    ex.save_checkpoint(folder, MODELS[name], weights(name), files=2)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        logits: np.ndarray = model(torch.tensor(TOKENS)[None]).logits[0].numpy()
    return logits


def our_logits(name: str, backend: str, positions: list[int]) -> np.ndarray:
    """Logits after the prompts that end at these positions, through three shards and one growing cache."""
    spec, tensors = MODELS[name], weights(name)
    shards = [ex.make_shard(backend, spec, tensors, a, b, device="cpu") for a, b in ex.cut_evenly(spec, 3)]
    line, rows, done = ex.Pipeline(shards), [], 0
    for position in positions:
        rows.append(line.logits("s", TOKENS[done : position + 1].tolist(), done))
        done = position + 1
    return np.array(rows)


def main() -> None:
    """Record the logits, and print how far ours are from them at any position."""
    import torch
    import transformers

    with tempfile.TemporaryDirectory() as scratch:
        found = {name: transformers_logits(name, Path(scratch) / name) for name in MODELS}
    record = {
        "command": "python -m tests.real_backends.transformers_logits",
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "logits": {name: np.round(logits[KEPT].astype(float), 6).tolist() for name, logits in found.items()},
    }
    for name, logits in found.items():
        for backend in ("torch", "jax"):
            worst = np.abs(our_logits(name, backend, list(range(len(TOKENS)))) - logits).max()
            print(f"{name}, {backend}: {worst:.1e}")
    RECORD.write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
