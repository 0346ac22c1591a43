"""Prints the certificate of a seed of the default model: `python -m real_backends.executors --seed 2`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from real_backends.executors.certificate import DEFAULT_SEED, MARGIN_MIN, make_certificate
from real_backends.executors.spec import DESK_TINY


def main(arguments: Sequence[str] | None = None) -> int:
    """Certify a seed; the JSON goes to stdout, and the exit code is 4 when the margin is too small."""
    parser = argparse.ArgumentParser(description="certify greedy decoding of desk-tiny")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="seed of the weights, at least 0")
    certificate = make_certificate(DESK_TINY, parser.parse_args(arguments).seed)
    print(json.dumps(certificate))
    if certificate["margin_min"] < MARGIN_MIN:
        print(f"margin_min: {certificate['margin_min']} is below {MARGIN_MIN}", file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main())
