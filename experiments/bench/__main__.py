"""`python -m experiments.bench [--json] [NAME ...]`."""

from __future__ import annotations

import argparse
import sys

from experiments.bench import NAMES, main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m experiments.bench", description="Measure the twin.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"out of {', '.join(NAMES)}; all, if none is named")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args()
    try:
        sys.exit(main(options.names, as_json=options.json))
    except ValueError as error:
        parser.error(str(error))
