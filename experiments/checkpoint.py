"""`twin checkpoint`: write one of the project's own checkpoints, after showing that its greedy tokens are decided."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.compose import UsageError
from experiments.folders import check_place
from experiments.present import show, table
from experiments.progress import say
from scenarios.extras import why_absent

NAMES = ("tiny", "small")
FRAMEWORKS = ("torch", "jax")
POSITIONS = 4096
SEED_MAX = (1 << 63) - 1
POSITIONS_MAX = 100_000  # they are one session, and its work grows with their square


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("name", choices=NAMES, help="tiny: 4 layers x 64, correctness; small: 12 x 768, speed")
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder that is empty or does not exist yet")
    parser.add_argument("--seed", type=int, default=1, help="of the weights, at least 0 (default 1)")
    parser.add_argument("--files", type=int, default=1, help="safetensors files to split it over (default 1)")
    parser.add_argument("--dtype", choices=("F32", "F16", "BF16"), default="F32", help="of the files (default F32)")
    text = f"random tokens after which the two best logits are compared (default {POSITIONS})"
    parser.add_argument("--positions", type=int, default=POSITIONS, help=text)


def write(options: argparse.Namespace) -> int:
    """Measure the gaps, write the checkpoint, print what it is.

    Raises:
        UsageError: an argument is not allowed, no framework is installed, or too few gaps exceed the bound.
    """
    import numpy as np

    from real_backends import executors as ex
    from real_backends.executors import seeded

    backend = next((name for name in FRAMEWORKS if not why_absent(name)), None)
    if backend is None:
        reasons = "; ".join(map(why_absent, FRAMEWORKS))
        raise UsageError(f"checkpoint: needs torch or jax to measure it ({reasons}): pip install 'villagetwin[torch]'")
    spec = seeded.RECIPES[options.name].spec
    tensors = len(ex.tensor_shapes(spec, 0, spec.layers))
    for name, low, high in (("positions", 1, POSITIONS_MAX), ("seed", 0, SEED_MAX), ("files", 1, tensors)):
        if not low <= getattr(options, name) <= high:
            raise UsageError(f"--{name} {getattr(options, name)}: allowed: {low} to {high}")
    check_place(options.folder.absolute(), f"checkpoint: {options.folder}")
    if options.folder.exists() and (not options.folder.is_dir() or any(options.folder.iterdir())):
        raise UsageError(f"checkpoint: {options.folder} is no empty folder")
    if not options.quiet:
        say(f"making {options.name} and measuring {options.positions} positions in {backend}")
    try:
        weights = ex.make_checkpoint(spec, options.seed, seeded.HEAD_GAIN)
        gaps = seeded.top_two_gaps(backend, spec, weights, options.positions)
        share = seeded.decided(gaps)
        if share < seeded.SHARE_MIN:
            raise UsageError(
                f"--seed {options.seed}: {share:.3%} of the gaps exceed 1e-3, allowed: 99.9 %; try another"
            )
        ex.save_checkpoint(options.folder, spec, weights, files=options.files, dtype=options.dtype)
    except ValueError as error:
        raise UsageError(f"checkpoint: {error}") from None
    found = {
        "parameters": sum(int(np.prod(tensor.shape)) for tensor in weights.values()),
        "positions": len(gaps),
        "top-2 gaps above 1e-3, share": share,
        "top-2 gap, smallest": float(gaps.min()),
        "top-2 gap, median": float(np.median(gaps)),
        "sha256 of the float32 content": ex.checkpoint_digest(spec, weights),
    }
    numbers = {name: value for name, value in found.items() if not isinstance(value, str)}
    digest = found["sha256 of the float32 content"]
    show(
        found,
        f"{options.folder}: {options.name}, seed {options.seed}\n{table(numbers)}\n  sha256 {digest}",
        options.json,
    )
    return 0
